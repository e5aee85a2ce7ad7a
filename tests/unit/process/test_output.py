"""Lines into files, pipes, terminals and sockets: never a wait, none lost that can be kept, never two lines in one."""

from __future__ import annotations

import errno
import os
import select
import socket
import tty
from io import FileIO
from typing import TYPE_CHECKING

import pytest

from nlbcore.process.output import Output
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LINES = b"".join(b"%07d %s\n" % (number, b"x" * (number % 200)) for number in range(5000))
LONG = b"y" * 300_000 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[FileIO, FileIO]]:
    reader, writer = os.pipe()
    with FileIO(reader) as readable, FileIO(writer, "w") as writable:
        yield readable, writable


@pytest.fixture
def make() -> Iterator[Callable[[int], Output]]:
    made: list[Output] = []

    def one(fd: int) -> Output:
        made.append(Output(fd))
        return made[-1]

    yield one
    for output in made:
        output.use(-1)


def read_now(fd: int) -> bytes:
    found = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(0):
        found += os.read(fd, 1 << 20)
    return found


def read_all(output: Output, fd: int) -> bytes:
    """Everything, by a reader that comes at last."""
    found = read_now(fd)
    while output.waits:
        output.wait(5)
        output.flush()
        found += read_now(fd)
    return found


def test_a_file(make: Callable[[int], Output], tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    output = make(fd)
    output.put(LINES)
    output.put(b"")
    output.put(b"last\n")
    os.close(fd)
    assert path.read_bytes() == LINES + b"last\n"
    assert (output.waits, output.error, output.lost) == (False, None, 0)


def test_none_at_all(make: Callable[[int], Output]) -> None:
    output = make(-1)
    output.put(LINES)
    assert (output.waits, output.lost) == (False, 0)


@pytest.mark.parametrize("data", [LINES, LONG], ids=["lines", "one long line"])
@pytest.mark.parametrize("kind", ["pipe", "named pipe", "terminal", "socket"])
def test_a_reader_that_does_not_read(make: Callable[[int], Output], tmp_path: Path, kind: str, data: bytes) -> None:
    if kind == "socket":
        ours, theirs = socket.socketpair()
        reader, writer = ours.detach(), theirs.detach()
    elif kind == "terminal":
        reader, writer = os.openpty()
        tty.setraw(writer)
    elif kind == "named pipe":
        os.mkfifo(tmp_path / "log")
        reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(tmp_path / "log", os.O_WRONLY)
    else:
        reader, writer = os.pipe()
    output = make(writer)
    output.put(data)
    assert output.waits
    assert os.get_blocking(writer), "others have this flag too"
    assert read_all(output, reader) == data
    output.put(b"last\n")
    assert read_all(output, reader) == b"last\n"
    assert (output.error, output.lost) == (None, 0)
    for fd in (reader, writer):
        os.close(fd)


def test_lines_stay_whole_though_others_write_between_them(
    make: Callable[[int], Output], pipe: tuple[FileIO, FileIO]
) -> None:
    reader, writer = (end.fileno() for end in pipe)
    output = make(writer)
    output.put(LINES)
    found = b""
    while output.waits:
        found += read_now(reader)
        os.write(writer, b"other\n")
        output.flush()
    lines = (found + read_now(reader)).splitlines(keepends=True)
    assert b"".join(line for line in lines if line != b"other\n") == LINES
    assert b"other\n" in lines


def test_a_reader_that_goes(make: Callable[[int], Output], pipe: tuple[FileIO, FileIO]) -> None:
    output = make(pipe[1].fileno())
    output.put(LINES)
    pipe[0].close()
    output.flush()
    assert not output.waits
    assert output.error is not None
    assert output.error.errno == errno.EPIPE
    assert 0 < output.lost < len(LINES)
    before = output.lost
    output.put(b"more\n")
    assert output.lost == before + 5


def test_no_reader_from_the_beginning(make: Callable[[int], Output], pipe: tuple[FileIO, FileIO]) -> None:
    pipe[0].close()
    output = make(pipe[1].fileno())
    output.put(LINES)
    assert (output.waits, output.lost) == (False, len(LINES))


def test_a_full_disk_is_waited_for(make: Callable[[int], Output], tmp_path: Path) -> None:
    """The lines go where there is room, when somebody says where."""
    full = os.open("/dev/full", os.O_WRONLY)
    output = make(full)
    output.put(b"one\ntwo\n")
    assert output.waits
    assert output.error is not None
    assert output.error.errno == errno.ENOSPC
    assert 0.5 < output.watch(select.poll()) <= 1, "no hurry"
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    output.use(fd)
    os.close(full)
    output.flush()
    assert path.read_bytes() == b"one\ntwo\n"
    output.put(b"three\n")
    os.close(fd)
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert output.lost == 0


def test_an_unfinished_line_is_written_whole_to_the_next_file(
    make: Callable[[int], Output], tmp_path: Path, pipe: tuple[FileIO, FileIO]
) -> None:
    reader, writer = (end.fileno() for end in pipe)
    output = make(writer)
    output.put(b"short\n" + LONG + b"third\n")
    assert output.waits
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    output.use(fd)
    output.flush()
    os.close(fd)
    assert path.read_bytes() == LONG + b"third\n"
    assert read_now(reader).startswith(b"short\nyyy")


def test_the_same_file_opened_anew_is_gone_on_with(make: Callable[[int], Output], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    writers = [os.open(tmp_path / "log", os.O_WRONLY) for _ in range(2)]
    output = make(writers[0])
    output.put(LONG)
    output.use(writers[1])
    os.close(writers[0])
    assert read_all(output, reader) == LONG
    for fd in (reader, writers[1]):
        os.close(fd)


def test_after_a_torn_line_a_new_one_begins(make: Callable[[int], Output], tmp_path: Path) -> None:
    """The only reader of a named pipe goes in the middle of a line, and another one comes."""
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "log", os.O_WRONLY)
    output = make(writer)
    output.put(LONG)
    os.close(reader)
    output.flush()
    assert output.lost > 0
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    read_now(reader)
    output.put(b"one\n")
    output.put(b"two\n")
    assert read_all(output, reader) == b"\none\ntwo\n"
    for fd in (reader, writer):
        os.close(fd)


def test_giving_up(make: Callable[[int], Output], pipe: tuple[FileIO, FileIO]) -> None:
    output = make(pipe[1].fileno())
    output.put(LINES)
    output.give_up()
    output.flush()
    assert not output.waits
    found = read_now(pipe[0].fileno())
    assert len(found) + output.lost == len(LINES)
    assert found
    assert LINES.startswith(found)
    output.put(b"what is taken at once is written\n")
    assert read_now(pipe[0].fileno()) == b"what is taken at once is written\n"


def test_no_descriptor_is_left_behind(pipe: tuple[FileIO, FileIO]) -> None:
    before = os.listdir("/proc/self/fd")
    output = Output(pipe[1].fileno())
    for _ in range(3):
        output.use(pipe[1].fileno())
    output.use(-1)
    assert os.listdir("/proc/self/fd") == before


def test_waiting_for_the_reader(make: Callable[[int], Output], pipe: tuple[FileIO, FileIO]) -> None:
    output = make(pipe[1].fileno())
    output.put(LINES)
    poll = select.poll()
    assert output.watch(poll) > 0
    assert poll.poll(0) == []
    pipe[0].read(8192)
    wait_until(lambda: poll.poll(0), "it is told at once")
