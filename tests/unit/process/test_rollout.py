"""A rollout: all workers serve the new generation or none does, whoever refuses, dies or says nothing."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.address import Endpoint
from nlbcore.process.channel import ANY, DESCRIPTORS, Channel, Message
from nlbcore.process.rollout import COMMIT_TIMEOUT, PREPARE_TIMEOUT, Outcome, Rollout, handed_over
from nlbcore.process.slot import Slot, State, Step
from nlbcore.process.sockets import Address
from tests.unit.process.generations import config, generation
from tests.unit.process.played import Played

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nlbcore.process.channel import Answer

    Said = list[tuple[str, int]]


class Generation:
    """What a rollout looks at of a snapshot."""

    generation = 5


class Workers:
    """Slots with channels whose other ends a test reads, and a rollout to them; `log` is what came of it, in order."""

    def __init__(self, count: int, added: Mapping[str, Address] | None = None) -> None:
        self.slots = [Slot(number, State.RUNNING) for number in range(count)]
        self.ends: list[Channel] = []
        for slot in self.slots:
            slot.channel, end = Channel.pair()
            self.ends.append(end)
        self.sealed = os.memfd_create("generation")
        self.log: list[Any] = []
        self.rollout = self.another(added)

    def another(self, added: Mapping[str, Address] | None = None) -> Rollout:
        self.rollout = Rollout(
            Generation(),  # type: ignore[arg-type]
            self.sealed,
            added or {},
            lambda: self.log.append("decided"),
            self.log.append,
            lambda slot: self.log.append(f"killed {slot.number}"),
        )
        return self.rollout

    def begin(self, *numbers: int) -> None:
        self.rollout.begin([self.slots[number] for number in numbers] if numbers else self.slots)

    def heard(self, number: int) -> Said:
        """What a worker has been told since the last time."""
        return [(message.command, message.generation) for message in self.messages(number)]

    def messages(self, number: int) -> list[Message]:
        found = []
        try:
            while (message := self.ends[number].receive()) is not None:
                found.append(message)
                for fd in message.fds:
                    os.close(fd)
        except BlockingIOError:
            pass
        return found

    def all_heard(self) -> list[Said]:
        return [self.heard(number) for number in range(len(self.slots))]

    def ready(self, *numbers: int) -> None:
        for number in numbers:
            self.rollout.ready(self.slots[number])

    def close(self) -> None:
        os.close(self.sealed)
        for slot, end in zip(self.slots, self.ends, strict=True):
            assert slot.channel is not None
            slot.channel.close()
            end.close()


@pytest.fixture
def workers() -> Iterator[Callable[..., Workers]]:
    made: list[Workers] = []

    def make(*arguments: Any) -> Workers:
        made.append(Workers(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


PREPARE: Said = [("PREPARE", 5)]
COMMIT: Said = [("COMMIT", 5)]
ABORT: Said = [("ABORT", 5)]


def steps(workers: Workers) -> list[tuple[Step, int]]:
    return [(slot.step, slot.asked) for slot in workers.slots]


def test_all_of_them(workers: Callable[..., Workers]) -> None:
    """Nobody is told before the last one is ready, and it is decided before anybody is told."""
    three = workers(3)
    three.begin()
    assert three.all_heard() == [PREPARE] * 3
    assert steps(three) == [(Step.PREPARE, 5)] * 3
    three.ready(2, 0)
    assert three.all_heard() == [[]] * 3
    assert (three.log, three.rollout.committing) == ([], False)
    decided = three.log.append
    three.rollout._decided = lambda: decided(three.all_heard())
    three.ready(1)
    assert three.log == [[[]] * 3]
    assert three.rollout.committing
    assert three.all_heard() == [COMMIT] * 3
    assert steps(three) == [(Step.COMMIT, 5)] * 3
    for number, closed in ((1, 4), (0, 0), (2, 3)):
        assert not three.rollout.over
        three.rollout.done(three.slots[number], closed)
    assert three.log[1:] == [Outcome("", 7)]
    assert three.rollout.over
    assert three.all_heard() == [[]] * 3


def test_they_get_the_generation_itself(workers: Callable[..., Workers]) -> None:
    one = workers(1)
    one.begin()
    message = one.ends[0].receive()
    assert message is not None
    (received,) = message.fds
    assert os.path.sameopenfile(received, one.sealed)
    os.close(received)


def test_without_workers_it_is_in_force_at_once(workers: Callable[..., Workers]) -> None:
    """All have died at the same time: those that are started next are started with it."""
    none = workers(0)
    none.begin()
    assert none.log == ["decided", Outcome()]


def test_one_refuses(workers: Callable[..., Workers]) -> None:
    """It is aborted with all, who has refused it too: the sockets that came with it are nobody's."""
    three = workers(3)
    three.begin()
    three.all_heard()
    three.ready(0)
    three.rollout.refused(three.slots[1], "ValueError: no")
    assert three.log == [Outcome("worker 1 refuses it: ValueError: no")]
    assert three.all_heard() == [ABORT] * 3
    assert steps(three) == [(Step.NOTHING, 0)] * 3


