"""The facts: whole ones for every reader, at any moment; and nobody but their maker can change them."""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import json
import mmap
import os
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from nlbcore import facts
from nlbcore.facts import Facts
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def made() -> Iterator[Facts]:
    one = Facts.create()
    yield one
    one._map.close()
    os.close(one.fd)


def test_what_is_published_is_read(made: Facts) -> None:
    reader = Facts(made.fd)
    assert (reader.read(), reader.sequence) == ({}, 0)
    for number in range(3):
        made.publish({"node": "nöde", "number": number})
        assert reader.read() == {"node": "nöde", "number": number}
        assert reader.sequence == 2 * (number + 1)
    made.publish({})
    assert reader.read() == made.read() == {}


def test_what_has_been_read_is_kept_until_something_is_published(made: Facts) -> None:
    reader = Facts(made.fd)
    made.publish({"a": 1})
    first = reader.read()
    made.beat()
    assert reader.read() is first
    made.publish({"a": 1})
    assert reader.read() is not first


def test_its_heart(made: Facts) -> None:
    reader = Facts(made.fd)
    assert reader.heartbeat == 0
    before = time.monotonic_ns() // 1_000_000
    made.beat()
    assert before <= reader.heartbeat <= before + 1000
    assert reader.sequence == 0


def test_the_longest(made: Facts) -> None:
    room = facts.SIZE - 32 - len('{"x":""}')
    made.publish({"x": "x" * room})
    reader = Facts(made.fd)
    assert len(reader.read()["x"]) == room
    with pytest.raises(ValueError, match=f"the names of the configuration need {facts.SIZE - 31} bytes"):
        made.publish({"x": "x" * (room + 1)})
    assert len(Facts(made.fd).read()["x"]) == room, "the old ones are still there"


def test_they_cost_what_is_in_them(made: Facts) -> None:
    made.publish({"a": 1})
    assert os.fstat(made.fd).st_blocks * 512 <= 4096
    assert not os.get_inheritable(made.fd)


def test_nobody_else_can_change_them(made: Facts) -> None:
    """Not with the descriptor, not with a new one of it, not with a mapping, not by their size."""
    made.publish({"a": 1})
    again = os.open(f"/proc/self/fd/{made.fd}", os.O_RDWR)
    for fd in (made.fd, again):
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 40)
        with pytest.raises(PermissionError):
            mmap.mmap(fd, facts.SIZE)
        for size in (0, 2 * facts.SIZE):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
    os.close(again)
    with pytest.raises(PermissionError):
        fcntl.fcntl(made.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    reader = Facts(made.fd)
    with pytest.raises(TypeError):
        reader.publish({"a": 2})
    assert reader.read() == {"a": 1}


def test_a_mapping_that_is_read_only_stays_so(made: Facts) -> None:
    made.publish({"a": 1})
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_SHARED, made.fd, ctypes.c_long(0))
    assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), mmap.PROT_READ | mmap.PROT_WRITE) == -1
    assert libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(4096)) == 0


def test_a_forked_child_has_no_mapping_of_them(made: Facts) -> None:
    """A worker that is taken over cannot write what its supervisor can."""
    made.publish({"a": 1})
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        made.publish({"a": 2})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -11
    assert Facts(made.fd).read() == {"a": 1}


def test_readers_see_no_half_ones(made: Facts) -> None:
    """A reader in another process, while they change all the time, and their length too."""
    script = (
        "import sys\n"
        "from nlbcore.facts import Facts\n"
        "facts = Facts(int(sys.argv[1]))\n"
        "seen, numbers = 0, set()\n"
        "print('begun', flush=True)\n"
        "while not (found := facts.read()).get('end'):\n"
        "    assert found['text'] == str(found['number'] % 10) * found['number'], found['number']\n"
        "    numbers.add(found['number'])\n"
        "print(len(numbers))\n"
    )
    made.publish({"number": 1, "text": "1"})
    with subprocess.Popen(
        [sys.executable, "-c", script, str(made.fd)], pass_fds=[made.fd], stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "begun\n"
        deadline = time.monotonic() + 0.5
        number = 0
        while time.monotonic() < deadline:
            number = number % 5000 + 1
            made.publish({"number": number, "text": str(number % 10) * number})
        made.publish({"end": True})
        assert int(reader.stdout.read()) > 10
        assert reader.wait(10) == 0


def test_one_who_stops_in_the_middle_of_a_change(made: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before is not taken for new."""
    monkeypatch.setattr(facts, "_TRIES", 20)
    made.publish({"a": 1})
    reader = Facts(made.fd)
    assert reader.read() == {"a": 1}
    struct.pack_into("=Q", made._map, 8, 3)
    with pytest.raises(TimeoutError, match="does not finish what it publishes"):
        reader.read()
    struct.pack_into("=Q", made._map, 8, 4)
    wait_until(lambda: reader.read() == {"a": 1}, "it goes on")


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"nlbfact\0"])
def test_what_is_no_facts_is_refused(content: bytes) -> None:
    fd = os.memfd_create("other")
    os.write(fd, content)
    with pytest.raises(ValueError, match="not the facts of a balancer"):
        Facts(fd)
    os.ftruncate(fd, facts.SIZE)
    if not content.startswith(facts.MAGIC):
        with pytest.raises(ValueError, match="not the facts of a balancer"):
            Facts(fd)
    os.close(fd)


def test_the_text_is_json(made: Facts) -> None:
    """For who reads them without this module."""
    made.publish({"names": {"listeners": {"0": "web"}}})
    magic, sequence, _, length = struct.unpack("=8sQQQ", os.pread(made.fd, 32, 0))
    assert (magic, sequence) == (b"nlbfact\0", 2)
    assert json.loads(os.pread(made.fd, length, 32)) == {"names": {"listeners": {"0": "web"}}}
