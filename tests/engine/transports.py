"""What the relay may rely on, whichever transport it is: one suite for plain and TLS."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

END, AGAIN, ERROR, YIELD = 0, -1, -2, -3
SCRATCH = 65536


@dataclass
class Ends:
    """A transport, and its peer as a client would use it (all blocking).

    Attributes:
        pipe: the transport.
        receive: at most so many bytes; empty at a clean end.
        send: all of them.
        finish: the peer's direction ends in order.
        raw: the peer's socket.
    """

    pipe: Any
    receive: Callable[[int], bytes]
    send: Callable[[bytes], Any]
    finish: Callable[[], Any]
    raw: socket.socket


def read_some(pipe: Any, size: int = SCRATCH) -> bytes | int:
    """Read when there is something; the loop's part is played by asking again."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        pipe.ready()
        found: bytes | int = pipe.read(size)
        if found not in (AGAIN, YIELD):
            return found
        time.sleep(0.001)
    raise AssertionError("nothing came")


def read_all(pipe: Any) -> bytes:
    """To the end."""
    out = bytearray()
    while isinstance(found := read_some(pipe), bytes):
        out += found
    assert found == END
    return bytes(out)


def receive_all(ends: Ends, size: int) -> bytes:
    """`size` bytes at the peer, the transport's backlog flushed meanwhile."""
    ends.raw.settimeout(0.05)
    out = bytearray()
    while len(out) < size:
        ends.pipe.ready()
        assert ends.pipe.flush() in (0, AGAIN)
        with contextlib.suppress(TimeoutError):
            out += ends.receive(SCRATCH)
    ends.raw.settimeout(10)
    return bytes(out)


PATTERN = bytes(range(256)) * (SCRATCH // 256)


class Conformance:
    """The suite; a subclass has the fixture `ends`."""

    def test_both_directions(self, ends: Ends) -> None:
        ends.send(b"to us")
        assert read_some(ends.pipe) == b"to us"
        assert ends.pipe.write(b"to them") == 7
        assert ends.receive(100) == b"to them"
        assert ends.pipe.backlog() == 0

    def test_nothing_there(self, ends: Ends) -> None:
        ends.pipe.ready()
        assert ends.pipe.read(10) == AGAIN
        assert ends.pipe.read(10) == AGAIN
        assert not ends.pipe.state()["ended"]

    def test_a_write_takes_everything(self, ends: Ends) -> None:
        """What the socket does not take is backlog, byte for byte in order."""
        sent = bytearray()
        while ends.pipe.backlog() == 0:
            piece = PATTERN[len(sent) % 256 :]
            assert ends.pipe.write(piece) == len(piece)
            sent += piece
            assert len(sent) < 1 << 26
        backlog = ends.pipe.backlog()
        assert 0 < backlog <= SCRATCH + 4 * 64, "records have heads"
        ends.pipe.ready()
        assert ends.pipe.flush() == AGAIN
        assert receive_all(ends, len(sent)) == sent
        assert ends.pipe.flush() == 0
        assert ends.pipe.backlog() == 0

    def test_not_writable(self, ends: Ends) -> None:
        ends.pipe.ready(readable=True, writable=False)
        assert ends.pipe.write(b"later") == 5
        assert ends.pipe.backlog() >= 5
        assert ends.pipe.flush() == AGAIN
        ends.pipe.ready()
        assert ends.pipe.flush() == 0
        assert ends.receive(100) == b"later"

    def test_a_small_buffer_gets_everything(self, ends: Ends) -> None:
        ends.send(PATTERN[:1000])
        out = bytearray()
        while len(out) < 1000:
            found = read_some(ends.pipe, 7)
            assert isinstance(found, bytes)
            assert len(found) <= 7
            out += found
        assert bytes(out) == PATTERN[:1000]

    def test_the_peer_ends_first(self, ends: Ends) -> None:
        ends.send(b"last words")
        ends.finish()
        assert read_all(ends.pipe) == b"last words"
        state = ends.pipe.state()
        assert (state["ended"], state["clean"], state["error"]) == (True, True, 0)
        assert ends.pipe.read(10) == END, "whenever it is asked"
        assert ends.pipe.write(b"our direction goes on") == 21
        assert ends.receive(100) == b"our direction goes on"

    def test_we_end_first(self, ends: Ends) -> None:
        assert ends.pipe.write(b"last words") == 10
        assert ends.pipe.shutdown() == 0
        assert ends.pipe.state()["shut"]
        assert ends.pipe.shutdown() == 0, "once"
        assert ends.receive(100) == b"last words"
        assert ends.receive(100) == b""
        ends.send(b"their direction goes on")
        assert read_some(ends.pipe) == b"their direction goes on"

    def test_closing_twice(self, ends: Ends) -> None:
        ends.pipe.close()
        ends.pipe.close()

    def test_closing_with_a_backlog(self, ends: Ends) -> None:
        ends.pipe.ready(readable=True, writable=False)
        ends.pipe.write(PATTERN)
        assert ends.pipe.backlog() >= SCRATCH
        ends.pipe.close()
