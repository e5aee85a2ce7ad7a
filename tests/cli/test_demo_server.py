"""The demo's server, as the process it is: HTTP for curl and for odd clients, and nobody waits for a silent one."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import psutil
import pytest

from nlbcli._demo_leash import leashed
from nlbcli._demo_server import HEAD_LIMIT, answer
from tests.support.programs import run
from tests.support.waiting import wait_until

Address = tuple[str, int]
ANSWER = answer(b"server a\n")


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        number = listener.fileno()
        with leashed("nlbcli._demo_server", str(number), "server a", descriptors=[number]) as process:
            listener.close()
            wait_until(lambda: "nlb: demo" in " ".join(psutil.Process(process.pid).cmdline()), "its title")
            yield address


def exchange(address: Address, *pieces: bytes, end: bool = False) -> bytes:
    """Send the pieces; all that comes back."""
    with socket.create_connection(address, 5) as sock:
        for piece in pieces:
            sock.sendall(piece)
        if end:
            sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_curl(server: Address) -> None:
    done = run("curl", "--silent", "--show-error", f"http://{server[0]}:{server[1]}/any?thing")
    assert done.stdout == b"server a\n"


def test_a_head_in_pieces(server: Address) -> None:
    assert exchange(server, b"GET / HTTP/1.1\r\n", b"Host: a\r\n\r", b"\n") == ANSWER


def test_a_body_is_not_waited_for_and_not_answered_again(server: Address) -> None:
    assert exchange(server, b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", b"1\r\n\r\n") == ANSWER


def test_a_head_that_is_too_long_is_not_read_for_ever(server: Address) -> None:
    assert exchange(server, b"x" * (HEAD_LIMIT + 1)) == ANSWER


def test_half_a_head_is_not_answered(server: Address) -> None:
    assert exchange(server, b"GET / HTTP/1.1\r\n", end=True) == b""


def test_silent_and_rude_clients_delay_nobody(server: Address) -> None:
    with socket.create_connection(server, 5), socket.create_connection(server, 5) as rude:
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        rude.close()
        assert exchange(server, b"GET / HTTP/1.0\r\n\r\n") == ANSWER
