"""The board as parent and processes see it: one memory, sums over processes."""

from __future__ import annotations

import os

from nlbbench.board import HISTOGRAMS, KINDS_USED, Board
from nlbbench.outcome import KINDS


def test_an_empty_board() -> None:
    descriptor = os.memfd_create("board")
    board = Board(descriptor, 2, 3, create=True)
    again = Board(descriptor, 2, 3)
    os.close(descriptor)
    for one in (board, again):
        assert set(one.counts(2).values()) == {0}
        assert one.failed(1) == [0] * KINDS_USED
        assert one.samples(0) == []
        assert one.negotiated(0) == {}
        assert one.place(1) == {"ready": 0, "counted": 0, "over": 0, "last": 0}
        assert one.interval(0) == (0, 0, 0)
        assert one.late(0.99) == 0
        assert [one.values(0, name) for name in HISTOGRAMS] == [[], [], []]
    board.steer(begin=1, end=2, schedule=3)


def test_kinds_are_those_of_the_contract() -> None:
    assert len(KINDS) == KINDS_USED
