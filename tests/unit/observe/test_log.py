"""The event log: one line an event whatever stands in it, and a log that cannot be written stops nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import stat
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.observe.log import LEVELS, EventLog, open_target, timestamp, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def written(fd: int) -> str:
    return os.read(fd, 65536).decode()


def test_time_stamps() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_795_362_299.1239) == "2026-11-22T15:44:59.123Z"
    assert timestamp(4_102_444_799.9996) == "2099-12-31T23:59:59.999Z"


def test_a_line(pipe: tuple[int, int]) -> None:
    EventLog(pipe[1], "info").event("info", "ready", generation=1, listeners=2, name="web", level="x")
    assert re.fullmatch(rf"{STAMP} info ready generation=1 listeners=2 name=web level=x\n", written(pipe[0]))


def test_levels(pipe: tuple[int, int]) -> None:
    for least in LEVELS:
        log = EventLog(pipe[1], least)
        for level in LEVELS:
            log.event(level, level)
        log.line(0, 100, "beyond")
        expected = [level for level, number in LEVELS.items() if number >= LEVELS[least]]
        assert [line.split()[2] for line in written(pipe[0]).splitlines()] == [*expected, "beyond"]


@given(st.text())
def test_any_value_stays_in_its_field(value: str) -> None:
    source, target = os.pipe()
    try:
        EventLog(target, "debug").event("error", "event", key=value, last=1)
        (line,) = written(source).splitlines()
    finally:
        os.close(source)
        os.close(target)
    found = re.fullmatch(rf'{STAMP} error event key=("(?:[^"\\]|\\.)*"|[^\s"=]+) last=1', line)
    assert found is not None
    assert line.isprintable()
    assert (json.loads(found[1]) if found[1].startswith('"') else found[1]) == value


def test_text_that_is_no_unicode(pipe: tuple[int, int]) -> None:
    EventLog(pipe[1], "debug").line(0, 20, "event \udcff")
    assert written(pipe[0]) == "1970-01-01T00:00:00.000Z info event \\udcff\n"


def test_targets(tmp_path: Path) -> None:
    assert open_target("stdout") == 1
    assert open_target("stderr") == 2
    path = tmp_path / "nlb.log"
    path.write_text("before\n")
    fd = open_target(path)
    try:
        assert not os.get_inheritable(fd)
        assert write_all(fd, b"after\n")
    finally:
        os.close(fd)
    assert path.read_text() == "before\nafter\n"


def test_a_new_file_is_not_for_others(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        os.close(open_target(tmp_path / "new.log"))
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new.log").stat().st_mode) == 0o640


def test_a_reader_that_is_gone() -> None:
    source, target = os.pipe()
    os.close(source)
    try:
        assert not write_all(target, b"x")
        EventLog(target, "info").event("info", "lost")
    finally:
        os.close(target)


def test_a_full_disk() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        assert not write_all(fd, b"x")
    finally:
        os.close(fd)


def test_short_writes_are_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    out = bytearray()

    def write(_: int, data: bytes) -> int:
        out.extend(data[:3])
        if len(out) > 8:
            raise OSError(errno.ENOSPC, "full")
        return len(data[:3])

    monkeypatch.setattr(os, "write", write)
    assert write_all(9, b"12345678")
    assert bytes(out) == b"12345678"
    assert not write_all(9, b"9")


def as_json(fd: int) -> list[dict[str, object]]:
    return [json.loads(line) for line in written(fd).splitlines()]


def test_json(pipe: tuple[int, int]) -> None:
    log = EventLog(pipe[1], "info", "json")
    log.event("warning", "ready", generation=1, share=0.5, bad=float("nan"), ok=True, none=None, name="a b", path="x")
    log.event("debug", "left_out")
    (found,) = as_json(pipe[0])
    assert re.fullmatch(STAMP, str(found.pop("time")))
    assert list(found.items()) == [
        ("level", "warning"),
        ("event", "ready"),
        ("generation", 1),
        ("share", 0.5),
        ("bad", "nan"),
        ("ok", True),
        ("none", None),
        ("name", "a b"),
        ("path", "x"),
    ]


def test_json_of_text(pipe: tuple[int, int]) -> None:
    """What workers write; a field cannot take the place of time, level or event."""
    log = EventLog(pipe[1], "info", "json")
    log.line(
        0, 30, r'accept_failed error="too \"many\" open files" worker=3 code=-07 word=x time=1 level=debug event=y'
    )
    log.line(1.5, 40, "alone")
    for text in ("two  spaces=1", "a b", 'a b="x', "a\nb=1", "\x7f\udcff", ""):
        log.line(0, 20, text)
    first, second, *strange = as_json(pipe[0])
    assert first == {
        "time": "1970-01-01T00:00:00.000Z",
        "level": "warning",
        "event": "accept_failed",
        "error": 'too "many" open files',
        "worker": 3,
        "code": "-07",
        "word": "x",
        "time_": 1,
        "level_": "debug",
        "event_": "y",
    }
    assert second == {"time": "1970-01-01T00:00:01.500Z", "level": "error", "event": "alone"}
    assert [one["event"] for one in strange] == ["two  spaces=1", "a b", 'a b="x', "a\nb=1", "\x7f\\udcff", ""]
    assert all(len(one) == 3 for one in strange)


@given(st.text(), st.text())
def test_any_text_is_one_line_of_json(value: str, text: str) -> None:
    source, target = os.pipe()
    try:
        log = EventLog(target, "debug", "json")
        log.event("error", "event", key=value, last=1)
        log.line(0, 20, text)
        lines = os.read(source, 1 << 16).splitlines()
    finally:
        os.close(source)
        os.close(target)
    assert all(line.decode("ascii").isprintable() for line in lines)
    first, second = map(json.loads, lines)
    assert first["key"] == value.encode(errors="backslashreplace").decode()
    assert first["last"] == 1
    assert set(second) >= {"time", "level", "event"}


def test_text_of_a_worker_begins_no_line(pipe: tuple[int, int]) -> None:
    EventLog(pipe[1], "info").line(0, 20, "event\n1970 info forged \x1b[2J")
    assert written(pipe[0]) == "1970-01-01T00:00:00.000Z info event\\n1970 info forged \\x1b[2J\n"


def test_the_level_can_be_changed(pipe: tuple[int, int]) -> None:
    log = EventLog(pipe[1], "error")
    log.event("info", "one")
    log.set_level("debug")
    assert log.level == "debug"
    log.event("debug", "two")
    log.set_level("warning")
    log.event("info", "three")
    assert [line.split()[2] for line in written(pipe[0]).splitlines()] == ["two"]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("size", [10, 4 * select.PIPE_BUF], ids=["short", "long"])
def test_a_stuck_reader_is_not_waited_for(pipe: tuple[int, int], form: Literal["text", "json"], size: int) -> None:
    """Lines are dropped and counted; when somebody reads again he is told how many, and every line is whole."""
    log = EventLog(pipe[1], "error", form)
    for number in range(10_000):
        log.event("error", f"event-{number}", text="x" * size)
        if log.dropped == 5:
            break
    assert log.dropped == 5
    before = os.read(pipe[0], 1 << 20).decode().splitlines()
    log.event("error", "again")
    log.event("error", "and_again")
    log.event("info", "not_asked_for")
    after = written(pipe[0]).splitlines()
    if size > select.PIPE_BUF:
        assert after.pop(0) == "", "the line that was cut is ended"
    assert [("log_lines_dropped" in line, "again" in line) for line in after] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert "count=5" in after[0] or json.loads(after[0])["count"] == 5
    assert len(before) >= number - 5
    assert log.dropped == 5


def test_a_full_disk_is_counted() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        log = EventLog(fd, "info")
        log.event("info", "one")
        log.event("info", "two")
        assert log.dropped == 2
    finally:
        os.close(fd)
    source, log.fd = os.pipe()
    try:
        log.event("info", "three")
        assert [line.split(" ", 2)[2] for line in written(source).splitlines()] == [
            "log_lines_dropped count=2",
            "three",
        ]
    finally:
        os.close(source)
        os.close(log.fd)
