"""Findings print like a compiler's, stand in the order of the file, and name keys as TOML does."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from nlbcore.config.finding import Finding, did_you_mean, in_order, key_text


def test_one_line() -> None:
    finding = Finding("nlb.toml", 3, 7, "error", "node.nam", "unknown key", 'did you mean "name"?')
    assert str(finding) == 'nlb.toml:3:7: error: node.nam: unknown key (did you mean "name"?)'
    assert str(Finding("f", 1, 2, "warning", "a", "b")) == "f:1:2: warning: a: b"


def test_a_remark_about_the_whole_file_has_no_position() -> None:
    assert str(Finding("nlb.toml", 0, 0, "error", "", "cannot read")) == "nlb.toml: error: cannot read"


def test_order_is_that_of_the_file_and_nothing_is_said_twice() -> None:
    late, early, wide = (Finding("f", *place, "error", "", "x") for place in ((10, 1), (9, 20), (9, 3)))
    assert in_order([late, early, wide, late]) == (wide, early, late)


def test_key_text() -> None:
    assert key_text(()) == ""
    assert (
        key_text(("listeners", "web", "certificates", 0, "private_key")) == "listeners.web.certificates[0].private_key"
    )
    assert key_text(("listeners", "my web", "é")) == 'listeners."my web"."é"'


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=8), min_size=1, max_size=4))
def test_key_text_is_a_toml_key(path: list[str]) -> None:
    table = tomllib.loads(f"{key_text(tuple(path))} = 1")
    for part in path:
        assert list(table) == [part]
        table = table[part]


def test_did_you_mean() -> None:
    assert did_you_mean("protcol", ["bind", "protocol"]) == 'did you mean "protocol"?'
    assert did_you_mean("tcpssl", ["TCP", "TCPSSL"]) == 'did you mean "TCPSSL"?'
    assert did_you_mean("zzz", ["bind", "protocol"]) == ""
