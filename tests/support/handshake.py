"""A TLS handshake in memory between two contexts of pyOpenSSL, with what the server sends behind it."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL


class Shaken(NamedTuple):
    """Both ends after a handshake; `accepted` by the server."""

    server: Any
    client: Any
    accepted: bool

    @property
    def resumed(self) -> bool:
        """Whether the client's session was taken up."""
        return bool(_openssl.lib.SSL_session_reused(self.server._ssl) == 1)


def shake(front: SSL.Context, client: SSL.Context, name: bytes | None = None, session: Any = None) -> Shaken:
    """The client asks for `name` if there is one, and offers `session`. Who refuses is no error, but no end of it either."""
    ends: list[Any] = [SSL.Connection(front), SSL.Connection(client)]
    ends[0].set_accept_state()
    ends[1].set_connect_state()
    if name:
        ends[1].set_tlsext_host_name(name)
    if session is not None:
        ends[1].set_session(session)
    done = [False, False]
    for _ in range(6):
        for number, (here, there) in enumerate((ends, ends[::-1])):
            with contextlib.suppress(SSL.Error):
                here.do_handshake()
                done[number] = True
            with contextlib.suppress(SSL.WantReadError):
                there.bio_write(here.bio_read(1 << 20))
    if all(done):
        with contextlib.suppress(SSL.Error):  # tickets; or nothing
            ends[1].recv(1)
    for end in ends:
        end.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)  # else its session would not be resumed
    return Shaken(ends[0], ends[1], done[0])
