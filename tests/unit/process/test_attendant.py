"""A helper process, real ones: its first word, new orders, its heart, its death and restart with back-off, its end."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
import pytest

from nlbcore.observe.log import EventLog
from nlbcore.process import attendant
from nlbcore.process.attendant import DELAYS, SILENCE, START_TIMEOUT, Attendant, beat, hear, received, say
from nlbcore.segment import HEARTS, Segment
from tests.support.waiting import stays, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

READY = 'os.write(control, b\'{"say": "ready"}\')\n'
OBEY = "os.read(control, 1)\n"
SLEEP = "import time\ntime.sleep(60)\n"


@dataclass(frozen=True)
class Program:
    """Orders for a small Python program, which knows its end of the control socket as `control`."""

    DESCRIPTORS: ClassVar[tuple[str, ...]] = ("control", "log", "other")

    text: str
    control: int
    log: int = -1
    other: int = -1
    interpreter: str = sys.executable

    def command(self) -> list[str]:
        return [self.interpreter, "-I", "-S", "-c", f"import os, sys\ncontrol = {self.control}\n{self.text}"]


class Helper:
    """An attendant with a program, a selector that is turned for it, and what was logged of it."""

    def __init__(self, log: Path, text: str) -> None:
        self.text = text
        self.interpreter = sys.executable
        self.given: dict[str, int] = {}
        self.heart = 0.0
        self.heard: list[dict[str, Any]] = []
        self.hears: Callable[[dict[str, Any]], None] = self.heard.append
        self.log = log
        self.fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.selector = selectors.DefaultSelector()
        self.attendant = Attendant(
            "log_writer",
            lambda control: Program(self.text, control, interpreter=self.interpreter, **self.given),
            EventLog(self.fd, "debug"),
            self.selector,
            lambda: int(self.heart * 1000),
            lambda packet: self.hears(packet),
        )

    def turn(self) -> None:
        for key, mask in self.selector.select(0):
            key.data(mask)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        def met() -> object:
            self.turn()
            return condition()

        wait_until(met, what)

    def ready(self) -> None:
        self.wait(lambda: self.attendant.ready, "it is ready")

    def start(self) -> None:
        self.attendant.start()
        self.ready()

    def events(self) -> list[str]:
        """Without the time."""
        return [line.partition(" ")[2] for line in self.log.read_text().splitlines()]

    def dies(self, now: float) -> None:
        """It is seen to be dead, at `now`."""

        def gone() -> bool:
            self.attendant.tick(now)
            return self.attendant.pid == 0

        self.wait(gone, "its death is noticed")

    def close(self) -> None:
        self.attendant.close(5)
        assert len(self.selector.get_map()) == 0
        self.selector.close()
        os.close(self.fd)


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[Helper]:
    """One that is obedient; not started."""
    made = Helper(tmp_path / "events", READY + OBEY)
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, theirs


def fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_life(helper: Helper) -> None:
    attendant = helper.attendant
    assert (attendant.pid, attendant.state, attendant.ready) == (0, "down", False)
    attendant.start()
    assert not attendant.ready
    helper.ready()
    process = psutil.Process(attendant.pid)
    attendant.tick(time.monotonic())
    assert attendant.state == "running"
    assert process.is_running()
    attendant.close(10)
    assert (attendant.pid, attendant.state, attendant.ready) == (0, "down", False)
    assert not process.is_running(), "it has ended, and has been waited for"
    attendant.close(10)
    assert helper.events() == []
    assert attendant.restarts == 0


def test_it_inherits_its_orders_descriptors_and_no_more(helper: Helper, tmp_path: Path) -> None:
    """Fresh, with no key in its memory and no descriptor that is none of its business."""
    secret, log = os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(secret, True)
    helper.given = {"log": log}
    found = tmp_path / "found"
    helper.text = (
        f"fds = {{int(name): os.readlink(f'/proc/self/fd/{{name}}') for name in os.listdir('/proc/self/fd')"
        f" if os.path.exists(f'/proc/self/fd/{{name}}')}}\n"
        f"open({str(found)!r}, 'w').write(f'{{sorted(set(fds) - {{control}})}} {{fds[0]}} {{fds[{log}]}}')\n{READY}{OBEY}"
    )
    try:
        helper.start()
    finally:
        os.close(secret)
        os.close(log)
    assert found.read_text() == f"[0, 1, 2, {log}] /dev/null /dev/zero"


def test_new_orders(helper: Helper, tmp_path: Path) -> None:
    """Their descriptors travel beside them; the same one twice travels once, and -1 says that there is none."""
    found = tmp_path / "found"
    helper.text = (
        "import array, json, socket\n"
        "sock = socket.socket(fileno=control)\n"
        f"{READY}"
        "data, rights, *_ = sock.recvmsg(65536, 1024)\n"
        "orders, fds = json.loads(data)['orders'], array.array('i', rights[0][2])\n"
        "names = [os.readlink(f'/proc/self/fd/{fd}') for fd in fds]\n"
        f"open({str(found)!r}, 'w').write(json.dumps([orders['log'], orders['other'], orders['control'], names]))\n"
        f"{READY}{OBEY}"
    )
    helper.start()
    log = os.open("/dev/zero", os.O_RDONLY)
    helper.given = {"log": log, "other": log}
    before = fds()
    helper.attendant.renew()
    assert fds() == before
    helper.attendant.ready = False
    helper.ready()
    os.close(log)
    assert json.loads(found.read_text()) == [0, 0, -1, ["/dev/zero"]]


def test_new_orders_for_one_that_has_much_to_read_are_not_lost(helper: Helper, tmp_path: Path) -> None:
    found = tmp_path / "found"
    helper.text = (
        f"{READY}while not os.path.exists({str(found)!r}):\n    pass\n"
        "while b'orders' not in os.read(control, 65536):\n    pass\n" + READY + OBEY
    )
    helper.start()
    while helper.attendant.tell({"x": "y" * 10_000}):
        pass
    helper.attendant.renew()
    helper.attendant.tick(time.monotonic())
    found.touch()
    helper.attendant.ready = False

    def told() -> bool:
        helper.attendant.tick(time.monotonic())
        return helper.attendant.ready

    helper.wait(told, "it gets them")


def test_without_a_process_nothing_is_said(helper: Helper) -> None:
    helper.attendant.renew()
    assert helper.attendant.tell({}) is False


def test_orders_in_a_packet(pair: tuple[socket.socket, socket.socket]) -> None:
    log = os.open("/dev/zero", os.O_RDONLY)
    assert say(pair[0], {"orders": {"text": "t", "control": -1, "log": 1, "other": 0}}, [pair[0].fileno(), log])
    os.close(log)
    heard = hear(pair[1])
    assert heard is not None
    packet, numbers = heard
    assert received(Program, packet, numbers) == Program("t", -1, numbers[1], numbers[0])
    assert os.readlink(f"/proc/self/fd/{numbers[1]}") == "/dev/zero"
    assert not any(os.get_inheritable(number) for number in numbers)
    attendant.close_all([*numbers, *numbers])


def test_a_long_packet(pair: tuple[socket.socket, socket.socket]) -> None:
    """The names of thousands of servers: more than a socket takes at once."""
    before = fds()
    packet = {"names": {str(row): f"server-{row}" * 5 for row in range(8192)}}
    assert say(pair[0], packet, [0, 0])
    assert say(pair[0], packet)
    heard = hear(pair[1])
    assert heard is not None
    assert heard[0] == packet
    assert len(heard[1]) == 2
    attendant.close_all(heard[1])
    assert hear(pair[1]) == (packet, [])
    assert fds() == before


@pytest.mark.parametrize("kind", ["pipe", "unsealed", "nothing", "rubbish"])
def test_a_long_packet_that_is_none(pair: tuple[socket.socket, socket.socket], kind: str) -> None:
    """Whoever sends something that does not answer must not stop the supervisor."""
    before = fds()
    if kind == "pipe":
        sent = list(os.pipe())
    elif kind == "nothing":
        sent = []
    else:
        sent = [os.memfd_create("x", os.MFD_ALLOW_SEALING)]
        os.write(sent[0], b"{}" if kind == "unsealed" else b"rubbish")
        if kind == "rubbish":
            fcntl.fcntl(sent[0], fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
    socket.send_fds(pair[0], [b"\0"], sent)
    attendant.close_all(sent)
    with pytest.raises(ValueError):
        hear(pair[1])
    assert fds() == before


def test_a_conversation(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        hear(theirs)
    assert say(ours, {"a": "ü" * 1000})
    assert say(ours, {})
    assert hear(theirs) == ({"a": "ü" * 1000}, [])
    assert hear(theirs) == ({}, [])
    ours.close()
    assert hear(theirs) is None
    assert say(theirs, {}) is False


RUBBISH = {
    "words": b"hello",
    "no text": b"\xff\xfe",
    "no object": b"[]",
    "depth": b"[" * 60_000,
    "size": b'{"say": "' + b"x" * 65536 + b'"}',
}


@pytest.mark.parametrize("data", RUBBISH.values(), ids=RUBBISH.keys())
def test_rubbish_and_its_descriptors(pair: tuple[socket.socket, socket.socket], data: bytes) -> None:
    before = fds()
    socket.send_fds(pair[0], [data], [0, 0, 0])
    with pytest.raises(ValueError):
        hear(pair[1])
    assert fds() == before


def test_as_many_descriptors_as_there_can_be(pair: tuple[socket.socket, socket.socket]) -> None:
    before = fds()
    assert say(pair[0], {}, [0] * 253)
    heard = hear(pair[1])
    assert heard is not None
    assert len(heard[1]) == 253
    attendant.close_all(heard[1])
    assert say(pair[0], {}, [0] * 254) is False
    assert fds() == before


def test_too_few_descriptors_left_for_those_that_come(pair: tuple[socket.socket, socket.socket]) -> None:
    before = fds()
    assert say(pair[0], {}, [0] * 10)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = next(number for number in range(limits[0]) if str(number) not in before)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, limits[1]))
    try:
        with pytest.raises(ValueError, match="not come whole"):
            hear(pair[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert fds() == before


def test_what_it_says_is_heard_and_what_it_sends_is_closed(helper: Helper) -> None:
    helper.text = (
        "import socket\nsock = socket.socket(fileno=control)\n"
        'socket.send_fds(sock, [b\'{"say": "changed"}\'], [0, 1, 2])\n' + READY + "sock.recv(1)"
    )
    helper.attendant.start()
    before = fds()
    helper.ready()
    assert helper.heard == [{"say": "changed"}]
    assert fds() == before


@pytest.mark.parametrize("data", ["b'rubbish'", 'b\'{"say": "nonsense"}\''])
def test_one_that_talks_nonsense_is_replaced(helper: Helper, data: str) -> None:
    def strict(_packet: dict[str, Any]) -> None:
        raise ValueError("nonsense")

    helper.hears = strict
    helper.text = READY + f"os.write(control, {data})\nos.write(control, {data})\n{SLEEP}"
    helper.attendant.start()
    helper.dies(time.monotonic())
    assert [line.split()[1] for line in helper.events()] == ["log_writer_misbehaves", "log_writer_died"]
    assert helper.events()[1].endswith("reason=SIGKILL restart_in=0.1s")


def test_it_is_started_again_later_and_later(helper: Helper) -> None:
    attendant = helper.attendant
    helper.start()
    expected = []
    for restarts, delay in enumerate([*DELAYS, DELAYS[-1]]):
        now = time.monotonic()
        first = attendant.pid
        os.kill(first, signal.SIGKILL)
        helper.dies(now)
        expected.append(f"error log_writer_died reason=SIGKILL restart_in={delay:g}s")
        attendant.tick(now + delay * 0.9)
        assert (attendant.pid, attendant.restarts, attendant.ready) == (0, restarts, False)
        attendant.tick(now + delay)
        helper.ready()
        assert attendant.pid not in (0, first)
        assert attendant.restarts == restarts + 1
        expected.append(f"info log_writer_started pid={attendant.pid}")
    now = time.monotonic() + DELAYS[-1] + 1
    os.kill(attendant.pid, signal.SIGABRT)
    helper.dies(now)
    assert helper.events() == [*expected, "error log_writer_died reason=SIGABRT restart_in=0.1s"], (
        "one that has lived long begins anew"
    )


def test_an_exit_is_a_death_too(helper: Helper) -> None:
    helper.text = READY + "sys.exit(7)"
    helper.attendant.start()
    helper.dies(time.monotonic())
    assert helper.events() == ['error log_writer_died reason="exit status 7" restart_in=0.1s']


def test_a_restart_that_fails_is_tried_again(helper: Helper) -> None:
    attendant = helper.attendant
    helper.start()
    now = time.monotonic()
    os.kill(attendant.pid, signal.SIGKILL)
    helper.dies(now)
    helper.interpreter = "/none"
    before = fds()
    attendant.tick(now + 0.1)
    assert fds() == before
    assert (attendant.pid, attendant.restarts) == (0, 0)
    assert helper.events()[-1] == 'error log_writer_not_started error="No such file or directory"'
    helper.interpreter = sys.executable
    attendant.tick(now + 0.9)
    assert attendant.pid == 0
    attendant.tick(now + 1.2)
    helper.ready()
    assert attendant.restarts == 1


def test_a_heart_that_stops(helper: Helper) -> None:
    """It is killed and replaced; the one that takes its place is not judged by the beats of the one before."""
    helper.start()
    begin = helper.heart = time.monotonic()
    first = helper.attendant.pid
    for half_seconds in range(int(2 * SILENCE)):
        helper.attendant.tick(begin + half_seconds / 2)
    helper.heart += 1
    for late in (0.4, 0.9):
        helper.attendant.tick(begin + SILENCE + late)
    assert helper.events() == []
    helper.attendant.tick(begin + SILENCE + 1.1)
    helper.attendant.tick(begin + SILENCE + 1.1)
    assert helper.events()[0] == f"error log_writer_stuck pid={first} silent=10.1s"
    helper.dies(begin + SILENCE + 1.2)
    assert len(helper.events()) == 2
    helper.attendant.tick(begin + SILENCE + 1.4)
    helper.ready()
    helper.attendant.tick(time.monotonic())
    assert helper.attendant.pid not in (0, first)


def test_a_supervisor_that_slept_accuses_nobody(helper: Helper) -> None:
    helper.start()
    begin = helper.heart = time.monotonic()
    helper.attendant.tick(begin)
    helper.attendant.tick(begin + 1000)
    helper.attendant.tick(begin + 1000.5)
    assert helper.events() == []
    for half_seconds in range(22):
        helper.attendant.tick(begin + 1000 + half_seconds / 2)
    assert [line.split()[1] for line in helper.events()] == ["log_writer_stuck"]


def test_no_first_word(helper: Helper) -> None:
    helper.text = SLEEP
    helper.attendant.start()
    now = time.monotonic()
    helper.attendant.tick(now + START_TIMEOUT - 1)
    assert helper.events() == []
    helper.attendant.tick(now + START_TIMEOUT)
    helper.dies(now + START_TIMEOUT)
    assert [line.split()[1] for line in helper.events()] == ["log_writer_stuck", "log_writer_died"]


def test_one_that_closes_its_control_socket_and_lives_on(helper: Helper) -> None:
    helper.text = READY + "os.close(control)\n" + SLEEP
    helper.attendant.start()
    helper.wait(lambda: not helper.selector.get_map(), "its end of the socket is seen")
    assert not helper.attendant.ready
    helper.attendant.tick(time.monotonic() + attendant.FINISH_TIMEOUT)
    helper.dies(time.monotonic())


def test_one_that_ignores_the_end_is_killed(helper: Helper) -> None:
    helper.text = READY + "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP
    helper.start()
    process = psutil.Process(helper.attendant.pid)
    begin = time.monotonic()
    helper.attendant.close(0.2)
    assert 0.2 <= time.monotonic() - begin < 5
    assert not process.is_running()


def test_one_that_is_not_needed_any_more(helper: Helper) -> None:
    """It ends beside the others' work, and is not started again."""
    helper.start()
    helper.attendant.finish()
    helper.dies(time.monotonic())
    helper.attendant.tick(time.monotonic() + 100)
    assert helper.attendant.state == "down"
    assert helper.events() == []
    helper.start()
    assert helper.attendant.restarts == 0


