"""A snapshot travels sealed, once, and comes out as it went in, in steps; rows are numbered in the order of the file, and
what lives keeps its row.
"""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import pickle
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography.hazmat.bindings._rust import _openssl
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.config.model import Config
from nlbcore.process.snapshot import ALIGN, PIECE, Limits, NoRowError, Rows, Snapshot
from nlbcore.tls.material import ListenerMaterial, Material, ServerCertificate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ERRORS = (ValueError, struct.error, pickle.UnpicklingError, EOFError, IndexError, OverflowError)
LIMITS = Limits(256, 1024, 8192)
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


def address_of(view: memoryview) -> int:
    return int(_openssl.ffi.cast("uintptr_t", _openssl.ffi.from_buffer(view)))


def tables(*contents: bytes | memoryview) -> Material:
    """Large contents that are only looked into: they travel beside the pickle."""
    return Material({f"listener{n}": ListenerMaterial(revocations=one) for n, one in enumerate(contents)})


def tables_of(snapshot: Snapshot) -> list[memoryview]:
    return [cast("memoryview", one.revocations) for one in snapshot.material.listeners.values()]


def certificates(count: int) -> tuple[ServerCertificate, ...]:
    end = datetime(2030, 1, 1, tzinfo=UTC)
    return tuple(
        ServerCertificate(Path(f"{n}.crt"), Path(f"{n}.key"), (b"leaf%d" % n,), b"key%d" % n, (f"{n}.test",), end, "EC")
        for n in range(count)
    )


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
    material = Material({"a": ListenerMaterial((), (b"der",)), "b": ListenerMaterial()})
    return Snapshot(3, config, material, Rows.number(config, LIMITS))


# -- rows --------------------------------------------------------------------------------------------------------------


def small(listeners: list[str], groups: dict[str, list[str]]) -> Config:
    return Config.model_validate(
        {
            "listeners": {n: {"bind": "127.0.0.1:1", "protocol": "TCP", "server_group": "g"} for n in listeners},
            "server_groups": {
                name: {"servers": [{"address": "127.0.0.1:2", "name": server} for server in servers]}
                for name, servers in groups.items()
            },
        }
    )


def test_rows(config: Config) -> None:
    rows = Rows.number(config, LIMITS)
    assert rows.listeners == {"b": 0, "a": 1}
    assert rows.groups == {"two": 0, "none": 1, "one": 2}
    assert rows.servers == {("two", "10.0.0.2:80"): 0, ("two", "x"): 1, ("one", "x"): 2}


def test_what_lives_keeps_its_row() -> None:
    """Whatever its place in the file; its row goes to nobody else while any generation needs it, but then it does."""
    first = Rows.number(small(["a", "b"], {"g": ["x", "y"], "h": ["x"]}), LIMITS)
    second = Rows.number(small(["new", "b"], {"h": ["z", "x"], "g": ["y"]}), LIMITS, [first])
    assert second.listeners == {"new": 2, "b": 1}
    assert second.groups == {"h": 1, "g": 0}
    assert second.servers == {("h", "z"): 3, ("h", "x"): 2, ("g", "y"): 1}
    both = Rows.number(small(["a", "c"], {}), LIMITS, [first, second])
    assert both.listeners == {"a": 0, "c": 3}, "drained still, and wanted again: it is the same one"
    alone = Rows.number(small(["a", "c"], {}), LIMITS, [second])
    assert alone.listeners == {"a": 0, "c": 3}


def test_no_row_left() -> None:
    """Living rows count, those that are wanted again once."""
    limits = Limits(2, 2, 2)
    first = Rows.number(small(["a", "b"], {"g": ["x", "y"]}), limits)
    assert Rows.number(small(["b", "a"], {"g": ["y", "x"]}), limits, [first]) == Rows(
        {"b": 1, "a": 0}, {"g": 0}, {("g", "y"): 1, ("g", "x"): 0}
    )
    refused: dict[str, tuple[list[str], dict[str, list[str]], Sequence[Rows]]] = {
        "3 listeners: there is room for 2": (["a", "b", "c"], {}, ()),
        "3 server groups: there is room for 2": (["a"], {"g": [], "h": [], "i": []}, ()),
        "3 servers: there is room for 2": (["a"], {"g": ["x", "y"], "h": ["x"]}, ()),
        "1 listeners: there is room for 2 (2 are in use, those that are being drained included)": (["c"], {}, [first]),
        "1 servers: there is room for 2 (2 are in use, those that are being drained included)": (
            ["a"],
            {"g": ["z"]},
            [first],
        ),
    }
    for text, (listeners, groups, living) in refused.items():
        with pytest.raises(NoRowError) as raised:
            Rows.number(small(listeners, groups), limits, living)
        assert str(raised.value) == text


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcdefgh"), max_size=5), st.integers(0, 3)), max_size=12))
def test_rows_over_many_generations(history: list[tuple[set[str], int]]) -> None:
    """However generations come and go: no two names have one row at the same time, and no name two."""
    living: list[Rows] = []
    for names, ended in history:
        living = living[min(ended, len(living)) :]
        try:
            rows = Rows.number(small(sorted(names), {}), Limits(8, 0, 0), living)
        except NoRowError:
            continue
        living.append(rows)
        pairs = {(name, row) for one in living for name, row in one.listeners.items()}
        assert len(pairs) == len({name for name, _ in pairs}) == len({row for _, row in pairs})


