"""A snapshot travels sealed, once, and comes out as it went in; rows are numbered in the order of the file."""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import pickle
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography.hazmat.bindings._rust import _openssl

from nlbcore.config.model import Config
from nlbcore.process.snapshot import ALIGN, Rows, Snapshot
from nlbcore.tls.material import ListenerMaterial, Material

if TYPE_CHECKING:
    from collections.abc import Iterator

ERRORS = (ValueError, struct.error, pickle.UnpicklingError, EOFError, IndexError, OverflowError)
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@pytest.fixture
def memfd() -> Iterator[Any]:
    """`memfd(DATA, SEALS)`: closed after the test."""
    made: list[int] = []

    def make(data: bytes, seals: int = SEALS) -> int:
        made.append(os.memfd_create("other", os.MFD_ALLOW_SEALING))
        os.write(made[-1], data)
        fcntl.fcntl(made[-1], fcntl.F_ADD_SEALS, seals)
        return made[-1]

    yield make
    for fd in made:
        os.close(fd)


class Table:
    """Something large that is only looked into: its bytes travel beside the pickle."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        assert protocol >= 5
        return Table, (pickle.PickleBuffer(self.data),)

    @property
    def address(self) -> int:
        return int(_openssl.ffi.cast("uintptr_t", _openssl.ffi.from_buffer(self.data)))


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
    try:
        assert not os.get_inheritable(fd)
        assert Snapshot.unseal(fd) == snapshot
        assert Snapshot.unseal(fd) == snapshot, "once for each worker; the descriptor stays the caller's"
        gc.collect()
        assert "nlb-generation" not in Path("/proc/self/maps").read_text(), "nothing that is not needed stays mapped"
    finally:
        os.close(fd)


SIZES = (0, 1, 8, ALIGN - 1, ALIGN, ALIGN + 1, 5000, 1 << 20)


def test_tables_are_views_of_the_sealed_memory(snapshot: Snapshot) -> None:
    """Not copies: all workers read one and the same memory. It is aligned, may not be written, and outlives the descriptor."""
    contents = [os.urandom(size) for size in SIZES]
    tables = [Table(bytearray(one) if number % 2 else one) for number, one in enumerate(contents)]
    fd = Snapshot(9, snapshot.config, cast("Material", tables), snapshot.rows).seal()
    try:
        again = Snapshot.unseal(fd)
    finally:
        os.close(fd)
    assert (again.generation, again.config, again.rows) == (9, snapshot.config, snapshot.rows)
    found = cast("list[Table]", again.material)
    assert [bytes(one.data) for one in found] == contents
    for one in found:
        assert isinstance(one.data, memoryview)
        assert one.data.readonly
        assert isinstance(one.data.obj, mmap.mmap)
        assert one.address % ALIGN == 0
    assert len({id(one.data.obj) for one in found}) == 1
    with pytest.raises(TypeError, match="read-only"):
        found[-1].data[0] = 1


def test_a_table_of_several_listeners_is_there_once(config: Config) -> None:
    table = os.urandom(1 << 20)
    names = [f"listener{number}" for number in range(8)]
    material = Material({name: ListenerMaterial(revocations=table) for name in names})
    fd = Snapshot(1, config, material, Rows.number(config)).seal()
    try:
        assert os.fstat(fd).st_size < 2 * len(table)
        again = Snapshot.unseal(fd)
    finally:
        os.close(fd)
    for name in names:
        found = again.material.listeners[name].revocations
        assert isinstance(found, memoryview)
        assert found == table


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


def test_one_table_of_several_listeners_is_there_once(snapshot: Snapshot) -> None:
    data = os.urandom(1 << 20)
    fd = Snapshot(9, snapshot.config, cast("Material", [Table(data), Table(data)]), snapshot.rows).seal()
    try:
        assert os.fstat(fd).st_size < 1.5 * len(data)
        found = cast("list[Table]", Snapshot.unseal(fd).material)
    finally:
        os.close(fd)
    assert found[0].address == found[1].address
    assert bytes(found[0].data) == bytes(found[1].data) == data


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_WRITE, SEALS & ~fcntl.F_SEAL_WRITE])
def test_what_is_not_sealed_is_not_read(snapshot: Snapshot, memfd: Any, seals: int) -> None:
    sealed = snapshot.seal()
    with os.fdopen(sealed, "rb") as whole:
        fd = memfd(whole.read(), seals)
    with pytest.raises(ValueError, match="the snapshot is not sealed"):
        Snapshot.unseal(fd)
    os.fstat(fd)


def test_a_file_cannot_be_sealed(tmp_path: Path) -> None:
    with (tmp_path / "snapshot").open("w+b") as file, pytest.raises((ValueError, OSError)):
        Snapshot.unseal(file.fileno())


class Impostor:
    """Sealed like a snapshot, and none."""

    generation = 1


def test_something_else_that_is_sealed() -> None:
    fd = Snapshot.seal(cast("Snapshot", Impostor()))
    try:
        with pytest.raises(TypeError, match="not a snapshot"):
            Snapshot.unseal(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64, 200, -100, -1])
def test_a_part_of_one_is_an_error(snapshot: Snapshot, memfd: Any, size: int) -> None:
    """Of any kind that a worker answers with REFUSED; never a crash, never a snapshot."""
    with os.fdopen(snapshot.seal(), "rb") as whole:
        data = whole.read()
    with pytest.raises(ERRORS):
        Snapshot.unseal(memfd(data[:size]))


@pytest.mark.parametrize("data", [bytes(4096), b"\xff" * 4096, b"garbage" * 100], ids=["zeros", "ones", "garbage"])
def test_garbage_is_an_error(memfd: Any, data: bytes) -> None:
    with pytest.raises(ERRORS):
        Snapshot.unseal(memfd(data))


def test_no_material_in_the_repr(snapshot: Snapshot) -> None:
    assert "b'der'" not in repr(snapshot)
    assert "Material" not in repr(snapshot)
