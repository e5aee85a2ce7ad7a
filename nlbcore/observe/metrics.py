"""Metrics: the one table of families, and a collector that fills it from the facts and the segment.

The names in `FAMILIES` are public: they are added to, never renamed. All are declared from the start and what can be
counted is there at zero, so that the first refusal of a kind is a step that an alert can see. No label holds a client's
address or name, and the terminations are a fixed list: a listener is some 100 series, a server 6. No worker is asked for
anything; counters live in the segment and survive their worker, and what the configuration no longer has disappears.
"""

from __future__ import annotations

import ctypes
import gzip
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from cryptography.hazmat.backends.openssl import backend
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from nlbcore.segment import (
    BUCKETS,
    EXPIRING_DAYS,
    GROUPS,
    HEARTS,
    LISTENERS,
    READY,
    SERVERS,
    TLS_VERSIONS,
    UNHEALTHY,
    VERDICTS,
    Block,
    GroupCounters,
    Histogram,
    ListenerCounters,
    Segment,
    ServerCounters,
)
from nlbcore.termination import WORDS

if TYPE_CHECKING:
    from nlbcore.facts import Facts

SILENT = 3000
"""Age of a heart beat, in ms, from which its process counts as silent."""
AWAY = ("retiring", "retired", "ended")
"""States of a worker that is not meant to serve."""
CACHED = 1.0
"""Seconds for which an answer stands."""
_CURRENT = ("TLSv1.2", "TLSv1.3")  # counted from zero; the others only where a policy lets them in
_BOUNDS = [*map(floatToGoString, BUCKETS), "+Inf"]
_PLAIN = "text/plain; version=0.0.4; charset=utf-8"
_VARY = "Accept, Accept-Encoding"
_LEGAL = openmetrics.ALLOWUTF8  # our names need no escaping, which is what costs the most

Row = TypeVar("Row", ListenerCounters, GroupCounters, ServerCounters)


