"""The errors carry an exit code, and a bad value its field."""

from __future__ import annotations

from nlbcore.pki.errors import BadValue, PkiError


def test_exit_codes() -> None:
    assert PkiError("no").exit_code == 1
    assert PkiError("no", 77).exit_code == 77


def test_bad_value() -> None:
    error = BadValue("dns", "a b", "is not a host name")
    assert (str(error), error.exit_code) == ('dns "a b" is not a host name', 2)
    assert (error.field, error.value, error.reason) == ("dns", "a b", "is not a host name")
    assert error.about("--dns") == '--dns "a b" is not a host name'
    hostile = BadValue("dns", "ü\x1b[2J", 'is not a host name ("ü\x1b[2J")')
    assert str(hostile) == 'dns "ü\\x1b[2J" is not a host name ("ü\\x1b[2J")'
    assert BadValue("days", 0, "1 to 9 days are possible").about("--days") == '--days "0": 1 to 9 days are possible'
