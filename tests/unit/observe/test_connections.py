"""The answer to `conns`, read back: every connection in the log's words, the filters, and lists that a worker has spoilt."""

from __future__ import annotations

import json
import os
import struct
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.engine.journal import record_layout
from nlbcore.errors import NlbError
from nlbcore.observe import access_log, connections
from nlbcore.observe.connections import Connections, Filter, as_array
from tests.unit.observe.test_access_log import record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.certs import Pki

SIZE = record_layout()[1]
NAMES = {
    "listeners": {"0": "web", "3": "plain", "7": "web"},
    "groups": {"1": "app", "2": "other"},
    "servers": {"0": "a", "5": "b", "9": "a"},
}


def live(number: int, **fields: Any) -> bytes:
    """The record of a connection that has come to its relay."""
    return record(**{"kind": connections.CONNECTION, "termination": 4, "id": number, "connection_us": 1500, **fields})


def memfd(data: bytes) -> int:
    fd = os.memfd_create("connections")
    os.write(fd, data)
    return fd


class Answer:
    """The answer to `conns`, with a list for each worker, from 0 or by their slots."""

    def __init__(self, *lists: bytes, slots: list[int] | None = None) -> None:
        self.fds = [memfd(data) for data in lists]
        self.result = {"node": "n1", "names": NAMES, "workers": slots or list(range(len(lists)))}

    def read(self, **chosen: Any) -> list[dict[str, Any]]:
        return list(Connections(self.result, self.fds, Filter(**chosen)))

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.fds:
            os.close(fd)


def test_a_connection_in_the_words_of_the_log(pki: Pki) -> None:
    data = live(
        2**64 - 1,
        flags=access_log.PROVEN | access_log.RESUMED,
        family=4,
        address=bytes([192, 0, 2, 7]),
        port=65535,
        listener_row=7,
        server_row=5,
        tls_version=0x0304,
        generation=9,
        received=2**63,
        sent=5,
        handshake_us=1234,
        connect_us=0,
        cipher=b"TLS_AES_128_GCM_SHA256",
        group=b"X25519",
        name=b"www.example.com",
        alpn=b"h2",
        der=pki.client.der,
    )
    with Answer(data, slots=[4]) as answer:
        (one,) = answer.read()
    assert list(one)[:4] == ["connection", "worker", "state", "generation"]
    logged = json.loads(access_log.line(data, 4, access_log.Names.of({"node": "n1", **NAMES})))
    for key in ("time", "node", "termination"):
        del logged[key]
    assert one == {**logged, "state": "relay"}
    assert (one["listener"], one["server"], one["client_cert_subject"]) == ("web", "b", "CN=client-1")


def test_every_state() -> None:
    with Answer(b"".join(live(number, termination=number) for number in (1, 2, 3, 4, 5, 6, 7, 200))) as answer:
        told = [one["state"] for one in answer.read()]
    assert told == ["hello", "handshake", "connect", "relay", "flush", "linger", "preamble", "unknown (200)"]


def test_workers_one_after_the_other_and_as_often_as_one_likes() -> None:
    with Answer(live(1) + live(2), b"", live(3), slots=[0, 1, 5]) as answer:
        found = Connections(answer.result, answer.fds)
        for _ in range(2):
            assert [(one["worker"], one["connection"]) for one in found] == [(0, 1), (0, 2), (5, 3)]
        assert found.unreadable == []


def test_more_than_one_piece() -> None:
    """Wherever the reading is cut, also within the four bytes of a size."""
    connections_ = [live(number, name=b"x" * (number % 300)) for number in range(8000)]
    data = b"".join(connections_)
    assert len(data) > connections._PIECE + SIZE
    with Answer(data) as answer:
        assert [one["connection"] for one in answer.read()] == list(range(8000))


