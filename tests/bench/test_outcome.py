"""Failures in words, and the bill of processes."""

from __future__ import annotations

import errno
import os
import time

import pytest

from nlbbench.outcome import KINDS, Bill, describe, failed, samples
from nlbbench.spec import Failure

SSL_LIBRARY = 20 << 23


def test_every_kind_has_words() -> None:
    for kind in Failure:
        assert describe(kind, 0, 0, 0, 5)


@pytest.mark.parametrize(
    ("kind", "numbers", "words"),
    [
        (Failure.ALERT, (SSL_LIBRARY | 1044, 0, 0, 0), "the server sent the alert certificate_revoked (44)"),
        (Failure.ALERT, (SSL_LIBRARY | 1099, 0, 0, 0), "the server sent the alert of an unknown kind (99)"),
        (Failure.CERTIFICATE, (0, 10, 0, 0), "the server's certificate: certificate has expired"),
        (Failure.REFUSED, (0, 0, errno.ECONNREFUSED, 0), "connect: Connection refused"),
        (Failure.HANDSHAKE, (0, 0, errno.ECONNRESET, 0), "in the middle of the handshake: Connection reset by peer"),
        (Failure.HANDSHAKE, (SSL_LIBRARY | 267, 0, 0, 0), "the handshake failed: wrong version number"),
        (Failure.HANDSHAKE, (0, 0, 0, 0), "closed in the middle of the handshake"),
        (Failure.CORRUPT, (0, 0, 0, 7), "a wrong byte, after 7 right bytes of the answer"),
    ],
)
def test_words(kind: Failure, numbers: tuple[int, int, int, int], words: str) -> None:
    assert describe(kind, *numbers) == words


def test_kinds_are_numbered_as_they_are_listed() -> None:
    counts = [0] * len(KINDS)
    counts[KINDS.index(Failure.RESET)] = 3
    assert failed(counts) == {Failure.RESET: 3}
    (later, earlier) = (6, 30, 0, 0, 104, 0), (7, 10, 0, 0, 0, 0)
    assert [(one.failure, one.at) for one in samples([later, earlier], 20)] == [
        (Failure.TRUNCATED, -1e-8),
        (Failure.RESET, 1e-8),
    ]


def test_the_bill_counts_cpu_time() -> None:
    bill = Bill([os.getpid()])
    bill.begin()
    before = time.process_time()
    while time.process_time() - before < 0.05:
        pass
    bill.end()
    assert bill.cpu == pytest.approx(time.process_time() - before, abs=0.03)
    busiest, waiting = bill.shares(0.1)
    assert 0.4 < busiest <= 1.0
    assert 0.0 <= waiting <= 1.0
    assert bill.shares(0) == (0.0, 0.0)


def test_a_process_that_is_gone_costs_nothing() -> None:
    bill = Bill([2**22 + 1])
    bill.begin()
    bill.end()
    assert bill.cpu == 0.0
