"""The metrics of a hand-made balancer: every name, sums over all workers, what disappears, both formats, the time it takes."""

from __future__ import annotations

import ctypes
import gzip
import os
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from nlbcore.facts import Facts
from nlbcore.observe.metrics import FAMILIES, Exposition, Metrics, prefers_openmetrics
from nlbcore.segment import BUCKETS, SERVERS, Segment
from nlbcore.termination import WORDS, Termination
from tests.support.programs import need, run
from tests.support.waiting import wait_until
from tests.unit.admin.published import Published, group, listener

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLIC = {
    "nlb_build_info": "gauge",
    "nlb_certificate_not_after_timestamp_seconds": "gauge",
    "nlb_client_certificate_expiring": "gauge",
    "nlb_config_generation": "gauge",
    "nlb_config_last_reload_success_timestamp_seconds": "gauge",
    "nlb_config_last_reload_successful": "gauge",
    "nlb_config_reloads_total": "counter",
    "nlb_connection_duration_seconds": "histogram",
    "nlb_crl_next_update_timestamp_seconds": "gauge",
    "nlb_listener_connections": "gauge",
    "nlb_listener_connections_total": "counter",
    "nlb_listener_received_bytes_total": "counter",
    "nlb_listener_sent_bytes_total": "counter",
    "nlb_log_records_dropped_total": "counter",
    "nlb_server_connect_errors_total": "counter",
    "nlb_server_connections": "gauge",
    "nlb_server_group_connect_duration_seconds": "histogram",
    "nlb_server_group_usable_servers": "gauge",
    "nlb_server_up": "gauge",
    "nlb_terminations_total": "counter",
    "nlb_tls_handshake_duration_seconds": "histogram",
    "nlb_tls_handshakes_total": "counter",
    "nlb_worker_loop_stall_seconds": "gauge",
    "nlb_worker_restarts_total": "counter",
    "nlb_worker_up": "gauge",
}
"""Promised: dashboards and alerts of others rely on them."""
OPENMETRICS = "application/openmetrics-text"

Samples = dict[str, float]


@pytest.fixture
def balancer() -> Iterator[Published]:
    with Published() as made:
        yield made


def text(facts: Facts, segment: Segment, accept: str = "") -> str:
    return Exposition(Metrics(facts, segment)).answer(accept, "")[0].decode()


def samples(balancer: Published) -> Samples:
    """Every line of the text format, as it stands there."""
    lines = text(balancer.facts, balancer.segment).splitlines()
    split = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in split}


def test_all_families_are_there_before_anything_is() -> None:
    with Published() as balancer:
        nothing = Facts.create()
        answer = text(nothing, balancer.segment)
        os.close(nothing.fd)
    types = dict(line.split()[2:4] for line in answer.splitlines() if line.startswith("# TYPE"))
    assert PUBLIC.items() <= types.items()
    assert types.keys() == {family.name for family in FAMILIES}
    assert answer.count("# HELP") == len(FAMILIES)
    assert all(line.startswith("#") for line in answer.splitlines()), "no samples"


def test_a_new_balancer_is_at_zero(balancer: Published) -> None:
    found = samples(balancer)
    counted = {name: value for name, value in found.items() if "_total" in name or "_bucket" in name}
    assert set(counted.values()) == {0.0}
    for word in WORDS[1:]:
        assert f'nlb_terminations_total{{listener="plain",termination="{word}"}}' in found
    assert not any('"open"' in name for name in found)
    handshakes = [name for name in found if name.startswith("nlb_tls_handshakes_total")]
    assert handshakes == [
        f'nlb_tls_handshakes_total{{listener="web",resumed="{resumed}",version="TLSv1.{minor}"}}'
        for minor in (2, 3)
        for resumed in ("false", "true")
    ]
    assert found['nlb_client_certificate_expiring{listener="web",within="7d"}'] == 0
    assert 'nlb_client_certificate_expiring{listener="plain",within="7d"}' not in found
    assert found["nlb_config_last_reload_successful"] == 1
    assert found["nlb_config_last_reload_success_timestamp_seconds"] == 1_700_000_000
    assert found['nlb_server_up{server="s7",server_group="app"}'] == 1


