"""Every key and value is found at its line and column, in characters, however the file is written."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.config.position import Positions

KEYS = st.one_of(
    st.text("abcxyz_-0123", min_size=1, max_size=4),
    st.text("aé日😀. \t\"'=#[]", max_size=4),
)
SCALARS = st.one_of(
    st.integers(-99, 99), st.booleans(), st.text('aé日😀 #="\\[]{},.', max_size=5), st.floats(allow_nan=False, width=16)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=4)


class Writer:
    """Writes TOML in a style drawn at random, and notes where each key and each value begins."""

    def __init__(self, draw: Any) -> None:
        self.text = ""
        self.keys: dict[tuple[str | int, ...], tuple[int, int]] = {}
        self.values: dict[tuple[str | int, ...], tuple[int, int]] = {}
        self._draw = draw

    def place(self) -> tuple[int, int]:
        return self.text.count("\n") + 1, len(self.text) - (self.text.rfind("\n") + 1) + 1

    def gap(self, *choices: str) -> None:
        self.text += self._draw(st.sampled_from(choices or ("", " ", "\t ")))

    def key(self, name: str) -> None:
        bare = name != "" and all(letter in "abcxyz_-0123" for letter in name)
        styles = ["basic", *(["bare"] if bare else []), *([] if "'" in name or "\t" in name else ["literal"])]
        style = self._draw(st.sampled_from(styles))
        self.text += {"bare": name, "literal": f"'{name}'", "basic": json.dumps(name, ensure_ascii=False)}[style]

    def value(self, value: Any, path: tuple[str | int, ...]) -> None:
        self.values[path] = self.place()
        if isinstance(value, list):
            self.text += "["
            for index, item in enumerate(value):
                self.gap("", " ", "\n  ", "  # é, ]\n\t")
                self.value(item, (*path, index))
                self.gap()
                self.text += ","
            self.text += "]"
        elif isinstance(value, dict):
            self.text += "{"
            for index, (name, item) in enumerate(value.items()):
                self.text += ", " if index else " "
                self.pair(name, item, path)
            self.text += "}"
        elif isinstance(value, bool):
            self.text += "true" if value else "false"
        elif isinstance(value, str):
            self.text += json.dumps(value, ensure_ascii=False)
        else:
            self.text += str(value)

    def pair(self, name: str, value: Any, base: tuple[str | int, ...]) -> None:
        """Possibly dotted: the only key of a table may be written behind its name."""
        path = (*base, name)
        self.keys[path] = self.place()
        self.key(name)
        while isinstance(value, dict) and len(value) == 1 and self._draw(st.booleans()):
            self.gap()
            self.text += "."
            self.gap()
            ((name, value),) = value.items()
            path = (*path, name)
            self.keys[path] = self.place()
            self.key(name)
        self.gap()
        self.text += "="
        self.gap()
        self.value(value, path)

    def header(self, names: tuple[str, ...], path: tuple[str | int, ...], *, array: bool) -> None:
        self.text += "[[" if array else "["
        at: tuple[str | int, ...] = ()
        for index, name in enumerate(names):
            self.text += "." if index else ""
            self.gap("", " ")
            at = (*at, name)
            place = self.place()
            self.keys.setdefault(at, place)
            if index == len(names) - 1 and array:
                self.keys[path] = place
            self.key(name)
            self.gap("", " ")
        self.text += "]]" if array else "]"
        self.text += "  # é\n"

    def body(self, table: dict[str, Any], path: tuple[str | int, ...]) -> None:
        for name, value in table.items():
            self.gap("", "  ")
            self.pair(name, value, path)
            self.gap("\n", " # 日\n", "\n\n")


@given(
    st.data(), TABLES, st.dictionaries(KEYS, st.one_of(TABLES, st.lists(TABLES, min_size=1, max_size=3)), max_size=3)
)
def test_positions_of_any_file(data: st.DataObject, top: dict[str, Any], sections: dict[str, Any]) -> None:
    writer = Writer(data.draw)
    top = {name: value for name, value in top.items() if name not in sections}
    writer.body(top, ())
    for name, section in sections.items():
        if isinstance(section, list):
            for index, table in enumerate(section):
                writer.header((name,), (name, index), array=True)
                writer.body(table, (name, index))
        else:
            inner = data.draw(KEYS)
            writer.header((name, inner), (name, inner), array=False)
            writer.body(section, (name, inner))
    tomllib.loads(writer.text)
    positions = Positions(writer.text)
    assert {path: positions.key(path) for path in writer.keys} == writer.keys
    assert {path: positions.value(path) for path in writer.values} == writer.values
    assert positions.repeated == []


def test_sub_tables_belong_to_the_latest_entry_of_an_array() -> None:
    text = "[[a]]\nx = 1\n[a.b]\ny = 2\n[[a]]\n[a.b]\ny = 3\n"
    assert tomllib.loads(text) == {"a": [{"x": 1, "b": {"y": 2}}, {"b": {"y": 3}}]}
    positions = Positions(text)
    assert positions.value(("a", 0, "b", "y")) == (4, 5)
    assert positions.value(("a", 1, "b", "y")) == (7, 5)
    assert positions.key(("a", 1)) == (5, 3)
    assert positions.repeated == []


def test_columns_count_characters_not_bytes() -> None:
    positions = Positions('"é日😀" = { k = "é", z = 2 }\n')
    assert positions.value(("é日😀",)) == (1, 9)
    assert positions.key(("é日😀", "z")) == (1, 20)
    assert positions.value(("é日😀", "z")) == (1, 24)


def test_windows_line_ends() -> None:
    assert Positions("a = 1\r\nb = 2\r\n").value(("b",)) == (2, 5)


def test_multi_line_strings() -> None:
    positions = Positions('a = """\nb = 1\n"""\nb = 2\n')
    assert positions.value(("a",)) == (1, 5)
    assert positions.key(("b",)) == (4, 1)


def test_what_is_not_in_the_file_is_placed_at_the_nearest_table() -> None:
    positions = Positions("[a]\n[a.b]\nc = { d = 1 }\n")
    assert positions.key(("a", "b", "missing")) == (2, 4)
    assert positions.value(("a", "b", "c", "missing", "more")) == (3, 5)
    assert positions.value(("nowhere",)) == (1, 1)
    assert positions.has(("a", "b"))
    assert positions.has(())
    assert not positions.has(("a", "b", "missing"))


@pytest.mark.parametrize(
    ("text", "path", "place", "first"),
    [
        ("a = 1\nb = 2\na = 3\n", ("a",), (3, 1), (1, 1)),
        ("[x]\na = 1\n[x.y]\n[x]\n", ("x",), (4, 2), (1, 2)),
        ("[x]\na.b = 1\na.b = 2\n", ("x", "a", "b"), (3, 1), (2, 3)),
        ('x = { "é" = 1, "é" = 2 }\n', ("x", "é"), (1, 16), (1, 7)),
    ],
)
def test_what_is_defined_twice(
    text: str, path: tuple[str, ...], place: tuple[int, int], first: tuple[int, int]
) -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    assert Positions(text).repeated == [(path, place, first)]


@given(st.text("a=[]{}.,\"'\n#1é ", max_size=40))
def test_no_text_makes_it_fail(text: str) -> None:
    Positions(text)
