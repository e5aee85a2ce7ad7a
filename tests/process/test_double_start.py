"""A second balancer in the place of a running one is refused and disturbs nothing: by the control socket, and by the port."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.balancer import Balancer
from tests.support.workers import PlainClient, Visitors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def refusal(balancer: Balancer, request: pytest.FixtureRequest) -> str:
    """What a second one prints, that ends with 1."""
    request.addfinalizer(balancer.kill)
    balancer.expected_stderr = lambda text: text.startswith("nlb: ") and text.count("\n") == 1
    balancer.launch().wait_exit(1)
    return balancer.stderr()


def test_same_configuration(
    run: Callable[..., Balancer],
    tables: Callable[..., dict[str, Any]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """It names the running one's process and socket; the running one serves all the time and still answers commands."""
    first = run(tables())
    second = Balancer(tmp_path, first.path.read_text())
    with Visitors(partial(PlainClient, first.port("plain"))) as visitors:
        said = refusal(second, request)
    visitors.all_served(0, 3.0)
    assert f"pid {first.pid}" in said
    assert str(first.control_socket) in said
    status = first.status()
    assert (status["pid"], status["state"]) == (first.pid, "running")
    assert first.exit_code is None


def test_same_port(
    run: Callable[..., Balancer],
    tables: Callable[..., dict[str, Any]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """With a control socket of its own it is stopped by the port: it must not share it silently."""
    configuration = tables()
    first = run(configuration)
    del configuration["listeners"]["web"]
    second = Balancer(tmp_path, configuration)
    with Visitors(partial(PlainClient, first.port("plain"))) as visitors:
        said = refusal(second, request)
        assert f"127.0.0.1:{first.port('plain')}" in said
        assert "another process listens there" in said
        visitors.wait_since(0, 20)
    visitors.all_served(0, 3.0)
    assert not second.control_socket.exists()
    assert first.status()["state"] == "running"
