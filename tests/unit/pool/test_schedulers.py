"""Choosing a server: the order and the shares of both schedulers, who is never chosen, and addresses the kernel takes.

Who is never chosen: by the verdicts of the prober, and by the orders of the operator.
"""

from __future__ import annotations

import socket
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.pool.schedulers import Group, route_address
from nlbcore.segment import AVAILABLE, DRAIN, INITIAL, MAINT, ORDERS, READY, STATES, UNAVAILABLE, UNHEALTHY
from tests.engine.running import SHARED, alone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOCAL: Any = ("127.0.0.1", 80)
WEIGHTS = st.lists(st.integers(0, 100), min_size=1, max_size=12)


def group(weights: Sequence[int], scheduler: Literal["wrr", "rr"] = "wrr", *, first: int = 0) -> Group:
    """Servers with these weights; their rows are `first`, `first` + 1 ..."""
    return Group(((first + row, weight, socket.AF_INET, LOCAL) for row, weight in enumerate(weights)), scheduler)


def test_smooth_order() -> None:
    one = group([5, 1, 1])
    assert [one.choose() for _ in range(14)] == [0, 0, 1, 0, 2, 0, 0] * 2


def test_equal_weights_take_turns() -> None:
    for weight in (1, 100):
        one = group([weight] * 3)
        assert [one.choose() for _ in range(6)] == [0, 1, 2] * 2


def test_round_robin_ignores_weights_but_zero() -> None:
    one = group([100, 0, 1, 50], "rr")
    assert [one.choose() for _ in range(6)] == [0, 2, 3] * 2


@given(WEIGHTS)
def test_shares_are_exact(weights: list[int]) -> None:
    """Over the sum of the weights each server is chosen as often as its weight says, and again after that."""
    one = group(weights)
    total = sum(weights)
    for _ in range(2):
        chosen = Counter(one.choose() for _ in range(total))
        assert chosen == Counter({row: weight for row, weight in enumerate(weights) if weight})
    if total == 0:
        assert one.choose() is None


@given(WEIGHTS)
def test_no_server_is_chosen_in_a_row_beyond_its_share(weights: list[int]) -> None:
    """Smooth: at any moment each server is less than one turn away from what it is owed, times the number of servers."""
    one = group(weights)
    total = sum(weights)
    seen: Counter[int | None] = Counter()
    for turn in range(1, total + 1):
        seen[one.choose()] += 1
        for row, weight in enumerate(weights):
            assert abs(seen[row] - turn * weight / total) < len(weights)


@given(WEIGHTS, st.data())
def test_what_was_tried_is_not_chosen_again(weights: list[int], data: st.DataObject) -> None:
    one = group(weights)
    for _ in range(data.draw(st.integers(0, 20))):
        one.choose()
    tried: list[int] = []
    while (row := one.choose(tried)) is not None:
        assert row not in tried
        tried.append(row)
    assert sorted(tried) == [row for row, weight in enumerate(weights) if weight]


def test_a_server_that_fails_is_not_owed_a_burst() -> None:
    """While a server is among the tried it collects nothing: it does not get all connections once it is back."""
    one = group([1, 1])
    for _ in range(1000):
        assert one.choose([0]) == 1
    assert Counter(one.choose() for _ in range(10)) == Counter({0: 5, 1: 5})


def test_rows_are_those_of_the_segment() -> None:
    assert group([1], first=8191).choose() == 8191
    for row in (8192, 0xFFFF):
        with pytest.raises(ValueError, match=f"the segment has 8192 rows of servers, none of them is row {row}"):
            group([1], first=row)
    for row in (-1, 0x10000):
        with pytest.raises((ValueError, OverflowError)):
            group([1], first=row)


def test_nobody() -> None:
    assert group([]).choose() is None
    assert group([0, 0]).choose() is None
    assert group([0, 0], "rr").choose() is None


def test_more_tried_than_a_connection_ever_tries() -> None:
    """`tried` may be as long as the caller likes."""
    one = group([1] * 100)
    with pytest.raises(ValueError, match="tried"):
        one.choose(range(65))


