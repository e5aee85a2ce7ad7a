"""Which refusals are told one by one: some of those that are alike, in each second; the others are counted."""

from __future__ import annotations

import time
from collections.abc import Callable

from nlbcore.observe import access_log
from nlbcore.observe.access_log import Head
from tests.engine.running import BLOCK, Running
from tests.engine.secure import Client, Web
from tests.support.certs import Issued, Pki

Start = Callable[..., Running]


def refused(running: Running, pki: Pki, *certificates: Issued) -> list[Head]:
    """The records of clients with these certificates, one after the other, and of those who were counted."""
    heads: list[Head] = []
    word = sum(BLOCK.listeners[0].terminations)
    for number, certificate in enumerate(certificates, 1):
        Client(running, pki, certificate).shake()
        running.turn(lambda number=number: sum(BLOCK.listeners[0].terminations) == word + number)  # type: ignore[misc]
    told = 0
    while told < len(certificates):
        heads += running.ended()
        told = sum(one.id if one.kind == access_log.UNTOLD else 1 for one in heads)
    assert told == len(certificates)
    return heads


def own(heads: list[Head]) -> int:
    return sum(one.kind == access_log.ACCESS for one in heads)


def next_second() -> None:
    """The rest of the second that the engine's clock is in."""
    time.sleep(1 - time.monotonic() % 1)


def test_alike(start: Start, pki: Pki) -> None:
    """So many of each certificate; the sum is told when the second is over."""
    running = start(**Web(pki).plan(refusals=2))
    one, other = pki.bad_client("unknown_ca"), pki.other.client("other")
    before = BLOCK.listeners[0].suppressed
    next_second()
    heads = refused(running, pki, *[one] * 6, *[other] * 2)
    assert own(heads) >= 4
    sums = [head for head in heads if head.kind == access_log.UNTOLD]
    assert BLOCK.listeners[0].suppressed - before == sum(head.id for head in sums) > 0
    assert {(running.word(head), head.flags) for head in sums} == {("unknown_ca", access_log.DIGEST_ONLY)}


def test_any_number_of_certificates(start: Start, pki: Pki) -> None:
    """Each is another one: then the word is limited as a whole."""
    running = start(**Web(pki).plan(refusals=1))
    strangers = [pki.other.client(f"stranger-{number}") for number in range(14)]
    next_second()
    heads = refused(running, pki, *strangers)
    sums = [head for head in heads if head.kind == access_log.UNTOLD]
    assert own(heads) >= 10
    assert all(head.flags == 0 for head in sums), "of none in particular"


def test_no_limit(start: Start, pki: Pki) -> None:
    running = start(**Web(pki).plan())
    assert own(refused(running, pki, *[pki.bad_client("unknown_ca")] * 30)) == 30


def test_what_is_no_refusal(start: Start) -> None:
    """However alike: who was let in has a line."""
    running = start(refusals=1)
    for number in range(5):
        running.connect()
        running.turn(lambda number=number: BLOCK.servers[0].live == number + 1)  # type: ignore[misc]
    running.engine.kill_slice({one.id for one in running.living()}, 0)
    assert own(running.ended(5)) == 5
