"""The channel: messages whole and in order, with descriptors or without, and its end is seen."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, get_args

import pytest

from nlbcore.process.channel import ANY, DESCRIPTORS, Answer, Channel, ChannelError, Message, Order

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, two = Channel.pair()
    yield one, two
    one.close()
    two.close()


def test_both_directions_in_order(ends: tuple[Channel, Channel]) -> None:
    for here, there, commands in ((*ends, Order), (*ends[::-1], Answer)):
        messages = [
            Message(command, number, f"r{number}", slot=255 - number, count=2**63 - 1 - number)
            for number, command in enumerate(get_args(commands))
        ]
        for message in messages:
            assert here.send(message)
        assert [there.receive() for _ in messages] == messages
        with pytest.raises(BlockingIOError):
            there.receive()


def test_neither_end_is_inherited_or_waits(ends: tuple[Channel, Channel]) -> None:
    for end in ends:
        assert not os.get_inheritable(end.fileno())
        assert not os.get_blocking(end.fileno())


def test_descriptors_go_with_their_message(ends: tuple[Channel, Channel]) -> None:
    """In their order; the sender keeps its own, the receiver owns what came."""
    files = [os.memfd_create(name) for name in ("one", "two", "three")]
    for number, file in enumerate(files):
        os.write(file, b"%d" % number)
    sent = {1: files[:1], 2: [], 3: files[::-1], 4: files[1:]}
    for generation, fds in sent.items():
        assert ends[0].send(Message("PREPARE", generation, fds=tuple(fds)))
    for generation, fds in sent.items():
        message = ends[1].receive()
        assert message is not None
        assert message.generation == generation
        assert len(message.fds) == len(fds)
        for received, file in zip(message.fds, fds, strict=True):
            assert not os.get_inheritable(received)
            assert os.path.sameopenfile(received, file)
            assert os.pread(received, 9, 0) == os.pread(file, 9, 0)
            os.close(received)
    for file in files:
        os.close(file)


def test_descriptor_zero_is_a_descriptor(ends: tuple[Channel, Channel]) -> None:
    assert ends[0].send(Message("PREPARE", fds=(0,)))
    message = ends[1].receive()
    assert message is not None
    (received,) = message.fds
    assert received > 0
    os.close(received)


def test_as_many_descriptors_as_one_message_may_have(ends: tuple[Channel, Channel]) -> None:
    """All of them arrive, and the name of an address beside them; more than that is no message."""
    file = os.memfd_create("socket")
    name = "unix:/" + "x" * 100
    assert ends[0].send(Message("SOCKETS", text=name, slot=ANY, fds=(file,) * DESCRIPTORS))
    message = ends[1].receive()
    assert message is not None
    assert (message.text, message.slot, len(message.fds)) == (name, ANY, DESCRIPTORS)
    for received in message.fds:
        os.close(received)
    assert ends[0].send(Message("SOCKETS", fds=(file,) * (DESCRIPTORS + 3))), "the kernel's limit"
    assert not ends[0].send(Message("SOCKETS", fds=(file,) * (DESCRIPTORS + 4)))
    os.close(file)


def test_a_descriptor_that_is_closed_is_not_sent(ends: tuple[Channel, Channel]) -> None:
    file = os.memfd_create("closed")
    os.close(file)
    assert not ends[0].send(Message("PREPARE", 1, fds=(file,)))
    with pytest.raises(BlockingIOError):
        ends[1].receive()


def test_adoption_names_a_slot(ends: tuple[Channel, Channel]) -> None:
    assert ends[0].send(Message("ADOPT", slot=3))
    assert ends[0].send(Message("RELEASE", slot=3))
    received = [ends[1].receive() for _ in range(2)]
    assert received == [Message("ADOPT", slot=3), Message("RELEASE", slot=3)]
    assert [one.generation for one in received if one] == [0, 0]


def test_one_that_does_not_read_holds_nobody_up(ends: tuple[Channel, Channel]) -> None:
    """What was sent is kept in order; the sender is told when there is room for no more, and goes on when there is again."""
    sent = 0
    while ends[0].send(Message("ADOPT", slot=sent)):
        sent += 1
    assert sent > 10, "the handful that a channel carries never fills it"
    for number in range(sent):
        assert ends[1].receive() == Message("ADOPT", slot=number)
    assert ends[0].send(Message("STOP"))


def test_the_end_of_the_channel() -> None:
    one, two = Channel.pair()
    assert one.send(Message("STOP"))
    one.close()
    assert two.receive() == Message("STOP"), "what was sent before the end arrives"
    assert two.receive() is None
    assert two.receive() is None
    assert not two.send(Message("DONE"))
    two.close()


def test_a_long_reason(ends: tuple[Channel, Channel]) -> None:
    reason = '"\n\u00e4' * 1000
    assert ends[1].send(Message("REFUSED", 7, reason))
    assert ends[0].receive() == Message("REFUSED", 7, reason)


def test_a_reason_of_any_length_arrives(ends: tuple[Channel, Channel]) -> None:
    """It may be cut, but not lost, and it must not break the channel."""
    assert ends[1].send(Message("REFUSED", 7, "x" * 100_000))
    message = ends[0].receive()
    assert message is not None
    assert message.command == "REFUSED"
    assert message.text.startswith("xxx")


GOOD: dict[str, object] = {"command": "READY", "generation": 1, "slot": 0, "count": 0, "text": ""}
CHANGES: list[dict[str, object]] = [
    {"x": 1},
    {"command": "FOO"},
    {"command": "END"},
    {"command": "STOP"},
    {"command": 5},
    {"command": []},
    {"generation": -1},
    {"generation": True},
    {"generation": 1.5},
    {"generation": 2**63},
    {"generation": "1"},
    {"slot": None},
    {"slot": -1},
    {"count": -1},
    {"count": 2**63},
    {"count": False},
    {"text": 7},
    {"text": None},
    {"fds": [0]},
    {"reason": ""},
]


@pytest.mark.parametrize(
    "said",
    [
        b"hello",
        b"\xff\xfe",
        b"[]",
        b"5",
        b"[" * 60_000,
        b"x" * 70_000,
        json.dumps({"command": "READY"}).encode(),
        json.dumps({name: value for name, value in GOOD.items() if name != "count"}).encode(),
        *(json.dumps({**GOOD, **change}).encode() for change in CHANGES),
    ],
    ids=lambda said: said[:40].decode(errors="replace"),
)
def test_what_is_no_message_is_told_so(ends: tuple[Channel, Channel], said: bytes) -> None:
    """A worker that has been taken over may say anything: it is neither obeyed nor an accident."""
    ends[1]._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    ends[1]._socket.send(said)
    with pytest.raises(ChannelError):
        ends[0].receive()
    assert ends[1].send(Message("DONE", 1))
    assert ends[0].receive() == Message("DONE", 1), "the next one is read as if nothing had been"


def test_the_supervisor_takes_no_descriptors(ends: tuple[Channel, Channel]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert ends[1].send(Message("READY", 1, fds=(0,)))
        with pytest.raises(ChannelError, match="more than there may be"):
            ends[0].receive()
    assert len(os.listdir("/proc/self/fd")) == before
