"""HelloRetryRequest: the client says hello twice, and what the first hello claimed counts for nothing in the second.

A ticket in the first ClientHello must not lend its identity to a full handshake after the second (RFC 8446 lets a client drop
the ticket there), and a returning client that is asked to retry must be let in all the same. The clients are pyOpenSSL's over
memory BIOs, with X448 as their only key share: the balancer does not offer it, so it asks for another.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from OpenSSL import SSL

from tests.support.tls_client import connect

if TYPE_CHECKING:
    from types import TracebackType

    from tests.support.backends import Backend
    from tests.support.balancer import Balancer, Line
    from tests.support.certs import Issued, Pki

RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111")  # of a ServerHello that is a HelloRetryRequest (RFC 8446, 4.1.3)
RETRIED, AT_ONCE = b"X448:P-256", b"P-256"


class Client:
    """A pyOpenSSL client whose session can be changed between its two hellos."""

    def __init__(
        self,
        web: Balancer,
        context: SSL.Context,
        certificate: Issued,
        *,
        groups: bytes = RETRIED,
        session: Any = None,
        options: int = 0,
    ) -> None:
        self._web = web
        self.tls = SSL.Connection(context, None)
        self.tls.set_options(options)
        self.tls.use_certificate(certificate.certificate)
        self.tls.use_privatekey(certificate.key)
        library: Any = vars(SSL)["_lib"]  # pyOpenSSL has no call of its own for it
        assert library.SSL_set1_curves_list(self.tls._ssl, groups) == 1
        self.tls.set_tlsext_host_name(b"www.example.com")
        self.tls.set_connect_state()
        if session is not None:
            self.tls.set_session(session)
        self.sock = connect(web.port())

    def first_hello(self) -> bytes:
        """Send the first ClientHello; the balancer's answer, not yet seen by TLS."""
        assert not self._go(self.tls.do_handshake)
        self._send()
        return self.sock.recv(65536)

    def retried_hello(self) -> bytes:
        """The same, where the answer must be a HelloRetryRequest."""
        answer = self.first_hello()
        assert RETRY_RANDOM in answer, "no HelloRetryRequest"
        return answer

    def finish(self, answer: bytes) -> None:
        """Complete the handshake from there."""
        self.tls.bio_write(answer)
        while not self._go(self.tls.do_handshake):
            self._send()
            self._receive()
        self._send()

    def ping(self) -> None:
        """One echo: the client is let in. A refusal is an `SSL.Error`, or `ConnectionError` at a bare end."""
        self.tls.send(b"ping")
        self._send()
        got: list[bytes] = []
        while not self._go(lambda: got.append(self.tls.recv(100))):
            self._receive()
        assert got == [b"ping"]

    def leave(self) -> Line:
        """Close properly; the access log's line."""
        self._go(self.tls.shutdown)
        self._send()
        line = self._web.line(self.sock)
        self.sock.close()
        return line

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def _go(self, step: Any) -> bool:
        try:
            step()
        except SSL.WantReadError:
            return False
        return True

    def _send(self) -> None:
        with contextlib.suppress(SSL.WantReadError):  # nothing to send
            self.sock.sendall(self.tls.bio_read(1 << 20))

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionResetError("ended by the balancer")
        self.tls.bio_write(data)


@pytest.fixture
def context() -> SSL.Context:
    """One for all clients of a test, as their sessions need; what differs is set on the connection."""
    return SSL.Context(SSL.TLS_CLIENT_METHOD)


def obtain(web: Balancer, context: SSL.Context, certificate: Issued, **options: Any) -> Any:
    """A session from a connection that was let in."""
    with Client(web, context, certificate, **options) as client:
        client.finish(client.first_hello())
        client.ping()
        session = client.tls.get_session()
        client.leave()
    return session


def sessions(web: Balancer, context: SSL.Context, certificate: Issued) -> tuple[Any, Any]:
    """A ticket, and a session of TLS 1.2, which makes a TLS 1.3 hello go without a ticket."""
    ticket = obtain(web, context, certificate, groups=AT_ONCE)
    return ticket, obtain(web, context, certificate, groups=AT_ONCE, options=SSL.OP_NO_TLSv1_3)


def test_another_certificate_after_the_retry(web: Balancer, context: SSL.Context, pki: Pki) -> None:
    """Let in as whom it has proven to be, not as whom the ticket of the first hello named."""
    first, second = pki.root.client("named-by-ticket"), pki.root.client("proven-later")
    ticket, unusable = sessions(web, context, first)
    with Client(web, context, second, session=ticket) as client:
        answer = client.retried_hello()
        client.tls.set_session(unusable)
        client.finish(answer)
        client.ping()
        line = client.leave()
    assert line["client_cert_sha256"].replace(":", "").lower() == second.sha256
    assert "proven-later" in line["client_cert_subject"]
    assert (line["client_cert_proven"], line["tls_resumed"]) == (True, False)


def test_refused_certificate_after_the_retry(web: Balancer, context: SSL.Context, backend: Backend, pki: Pki) -> None:
    """A CA's certificate is `wrong_purpose` as without a ticket, and nothing reaches a server."""
    first, second = pki.root.client("named-by-ticket"), pki.root.client("an-authority", is_ca=True)
    ticket, unusable = sessions(web, context, first)
    backend.forget()
    with Client(web, context, second, session=ticket) as client:
        answer = client.retried_hello()
        client.tls.set_session(unusable)
        with pytest.raises((SSL.Error, ConnectionError)):
            client.finish(answer)
            client.ping()
        line = web.line(client.sock)
    assert line["termination"] == "wrong_purpose"
    assert line["client_cert_sha256"].replace(":", "").lower() == second.sha256
    assert not line.get("tls_resumed")
    assert backend.accepted == 0


@pytest.mark.parametrize("groups", [AT_ONCE, RETRIED], ids=["at_once", "retried"])
def test_returning_client_is_let_in(web: Balancer, context: SSL.Context, pki: Pki, groups: bytes) -> None:
    """With a ticket from either kind of handshake, asked to retry: let in under its own name, resumed or not."""
    certificate = pki.root.client("returning")
    session = obtain(web, context, certificate, groups=groups)
    for _ in range(2):
        with Client(web, context, certificate, session=session) as client:
            client.finish(client.retried_hello())
            client.ping()
            session = client.tls.get_session()
            line = client.leave()
        assert line["termination"] == "client_close"
        assert line["client_cert_sha256"].replace(":", "").lower() == certificate.sha256
        assert line["client_cert_proven"] is True


def test_session_of_a_retried_handshake(web: Balancer, context: SSL.Context, pki: Pki) -> None:
    """Offered where no retry is needed, it works as any other."""
    certificate = pki.root.client("returning")
    session = obtain(web, context, certificate)
    with Client(web, context, certificate, groups=AT_ONCE, session=session) as client:
        client.finish(client.first_hello())
        client.ping()
        line = client.leave()
    assert line["termination"] == "client_close"
    assert line["client_cert_sha256"].replace(":", "").lower() == certificate.sha256
