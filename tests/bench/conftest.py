"""One balancer for the generator's tests: a listener before each kind of server, the good ones and the broken ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nlbbench.backends import serve
from nlbbench.spec import Backend as Kind
from nlbbench.spec import Target
from tests.bench.support import BROKEN
from tests.support.backends import Backend
from tests.support.balancer import Balancer, server_group, tls_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.certs import Pki


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """A running server of each good kind, by kind: its address."""
    with serve(Kind.ECHO) as echo, serve(Kind.SOURCE) as source, serve(Kind.SINK) as sink:
        yield {one.kind.value: one.address for one in (echo, source, sink)}


@pytest.fixture(scope="module")
def balancer(
    servers: dict[str, str], pki: Pki, use: Callable[[Any], Any], balancer_for: Callable[[Any], Balancer]
) -> Balancer:
    """Listeners "echo", "source", "sink", one for each broken echo, and "forgetful", which resumes nothing."""
    broken = {name: use(Backend(manner)).entry() for name, manner in BROKEN.items()}
    groups = {name: {"address": address} for name, address in servers.items()} | broken
    listeners = {name: tls_listener(pki.server, ca=pki.root.path, group=name) for name in groups}
    listeners["forgetful"] = tls_listener(pki.server, ca=pki.root.path, group="echo", session_tickets=False)
    return balancer_for(
        {
            "node": {"workers": 1},
            "listeners": listeners,
            "server_groups": {name: server_group(entry) for name, entry in groups.items()},
        }
    )


@pytest.fixture
def target(balancer: Balancer, pki: Pki) -> Callable[..., Target]:
    """`target("echo")`: that listener, with the good client's certificate; more fields by name."""

    def make(listener: str, **fields: Any) -> Target:
        return Target(
            **{
                "address": f"127.0.0.1:{balancer.port(listener)}",
                "server_name": "www.example.com",
                "ca": pki.root.path,
                "certificate": pki.client.path,
                "private_key": pki.client.key_path,
                **fields,
            }
        )

    return make
