"""An errand ends once: with everybody's answer, or without those who are not waited for any more."""

from __future__ import annotations

import time

import pytest

from nlbcore.process.errand import PATIENCE, Errand


class Sent:
    """An errand to some slots; `answers` holds what came of it, each time that it has ended."""

    def __init__(self, *slots: int) -> None:
        self.answers: list[dict[int, int]] = []
        self.errand = Errand("DUMPED", lambda answers: self.answers.append(dict(answers)))
        for slot in slots:
            self.errand.wait_for(slot)


def test_all_answer() -> None:
    sent = Sent(0, 1, 7)
    for slot in (7, 0):
        sent.errand.done(slot, slot * 2)
        assert not sent.errand.over
    sent.errand.done(1, 2)
    assert sent.errand.over
    assert sent.answers == [{7: 14, 0: 0, 1: 2}]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_dies(order: tuple[int, int]) -> None:
    """Before the others answer, or last."""
    sent = Sent(0, 1)
    for slot in order:
        if slot == 0:
            sent.errand.gone(0)
        else:
            sent.errand.done(1, 5)
    assert sent.answers == [{1: 5}]


def test_nobody_is_left() -> None:
    sent = Sent(0, 1)
    sent.errand.gone(0)
    assert sent.answers == []
    sent.errand.gone(1)
    assert sent.answers == [{}]


def test_one_hangs() -> None:
    """What it answers later is nobody's."""
    before = time.monotonic()
    sent = Sent(0, 1)
    assert before + PATIENCE <= sent.errand.until <= time.monotonic() + PATIENCE
    sent.errand.done(1, 5)
    sent.errand.finish()
    assert sent.answers == [{1: 5}]
    sent.errand.done(0, 9)
    sent.errand.finish()
    sent.errand.gone(0)
    assert sent.answers == [{1: 5}]


def test_an_answer_counts_once_and_only_of_those_who_were_asked() -> None:
    sent = Sent(0, 1)
    for slot, count in ((2, 100), (0, 1), (0, 100), (2, 100)):
        sent.errand.done(slot, count)
    assert not sent.errand.over
    sent.errand.done(1, 1)
    assert sent.answers == [{0: 1, 1: 1}]
