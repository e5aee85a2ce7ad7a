"""Who is connected, and ending them: all workers are asked, and the answer comes with those who answer."""

from __future__ import annotations

import array
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.errors import NlbError
from nlbcore.process import census
from nlbcore.process.errand import PATIENCE
from nlbcore.process.slot import State
from tests.unit.process.generations import config, generation
from tests.unit.process.played import Played

if TYPE_CHECKING:
    from collections.abc import Iterator

    Answered = list[tuple[list[int], list[bytes]]]


@contextmanager
def played(count: int, folder: Path) -> Iterator[Played]:
    with Played(count, generation(1, config({})), folder) as made:
        yield made


def ask(workers: Played) -> Answered:
    """Ask who is connected; the list is filled when the answer comes, with what stands in the files."""
    answered: Answered = []

    def finished(slots: list[int], files: list[int]) -> None:
        answered.append((slots, [os.read(file, 100) for file in files]))  # from the beginning
        for file in files:
            os.close(file)

    census.connections(workers.fleet, finished)
    return answered


def dump(workers: Played, number: int, text: bytes) -> None:
    """A worker writes its connections, and says so."""
    (message,) = workers.heard(number)
    assert message.command == "DUMP"
    (file,) = message.fds
    os.write(file, text)
    os.close(file)
    workers.say(number, "DUMPED")


def test_who_is_connected(tmp_path: Path) -> None:
    """Each writes into a file of its own; the files come in the order of the slots, to be read from the beginning."""
    with played(3, tmp_path) as workers:
        answered = ask(workers)
        for number in (2, 0):
            dump(workers, number, b"of %d" % number)
            assert answered == []
        dump(workers, 1, b"")
        assert answered == [([0, 1, 2], [b"of 0", b"", b"of 2"])]


def test_only_those_who_serve_are_asked(tmp_path: Path) -> None:
    """One that is being taken out has connections; one that is stuck or not up answers nothing."""
    with played(5, tmp_path) as workers:
        states = (State.RUNNING, State.RETIRING, State.STUCK, State.STARTING, State.RETIRED)
        for slot, state in zip(workers.fleet.slots, states, strict=True):
            slot.state = state
        answered = ask(workers)
        for number in (0, 1):
            dump(workers, number, b"x")
        assert answered == [([0, 1], [b"x", b"x"])]
        assert [workers.heard(number) for number in (2, 3, 4)] == [[], [], []]


def test_nobody_serves(tmp_path: Path) -> None:
    with played(1, tmp_path) as workers:
        workers.fleet.slots[0].state = State.DOWN
        assert ask(workers) == [([], [])]
        killed: list[int] = []
        census.kill(workers.fleet, [1], killed.append)
        assert killed == [0]


def test_one_dies_meanwhile(tmp_path: Path) -> None:
    """Its file is closed: nobody reads half of it."""
    with played(2, tmp_path) as workers:
        answered = ask(workers)
        (message,) = workers.heard(1)
        os.write(message.fds[0], b"half")
        os.close(message.fds[0])
        dump(workers, 0, b"whole")
        assert answered == []
        workers.fleet._clear_up(workers.fleet.slots[1])
        assert answered == [([0], [b"whole"])]


def late(workers: Played) -> None:
    """As if the time for an answer were over, with all hearts beating."""
    now = time.monotonic()
    for slot in workers.fleet.slots:
        workers.segment.block(slot.number).heartbeat = int(now * 1000)
        for errand in slot.errands:
            errand.until -= PATIENCE
    workers.fleet.tick()


def test_one_that_never_answers(tmp_path: Path) -> None:
    """It holds nobody up, the next time neither; and an answer that comes too late is not taken for the next one."""
    with played(2, tmp_path) as workers:
        for _ in range(2):
            answered = ask(workers)
            dump(workers, 0, b"x")
            assert answered == []
            late(workers)
            assert answered == [([0], [b"x"])]
        for message in workers.heard(1):
            os.close(message.fds[0])
            workers.say(1, "DUMPED")
        answered = ask(workers)
        dump(workers, 0, b"x")
        dump(workers, 1, b"y")
        assert answered == [([0, 1], [b"x", b"y"])]


# -- ending them -------------------------------------------------------------------------------------------------------


def test_killing(tmp_path: Path) -> None:
    """All get all the numbers: nobody outside knows whose a connection is. The answer is the sum."""
    numbers = [5, 2**63 - 1, 0]
    with played(3, tmp_path) as workers:
        killed: list[int] = []
        census.kill(workers.fleet, numbers, killed.append)
        for number in range(3):
            (message,) = workers.heard(number)
            assert message.command == "KILL"
            assert array.array("Q", os.pread(message.fds[0], 100, 0)).tolist() == numbers
            os.close(message.fds[0])
            assert killed == []
            workers.say(number, "KILLED", count=number)
        assert killed == [3]


def test_several_errands_at_a_time(tmp_path: Path) -> None:
    """Answered in the order in which they were sent."""
    with played(1, tmp_path) as workers:
        killed: list[int] = []
        answered = ask(workers)
        census.kill(workers.fleet, [1], killed.append)
        for message in workers.heard(0):
            os.close(message.fds[0])
        workers.say(0, "DUMPED")
        assert (answered, killed) == ([([0], [b""])], [])
        workers.say(0, "KILLED", count=1)
        assert killed == [1]


@pytest.mark.parametrize(
    "numbers", [None, 5, "5", {"5": 1}, [-1], [2**63], [True], [1.0], ["5"], [None], [[5]]], ids=str
)
def test_what_are_no_numbers(tmp_path: Path, numbers: Any) -> None:
    """Whatever comes from the control socket; nobody is asked."""
    with played(1, tmp_path) as workers:
        with pytest.raises(NlbError, match="is a list of the numbers that `nlb conns` shows"):
            census.kill(workers.fleet, numbers, lambda _: None)
        assert workers.heard(0) == []


def test_no_numbers(tmp_path: Path) -> None:
    with played(1, tmp_path) as workers:
        killed: list[int] = []
        census.kill(workers.fleet, [], killed.append)
        (message,) = workers.heard(0)
        assert os.fstat(message.fds[0]).st_size == 0
        os.close(message.fds[0])
        workers.say(0, "KILLED")
        assert killed == [0]
