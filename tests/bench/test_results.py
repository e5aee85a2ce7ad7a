"""A report goes to JSON and comes back; a file that is none is refused with its place; the machine is described."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import jsonschema
import pytest

from nlbbench import results
from nlbcore.errors import NlbError
from tests.bench.made_up import report


def test_there_and_back(tmp_path: Path) -> None:
    made = report()
    path = tmp_path / "report.json"
    path.write_text(made.to_json())
    assert results.load(path) == made


def test_it_keeps_to_its_schema() -> None:
    schema = results.schema()
    jsonschema.validate(json.loads(report().to_json()), schema)
    assert "PSS" not in json.dumps(schema)
    broken = json.loads(report().to_json())
    del broken["machine"]["kernel"]
    with pytest.raises(jsonschema.ValidationError, match="kernel"):
        jsonschema.validate(broken, schema)


def test_the_relay_of_the_floor_is_no_contestant() -> None:
    made = report()
    assert [one.name for one in made.contestants] == ["nlb", "haproxy", "stunnel"]
    assert made.peer("relay").title == "plain relay"
    with pytest.raises(KeyError):
        made.peer("envoy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "report.json: no such file"),
        ("{", "is no report of nlb bench compare: the file: Invalid JSON"),
        ("{}", "is no report of nlb bench compare: schema: Field required"),
    ],
    ids=["none", "no JSON", "another JSON"],
)
def test_a_file_that_is_none(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NlbError, match=message):
        results.load(path)


def test_a_later_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(report(schema=results.SCHEMA + 1).to_json())
    with pytest.raises(NlbError, match=rf"has schema {results.SCHEMA + 1}; this nlb reads {results.SCHEMA}"):
        results.load(path)


def test_this_machine() -> None:
    found = results.machine()
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.kernel == platform.release()
    assert found.memory > 1 << 28
    assert found.processor
    assert found.system
