"""Where each key and each value of a TOML file stands.

Theory of operation. `tomllib` gives values without places; tree-sitter gives a syntax tree with places. Both read the same
text, and `Positions` walks the tree once and files every key under the path that the value has in tomllib's result:
dotted keys and headers are taken apart, `[[x]]` counts up, `[x.y]` below a `[[x]]` belongs to the latest one.
tree-sitter counts bytes, people and editors count characters: columns are converted here, and nowhere else.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import tree_sitter
import tree_sitter_toml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbcore.config.finding import KeyPath

Place = tuple[int, int]
"""Line and column, both counted from 1, the column in characters."""

_TOML = tree_sitter.Language(tree_sitter_toml.language())
_KEYS = frozenset({"bare_key", "quoted_key", "dotted_key"})


class Positions:
    """The places of one file.

    Attributes:
        repeated: keys and tables that the file defines a second time: path, place, place of the first.
    """

    def __init__(self, text: str) -> None:
        data = text.encode()
        self._lines = data.split(b"\n")
        self._keys: dict[KeyPath, Place] = {}
        self._values: dict[KeyPath, Place] = {}
        self._tables: dict[KeyPath, Place] = {}
        self._arrays: dict[KeyPath, int] = {}
        self.repeated: list[tuple[KeyPath, Place, Place]] = []
        self._document(tree_sitter.Parser(_TOML).parse(data).root_node)

    def key(self, path: KeyPath) -> Place:
        """The place of a key, else what `value` says."""
        return self._keys[path] if path in self._keys else self.value(path)

    def value(self, path: KeyPath) -> Place:
        """The place of a value, for a table that of its header; else of the nearest table above it; at last 1:1."""
        while path:
            if path in self._values:
                return self._values[path]
            if path in self._keys:
                return self._keys[path]
            path = path[:-1]
        return (1, 1)

    def has(self, path: KeyPath) -> bool:
        """Whether the file has this key."""
        return not path or path in self._keys or path in self._values

    def _place(self, node: tree_sitter.Node) -> Place:
        row, column = node.start_point
        return (row + 1, len(self._lines[row][:column].decode(errors="replace")) + 1)

    def _document(self, root: tree_sitter.Node) -> None:
        for node in root.children:
            if node.type == "pair":
                self._pair(node, ())
            elif node.type in {"table", "table_array_element"}:
                base = self._header(node)
                for child in node.children:
                    if child.type == "pair":
                        self._pair(child, base)

    def _header(self, node: tree_sitter.Node) -> KeyPath:
        parts = [(name, place) for child in node.children if child.type in _KEYS for name, place in self._names(child)]
        path: KeyPath = ()
        for index, (name, place) in enumerate(parts):
            path = (*path, name)
            self._keys.setdefault(path, place)
            last = index == len(parts) - 1
            if last and node.type == "table_array_element":
                count = self._arrays[path] = self._arrays.get(path, -1) + 1
                path = (*path, count)
                self._keys[path] = place
            elif last:
                if path in self._tables:
                    self.repeated.append((path, place, self._tables[path]))
                self._tables.setdefault(path, place)
            elif path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _pair(self, node: tree_sitter.Node, base: KeyPath) -> None:
        # A comment behind the value is a child too.
        key, *rest = (child for child in node.children if child.is_named and child.type != "comment")
        path = base
        for name, place in self._names(key):
            path = (*path, name)
            self._keys.setdefault(path, place)
        if path in self._values:
            self.repeated.append((path, self._place(key), self._keys[path]))
        if rest:
            self._value(rest[0], path)

    def _value(self, node: tree_sitter.Node, path: KeyPath) -> None:
        self._values.setdefault(path, self._place(node))
        if node.type == "array":
            items = (child for child in node.children if child.is_named and child.type not in {"comment", "ERROR"})
            for index, child in enumerate(items):
                self._value(child, (*path, index))
        elif node.type == "inline_table":
            for child in node.children:
                if child.type == "pair":
                    self._pair(child, path)

    def _names(self, node: tree_sitter.Node) -> Iterator[tuple[str, Place]]:
        """The names of a key, dotted or not, each with its place."""
        if node.type == "dotted_key":
            for child in node.children:
                yield from self._names(child)
        elif node.type in _KEYS and node.text is not None:
            yield _unquote(node.text.decode(errors="replace")), self._place(node)


def _unquote(name: str) -> str:
    """Let tomllib say what a quoted key means: escapes, literal strings."""
    if name[:1] not in {'"', "'"}:
        return name
    try:
        return next(iter(tomllib.loads(f"{name} = 0")))
    except tomllib.TOMLDecodeError:
        return name
