"""A real Prometheus with the shipped rules scrapes a running balancer."""

from __future__ import annotations

import http.client
import json
import subprocess
import urllib.parse
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Self

import pytest

from nlbcore.observe.metrics import FAMILIES
from tests.deploy import DEPLOY
from tests.support.backends import Backend
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.ports import free_port
from tests.support.programs import need
from tests.support.tls_client import TlsClient, client_context, refusal
from tests.support.waiting import wait_until
from tests.support.workers import tls_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from tests.support.certs import Pki

CONFIGURATION = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - {{job_name: nlb, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}
"""


class Prometheus:
    """One that scrapes a port every second."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        path = folder / "prometheus.yml"
        path.write_text(CONFIGURATION.format(rules=DEPLOY / "prometheus/nlb.rules.yml", port=target))
        self.log = folder / "prometheus.log"
        command = [
            need("prometheus"),
            f"--config.file={path}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            "--storage.tsdb.retention.size=32MB",
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer of its API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with closing(connection):
            connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
            answer = json.loads(connection.getresponse().read())
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, expression: str) -> dict[str, float]:
        """What an expression is now, by the labels that are not of the target."""
        found = {}
        for one in self.ask("query", query=expression)["result"]:
            ours = {key: text for key, text in one["metric"].items() if key not in {"__name__", "job", "instance"}}
            found[",".join(f"{key}={text}" for key, text in ours.items())] = float(one["value"][1])
        return found

    def target(self) -> dict[str, Any]:
        """What it says of the balancer; empty before it answers."""
        try:
            found: list[dict[str, Any]] = self.ask("targets")["activeTargets"]
        except (ConnectionRefusedError, json.JSONDecodeError):
            assert self.process.poll() is None, self.log.read_text()
            return {}
        return found[0] if found else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_it_reads_all_and_its_rules_work(stack: ExitStack, tmp_path: Path, pki: Pki) -> None:
    """Up, no scrape error, every family with its type and its help; a refused client is counted; every rule is healthy."""
    backend = stack.enter_context(closing(Backend()))
    admin = free_port()
    tables = {
        "node": {"admin": f"127.0.0.1:{admin}"},
        "listeners": {"web": tls_listener(pki.server, ca=pki.root.path)},
        "server_groups": {"app": server_group(backend.entry(name="a"))},
    }
    prometheus = stack.enter_context(Prometheus(tmp_path, admin))
    balancer = stack.enter_context(Balancer(tmp_path, tables))
    with tls_client(balancer.port(), client_context(pki.root.path, None, pki.client)) as client:
        client.ping()
    with TlsClient(balancer.port(), client_context(pki.root.path)) as stranger:
        refusal(stranger)
    wait_until(lambda: prometheus.target().get("health") == "up", lambda: f"up: {prometheus.target()}", 20)
    assert prometheus.target()["lastError"] == ""
    refused = 'nlb_terminations_total{termination="no_certificate"}'
    wait_until(
        lambda: prometheus.values(refused) == {"listener=web,termination=no_certificate": 1},
        lambda: f"the refusal: {prometheus.values('nlb_terminations_total')}",
    )
    assert prometheus.values("up") == {"": 1}
    assert prometheus.values("nlb_worker_up") == {"worker=0": 1}
    assert prometheus.values('nlb_tls_handshakes_total{resumed="false",version="TLSv1.3"}') == {
        "listener=web,resumed=false,version=TLSv1.3": 1
    }
    known = {one["metric"]: one for one in prometheus.ask("targets/metadata", match_target='{job="nlb"}')}
    for family in FAMILIES:
        said = known.get(family.name) or known[family.name.removesuffix("_total").removesuffix("_info")]
        assert said["help"] == family.help, family.name
        assert said["type"] in {family.kind, "unknown"} | ({"gauge"} if family.kind == "info" else set()), family.name

    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), "every rule is evaluated", 20)
    assert [rule for rule in rules() if rule["health"] != "ok"] == []
    assert len(rules()) > 25
    firing = {one["labels"]["alertname"] for one in prometheus.ask("alerts")["alerts"] if one["state"] == "firing"}
    assert not firing
    assert "error" not in [line.partition("level=")[2][:5] for line in prometheus.log.read_text().splitlines()]
