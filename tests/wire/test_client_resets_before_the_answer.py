"""A client that leaves with a reset while the answer is on its way is gone at once.

The kernel counts what it could not deliver for ever, so it must not be waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.backends import Backend, greet
from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.tls_client import connect
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], use: Callable[[Any], Any]) -> Balancer:
    server = use(Backend(greet(b"other")))
    return balancer_for({"listeners": {"plain": plain_listener()}, "server_groups": {"app": server_group(server)}})


def test_client_resets_before_the_answer(balancer: Balancer) -> None:
    """Thirty, since only some of them meet the moment; what is not gone at once would be there for ten seconds."""
    for _ in range(30):
        with connect(balancer.port("plain")) as client:
            client.sendall(b"x" * 900)
            client.recv(5)  # closing with unread bytes is a reset
    wait_until(lambda: balancer.ask("status")["connections"] == 0, "all are gone", 6)
