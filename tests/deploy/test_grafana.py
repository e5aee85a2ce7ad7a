"""The dashboard: whole, laid out without overlap, its queries parse and name metrics and labels that exist."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from nlbcore.termination import WORDS
from tests.deploy import DEPLOY
from tests.deploy.test_prometheus import LABELS, metrics
from tests.support.programs import run

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/nlb.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
CHARTS = [panel for panel in PANELS if panel["type"] != "row"]
QUERIES = [(panel["title"], target) for panel in CHARTS for target in panel["targets"]]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
UNITS = {"short", "none", "cps", "Bps", "s"}


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bnlb_\w+", expression))


def test_ids_and_titles_are_unique() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    rows = "".join("\n" if panel["type"] == "row" else f"{panel['title']}|" for panel in PANELS)
    assert all(len(set(row.split("|"))) == len(row.split("|")) for row in rows.splitlines())


def test_no_panel_covers_another() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    for place in places:
        assert place["x"] + place["w"] <= 24
    for a, b in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)


def test_every_chart_says_what_it_shows_in_which_unit() -> None:
    for panel in CHARTS:
        assert len(panel["description"]) > 4, panel["title"]
        units = [panel["fieldConfig"]["defaults"].get("unit")]
        units += [
            one["value"]
            for override in panel["fieldConfig"]["overrides"]
            for one in override["properties"]
            if one["id"] == "unit"
        ]
        assert {unit for unit in units if unit} <= UNITS, panel["title"]
        assert any(units), panel["title"]
        # Seconds are shown as such, bytes too.
        for target in panel["targets"]:
            if any(name.endswith(("_seconds", "_seconds_bucket")) for name in names_in(target["expr"])):
                assert "s" in units, panel["title"]
            if "_bytes_" in target["expr"]:
                assert "Bps" in units, panel["title"]


@pytest.mark.parametrize(("title", "target"), QUERIES, ids=[f"{title}-{one['refId']}" for title, one in QUERIES])
def test_metrics_and_labels_exist(title: str, target: dict[str, Any]) -> None:
    known = metrics()
    names = names_in(target["expr"])
    assert names, title
    assert names <= set(known)
    labels = set.intersection(*(known[name] for name in names)) | LABELS
    for clause in re.findall(r"by \(([^)]*)\)", target["expr"]):
        assert set(clause.split(", ")) <= labels
    assert set(re.findall(r"[{,]\s*(\w+)\s*[=!]", target["expr"])) <= labels
    grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
    shown = set(grouped[0].split(", ")) if grouped else labels
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= shown
    for alternatives in re.findall(r'termination[!=]~"([a-z_|]+)"', target["expr"]):
        assert set(alternatives.split("|")) <= set(WORDS)


def test_every_expression_parses(tmp_path: Path) -> None:
    """Grafana fills in the variables; Prometheus' own tool reads the result, as rules."""
    expressions = [target["expr"] for _, target in QUERIES]
    expressions += [one["expr"] for one in DASHBOARD["annotations"]["list"]]
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for number, expression in enumerate(expressions):
        assert set(re.findall(r"\$(\w+)", expression)) <= {*VARIABLES, "__rate_interval", "__interval"}
        filled = re.sub(r"\$(\w+)", lambda found: "5m" if found[1].endswith("interval") else ".*", expression)
        lines += [f"      - record: query{number}", f"        expr: {json.dumps(filled)}"]
    (tmp_path / "rules.yml").write_text("\n".join(lines) + "\n")
    run("promtool", "check", "rules", str(tmp_path / "rules.yml"))


def test_nothing_is_tied_to_one_installation() -> None:
    """Every query goes to the chosen data source, and every variable is asked of a metric that exists."""
    for panel in CHARTS:
        assert {panel["datasource"]["uid"], *(one["datasource"]["uid"] for one in panel["targets"])} == {
            "${datasource}"
        }
    assert "id" not in DASHBOARD
    known = metrics()
    for name, variable in VARIABLES.items():
        if variable["type"] == "query":
            (metric,) = names_in(variable["definition"])
            assert name in known[metric] | LABELS


def test_all_terminations_are_shown() -> None:
    """A word that no chart picks out is in the chart of the rest, so the charts together show every one."""
    picked = {
        word
        for _, target in QUERIES
        for alternatives in re.findall(r'termination=~"([a-z_|]+)"', target["expr"])
        for word in alternatives.split("|")
    }
    (left_out,) = {
        alternatives
        for _, target in QUERIES
        for alternatives in re.findall(r'termination!~"([a-z_|]+)"', target["expr"])
    }
    assert set(left_out.split("|")) <= picked
