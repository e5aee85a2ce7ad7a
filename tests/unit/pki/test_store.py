"""Files are written whole or not at all, for the owner only, and nothing is overwritten by accident."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nlbcore.pki import store
from nlbcore.pki.errors import PkiError
from nlbcore.pki.store import Output


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(outputs: list[Output], *, replace: bool) -> None:
    with store.staged(outputs, replace=replace) as publish:
        publish()


def test_is_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert store.is_file(tmp_path / "a")
    for path in (tmp_path, tmp_path / "b", tmp_path / "a/b", Path("x" * 5000), Path("\0")):
        assert not store.is_file(path)


def test_write(tmp_path: Path) -> None:
    outer = os.umask(0)
    try:
        write([Output(tmp_path / "a", b"1"), Output(tmp_path / "b", b"2")], replace=False)
    finally:
        os.umask(outer)
    assert entries(tmp_path) == {"a": b"1", "b": b"2"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert {path.stat().st_nlink for path in tmp_path.iterdir()} == {1}


def test_replace(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o644)
    write([Output(tmp_path / "a", b"new")], replace=True)
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
        write([Output(tmp_path / "a", b"1")], replace=False)


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
            write([Output(tmp_path / "a", b"new"), Output(tmp_path / "b", b"2" * 1000)], replace=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert entries(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize("old", [{}, {"a": b"old a"}, {"a": b"old a", "b": b"old b"}])
def test_the_second_name_cannot_be_given(tmp_path: Path, old: dict[str, bytes]) -> None:
    """With replace too: what was there is put back, and what was not is not there."""
    for name, data in old.items():
        (tmp_path / name).write_bytes(data)
    outputs = [Output(tmp_path / name, b"new") for name in ("a", "b")]
    with (
        pytest.raises(PkiError, match=r"cannot write .*/b: no such file"),
        store.staged(outputs, replace=True) as publish,
    ):
        next(tmp_path.glob(".b.*.tmp")).unlink()  # so that rename() fails
        publish()
    assert entries(tmp_path) == old


def test_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").symlink_to("/nowhere")
    paths = [tmp_path / name for name in ("a", "b", "c")]
    with store.kept(paths) as old:
        assert {*old} == {*paths[:2]}
        (tmp_path / "a").unlink()
    assert names(tmp_path) == {"b"}
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(KeyError), store.kept(paths):
        (tmp_path / "a").unlink()
        (tmp_path / "b").unlink()
        raise KeyError
    assert names(tmp_path) == {"a", "b"}
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.readlink(tmp_path / "b") == "/nowhere"


def test_what_cannot_be_put_back_is_told_and_left(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    message = r"cannot put back what was there: .*/\.a\..*\.old\.tmp is the old .*/a$"
    with pytest.raises(PkiError, match=message), store.kept([tmp_path / "a"]):
        (tmp_path / "a").unlink()
        (tmp_path / "a").mkdir()
        raise KeyError
    (aside,) = tmp_path.glob(".a.*.old.tmp")
    assert aside.read_bytes() == b"old"


NOT_MINE = """
import os, sys
from pathlib import Path
from nlbcore.pki import store
folder = Path(sys.argv[1])
os.setuid(65534)
with store.staged([store.Output(folder / "a", b"new")], replace=True) as publish:
    publish()
try:
    with store.kept([folder / "b"]):
        raise KeyError
except KeyError:
    pass
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_file_that_is_somebody_elses() -> None:
    """Linux lets nobody link to it (fs.protected_hardlinks); in a folder of one's own it can be replaced all the same."""
    with tempfile.TemporaryDirectory() as made:  # tmp_path is in a folder that only root can enter
        folder = Path(made)
        for name in ("a", "b"):
            (folder / name).write_bytes(b"old")
            (folder / name).chmod(0o600)
        os.chown(folder, 65534, 65534)
        subprocess.run([sys.executable, "-c", NOT_MINE, made], timeout=30, check=True)
        assert entries(folder) == {"a": b"new", "b": b"old"}


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match=r"cannot write .*/no/a: no such file or directory"):
        write([Output(tmp_path / "no/a", b"1")], replace=False)
    with pytest.raises(PkiError, match=r"cannot write .*/sub: is a directory"):
        (tmp_path / "sub").mkdir()
        write([Output(tmp_path / "sub", b"1")], replace=True)


def test_make_folder(tmp_path: Path) -> None:
    made = tmp_path / "x/y"
    store.make_folder(made)
    store.make_folder(made)
    assert made.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file/x"):
        with pytest.raises(PkiError, match=r"cannot make the folder .*: (file exists|not a directory)"):
            store.make_folder(path)


def test_a_file_without_end() -> None:
    with pytest.raises(PkiError, match=r"/dev/zero is larger than 1 MB: it is something else"):
        store.read(Path("/dev/zero"))


def test_exit_codes() -> None:
    for number, code in [(errno.EACCES, 77), (errno.EPERM, 77), (errno.ENOSPC, 1)]:
        error = store.failure("write", Path("x"), OSError(number, os.strerror(number)))
        assert error.exit_code == code
        assert str(error) == f"cannot write x: {os.strerror(number).lower()}"


def test_a_key_is_in_no_message() -> None:
    assert "secret" not in repr(Output(Path("x"), b"secret"))
