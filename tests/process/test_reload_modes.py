"""From each mode of client authentication to each other one by reload: who stays of those who are in, who comes in
afterwards, and what an old ticket is worth. The way to switch mutual TLS on in a running estate goes through `report`.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context, refusal
from tests.support.workers import tls_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.certs import Issued, Pki

MODES = ("off", "optional", "report", "required")
WHO = ("none", "good", "bad")


def let_in(mode: str, who: str) -> bool:
    """Whether a client without a certificate, with a good or with a bad one, is let in."""
    return {"off": True, "report": True, "optional": who != "bad", "required": who == "good"}[mode]


def stays(before: str, after: str, who: str) -> bool:
    """Whether one that is in stays: `off` has asked nobody, so nothing is known of anybody."""
    known = "none" if before == "off" else who
    return let_in(after, known)


@pytest.mark.parametrize("after", MODES)
@pytest.mark.parametrize("before", MODES)
def test_each_to_each(
    running: Balancer,
    enforce: Callable[..., dict[str, Any]],
    pki: Pki,
    certificates: dict[str, Issued | None],
    before: str,
    after: str,
) -> None:
    """Live connections and tickets, on both TLS versions."""
    contexts = {
        (version, who): client_context(pki.root.path, version, certificates[who])
        for version in (TLS12, TLS13)
        for who in WHO
        if let_in(before, who)
    }
    enforce(before)
    with ExitStack() as stack:
        held = {
            key: stack.enter_context(closing(tls_client(running.port(), context))) for key, context in contexts.items()
        }
        for client in held.values():
            client.ping()
        sessions = {key: client.session for key, client in held.items()}
        gone = {key for key in held if not stays(before, after, key[1])}
        assert enforce(after).get("closed", 0) == (0 if before == after else len(gone))
        for key, client in held.items():
            if key in gone:
                assert client.read_to_end(2)[0] == b""
                assert running.line(client)["termination"] == "became_refused"
            else:
                client.ping(b"still here" * 1000)
        for key, session in sessions.items():
            client = stack.enter_context(TlsClient(running.port(), contexts[key], session=session))
            if let_in(after, key[1]):
                client.handshake().ping()
                assert client.resumed is (before == after), "not when trust has changed"
            else:
                refusal(client)
                assert running.line(client)["termination"] == {"none": "no_certificate", "bad": "unknown_ca"}[key[1]]
