"""Every proxy does the same work, checked; what does something else is left out; and it is stopped with all it has."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from nlbbench import peers, proxies
from nlbbench.material import Material, provide, renew_server
from nlbbench.peers import Peer
from nlbbench.proxies import KINDS, Kind, Order
from nlbcore.errors import NlbError
from tests.support.backends import Backend, echo
from tests.support.programs import need
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def material(module_folder: Path) -> Material:
    return provide(module_folder / "material")


@pytest.fixture
def backend() -> Iterator[Backend]:
    server = Backend(echo)
    yield server
    server.close()


def binary(kind: Kind) -> Path:
    return Path(sys.executable).parent / "nlb" if kind.name == "nlb" else Path(need(kind.program))


@pytest.fixture
def start(tmp_path: Path, material: Material, backend: Backend) -> Callable[..., Peer]:
    def start(kind: Kind, *, workers: int = 1, tls: bool = True) -> Peer:
        order = Order(tmp_path / kind.name, peers.free_port(), (backend.address,), material, workers, tls=tls)
        return peers.start(kind.name, kind, binary(kind), order)

    return start


@contextmanager
def stopped(peer: Peer) -> Iterator[Peer]:
    """Stop it at the end, and see that nothing of it is left."""
    assert peer.running is not None
    try:
        yield peer
    finally:
        processes = [psutil.Process(pid) for pid in peer.processes()]
        peer.stop()
        assert not any(one.is_running() for one in processes)


@pytest.mark.parametrize("name", KINDS)
def test_the_life_of_a_proxy(name: str, start: Callable[..., Peer], material: Material, tmp_path: Path) -> None:
    kind = KINDS[name]
    with stopped(start(kind, workers=2)) as peer:
        count = len(peer.processes())
        assert peers.shows(peer, material, material.server)
        renewed = renew_server(material, tmp_path)
        assert not peers.shows(peer, material, renewed[0], patience=0)
        peer.reload(renewed)
        assert peers.shows(peer, material, renewed[0])
        peers.check(peer, material)
        if kind.worker:
            wait_until(lambda: len(peer.processes()) == count, "the old workers are gone")
            before = set(peer.processes())
            peer.kill_worker()
            wait_until(lambda: set(peer.processes()) - before, "a new worker is there")
            wait_until(lambda: not before <= set(peer.processes()), "the old one is gone")
            peers.check(peer, material)
        else:
            with pytest.raises(NlbError, match="threads of one process"):
                peer.kill_worker()


def test_a_plain_relay_is_checked_too(start: Callable[..., Peer]) -> None:
    with stopped(start(KINDS["nlb"], tls=False)) as peer:
        assert not peer.tls


def altered(kind: Kind, old: str, new: str) -> Kind:
    """The same proxy, told something else."""

    def configure(order: Order) -> list[str]:
        arguments = kind.configure(order)
        path = order.folder / arguments[-1]
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return arguments

    fields = {**kind.__dict__, "configure": configure}
    return Kind(**fields)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("haproxy", "verify required", "verify optional", "lets a client without a certificate in"),
        (
            "haproxy",
            "ciphersuites TLS_AES_128_GCM_SHA256",
            "ciphersuites TLS_AES_256_GCM_SHA384",
            "it negotiates TLSv1.3",
        ),
        ("haproxy", "server s0 127.0.0.1", "server s0 127.0.0.2:1 disabled #", "does not let the client in"),
        ("nginx", "listen 127.0.0.1", "nonsense 127.0.0.1", 'has ended at its start: .*unknown directive "nonsense"'),
    ],
    ids=["no certificate needed", "another suite", "no server", "does not start"],
)
def test_one_that_does_something_else_is_refused(
    name: str, old: str, new: str, message: str, start: Callable[..., Peer]
) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(NlbError, match=message):
        start(altered(KINDS[name], old, new))
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_running_address_is_not_ours_to_reload(material: Material) -> None:
    peer = Peer("elsewhere", "127.0.0.1:1")
    assert peer.roots == ()
    with pytest.raises(NlbError, match="it was not started here: it cannot be reloaded"):
        peer.reload((material.server, material.server_key))
    with pytest.raises(NlbError, match="it was not started here"):
        peer.kill_worker()
    with pytest.raises(OSError, match="refused"):
        peers.check(Peer("elsewhere", "127.0.0.1:1", tls=False), material)


def test_one_that_does_not_heed_the_signal(
    start: Callable[..., Peer], material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "ANSWER", 0.1)
    deaf = Kind(**{**KINDS["nginx"].__dict__, "reload": signal.SIGTRAP})
    with stopped(start(deaf)) as peer, pytest.raises(NlbError, match="it does not heed SIGTRAP"):
        peer.reload((material.server, material.server_key))


def test_a_free_port_is_no_outgoing_one() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(10_000 <= peers.free_port() < max(low, 12_000) for _ in range(10))
    assert proxies.CONNECTIONS > 1000
