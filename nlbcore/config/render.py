"""The model written out: as TOML, as a sample file, as JSON Schema, as a reference for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nlbcore import __version__
from nlbcore.config.model import Config
from nlbcore.config.option import NAMED_TABLES, Option, all_options, child_header, options_of, toml_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH = 100
_SAMPLE_NAMES = {"listeners": "web", "server_groups": "app", "security_policies": "modern"}
_SAMPLE_ONLY = {"security_policies"}
"""Tables that the sample comments out as a whole."""
_SAMPLE_VALUES = {
    "listeners.NAME.server_group": '"app"',
    "listeners.NAME.client_auth.mode": '"required"',
    "listeners.NAME.client_auth.ca": '["certs/root.crt"]',
}
"""What the sample shows in force although it has a default: without it there would be no mutual TLS."""


def effective(config: Config) -> dict[str, Any]:
    """Every key with the value in force, in plain types. Keys and certificates appear as paths, never as content."""
    return config.model_dump(mode="json", exclude_none=True)


def as_toml(document: dict[str, Any]) -> str:
    """Write tables of tables; an array of tables becomes one inline table a line."""
    return "\n".join(_table_lines(document, ())).strip() + "\n"


def _table_lines(table: dict[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if path and plain:
        yield f"\n[{'.'.join(_key(part) for part in path)}]"
    for key, value in plain.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{_key(key)} = ["
            yield from (f"  {toml_value(item)}," for item in value)
            yield "]"
        else:
            yield f"{_key(key)} = {toml_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _table_lines(value, (*path, key))


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else toml_value(name)


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file, for editors."""
    made = Config.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "nlb configuration"}


def sample() -> str:
    """A file with every option: what has a default is commented out, what is needed is filled in."""
    lines = [
        f"# Configuration of nlb {__version__}. Check it with: nlb check -c FILE",
        "# Every option is here. What is commented out shows its default, or an example where there is none.",
        '# Durations are "10s", "5m" or a number of seconds; relative paths are relative to this file.',
    ]
    for item in options_of(Config):
        if item.children is not None:
            name = f".{_SAMPLE_NAMES[item.key]}" if item.kind is NAMED_TABLES else ""
            table = _sample_table(item.children, child_header(item), f"{item.key}{name}", item)
            lines += (f"#{line}" if item.key in _SAMPLE_ONLY and line[:1] not in ("", "#") else line for line in table)
    return "\n".join(lines) + "\n"


def _sample_table(model: type[BaseModel], table: str, header: str, about: Option) -> Iterator[str]:
    brackets = f"[[{header}]]" if about.is_array else f"[{header}]"
    yield ""
    yield from (f"# {line}" for line in wrapped(about.text))
    yield brackets
    below: list[Option] = []
    for item in options_of(model, table):
        if item.children is not None:
            below.append(item)
            continue
        shown = _SAMPLE_VALUES.get(item.path)
        yield from (f"# {line}" for line in wrapped(item.text + _range_note(item)))
        yield f"{item.key} = {shown}" if shown else f"{'' if item.required else '#'}{item.key} = {item.example}"
    for item in below:
        assert item.children is not None
        yield from _sample_table(item.children, child_header(item), f"{header}.{item.key}", item)


def _range_note(item: Option) -> str:
    return f" Range: {item.range_text}." if item.range_text else ""


def wrapped(text: str, width: int = _WIDTH) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def reference() -> str:
    """The option reference, Markdown."""
    lines = [
        "# Configuration options",
        "",
        f"Every option of nlb {__version__}, made from the descriptions in `nlbcore/config/model.py` by `ci/options.py`.",
        "",
        "The file is TOML. Relative paths are relative to the file. A duration is a number with its unit (`ms`, `s`, `m`,",
        '`h`, `d`), as in `"10s"`, or a number of seconds. An option with "TCPSSL only" is refused on a plain TCP listener.',
        "`nlb check` tells everything that is wrong with a file, with line and column; `nlb config init` writes a sample.",
    ]
    table = None
    arrays = {child_header(item) for item in _tables(Config) if item.is_array}
    for item in all_options(Config):
        if item.table != table:
            table = item.table
            lines += ["", f"## `[[{table}]]`" if table in arrays else f"## `[{table}]`"]
        lines += ["", *_entry(item)]
    return "\n".join(lines) + "\n"


def _tables(model: type[BaseModel], table: str = "") -> Iterator[Option]:
    for item in options_of(model, table):
        if item.children is not None:
            yield item
            yield from _tables(item.children, child_header(item))


def _entry(item: Option) -> Iterator[str]:
    yield f"### `{item.key}`"
    yield ""
    yield item.text
    yield ""
    yield f"- Value: {item.kind.expected}"
    if item.extra.unit:
        yield f"- Unit: {item.extra.unit}"
    if item.range_text:
        yield f"- Range: {item.range_text}"
    yield "- Required" if item.required else f"- Default: {default_text(item)}"
    if item.extra.tls_only:
        yield '- Only with `protocol = "TCPSSL"`'
    if item.required or item.extra.example or item.default in (None, ()):
        yield f"- Example: `{item.key} = {item.example}`"


def default_text(item: Option) -> str:
    """The default as written in the file, or in words."""
    if item.extra.default_text:
        return item.extra.default_text
    return f"`{toml_value(item.default)}`" if item.default not in (None, ()) else "none"
