"""Which requests are let in, and the headers that every answer has."""

from __future__ import annotations

import asyncio
import socket

import pytest
from starlette.responses import PlainTextResponse

from nlbcore.address import Endpoint
from nlbcore.admin.guard import Guard
from tests.unit.admin.published import BIND, get

OPEN = Guard(PlainTextResponse("in", 200, {"cache-control": "no-cache"}), Endpoint.parse(BIND), ["nlb-1"])


def guard(bind: str) -> Guard:
    return Guard(PlainTextResponse(""), Endpoint.parse(bind), [])


@pytest.mark.parametrize(
    "host",
    [
        BIND,
        "127.0.0.1",
        "localhost:9180",
        "LocalHost.:1",
        "nlb.localhost",
        "NLB-1:9180",
        "[::1]:9180",
        "127.9.9.9",
        socket.gethostname(),
    ],
)
def test_our_names(host: str) -> None:
    assert OPEN.is_ours(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9180",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "[2001:db8::1]:9180",
        "127.0.0.1@evil.example",
        "[::1",
        "",
        ":9180",
        "2130706433",
    ],
)
def test_names_of_others(host: str) -> None:
    """An unfinished bracket is no name of anybody, but nobody can be led astray by it either."""
    assert OPEN.is_ours(host) is (host == "[::1")


def test_bound_to_one_address_or_to_all() -> None:
    assert guard("192.0.2.1:9180").is_ours("192.0.2.1:80")
    assert not guard("192.0.2.1:9180").is_ours("192.0.2.2:9180")
    assert guard("[2001:db8::1]:9180").is_ours("[2001:DB8:0::1]")
    assert guard("[fe80::1%2]:9180").is_ours("[fe80::1%2]:9180") is False, "a browser sends no zone"
    assert guard("[fe80::1%2]:9180").is_ours("[fe80::1]:9180")
    for everywhere in ("0.0.0.0:9180", "[::]:9180"):
        assert guard(everywhere).is_ours("198.51.100.7:9180")
        assert not guard(everywhere).is_ours("evil.example")


def test_a_request_for_somebody_else() -> None:
    answer = asyncio.run(get(OPEN, "/", host="evil.example"))
    assert (answer.status, b"not ours" in answer.body) == (421, True)
    assert "access-control-allow-origin" not in answer.headers
    assert asyncio.run(get(OPEN, "/", host="")).status == 200, "HTTP/1.0 has no host, and no browser speaks it"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get"])
def test_only_reading(method: str) -> None:
    answer = asyncio.run(get(OPEN, "/", method))
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.headers["x-frame-options"] == "DENY"


def test_headers_of_every_answer() -> None:
    headers = asyncio.run(get(OPEN, "/")).headers
    assert headers["cache-control"] == "no-cache", "what the answer says itself stands"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_other_protocols_are_not_served() -> None:
    async def ask() -> None:
        await OPEN({"type": "websocket"}, None, None)  # type: ignore[arg-type]

    asyncio.run(ask())