# -- sealed and read ---------------------------------------------------------------------------------------------------


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


def test_a_thousand_certificates_in_steps() -> None:
    """As many steps as pieces; everything in its place. The configuration comes without the paths."""
    count = 1000
    pairs = [{"certificate": f"/{n}.crt", "private_key": f"/{n}.key"} for n in range(count)]
    listener = {"bind": "127.0.0.1:443", "server_group": "app", "certificates": pairs}
    servers = [{"address": f"10.0.{n // 250}.{n % 250}:80"} for n in range(PIECE + 1)]
    config = Config.model_validate(
        {
            "listeners": {"web": listener, "few": {**listener, "bind": "127.0.0.1:444", "certificates": pairs[:1]}},
            "server_groups": {"app": {"servers": servers}, "empty": {}},
        }
    )
    material = Material(
        {
            "web": ListenerMaterial(certificates(count), (b"ca",), b"table"),
            "few": ListenerMaterial(certificates(1), (b"ca",)),
        }
    )
    fd = Snapshot(8, config, material, Rows.number(config, LIMITS)).seal()
    try:
        steps, reading = 0, Snapshot.reading(fd)
        while True:
            try:
                next(reading)
            except StopIteration as end:
                again: Snapshot = end.value
                break
            steps += 1
    finally:
        os.close(fd)
    assert steps == -(-count // PIECE) + 1 + 2
    assert again.material == material
    assert again.config.server_groups == config.server_groups
    assert [one.certificates for one in again.config.listeners.values()] == [(), ()]
    bare = {name: one.model_copy(update={"certificates": ()}) for name, one in config.listeners.items()}
    assert again.config.listeners == bare


def test_reading_may_be_given_up(snapshot: Snapshot) -> None:
    fd = snapshot.seal()
    reading = Snapshot.reading(fd)
    next(reading)
    os.close(fd)
    reading.close()
    del reading
    gc.collect()
    assert "nlb-generation" not in Path("/proc/self/maps").read_text()


SIZES = (0, 1, 8, ALIGN - 1, ALIGN, ALIGN + 1, 5000, 1 << 20)


def test_tables_are_views_of_the_sealed_memory(snapshot: Snapshot) -> None:
    """Not copies: all workers read one and the same memory. It is aligned, may not be written, and outlives the descriptor."""
    contents = [os.urandom(size) for size in SIZES]
    material = tables(*(memoryview(one) if number % 2 else one for number, one in enumerate(contents)))
    fd = Snapshot(9, snapshot.config, material, snapshot.rows).seal()
    try:
        again = Snapshot.unseal(fd)
    finally:
        os.close(fd)
    assert (again.generation, again.config, again.rows) == (9, snapshot.config, snapshot.rows)
    found = tables_of(again)
    assert [bytes(one) for one in found] == contents
    for one in found:
        assert isinstance(one, memoryview)
        assert one.readonly
        assert isinstance(one.obj, mmap.mmap)
        assert address_of(one) % ALIGN == 0
    assert len({id(one.obj) for one in found}) == 1
    with pytest.raises(TypeError, match="read-only"):
        found[-1][0] = 1


def test_a_table_of_several_listeners_is_there_once(snapshot: Snapshot) -> None:
    table = os.urandom(1 << 20)
    fd = Snapshot(1, snapshot.config, tables(*[table] * 8), snapshot.rows).seal()
    try:
        assert os.fstat(fd).st_size < 1.5 * len(table)
        found = tables_of(Snapshot.unseal(fd))
    finally:
        os.close(fd)
    assert {address_of(one) for one in found} == {address_of(found[0])}
    assert [bytes(one) for one in found] == [table] * 8


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


def test_something_else_that_is_sealed(memfd: Any) -> None:
    """As `seal()` would write a pickle of something else."""
    text = pickle.dumps("no snapshot")
    fd = memfd(struct.pack("=QQQQ", 1, 0, 32, len(text)) + text)
    with pytest.raises(TypeError, match="not a snapshot"):
        Snapshot.unseal(fd)


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
