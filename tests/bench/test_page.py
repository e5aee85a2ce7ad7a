"""The page stands alone, tells all that a reader must know, and takes no name for markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from nlbbench import page
from nlbbench.figures import Figures
from nlbbench.trials import TRIALS
from tests.bench.made_up import report, sample


class Reader(HTMLParser):
    """The text of a page, and the elements that are open at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> str:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return " ".join(" ".join(reader.text).split())


@pytest.fixture(scope="module")
def html() -> str:
    return page.render(Figures(report()))


def test_it_needs_nothing_else(html: str) -> None:
    assert not re.search(r'(?:src|href)="(?!#)|@import|url\((?!#)|<script|<link', html)


def test_it_tells_all(html: str) -> None:
    text = read(html)
    assert "nlb, HAProxy and stunnel: what the same work costs" in text
    assert all(trial.title in text for trial in TRIALS.values())
    assert "one worker each, measured 3 times in turn on 2026-11-28" in text
    assert "0.50x CPU per full handshake 550 µs" in text
    assert "nginx: left out: nginx is not installed" in text
    assert "4 of" not in text
    assert "0 of 1,000" in text  # failed exchanges of an event
    assert "2.6.12" in text
    assert "OpenSSL 3.0.22" in text
    assert "Linux 6.1" in text
    assert "The limit is the sum of the lowest samples of two measurements" in text


def test_names_are_text(html: str) -> None:
    for name in ("<fast>", "<per>", "<do>"):
        assert name not in html
        assert name in read(html)


def test_without_floor_and_reference() -> None:
    html = page.render(Figures(report(floors=(), reference="envoy", interrupted=True)))
    text = read(html)
    assert "The limit is the sum" not in text
    assert "of limit" not in text
    assert "nlb beside the reference" not in html
    assert "ended early" in text


def test_a_few_samples_are_enough() -> None:
    lost = sample(TRIALS["kill"], "nlb", 0, failed={"reset": 3})
    text = read(page.render(Figures(report(samples=(sample(TRIALS["full"], "nlb", 0), lost)))))
    assert "3 of 1,003 3 reset" in text
    assert "not measured" in text
    assert "cannot <do> that" in text
    read(page.render(Figures(report(samples=()))))
