"""Asking again and again: answers, silence, answers again; and what is kept of them."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from nlbcli._top_rates import Sample
from nlbcli._top_watch import PATIENCE, Failure, Poller, Watch, ask
from tests.support.status import later, status
from tests.support.waiting import wait_until
from tests.unit.control.running import Loop

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_kept() -> None:
    watch = Watch(Sample(100.0, status()))
    assert (watch.frame.head.new, watch.silent(105.0)) == (None, None)
    answer = later(status())
    watch.take(Sample(101.0, answer))
    assert (watch.frame.head.new, watch.silent(105.0)) == (10, None)
    watch.take(Failure(102.0, "no running balancer"))
    assert (watch.frame.head.new, watch.silent(105.0), watch.silent(0.0)) == (10, 4.0, 0.0)
    watch.take(Sample(103.0, {"version": "9.0"}))
    assert watch.failure is not None
    assert watch.failure.reason.endswith("its version is 9.0")
    watch.take(Sample(106.0, later(answer)))
    assert (watch.frame.head.new, watch.silent(107.0)) == (2, None)
    assert watch.connections.columns(9, 60) == [1241, 1241, None, None, 1241]
    assert watch.handshakes.columns(9, 60) == [10, None, None, 2]


def test_answers_then_silence_then_answers(tmp_path: Path) -> None:
    path = tmp_path / "nlb.sock"
    found: list[Sample | Failure] = []
    poller = Poller(path, 0.02, found.append)
    try:
        with Loop(path, lambda verb, arguments: status()):
            assert ask(path).status["node"] == "nlb-1"
            poller.start()
            wait_until(lambda: len(found) >= 3, "three answers")
            assert all(isinstance(one, Sample) for one in found)
        wait_until(lambda: isinstance(found[-1], Failure), "that nobody answers")
        with Loop(path, lambda verb, arguments: status()):
            wait_until(lambda: isinstance(found[-1], Sample), "an answer of the next one")
        reasons = {one.reason for one in found if isinstance(one, Failure)}
        assert f"no running balancer at {path}" in reasons
    finally:
        poller.stop()


def test_another_interval_holds_at_once(tmp_path: Path) -> None:
    found: list[Sample | Failure] = []
    poller = Poller(tmp_path / "nlb.sock", 3600, found.append)
    poller.start()
    poller.interval = 0.02
    wait_until(lambda: len(found) >= 2, "two questions")
    poller.stop()
    assert poller.interval == 0.02


def test_who_does_not_answer_is_not_waited_for_at_the_end(tmp_path: Path) -> None:
    found: list[Sample | Failure] = []
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "nlb.sock"))
        silent.listen()
        poller = Poller(tmp_path / "nlb.sock", 0.01, found.append)
        poller.start()
        client, _ = silent.accept()
        with client:
            before = time.monotonic()
            poller.stop()
            assert time.monotonic() - before < PATIENCE / 4
            assert poller._thread.is_alive()
    wait_until(lambda: not poller._thread.is_alive(), "the end of the thread")
    assert found == [], "what comes too late is told nobody"
