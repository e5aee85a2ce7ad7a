"""The slab: an event of a connection that is gone finds nothing, whoever has its slot now."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

GENERATIONS = 0xFFFFFF


def test_stale_events(door: Any) -> None:
    slab = door.Slab()
    before = slab.count()
    slot, generation = slab.take()
    assert slab.finds(slot, generation)
    assert slab.count() == before + 1
    slab.free(slot)
    assert slab.count() == before
    assert not slab.finds(slot, generation)
    again = slab.take()
    assert again == (slot, generation + 1)
    assert not slab.finds(slot, generation)
    assert slab.finds(*again)
    slab.free(slot)


def test_slots_that_do_not_exist(door: Any) -> None:
    assert not door.Slab().finds(1 << 20, 1)
    assert not door.Slab().finds(0xFFFFFFFF, 1)


def test_a_reused_slot_is_blank(door: Any) -> None:
    slab = door.Slab()
    slot, generation = slab.take()
    assert slab.fresh(slot)
    slab.soil(slot, generation)
    slab.free(slot)
    assert slab.take()[0] == slot
    assert slab.fresh(slot)
    slab.free(slot)


def test_generations_begin_again_at_one(door: Any) -> None:
    """An event's tag has 24 bits for them, and 0 is nobody's."""
    slab = door.Slab()
    slot, _ = slab.take()
    slab.soil(slot, GENERATIONS)
    slab.free(slot)
    assert slab.take() == (slot, 1)
    slab.free(slot)


def test_sessions_do_not_move(door: Any) -> None:
    """More than a chunk of them: all are found where they were."""
    slab = door.Slab()
    taken = [slab.take() for _ in range(1000)]
    assert len({slot for slot, _ in taken}) == 1000
    assert all(slab.finds(*tag) for tag in taken)
    for slot, _ in taken:
        slab.free(slot)
    assert not any(slab.finds(*tag) for tag in taken)


@settings(max_examples=50)
@given(st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=80))
def test_any_order(door: Any, steps: list[int | None]) -> None:
    slab = door.Slab()
    before = slab.count()
    live: list[tuple[int, int]] = []
    gone: list[tuple[int, int]] = []
    for step in steps:
        if step is None or not live:
            live.append(slab.take())
        else:
            tag = live.pop(step % len(live))
            slab.free(tag[0])
            gone.append(tag)
        assert slab.count() == before + len(live)
        assert all(slab.finds(*tag) for tag in live)
        assert not any(slab.finds(*tag) for tag in gone)
    for slot, _ in live:
        slab.free(slot)
