"""Server-sent events: one computation a second for everybody who listens, and none for nobody."""

from __future__ import annotations

import asyncio  # noqa: TID251 - in the admin process only, which has nothing but HTTP to serve
import contextlib
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import Receive, Scope, Send

EVERY = 1.0
"""Seconds between two events."""
CLIENTS = 32
PATIENCE = 10.0
"""Seconds that a listener may take for one event; then it is dropped. One that is only slow misses events instead."""
_RETRY = b"retry: 2000\n"  # ms after which a browser that has lost us comes again


class Feed:
    """Tells listeners the same, at most `clients` of them.

    Args:
        text: makes the data of one event, a single line
        clients: as many at a time
    """

    def __init__(self, text: Callable[[], bytes], clients: int = CLIENTS) -> None:
        self._text = text
        self._clients = clients
        self._listening = 0
        self._closed = False
        self._clock: asyncio.Task[None] | None = None
        self._next: asyncio.Future[bytes] | None = None

    def response(self) -> Response:
        """The answer to one more listener: events without end, the first at once."""
        if self._closed or self._listening >= self._clients:
            return PlainTextResponse(f"{self._clients} clients listen already\n", 503, {"retry-after": "5"})
        return _Stream(self, _RETRY + self._event())

    def close(self) -> None:
        """All streams end."""
        self._closed = True
        self._tell(b"")

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """While somebody listens."""
        self._listening += 1
        if self._clock is None or self._clock.done():
            self._clock = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._listening -= 1
            if not self._listening:
                self._clock.cancel()

    @property
    def next(self) -> asyncio.Future[bytes]:
        """The event to come; empty when there will be none."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            event = b""  # what cannot be computed ends the streams; browsers come again
            try:
                event = self._event()
            finally:
                self._tell(event)

    def _event(self) -> bytes:
        return b"data: " + self._text() + b"\n\n"

    def _tell(self, event: bytes) -> None:
        told, self._next = self._next, None
        if told is not None and not told.done():
            told.set_result(event)


class _Stream(Response):
    """To one listener."""

    def __init__(self, feed: Feed, first: bytes) -> None:
        super().__init__()
        self._feed = feed
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] != "HEAD":
            with self._feed.joined():
                left = asyncio.create_task(_leaves(receive))
                try:
                    await self._tell(left, send)
                except TimeoutError:
                    return  # an answer without its end: the server closes the connection
                finally:
                    left.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, left: asyncio.Task[bytes], send: Send) -> None:
        event = self._first
        while event:
            coming = self._feed.next
            async with asyncio.timeout(PATIENCE):
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await asyncio.wait({left, coming}, return_when=asyncio.FIRST_COMPLETED)
            event = left.result() if left.done() else coming.result()


async def _leaves(receive: Receive) -> bytes:
    """Until the client does; no event, then."""
    while (await receive())["type"] != "http.disconnect":
        pass
    return b""
