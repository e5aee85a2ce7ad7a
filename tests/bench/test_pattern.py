"""Any eight bytes of the pattern tell their place, and it goes on where it repeats."""

from __future__ import annotations

from nlbbench.pattern import piece

PERIOD = 262_139


def test_any_eight_bytes_tell_their_place() -> None:
    whole = piece(0, PERIOD + 8)
    assert len({whole[at : at + 8] for at in range(PERIOD)}) == PERIOD


def test_it_repeats() -> None:
    assert piece(5, 3 * PERIOD)[PERIOD:] == piece(5, 2 * PERIOD)
    assert piece(PERIOD + 7, 100) == piece(7, 100)
    assert piece(PERIOD - 50, 100) == piece(PERIOD - 50, 50) + piece(0, 50)
