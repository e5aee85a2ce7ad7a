"""What the admin process does: serve HTTP with uvicorn, listen to the supervisor, let its heart beat.

uvicorn waits for ever for a client that does not finish its request, or does not take its answer; a look at all
connections once a second ends those, so that strangers who hold connections cannot keep the others out.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - a process of its own, which only serves HTTP
import contextlib
import logging
import math
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from nlbcore.address import Endpoint
from nlbcore.admin.app import Application
from nlbcore.admin.live import Connections
from nlbcore.admin.page import PAGE
from nlbcore.facts import Facts
from nlbcore.observe.log import STDERR, EventLog
from nlbcore.process.admin import Orders
from nlbcore.process.attendant import BEAT, close_all, hear, received, say
from nlbcore.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLIENTS = 128
"""Connections at a time; more are answered 503, and twice as many not at all."""
PATIENCE = {"request": 10.0, "answer": 30.0, "closing": 5.0}
"""Seconds that a client may take to send a request, to take its answer, and what is left of it. Streams see to themselves."""
LEAVING = 0.5
"""Seconds that one may take for any of it when we end."""
_ACCEPTING = 0.1
"""Seconds until whoever has been accepted is surely among the connections."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 seconds."""
_LONGEST_HEAD = 16 * 1024
_LOOK = 1.0
_TOLD_EVERY = 1.0


class _Protocol(H11Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > 2 * CLIENTS:
            self.reset()

    def reset(self) -> None:
        """End it, also in the kernel, which else keeps what a client does not read for minutes."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def phase(self) -> tuple[str, object]:
        """What is waited for, and of which request."""
        if self.transport.is_closing():
            return "closing", None
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]
            return "request", self.cycle
        return ("stream" if self.cycle.scope["path"] == "/events" else "answer"), self.cycle


class _Server(uvicorn.Server):
    """uvicorn's, without signals.

    Args:
        config: uvicorn's
        ready: called when it serves
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.servers = []
        self._ready = ready
        self._leaving_since = math.inf
        self._phases: dict[_Protocol, tuple[tuple[str, object], float]] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def leave(self) -> None:
        """Accept no more: who comes from now on is a successor's, which has the same socket. Who is here may ask once more.

        Not with `asyncio.Server.close`: that drops, without a word, whoever was accepted in the same round of the loop.
        """
        loop = asyncio.get_running_loop()
        for server in self.servers:
            for listening in server.sockets:
                loop.remove_reader(listening.fileno())
        self._leaving_since = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Whether it is over, asked ten times a second."""
        patience = LEAVING if self.server_state.connections else _ACCEPTING
        return await super().on_tick(counter) or time.monotonic() >= self._leaving_since + patience

    def look(self, now: float) -> None:
        """End the connections that have waited for their client for too long."""
        phases = {}
        for protocol in list(self.server_state.connections):
            assert isinstance(protocol, _Protocol)
            phase = protocol.phase()
            before, since = self._phases.get(protocol, (phase, now))
            if phase != before:
                since = now
            phases[protocol] = phase, since
            if now - since > PATIENCE.get(phase[0], float("inf")):
                protocol.reset()
        self._phases = phases


class Serving:
    """The process, between its orders and its end."""

    def __init__(self, orders: Orders, control: socket.socket) -> None:
        self._control = control
        self._events = EventLog(orders.events, orders.level, orders.format)
        self._told = -_TOLD_EVERY
        segment = Segment(orders.segment, writable=False)
        facts = Facts(orders.facts)
        self._connections = Connections(facts, lambda: say(control, {"ask": "connections"}))
        self._application = Application(
            facts, segment, self._connections, Endpoint.parse(orders.bind), PAGE.read_bytes(), self._failed
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # strangers' mistakes; ours come to `_failed`
        config = uvicorn.Config(
            self._application,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CLIENTS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=_LONGEST_HEAD,
        )
        self._server = _Server(config, self._begun)
        self._serves = False

    async def run(self, listening: socket.socket) -> None:
        """Until the control socket ends."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._failed_aside)
        loop.add_reader(self._control, self._hear)
        upkeep = asyncio.create_task(self._upkeep())
        try:
            await self._server.serve(sockets=[listening])
        finally:
            upkeep.cancel()

    def _begun(self) -> None:
        say(self._control, {"say": "ready"})
        self._alive()  # at once: who is ready and has no heart beat counts as silent
        self._serves = True

    def _alive(self) -> None:
        """It may not write its heart beat into the segment."""
        say(self._control, {"say": "alive"})

    async def _upkeep(self) -> None:
        looked = 0.0
        while True:
            now = time.monotonic()
            if self._serves:
                self._alive()
            if now - looked >= _LOOK:
                self._server.look(now)
                looked = now
            await asyncio.sleep(BEAT)

    def _hear(self) -> None:
        """Of the supervisor."""
        try:
            heard = hear(self._control)
        except BlockingIOError:
            return
        if heard is None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._application.close()
            self._server.leave()
            return
        packet, fds = heard
        if "orders" in packet:
            self._renew(received(Orders, packet, fds))
        elif "connections" in packet:
            self._connections.answered(packet["connections"], fds)
        else:
            close_all(fds)

    def _renew(self, orders: Orders) -> None:
        """The event log may be another one; what else was given to us does not change."""
        self._events.format = orders.format
        before, self._events.fd = self._events.fd, orders.events
        self._events.set_level(orders.level)
        close_all({before, orders.segment, orders.facts, orders.listening} - {0, 1, STDERR, orders.events})

    def _failed(self, error: BaseException) -> None:
        """Nobody expected it. Once a second: what one request does, a thousand can."""
        now = time.monotonic()
        if now - self._told >= _TOLD_EVERY:
            self._told = now
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            at = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where is not None else ""
            self._events.event("error", "admin_failed", error=repr(error), at=at)

    def _failed_aside(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """In no request, such as an accept() without a descriptor left."""
        self._failed(context.get("exception") or RuntimeError(context["message"]))


def run(orders: Orders) -> None:
    """Serve until the control socket ends."""
    with socket.socket(fileno=orders.control) as control, socket.socket(fileno=orders.listening) as listening:
        control.setblocking(False)
        asyncio.run(_run(orders, control, listening))


async def _run(orders: Orders, control: socket.socket, listening: socket.socket) -> None:
    await Serving(orders, control).run(listening)
