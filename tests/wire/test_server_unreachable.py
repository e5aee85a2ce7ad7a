"""Servers that refuse or hang: another one is tried; when none is left the client is closed with the right word in the log.

`connect_failed` (refused), `connect_timeout` (no answer within connect_timeout), `no_server` (none may be used: weight 0).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backends import Backend, Hanging, Refusing
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TlsClient

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.certs import Pki

LIMIT = 1.0
WORDS = {
    "refused": "connect_failed",
    "all_refused": "connect_failed",
    "hangs": "connect_timeout",
    "unix_missing": "connect_failed",
    "unused": "no_server",
}


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer], use: Callable[[Any], Any], backend: Backend, module_folder: Any, pki: Pki
) -> Balancer:
    """A listener for each group; names say what is wrong with it."""
    refusing, refusing_too, hanging = use(Refusing()), use(Refusing()), use(Hanging())
    groups = {
        "app": server_group(backend),
        "refused": server_group(refusing),
        "all_refused": server_group(refusing, refusing_too),
        "hangs": server_group(hanging),
        "unix_missing": server_group({"address": f"unix:{module_folder / 'nobody'}"}),
        "unused": server_group(backend.entry(weight=0)),
        "one_refuses": server_group(refusing.entry(name="bad"), backend.entry(name="good"), scheduler="rr"),
        "one_hangs": server_group(hanging.entry(name="bad"), backend.entry(name="good"), scheduler="rr"),
    }
    for group in groups.values():
        group["connect_timeout"] = f"{LIMIT:g}s"
    balancer = balancer_for(
        {
            "listeners": {name: tls_listener(pki.server, ca=pki.root.path, group=name) for name in groups},
            "server_groups": groups,
        }
    )
    balancer.expected_stderr = lambda text: all("warning" in line for line in text.splitlines())  # all weights are 0
    return balancer


@pytest.mark.parametrize("group", WORDS)
def test_nobody_there(balancer: Balancer, mutual: ssl.SSLContext, group: str) -> None:
    """The client's connection ends without a byte; a neighbour on another group goes on."""
    with TlsClient(balancer.port("app"), mutual) as neighbour, TlsClient(balancer.port(group), mutual) as client:
        neighbour.handshake().ping()
        start = time.monotonic()
        client.handshake()
        assert client.read_to_end()[0] == b""
        took = time.monotonic() - start
        neighbour.ping()
    line = balancer.line(client)
    assert line["termination"] == WORDS[group]
    assert line["client_cert_proven"] is True
    assert (took > LIMIT * 0.8) if group == "hangs" else (took < LIMIT * 0.8)
    assert took < LIMIT + 2


@pytest.mark.parametrize(("group", "count"), [("one_refuses", 6), ("one_hangs", 2)])
def test_another_server_is_tried(balancer: Balancer, mutual: ssl.SSLContext, group: str, count: int) -> None:
    """Every client is served, by the good server, whichever was chosen first; bytes sent early are not lost."""
    for _ in range(count):
        with TlsClient(balancer.port(group), mutual) as client:
            client.handshake().ping(b"sent before a server was found")
        line = balancer.line(client)
        assert (line["server"], line["termination"]) == ("good", "client_close")