def test_one_that_is_not_needed_any_more_and_stays_is_killed(helper: Helper) -> None:
    helper.text = READY + SLEEP
    helper.start()
    helper.attendant.finish()
    helper.attendant.tick(time.monotonic() + attendant.FINISH_TIMEOUT)
    helper.dies(time.monotonic())
    assert [line.split()[1] for line in helper.events()] == ["log_writer_stuck"]


def test_revive(helper: Helper) -> None:
    """One that lives is left alone; one that has died does not wait for its turn."""
    helper.start()
    first = helper.attendant.pid
    helper.attendant.revive()
    assert helper.attendant.pid == first
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: psutil.Process(first).status() == psutil.STATUS_ZOMBIE, "it is dead")
    helper.attendant.revive()
    helper.ready()
    assert helper.attendant.pid != first
    assert helper.attendant.restarts == 1


def test_a_beat() -> None:
    segment = Segment.create(1)
    before = time.monotonic_ns() // 1_000_000
    for name in HEARTS:
        beat(segment, name)
    assert all(before <= heart <= before + 1000 for heart in segment.shared.hearts)
    os.close(segment.fd)


def test_signals_of_the_supervisor_are_not_its_own(helper: Helper) -> None:
    helper.text = "from nlbcore.process.attendant import ignore_signals\nignore_signals()\n" + READY + OBEY
    root = attendant.__file__.removesuffix("nlbcore/process/attendant.py")
    paths = [root, *sys.path]
    helper.text = f"sys.path[:] = {paths!r}\n{helper.text}"
    helper.start()
    for number in attendant.SIGNALS:
        os.kill(helper.attendant.pid, number)
    stays(lambda: psutil.Process(helper.attendant.pid).status() != psutil.STATUS_ZOMBIE, "it lives", 0.1)
