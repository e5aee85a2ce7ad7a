"""The limit: what OpenSSL alone takes for the same handshakes and bytes, in memory, without a socket.

One side is the server, and only its time is counted (CPU time of the thread): taking bytes in, the handshake step or the
record, giving bytes out. The OpenSSL is the one that nlb runs on, the one in the `cryptography` package; a proxy on
another one may have another limit. Calls go through cffi, which adds about half a microsecond to each.

A program of its own, so that the memory it measures is a fresh process's: `python -m nlbbench.floor MATERIAL SECONDS`
prints one `Floor` as JSON.
"""

# ruff: noqa: SLF001 - the pointers of pyOpenSSL's objects are what is worked with

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL

from nlbbench.accounting import memory
from nlbbench.material import NAME, Material
from nlbbench.proxies import GROUP, SUITE
from nlbcore.errors import NlbError

_lib, _ffi = _openssl.lib, _openssl.ffi

RECORD = 16 << 10
"""Bytes of the largest record."""
MESSAGE = 128
IDLE = (200, 1200)
"""Connections between which the memory of one is the slope."""
SHARES = {"full": 0.2, "full_without_tickets": 0.2, "resumed": 0.2, "download": 0.1, "upload": 0.1, "message": 0.1}
"""Of the time, for each part."""
_BUFFER = _ffi.new("char[]", 1 << 18)
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Floor:
    """CPU seconds of the server's side, and bytes."""

    library: str
    """OpenSSL's own name and version."""
    full: float
    """A full handshake with a client certificate, and the two tickets that are the default."""
    full_without_tickets: float
    resumed: float
    """A resumed one, without a new ticket."""
    download: float
    """Per byte, records of 16 KB to the client."""
    upload: float
    """Per byte, to the server."""
    message: float
    """128 bytes in and 128 bytes out."""
    idle: float
    """Bytes of user memory of a connection after its handshake, its buffers and its session released."""


def measure(material: Material, seconds: float) -> Floor:
    """One sample of everything, in about so many seconds.

    Raises:
        NlbError: it went wrong, with what it said
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__, str(material.folder), str(seconds)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds + _TIMEOUT,
        check=False,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise NlbError(f"the floor cannot be measured: {done.stderr.strip()[-300:]}")
    return Floor(**json.loads(done.stdout))


# ---------------------------------------------------------------- contexts


def server_context(material: Material, tickets: Callable[[Any], bool]) -> SSL.Context:
    """With tickets for those handshakes of which `tickets(SSL *)` says so."""

    def name(connection: SSL.Connection) -> None:
        # Here and on the connection is the one place where the option stops new tickets and still takes old ones.
        if not tickets(connection._ssl):
            _lib.SSL_set_options(connection._ssl, SSL.OP_NO_TICKET)

    context = _context(SSL.TLS_SERVER_METHOD, material)
    context.use_certificate_chain_file(str(material.server))
    context.use_privatekey_file(str(material.server_key))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_session_id(b"floor")
    context.set_session_cache_mode(
        SSL.SESS_CACHE_OFF
    )  # tickets are kept by the client; a cache would be memory per client
    context.set_tlsext_servername_callback(name)
    return context


def client_context(material: Material) -> SSL.Context:
    context = _context(SSL.TLS_CLIENT_METHOD, material)
    context.use_certificate_chain_file(str(material.client))
    context.use_privatekey_file(str(material.client_key))
    context.set_verify(SSL.VERIFY_PEER)
    return context


def _context(method: int, material: Material) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(SUITE.encode())
    assert _lib.SSL_CTX_set1_curves_list(context._context, GROUP.encode()) == 1
    context.load_verify_locations(str(material.root))
    context.set_mode(_lib.SSL_MODE_RELEASE_BUFFERS)
    return context


# ---------------------------------------------------------------- one connection


class Pair:
    """A server and a client that hand each other bytes; `spent` is the server's CPU time so far."""

    def __init__(self, server: SSL.Context, client: SSL.Context, session: Any = None) -> None:
        self.spent = 0.0
        self.client = SSL.Connection(client, None)
        self.client.set_connect_state()
        self.client.set_tlsext_host_name(NAME.encode())
        if session is not None:
            self.client.set_session(session)
        begun = time.thread_time()
        self.server = SSL.Connection(server, None)
        self.server.set_accept_state()
        self.spent += time.thread_time() - begun

    def shake_hands(self) -> None:
        """To the end; the client has the tickets afterwards."""
        for _ in range(4):
            _lib.SSL_do_handshake(self.client._ssl)
            sent = _take(self.client)
            begun = time.thread_time()
            _give(self.server, sent)
            _lib.SSL_do_handshake(self.server._ssl)
            sent = _take(self.server)
            self.spent += time.thread_time() - begun
            _give(self.client, sent)
        _lib.SSL_read(self.client._ssl, _BUFFER, 1)  # the tickets; no data has come
        for one in (self.client, self.server):
            if one.get_state_string() != b"SSL negotiation finished successfully":
                raise NlbError(f"the handshake in memory is not over: {one.get_state_string().decode()}")

    def download(self, size: int) -> None:
        """So many bytes in one record."""
        begun = time.thread_time()
        _lib.SSL_write(self.server._ssl, _BUFFER, size)
        sent = _take(self.server)
        self.spent += time.thread_time() - begun
        _give(self.client, sent)
        _expect(_lib.SSL_read(self.client._ssl, _BUFFER, size), size)

    def upload(self, size: int) -> None:
        _expect(_lib.SSL_write(self.client._ssl, _BUFFER, size), size)
        sent = _take(self.client)
        begun = time.thread_time()
        _give(self.server, sent)
        got = _lib.SSL_read(self.server._ssl, _BUFFER, size)
        self.spent += time.thread_time() - begun
        _expect(got, size)

    def close(self) -> None:
        """Orderly in OpenSSL's eyes, or its session would be no good."""
        for one in (self.client, self.server):
            _lib.SSL_set_shutdown(one._ssl, SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)


