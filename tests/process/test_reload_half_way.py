"""A reload of the mode of client authentication, of `allow` or `deny`, in the midst of a handshake, full and resumed: who is
then refused is refused at the end of it, whatever it has been told before, and no server sees it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.test_reload_modes import MODES, WHO, let_in, stays
from tests.support.balancer import Balancer
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

WORDS = {"none": "no_certificate", "bad": "unknown_ca"}


@pytest.mark.parametrize(("before", "after"), [(one, other) for one in MODES for other in MODES if one != other])
def test_mode(
    running: Balancer,
    enforce: Callable[..., dict[str, Any]],
    backend: Backend,
    certificates: dict[str, Issued | None],
    before: str,
    after: str,
) -> None:
    """From each to each other one, at the default name and at another, on both TLS versions, full and resumed."""
    enforce(before)
    with ExitStack() as stack:
        waiting = []
        for version in (TLS12, TLS13):
            for who in [who for who in WHO if let_in(before, who)]:
                context = client_context(None, version, certificates[who])
                with TlsClient(running.port(), context) as first:
                    first.handshake().ping()
                for name, session in (
                    ("www.example.com", None),
                    ("other.example.com", None),
                    ("other.example.com", first.session),
                ):
                    client = stack.enter_context(TlsClient(running.port(), context, server_name=name, session=session))
                    client.stop_before_last_flight()
                    waiting.append((who, client))
        backend.forget()
        enforce(after)
        welcome = 0
        for who, client in waiting:
            client.release()
            if stays(before, after, who):
                welcome += 1
                client.handshake().ping()
                continue
            refusal(client)
            line = running.line(client)
            known = "none" if before == "off" else who
            assert line["termination"] == WORDS[known], (who, line)
        assert backend.accepted == welcome


@pytest.mark.parametrize("rule", ["allow", "deny"])
def test_rule(
    running: Balancer, enforce: Callable[..., dict[str, Any]], backend: Backend, pki: Pki, rule: str, version: Any
) -> None:
    """The rules that are in force at its end."""
    context = client_context(None, version, pki.client)
    with TlsClient(running.port(), context) as first:
        first.handshake().ping()
    backend.forget()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(TlsClient(running.port(), context, session=one)) for one in (None, first.session)
        ]
        for client in clients:
            client.stop_before_last_flight()
        enforce("required", **{rule: "cn:somebody" if rule == "allow" else "cn:client-*"})
        for client in clients:
            client.release()
            refusal(client)
            line = running.line(client)
            assert line["termination"] == ("not_allowed" if rule == "allow" else "denied")
            assert line["client_cert_proven"] is client.resumed, "whose session is resumed has proven it"
    assert backend.accepted == 0
