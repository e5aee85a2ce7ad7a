"""Fixtures of every test, and what is checked after each: no leaked descriptor, process or thread, an empty stderr."""

from __future__ import annotations

import gc
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import hypothesis
import psutil
import pytest

from tests.support.balancer import Balancer
from tests.support.certs import Pki
from tests.support.ports import reserved
from tests.support.tls_client import TLS12, TLS13
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

TEST_TIMEOUT = 60


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors. Hypothesis judges no example by the clock: a busy machine would fail it. Ctrl-C reaches what tests
    start, also where a shell has started us in the background and so without it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("filterwarnings", "error")
    hypothesis.settings.register_profile("nlb", deadline=None)
    hypothesis.settings.load_profile("nlb")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A time limit on every test; what takes minutes runs only when it is asked for, with `-m`."""
    if not config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT))


def pytest_collection_finish() -> None:
    """What is there now stays: the collection after each test looks at what the test has made, and not at all modules."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests in one process: they share one balancer."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The standard certificates, made once per test process."""
    folder = tmp_path_factory.mktemp("pki")
    folder.chmod(0o700)
    return Pki(folder)


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder for what a file's tests share."""
    return tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])


@pytest.fixture(scope="module")
def use(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """`use(server)`: close it when the file's tests are over, and return it."""

    def register(thing: Any) -> Any:
        request.addfinalizer(thing.close)
        return thing

    return register


@pytest.fixture(scope="module")
def balancer_for(
    use: Callable[[Any], Any], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[Mapping[str, Any]], Balancer]:
    """`balancer_for(configuration)`: a running balancer for all tests of a file, stopped (and checked) after them."""

    def start(configuration: Mapping[str, Any]) -> Balancer:
        balancer = Balancer(tmp_path_factory.mktemp("nlb"), configuration).start()
        request.addfinalizer(balancer.stop)
        return balancer

    return start


@pytest.fixture(params=[TLS12, TLS13], ids=["tls12", "tls13"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    """The test runs once per TLS version."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """After each test: descriptors, threads and processes are back to what they were, in the balancer and here."""
    me = psutil.Process()
    threads = set(threading.enumerate())
    children = {child.pid for child in me.children()}
    descriptors = me.num_fds() - reserved()
    yield
    gc.collect()
    for balancer in list(Balancer.running):
        balancer.check_leaks()
        if balancer.exit_code is None:
            balancer.check_stderr()
    wait_until(lambda: set(threading.enumerate()) <= threads, lambda: f"threads end: {threading.enumerate()}")
    more = {child.pid for child in me.children()} - children
    assert not more, f"processes left behind: {more}"
    wait_until(lambda: me.num_fds() - reserved() <= descriptors, lambda: f"descriptors are closed: {_descriptors()}")


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{name}={os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue
    return found
