"""The report as one HTML page that needs nothing else: charts, tables, machine, versions and method.

Needs jinja2 and matplotlib, an extra: `pip install 'nlb[bench]'`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from jinja2 import Environment

from nlbbench import charts, words
from nlbbench.figures import Figure, Figures
from nlbbench.results import Contestant
from nlbbench.table import BETTER, WORSE, remarks
from nlbbench.trials import TRIALS, Course, Metric, Trial

TILES = (
    ("full", "cpu", "CPU per full handshake"),
    ("resumed", "cpu", "CPU per resumed handshake"),
    ("download", "cpu", "CPU per GB to the client"),
    ("upload", "cpu", "CPU per GB to the server"),
    ("echo", "cpu", "CPU per small message"),
    ("single", "p50", "median round trip, alone"),
    ("storm", "p50", "median beside a storm"),
    ("storm", "p99", "99th percentile beside a storm"),
    ("idle", "connection", "memory of an idle connection"),
)
METHOD = (
    (
        "Everything runs on one machine, over loopback: the proxies, the servers behind them and the clients share its processors. "
        "So CPU time and memory of the proxy are what is compared; a rate or a latency also tells of what else ran."
    ),
    (
        "The same for all: one certificate, TLS version, cipher suite and key exchange, a client certificate required and verified, "
        "session tickets as each has them by default, the same servers behind, no access log, the same number of workers. "
        "Before it is measured each proxy has to let a client with a certificate in and refuse one without."
    ),
    (
        "All are measured in turn, each repetition beginning with the next one. Shown are medians with the lowest and the highest "
        "sample. A ratio is taken within each repetition, and the median of these is shown."
    ),
    (
        "CPU time is that of all processes of a proxy, user and system, from the kernel's clocks in nanoseconds. Memory is the "
        "proportional set size of all its processes; that of a connection is the slope between two counts, read after 3.5 s of "
        "silence. What the kernel needs for sockets is in neither."
    ),
    (
        "Every byte is compared, and every handshake has to be full or resumed as the scenario says: exchanges that were not are "
        "counted as failed and named above."
    ),
    "A rate at which the proxy still had time left is marked with ≥: it is the clients' limit, or the machine's.",
)


def render(figures: Figures) -> str:
    """The page."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("nlbbench").joinpath("page.html").read_text(encoding="utf-8"))
    report = figures.report
    drawn = charts.panels(figures)
    return template.render(
        title=_title(figures),
        lead=_lead(figures),
        peers=report.contestants,
        tiles=list(_tiles(figures)),
        tiles_say=_tiles_say(figures),
        remarks=remarks(figures),
        has_limit=figures.floor is not None,
        cards=[_card(figures, trial, drawn) for trial in figures.trials() if trial.course is not Course.EVENT],
        events=_events(figures),
        programs=report.peers,
        machine=_machine(figures),
        method=[*METHOD, *_floor_method(figures)],
    )


# ---------------------------------------------------------------- the parts


def _title(figures: Figures) -> str:
    titles = [one.title for one in figures.report.contestants]
    return f"{' and '.join(filter(None, [', '.join(titles[:-1]), *titles[-1:]]))}: what the same work costs"


def _lead(figures: Figures) -> str:
    report = figures.report
    workers = "one worker each" if report.workers == 1 else f"{report.workers} workers each"
    rounds = figures.repetitions()
    times = "once" if rounds == 1 else f"{rounds} times in turn"
    early = " It was ended early; what was measured until then is complete." if report.interrupted else ""
    return (
        f"Mutual TLS in, plain TCP out, {workers}, measured {times} on {report.started[:10]} "
        f"in {words.duration(report.seconds)}. {report.tls}.{early}"
    )


def _first_nlb(figures: Figures) -> Contestant | None:
    return next((one for one in figures.report.contestants if one.kind == "nlb"), None)


def _tiles(figures: Figures) -> Iterator[dict[str, str]]:
    """nlb beside the reference, in big digits."""
    nlb = _first_nlb(figures)
    if nlb is None or nlb.name == figures.report.reference:
        return
    shown = {trial.name for trial in figures.trials()}
    for name, metric_name, what in TILES:
        if name not in shown:
            continue
        metric = TRIALS[name].metric(metric_name)
        figure = figures.figure(TRIALS[name], metric, nlb.name)
        if figure is not None and figure.ratio is not None:
            yield {
                "ratio": words.ratio(figure.ratio),
                "mood": _mood(metric, figure),
                "what": what,
                "figure": words.quantity(metric.unit, figure.median),
            }


