"""What is answered at which path, for a hand-made balancer and without a socket."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.address import Endpoint
from nlbcore.admin.app import Application
from nlbcore.admin.live import Connections
from nlbcore.admin.page import policy
from nlbcore.control.handlers import status
from nlbcore.facts import Facts
from tests.unit.admin.published import BIND, PAGE, Published, get
from tests.unit.observe.test_connections import live as record
from tests.unit.observe.test_connections import memfd

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def balancer() -> Iterator[Published]:
    with Published() as made:
        yield made


def test_the_page(balancer: Published) -> None:
    answer = balancer.get("/")
    assert (answer.status, answer.body) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == policy(PAGE)
    assert answer.headers["x-frame-options"] == "DENY"


def test_metrics(balancer: Published) -> None:
    answer = balancer.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"nlb_config_generation 3.0\n" in answer.body
    answer = balancer.get("/metrics", accept="application/openmetrics-text", accept_encoding="gzip")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert (answer.headers["content-encoding"], answer.body[:2]) == ("gzip", b"\x1f\x8b")


def test_health(balancer: Published) -> None:
    answer = balancer.get("/healthz")
    assert (answer.status, json.loads(answer.body)) == (200, {"healthy": True, "problems": []})
    answer = balancer.get("/readyz")
    assert (answer.status, json.loads(answer.body)) == (200, {"ready": True, "problems": []})
    balancer.judge(7, "Unhealthy")
    balancer.judge(8, "Unhealthy")
    assert balancer.get("/readyz").status == 200
    answer = balancer.get("/readyz?group=app")
    assert (answer.status, json.loads(answer.body)["problems"]) == (503, ["server group app has no usable server"])
    answer = balancer.get("/readyz?group=%3Cb%3E")
    assert (answer.status, json.loads(answer.body)) == (404, {"error": 'no server group "<b>"'})
    balancer.tell(state="draining")
    assert balancer.get("/readyz").status == 503
    assert balancer.get("/healthz").status == 200
    balancer.beat(1)
    answer = balancer.get("/healthz")
    assert (answer.status, json.loads(answer.body)["healthy"]) == (503, False)


def test_status_is_that_of_the_control_socket(balancer: Published) -> None:
    answer = balancer.get("/api/v1/status")
    assert answer.headers["content-type"] == "application/json"
    found, wanted = json.loads(answer.body), status(balancer.facts.read(), balancer.segment)
    for moving in ("uptime_s", "workers"):
        del found[moving], wanted[moving]
    assert found == json.loads(json.dumps(wanted))


def test_certificates(balancer: Published) -> None:
    certificate = {"listener": "web", "path": "/a.crt", "names": ["a.example"], "not_after": 2_000_000_000}
    balancer.tell(certificates=[certificate], crls=[{"listener": "web", "issuer": "CN=x", "next_update": None}])
    found = json.loads(balancer.get("/api/v1/certificates").body)
    assert found["generation"] == 3
    assert found["certificates"][0]["not_after"] == "2033-05-18T03:33:20Z"
    assert found["crls"][0]["next_update"] is None


def test_connections(balancer: Published) -> None:
    async def ask() -> None:
        def answers() -> bool:
            many = b"".join(record(number) for number in range(3))
            asyncio.get_running_loop().call_soon(connections.answered, {"workers": [0]}, [memfd(many)])
            return True

        connections = Connections(balancer.facts, answers)
        app = Application(balancer.facts, balancer.segment, connections, Endpoint.parse(BIND), PAGE, lambda _: None)
        found = json.loads((await get(app, "/api/v1/connections")).body)
        assert [one["connection"] for one in found["connections"]] == [0, 1, 2]
        found = json.loads((await get(app, "/api/v1/connections?limit=2")).body)
        assert (len(found["connections"]), found["truncated"]) == (2, True)
        for limit in ("0", "-1", "10001", "1e3", "", "999999999999", "\u00b2"):
            assert (await get(app, f"/api/v1/connections?limit={limit}")).status == 400

    asyncio.run(ask())


def test_the_supervisor_does_not_answer(balancer: Published) -> None:
    answer = balancer.get("/api/v1/connections")
    assert (answer.status, json.loads(answer.body)) == (
        503,
        {"error": "the balancer does not say who is connected; try again"},
    )


def test_before_anything_is_known(balancer: Published) -> None:
    facts = Facts.create()

    async def ask(path: str) -> int:
        connections = Connections(facts, lambda: False)
        app = Application(facts, balancer.segment, connections, Endpoint.parse(BIND), PAGE, lambda _: None)
        return (await get(app, path)).status

    codes = {path: asyncio.run(ask(path)) for path in ("/metrics", "/readyz", "/api/v1/status", "/events", "/")}
    os.close(facts.fd)
    assert codes == {"/metrics": 200, "/readyz": 503, "/api/v1/status": 503, "/events": 503, "/": 200}


def test_what_nobody_expected_is_told_and_answered(balancer: Published) -> None:
    balancer.tell(server_groups=[{"name": "broken"}])
    answers: list[Any] = []

    async def ask() -> None:
        app = balancer.application()
        with pytest.raises(KeyError):
            await get(app, "/api/v1/status", sent=answers)

    asyncio.run(ask())
    assert balancer.failures == [KeyError]
    assert answers[0]["status"] == 500


def test_no_other_path(balancer: Published) -> None:
    for path in ("/metrics/", "/api", "/api/v1/", "/page.html", "/../etc/passwd", "//", "/healthz/x"):
        answer = balancer.get(path)
        assert (answer.status, answer.headers["x-content-type-options"]) == (404, "nosniff"), path
