"""`nlb bench report`: an earlier report again, as table, page and schema."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.made_up import report
from tests.support.balancer import nlb


def test_shown_and_drawn_again(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    made = report()
    few = tuple(one for one in made.samples if one.trial in {"full", "reload"})
    path.write_text(report(samples=few).to_json())
    done = nlb("bench", "report", path, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert "Full handshakes" in done.stdout
    assert "550 µs (500-1,500) 0.50x" in done.stdout
    assert sorted(one.name for one in (tmp_path / "again").iterdir()) == ["report.html", "report.json", "report.png"]
    assert (tmp_path / "again" / "report.json").read_text() == path.read_text()


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(report().to_json())
    done = nlb("bench", "report", path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == path.read_text()


def test_the_schema() -> None:
    done = nlb("bench", "report", "--schema")
    assert done.returncode == 0
    assert json.loads(done.stdout)["title"] == "Report"


def test_no_file_and_no_report(tmp_path: Path) -> None:
    done = nlb("bench", "report")
    assert done.returncode == 2
    assert "which report?" in done.stderr
    done = nlb("bench", "report", tmp_path / "none.json")
    assert done.returncode == 1
    assert "none.json: no such file" in done.stderr
