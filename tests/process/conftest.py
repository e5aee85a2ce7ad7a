"""What most files here use: an echo server, and balancers with two workers whose processes the test ends."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.tls_client import client_context
from tests.wire.conftest import backend, mutual

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.backends import Backend
    from tests.support.certs import Pki

__all__ = ["backend", "mutual"]


@pytest.fixture
def context(pki: Pki) -> ssl.SSLContext:
    """A good client."""
    return client_context(pki.root.path, None, pki.client)


@pytest.fixture(scope="module")
def tables(pki: Pki, backend: Backend) -> Callable[..., dict[str, Any]]:
    """`tables(workers=2, ...)`: a configuration with the listeners "web" (client certificates required) and "plain" on
    ports of their own, the echo server behind both; the options go to `[node]`.
    """

    def make(**node: object) -> dict[str, Any]:
        return {
            "node": {"workers": 2, **node},
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path), "plain": plain_listener()},
            "server_groups": {"app": server_group(backend)},
        }

    return make


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Balancer]]:
    """`run(configuration)`: a running balancer of this test, in which processes may be replaced; ended with the test, by TERM
    and with all checks where it still runs.
    """
    with ExitStack() as stack:

        def start(configuration: Mapping[str, Any]) -> Balancer:
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            balancer = Balancer(folder, configuration)
            balancer.restarts_expected = True
            stack.callback(balancer.kill)
            stack.callback(balancer.stop)
            return balancer.start()

        yield start
