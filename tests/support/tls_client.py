"""TLS clients: Python's `ssl` over memory BIOs, so that every odd thing a client can do can be done, and seen.

Theory of operation: `TlsClient` owns a non-blocking TCP (or UNIX) socket and an `ssl.SSLObject`. Whatever the TLS engine
wants to send passes `_flush`, which can hold it back, cut it into single bytes, or split handshake records; whatever comes is
decrypted at once into `_plain`. The end of the connection is therefore known exactly: `close_notify`, a bare FIN ("eof"), or
a reset. Beside it are forged records (`Forger`): once the handshake is over, records can be made from the logged traffic
secret that no TLS library would send. (Over 500 lines: the oddities share one pair of buffers and are read together.)
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
import warnings
from typing import TYPE_CHECKING, Protocol, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from nlbcore.observe.log import timestamp
from tests.support.backends import reset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from tests.support.certs import Issued

TLS12 = ssl.TLSVersion.TLSv1_2
TLS13 = ssl.TLSVersion.TLSv1_3
VERSION_NAMES = {TLS12: "TLSv1.2", TLS13: "TLSv1.3"}
TIMEOUT = 10.0

CLOSE_NOTIFY, EOF, RESET = "close_notify", "eof", "reset"


class Sink(Protocol):
    """What `exchange` puts received bytes into; hashlib's objects are such."""

    def update(self, data: bytes | bytearray, /) -> None: ...