# -- verdicts of the prober, orders of the operator --------------------------------------------------------------------


WAITS = len(STATES)
"""A verdict: Initial, of one that a reload has added."""
VERDICTS = (INITIAL, WAITS, AVAILABLE, UNHEALTHY, UNAVAILABLE)
TRIED = ((), (0,), (1,), (2,), (0, 1), (1, 2), (0, 2))


def judge(*verdicts: int) -> None:
    """The verdicts on rows 0, 1, ..."""
    for row, state in enumerate(verdicts):
        SHARED.verdicts[row].state = INITIAL if state == WAITS else state
        SHARED.verdicts[row].waits = state == WAITS


def order(*states: int, weights: Sequence[int | None] = ()) -> None:
    """What the operator wants of rows 0, 1, ..."""
    for row, state in enumerate(states):
        SHARED.orders[row].state = state
    for row, weight in enumerate(weights):
        SHARED.orders[row].weight_and_one = 0 if weight is None else weight + 1


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    """Of any server, before and after each test."""
    alone()
    yield
    alone()


def all_chosen(one: Group) -> set[int | None]:
    """Who gets connections: over more choices than the sum of any weights here."""
    return {one.choose() for _ in range(600)}


@pytest.mark.parametrize("scheduler", ["wrr", "rr"])
@pytest.mark.parametrize("away", [DRAIN, MAINT], ids=["drain", "maint"])
def test_every_mixture(scheduler: Literal["wrr", "rr"], away: int) -> None:
    """One that is taken out gets nothing; one that is unhealthy, or waits to be checked, only where nobody is usable."""
    for mixture in product(product(VERDICTS, (READY, away)), repeat=3):
        verdicts, orders = zip(*mixture, strict=True)
        judge(*verdicts)
        order(*orders)
        wanted = {row for row, state in enumerate(orders) if state == READY}
        usable = {row for row in wanted if verdicts[row] in (INITIAL, AVAILABLE, UNAVAILABLE)}
        found = {group([5, 1, 1], scheduler).choose(tried) for tried in TRIED} - {None}
        assert found == (usable or wanted), (verdicts, orders)


def test_shares_among_those_left() -> None:
    """In proportion to their weights; and the way back is no burst."""
    one = group([2, 1, 1])
    judge(AVAILABLE, UNHEALTHY, AVAILABLE)
    assert Counter(one.choose() for _ in range(30)) == {0: 20, 2: 10}
    judge(AVAILABLE, AVAILABLE, AVAILABLE)
    assert Counter(one.choose() for _ in range(40)) == {0: 20, 1: 10, 2: 10}
    order(READY, MAINT)
    assert Counter(one.choose() for _ in range(30)) == {0: 20, 2: 10}
    order(READY, READY)
    assert Counter(one.choose() for _ in range(40)) == {0: 20, 1: 10, 2: 10}


def test_fail_open_keeps_the_weights() -> None:
    judge(UNHEALTHY, WAITS, AVAILABLE, UNHEALTHY)
    order(READY, READY, DRAIN, READY)
    one = group([2, 1, 5, 0])
    assert Counter(one.choose() for _ in range(30)) == {0: 20, 1: 10}


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("by_order", [False, True], ids=["configured", "ordered"])
def test_weight_zero_gets_nothing_whatever_its_verdict(verdict: int, by_order: bool) -> None:
    """Nor is it the usable server that keeps the others from being tried."""
    judge(verdict, UNHEALTHY)
    order(weights=[0 if by_order else None])
    weights = [1 if by_order else 0, 1]
    assert all_chosen(group(weights)) == all_chosen(group(weights, "rr")) == {1}
    order(READY, DRAIN)
    assert all_chosen(group(weights)) == {None}


@pytest.mark.parametrize("away", [DRAIN, MAINT], ids=["drain", "maint"])
def test_all_are_taken_out(away: int) -> None:
    """That is no failure which one could be open in: nobody is asked."""
    judge(UNHEALTHY, AVAILABLE)
    order(away, away)
    assert all_chosen(group([1, 1])) == {None}


