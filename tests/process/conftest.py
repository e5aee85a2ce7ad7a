"""What most files here use: an echo server, and balancers with two workers whose processes the test ends."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.reloading import changed
from tests.support.tls_client import client_context
from tests.wire.conftest import backend, mutual

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki
    from tests.support.reloading import Tables

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


# -- modes of client authentication: of test_reload_modes.py and test_reload_half_way.py -----------------------------------


@pytest.fixture(scope="module")
def base(pki: Pki, backend: Backend) -> Tables:
    """A listener with a certificate for another name too, of which every refusal is told."""
    return {
        "node": {"workers": 1},
        "log": {"refusals_per_second": 0},
        "listeners": {"web": tls_listener(pki.server, pki.root.server("other.example.com"), ca=pki.root.path)},
        "server_groups": {"app": server_group(backend)},
    }


@pytest.fixture(scope="module")
def running(balancer_for: Callable[..., Balancer], base: Tables) -> Balancer:
    """A balancer of `base`, for all tests of a file."""
    return balancer_for(base)


@pytest.fixture
def enforce(running: Balancer, base: Tables, pki: Pki) -> Iterator[Callable[..., dict[str, Any]]]:
    """`enforce(MODE, ...)`: the mode, brought into force by a reload; the answer."""

    def make(mode: str, **auth: object) -> dict[str, Any]:
        running.rewrite(changed(base, web={"client_auth": {"mode": mode, "ca": str(pki.root.path), **auth}}))
        return running.reload()

    yield make
    running.rewrite(base)
    running.reload()


@pytest.fixture(scope="module")
def certificates(pki: Pki) -> dict[str, Issued | None]:
    """Of a client without one, of a good one and of a bad one."""
    return {"none": None, "good": pki.client, "bad": pki.bad_client("unknown_ca")}
