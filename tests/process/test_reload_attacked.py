"""The protocol of a reload under attack: workers die, hang and are missing at each arrow of it, and other signals come between.

A stopped worker (SIGSTOP) holds the window open: PREPARE is sent and not answered. Whatever happens then, in the end every
worker serves one and the same generation, and clients of the others never notice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.balancer import NLB, Balancer, alive, open_descriptors, server_group, tls_listener
from tests.support.reloading import Material, changed, descriptors, no_more_than, stopped
from tests.support.tls_client import TlsClient
from tests.support.waiting import wait_until
from tests.support.workers import Talkers, by_slot, end, refused, spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki
    from tests.support.reloading import Tables

    Run = Callable[..., Balancer]
    Connect = Callable[[Balancer], TlsClient]


@pytest.fixture
def material(pki: Pki, tmp_path: Path) -> Material:
    return Material(tmp_path / "material", pki.server)


@pytest.fixture
def other(pki: Pki) -> Issued:
    """The next server certificate."""
    return pki.root.server("www.example.com")


@pytest.fixture
def base(pki: Pki, backend: Backend, material: Material) -> Tables:
    return {
        "node": {"workers": 2, "drain_timeout": "30s"},
        "listeners": {"web": tls_listener(material, ca=pki.root.path)},
        "server_groups": {"app": server_group(backend)},
    }


@contextmanager
def talking(balancer: Balancer, context: ssl.SSLContext, slot: int) -> Iterator[None]:
    """Connections at the worker of a slot, which talk all the time: every byte comes back."""
    with ExitStack() as stack:
        clients = spread(stack, partial(tls_client, balancer.port(), context), balancer, 1)[slot]
        with Talkers(clients) as talkers:
            yield
            talkers.wait_rounds()
        assert not talkers.error


def all_serve(balancer: Balancer, context: ssl.SSLContext, generation: int, certificate: Issued) -> None:
    """Both workers serve one generation, and it alone is living."""
    with ExitStack() as stack:
        held = spread(stack, partial(tls_client, balancer.port(), context), balancer, 1)
        clients = [*held[0], *held[1]]
        for client in clients:
            assert client.peer_der() == certificate.der
    for client in clients:
        assert balancer.line(client)["generation"] == generation
    assert balancer.ask("status")["generation"] == generation
    wait_until(lambda: balancer.ask("status")["generations"] == [generation], "no other one is living")


@contextmanager
def command(balancer: Balancer) -> Iterator[subprocess.Popen[str]]:
    """`nlb reload`, which waits."""
    with subprocess.Popen(
        [NLB, "reload", "--socket", balancer.control_socket], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process


def sealed(pid: int) -> int:
    """How many generations a process has open as files."""
    return sum("/memfd:nlb-generation-" in one for one in open_descriptors(pid))


def asked(balancer: Balancer) -> None:
    """Wait until PREPARE is sent: the supervisor has the new generation beside the old one."""
    wait_until(lambda: sealed(balancer.pid) == 2, lambda: f"PREPARE\n{balancer.describe()}")


def test_killed_in_prepare(run: Run, base: Tables, context: ssl.SSLContext, material: Material, other: Issued) -> None:
    """A worker that is killed before it has answered is neither yes nor no: the other one wins, and the next worker in that
    slot begins with the new generation.
    """
    balancer = run(base)
    before = descriptors(balancer)
    victim = by_slot(balancer)[0]
    material.renew(other)
    with talking(balancer, context, 1), stopped(victim), command(balancer) as process:
        asked(balancer)
        assert process.poll() is None
        end(victim, signal.SIGKILL)
        assert process.wait(10) == 0
        balancer.wait_event("worker_started", worker=0)
    balancer.wait_event("worker_died", worker=0, reason="SIGKILL")
    all_serve(balancer, context, 2, other)
    no_more_than(balancer, before)


def test_hangs_in_prepare(run: Run, base: Tables, context: ssl.SSLContext, material: Material, other: Issued) -> None:
    """A worker that hangs is killed for its silence after 3 s as always, and the reload goes well with the other one."""
    balancer = run(base)
    sleeper = by_slot(balancer)[1]
    material.renew(other)
    with talking(balancer, context, 0), stopped(sleeper), command(balancer) as process:
        assert process.wait(15) == 0
        balancer.wait_event("worker_killed", worker=1, pid=sleeper.pid)
        balancer.wait_event("worker_started", worker=1)
    all_serve(balancer, context, 2, other)


def test_hangs_and_comes_back(
    run: Run, base: Tables, context: ssl.SSLContext, material: Material, other: Issued
) -> None:
    """A worker that hangs for a second in the middle answers late; nobody is killed, both serve the new generation."""
    balancer = run(base)
    pids = [worker.pid for worker in balancer.workers()]
    material.renew(other)
    with command(balancer) as process:
        with stopped(by_slot(balancer)[0]):
            asked(balancer)
            balancer.wait_event("worker_stuck", worker=0)
        assert process.wait(10) == 0
    assert [worker.pid for worker in balancer.workers()] == pids
    all_serve(balancer, context, 2, other)


def test_all_killed_in_prepare(run: Run, base: Tables, context: ssl.SSLContext, material: Material, pki: Pki) -> None:
    """A generation that not one worker could make ready does not win: the old one is started again, everywhere."""
    balancer = run(base)
    material.renew(pki.root.server("www.example.com"))
    victims = balancer.workers()
    with command(balancer) as process:
        with stopped(victims[0]), stopped(victims[1]):
            asked(balancer)
            for victim in victims:
                end(victim, signal.SIGKILL)
        assert process.wait(10) == 1
    for slot in (0, 1):
        balancer.wait_event("worker_started", worker=slot)
    assert balancer.ask("status")["reload"]["successful"] is False
    all_serve(balancer, context, 1, pki.server)


def test_killed_in_commit(run: Run, base: Tables, context: ssl.SSLContext, material: Material, other: Issued) -> None:
    """A worker that has said READY and dies before it has done COMMIT: the generation is in force all the same."""
    balancer = run(base)
    before = descriptors(balancer)
    victim, sibling = by_slot(balancer)[1], by_slot(balancer)[0]
    material.renew(other)
    with talking(balancer, context, 0), stopped(victim), command(balancer) as process:
        with stopped(sibling):
            asked(balancer)
            victim.send_signal(signal.SIGCONT)
            time.sleep(0.3)  # it says READY
            assert sealed(victim.pid) == 0
            victim.send_signal(signal.SIGSTOP)
        wait_until(lambda: balancer.ask("status")["generation"] == 2, "the decision")
        assert process.poll() is None, "it is not asked for COMMIT"
        end(victim, signal.SIGKILL)
        assert process.wait(10) == 0
        balancer.wait_event("worker_started", worker=1)
    all_serve(balancer, context, 2, other)
    no_more_than(balancer, before)


def test_hangs_in_commit(run: Run, base: Tables, context: ssl.SSLContext, material: Material, other: Issued) -> None:
    """The same, but it hangs: it is killed after 3 s, and never serves the old generation beside the new one."""
    balancer = run(base)
    victim, sibling = by_slot(balancer)[0], by_slot(balancer)[1]
    material.renew(other)
    with stopped(victim), command(balancer) as process:
        with stopped(sibling):
            asked(balancer)
            victim.send_signal(signal.SIGCONT)
            time.sleep(0.3)  # it says READY
            victim.send_signal(signal.SIGSTOP)
        wait_until(lambda: balancer.ask("status")["generation"] == 2, "the decision")
        assert process.wait(15) == 0
        balancer.wait_event("worker_killed", worker=0, pid=victim.pid)
        balancer.wait_event("worker_started", worker=0)
    all_serve(balancer, context, 2, other)


def test_killed_at_any_moment(run: Run, base: Tables, context: ssl.SSLContext, pki: Pki, material: Material) -> None:
    """A worker that is killed a little later in each reload: each is answered and goes well, and in the end both workers serve
    the same.
    """
    balancer = run(base)
    certificates = [pki.root.server("www.example.com") for _ in range(2)]
    rounds = 2
    with talking(balancer, context, 0):
        for number in range(rounds):
            material.renew(certificates[number % 2])
            mark = len(balancer.events())
            victim = by_slot(balancer)[1]
            with command(balancer) as process:
                wait_until(lambda: sealed(balancer.pid) == 2 or process.poll() is not None, "PREPARE")
                time.sleep(number / 500)
                victim.send_signal(signal.SIGKILL)
                assert process.wait(10) == 0, balancer.describe()
            balancer.wait_event("worker_started", 15, since=mark, worker=1)
    all_serve(balancer, context, 1 + rounds, certificates[(rounds - 1) % 2])


def test_while_a_slot_waits(run: Run, base: Tables, context: ssl.SSLContext, material: Material, other: Issued) -> None:
    """A slot in back-off is not waited for; its next worker begins with the new generation."""
    balancer = run(base)
    for _ in range(3):  # the third delay is long enough
        mark = len(balancer.events())
        end(by_slot(balancer)[1], signal.SIGKILL)
        balancer.wait_event("worker_died", since=mark)
        if len(balancer.find_events("worker_died")) < 3:
            balancer.wait_event("worker_started", since=mark)
    material.renew(other)
    balancer.reload()
    assert balancer.ask("status")["workers"][1]["state"] == "down"
    balancer.wait_event("worker_started", since=mark, worker=1)
    all_serve(balancer, context, 2, other)


def test_new_listener_for_a_worker_that_was_down(run: Run, base: Tables, context: ssl.SSLContext, pki: Pki) -> None:
    """A listener that is added while a slot is down is served there too, by its sibling and then by its next worker."""
    balancer = run(base)
    for _ in range(2):
        mark = len(balancer.events())
        end(by_slot(balancer)[1], signal.SIGKILL)
        balancer.wait_event("worker_died", since=mark)
        if len(balancer.find_events("worker_died")) < 2:
            balancer.wait_event("worker_started", since=mark)
    new = {**tls_listener(pki.server, ca=pki.root.path)}
    balancer.rewrite(changed(base, new=new))
    balancer.reload()
    visit = partial(tls_client, balancer.port("new"), context)
    for _ in range(20):
        with closing(visit()) as client:
            client.ping(timeout=2)
    balancer.wait_event("worker_started", since=mark, worker=1)
    with ExitStack() as stack:
        spread(stack, visit, balancer, 1)


@pytest.fixture
def reading(run: Run, base: Tables) -> tuple[Balancer, psutil.Process, str]:
    """A balancer whose checker hangs in a reload, because the configuration is a pipe into which nobody writes; the checker;
    and what one could write.
    """
    balancer = run(base)
    balancer.rewrite(changed(base, web={"cps": 100_000}))
    text = balancer.path.read_text()
    balancer.path.unlink()
    os.mkfifo(balancer.path)
    balancer.signal(signal.SIGHUP)
    (checker,) = wait_until(lambda: balancer.titled("nlb: checker"), "the checker")
    return balancer, checker, text


def test_checker_is_killed(
    reading: tuple[Balancer, psutil.Process, str], base: Tables, context: ssl.SSLContext, pki: Pki
) -> None:
    """The reload is refused, and the next one goes well."""
    balancer, checker, _ = reading
    with talking(balancer, context, 0):
        end(checker, signal.SIGKILL)
        event = balancer.wait_event("reload_refused")
    assert "checker" in event["reason"]
    balancer.path.unlink()
    balancer.rewrite(base)
    balancer.reload()
    all_serve(balancer, context, balancer.ask("status")["generation"], pki.server)
    assert not balancer.titled("nlb: checker")


def test_term_while_it_is_checked(reading: tuple[Balancer, psutil.Process, str], context: ssl.SSLContext) -> None:
    """The balancer does not wait for the checker."""
    balancer, checker, _ = reading
    with closing(tls_client(balancer.port(), context)) as client:
        client.ping()
        balancer.signal(signal.SIGTERM)
        wait_until(lambda: refused(balancer.port()), "the listener closes")
        client.ping(b"still here" * 1000)
    balancer.wait_exit(0)
    assert not alive(checker)


def test_worker_dies_while_it_is_checked(reading: tuple[Balancer, psutil.Process, str]) -> None:
    """It is started again meanwhile, and takes part in the reload."""
    balancer, checker, text = reading
    end(by_slot(balancer)[0], signal.SIGKILL)
    balancer.wait_event("worker_started", worker=0)
    balancer.path.write_text(text)
    assert balancer.wait_event("reloaded")["generation"] == "2"
    wait_until(lambda: balancer.ask("status")["generations"] == [2], "both serve it")
    wait_until(lambda: not alive(checker), "the checker ends")


def test_hangups_are_merged(run: Run, base: Tables, context: ssl.SSLContext, material: Material, other: Issued) -> None:
    """Many HUPs and commands while one reload is on its way are one more after it, which all of them are answered with."""
    balancer = run(base)
    material.renew(other)
    with ExitStack() as stack, command(balancer) as first:
        with stopped(by_slot(balancer)[0]):
            asked(balancer)
            for _ in range(50):
                balancer.signal(signal.SIGHUP)
                time.sleep(0.002)  # a signal that is pending already is one
            late = [stack.enter_context(command(balancer)) for _ in range(3)]
            material.renew(other)
            time.sleep(0.8)  # they have asked
        assert [process.wait(10) for process in (first, *late)] == [0, 0, 0, 0]
    status = balancer.ask("status")
    assert status["reloads"] == {**status["reloads"], "successful": 2, "failed": 0}
    all_serve(balancer, context, 2, other)


def test_term_in_prepare(run: Run, base: Tables, context: ssl.SSLContext, material: Material, other: Issued) -> None:
    """The balancer stops: the reload is refused with that reason, clients go on to their end, exit 0."""
    balancer = run(base)
    material.renew(other)
    with closing(tls_client(balancer.port(), context)) as client, command(balancer) as process:
        client.ping()
        with stopped(by_slot(balancer)[0]):
            asked(balancer)
            balancer.signal(signal.SIGTERM)
            assert process.wait(5) == 1
            assert process.stderr is not None
            assert "stop" in process.stderr.read()
        client.ping(b"still here" * 1000)
        wait_until(lambda: refused(balancer.port()), "the listener closes")
        client.close()
        balancer.wait_exit(0)
    assert balancer.find_events("reload_refused")


def test_supervisor_killed_in_prepare(
    tmp_path: Path, base: Tables, context: ssl.SSLContext, material: Material, other: Issued
) -> None:
    """Every process ends soon, one that was stopped as soon as it goes on; the next start serves the new material."""
    balancer = Balancer(tmp_path, base).start()
    try:
        material.renew(other)
        family = balancer.processes()
        sleeper = by_slot(balancer)[0]
        with command(balancer) as process:
            with stopped(sleeper):
                asked(balancer)
                balancer.signal(signal.SIGKILL)
                wait_until(lambda: not [one for one in family if alive(one) and one != sleeper], "the others end", 5)
            assert process.wait(5) != 0
        wait_until(lambda: not alive(sleeper), "the worker that was stopped ends", 5)
    finally:
        balancer.kill()
    with balancer:
        all_serve(balancer, context, 1, other)
