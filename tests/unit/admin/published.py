"""What a supervisor publishes, made by hand: facts and a segment, and requests to an application without a socket."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from nlbcore.address import Endpoint
from nlbcore.admin.app import Application
from nlbcore.admin.live import Connections
from nlbcore.facts import Facts
from nlbcore.segment import ORDERS, REASONS, STATES, Segment

if TYPE_CHECKING:
    from nlbcore.admin.guard import Guard

BIND = "127.0.0.1:9180"
PAGE = b"<!doctype html><title>nlb</title><style>p { color: red }</style><script>1 < 2</script>"


def servers(*rows: int) -> list[dict[str, Any]]:
    return [
        {
            "name": f"s{row}",
            "row": row,
            "address": f"10.0.0.{row % 250}:80",
            "weight": 100,
            "configured_weight": 100,
            "admin": "ready",
        }
        for row in rows
    ]


def group(name: str, row: int, *rows: int) -> dict[str, Any]:
    return {"name": name, "row": row, "scheduler": "wrr", "health_check": True, "servers": servers(*rows)}


def listener(name: str, row: int, **changes: object) -> dict[str, Any]:
    fields = {"bind": ["127.0.0.1:443"], "protocol": "TCPSSL", "server_group": "app", "client_auth": "required"}
    return {"name": name, "row": row, "max_connections": 0, **fields, **changes}


class Published:
    """A balancer of two workers with a listener of each kind, all in good health."""

    def __init__(self, slots: int = 2) -> None:
        self.segment = Segment.create(slots)
        self.segment.use(slots)
        self._writer = Facts.create()
        self.facts = Facts(self._writer.fd)
        self.told: dict[str, Any] = {
            "node": "nlb-1",
            "version": "0.1.0",
            "pid": 100,
            "started": 1_700_000_000,
            "state": "running",
            "generation": 3,
            "generations": [3],
            "admin": BIND,
            "control_socket": "/run/nlb/nlb.sock",
            "names": {
                "listeners": {"4": "web", "5": "plain"},
                "groups": {"2": "app"},
                "servers": {"7": "s7", "8": "s8"},
            },
            "listeners": [listener("web", 4), listener("plain", 5, protocol="TCP", client_auth="off")],
            "server_groups": [group("app", 2, 7, 8)],
            "certificates": [],
            "crls": [],
            "workers": [
                {"slot": slot, "pid": 101 + slot, "state": "running", "restarts": 0, "since": 1_700_000_000}
                for slot in range(slots)
            ],
            "attendants": [{"name": "prober", "pid": 99, "state": "running", "restarts": 0}],
            "reload": None,
            "reloads": {"successful": 0, "failed": 0},
        }
        self.tell()
        self.beat()

    def tell(self, **changes: object) -> None:
        self.told |= changes
        self._writer.publish(self.told)

    def beat(self, *silent: int) -> None:
        """All hearts, but those of these workers, which last beat a while ago."""
        now = time.monotonic_ns() // 1_000_000
        self._writer.beat()
        self.segment.shared.hearts[:] = [now] * len(self.segment.shared.hearts)
        for slot in range(self.segment.used):
            self.segment.block(slot).heartbeat = now - 4000 if slot in silent else now

    def judge(self, row: int, state: str, reason: str = "") -> None:
        self.segment.verdicts[row].state = STATES.index(state)
        self.segment.verdicts[row].reason = REASONS.index(reason)

    def order(self, row: int, state: str = "ready", weight: int | None = None) -> None:
        self.segment.shared.orders[row].state = ORDERS.index(state)
        self.segment.shared.orders[row].weight_and_one = 0 if weight is None else weight + 1

    def application(self) -> Application:
        """Within a running event loop."""
        self.failures: list[type[Exception]] = []
        connections = Connections(self.facts, lambda: False)
        return Application(
            self.facts,
            self.segment,
            connections,
            Endpoint.parse(BIND),
            PAGE,
            lambda error: self.failures.append(type(error)),
        )

    def get(self, path: str, **headers: str) -> Answer:
        """What a new application answers to one request."""

        async def asked() -> Answer:
            return await get(self.application(), path, "GET", None, **headers)

        return asyncio.run(asked())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """A mapping holds a descriptor of its own until nobody knows it."""
        os.close(self.segment.fd)
        os.close(self._writer.fd)
        del self.segment, self.facts, self._writer


class Answer(NamedTuple):
    """An HTTP answer; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


async def get(
    app: Application | Guard, path: str, method: str = "GET", sent: list[Any] | None = None, **headers: str
) -> Answer:
    """One request, with `host` as header unless another one is given; `_` in a header's name stands for `-`. What the
    application sends is kept in `sent`.
    """
    path, _, query = path.partition("?")
    headers = {"host": BIND} | headers
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    sent = [] if sent is None else sent

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    return Answer(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(body.get("body", b"") for body in bodies),
    )
