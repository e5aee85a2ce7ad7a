"""A client that has another's certificate, and says everything but the truth about its key: in TLS 1.3, with a last flight made
by hand. Nothing but the right messages in the right order, proven with the right key, reaches a server or is a proven identity;
and what comes after the handshake changes nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.forged_flight import HANDSHAKE, ForgedFlight
from tests.support.tls_client import TLS13, client_context
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

    Forge = Callable[[ForgedFlight, Issued, Issued], list[bytes]]

MODES = ("required", "optional", "report")


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki) -> Balancer:
    return balancer_for(
        {
            "log": {"refusals_per_second": 0},
            "listeners": {
                mode: tls_listener(pki.server, ca=pki.root.path, client_auth={"mode": mode}) for mode in MODES
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


@pytest.fixture(scope="module")
def own(pki: Pki) -> Issued:
    """What the client has, with its key; its own name is not that of the victim, `client-1`."""
    return pki.root.client("mallory")


def _right(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    certificate = c.certificate(own)
    verify = c.verify(own, certificate)
    return [certificate, verify, c.finished(certificate, verify)]


def _no_verify(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    certificate = c.certificate(victim)
    return [certificate, c.finished(certificate)]


def _verified_by_another_key(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    certificate = c.certificate(victim)
    verify = c.verify(own, certificate)
    return [certificate, verify, c.finished(certificate, verify)]


def _two_leaves(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    certificate = c.certificate(victim, own)
    verify = c.verify(own, certificate)
    return [certificate, verify, c.finished(certificate, verify)]


def _victim_then_own(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    first, second = c.certificate(victim), c.certificate(own)
    verify = c.verify(own, first, second)
    return [first, second, verify, c.finished(first, second, verify)]


def _own_then_victim(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    first = c.certificate(own)
    verify = c.verify(own, first)
    second = c.certificate(victim)
    return [first, verify, second, c.finished(first, verify, second)]


def _verify_before_certificate(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    verify = c.verify(own)
    certificate = c.certificate(own)
    return [verify, certificate, c.finished(verify, certificate)]


def _as_a_server(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    certificate = c.certificate(own)
    verify = c.verify(own, certificate, role=b"server")
    return [certificate, verify, c.finished(certificate, verify)]


def _of_another_handshake(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    certificate = c.certificate(own)
    verify = c.verify(own, certificate, b"another")
    return [certificate, verify, c.finished(certificate, verify)]


def _with_a_context(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    certificate = c.certificate(own, context=b"later")
    verify = c.verify(own, certificate)
    return [certificate, verify, c.finished(certificate, verify)]


def _nothing(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    return [c.finished()]


def _empty_but_verified(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    certificate = c.certificate()
    verify = c.verify(own, certificate)
    return [certificate, verify, c.finished(certificate, verify)]


def _wrong_finished(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    certificate = c.certificate(own)
    verify = c.verify(own, certificate)
    return [certificate, verify, c.finished(certificate)]


def _unfinished(c: ForgedFlight, own: Issued, victim: Issued) -> list[bytes]:
    certificate = c.certificate(own)
    return [certificate, c.verify(own, certificate)]


FORGED: dict[Forge, str] = {
    _no_verify: "handshake_error",
    _verified_by_another_key: "bad_signature",
    _two_leaves: "bad_signature",
    _victim_then_own: "handshake_error",
    _own_then_victim: "handshake_error",
    _verify_before_certificate: "handshake_error",
    _as_a_server: "bad_signature",
    _of_another_handshake: "bad_signature",
    _with_a_context: "handshake_error",
    _nothing: "handshake_error",
    _empty_but_verified: "handshake_error",
    _wrong_finished: "handshake_error",
    _unfinished: "handshake_error",
}
"""How it ends, unless there is no certificate where one is required."""


def connected(balancer: Balancer, mode: str, pki: Pki, folder: Path) -> ForgedFlight:
    keylog = folder / "keys"
    keylog.unlink(missing_ok=True)
    return ForgedFlight(balancer.port(mode), client_context(None, TLS13, pki.client, keylog=keylog), keylog)


@pytest.mark.parametrize("mode", MODES)
def test_the_right_one(balancer: Balancer, backend: Backend, pki: Pki, own: Issued, tmp_path: Path, mode: str) -> None:
    """Else the others would show nothing."""
    backend.forget()
    with connected(balancer, mode, pki, tmp_path) as client:
        client.fly(*_right(client, own, pki.client))
        client.say(b"hello")
        wait_until(lambda: backend.received == 5, "it is served")
        client.abort()
    line = balancer.line(client)
    assert (line["client_cert_proven"], line["client_cert_sha256"]) == (True, own.sha256)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("forge", FORGED, ids=lambda one: one.__name__[1:])
def test_forged(
    balancer: Balancer,
    backend: Backend,
    pki: Pki,
    own: Issued,
    tmp_path: Path,
    mode: str,
    forge: Forge,
) -> None:
    """Ended in the handshake, whatever the mode, with nobody proven and nothing at a server."""
    backend.forget()
    with connected(balancer, mode, pki, tmp_path) as client:
        client.fly(*forge(client, own, pki.client))
        client.say(b"stolen")
        line = balancer.line(client)
    nobody = forge is _empty_but_verified and mode == "required"
    assert line["termination"] == ("no_certificate" if nobody else FORGED[forge])
    assert line.get("client_cert_proven", False) is False
    assert "client_cert_verdict" not in line
    assert "server" not in line
    assert backend.accepted == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_certificate_after_the_handshake(
    balancer: Balancer, backend: Backend, pki: Pki, own: Issued, tmp_path: Path, mode: str
) -> None:
    """Nobody has asked for it: the connection ends, and the identity is the one of the handshake."""
    backend.forget()
    with connected(balancer, mode, pki, tmp_path) as client:
        client.fly(*_right(client, own, pki.client))
        client.say(b"hello")
        wait_until(lambda: backend.received == 5, "it is served")
        client.say(client.certificate(pki.client), HANDSHAKE)
        client.say(b"stolen")
        line = balancer.line(client)
    assert line["termination"] == "protocol_error"
    assert line["client_cert_sha256"] == own.sha256
    assert backend.received == 5
