"""The server of the admin process, in this process: clients that do not finish, do not read, or are too many."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from nlbcore.process import serving
from nlbcore.process.admin import Orders
from nlbcore.process.serving import Serving
from tests.unit.admin.published import BIND, Published

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

REQUEST = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def balancer() -> Iterator[Published]:
    with Published() as made:
        yield made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PATIENCE", {"request": 0.3, "answer": 0.3, "closing": 0.3})
    monkeypatch.setattr(serving, "BEAT", 0.05)
    monkeypatch.setattr(serving, "_LOOK", 0.1)


def serve(balancer: Published, log: Path, check: Callable[[int], Awaitable[None]]) -> None:
    """Run `check`, with the port, while it serves; the supervisor's end of the control socket closes after it."""

    async def run() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        events = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with socket.create_server(("127.0.0.1", 0)) as listening, ours, theirs:
            port = listening.getsockname()[1]
            ours.setblocking(False)
            theirs.setblocking(False)
            fds = balancer.segment.fd, balancer.facts.fd, theirs.fileno(), listening.fileno(), events
            task = asyncio.create_task(Serving(Orders(*fds, "debug", BIND), theirs).run(listening))
            await asyncio.get_running_loop().sock_recv(ours, 100)
            try:
                await check(port)
            finally:
                ours.close()
                await asyncio.wait_for(task, 10)
                os.close(events)

    asyncio.run(run())


async def ends(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection ends, one way or the other."""
    data = b""
    try:
        async with asyncio.timeout(10):
            while piece := await reader.read(65536):
                data += piece
    except ConnectionResetError:
        pass
    return data


def test_unfinished_requests(balancer: Published, tmp_path: Path) -> None:
    """None, a half, and a half after a whole one; a stream meanwhile goes on."""

    async def check(port: int) -> None:
        stream, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST % b"/events")
        clients = []
        for data in (b"", REQUEST[:9], REQUEST % b"/healthz" + REQUEST[:9]):
            client = await asyncio.open_connection("127.0.0.1", port)
            client[1].write(data)
            clients.append(client)
        assert await clients[2][0].readline() == b"HTTP/1.1 200 OK\r\n"
        assert await ends(clients[0][0]) == await ends(clients[1][0]) == b""
        await ends(clients[2][0])
        for _ in range(3):
            await asyncio.wait_for(stream.readuntil(b"\n\n"), 5)
        assert not stream.at_eof()
        for one in (writer, *(one for _, one in clients)):
            one.close()

    serve(balancer, tmp_path / "log", check)
    assert (tmp_path / "log").read_text() == ""


def test_a_client_that_does_not_read(balancer: Published, tmp_path: Path) -> None:
    balancer.tell(certificates=[{"listener": "web", "path": "x" * 8_000_000, "names": [], "not_after": 2e9}])

    async def check(port: int) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)
            await loop.sock_sendall(sock, REQUEST % b"/api/v1/status")
            await loop.sock_recv(sock, 1)
            await asyncio.sleep(1)
            with pytest.raises(ConnectionResetError):
                async with asyncio.timeout(10):
                    while await loop.sock_recv(sock, 65536):
                        pass

    serve(balancer, tmp_path / "log", check)


def test_too_many_clients(balancer: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit an answer that says so, beyond twice as many nothing; it is over when they leave."""
    monkeypatch.setattr(serving, "CLIENTS", 3)
    monkeypatch.setattr(serving, "PATIENCE", {})

    async def check(port: int) -> None:
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
        refused = await asyncio.open_connection("127.0.0.1", port)
        assert await ends(refused[0]) == b""
        refused[1].close()
        clients[5][1].write(REQUEST % b"/healthz")
        assert (await ends(clients[5][0])).startswith(b"HTTP/1.1 503 ")
        for _, writer in clients:
            writer.close()
        async with asyncio.timeout(5):
            status = b""
            while not status.startswith(b"HTTP/1.1 200 "):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(REQUEST % b"/healthz")
                status = await reader.readline()
                writer.close()

    serve(balancer, tmp_path / "log", check)


def test_who_came_just_before_the_end_is_answered(balancer: Published, tmp_path: Path) -> None:
    """In one round it hears that it shall leave and accepts them: they are a successor's no more."""
    clients = []

    async def check(port: int) -> None:
        for _ in range(3):
            clients.append(socket.create_connection(("127.0.0.1", port), 5))
            clients[-1].sendall(REQUEST % b"/healthz")

    serve(balancer, tmp_path / "log", check)
    for sock in clients:
        with sock:
            assert sock.recv(15) == b"HTTP/1.1 200 OK"


def test_rubbish_is_answered_and_not_logged(balancer: Published, tmp_path: Path) -> None:
    async def check(port: int) -> None:
        for data in (b"\x16\x03\x01\x02\x00\x01" * 50, b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"G\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            assert (await ends(reader)).startswith(b"HTTP/1.1 400 ")
            writer.close()

    serve(balancer, tmp_path / "log", check)
    assert (tmp_path / "log").read_text() == ""


def test_what_nobody_expected_is_logged_once_a_second(balancer: Published, tmp_path: Path) -> None:
    balancer.tell(server_groups=[{"name": "broken"}])

    async def check(port: int) -> None:
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST % b"/api/v1/status")
            assert (await reader.readline()).startswith(b"HTTP/1.1 500 ")
            writer.close()

    started = time.monotonic()
    serve(balancer, tmp_path / "log", check)
    lines = (tmp_path / "log").read_text().splitlines()
    assert 1 <= len(lines) <= 2 + time.monotonic() - started
    assert " error admin_failed error=KeyError('servers') at=" in lines[0]
