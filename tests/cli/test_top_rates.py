"""From two answers to rates, sums, marks and orders; and what is not known is not made up."""

from __future__ import annotations

import pytest

from nlbcli._top_rates import KIND, Sample, frame
from nlbcore.errors import NlbError
from nlbcore.termination import WORDS
from tests.support.status import Status, later, status

FIRST = Sample(100.0, status())


def test_rates_are_per_second() -> None:
    shown = frame(FIRST, Sample(102.0, later(status(), new=30, refused=6)))
    web, plain = shown.listeners
    assert (web.new, web.full, web.resumed, web.refused) == (15, 12, 0, 3)
    assert (web.received, web.sent) == (15_000, 75_000)
    assert (plain.new, plain.refused) == (0, 0)
    head = shown.head
    assert (head.new, head.full, head.refused, head.received, head.connections) == (15, 12, 3, 15_000, 1241)
    assert [(one.name, one.new) for one in shown.servers] == [("a", 12), ("b", 0), ("c", 0)]
    assert [(one.name, one.new) for one in shown.processes] == [("0", 15), ("1", 0), ("prober", None)]


def test_ends_are_sorted_by_rate_then_by_number() -> None:
    shown = frame(FIRST, Sample(101.0, later(status(), refused=4)))
    assert [(one.word, one.total, one.rate) for one in shown.endings] == [
        ("no_certificate", 24, 4),
        ("client_close", 40_005, 0),
        ("unknown_ca", 30, 0),
    ]
    assert [(one.kind, one.grade, one.listeners) for one in shown.endings] == [
        ("client", "warning", ("web",)),
        ("ended", "", ("web", "plain")),
        ("client", "", ("web",)),
    ]


def test_every_word_has_a_kind() -> None:
    assert set(KIND) == set(WORDS) - {"open"}


def test_one_answer_has_no_rates() -> None:
    shown = frame(None, FIRST)
    rates = [shown.head.new, *(one.new for one in shown.listeners), *(one.new for one in shown.servers)]
    assert set(rates) == {one.new for one in shown.processes} == {one.rate for one in shown.endings} == {None}
    assert [one.word for one in shown.endings] == ["client_close", "unknown_ca", "no_certificate"]


def test_a_balancer_started_anew_begins_anew() -> None:
    answer = later(status()) | {"pid": 4999, "started": "2026-01-03T00:00:00Z"}
    assert frame(FIRST, Sample(101.0, answer)).head.new is None


def test_what_is_new_or_counts_again_has_no_rate_and_the_rest_has() -> None:
    answer = later(status())
    answer["listeners"].append(answer["listeners"][0] | {"name": "fresh"})
    answer["listeners"][1]["connections_total"] = 3
    shown = frame(FIRST, Sample(101.0, answer))
    assert [one.new for one in shown.listeners] == [10, None, None]
    assert shown.head.new == 10


def test_marks() -> None:
    answer = later(status())
    answer["server_groups"][0]["servers"][0]["connect_timeout"] = 1
    answer["listeners"][0]["connections"] = 20_000
    answer["listeners"][1]["connections"] = 19_000
    shown = frame(FIRST, Sample(101.0, answer))
    assert [one.grade for one in shown.listeners] == ["bad", "warning"]
    assert [one.grade for one in shown.servers] == ["warning", "bad", "warning"]
    assert [one.grade for one in shown.processes] == ["", "bad", "bad"]
    assert [(one.kind, one.days, one.grade) for one in shown.expiries] == [
        ("CRL", -0.5, "bad"),
        ("certificate", 2.5, "warning"),
        ("certificate", 29.87, ""),
        ("CRL", None, ""),
    ]
    assert any("worker 1" in problem for problem in shown.problems)
    answer["workers"][0]["heartbeat_age_ms"] = 3000
    assert frame(None, Sample(101.0, answer)).processes[0].grade == "bad"


def test_what_cannot_be_understood_is_said() -> None:
    answers: list[Status] = [{}, {"version": "9.0"}, status() | {"listeners": 7}]
    for answer in answers:
        with pytest.raises(NlbError, match="the balancer's answer cannot be understood"):
            frame(FIRST, Sample(101.0, answer))
