"""Records of the journal: what the engine writes is what the log writer reads, also around the end of the ring."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509

from nlbcore.engine import counters
from nlbcore.engine.journal import record_layout
from nlbcore.observe import access_log
from nlbcore.observe.access_log import Names
from nlbcore.process.logwriter import _records
from nlbcore.segment import RING, Block, Segment
from nlbcore.termination import Termination

FORMAT, SIZE = record_layout()
NAMES = Names("n1", {5: "web"}, {6: "app"}, {7: "a"})


def test_the_format_has_the_size_of_the_structure() -> None:
    assert struct.calcsize(FORMAT) == SIZE
    assert FORMAT[0] == "<", "no padding, whatever the machine"


@pytest.fixture
def ring(door: Any) -> Iterator[Any]:
    """The ring that this process writes into meanwhile."""
    segment = Segment.create(1)
    before = door.block_address()
    block = segment.block(0)
    counters.use(ctypes.addressof(block), ctypes.sizeof(block))
    yield block.ring
    counters.use(before, ctypes.sizeof(Block))
    os.close(segment.fd)
    del segment, block


@pytest.fixture(autouse=True)
def mapping_is_gone(request: pytest.FixtureRequest) -> Iterator[None]:
    """The mapping of a segment has a descriptor of its own, and pytest keeps a test's arguments for a while."""
    yield
    getattr(request.node, "funcargs", {}).pop("ring", None)


def lines(ring: Any) -> list[dict[str, Any]]:
    return [json.loads(access_log.line(record, 3, NAMES)) for record in _records(ring)]


def test_an_access_record(door: Any, ring: Any) -> None:
    fields = {
        "row": 5,
        "group_row": 6,
        "generation": 9,
        "termination": int(Termination.SERVER_RESET),
        "id": 2**63 + 1,
        "proven": 1,
        "verify_error": 10,
        "verify_depth": 2,
        "detail_errno": errno.ECONNRESET,
        "detail": b"words",
        "tries": 1,
        "server_row": 7,
        "received": 2**40,
        "sent": 3,
        "accepted": 1000,
        "handshaken": 2500,
        "dialled": 3000,
        "connected": 3007,
    }
    door.write_access(fields, b"der", ("192.0.2.1", 65535), socket.AF_INET)
    (line,) = lines(ring)
    assert line.pop("time")
    assert line.pop("connection_time_ms") > 0
    assert line.pop("client_cert_sha256")
    assert line == {
        "node": "n1",
        "worker": 3,
        "generation": 9,
        "connection": 2**63 + 1,
        "listener": "web",
        "client_ip": "192.0.2.1",
        "client_port": 65535,
        "server_group": "app",
        "server": "a",
        "tls_resumed": False,
        "client_cert_proven": True,
        "verify_result": 10,
        "received_bytes": 2**40,
        "sent_bytes": 3,
        "tls_handshake_time_ms": 1.5,
        "connect_time_ms": 0.007,
        "termination": "server_reset",
        "termination_detail": "words: connection reset by peer",
    }


def test_the_authority_that_it_is_about(door: Any, ring: Any) -> None:
    """The CA certificate's subject, only where the verdict is about that, and only as long as names usually are."""
    found = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A CA")])
    long = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60)] * 15)
    for name, depth, error in ((found, 1, 10), (found, 0, 10), (found, 1, 0), (long, 1, 10)):
        fields = {"verify_error": error, "verify_depth": depth, "authority": name.public_bytes()}
        door.write_access(fields, b"der")
    told = [line.get("verify_ca_subject") for line in lines(ring)]
    assert told == ["CN=A CA", None, None, None]


def test_what_never_came(door: Any, ring: Any) -> None:
    door.write_access({})
    door.write_access({}, b"", ("2001:db8::1", 1), socket.AF_INET6)
    local, v6 = lines(ring)
    absent = {"client_ip", "server", "client_cert_sha256", "tls_handshake_time_ms", "connect_time_ms", "tls_resumed"}
    assert not absent & set(local)
    assert (v6["client_ip"], v6["client_port"]) == ("2001:db8::1", 1)


def test_events(door: Any, ring: Any) -> None:
    door.write_event(30, b"accept_failed")
    (record,) = _records(ring)
    found = access_log.event(record)
    assert found is not None
    assert found[1:] == (30, "accept_failed")


@pytest.mark.parametrize("before", [0, 1, 3, 4, SIZE - 1, SIZE, SIZE + 1, SIZE + 5])
def test_around_the_end(door: Any, ring: Any, before: int) -> None:
    ring.head = ring.tail = 7 * RING - before
    for _ in range(2):
        door.write_event(20, b"around the end")
    assert [record[SIZE:] for record in _records(ring)] == [b"around the end"] * 2


def test_a_full_ring_drops_and_counts(door: Any, ring: Any) -> None:
    size = SIZE + 1000
    for _ in range(RING // size + 3):
        door.write_event(20, b"n" * 1000)
    assert ring.dropped == 3
    assert ring.head == RING // size * size
    assert len(list(_records(ring))) == RING // size
    door.write_event(20, b"again")
    assert [record[SIZE:] for record in _records(ring)] == [b"again"]


def test_a_ring_that_is_exactly_full(door: Any, ring: Any) -> None:
    ring.head = 2 * RING
    ring.tail = ring.head - RING + SIZE + 1
    door.write_event(20, b"x")
    assert (ring.head, ring.dropped) == (2 * RING + SIZE + 1, 0)
    door.write_event(20, b"")
    assert ring.dropped == 1


def test_without_an_access_log_no_record_is_made(door: Any, ring: Any) -> None:
    """Events are still told."""
    ring.muted = 1
    door.write_access({})
    assert ring.head == 0
    door.write_event(20, b"x")
    assert [record[SIZE:] for record in _records(ring)] == [b"x"]


def test_the_log_writer_is_woken_once(door: Any, ring: Any) -> None:
    eventfd = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        door.wake(eventfd)  # what other tests have written
        ring.asleep = 1
        door.write_event(20, b"x")
        door.write_event(20, b"y")
        door.wake(eventfd)
        assert os.eventfd_read(eventfd) == 1
        assert ring.asleep == 0
        door.write_event(20, b"z")
        door.wake(eventfd)
        ring.asleep = 1
        door.wake(eventfd)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(eventfd)
    finally:
        os.close(eventfd)