def _take(one: SSL.Connection) -> bytes:
    """What it wants to send."""
    size = _lib.BIO_read(one._from_ssl, _BUFFER, len(_BUFFER))
    return bytes(_ffi.buffer(_BUFFER, size)) if size > 0 else b""


def _give(one: SSL.Connection, data: bytes) -> None:
    if data:
        _lib.BIO_write(one._into_ssl, data, len(data))


def _expect(got: int, size: int) -> None:
    if got != size:
        raise NlbError(f"{size} bytes through OpenSSL in memory came out as {got}")


# ---------------------------------------------------------------- the measures


def handshakes(server: SSL.Context, client: SSL.Context, seconds: float, *, resumed: bool = False) -> float:
    """CPU seconds of a handshake."""
    spent, count, session = 0.0, 0, None
    first = Pair(server, client)
    first.shake_hands()
    if resumed:
        session = first.client.get_session()
    first.close()
    for _ in _until(seconds):
        pair = Pair(server, client, session)
        pair.shake_hands()
        if _lib.SSL_session_reused(pair.server._ssl) != int(resumed):
            raise NlbError("a handshake in memory was resumed, or was not, against what was asked")
        pair.close()
        spent, count = spent + pair.spent, count + 1
    return spent / count


def payload(server: SSL.Context, client: SSL.Context, seconds: float, way: str) -> float:
    """CPU seconds of a byte (`download`, `upload`) or of a message there and back (`message`)."""
    pair = Pair(server, client)
    pair.shake_hands()
    pair.spent, done = 0.0, 0
    for _ in _until(seconds):
        if way == "message":
            pair.upload(MESSAGE)
            pair.download(MESSAGE)
            done += 1
        else:
            (pair.download if way == "download" else pair.upload)(RECORD)
            done += RECORD
    return pair.spent / done


def idle(server: SSL.Context, client: SSL.Context) -> float:
    """Bytes of a server's connection after its handshake, on fresh BIOs, without session: the slope between two counts."""
    held: list[Any] = []
    points = []
    for count in IDLE:
        while len(held) < count:
            pair = Pair(server, client)
            pair.shake_hands()
            pair.upload(MESSAGE)
            pair.download(MESSAGE)
            _lib.SSL_read(pair.server._ssl, _BUFFER, 1)  # there is no more: only then the buffer is released
            pair.close()
            method = _lib.BIO_s_mem()
            _lib.SSL_set_bio(pair.server._ssl, _lib.BIO_new(method), _lib.BIO_new(method))
            _lib.SSL_set_session(pair.server._ssl, _ffi.NULL)  # with it the client's certificate
            _ffi.gc(pair.server._ssl, None)  # ours from here on: OpenSSL's part alone, without pyOpenSSL's object
            held.append(pair.server._ssl)
        del pair
        gc.collect()
        points.append(memory(os.getpid()).proportional)
    for one in held:
        _lib.SSL_free(one)
    return (points[1] - points[0]) / (IDLE[1] - IDLE[0])


def _until(seconds: float) -> Iterator[None]:
    """At least one round, and no new one after so many seconds of this thread's time."""
    end = time.thread_time() + seconds
    yield
    while time.thread_time() < end:
        yield


def main(folder: str, seconds: str) -> None:
    material, budget = Material(Path(folder)), float(seconds)
    client = client_context(material)
    always = server_context(material, lambda _ssl: True)
    never = server_context(material, lambda _ssl: False)
    for_full = server_context(material, lambda ssl: not _lib.SSL_session_reused(ssl))
    memory_of_one = idle(never, client)
    found = {
        "full": handshakes(always, client, budget * SHARES["full"]),
        "full_without_tickets": handshakes(never, client, budget * SHARES["full_without_tickets"]),
        "resumed": handshakes(for_full, client, budget * SHARES["resumed"], resumed=True),
        **{way: payload(never, client, budget * SHARES[way], way) for way in ("download", "upload", "message")},
    }
    library = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()
    print(json.dumps(asdict(Floor(library=" ".join(library.split()[:2]), idle=memory_of_one, **found))))


if __name__ == "__main__":
    main(*sys.argv[1:])
