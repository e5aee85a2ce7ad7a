"""A slot: what it is waited for, who serves, and what a new worker keeps open."""

from __future__ import annotations

import os
import resource
from itertools import pairwise

import pytest

from nlbcore.process.channel import Channel, Message
from nlbcore.process.slot import DELAYS, Slot, State, Step, close_all_but


def test_a_new_one() -> None:
    slot, other = Slot(3), Slot(4)
    assert (slot.number, slot.state, slot.pid, slot.step) == (3, State.DOWN, 0, Step.NOTHING)
    assert slot.backoff.due == 0.0, "it is started at once"
    slot.living.add(1)
    slot.backoff.fail(100.0)
    assert (other.living, other.backoff.due) == (set(), 0.0), "no two slots have anything in common"


def test_entering_a_state() -> None:
    slot = Slot(0)
    slot.enter(State.STARTING, 7.5)
    assert (slot.state, slot.since) == (State.STARTING, 7.5)
    assert str(slot.state) == "starting", "as `status` calls it"


def test_who_serves() -> None:
    """Who has a worker that has come up, whether its heart beats or it is being taken out."""
    slot = Slot(0)
    found = set()
    for state in State:
        slot.enter(state, 0.0)
        if slot.serves:
            found.add(state)
    assert found == {State.RUNNING, State.STUCK, State.RETIRING}


def test_asking() -> None:
    slot = Slot(0)
    slot.ask(Step.PREPARE, 7)
    assert (slot.step, slot.asked) == (Step.PREPARE, 7)
    slot.ask(Step.NOTHING, 0)
    assert (slot.step, slot.asked) == (Step.NOTHING, 0)


def test_sending() -> None:
    """To one that has no worker, or whose worker is gone, it is no accident."""
    slot = Slot(0)
    slot.send(Message("STOP"))
    slot.channel, end = Channel.pair()
    slot.send(Message("ADOPT", slot=1))
    assert end.receive() == Message("ADOPT", slot=1)
    end.close()
    slot.send(Message("STOP"))
    slot.channel.close()


def test_longer_and_longer() -> None:
    assert all(0 < before < after for before, after in pairwise(DELAYS))
    assert DELAYS[-1] <= 60, "half a minute without a worker is long enough"


@pytest.mark.parametrize("kept", [[], [0], [1, 2], ["a"], [0, "b", "c"], ["last"]], ids=str)
def test_closing_all_but_some(kept: list[int | str]) -> None:
    """In a process of its own. Also the last one that the limit allows, though nothing is open on the way there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
            made = {name: os.dup(0) for name in ("a", "b", "c")}
            made["last"] = os.dup2(0, 299)
            numbers = sorted(made[one] if isinstance(one, str) else one for one in kept)
            close_all_but(numbers)
            code = 0 if [fd for fd in range(300) if is_open(fd)] == numbers else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
