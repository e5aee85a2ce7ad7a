"""A panel for each figure that counts, as SVG that takes the page's colours and as one PNG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from nlbbench import charts
from nlbbench.charts import Panel
from nlbbench.figures import Figures
from nlbbench.trials import TRIALS
from tests.bench.made_up import report, sample

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_panel_for_each_figure_that_counts() -> None:
    keys = [one.key for one in charts.panels(Figures(report()))]
    assert keys == [
        *("full-cpu", "resumed-cpu", "download-cpu", "upload-cpu", "echo-cpu", "single-p50", "storm-p50", "churn-cpu"),
        *("idle-connection", "idle-burst", "idle-base"),
    ]


@pytest.fixture(scope="module")
def drawn() -> dict[Panel, str]:
    """Every panel; drawn once for all, since matplotlib keeps its fonts open from then on."""
    figures = Figures(report())
    return {panel: charts.svg(figures, panel) for panel in charts.panels(figures)}


def test_svg_for_a_page(drawn: dict[Panel, str]) -> None:
    for panel, text in drawn.items():
        root = ET.fromstring(text)
        assert root.tag.endswith("svg")
        assert "width" not in root.attrib
        assert root.attrib["aria-label"] == f"{panel.trial.title}: {panel.title}"
        words = " ".join("".join(one.itertext()) for one in root.iter() if one.tag.endswith("text"))
        assert {"nlb", "HAProxy", "stunnel"} <= set(words.split())
        assert not re.search(r"font-family|<metadata|http://www.inkscape", text)
        assert "var(--ours)" in text
        assert charts.OURS not in text


def test_the_same_report_gives_the_same_chart(drawn: dict[Panel, str]) -> None:
    panel, text = next(iter(drawn.items()))
    assert charts.svg(Figures(report()), panel) == text


def test_names_within_a_page_do_not_clash(drawn: dict[Panel, str]) -> None:
    names: list[str] = []
    for text in drawn.values():
        names += set(re.findall(r'<clipPath id="([^"]+)"', text))
    assert names
    assert len(names) == len(set(names))


def test_one_picture(drawn: dict[Panel, str]) -> None:
    assert drawn
    assert charts.png(Figures(report())).startswith(PNG)
    assert charts.png(Figures(report(samples=(sample(TRIALS["full"], "nlb", 0),)))).startswith(PNG)
    with pytest.raises(ValueError, match="no figure that could be drawn"):
        charts.png(Figures(report(samples=())))
