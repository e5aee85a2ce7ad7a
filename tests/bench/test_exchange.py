"""What is broken is noticed: bytes dropped, doubled, changed, out of order, cut off; a session that was not resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nlbbench.spec import Failure, Target, Work
from tests.bench.support import one

if TYPE_CHECKING:
    from collections.abc import Callable


def test_resumed_that_was_not(target: Callable[..., Target]) -> None:
    found = one(target("forgetful"), Work.CONNECT, count=8, connections=2, resumed=True)
    assert (found.done, found.failed) == (0, {Failure.NOT_RESUMED: 8}), found.samples


NOTICED = {
    "drops": {Failure.CORRUPT},
    "doubles": {Failure.CORRUPT},
    "repeats": {Failure.CORRUPT, Failure.SURPLUS},
    "corrupts": {Failure.CORRUPT},
    "swaps": {Failure.CORRUPT},
    "truncates": {Failure.TRUNCATED, Failure.RESET},  # a reset where bytes were still on their way
    "cuts": {Failure.RESET, Failure.TRUNCATED},
    "swallows": {Failure.TIMEOUT, Failure.CORRUPT},  # the latter where more bytes follow
}


@pytest.mark.parametrize("work", [Work.ECHO, Work.DUPLEX])
@pytest.mark.parametrize("how", NOTICED)
def test_a_broken_relay(target: Callable[..., Target], how: str, work: Work) -> None:
    size = {Work.ECHO: 100, Work.DUPLEX: 50_000}[work]
    found = one(target(how), work, count=40, size=size, timeout=0.5)
    assert found.failed, found
    assert set(found.failed) <= NOTICED[how], found.samples
    assert found.done + found.failures >= 40


@pytest.mark.parametrize("how", NOTICED)
def test_a_broken_relay_of_short_connections(target: Callable[..., Target], how: str) -> None:
    found = one(target(how), Work.CONNECT, count=4, size=200_000, timeout=0.5)
    assert set(found.failed) <= NOTICED[how], found.samples
    assert found.failures >= 1
