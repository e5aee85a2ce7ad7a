"""The event log: one line an event whatever stands in it, and a log that cannot be written stops nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from typing import TYPE_CHECKING

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
