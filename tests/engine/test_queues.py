"""The lists in which sessions wait: first come, first served, and each session in one of them at most."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

SESSIONS = 6
LISTS = (1, 2, 3, 4)
NUMBERS = st.integers(0, SESSIONS - 1)
MOVES = st.lists(st.tuples(NUMBERS, st.sampled_from([None, *LISTS])), max_size=40)


@given(moves=MOVES)
def test_as_lists_of_python(door: Any, moves: list[tuple[int, int | None]]) -> None:
    """Put into one and taken out of whichever, in any order."""
    queues = door.Queues(SESSIONS)
    model: dict[int, list[int]] = {one: [] for one in LISTS}
    for number, into in moves:
        if into is None:
            queues.dequeue(number)
            for waiting in model.values():
                if number in waiting:
                    waiting.remove(number)
        else:
            queues.enqueue(number, into)
            if not any(number in waiting for waiting in model.values()):
                model[into].append(number)
        lengths = [len(model[one]) for one in LISTS]
        assert queues.lengths() == (lengths, any(lengths))
    assert {one: queues.serve(one) for one in LISTS} == model
    assert queues.lengths() == ([0, 0, 0, 0], False)