class Ended(Exception):
    """The connection ended without close_notify. `how` is "eof" or "reset"."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


def client_context(
    trust: Path | None,
    version: ssl.TLSVersion | tuple[ssl.TLSVersion, ssl.TLSVersion] | None = None,
    certificate: Issued | None = None,
    *,
    ciphers: str = "DEFAULT",
    alpn: list[str] | None = None,
    tickets: bool = True,
    keylog: Path | None = None,
) -> ssl.SSLContext:
    """A client's context at security level 0, so that the balancer, not the client, refuses what is weak.

    Args:
        trust: the CA to verify the balancer with; None verifies nothing.
        version: the only version, or the lowest and the highest; None for TLS 1.2 and 1.3.
        certificate: the client's certificate.
        ciphers: OpenSSL's list for TLS 1.2 and older.
        alpn: protocols to offer.
        tickets: False offers no session ticket, so TLS 1.2 resumes by session id.
        keylog: write traffic secrets there (for `Forger`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    lowest, highest = version if isinstance(version, tuple) else (version or TLS12, version or TLS13)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.0 and 1.1, which some tests are about
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = highest
        context.minimum_version = lowest
    if trust is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(trust)
    if certificate is not None:
        context.load_cert_chain(certificate.path, certificate.key_path)
    if alpn:
        context.set_alpn_protocols(alpn)
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
    if keylog is not None:
        context.keylog_filename = str(keylog)
    return context


def connect(address: int | tuple[str, int] | Path, *, timeout: float = TIMEOUT) -> socket.socket:
    """A connected socket: to a port of 127.0.0.1, to (host, port), or to a UNIX socket."""
    if isinstance(address, int):
        address = ("127.0.0.1", address)
    if isinstance(address, tuple):
        sock = socket.create_connection(address, timeout=timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(str(address))
    return sock


def tcp_peer_port(sock: socket.socket) -> int:
    """Where a socket is connected to; 0 when that is no TCP port, or it is connected no more."""
    try:
        peer = sock.getpeername()
    except OSError:
        return 0
    return int(peer[1]) if isinstance(peer, tuple) else 0


class Connected:
    """A connected socket, and what names its line in the access log after it is closed.

    Attributes:
        sock: blocking, with a timeout.
        port, peer_port: the TCP ports of both ends, 0 for UNIX sockets.
        since: a `timestamp` of shortly before it connected (the balancer's clock is read once a round; the kernel gives a
            port again after a second at the earliest).
    """

    def __init__(self, address: int | tuple[str, int] | Path) -> None:
        self.since = timestamp(time.time() - 0.2)
        self.sock = connect(address)
        name = self.sock.getsockname()
        self.port = name[1] if isinstance(name, tuple) else 0
        self.peer_port = tcp_peer_port(self.sock)


class TlsClient(Connected):
    """One TLS connection.

    Args:
        address: see `connect`.
        context: see `client_context`.
        server_name: SNI, also verified where the context verifies.
        session: to resume.
        chop: send so many bytes per system call, 0 for no limit.
        split_records: put every byte of the ClientHello into a record of its own.
    """

    def __init__(
        self,
        address: int | tuple[str, int] | Path,
        context: ssl.SSLContext,
        *,
        server_name: str | None = "www.example.com",
        session: ssl.SSLSession | None = None,
        chop: int = 0,
        split_records: bool = False,
    ) -> None:
        super().__init__(address)
        self.sock.setblocking(False)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=server_name, session=session)
        self._chop = chop
        self._split = split_records
        self._pending = bytearray()  # made by TLS, not yet taken by the socket
        self._plain = bytearray()
        self.received = 0  # bytes from the socket
        self.end: str | None = None  # how the other side ended, once it has
        self.held = False  # while true, nothing that TLS wants to send leaves

    # handshake

    def handshake(self, timeout: float = TIMEOUT) -> TlsClient:
        """Complete the handshake. On a refusal `ssl.SSLError` (an alert) or `Ended` is raised."""
        deadline = time.monotonic() + timeout
        while not self.step():
            self._wait_readable(deadline)
        self._flush(deadline)
        return self

    def step(self) -> bool:
        """Go on with the handshake as far as possible without waiting; true once it is complete on this side."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush(time.monotonic() + TIMEOUT)
            return False
        except ssl.SSLError:
            with contextlib.suppress(Ended):
                self._flush(time.monotonic() + TIMEOUT)  # our alert
            raise
        self._flush(time.monotonic() + TIMEOUT)
        return True

    def advance(self, seconds: float = TIMEOUT) -> bool:
        """Wait for input and take one `step`; for handshakes that are stopped half way."""
        self._wait_readable(time.monotonic() + seconds)
        return self.step()

    def first_flight(self) -> bytes:
        """The ClientHello as bytes, not sent: for clients that send only a part of it."""
        self.held = True
        assert not self.step()
        self.held = False
        flight, self._pending = bytes(self._pending), bytearray()
        return flight

    def stop_before_last_flight(self) -> None:
        """Handshake up to the flight with the client's certificate, which is made but held back until `release`."""
        self.step()
        self.held = True
        while not self._pending:
            self.advance()

    def release(self) -> None:
        """Send what was held back."""
        self.held = False
        self._drain(time.monotonic() + TIMEOUT)

    def send_raw(self, data: bytes) -> None:
        """Send bytes that are not TLS's own."""
        self._pending += data
        self._drain(time.monotonic() + TIMEOUT)

    # data

    def send(self, data: bytes, timeout: float = TIMEOUT) -> None:
        """Send all. What arrives meanwhile is decrypted and kept, so that neither side waits for the other for ever."""
        deadline = time.monotonic() + timeout
        view = memoryview(data)
        for start in range(0, len(view), 65536):
            self._write(view[start : start + 65536])
            self._flush(deadline)

    def recv(self, size: int = 65536, timeout: float = TIMEOUT) -> bytes:
        """Some bytes; empty after close_notify. `Ended` when the connection ended otherwise."""
        deadline = time.monotonic() + timeout
        while not self._plain:
            if self.end == CLOSE_NOTIFY:
                return b""
            if not self._decrypt() and self.end != CLOSE_NOTIFY:
                self._wait_readable(deadline)
        piece = bytes(self._plain[:size])
        del self._plain[:size]
        return piece

    def recv_exactly(self, size: int, timeout: float = TIMEOUT) -> bytes:
        """So many bytes; fewer only after close_notify."""
        deadline = time.monotonic() + timeout
        data = bytearray()
        while len(data) < size and (piece := self.recv(size - len(data), max(0.0, deadline - time.monotonic()))):
            data += piece
        return bytes(data)

    def read_to_end(self, timeout: float = TIMEOUT) -> tuple[bytes, str]:
        """Everything until the end, and how it ended: "close_notify", "eof" or "reset"."""
        deadline = time.monotonic() + timeout
        data = bytearray()
        try:
            while piece := self.recv(1 << 20, max(0.0, deadline - time.monotonic())):
                data += piece
        except Ended as ended:
            return bytes(data), ended.how
        return bytes(data), CLOSE_NOTIFY

    def ping(self, data: bytes = b"ping", timeout: float = TIMEOUT) -> float:
        """Send to an echo server and wait for the answer; seconds it took."""
        start = time.monotonic()
        self.send(data)
        answer = self.recv_exactly(len(data), timeout)
        assert answer == data, f"echo of {data[:40]!r} is {answer[:40]!r}"
        return time.monotonic() - start

    def exchange(self, pieces: Iterator[bytes], sink: Sink, timeout: float = 60.0) -> None:
        """Send all pieces, then close_notify, and receive into `sink` until the other side ends: both at the same time."""
        deadline = time.monotonic() + timeout
        sending = True
        while sending or self._pending or self.end is None:
            while sending and len(self._pending) < 1 << 18:
                piece = next(pieces, None)
                if piece is None:
                    sending = False
                    self._shutdown_tls()
                else:
                    self._write(piece)
                self._pending += self._out.read()
            self._try_send()
            if self.end is not None and not sending and not self._pending:
                return  # that was the last of it: there is nothing left to wait for
            readable, _, _ = select.select(
                [self.sock] if self.end is None else [],
                [self.sock] if sending or self._pending else [],
                [],
                max(0.0, deadline - time.monotonic()),
            )
            assert time.monotonic() < deadline, "the exchange takes too long"
            if readable:
                self._receive()
            while self._decrypt():
                pass
            if self._plain:
                sink.update(self._plain)
                self._plain.clear()

    # ends

    def close_notify(self) -> None:
        """End our direction properly (TLS half-close); the other one stays open for reading."""
        self._shutdown_tls()
        self._flush(time.monotonic() + TIMEOUT)

    def fin(self) -> None:
        """End our direction at the TCP level, without close_notify unless it was sent before."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close properly: close_notify, what TLS still has to send, then the socket. Safe to call twice and after any error."""
        if self.sock.fileno() >= 0:
            with contextlib.suppress(OSError, Ended, AssertionError):
                if self.tls.version() is not None and self.end != RESET:
                    self._shutdown_tls()
                    self._pending += self._out.read()
                    self._try_send()
            self.sock.close()

    def abort(self) -> None:
        """Close with a TCP reset."""
        reset(self.sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # what was agreed

    @property
    def resumed(self) -> bool:
        """Whether this connection resumed a session."""
        return bool(self.tls.session_reused)

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session to resume later. Have data read before, or TLS 1.3 has none yet."""
        return self.tls.session

    def peer_der(self) -> bytes:
        """The DER of the certificate the balancer has shown."""
        certificate = self.tls.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate

    # inside

    def _write(self, data: bytes | memoryview) -> None:
        sent = self.tls.write(data)
        assert sent == len(data)

    def _shutdown_tls(self) -> None:
        """Put close_notify into the outgoing BIO. What came is decrypted before: OpenSSL refuses to skip over data."""
        while self._decrypt():
            pass
        # after close_notify both ways `unwrap` returns, else it wants the other side's
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLSyscallError, ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.tls.unwrap()

    def _decrypt(self) -> bool:
        """Decrypt one record's worth into `_plain`; false when there is none (any more)."""
        if self.end == CLOSE_NOTIFY:
            return False
        try:
            piece = self.tls.read(65536)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            piece = b""
        if not piece:
            self.end = CLOSE_NOTIFY
            return False
        self._plain += piece
        return True

    def _flush(self, deadline: float) -> None:
        data = self._out.read()
        if self._split and data[:1] == b"\x16":
            data = b"".join(_records_of_one_byte(data))
            self._split = False
        self._pending += data
        if not self.held:
            self._drain(deadline)

    def _drain(self, deadline: float) -> None:
        while self._pending:
            self._try_send()
            if not self._pending:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"cannot send, {len(self._pending)} bytes left")
            listening = [self.sock] if self.end is None and len(self._plain) < 1 << 22 else []
            readable, _, _ = select.select(listening, [self.sock], [], left)
            if readable:
                self._receive()
                if self.tls.version() is not None:
                    while self._decrypt():
                        pass

    def _try_send(self) -> None:
        while self._pending:
            try:
                sent = self.sock.send(self._pending[: self._chop] if self._chop else self._pending)
            except BlockingIOError:
                return
            except ConnectionError:
                # the other side has ended; what it said last (an alert) may still be there to read
                self._pending.clear()
                if self.end is None:
                    with contextlib.suppress(Ended):
                        self._receive()
                return
            del self._pending[:sent]

    def _receive(self) -> None:
        """Feed TLS with what the socket has; `Ended` at a bare end."""
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionError:
            self.end = self.end or RESET
            raise Ended(RESET) from None
        if data:
            self.received += len(data)
            self._in.write(data)
            return
        if self.end is None:
            self.end = EOF
            raise Ended(EOF)

    def _wait_readable(self, deadline: float) -> None:
        if self.end in {EOF, RESET}:
            raise Ended(str(self.end))
        left = deadline - time.monotonic()
        readable, _, _ = select.select([self.sock], [], [], max(0.0, left))
        if not readable:
            raise TimeoutError("nothing comes")
        self._receive()


def refusal(client: TlsClient, timeout: float = 5.0) -> str:
    """Try to handshake and to read; the balancer must not let this client in.

    Returns:
        The alert ("TLSV1_ALERT_UNKNOWN_CA"; "ALERT" where Python has no name for it), "eof" or "reset". In TLS 1.3 a
        client believes it is connected before its certificate has been looked at, so only the first read tells.
    """
    try:
        client.handshake(timeout)
        data = client.recv(timeout=timeout)
    except ssl.SSLError as error:
        return error.reason or "ALERT"
    except Ended as ended:
        return ended.how
    except TimeoutError:
        raise AssertionError(f"the client is let in, or at least not refused within {timeout:g} s") from None
    finally:
        client.close()
    assert not data, f"let in, and sent {data[:40]!r}"
    return CLOSE_NOTIFY


def _records_of_one_byte(flight: bytes) -> Iterator[bytes]:
    """Cut plaintext handshake records into records of one byte each; a record of another kind stays as it is."""
    while flight:
        kind, version, length = flight[0], flight[1:3], int.from_bytes(flight[3:5], "big")
        body, flight = flight[5 : 5 + length], flight[5 + length :]
        if kind == 22:
            yield from (bytes([kind]) + version + b"\x00\x01" + bytes([byte]) for byte in body)
        else:
            yield bytes([kind]) + version + struct.pack(">H", length) + body


class Forger:
    """Makes TLS 1.3 records with the client's own traffic secret, as no TLS library would send them.

    Use it after the handshake and before anything is sent by the TLS client: record numbers start at zero. (RFC 8446
    sections 5.2, 7.1, 7.2.)

    Args:
        client: a connected TLS 1.3 client whose context logs keys.
        keylog: that log.
    """

    def __init__(self, client: TlsClient, keylog: Path) -> None:
        cipher = client.tls.cipher()
        assert cipher is not None
        name = cipher[0]
        self._hash: hashes.HashAlgorithm = hashes.SHA384() if name.endswith("SHA384") else hashes.SHA256()
        self._key_length = 32 if "AES_256" in name else 16
        assert "GCM" in name, f"forging {name} records is not built"
        secrets = [
            line.split()[2] for line in keylog.read_text().splitlines() if line.startswith("CLIENT_TRAFFIC_SECRET_0 ")
        ]
        self._secret = bytes.fromhex(secrets[-1])
        self._use_secret()

    def record(self, content: bytes, kind: int = 23) -> bytes:
        """One encrypted record; kind 23 is application data, 22 handshake, 21 alert."""
        plain = content + bytes([kind])
        header = b"\x17\x03\x03" + struct.pack(">H", len(plain) + 16)
        nonce = (int.from_bytes(self._iv, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        return header + self._aead.encrypt(nonce, plain, header)

    def key_update(self, *, request: bool = False) -> bytes:
        """One KeyUpdate, asking the other side for one too or not; later records use the next keys."""
        record = self.record(b"\x18\x00\x00\x01" + (b"\x01" if request else b"\x00"), kind=22)
        self._secret = self._expand(b"traffic upd", self._hash.digest_size)
        self._use_secret()
        return record

    def _use_secret(self) -> None:
        self._aead = AESGCM(self._expand(b"key", self._key_length))
        self._iv = self._expand(b"iv", 12)
        self._number = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        full = b"tls13 " + label
        info = struct.pack(">H", length) + bytes([len(full)]) + full + b"\x00"
        return HKDFExpand(algorithm=self._hash, length=length, info=info).derive(self._secret)