# -- filters ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def some(pki: Pki) -> Iterator[Answer]:
    """1 and 2 with certificates, 3 in the middle of a handshake from another network, 4 of an older generation."""
    v6 = bytes.fromhex("20010db8" + "00" * 11 + "01")
    first = live(1, family=4, address=bytes([10, 0, 0, 1]), server_row=0, der=pki.client.der)
    second = live(2, family=4, address=bytes([10, 0, 0, 200]), server_row=5, der=pki.server.der)
    third = live(3, termination=2, family=6, address=v6, listener_row=3)
    fourth = live(4, listener_row=7, group_row=2, server_row=9)
    with Answer(first + second, third + fourth) as answer:
        yield answer


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"listener": "web"}, [1, 2, 4]),
        ({"listener": "plain"}, [3]),
        ({"client": ip_network("10.0.0.1")}, [1]),
        ({"client": ip_network("10.0.0.128/25")}, [2]),
        ({"client": ip_network("0.0.0.0/0")}, [1, 2]),
        ({"client": ip_network("2001:db8::/32")}, [3]),
        ({"server": ("app", "a")}, [1]),
        ({"server": ("other", "a")}, [4]),
        ({"server": ("other", "b")}, []),
        ({"identity": "CN=CLIENT-1"}, [1]),
        ({"identity": "client-1.corp"}, [1]),
        ({"identity": "dns:www.example.com"}, [2]),
        ({"identity": "nobody"}, []),
        ({"listener": "web", "client": ip_network("10.0.0.0/8"), "server": ("app", "b")}, [2]),
    ],
    ids=str,
)
def test_filters(some: Answer, chosen: dict[str, Any], expected: list[int]) -> None:
    assert [one["connection"] for one in some.read(**chosen)] == expected


def test_a_fingerprint(some: Answer, pki: Pki) -> None:
    """Its first digits, as anybody writes them, but not so few that they are a stranger's too."""
    digits = pki.client.sha256
    colons = ":".join(digits[at : at + 2] for at in range(0, 64, 2))
    for text in (digits, digits[:8], digits.upper(), colons, colons.upper()[:14]):
        assert [one["connection"] for one in some.read(identity=text)] == [1], text
    assert some.read(identity=digits[:7]) == []
    assert some.read(identity=digits[1:]) == []


def test_a_certificate_of_which_only_the_fingerprint_is_there() -> None:
    digest = bytes(range(32))
    with Answer(live(1, flags=access_log.DIGEST_ONLY, der=digest)) as answer:
        assert answer.read(identity=digest.hex()[:8])[0]["client_cert_sha256"] == digest.hex()


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"listener": "wbe"}, "there is no listener wbe; there are: plain, web"),
        ({"server": ("ap", "a")}, "there is no server group ap; there are: app, other"),
        ({"server": ("app", "c")}, "there is no server c; there are: a, b"),
    ],
)
def test_a_name_that_there_is_not(some: Answer, chosen: dict[str, Any], told: str) -> None:
    with pytest.raises(NlbError) as caught:
        some.read(**chosen)
    assert str(caught.value) == told


# -- what is not to be trusted ----------------------------------------------------------------------------------------

GOOD = live(1)
SPOILT = {
    "half": GOOD[:-1],
    "a byte more": GOOD + b"\0",
    "nothing": b"\0" * 4096,
    "size": struct.pack("<I", SIZE - 1) + GOOD[4:],
    "huge": struct.pack("<I", 2**32 - 1) + GOOD[4:],
    "sizes": live(1, name=b"abc").replace(struct.pack("<HHHHHI", 0, 0, 3, 0, 0, 0), bytes(14)),
    "kind": record(kind=access_log.ACCESS),
    "text": live(1, cipher=b"\xff"),
}


@pytest.mark.parametrize("data", SPOILT.values(), ids=SPOILT)
def test_what_a_worker_spoils_is_its_own(data: bytes) -> None:
    with Answer(live(1), live(2) + data, live(3)) as answer:
        found = Connections(answer.result, answer.fds)
        assert [one["connection"] for one in found if one["worker"] != 1] == [1, 3]
        assert found.unreadable == [1]


@pytest.mark.timeout(10)
def test_what_is_no_file_is_not_read() -> None:
    """A pipe would keep the reader waiting for ever."""
    reading, writing = os.pipe()
    try:
        found = Connections({"node": "", "names": {}, "workers": [0]}, [reading])
        assert list(found) == []
        assert found.unreadable == [0]
    finally:
        os.close(reading)
        os.close(writing)


@given(st.binary(max_size=400), st.integers(0, 400))
def test_rubbish(data: bytes, cut: int) -> None:
    """Nothing but connections and the number of the worker ever comes out of it."""
    with Answer(GOOD[: cut % len(GOOD)] + data) as answer:
        found = Connections(answer.result, answer.fds)
        assert bool(list(found)) or found.unreadable == [0] or not data


def test_json() -> None:
    with Answer(live(1, name="a\x1b\x9b\u202e\n".encode()) + live(2)) as answer:
        text = b"".join(as_array(Connections(answer.result, answer.fds)))
    assert [one["connection"] for one in json.loads(text)] == [1, 2]
    assert text.count(b"\n") == 4
    assert all(letter >= " " or letter == "\n" for letter in text.decode())
    assert not set(text.decode()) & set("\x9b\u202e")
    assert b"".join(as_array([])) == b"[]\n"
