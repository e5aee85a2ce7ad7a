"""One description per option: every key has one, and the words made from it are right."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.config.model import Config
from nlbcore.config.option import all_options, look_up, toml_value

OPTIONS = {item.path: item for item in all_options(Config)}


@pytest.mark.parametrize("path", OPTIONS)
def test_every_option_is_described(path: str) -> None:
    item = OPTIONS[path]
    assert item.text.endswith((".", ")."))
    assert item.kind.expected
    assert tomllib.loads(f"x = {item.example}")
    assert item.required or item.default is not None or item.extra.default_text


def test_ranges_in_words() -> None:
    assert OPTIONS["listeners.NAME.idle_timeout"].range_text == "10s to 900s"
    assert OPTIONS["listeners.NAME.cps"].range_text == "0 to 1000000"
    assert OPTIONS["server_groups.NAME.connect_timeout"].range_text == "0.1s to 300s"
    assert OPTIONS["log.level"].range_text == ""


def test_choices() -> None:
    assert OPTIONS["log.level"].choices == ("debug", "info", "warning", "error")
    assert OPTIONS["listeners.NAME.alpn_policy"].choices[0] == "HTTP1Only"
    assert OPTIONS["server_groups.NAME.scheduler"].choices == ("wrr", "rr")


def test_look_up() -> None:
    item, model = look_up(Config, ("listeners", "web", "certificates", 1, "private_key"))
    assert item is not None
    assert item.path == "listeners.NAME.certificates.private_key"
    assert model.__name__ == "CertificatePair"
    assert look_up(Config, ("listeners", "web", "nothing"))[0] is None
    assert look_up(Config, ("listeners", "web"))[0] == look_up(Config, ("listeners",))[0]


VALUES: Any = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.text(st.characters(codec="utf-8"))),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text("abc_-", min_size=1), inner)),
)


@given(VALUES)
def test_what_is_written_is_toml(value: Any) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}