def test_answers_that_come_too_late(workers: Callable[..., Workers]) -> None:
    """They have crossed with the ABORT: nothing comes of them."""
    three = workers(3)
    three.begin()
    three.rollout.refused(three.slots[1], "no")
    three.all_heard()
    three.ready(0, 2)
    three.rollout.refused(three.slots[2], "no")
    three.rollout.gone(three.slots[0])
    three.rollout.tick(time.monotonic() + 1000)
    assert three.log == [Outcome("worker 1 refuses it: no")]
    assert COMMIT not in three.all_heard()


def test_a_death_before_the_decision_is_neither_yes_nor_no(workers: Callable[..., Workers]) -> None:
    three = workers(3)
    three.begin()
    three.ready(0, 1)
    three.rollout.gone(three.slots[0])  # it was ready
    assert three.log == []
    three.rollout.gone(three.slots[2])  # it was not
    assert three.log == ["decided"]
    three.rollout.done(three.slots[1], 2)
    assert three.log == ["decided", Outcome("", 2)]
    assert [heard[1:] for heard in three.all_heard()] == [[], COMMIT, []]


def test_all_die_of_it(workers: Callable[..., Workers]) -> None:
    """A generation that nobody has been able to make ready does not win."""
    two = workers(2)
    two.begin()
    two.ready(0)
    two.rollout.gone(two.slots[0])
    two.rollout.gone(two.slots[1])
    assert two.log == [Outcome("every worker has died of it")]


def test_deaths_after_the_decision(workers: Callable[..., Workers]) -> None:
    """Their successors are started with the new generation; the others are still waited for."""
    three = workers(3)
    three.begin()
    three.ready(0, 1, 2)
    three.rollout.gone(three.slots[1])
    three.rollout.done(three.slots[0], 1)
    assert three.log == ["decided"]
    three.rollout.gone(three.slots[2])
    three.rollout.gone(three.slots[0])  # it has done it, and dies
    assert three.log == ["decided", Outcome("", 1)]


def test_silence(workers: Callable[..., Workers]) -> None:
    """For once it is a no; who says nothing a second time in a row is killed."""
    two = workers(2)
    two.begin()
    two.ready(0)
    two.rollout.tick(time.monotonic() + PREPARE_TIMEOUT - 1)
    assert two.log == []
    two.rollout.tick(time.monotonic() + PREPARE_TIMEOUT + 1)
    outcome = Outcome(f"no answer from worker 1 within {PREPARE_TIMEOUT:g} s")
    assert two.log == [outcome]
    assert two.all_heard() == [PREPARE + ABORT] * 2
    two.another().begin(two.slots)
    two.ready(0)
    two.rollout.tick(time.monotonic() + PREPARE_TIMEOUT + 1)
    assert two.log == [outcome, "killed 1", outcome]


def test_one_that_has_answered_meanwhile_is_given_another_chance(workers: Callable[..., Workers]) -> None:
    one = workers(1)
    for answers in (False, True, False):
        one.another().begin(one.slots)
        if answers:
            one.ready(0)
        else:
            one.rollout.tick(time.monotonic() + PREPARE_TIMEOUT + 1)
    assert [said for said in one.log if isinstance(said, str)] == ["decided"]


