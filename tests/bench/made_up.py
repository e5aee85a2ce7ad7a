"""A report that nobody has measured, for what is made from reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nlbbench.floor import Floor
from nlbbench.results import RELAY, SCHEMA, Contestant, LeftOut, Machine, Report, Sample
from nlbbench.trials import TRIALS, Course, Trial, Unit

MACHINE = Machine("A processor <fast>", 2, 8 << 30, "Debian", "6.1", "3.11", 0.25, virtual=True)
FLOOR = Floor("OpenSSL 4.0.3", 0.6e-3, 0.5e-3, 0.2e-3, 3e-10, 3e-10, 4e-6, 27e3)
PEERS = (
    Contestant("nlb", "nlb", "nlb", "0.1.0", "OpenSSL 4.0.3"),
    Contestant("haproxy", "HAProxy", "haproxy", "2.6.12", "OpenSSL 3.0.22"),
    Contestant("stunnel", "stunnel", "stunnel", "5.68", "OpenSSL 3.0.22", "a thread <per> connection"),
)
THE_RELAY = Contestant(RELAY, "plain relay", RELAY, "0.1.0")
COST = {"nlb": 0.5, "haproxy": 1.0, "stunnel": 2.0, RELAY: 0.2}
"""Of everything, as a multiple of HAProxy's."""
USUAL = {
    Unit.SECONDS: 1e-3,
    Unit.SECONDS_PER_BYTE: 2e-9,
    Unit.BYTES: 30e3,
    Unit.PER_SECOND: 1000.0,
    Unit.BYTES_PER_SECOND: 500e6,
    Unit.COUNT: 4.0,
}
DRIFT = (1.0, 3.0, 1.1)
"""How slow the machine was in each repetition."""


def sample(trial: Trial, peer: str, repetition: int, **changes: Any) -> Sample:
    """HAProxy's figures are the usual ones, times the drift; the others' are by COST."""
    values = {}
    for metric in trial.metrics:
        cost = COST[peer] * (DRIFT[repetition] if metric.unit is not Unit.BYTES else 1.0)
        values[metric.name] = USUAL[metric.unit] / cost if metric.higher else USUAL[metric.unit] * cost
    return replace(Sample(trial.name, peer, repetition, values, exchanges=1000, busy=0.99), **changes)


def report(*, repetitions: int = 3, **changes: Any) -> Report:
    """Everything measured, three times; the relay and the floor too."""
    samples = [
        sample(trial, peer.name, repetition)
        for repetition in range(repetitions)
        for trial in TRIALS.values()
        for peer in (*PEERS, THE_RELAY)
        if not (repetition and trial.course is not Course.STEADY) and not (peer is THE_RELAY and not trial.relayed)
    ]
    made = Report(
        schema=SCHEMA,
        started="2026-11-28T12:00:00Z",
        seconds=100.0,
        interrupted=False,
        out_of_time=False,
        size="quick",
        repetitions=repetitions,
        workers=1,
        reference="haproxy",
        nlb="0.1.0",
        tls="TLS 1.3",
        machine=MACHINE,
        peers=(*PEERS, THE_RELAY),
        trials=tuple(TRIALS),
        samples=tuple(samples),
        floors=(FLOOR,) * repetitions,
        left_out=(LeftOut("nginx", "nginx is not installed"), LeftOut("stunnel", "cannot <do> that", "kill")),
    )
    return replace(made, **changes)
