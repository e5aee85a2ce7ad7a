"""A snapshot travels sealed, once, and comes out as it went in; rows are numbered in the order of the file."""

from __future__ import annotations

import fcntl
import os
import pickle
from pathlib import Path

import pytest

from nlbcore.config.model import Config
from nlbcore.process.snapshot import Rows, Snapshot
from nlbcore.tls.material import ListenerMaterial, Material


@pytest.fixture
def config() -> Config:
    listener = {"bind": "127.0.0.1:443", "protocol": "TCP"}
    return Config.model_validate(
        {
            "node": {"name": "n1"},
            "listeners": {"b": {**listener, "server_group": "two"}, "a": {**listener, "server_group": "one"}},
            "server_groups": {
                "two": {"servers": [{"address": "10.0.0.2:80"}, {"address": "10.0.0.1:80", "name": "x"}]},
                "none": {},
                "one": {"servers": [{"address": "10.0.0.1:80", "name": "x"}]},
            },
        }
    )


@pytest.fixture
def snapshot(config: Config) -> Snapshot:
    return Snapshot(
        3, config, Material({"a": ListenerMaterial((), (b"der",)), "b": ListenerMaterial()}), Rows.number(config)
    )


def test_rows(config: Config) -> None:
    rows = Rows.number(config)
    assert rows.listeners == {"b": 0, "a": 1}
    assert rows.groups == {"two": 0, "none": 1, "one": 2}
    assert rows.servers == {("two", "10.0.0.2:80"): 0, ("two", "x"): 1, ("one", "x"): 2}
    assert rows.directory("n1") == {
        "node": "n1",
        "listeners": {0: "b", 1: "a"},
        "groups": {0: "two", 1: "none", 2: "one"},
        "servers": {0: "10.0.0.2:80", 1: "x", 2: "x"},
    }


def test_there_and_back(snapshot: Snapshot) -> None:
    fd = snapshot.seal()
    assert not os.get_inheritable(fd)
    again = Snapshot.unseal(os.dup(fd))
    assert again == snapshot
    assert Snapshot.unseal(fd) == snapshot, "once for each worker"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_nobody_can_change_it(snapshot: Snapshot) -> None:
    fd = snapshot.seal()
    try:
        for change in (lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 1 << 20)):
            with pytest.raises(PermissionError):
                change()
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
    finally:
        os.close(fd)


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_WRITE, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW])
def test_what_is_not_sealed_is_not_read(snapshot: Snapshot, seals: int) -> None:
    fd = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    os.write(fd, pickle.dumps(snapshot))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    with pytest.raises(ValueError, match="the snapshot is not sealed"):
        Snapshot.unseal(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_file_cannot_be_sealed(tmp_path: Path, snapshot: Snapshot) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(pickle.dumps(snapshot))
    with pytest.raises((ValueError, OSError)):
        Snapshot.unseal(os.open(path, os.O_RDONLY))


def test_something_else_that_is_sealed() -> None:
    fd = os.memfd_create("other", os.MFD_ALLOW_SEALING)
    os.write(fd, pickle.dumps({"generation": 1}))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    with pytest.raises(TypeError, match="not a snapshot"):
        Snapshot.unseal(fd)


def test_no_material_in_the_repr(snapshot: Snapshot) -> None:
    assert "b'der'" not in repr(snapshot)
    assert "Material" not in repr(snapshot)
