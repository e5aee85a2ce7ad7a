"""The alerts: promtool accepts the rules and their cases, every alert is among the cases, and what they name exists."""

from __future__ import annotations

import re

from nlbcore.observe.metrics import FAMILIES
from nlbcore.termination import WORDS
from tests.deploy import DEPLOY
from tests.support.programs import run

FOLDER = DEPLOY / "prometheus"
RULES = (FOLDER / "nlb.rules.yml").read_text()
CASES = (FOLDER / "nlb.rules.test.yml").read_text()
LABELS = {"job", "instance", "le"}
"""Those that Prometheus gives."""


def metrics() -> dict[str, set[str]]:
    """Every name that is scraped, with its labels."""
    found = {"up": set[str]()}
    for family in FAMILIES:
        names = (
            [f"{family.name}_{part}" for part in ("bucket", "sum", "count")]
            if family.kind == "histogram"
            else [family.name]
        )
        found.update({name: set(family.labels) for name in names})
    return found


def test_promtool_accepts_the_rules() -> None:
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(FOLDER / "nlb.rules.yml"))


def test_the_alerts_fire_when_they_should() -> None:
    run("promtool", "test", "rules", str(FOLDER / "nlb.rules.test.yml"))


def test_every_alert_has_a_case_where_it_fires_and_says_what_to_do() -> None:
    alerts = re.findall(r"- alert: (\w+)\n(.*?)(?=\n\n|\Z)", RULES, re.DOTALL)
    assert len(alerts) >= 20
    for name, rest in alerts:
        assert re.search(rf"- alertname: {name}\n +eval_time: \w+\n +exp_alerts:\n +- exp_labels", CASES), name
        assert re.search(r"labels: \{severity: (critical|warning|info)\}", rest), name
        assert "summary: " in rest, name
        assert "description: " in rest, name


def test_every_metric_is_one_of_ours() -> None:
    known = metrics()
    recorded = set(re.findall(r"- record: (\S+)", RULES))
    used = set(re.findall(r"[a-z_:]*\bnlb_[a-z0-9_:]+", RULES))
    assert used - recorded <= set(known)
    # And in the cases with labels that it has.
    for name, labels in re.findall(r"series: '(\w+)\{(.*?)\}'", CASES):
        assert set(re.findall(r'(\w+)="', labels)) - LABELS == known[name], name


def test_every_termination_is_on_the_list() -> None:
    for alternatives in re.findall(r'termination=~"([a-z_|]+)"', RULES):
        assert set(alternatives.split("|")) <= set(WORDS)


def test_every_refusal_is_watched() -> None:
    """Whatever ends a connection for the client's certificate or in the handshake is in one alert or another."""
    watched = set("|".join(re.findall(r'termination=~"([a-z_|]+)"', RULES)).split("|"))
    refusals = set(WORDS[WORDS.index("no_certificate") :]) - {
        "became_revoked",
        "became_expired",
        "became_refused",
        "probe",
    }
    assert refusals <= watched
