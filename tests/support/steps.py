"""Work that is done in steps: a generator whose value matters when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

_Result = TypeVar("_Result")


def result(steps: Generator[object, None, _Result]) -> _Result:
    """What it returns, when all steps are done."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: _Result = end.value
            return found
