"""The pid file: whole at every moment, readable for all, and nobody else's file is harmed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, StartError
from nlbcore.process import pidfile

if TYPE_CHECKING:
    from pathlib import Path

OURS = f"{os.getpid()}\n"


@pytest.mark.parametrize("mask", [0o077, 0])
def test_a_life(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "nlb.pid"
    before = os.umask(mask)
    try:
        pidfile.write(path)
    finally:
        os.umask(before)
    assert path.read_text() == OURS
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    pidfile.write(path)  # again, as after an upgrade that has failed
    assert os.listdir(tmp_path) == ["nlb.pid"]
    pidfile.remove(path)
    assert os.listdir(tmp_path) == []
    pidfile.remove(path)


@pytest.mark.parametrize("content", ["", "999999999\n", "1\n", " 42", f"{os.getppid()}\n"])
def test_what_another_has_left_is_replaced(tmp_path: Path, content: str) -> None:
    """Alive or not: the number may be anybody's by now. Who reads the old file goes on reading the old file."""
    path = tmp_path / "nlb.pid"
    path.write_text(content)
    (tmp_path / f".nlb.pid.{os.getpid()}").write_text("left by a crash")
    with path.open() as reading:
        pidfile.write(path)
        assert reading.read() == content
    assert path.read_text() == OURS
    assert os.listdir(tmp_path) == ["nlb.pid"]


def test_one_that_another_has_written_since_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "nlb.pid"
    pidfile.write(path)
    path.write_text("1\n")
    pidfile.remove(path)
    assert path.read_text() == "1\n"


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("file", "something else has that name, and it is not replaced"),
        ("link", "it is a symbolic link, and not replaced"),
        ("folder", "something else has that name, and it is not replaced"),
        ("fifo", "something else has that name, and it is not replaced"),
        ("nowhere", "the folder does not exist"),
    ],
)
def test_what_is_no_pid_file(tmp_path: Path, kind: str, sentence: str) -> None:
    path = tmp_path / "there" / "nlb.pid" if kind == "nowhere" else tmp_path / "nlb.pid"
    if kind == "file":
        path.write_text("root:x:0:0:root:/root:/bin/bash\n")
    elif kind == "link":
        path.symlink_to(tmp_path / "target")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    before = os.listdir(tmp_path)
    with pytest.raises(StartError) as caught:
        pidfile.write(path)
    assert str(caught.value) == f"cannot write the pid file {path}: {sentence}"
    assert caught.value.exit_code == EXIT_FAILED
    pidfile.remove(path)
    assert os.listdir(tmp_path) == before


def test_a_permission_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StartError, match="permission denied; set") as caught:
        pidfile.write(tmp_path / "nlb.pid")
    assert caught.value.exit_code == EXIT_PERMISSION
