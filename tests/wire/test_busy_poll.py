"""A worker that looks for the next message before it sleeps (`node.busy_poll`) sleeps all the same when none comes soon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TlsClient, client_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Pki

SECONDS = 0.5


@pytest.fixture(scope="module")
def configuration(backend: Backend, pki: Pki) -> dict[str, Any]:
    return {
        "listeners": {"web": tls_listener(pki.server, ca=pki.root.path)},
        "server_groups": {"app": server_group(backend)},
    }


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], configuration: dict[str, Any]) -> Balancer:
    return balancer_for(configuration)


def spent(balancer: Balancer) -> float:
    """Seconds of the worker on a processor."""
    return sum(balancer.worker.cpu_times()[:2])


@pytest.mark.parametrize("pause", [0.005, SECONDS], ids=["seldom", "silent"])
def test_after_a_burst(balancer: Balancer, pki: Pki, pause: float) -> None:
    with TlsClient(balancer.port(), client_context(pki.root.path, None, pki.client)) as client:
        client.handshake()
        for _ in range(1000):
            client.ping()
        before, begin = spent(balancer), time.monotonic()
        while time.monotonic() - begin < SECONDS:
            time.sleep(pause)  # time is the behaviour
            client.ping()
        assert spent(balancer) - before < (time.monotonic() - begin) / 4


def test_on_and_off_by_reload(balancer: Balancer, configuration: dict[str, Any], pki: Pki) -> None:
    with TlsClient(balancer.port(), client_context(pki.root.path, None, pki.client)) as client:
        client.handshake().ping()
        for change, wanted in (("true -> false", False), ("false -> true", True)):
            balancer.rewrite({**configuration, "node": {"busy_poll": wanted}})
            assert balancer.reload()["changes"] == [f"node.busy_poll: {change}"]
            for _ in range(100):
                client.ping()
