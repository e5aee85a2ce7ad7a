"""Listeners that change names, addresses and policies at random, a reload each time: whatever session a client has kept, of
whichever listener at whichever time, it is let in exactly where it would be without one.
"""

from __future__ import annotations

import random
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TLS12, TLS13, Ended, TlsClient, client_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

SEED = 1
ROUNDS = 10
OFFERED = 6
"""Sessions that a client tries at each listener."""
WELCOME = {
    "off": {"none", "good", "other", "deep"},
    "report": {"none", "good", "other", "deep"},
    "optional": {"none", "good"},
    "root": {"good"},
    "other": {"other"},
    "both": {"good", "other"},
    "far": {"good", "deep"},
    "denying": set(),
}
"""Who is let in by each policy."""


class Kept(NamedTuple):
    """A session, and who has it."""

    session: ssl.SSLSession | None
    who: str
    version: ssl.TLSVersion
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def policies(pki: Pki) -> dict[str, dict[str, Any]]:
    root, other = str(pki.root.path), str(pki.other.path)

    def required(*ca: str, **keys: object) -> dict[str, Any]:
        return {"mode": "required", "ca": list(ca), **keys}

    return {
        "off": {"mode": "off"},
        "report": {"mode": "report", "ca": root},
        "optional": {"mode": "optional", "ca": root},
        "root": required(root),
        "other": required(other),
        "both": required(root, other),
        "far": required(root, depth=5),
        "denying": required(root, deny=["cn:client-1", "cn:deep"]),
    }


def let_in(port: int, one: Kept, *, welcome: bool) -> tuple[bool, TlsClient]:
    """Whether it is served - who is not welcome waits for being told so."""
    with TlsClient(port, one.context, session=one.session) as client:
        try:
            client.handshake()
            if welcome:
                client.ping()
            else:
                client.recv(timeout=5)
        except (ssl.SSLError, Ended):
            return False, client
    return True, client


def test_sessions_of_anywhere(
    run: Callable[..., Balancer], backend: Backend, pki: Pki, policies: dict[str, dict[str, Any]]
) -> None:
    chance = random.Random(SEED)
    listeners = [tls_listener(pki.server) for _ in range(3)]
    certificates: dict[str, Issued | None] = {
        "none": None,
        "good": pki.client,
        "other": pki.bad_client("unknown_ca"),
        "deep": pki.deep_client("deep", 4),
    }

    def shuffled() -> tuple[dict[str, str], dict[str, Any]]:
        """The policy of each listener, and the configuration."""
        count = chance.randint(1, 3)
        names, places = chance.sample(["x", "y", "z"], count), chance.sample(listeners, count)
        chosen = {name: chance.choice(list(policies)) for name in names}
        made = {
            name: {**place, "client_auth": policies[chosen[name]]} for name, place in zip(names, places, strict=True)
        }
        return chosen, {"listeners": made, "server_groups": {"app": server_group(backend)}}

    chosen, tables = shuffled()
    balancer = run(tables)
    kept: list[Kept] = []
    resumed = 0
    for number in range(ROUNDS):
        fresh = [
            Kept(None, who, version, client_context(None, version, certificate))
            for version in (TLS12, TLS13)
            for who, certificate in certificates.items()
        ]
        for name, policy in chosen.items():
            for one in [*fresh, *chance.sample(kept, min(OFFERED, len(kept)))]:
                welcome = one.who in WELCOME[policy]
                served, client = let_in(balancer.port(name), one, welcome=welcome)
                assert served is welcome, (number, name, policy, one)
                resumed += served and client.resumed
                if served:
                    kept.append(one._replace(session=client.session))
        chosen, tables = shuffled()
        balancer.rewrite(tables)
        balancer.reload()
    assert resumed, "some are good where they are offered"
