"""The tests' own tools, tried without nlb: against Python's TLS server, so that a failure elsewhere points at nlb."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import threading
import time
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import backends
from tests.support.backends import Backend, Hanging, Refusing, Seen, digest_of, pattern
from tests.support.certs import BAD_CLIENTS, Pki
from tests.support.ports import free_port
from tests.support.tls_client import (
    CLOSE_NOTIFY,
    EOF,
    RESET,
    TLS13,
    Forger,
    TlsClient,
    client_context,
    connect,
    refusal,
)
from tests.support.toml import to_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class TlsServer(Backend):
    """Python's TLS server that requires client certificates of the root, then serves with `serve` over TLS."""

    def __init__(self, pki: Pki, serve: Callable[[ssl.SSLSocket], None]) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki.server.path, pki.server.key_path)
        context.load_verify_locations(pki.root.path)
        context.verify_mode = ssl.CERT_REQUIRED
        self.errors: list[str] = []

        def wrapped(seen: Seen) -> None:
            try:
                with context.wrap_socket(seen.sock, server_side=True, suppress_ragged_eofs=False) as tls:
                    serve(tls)
            except ssl.SSLCertVerificationError as error:
                self.errors.append(error.verify_message)
            except ssl.SSLError as error:
                self.errors.append(str(error.reason))

        super().__init__(wrapped)


def tls_echo(tls: ssl.SSLSocket) -> None:
    """Echo until close_notify, then say close_notify too."""
    while data := tls.recv(65536):
        tls.sendall(data)
    with contextlib.suppress(OSError):
        tls.unwrap()


@pytest.fixture(scope="module")
def server(pki: Pki) -> Iterator[TlsServer]:
    """A TLS echo server."""
    with TlsServer(pki, tls_echo) as server:
        yield server


