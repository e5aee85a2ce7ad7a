"""Files are written whole or not at all, for the owner only, and nothing is overwritten by accident."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from nlbcore.pki import store
from nlbcore.pki.errors import PkiError
from nlbcore.pki.store import Output


def entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_write(tmp_path: Path) -> None:
    outer = os.umask(0)
    try:
        store.write([Output(tmp_path / "a", b"1"), Output(tmp_path / "b", b"2")], replace=False)
    finally:
        os.umask(outer)
    assert entries(tmp_path) == {"a": b"1", "b": b"2"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert {path.stat().st_nlink for path in tmp_path.iterdir()} == {1}


def test_replace(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o644)
    store.write([Output(tmp_path / "a", b"new")], replace=True)
    assert entries(tmp_path) == {"a": b"new"}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_taken_meanwhile(tmp_path: Path) -> None:
    """All or none: the first file loses its name again when the second cannot have its own."""
    outputs = [Output(tmp_path / "a", b"1"), Output(tmp_path / "b", b"2")]
    with pytest.raises(PkiError) as caught, store.staged(outputs, replace=False) as publish:
        (tmp_path / "b").write_bytes(b"somebody else's")
        publish()
    assert str(caught.value) == f"{tmp_path}/b is there already; --force overwrites it"
    assert entries(tmp_path) == {"b": b"somebody else's"}


def test_a_dangling_link_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/nowhere")
    with pytest.raises(PkiError, match=r"is there already"):
        store.refuse_existing([tmp_path / "a"])
    with pytest.raises(PkiError, match=r"is there already"):
        store.write([Output(tmp_path / "a", b"1")], replace=False)


def test_nothing_is_visible_before_it_is_published(tmp_path: Path) -> None:
    with pytest.raises(KeyError), store.staged([Output(tmp_path / "a", b"1")], replace=False):
        assert not (tmp_path / "a").exists()
        raise KeyError
    assert entries(tmp_path) == {}


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write comes up short in the same way."""
    (tmp_path / "a").write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(PkiError, match=r"cannot write .*/b: file too large"):
            store.write([Output(tmp_path / "a", b"new"), Output(tmp_path / "b", b"2" * 1000)], replace=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert entries(tmp_path) == {"a": b"old"}


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match=r"cannot write .*/no/a: no such file or directory"):
        store.write([Output(tmp_path / "no/a", b"1")], replace=False)
    with pytest.raises(PkiError, match=r"cannot write .*/sub: is a directory"):
        (tmp_path / "sub").mkdir()
        store.write([Output(tmp_path / "sub", b"1")], replace=True)


def test_make_folder(tmp_path: Path) -> None:
    made = tmp_path / "x/y"
    store.make_folder(made)
    store.make_folder(made)
    assert made.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file/x"):
        with pytest.raises(PkiError, match=r"cannot make the folder .*: (file exists|not a directory)"):
            store.make_folder(path)


def test_exit_codes() -> None:
    for number, code in [(errno.EACCES, 77), (errno.EPERM, 77), (errno.ENOSPC, 1)]:
        error = store.failure("write", Path("x"), OSError(number, os.strerror(number)))
        assert error.exit_code == code
        assert str(error) == f"cannot write x: {os.strerror(number).lower()}"


def test_a_key_is_in_no_message() -> None:
    assert "secret" not in repr(Output(Path("x"), b"secret"))