@dataclass(frozen=True)
class Family:
    """A family of metrics: its name as it is scraped, what it says, and its labels."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ()

    def empty(self) -> Metric:
        """Without a sample."""
        if self.kind == "counter":
            return CounterMetricFamily(self.name, self.help, labels=self.labels)
        if self.kind == "gauge":
            return GaugeMetricFamily(self.name, self.help, labels=self.labels)
        if self.kind == "histogram":
            return HistogramMetricFamily(self.name, self.help, labels=self.labels)
        return InfoMetricFamily(self.name.removesuffix("_info"), self.help, labels=())


_LISTENER = ("listener",)
_SERVER = ("server_group", "server")
_GROUP = ("server_group",)
FAMILIES = (
    Family("nlb_build_info", "info", "Version of nlb, of OpenSSL and of Python; always 1."),
    Family("nlb_start_time_seconds", "gauge", "When the supervisor was started, Unix time."),
    Family("nlb_supervisor_up", "gauge", "1: the supervisor's heart beats."),
    Family("nlb_listener_connections_total", "counter", "Connections accepted.", _LISTENER),
    Family("nlb_listener_connections", "gauge", "Connections of now.", _LISTENER),
    Family("nlb_listener_max_connections", "gauge", "The limit of connections at a time; 0: none.", _LISTENER),
    Family("nlb_listener_received_bytes_total", "counter", "Bytes from clients, decrypted.", _LISTENER),
    Family("nlb_listener_sent_bytes_total", "counter", "Bytes to clients, before encryption.", _LISTENER),
    Family("nlb_terminations_total", "counter", "Connections that have ended, by reason.", (*_LISTENER, "termination")),
    Family(
        "nlb_client_certificate_verdicts_total",
        "counter",
        "Clients that client_auth.mode = report has let in, by what would have become of them.",
        (*_LISTENER, "verdict"),
    ),
    Family(
        "nlb_proxy_protocol_certificates_left_out_total",
        "counter",
        "PROXY headers to servers in which the client's certificate had no room.",
        _LISTENER,
    ),
    Family("nlb_tls_handshakes_total", "counter", "TLS handshakes completed.", (*_LISTENER, "version", "resumed")),
    Family("nlb_tls_handshake_duration_seconds", "histogram", "Duration of completed TLS handshakes.", _LISTENER),
    Family("nlb_connection_duration_seconds", "histogram", "Duration of connections that have ended.", _LISTENER),
    Family(
        "nlb_client_certificate_expiring",
        "gauge",
        "Client certificates of live connections that end within so many days, each once.",
        (*_LISTENER, "within"),
    ),
    Family("nlb_server_up", "gauge", "0: Unhealthy by its health check; else 1, whatever was ordered.", _SERVER),
    Family("nlb_server_draining", "gauge", "1: taken out by `nlb server drain` or `maint`.", _SERVER),
    Family("nlb_server_connections", "gauge", "Connections of now to the server.", _SERVER),
    Family("nlb_server_connections_total", "counter", "Connections made to the server.", _SERVER),
    Family("nlb_server_connect_errors_total", "counter", "Failed connects to the server.", (*_SERVER, "reason")),
    Family("nlb_server_group_servers", "gauge", "Servers meant to get connections: weight, not drained.", _GROUP),
    Family("nlb_server_group_usable_servers", "gauge", "Those of them that are not Unhealthy.", _GROUP),
    Family("nlb_server_group_fail_open", "gauge", "1: all are Unhealthy, so all get connections.", _GROUP),
    Family("nlb_server_group_connect_duration_seconds", "histogram", "Duration of connects to its servers.", _GROUP),
    Family(
        "nlb_certificate_not_after_timestamp_seconds",
        "gauge",
        "When the server certificate in this file ends, Unix time.",
        (*_LISTENER, "certificate"),
    ),
    Family(
        "nlb_crl_next_update_timestamp_seconds",
        "gauge",
        "When the issuer's revocation list becomes overdue, Unix time; of several with one name the first.",
        (*_LISTENER, "issuer"),
    ),
    Family("nlb_config_generation", "gauge", "The generation in force."),
    Family("nlb_config_last_reload_successful", "gauge", "0: the last reload was refused."),
    Family(
        "nlb_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration in force was loaded, Unix time.",
    ),
    Family("nlb_config_reloads_total", "counter", "Reloads since the start.", ("result",)),
    Family("nlb_worker_up", "gauge", "1: the worker runs and its heart beats.", ("worker",)),
    Family("nlb_worker_restarts_total", "counter", "How often the worker was replaced.", ("worker",)),
    Family("nlb_worker_loop_stall_seconds", "gauge", "The longest round of its loop so far.", ("worker",)),
    Family("nlb_attendant_up", "gauge", "1: the helper process runs and its heart beats.", ("attendant",)),
    Family("nlb_attendant_restarts_total", "counter", "How often it was started again.", ("attendant",)),
    Family("nlb_access_log_suppressed_total", "counter", "Refusals without a line of their own.", _LISTENER),
    Family("nlb_log_records_dropped_total", "counter", "Log records lost because their ring was full."),
)


def beats(heart_ms: int) -> bool:
    """Whether a heart that last beat at this moment (ms of the monotonic clock, 0 for never) counts as beating."""
    return heart_ms > 0 and time.monotonic_ns() // 1_000_000 - heart_ms < SILENT


def wanted(segment: Segment, server: dict[str, Any]) -> bool:
    """Whether the server is meant to get new connections: it has a weight, and the operator has not taken it out."""
    order = segment.shared.orders[server["row"]]
    weight = order.weight_and_one - 1 if order.weight_and_one else server["configured_weight"]
    return bool(weight > 0 and order.state == READY)


def healthy(segment: Segment, server: dict[str, Any]) -> bool:
    """Whether its checks have nothing against it."""
    return bool(segment.verdicts[server["row"]].state != UNHEALTHY)


class _Totals(Generic[Row]):
    """The rows of one kind, each summed over the workers. Every field is a word of 8 bytes, so a row is a list of them."""

    def __init__(self, blocks: Sequence[Block], field: str, row: type[Row], rows: int) -> None:
        self._row: type[Row] = row
        self._width = ctypes.sizeof(row) // 8
        self._kind = ctypes.c_int64 * self._width
        whole = ctypes.c_int64 * (self._width * rows)
        self._blocks = [whole.from_buffer(block, getattr(Block, field).offset) for block in blocks]

    def __getitem__(self, number: int) -> Row:
        start = number * self._width
        rows = [words[start : start + self._width] for words in self._blocks]
        total: Row = self._row.from_buffer(self._kind(*map(sum, zip(*rows, strict=True))))
        return total


class _Samples:
    """The families, being filled."""

    def __init__(self) -> None:
        self.families: dict[str, Any] = {family.name: family.empty() for family in FAMILIES}

    def add(self, name: str, labels: Sequence[str], value: float) -> None:
        self.families[name].add_metric(labels, value)

    def observed(self, name: str, labels: Sequence[str], histogram: Histogram) -> None:
        counts = accumulate(histogram.buckets)
        self.families[name].add_metric(
            labels, list(zip(_BOUNDS, counts, strict=True)), sum_value=histogram.sum_us / 1_000_000
        )


class Metrics:
    """The collector.

    Args:
        facts: what the supervisor has published
        segment: the counters
    """

    def __init__(self, facts: Facts, segment: Segment) -> None:
        self._facts = facts
        self._segment = segment

    def collect(self) -> Iterator[Metric]:
        """All families; those of a balancer that has not told anything yet have no samples."""
        samples = _Samples()
        facts = self._facts.read()
        if facts:
            blocks = [self._segment.block(slot) for slot in range(self._segment.used)]
            self._balancer(samples, facts, blocks)
            self._processes(samples, facts)
            listeners = _Totals(blocks, "listeners", ListenerCounters, LISTENERS)
            for listener in facts["listeners"]:
                _listener(samples, listener, listeners[listener["row"]])
            groups = _Totals(blocks, "groups", GroupCounters, GROUPS)
            servers = _Totals(blocks, "servers", ServerCounters, SERVERS)
            for group in facts["server_groups"]:
                self._group(samples, group, groups[group["row"]], servers)
            _dates(samples, facts)
        yield from samples.families.values()

    def _balancer(self, samples: _Samples, facts: dict[str, Any], blocks: list[Block]) -> None:
        samples.families["nlb_build_info"].add_metric(
            (),
            {
                "version": facts["version"],
                "openssl": backend.openssl_version_text(),
                "python": platform.python_version(),
            },
        )
        samples.add("nlb_start_time_seconds", (), facts["started"])
        samples.add("nlb_supervisor_up", (), beats(self._facts.heartbeat))
        samples.add("nlb_config_generation", (), facts["generation"])
        last, reloads = facts["reload"], facts["reloads"]
        done = last is None or last["successful"]
        moment = last["time"] if last and done else reloads.get("last_successful") or facts["started"]
        samples.add("nlb_config_last_reload_successful", (), done)
        samples.add("nlb_config_last_reload_success_timestamp_seconds", (), moment)
        for result in ("successful", "failed"):
            samples.add("nlb_config_reloads_total", (result,), reloads[result])
        samples.add("nlb_log_records_dropped_total", (), sum(block.ring.dropped for block in blocks))

    def _processes(self, samples: _Samples, facts: dict[str, Any]) -> None:
        for worker in facts["workers"]:
            labels = (str(worker["slot"]),)
            block = self._segment.block(worker["slot"])
            if worker["state"] not in AWAY:
                samples.add("nlb_worker_up", labels, worker["state"] == "running" and beats(block.heartbeat))
            samples.add("nlb_worker_restarts_total", labels, worker["restarts"])
            samples.add("nlb_worker_loop_stall_seconds", labels, block.stall_us / 1_000_000)
        for attendant in facts["attendants"]:
            labels = (attendant["name"],)
            heart = self._segment.shared.hearts[HEARTS.index(attendant["name"])]
            samples.add("nlb_attendant_up", labels, attendant["state"] == "running" and beats(heart))
            samples.add("nlb_attendant_restarts_total", labels, attendant["restarts"])

    def _group(
        self, samples: _Samples, group: dict[str, Any], row: GroupCounters, servers: _Totals[ServerCounters]
    ) -> None:
        label = (group["name"],)
        meant = usable = 0
        for server in group["servers"]:
            _server(samples, (group["name"], server["name"]), servers[server["row"]])
            up = healthy(self._segment, server)
            samples.add("nlb_server_up", (group["name"], server["name"]), up)
            draining = self._segment.shared.orders[server["row"]].state != READY
            samples.add("nlb_server_draining", (group["name"], server["name"]), draining)
            if wanted(self._segment, server):
                meant += 1
                usable += up
        samples.add("nlb_server_group_servers", label, meant)
        samples.add("nlb_server_group_usable_servers", label, usable)
        samples.add("nlb_server_group_fail_open", label, meant > 0 and usable == 0)
        samples.observed("nlb_server_group_connect_duration_seconds", label, row.connect_time)


def _listener(samples: _Samples, listener: dict[str, Any], row: ListenerCounters) -> None:
    name = listener["name"]
    samples.add("nlb_listener_connections_total", (name,), row.connections)
    samples.add("nlb_listener_connections", (name,), row.live)
    samples.add("nlb_listener_max_connections", (name,), listener["max_connections"])
    samples.add("nlb_listener_received_bytes_total", (name,), row.received)
    samples.add("nlb_listener_sent_bytes_total", (name,), row.sent)
    samples.observed("nlb_connection_duration_seconds", (name,), row.connection_time)
    for word, count in list(zip(WORDS, row.terminations, strict=False))[1:]:  # the first is that it is open
        samples.add("nlb_terminations_total", (name, word), count)
    samples.add("nlb_access_log_suppressed_total", (name,), row.suppressed)
    if listener["protocol"] != "TCPSSL":
        return
    samples.observed("nlb_tls_handshake_duration_seconds", (name,), row.handshake_time)
    samples.add("nlb_proxy_protocol_certificates_left_out_total", (name,), row.certificates_left_out)
    for version, counts in zip(TLS_VERSIONS, row.handshakes, strict=True):
        for resumed, count in zip(("false", "true"), counts, strict=True):
            if count or version in _CURRENT:
                samples.add("nlb_tls_handshakes_total", (name, version, resumed), count)
    if listener["client_auth"] != "off":
        for days, count in zip(EXPIRING_DAYS, row.expiring, strict=True):
            samples.add("nlb_client_certificate_expiring", (name, f"{days}d"), count)
    if listener["client_auth"] != "off":  # also after `report`, and before: a rate needs its zero
        for verdict, number in VERDICTS.items():
            samples.add("nlb_client_certificate_verdicts_total", (name, verdict), row.verdicts[number])


def _server(samples: _Samples, labels: tuple[str, str], row: ServerCounters) -> None:
    samples.add("nlb_server_connections", labels, row.live)
    samples.add("nlb_server_connections_total", labels, row.connections)
    samples.add("nlb_server_connect_errors_total", (*labels, "connect_failed"), row.connect_failed)
    samples.add("nlb_server_connect_errors_total", (*labels, "connect_timeout"), row.connect_timeout)


def _dates(samples: _Samples, facts: dict[str, Any]) -> None:
    certificates = {(one["listener"], _text(one["path"])): one["not_after"] for one in facts["certificates"]}
    for labels, moment in certificates.items():
        samples.add("nlb_certificate_not_after_timestamp_seconds", labels, moment)
    crls: dict[tuple[str, str], float] = {}
    for one in facts["crls"]:
        labels, moment = (one["listener"], _text(one["issuer"])), one["next_update"]
        if moment is not None:
            crls[labels] = min(moment, crls.get(labels, moment))
    for labels, moment in crls.items():
        samples.add("nlb_crl_next_update_timestamp_seconds", labels, moment)


def _text(value: str) -> str:
    """A path need not be UTF-8, a metric must."""
    return value.encode(errors="backslashreplace").decode()


class Exposition:
    """The metrics as they are scraped, in the form that is asked for; one answer stands for a second."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._families: list[Metric] = []
        self._answers: dict[tuple[bool, bool], bytes] = {}
        self._until = 0.0

    def answer(self, accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
        """The body, and the headers that say what it is, for these headers of a request."""
        form = prefers_openmetrics(accept), _quality(accept_encoding, "gzip") > 0
        now = time.monotonic()
        if now >= self._until:
            self._families, self._answers = list(self._metrics.collect()), {}
            self._until = now + CACHED
        if form not in self._answers:
            self._answers[form] = self._render(*form)
        headers = {"content-type": openmetrics.CONTENT_TYPE_LATEST if form[0] else _PLAIN, "vary": _VARY}
        return self._answers[form], {**headers, "content-encoding": "gzip"} if form[1] else headers

    def _render(self, modern: bool, packed: bool) -> bytes:
        if packed:
            return gzip.compress(self._answers.get((modern, False)) or self._render(modern, packed=False), 1)
        if modern:
            text: bytes = openmetrics.generate_latest(  # type: ignore[no-untyped-call]
                _Collected(_told_apart(self._families)), _LEGAL
            )
            return text
        return generate_latest(_Collected(self._families), _LEGAL)


class _Collected:
    """Families that have been collected, for a function that wants to do it."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _told_apart(families: list[Metric]) -> Iterator[Metric]:
    """OpenMetrics names a counter without `_total`, where a gauge of ours may have the name: such a counter goes as of
    unknown type, under its full name.
    """
    gauges = {family.name for family in families if family.type == "gauge"}
    for family in families:
        if family.type == "counter" and family.name in gauges:
            plain = Metric(f"{family.name}_total", family.documentation, "unknown")
            plain.samples = family.samples
            yield plain
        else:
            yield family


def prefers_openmetrics(accept: str) -> bool:
    """Whether these headers of a request like OpenMetrics better than plain text."""
    return _quality(accept, "application/openmetrics-text") > _quality(accept, "text/plain")


def _quality(accept: str, kind: str) -> float:
    """How much of `kind` is asked for, 0 to 1: the best of its mentions."""
    best = 0.0
    for mention in accept.split(","):
        name, *parameters = (part.strip().lower() for part in mention.split(";"))
        if name != kind:
            continue
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        best = max(best, quality)
    return best