def test_silence_after_the_decision(workers: Callable[..., Workers]) -> None:
    """It must not serve the old generation: it is killed, and waited for until it is gone."""
    two = workers(2)
    two.begin()
    two.ready(0, 1)
    two.rollout.done(two.slots[0], 0)
    now = time.monotonic()
    two.rollout.tick(now + COMMIT_TIMEOUT - 1)
    assert two.log == ["decided"]
    two.rollout.tick(now + COMMIT_TIMEOUT + 1)
    two.rollout.tick(now + COMMIT_TIMEOUT + 2)
    assert two.log == ["decided", "killed 1"]
    two.rollout.tick(now + 2 * COMMIT_TIMEOUT + 3)
    assert two.log == ["decided", "killed 1", "killed 1"]
    two.rollout.gone(two.slots[1])
    assert two.log[3:] == [Outcome()]


def test_the_balancer_stops(workers: Callable[..., Workers]) -> None:
    two = workers(2)
    two.begin()
    two.ready(0)
    two.rollout.abort("the balancer stops")
    assert two.log == [Outcome("the balancer stops")]
    assert two.all_heard() == [PREPARE + ABORT] * 2


# -- sockets -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def web() -> Iterator[Address]:
    made = Address.bind(Endpoint.parse("127.0.0.1:0"), 2)
    yield made
    made.close()


def test_sockets_come_before_the_generation_that_needs_them(workers: Callable[..., Workers], web: Address) -> None:
    """Not to one that is being taken out: it accepts no more, and would keep them open."""
    three = workers(3, {"a:1": web})
    three.slots[1].state = State.RETIRING
    three.slots[2].state = State.STUCK
    three.begin()
    found = [[(message.command, message.text, len(message.fds)) for message in three.messages(n)] for n in range(3)]
    assert found[0] == found[2] == [("SOCKETS", "a:1", 2), ("PREPARE", "", 1)]
    assert found[1] == [("PREPARE", "", 1)]


def test_which_sockets_are_handed_over(web: Address) -> None:
    """One message for what fits into one, in the order of the slots."""
    numbers = {slot: one.fileno() for slot, one in web.sockets.items()}
    assert list(handed_over({"a:1": web})) == [Message("SOCKETS", text="a:1", fds=(numbers[0], numbers[1]))]
    assert list(handed_over({"a:1": web}, range(1, 2))) == [
        Message("SOCKETS", text="a:1", slot=1, fds=(numbers[1],)),
    ]
    assert list(handed_over({"a:1": web}, range(2, 3))) == []
    assert list(handed_over({})) == []


def test_sockets_that_all_share(web: Address) -> None:
    shared = Address(Endpoint.parse("systemd:web"), {ANY + number: one for number, one in web.sockets.items()})
    fds = tuple(one.fileno() for one in web.sockets.values())
    assert list(handed_over({"systemd:web": shared})) == [Message("SOCKETS", text="systemd:web", slot=ANY, fds=fds)]
    assert list(handed_over({"systemd:web": shared}, range(1, 2))) == [], "a slot that is added has them"


def test_more_sockets_than_a_message_may_carry() -> None:
    """A worker is told of each slot's where it begins."""
    with socket.socket() as one:
        address = Address(Endpoint.parse("127.0.0.1:1"), dict.fromkeys(range(DESCRIPTORS + 6), one))
        found = list(handed_over({"a:1": address}))
    assert [(message.slot, len(message.fds)) for message in found] == [(0, DESCRIPTORS), (DESCRIPTORS, 6)]


# -- in a fleet ----------------------------------------------------------------------------------------------------------


def roll_out(workers: Played, number: int) -> tuple[Rollout, list[Any]]:
    """Begin to bring a generation to all workers, as a reload does; and what comes of it."""
    log: list[Any] = []
    fleet = workers.fleet
    new = generation(number, config({}))

    def finished(outcome: Outcome) -> None:
        fleet.rollout = None
        log.append(outcome)

    def decided() -> None:
        fleet.enforce(new, -1)
        log.append("decided")

    fleet.numbered = number + 1
    fleet.rollout = Rollout(new, 0, {}, decided, finished, fleet.kill_one)
    fleet.rollout.begin([slot for slot in fleet.slots if slot.serves])
    return fleet.rollout, log


