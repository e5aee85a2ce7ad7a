"""Where paths lead, which folders have a say in it, and what happens when inotify cannot be had."""

from __future__ import annotations

import errno
import os
import resource
import select
from typing import TYPE_CHECKING

import pytest

from nlbcore.observe.log import EventLog
from nlbcore.process import watching
from nlbcore.process.watching import Alarm, Folder, Look
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def folders(look: Look, below: Path) -> dict[str, bool]:
    """Those below a folder, and whether the names in them matter."""
    root = f"{os.path.realpath(below)}/"
    return {
        path.removeprefix(root): folder.names for path, folder in look.folders.items() if f"{path}/".startswith(root)
    }


def test_a_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "nlb" / "a.crt"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    look = Look()
    sight = look.follow(str(path))
    status = path.stat()
    assert sight.path == os.path.realpath(path)
    assert sight.status[:4] == (status.st_dev, status.st_ino, status.st_mtime_ns, 1)
    assert sight.changed == status.st_ctime
    assert folders(look, tmp_path) == {os.path.realpath(tmp_path): False, "etc": False, "etc/nlb": True}


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda path: path.write_text("y"), True),
        (lambda path: os.utime(path, ns=(0, 5)), True),
        (lambda path: path.chmod(0o600), True),
        (lambda path: path.rename(path.with_name("other")), True),
        (lambda path: os.link(path, path.with_name("other")), False),
        (lambda path: os.utime(path, ns=(5, path.stat().st_mtime_ns)), False),
        (lambda path: path.with_name("other").write_text("x"), False),
    ],
    ids=["written", "mtime", "mode", "gone", "linked", "atime", "beside"],
)
def test_what_is_a_change(tmp_path: Path, change: object, seen: bool) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    path.chmod(0o644)
    os.utime(path, ns=(1, 1))
    before = Look().follow(str(path))
    change(path)  # type: ignore[operator]
    assert (Look().follow(str(path))[:2] != before[:2]) is seen


def test_links_on_the_way(tmp_path: Path) -> None:
    """The kubelet's layout: a.crt -> ..data/a.crt, ..data -> ..2026."""
    volume = tmp_path / "volume"
    (volume / "..2026").mkdir(parents=True)
    (volume / "..2026" / "a.crt").write_text("x")
    (volume / "..data").symlink_to("..2026")
    (volume / "a.crt").symlink_to("..data/a.crt")
    (tmp_path / "absolute").symlink_to(volume)
    look = Look()
    sight = look.follow(f"{tmp_path}/absolute//./a.crt")
    assert sight.path == os.path.realpath(volume / "..2026" / "a.crt")
    assert sight.changed >= (volume / "..data").lstat().st_ctime
    assert folders(look, tmp_path) == {
        os.path.realpath(tmp_path): True,
        "volume": True,
        "volume/..2026": True,
    }


def test_what_is_not_there(tmp_path: Path) -> None:
    """The nearest folder that is there has a say."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("gone/a")
    root = os.path.realpath(tmp_path)
    for name, where, number in (
        ("no/such/file", "no", errno.ENOENT),
        ("file/x", "file", errno.ENOTDIR),
        ("loop", "loop", errno.ELOOP),
        ("nowhere", "gone", errno.ENOENT),
        ("x/../file/..", "x", errno.ENOENT),
    ):
        look = Look()
        sight = look.follow(f"{tmp_path}/{name}")
        assert (sight.path, sight.status) == (f"{root}/{where}", (number,)), name
        assert folders(look, tmp_path) == {root: True}, name
    assert Look().follow(f"{tmp_path}/../{tmp_path.name}/file").status[3] == 1
    assert Look().follow("/").status == (errno.EISDIR,)


def test_the_walk_ends_where_the_kernel_ends(tmp_path: Path) -> None:
    """Also for a chain of links, some of them up and down again."""
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    (tmp_path / "one").symlink_to("a/b")
    (tmp_path / "a" / "two").symlink_to("../one/../b/c")
    (tmp_path / "three").symlink_to(f"{tmp_path}/a/two/file")
    for name in ("one/c/file", "a/two/file", "three", "a/two/../../../three"):
        path = f"{tmp_path}/{name}"
        assert Look().follow(path).path == os.path.realpath(path)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[EventLog, Path]]:
    path = tmp_path / "events.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield EventLog(fd, "debug"), path
    os.close(fd)


def rings(alarm: Alarm) -> bool:
    return bool(select.select([alarm.fd], [], [], 0)[0])


def test_the_alarm(tmp_path: Path, log: tuple[EventLog, Path]) -> None:
    """It rings for names in one folder, for another folder only when that goes; after that the watches are made anew."""
    near, far = tmp_path / "far" / "near", tmp_path / "far"
    near.mkdir(parents=True)
    (near / "file").write_text("x")
    alarm = Alarm(log[0])
    assert alarm.fd == -1

    def cover() -> bool:
        look = Look()
        look.follow(str(near / "file"))
        return alarm.cover(look.folders)

    assert cover()
    assert not cover(), "these are watched already"
    (far / "unrelated").write_text("x")
    with (near / "file").open("a") as writing:
        writing.write("not yet")
        writing.flush()
        assert not rings(alarm)
    assert rings(alarm)
    alarm.answer()
    assert not rings(alarm)
    assert not cover()
    (near / "file").unlink()
    near.rmdir()
    near.mkdir()  # often with the inode number of the former one
    (near / "file").write_text("x")
    assert rings(alarm)
    alarm.answer()
    assert cover()
    alarm.close()
    assert log[1].read_text() == ""


def test_no_watches_left(tmp_path: Path, log: tuple[EventLog, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Said once; inotify is tried again later, and that is said too."""
    look = Look()
    look.follow(str(tmp_path / "file"))
    alarm = Alarm(log[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert not alarm.cover(look.folders)
        assert not alarm.cover(look.folders)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not alarm.cover(look.folders), "not yet"
    assert alarm.fd == -1
    alarm._not_before = 1.0
    assert alarm.cover(look.folders)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(watching.INotify, "add_watch", refuse)
    more = {**look.folders, "/": Folder(1, 1, names=True)}
    assert [line.partition(" ")[2] for line in log[1].read_text().splitlines()] == [
        (
            'warning watch_by_polling error="no inotify instances are left (fs.inotify.max_user_instances), '
            'or no descriptors" every=2s'
        ),
        "info watch_by_inotify",
    ]
    assert not alarm.cover(more)
    assert alarm.fd == -1
    assert "no inotify watches are left (fs.inotify.max_user_watches)" in log[1].read_text()


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EACCES])
def test_a_folder_that_cannot_be_watched(
    tmp_path: Path, log: tuple[EventLog, Path], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Gone in this moment, or not ours to read: the others are watched."""
    real, refused = watching.INotify.add_watch, os.path.realpath(tmp_path.parent)

    def add(self: object, path: str, mask: int) -> None:
        if path == refused:
            raise OSError(error, "")
        real(self, path, mask)

    monkeypatch.setattr(watching.INotify, "add_watch", add)
    look = Look()
    look.follow(str(tmp_path / "file"))
    alarm = Alarm(log[0])
    assert alarm.cover(look.folders)
    (tmp_path / "file").write_text("x")
    wait_until(lambda: rings(alarm), "it rings")
    alarm.close()
    assert alarm.fd == -1
