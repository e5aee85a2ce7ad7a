"""Events: the same for all, computed once a second and for nobody not at all; who leaves, who does not read, too many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nlbcore.admin import stream
from nlbcore.admin.stream import Feed


class Client:
    """One listener, without a socket."""

    def __init__(self, feed: Feed, method: str = "GET") -> None:
        self.sent: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self._gone = asyncio.Event()
        self._arrived = asyncio.Event()
        scope = {"type": "http", "method": method}
        self.task = asyncio.create_task(feed.response()(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        self.sent.append(message)
        self._arrived.set()

    def events(self) -> list[bytes]:
        bodies = b"".join(one.get("body", b"") for one in self.sent)
        return [one.removeprefix(b"retry: 2000\n") for one in bodies.split(b"\n\n")[:-1]]

    async def has(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.events()) < count:
                self._arrived.clear()
                await self._arrived.wait()

    async def leave(self) -> None:
        self._gone.set()
        await asyncio.wait_for(self.task, 5)


class Source:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> bytes:
        self.asked += 1
        return b"%d" % self.asked


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "EVERY", 0.02)


def test_one_computation_for_all() -> None:
    async def listen() -> None:
        source = Source()
        feed = Feed(source)
        clients = [Client(feed) for _ in range(3)]
        for client in clients:
            await client.has(4)
        start = clients[0].sent[0]
        assert (start["status"], dict(start["headers"])[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
        assert clients[0].sent[1]["body"] == b"retry: 2000\ndata: 1\n\n"
        assert [client.events()[1:4] for client in clients] == [[b"data: 4", b"data: 5", b"data: 6"]] * 3
        for client in clients:
            await client.leave()
        asked = source.asked
        await asyncio.sleep(0.1)
        assert source.asked == asked, "nobody listens"
        late = Client(feed)
        await late.has(3)
        await late.leave()

    asyncio.run(listen())


def test_too_many() -> None:
    async def listen() -> None:
        feed = Feed(Source(), clients=2)
        clients = [Client(feed), Client(feed)]
        await clients[1].has(2)
        assert feed.response().status_code == 503
        await clients[0].leave()
        clients[0] = Client(feed)
        await clients[0].has(2)
        for client in clients:
            await client.leave()

    asyncio.run(listen())


def test_one_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It misses events, and is dropped in the end; its answer has no end, so that the server closes the connection."""
    monkeypatch.setattr(stream, "PATIENCE", 1.0)

    async def listen() -> None:
        feed = Feed(Source())
        slow, stuck, good = Client(feed), Client(feed), Client(feed)
        await good.has(1)
        slow.reads.clear()
        stuck.reads.clear()
        await good.has(5)
        slow.reads.set()
        await slow.has(4)
        await asyncio.wait_for(stuck.task, 5)
        assert all(one.get("more_body", True) for one in stuck.sent)
        assert len(slow.events()) < len(good.events())
        assert slow.events()[-1] in good.events()
        await slow.leave()
        await good.leave()

    asyncio.run(listen())


def test_the_end() -> None:
    async def listen() -> None:
        feed = Feed(Source())
        client = Client(feed)
        await client.has(2)
        feed.close()
        await asyncio.wait_for(client.task, 5)
        assert client.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
        assert feed.response().status_code == 503

    asyncio.run(listen())


def test_what_cannot_be_computed_ends_the_streams() -> None:
    async def listen() -> None:
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
        works = True

        def text() -> bytes:
            if not works:
                raise ValueError("broken")
            return b"{}"

        feed = Feed(text)
        client = Client(feed)
        await client.has(2)
        works = False
        await asyncio.wait_for(client.task, 5)
        with pytest.raises(ValueError, match="broken"):
            feed.response()
        works = True
        again = Client(feed)
        await again.has(3)
        await again.leave()

    asyncio.run(listen())


def test_only_the_head() -> None:
    async def listen() -> None:
        client = Client(Feed(Source()), "HEAD")
        await asyncio.wait_for(client.task, 5)
        assert [one.get("body") for one in client.sent] == [None, b""]

    asyncio.run(listen())