def test_the_operator_s_weights() -> None:
    """They count instead of those of the file, 0 and 100 too; for round robin 0 is the one that counts."""
    one, equal = group([1, 1, 0]), group([1, 1, 0], "rr")
    order(weights=[3, None, 100])
    assert Counter(one.choose() for _ in range(104)) == {0: 3, 1: 1, 2: 100}
    assert [equal.choose() for _ in range(6)] == [0, 1, 2] * 2
    order(weights=[0, 0, 1])
    assert all_chosen(one) == all_chosen(equal) == {2}
    order(weights=[None, None, None])
    assert Counter(one.choose() for _ in range(10)) == {0: 5, 1: 5}


def test_one_that_waits_gets_its_first_connection_with_its_first_verdict() -> None:
    """Added by a reload: not before it is known to answer, unless it is alone."""
    one = group([1, 1])
    judge(AVAILABLE, WAITS)
    assert all_chosen(one) == {0}
    assert all_chosen(group([0, 1])) == {1}, "alone"
    assert one.choose([0]) is None, "no second try either"
    judge(AVAILABLE, UNAVAILABLE)
    assert all_chosen(one) == {0, 1}, "its group is not checked"
    SHARED.verdicts[1].waits = 1
    for state, expected in ((AVAILABLE, {0, 1}), (UNHEALTHY, {0}), (INITIAL, {0})):
        SHARED.verdicts[1].state = state
        assert all_chosen(one) == expected


def test_the_healthy_ones_have_all_been_tried() -> None:
    """One that is known not to answer is no second try."""
    one = group([1, 1, 1])
    judge(AVAILABLE, UNHEALTHY, AVAILABLE)
    assert {one.choose([0]), one.choose([2])} == {0, 2}
    assert one.choose([0, 2]) is None
    judge(UNHEALTHY, UNHEALTHY, UNHEALTHY)
    assert one.choose([0, 2]) == 1, "fail-open"


def test_a_verdict_or_an_order_counts_from_the_next_choice_on() -> None:
    one = group([1, 1])
    for state, expected in ((UNHEALTHY, {1}), (AVAILABLE, {0, 1}), (WAITS, {1}), (UNAVAILABLE, {0, 1})):
        judge(state)
        assert all_chosen(one) == expected
    for number in range(len(ORDERS)):
        order(number)
        assert all_chosen(one) == ({0, 1} if number == READY else {1})


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("192.0.2.1", 65535)),
        (socket.AF_INET6, ("2001:db8::1", 1, 0, 0)),
        (socket.AF_INET6, ("fe80::1", 1, 0, 0xFFFFFFFF)),
        (socket.AF_UNIX, "/run/app.sock"),
        (socket.AF_UNIX, "x" * 107),
        (socket.AF_UNIX, "/run/\udcff.sock"),
    ],
    ids=str,
)
def test_addresses(family: int, address: Any) -> None:
    assert Group([(3, 1, family, address)], "wrr").choose() == 3


@pytest.mark.parametrize(
    ("family", "address", "error"),
    [
        (socket.AF_INET, ("localhost", 80), OSError),
        (socket.AF_INET, ("::1", 80), OSError),
        (socket.AF_INET, ("127.0.0.1", 65536), OverflowError),
        (socket.AF_INET, ("127.0.0.1", -1), OverflowError),
        (socket.AF_INET6, ("fe80::1%lo", 80, 0, 1), OSError),
        (socket.AF_INET6, ("::1", 80, 0, 2**32), OverflowError),
        (socket.AF_UNIX, "x" * 108, ValueError),
    ],
    ids=str,
)
def test_addresses_that_the_kernel_could_not_take(family: int, address: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Group([(0, 1, family, address)], "wrr")


def test_the_pointers() -> None:
    one, two = group([1]), group([1])
    assert route_address() == route_address() != 0
    assert one.address != two.address
