"""The exceptions carry what the command line needs: an exit code, and the findings."""

from __future__ import annotations

from nlbcore.errors import ConfigError, NlbError, StartError


def test_exit_codes_are_those_of_the_interface() -> None:
    assert NlbError("x").exit_code == 1
    assert ConfigError("x").exit_code == 78
    assert StartError("x").exit_code == 1
    assert StartError("x", 77).exit_code == 77


def test_config_error_keeps_its_findings() -> None:
    assert ConfigError("bad", iter(["a", "b"])).findings == ("a", "b")
    assert str(ConfigError("bad", ["a"])) == "bad"
