"""What to run and what came out survive JSON, and a field that cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlbbench.spec import (
    Backend,
    Failure,
    Generator,
    Interval,
    Load,
    Mark,
    MarkOutcome,
    Outcome,
    Population,
    PopulationOutcome,
    Sample,
    Target,
    Work,
)

LOAD = Load(
    Target("127.0.0.1:443", server_name="www.example.com", ca=Path("root.crt"), version="1.3"),
    (
        Population("echo", Work.ECHO, connections=64, rate=1000.0, size=128),
        Population("storm", Work.CONNECT, connections=64, beside=True),
    ),
    duration=None,
    marks=(Mark(1.5, "reload"),),
)


def outcome() -> Outcome:
    one = PopulationOutcome(
        population=LOAD.populations[0],
        seconds=2.0,
        planned=10,
        done=8,
        failed={Failure.RESET: 1, Failure.ALERT: 1},
        samples=(Sample(Failure.ALERT, "certificate revoked", 0.5),),
        sent=1280,
        received=1024,
        opened=2,
        full=2,
        resumed=0,
        negotiated={"TLSv1.3 TLS_AES_128_GCM_SHA256 X25519": 2},
        latency="",
        service="",
        handshake="",
        series=(Interval(0.0, 1.0, 8, 2, 1024, 1280, 0.001, 0.002, 0.003),),
    )
    generator = Generator(cpu=0.5, busiest=0.25, waiting=0.1, late=0.0001, limited=False, why="")
    marks = (MarkOutcome(LOAD.marks[0], 1.51, 0.1, ""),)
    return Outcome(
        LOAD, "2026-01-01T00:00:00Z", 2.0, interrupted=False, populations=(one,), generator=generator, marks=marks
    )


def test_round_trip() -> None:
    assert Load.from_json(LOAD.to_json()) == LOAD
    assert Outcome.from_json(outcome().to_json()) == outcome()


def test_sums() -> None:
    assert outcome().failures == 2
    assert outcome().population("echo").rate == 4.0
    with pytest.raises(KeyError):
        outcome().population("storm")


def test_sizes_and_backends_of_each_work() -> None:
    assert {work.backend for work in Work} == {Backend.ECHO, Backend.SOURCE, Backend.SINK}
    assert Population("one", Work.CONNECT).message == 16
    assert Population("one", Work.ECHO, size=5).message == 5
    assert Population("one", Work.DOWNLOAD).message == 4 << 20


def test_a_wrong_field_is_named() -> None:
    text = LOAD.to_json().replace('"connections": 64', '"connections": "many"', 1)
    with pytest.raises(ValueError, match=r"populations\.0\.connections"):
        Load.from_json(text)
