"""Words for pydantic's errors; the sentences themselves are compared in test_load.py, as users see them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nlbcore.config.explain import explain, syntax_error
from nlbcore.config.model import Config
from nlbcore.config.position import Positions


def explained(text: str, document: dict[str, object]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(document)
    return [str(explain(error, "f", Positions(text))) for error in caught.value.errors()]


def test_a_key_in_the_wrong_table_is_sent_home() -> None:
    assert explained("weight = 1\n", {"weight": 1}) == [
        "f:1:1: error: weight: unknown key (it belongs in [server_groups.NAME.servers])"
    ]


def test_a_near_name_wins_over_another_table() -> None:
    assert explained("logs = 1\n", {"logs": 1}) == ['f:1:1: error: logs: unknown key (did you mean "log"?)']


def test_long_values_are_cut() -> None:
    (text,) = explained("log.level = 'x'\n", {"log": {"level": "x" * 1000}})
    assert len(text) < 200
    assert "xxx..." in text


def test_an_unplaced_error_is_at_the_nearest_table() -> None:
    (text,) = explained("[log]\n", {"log": {"level": 5}})
    assert text.startswith("f:1:2: error: log: expected one of")


def test_syntax_errors_begin_in_lower_case() -> None:
    assert str(syntax_error("f", (3, 4), "Invalid hex value")) == "f:3:4: error: syntax error: invalid hex value"
