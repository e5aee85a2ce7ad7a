"""What the admin process answers, by path. Everything comes from the facts and the segment; only the live connections are
asked for.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from nlbcore.admin import health
from nlbcore.admin.guard import Guard
from nlbcore.admin.page import policy
from nlbcore.admin.stream import Feed
from nlbcore.control.handlers import status
from nlbcore.errors import BusyError
from nlbcore.observe.metrics import Exposition, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from nlbcore.address import Endpoint
    from nlbcore.admin.live import Connections
    from nlbcore.facts import Facts
    from nlbcore.segment import Segment

LISTED = 1000
MOST_LISTED = 10_000
"""Connections in one answer, unless asked otherwise and at most: more would keep the heart from beating."""
CACHED = 0.5
"""Seconds for which the status stands."""


class Application:
    """The ASGI application.

    Args:
        facts: what the supervisor has published
        segment: the counters and verdicts
        connections: who asks for the live connections
        bind: the address that we listen at
        page: the status page
        failed: is told of an exception that nobody expected
    """

    def __init__(
        self,
        facts: Facts,
        segment: Segment,
        connections: Connections,
        bind: Endpoint,
        page: bytes,
        failed: Callable[[Exception], None],
    ) -> None:
        self._facts = facts
        self._segment = segment
        self._connections = connections
        self._page = page
        self._policy = policy(page)
        self._failed = failed
        self._exposition = Exposition(Metrics(facts, segment))
        self._status = b""
        self._status_until = 0.0
        self._feed = Feed(self._status_text)
        paths = {
            "/": self._index,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/events": self._events,
            "/api/v1/status": self._api_status,
            "/api/v1/certificates": self._api_certificates,
            "/api/v1/connections": self._api_connections,
        }
        starlette = Starlette(
            routes=[Route(path, endpoint) for path, endpoint in paths.items()],
            exception_handlers={BusyError: _busy, TimeoutError: _busy, Exception: self._unexpected},
        )
        starlette.router.redirect_slashes = False
        self._guarded = Guard(starlette, bind, [facts.read().get("node", "")])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guarded(scope, receive, send)

    def close(self) -> None:
        """End what has no end of its own."""
        self._feed.close()

    async def _index(self, _request: Request) -> Response:
        return Response(self._page, 200, {"content-security-policy": self._policy}, "text/html")

    async def _metrics(self, request: Request) -> Response:
        accept, encoding = (request.headers.get(name, "") for name in ("accept", "accept-encoding"))
        body, headers = self._exposition.answer(accept, encoding)
        return Response(body, 200, headers)

    async def _healthz(self, _request: Request) -> Response:
        wrong = health.alive(self._facts, self._segment)
        return _json({"healthy": not wrong, "problems": wrong}, 503 if wrong else 200)

    async def _readyz(self, request: Request) -> Response:
        try:
            wrong = health.ready(self._facts, self._segment, request.query_params.get("group"))
        except health.NoSuchGroupError as error:
            return _json({"error": str(error)}, 404)
        return _json({"ready": not wrong, "problems": wrong}, 503 if wrong else 200)

    async def _events(self, _request: Request) -> Response:
        return self._feed.response()

    async def _api_status(self, _request: Request) -> Response:
        return Response(self._status_text(), 200, media_type="application/json")

    async def _api_certificates(self, _request: Request) -> Response:
        known = json.loads(self._status_text())
        return _json({key: known[key] for key in ("generation", "certificates", "crls")})

    async def _api_connections(self, request: Request) -> Response:
        asked = request.query_params.get("limit", str(LISTED))
        if not (asked.isascii() and asked.isdecimal() and len(asked) < 6 and 1 <= int(asked) <= MOST_LISTED):
            return _json({"error": f"limit is a number from 1 to {MOST_LISTED}"}, 400)
        return _json(await self._connections.listed(int(asked)))

    def _status_text(self) -> bytes:
        now = time.monotonic()
        if now >= self._status_until:
            facts = self._facts.read()
            if not facts:
                raise BusyError("the balancer is starting")
            self._status = _dumps(status(facts, self._segment))
            self._status_until = now + CACHED
        return self._status

    async def _unexpected(self, _request: Request, error: Exception) -> Response:
        self._failed(error)
        return PlainTextResponse("nlb could not answer this; its event log says why\n", 500)


async def _busy(_request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 503)


def _json(answer: dict[str, Any], code: int = 200) -> Response:
    return Response(_dumps(answer), code, media_type="application/json")


def _dumps(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()
