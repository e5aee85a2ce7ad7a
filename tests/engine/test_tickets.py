"""Which full handshakes end with session tickets, by the address of the client; what a client sees of it is in
tests/wire/test_tickets_unused.py.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address, IPv6Address

ROW = 7
CLIENTS = [ip_address("192.0.2.1"), ip_address("2001:db8::1")]


@pytest.fixture(params=CLIENTS, ids=["IPv4", "IPv6"])
def client(request: pytest.FixtureRequest, door: Any) -> Iterator[IPv4Address | IPv6Address]:
    """An address of which nothing is known, also afterwards."""
    yield request.param
    door.tickets_settle(ROW, request.param, True)


def full_handshakes(door: Any, client: IPv4Address | IPv6Address, count: int) -> list[bool]:
    """So many in a row: which of them got tickets."""
    given = []
    for _ in range(count):
        given.append(door.tickets_wanted_by(ROW, client))
        door.tickets_settle(ROW, client, False)
    return given


def test_most_handshakes_of_who_never_resumes_get_none(door: Any, client: IPv4Address | IPv6Address) -> None:
    unused, again = door.ticket_counts()
    given = full_handshakes(door, client, unused + 3 * again)
    assert all(given[:unused])
    assert [index for index, one in enumerate(given[unused:], 1) if one] == [again, 2 * again, 3 * again]


def test_one_that_comes_back_is_enough(door: Any, client: IPv4Address | IPv6Address) -> None:
    unused, _ = door.ticket_counts()
    full_handshakes(door, client, unused + 1)
    assert not door.tickets_wanted_by(ROW, client)
    door.tickets_settle(ROW, client, True)
    assert all(full_handshakes(door, client, unused))


def test_a_refused_handshake_does_not_count(door: Any, client: IPv4Address | IPv6Address) -> None:
    """It is asked for, and never settled."""
    unused, _ = door.ticket_counts()
    assert all(door.tickets_wanted_by(ROW, client) for _ in range(2 * unused))


def test_others_are_not_touched(door: Any, client: IPv4Address | IPv6Address) -> None:
    """Another address, another listener; an IPv6 client is its /64."""
    unused, _ = door.ticket_counts()
    full_handshakes(door, client, unused)
    assert door.tickets_wanted_by(ROW + 1, client)
    assert door.tickets_wanted_by(ROW, client + (1 << 64 if client.version == 6 else 1))
    if client.version == 6:
        assert not door.tickets_wanted_by(ROW, client + 1)
