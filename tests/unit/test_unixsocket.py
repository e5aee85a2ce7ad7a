"""Unix sockets by name: what is replaced, what is left alone, who may connect, and who removes which name."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from nlbcore.unixsocket import abandoned, bind, inode, remove, replace

if TYPE_CHECKING:
    from pathlib import Path


def connects(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize(("mask", "mode", "expected"), [(0o022, None, 0o755), (0o077, 0o660, 0o660), (0, 0o600, 0o600)])
def test_who_may_connect(tmp_path: Path, mask: int, mode: int | None, expected: int) -> None:
    path = tmp_path / "s"
    before = os.umask(mask)
    try:
        with bind(path, 5, mode) as made:
            assert stat.S_IMODE(path.stat().st_mode) == expected
            assert os.umask(mask) == mask, "the umask is what it was"
            assert not made.getblocking()
            assert not made.get_inheritable()
            connects(path)
    finally:
        os.umask(before)


def test_what_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bind(path, 5).close()
    assert abandoned(path)
    with bind(path, 5):
        assert not abandoned(path)
        connects(path)


@pytest.mark.timeout(5)
def test_what_is_served_is_left_alone(tmp_path: Path) -> None:
    """Also when its queue is full: its process hangs, which is no reason to hang too."""
    path = tmp_path / "s"
    with bind(path, 0) as hung, socket.socket(socket.AF_UNIX) as waiting:
        before = inode(path)
        waiting.connect(str(path))
        for _ in range(2):
            assert not abandoned(path)
            with pytest.raises(OSError) as caught:
                bind(path, 5)
            assert caught.value.errno == errno.EADDRINUSE
            assert inode(path) == before
            hung.setblocking(True)
            hung.accept()[0].close()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    """A symbolic link to a socket too: what it names is not ours to guess."""
    path, other = tmp_path / "s", tmp_path / "other"
    with bind(other, 5):
        if kind == "file":
            path.write_text("mine")
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(other if kind == "link" else tmp_path / "nowhere")
        before = inode(path)
        for attempt in (lambda: bind(path, 5).close(), lambda: replace(path, other)):
            with pytest.raises(OSError) as caught:
                attempt()
            assert caught.value.errno == errno.EEXIST
            assert inode(path) == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bind(tmp_path / "no" / "s", 5)
    with pytest.raises(FileNotFoundError):
        inode(tmp_path / "no")
    assert not abandoned(tmp_path / "no")


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        bind(tmp_path / ("x" * 108), 5)


def test_only_ones_own_name_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bind(path, 5):
        ours = inode(path)
        path.unlink()
        with bind(path, 5):
            remove(path, ours)
            connects(path)
    with bind(path, 5):
        remove(path, inode(path))
        assert not path.exists()
        remove(path, ours)


def test_one_takes_the_name_of_another(tmp_path: Path) -> None:
    """The old one goes on with what it has accepted; nobody finds the name missing."""
    path, temporary = tmp_path / "s", tmp_path / "s.new"
    with bind(path, 5) as old, bind(temporary, 5) as new, socket.socket(socket.AF_UNIX) as client:
        of_the_old = inode(path)
        replace(path, temporary)
        assert not temporary.exists()
        client.connect(str(path))
        with pytest.raises(BlockingIOError):
            old.accept()
        new.accept()[0].close()
        remove(path, of_the_old)
        assert not abandoned(path)
    with closing(bind(temporary, 5)):
        path.unlink()
        replace(path, temporary)
        connects(path)