def test_sums_over_all_workers(balancer: Published) -> None:
    for slot in range(2):
        block = balancer.segment.block(slot)
        web = block.listeners[4]
        web.connections, web.received, web.sent, web.live = 10 + slot, 1 << 40, 5, 2
        web.terminations[Termination.REVOKED] = 3
        web.handshakes[0][0] = 1
        web.handshakes[4][1] = 4
        web.expiring[:] = [0, 1, 2, 3]
        block.servers[8].connections, block.servers[8].live = 6, 1
        block.servers[8].connect_failed, block.servers[8].connect_timeout = 2, 1
        block.ring.dropped = 7
    balancer.segment.block(1).stall_us = 1500
    found = samples(balancer)
    server = 'server="s8",server_group="app"'
    assert {
        'nlb_listener_connections_total{listener="web"}': 21,
        'nlb_listener_connections{listener="web"}': 4,
        'nlb_listener_received_bytes_total{listener="web"}': 2.0 * (1 << 40),
        'nlb_listener_sent_bytes_total{listener="web"}': 10,
        'nlb_listener_sent_bytes_total{listener="plain"}': 0,
        'nlb_terminations_total{listener="web",termination="revoked"}': 6,
        'nlb_tls_handshakes_total{listener="web",resumed="false",version="other"}': 2,
        'nlb_tls_handshakes_total{listener="web",resumed="true",version="TLSv1.3"}': 8,
        'nlb_client_certificate_expiring{listener="web",within="30d"}': 6,
        f"nlb_server_connections_total{{{server}}}": 12,
        f"nlb_server_connections{{{server}}}": 2,
        f'nlb_server_connect_errors_total{{reason="connect_failed",{server}}}': 4,
        f'nlb_server_connect_errors_total{{reason="connect_timeout",{server}}}': 2,
        "nlb_log_records_dropped_total": 14,
        'nlb_worker_loop_stall_seconds{worker="1"}': 0.0015,
    }.items() <= found.items()


def test_histograms_are_cumulative_and_in_seconds(balancer: Published) -> None:
    for slot in range(2):
        time_of = balancer.segment.block(slot).groups[2].connect_time
        time_of.buckets[0], time_of.buckets[3], time_of.buckets[len(BUCKETS)] = 1, 2, 1
        time_of.sum_us = 2_500_000
    found = samples(balancer)
    name = "nlb_server_group_connect_duration_seconds"
    buckets = [value for line, value in found.items() if line.startswith(f"{name}_bucket")]
    assert buckets == [2, 2, 2, *[6] * (len(BUCKETS) - 3), 8]
    assert found[f'{name}_bucket{{le="0.0005",server_group="app"}}'] == 2
    assert found[f'{name}_bucket{{le="+Inf",server_group="app"}}'] == 8
    assert (found[f'{name}_sum{{server_group="app"}}'], found[f'{name}_count{{server_group="app"}}']) == (5, 8)


def test_counters_outlive_their_worker_and_gauges_do_not(balancer: Published) -> None:
    web = balancer.segment.block(0).listeners[4]
    web.connections, web.live, web.expiring[3] = 9, 9, 9
    balancer.segment.repair(0, [4], [])
    found = samples(balancer)
    assert found['nlb_listener_connections_total{listener="web"}'] == 9
    assert found['nlb_listener_connections{listener="web"}'] == 0
    assert found['nlb_client_certificate_expiring{listener="web",within="30d"}'] == 0


def test_servers_and_groups(balancer: Published) -> None:
    def state() -> tuple[float, ...]:
        found = samples(balancer)
        counts = (
            f'nlb_server_group_{word}{{server_group="app"}}' for word in ("servers", "usable_servers", "fail_open")
        )
        servers = (f'nlb_server_{word}{{server="s7",server_group="app"}}' for word in ("up", "draining"))
        return tuple(int(found[name]) for name in (*counts, *servers))

    assert state() == (2, 2, 0, 1, 0)
    balancer.judge(7, "Unhealthy", "CONNECT_FAILED")
    assert state() == (2, 1, 0, 0, 0)
    balancer.judge(8, "Unhealthy", "CONNECT_FAILED")
    assert state() == (2, 0, 1, 0, 0)
    balancer.judge(7, "Available")
    balancer.order(7, "drain")
    assert state() == (1, 0, 1, 1, 1), "one that is drained is not meant to be used, but it is up"
    balancer.order(8, weight=0)
    assert state() == (0, 0, 0, 1, 1)


def test_processes(balancer: Published) -> None:
    workers = balancer.told["workers"]
    balancer.tell(
        workers=[workers[0] | {"restarts": 3}, workers[1] | {"state": "retired"}],
        attendants=[{"name": "prober", "pid": 0, "state": "down", "restarts": 2}],
    )
    found = samples(balancer)
    assert found['nlb_worker_up{worker="0"}'] == 1
    assert found['nlb_worker_restarts_total{worker="0"}'] == 3
    assert 'nlb_worker_up{worker="1"}' not in found, "it is not meant to be up"
    assert (found['nlb_attendant_up{attendant="prober"}'], found["nlb_supervisor_up"]) == (0, 1)
    balancer.beat(0)
    assert samples(balancer)['nlb_worker_up{worker="0"}'] == 0