def test_client_echo_and_clean_end(server: TlsServer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Bytes pass in both directions and the end is seen as close_notify."""
    with TlsClient(server.port, client_context(pki.root.path, version, pki.client)) as client:
        client.handshake()
        client.ping(b"x" * 300_000)
        client.close_notify()
        assert client.read_to_end() == (b"", CLOSE_NOTIFY)


def test_server_ends_first(pki: Pki, version: ssl.TLSVersion) -> None:
    """The server's close_notify is seen while our own direction goes on."""
    got = bytearray()

    def serve(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"farewell")
        with contextlib.suppress(TimeoutError):
            tls.settimeout(0.1)
            tls.unwrap()  # waits for the client's close_notify, which comes later
        tls.settimeout(5)
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while data := tls.recv(100):
                got.extend(data)

    with (
        TlsServer(pki, serve) as server,
        TlsClient(server.port, client_context(pki.root.path, version, pki.client)) as client,
    ):
        assert client.handshake().read_to_end() == (b"farewell", CLOSE_NOTIFY)
        time.sleep(0.2)
        client.send(b"still here")
        client.close_notify()
        server.wait_finished()
    assert bytes(got) == b"still here"


def test_client_dribbles(server: TlsServer, pki: Pki, version: ssl.TLSVersion) -> None:
    """One-byte segments and one-byte records are the same handshake."""
    cases: list[dict[str, Any]] = [{"chop": 1}, {"split_records": True}]
    for options in cases:
        context = client_context(pki.root.path, version, pki.client)
        with TlsClient(server.port, context, **options) as client:
            client.handshake().ping()


def test_client_resumes(server: TlsServer, pki: Pki, version: ssl.TLSVersion) -> None:
    """A session taken after data, from a cleanly closed connection, is resumed."""
    context = client_context(pki.root.path, version, pki.client)
    with TlsClient(server.port, context) as first:
        first.handshake().ping()
        session = first.session
    with TlsClient(server.port, context, session=session) as second:
        second.handshake().ping()
        assert second.resumed


def test_exchange(pki: Pki, version: ssl.TLSVersion) -> None:
    """Both directions at once with many bytes."""

    def serve(tls: ssl.SSLSocket) -> None:
        total = hashlib.sha256()
        while data := tls.recv(65536):
            total.update(data)
            tls.sendall(data)
        assert total.hexdigest() == digest_of(pattern(5_000_001))
        with contextlib.suppress(OSError):
            tls.unwrap()

    with (
        TlsServer(pki, serve) as server,
        TlsClient(server.port, client_context(pki.root.path, version, pki.client)) as client,
    ):
        got = hashlib.sha256()
        client.handshake().exchange(pattern(5_000_001), got)
        assert got.hexdigest() == digest_of(pattern(5_000_001))


@pytest.mark.parametrize(("manner", "end"), [("eof", EOF), ("reset", RESET)])
def test_client_sees_bad_ends(pki: Pki, version: ssl.TLSVersion, manner: str, end: str) -> None:
    """A bare FIN and a reset are told apart from close_notify, and the data before them is kept."""

    def serve(tls: ssl.SSLSocket) -> None:
        tls.recv(100)
        tls.sendall(b"part")
        tls.recv(100)
        if manner == "reset":
            backends.reset(tls)

    with (
        TlsServer(pki, serve) as server,
        TlsClient(server.port, client_context(pki.root.path, version, pki.client)) as client,
    ):
        client.handshake().send(b"go")
        assert client.recv_exactly(4) == b"part"
        client.send(b"end")
        assert client.read_to_end() == (b"", end)


def test_refusals_as_openssl_sees_them(server: TlsServer, pki: Pki, version: ssl.TLSVersion) -> None:
    """Every bad certificate is refused by a plain OpenSSL server too, and each client sees an alert."""
    messages = {
        "unknown_ca": "unable to get local issuer certificate",
        "same_name_ca": "unable to get local issuer certificate",
        "missing_intermediate": "unable to get local issuer certificate",
        "expired": "certificate has expired",
        "not_yet_valid": "certificate is not yet valid",
        "wrong_purpose": "unsuitable certificate purpose",
        "bad_signature": "certificate signature failure",
        "weak_rsa": "EE certificate key too weak",
        "weak_digest": "CA signature digest algorithm too weak",
        "weak_intermediate": "CA certificate key too weak",
        "critical_extension": "unhandled critical extension",
    }
    assert set(messages) | {"chain_too_long"} == set(BAD_CLIENTS)
    for kind, message in messages.items():
        server.errors.clear()
        context = client_context(pki.root.path, version, pki.bad_client(kind))
        assert "ALERT" in refusal(TlsClient(server.port, context)), kind
        server.wait_finished()
        assert server.errors == [message], kind


def test_no_certificate_is_refused(server: TlsServer, pki: Pki, version: ssl.TLSVersion) -> None:
    """The alert depends on the version."""
    alert = refusal(TlsClient(server.port, client_context(pki.root.path, version)))
    assert alert == ("TLSV13_ALERT_CERTIFICATE_REQUIRED" if version == TLS13 else "SSLV3_ALERT_HANDSHAKE_FAILURE")


def test_forged_records_are_understood(server: TlsServer, pki: Pki, tmp_path: Path) -> None:
    """Data forged after forged KeyUpdates comes back: the records are right, so a refusal of a flood is a decision."""
    keylog = tmp_path / "keys"
    context = client_context(pki.root.path, TLS13, pki.client, keylog=keylog)
    with TlsClient(server.port, context) as client:
        client.handshake()
        forger = Forger(client, keylog)
        client.send_raw(
            forger.record(b"one") + forger.key_update() + forger.key_update(request=True) + forger.record(b"two")
        )
        assert client.recv_exactly(6) == b"onetwo"
        client.sock.shutdown(2)


def test_backends() -> None:
    """Each manner of server, seen by a plain client."""
    with Backend() as server, connect(server.port) as sock:
        sock.sendall(b"abc")
        assert sock.recv(10) == b"abc"
        assert (server.accepted, server.received) == (1, 3)
    with Backend(backends.source(200_000)) as server, connect(server.port) as sock:
        got = b"".join(iter(lambda: sock.recv(65536), b""))
        assert hashlib.sha256(got).hexdigest() == digest_of(pattern(200_000))
    with Backend(backends.digest_then_close) as server, connect(server.port) as sock:
        sock.sendall(b"abc")
        sock.shutdown(1)
        assert sock.recv(100).decode() == hashlib.sha256(b"abc").hexdigest()
    with Backend(backends.greet(b"hi")) as server, connect(server.port) as sock:
        assert sock.recv(10) == b"hi"
    with Backend(backends.reset_after_first_bytes) as server, connect(server.port) as sock:
        sock.sendall(b"abc")
        with pytest.raises(ConnectionResetError):
            sock.recv(10)
    with Backend(backends.sink) as server:
        backends.reset(connect(server.port))
        server.wait_accepted(1)
        server.wait_finished()
        assert server.last.end == "reset"


def test_unreachable_addresses() -> None:
    """Refusing refuses at once; Hanging does not answer a connect."""
    refusing, hanging = Refusing(), Hanging()
    with pytest.raises(ConnectionRefusedError):
        connect(int(refusing.address.rpartition(":")[2]))
    with pytest.raises(TimeoutError):
        connect(int(hanging.address.rpartition(":")[2]), timeout=0.5)
    refusing.close()
    hanging.close()


def test_gate_and_hold() -> None:
    """A gated sink reads nothing before its gate opens."""
    gate = threading.Event()
    with Backend(backends.gated_sink(gate), receive_buffer=4096) as server, connect(server.port) as sock:
        sock.sendall(b"abc")
        server.wait_accepted(1)
        time.sleep(0.05)
        assert server.received == 0
        gate.set()
        sock.shutdown(1)
        server.wait_finished()
        assert (server.received, server.last.end) == (3, "eof")


def test_toml_and_ports() -> None:
    """What `to_toml` writes reads back the same; ports are never given twice."""
    table = {
        "node": {"name": 'a "b"'},
        "listeners": {"w": {"cps": 1, "on": True, "l": [{"a": "b"}], "t": {"x": ["y"]}}},
    }
    assert tomllib.loads(to_toml(table)) == table
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