def commands(workers: Played, number: int) -> list[str]:
    found = []
    for message in workers.heard(number):
        found.append(f"{message.command} {message.generation}")
        for fd in message.fds:
            os.close(fd)
    return found


def test_a_fleet_is_brought_to_a_generation(tmp_path: Path) -> None:
    with Played(2, generation(1, config({})), tmp_path) as workers:
        _, log = roll_out(workers, 2)
        workers.say(0, "READY", 2)
        assert (log, commands(workers, 0)) == ([], ["PREPARE 2"])
        workers.say(1, "READY", 2)
        assert commands(workers, 0) == ["COMMIT 2"]
        workers.say(1, "DONE", 2, count=3)
        workers.say(0, "DONE", 2, count=1)
        assert log == ["decided", Outcome("", 4)]
        assert workers.fleet.generations == [1, 2]
        for number in (0, 1):
            workers.say(number, "FREED", 1)
        assert workers.fleet.generations == [2]
        assert workers.log.read_text() == ""


@pytest.mark.parametrize("late", ["READY", "REFUSED"])
def test_an_answer_that_crosses_the_abort_is_no_crime(tmp_path: Path, late: Answer) -> None:
    """Nor is it an answer to the next attempt, which has a number of its own."""
    with Played(2, generation(1, config({})), tmp_path) as workers:
        _, log = roll_out(workers, 2)
        workers.say(0, "REFUSED", 2, "no")
        assert log == [Outcome("worker 0 refuses it: no")]
        again, log = roll_out(workers, 3)
        workers.say(1, late, 2)
        assert not again.over
        assert workers.log.read_text() == ""
        workers.say(0, "READY", 3)
        workers.say(1, "READY", 3)
        assert log == ["decided"]
        assert commands(workers, 1) == ["PREPARE 2", "ABORT 2", "PREPARE 3", "COMMIT 3"]


@pytest.mark.parametrize(
    ("command", "number"),
    [("READY", 3), ("READY", 0), ("DONE", 2), ("FREED", 2), ("FREED", 7), ("DUMPED", 0), ("KILLED", 0), ("DRAINED", 0)],
)
def test_what_a_worker_may_not_say_now(tmp_path: Path, command: Answer, number: int) -> None:
    """One that has been taken over does not decide for the others; it is not heard any more, and killed."""
    with Played(2, generation(1, config({})), tmp_path) as workers:
        rollout, log = roll_out(workers, 2)
        workers.say(1, command, number)
        assert f'worker_misbehaves worker=1 pid=0 said="{command} out of turn"' in workers.log.read_text()
        workers.say(1, "READY", 2)
        workers.say(0, "READY", 2)
        assert (rollout.over, log) == (False, [])
        workers.fleet._clear_up(workers.fleet.slots[1])
        assert log == ["decided"]


def test_saying_it_twice(tmp_path: Path) -> None:
    with Played(2, generation(1, config({})), tmp_path) as workers:
        _, log = roll_out(workers, 2)
        workers.say(0, "READY", 2)
        workers.say(0, "READY", 2)
        assert "READY out of turn" in workers.log.read_text()
        assert log == []


def test_restarts_wait_for_the_decision(tmp_path: Path) -> None:
    """A slot whose worker has died gets one of the generation that has won."""
    with Played(2, generation(1, config({})), tmp_path) as workers:
        rollout, _ = roll_out(workers, 2)
        down = workers.fleet.slots[1]
        down.silences = 1
        workers.fleet._clear_up(down)
        down.enter(State.DOWN, 0.0)
        assert down.silences == 0, "its next worker has never been silent"
        workers.fleet.tick()
        assert (down.state, workers.fleet.patience()) == (State.DOWN, float("inf"))
        workers.say(0, "READY", 2)
        assert rollout.committing
        assert workers.fleet.patience() == 0
        assert workers.fleet.snapshot.generation == 2