def test_a_reload(balancer: Published) -> None:
    """A refused one leaves the moment of the last that was not; what is no longer configured disappears."""
    balancer.tell(
        listeners=[listener("web", 4)],
        generation=4,
        reload={"time": 1_700_000_100, "successful": True},
        reloads={"successful": 1, "failed": 0},
    )
    found = samples(balancer)
    assert found["nlb_config_generation"] == 4
    assert found["nlb_config_last_reload_success_timestamp_seconds"] == 1_700_000_100
    assert not any('"plain"' in name for name in found)
    balancer.tell(
        reload={"time": 1_700_000_200, "successful": False},
        reloads={"successful": 1, "failed": 1, "last_successful": 1_700_000_100},
    )
    found = samples(balancer)
    assert found["nlb_config_last_reload_successful"] == 0
    assert found["nlb_config_last_reload_success_timestamp_seconds"] == 1_700_000_100
    assert found['nlb_config_reloads_total{result="failed"}'] == 1


def test_dates(balancer: Published) -> None:
    """One sample for what has one name; a list that never ends has none; a path need not be text."""
    certificate = {"listener": "web", "path": "/etc/a.crt", "names": [], "not_after": 2_000_000_000}
    crl = {"listener": "web", "issuer": 'CN="x"', "next_update": 1_900_000_000}
    balancer.tell(
        certificates=[certificate, certificate, certificate | {"path": "/etc/\udcff.crt"}],
        crls=[crl, crl | {"next_update": 1_800_000_000}, crl | {"issuer": "CN=y", "next_update": None}],
    )
    found = {name: value for name, value in samples(balancer).items() if "timestamp" in name and "web" in name}
    assert found == {
        'nlb_certificate_not_after_timestamp_seconds{certificate="/etc/a.crt",listener="web"}': 2_000_000_000,
        'nlb_certificate_not_after_timestamp_seconds{certificate="/etc/\\\\udcff.crt",listener="web"}': 2_000_000_000,
        'nlb_crl_next_update_timestamp_seconds{issuer="CN=\\"x\\"",listener="web"}': 1_800_000_000,
    }


def test_what_a_damaged_worker_writes_stays_numbers(balancer: Published) -> None:
    block = balancer.segment.block(0)
    for row in (block.listeners[4], block.servers[7], block.groups[2]):
        ctypes.memset(ctypes.addressof(row), 0xFF, ctypes.sizeof(row))
    balancer.segment.verdicts[7].state = 200
    assert samples(balancer)['nlb_server_up{server="s7",server_group="app"}'] == 1


def test_both_formats_are_whole(balancer: Published) -> None:
    plain = text(balancer.facts, balancer.segment)
    modern = text(balancer.facts, balancer.segment, OPENMETRICS)
    assert {family.name for family in text_string_to_metric_families(plain)} >= {"nlb_terminations", "nlb_build_info"}
    families = {family.name: family.type for family in openmetrics.text_string_to_metric_families(modern)}
    assert families["nlb_terminations"] == "counter"
    assert (families["nlb_listener_connections"], families["nlb_listener_connections_total"]) == ("gauge", "unknown")

    def lines(answer: str) -> set[str]:
        return {line for line in answer.splitlines() if not line.startswith("#")}

    assert lines(plain) == lines(modern)


def test_promtool_has_nothing_to_say(balancer: Published) -> None:
    need("promtool")
    done = run("promtool", "check", "metrics", data=text(balancer.facts, balancer.segment).encode())
    assert done.stdout + done.stderr == b""


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        (f"{OPENMETRICS};version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        (f"text/plain, {OPENMETRICS};q=0.5", False),
        (f"{OPENMETRICS};q=0", False),
        (f"{OPENMETRICS};q=much", False),
    ],
)
def test_the_format_is_negotiated(accept: str, wanted: bool) -> None:
    assert prefers_openmetrics(accept) is wanted


def test_an_answer_stands_for_a_second(balancer: Published) -> None:
    exposition = Exposition(Metrics(balancer.facts, balancer.segment))
    first, headers = exposition.answer("", "")
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    balancer.tell(generation=9)
    assert exposition.answer("", "")[0] is first
    packed, headers = exposition.answer("", "deflate, gzip")
    assert (headers["content-encoding"], gzip.decompress(packed)) == ("gzip", first)
    assert b"nlb_config_generation 3.0" in exposition.answer(OPENMETRICS, "gzip;q=0")[0]
    wait_until(lambda: b"nlb_config_generation 9.0" in exposition.answer("", "")[0], "a new answer", 3)


def test_a_thousand_servers_and_sixteen_workers() -> None:
    with Published(16) as balancer:
        balancer.tell(server_groups=[group("app", 2, *range(SERVERS - 1000, SERVERS))])
        took = []
        for _ in range(3):
            exposition = Exposition(Metrics(balancer.facts, balancer.segment))
            start = time.process_time()
            body, _ = exposition.answer(OPENMETRICS, "gzip")
            took.append(time.process_time() - start)
        assert gzip.decompress(body).count(b"nlb_server_up{") == 1000
        assert min(took) < 0.15