def _tiles_say(figures: Figures) -> str:
    nlb = _first_nlb(figures)
    reference = next((one for one in figures.report.contestants if one.name == figures.report.reference), None)
    if nlb is None or reference is None:
        return ""
    return f"{nlb.title}'s figure as a ratio to {reference.title} {reference.version}, in the same repetition; less is better."


def _card(figures: Figures, trial: Trial, drawn: list[charts.Panel]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for peer in figures.report.contestants:
        found = [figures.figure(trial, metric, peer.name) for metric in trial.metrics]
        if any(found):
            cells = [_cell(metric, one) for metric, one in zip(trial.metrics, found, strict=True)]
            rows.append({"name": peer.title, "kind": "ours" if peer.kind == "nlb" else "", "cells": cells})
    limits = [figures.limit(trial, metric) for metric in trial.metrics]
    if any(limits):
        texts = [
            "" if one is None else words.quantity(metric.unit, one)
            for metric, one in zip(trial.metrics, limits, strict=True)
        ]
        rows.append({"name": "limit", "kind": "limit", "cells": [{"text": text} for text in texts]})
    return {
        "name": trial.name,
        "title": trial.title,
        "what": trial.what,
        "charts": [
            {"title": one.title[0].upper() + one.title[1:], "svg": charts.svg(figures, one)}
            for one in drawn
            if one.trial is trial
        ],
        "heads": [metric.title for metric in trial.metrics],
        "rows": rows,
    }


def _cell(metric: Metric, figure: Figure | None) -> dict[str, str]:
    if figure is None:
        return {"text": "–"}
    return {
        "text": ("≥ " if figure.limited else "") + words.quantity(metric.unit, figure.median),
        "spread": words.spread(metric.unit, figure.median, figure.low, figure.high) if figure.count > 1 else "",
        "ratio": "" if figure.ratio is None else words.ratio(figure.ratio),
        "mood": _mood(metric, figure),
        "multiple": "" if figure.multiple is None else words.ratio(figure.multiple),
    }


def _mood(metric: Metric, figure: Figure) -> str:
    if not figure.ratio or not figure.sure:
        return ""
    cost = 1 / figure.ratio if metric.higher else figure.ratio
    return "good" if cost < BETTER else "bad" if cost > WORSE else ""


def _events(figures: Figures) -> dict[str, Any] | None:
    trials = [trial for trial in figures.trials() if trial.course is Course.EVENT]
    if not trials:
        return None
    rows = []
    for peer in figures.report.contestants:
        cells = [_event(figures, trial, peer) for trial in trials]
        rows.append({"name": peer.title, "kind": "ours" if peer.kind == "nlb" else "", "cells": cells})
    return {"heads": [trial.title for trial in trials], "rows": rows}


def _event(figures: Figures, trial: Trial, peer: Contestant) -> dict[str, str]:
    failures = figures.failures(trial, peer.name)
    if failures is None:
        why = [one.why for one in figures.report.left_out if one.name == peer.name and one.trial in {"", trial.name}]
        return {"text": "–", "mood": "muted", "more": why[0] if why else "not measured"}
    longest = figures.figure(trial, trial.metric("longest"), peer.name)
    kinds = ", ".join(f"{count} {kind}" for kind, count in failures.failed.items())
    waited = f"longest answer {words.quantity(trial.metric('longest').unit, longest.median)}" if longest else ""
    return {
        "text": f"{failures.total:,} of {failures.total + failures.exchanges:,}",
        "mood": "bad" if failures.total else "good",
        "more": "; ".join(part for part in (kinds, waited) if part),
    }


def _machine(figures: Figures) -> list[tuple[str, str]]:
    one = figures.report.machine
    return [
        ("Processor", one.processor),
        ("Cores", f"{one.cores}{', virtual machine' if one.virtual else ''}"),
        ("Memory", f"{one.memory / 2**30:.0f} GB"),
        ("System", f"{one.system}, Linux {one.kernel}"),
        ("Python", one.python),
        ("Load before", f"{one.load:.2f}"),
        ("Started", figures.report.started),
        ("Harness", f"nlb {figures.report.nlb}"),
    ]


def _floor_method(figures: Figures) -> list[str]:
    if figures.floor is None:
        return []
    return [
        (
            "The limit is the sum of the lowest samples of two measurements made in the same run: the server's half of the "
            f"same work in {figures.floor.library} between memory buffers, without a socket, and the same connections and "
            "bytes through nlb's relay without TLS. A proxy on another TLS library may have another limit, and be below this one."
        )
    ]
