"""Both logs: opened, opened again under their names, changed; and never lost, whatever cannot be opened."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.config.model import Log
from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, StartError
from nlbcore.process.logs import Logs, discard

if TYPE_CHECKING:
    from collections.abc import Iterator


def config(folder: Path, **changes: Any) -> Log:
    return Log.model_validate({"file": str(folder / "events"), "access": str(folder / "access"), **changes})


@contextmanager
def opened(made: Log) -> Iterator[Logs]:
    logs = Logs(made)
    yield logs
    discard((logs.events.fd, logs.access))


def events(path: Path) -> list[str]:
    """Level and name of each."""
    return [" ".join(line.split()[1:3]) for line in path.read_text().splitlines()]


def test_files(tmp_path: Path) -> None:
    """Only their owner writes and his group reads them; what is in them stays."""
    (tmp_path / "access").write_text("before\n")
    with opened(config(tmp_path, level="warning", format="json")) as logs:
        assert (logs.events.level, logs.events.format) == ("warning", "json")
        os.write(logs.access, b"after\n")
        assert (tmp_path / "access").read_text() == "before\nafter\n"
        assert (tmp_path / "events").stat().st_mode & 0o777 == 0o640 & ~umask()
        assert not os.get_inheritable(logs.access)


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_streams(tmp_path: Path) -> None:
    """They are everybody's: never closed."""
    with opened(Log.model_validate({})) as logs:
        assert (logs.events.fd, logs.access) == (2, 1)
        made = config(tmp_path, access="off")
        logs.change(made, logs.prepare(made))
        assert logs.access == -1
        os.fstat(1)
        os.fstat(2)
    discard((1, 2))
    discard((-1, -1))
    os.fstat(1)


@pytest.mark.parametrize("which", ["file", "access"])
def test_one_cannot_be_opened(tmp_path: Path, which: str) -> None:
    """Of the other one nothing stays open: the fixture for leaked descriptors looks at what is left."""
    target = tmp_path / "no" / "log"
    with pytest.raises(StartError) as caught:
        Logs(config(tmp_path, **{which: str(target)}))
    assert str(caught.value) == f"cannot write the log {target}: No such file or directory"
    assert caught.value.exit_code == EXIT_FAILED


def test_a_permission_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StartError, match="Permission denied") as caught:
        Logs(config(tmp_path))
    assert caught.value.exit_code == EXIT_PERMISSION


def test_reopening_after_they_were_moved_away(tmp_path: Path) -> None:
    with opened(config(tmp_path)) as logs:
        before = descriptors()
        logs.events.event("info", "one")
        os.write(logs.access, b"one\n")
        for name in ("events", "access"):
            (tmp_path / name).rename(tmp_path / f"{name}.1")
        logs.events.event("info", "between")
        logs.reopen()
        os.write(logs.access, b"two\n")
        assert events(tmp_path / "events.1") == ["info one", "info between"]
        assert events(tmp_path / "events") == ["info logs_reopened"]
        assert (tmp_path / "access.1").read_text() == "one\n"
        assert (tmp_path / "access").read_text() == "two\n"
        logs.reopen()
        assert descriptors() == before


@pytest.mark.parametrize("which", ["events", "access"])
def test_one_cannot_be_opened_again(tmp_path: Path, which: str) -> None:
    """Both old ones stay in use, and the event log says so: better lines in the wrong file than none."""
    with opened(config(tmp_path)) as logs:
        before = descriptors()
        for name in ("events", "access"):
            (tmp_path / name).rename(tmp_path / f"{name}.1")
        (tmp_path / which).mkdir()
        for _ in range(3):
            logs.reopen()
        os.write(logs.access, b"on\n")
        assert events(tmp_path / "events.1") == ["error logs_not_reopened"] * 3
        assert (tmp_path / "access.1").read_text() == "on\n"
        assert descriptors() == before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_reload_changes_them(tmp_path: Path) -> None:
    """Prepared before it is decided, and nothing of it is seen until then."""
    with opened(config(tmp_path)) as logs:
        before = descriptors()
        made = config(tmp_path, file=str(tmp_path / "other"), access="off", format="json", level="error")
        prepared = logs.prepare(made)
        logs.events.event("info", "one")
        assert events(tmp_path / "events") == ["info one"]
        logs.change(made, prepared)
        logs.events.event("info", "two")
        logs.events.event("error", "three")
        assert events(tmp_path / "events") == ["info one"]
        assert '"event": "three"' in (tmp_path / "other").read_text()
        assert '"event": "two"' not in (tmp_path / "other").read_text()
        assert logs.access == -1
        assert descriptors() == before - 1
        (tmp_path / "other").rename(tmp_path / "other.1")
        logs.reopen()
        assert (tmp_path / "other").exists(), "reopened under the new name"


def test_a_reload_that_is_refused(tmp_path: Path) -> None:
    with opened(config(tmp_path)) as logs:
        before = descriptors()
        discard(logs.prepare(config(tmp_path, file=str(tmp_path / "other"))))
        with pytest.raises(StartError):
            logs.prepare(config(tmp_path, access=str(tmp_path / "no" / "access")))
        logs.events.event("info", "one")
        assert events(tmp_path / "events") == ["info one"]
        assert descriptors() == before


def test_a_level_that_was_given_at_run_time_stays(tmp_path: Path) -> None:
    """Over a reload that does not change that of the file, and over reopening; one that does is the newer word."""
    with opened(config(tmp_path, level="info")) as logs:
        logs.events.set_level("debug")
        logs.reopen()
        same = config(tmp_path, level="info", format="json")
        logs.change(same, logs.prepare(same))
        assert logs.events.level == "debug"
        other = config(tmp_path, level="warning")
        logs.change(other, logs.prepare(other))
        assert logs.events.level == "warning"
