"""What pydantic says, in the words of the file: where, what was expected, an example, a suggestion."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from nlbcore import __version__
from nlbcore.config.finding import Finding, KeyPath, did_you_mean, key_text
from nlbcore.config.model import Config, Table
from nlbcore.config.option import NAMED_TABLES, TABLE, Option, all_options, look_up, toml_value

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from nlbcore.config.position import Place, Positions

_NOT_BUILT = f"not built yet in nlb {__version__}"
_SHOWN = 60
"""Characters of a wrong value that are repeated in the message."""


def explain(error: ErrorDetails, file: str, positions: Positions) -> Finding:
    """Turn one of pydantic's errors into a finding."""
    kind = error["type"]
    path: KeyPath = tuple(error["loc"])
    on_key = kind == "bad_name"
    if on_key:
        path = path[:-1]  # without pydantic's mark for "the key, not the value"
    option, model = look_up(Config, path)
    message, hint = _message(kind, error, path, option, model)
    if kind == "missing":
        place = positions.value(path[:-1])
    else:
        while not positions.has(path):
            path = path[:-1]
        place = positions.key(path) if on_key or kind == "extra_forbidden" else positions.value(path)
    return Finding(file, *place, "error", key_text(path), message, hint)


def _message(
    kind: str, error: ErrorDetails, path: KeyPath, option: Option | None, model: type[BaseModel]
) -> tuple[str, str]:
    value, context = error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), model)
    if kind == "missing" and option is not None:
        return f"missing; expected {option.kind.expected}, for example {option.key} = {option.example}", ""
    if kind == "bad_value":
        return _with_not_built(str(context["sentence"])), ""
    if kind == "bad_name":
        return error["msg"], ""
    if option is None:
        return f"{error['msg']} (got {_shown(value)})", ""
    if kind == "literal_error" and isinstance(value, str):
        return _unknown_choice(value, option)
    if kind in {"greater_than_equal", "less_than_equal"}:
        unit = "s" if option.kind.expected == "a duration" else ""
        return f"must be {option.range_text}; got {value:.15g}{unit}", ""
    return f"expected {_expected(option, path)}; got {_type_name(value)}", ""


def _with_not_built(sentence: str) -> str:
    return sentence.replace("host names are not resolved", f"name resolution is {_NOT_BUILT}")


def _expected(option: Option, path: KeyPath) -> str:
    if option.children is not None and isinstance(path[-1], int):
        return f"a table, for example {option.example.strip('[ ]')}"
    if option.is_array:
        return f"an array of tables: [[{key_text(path)}]]"
    if option.kind is TABLE:
        return f"a table: [{key_text(path)}]"
    if option.kind is NAMED_TABLES:
        name = key_text(path) if len(path) > 1 else f"{key_text(path)}.NAME"
        return f"a table: [{name}]"
    return f"{option.kind.expected}, for example {option.key} = {option.example}"


def _unknown_key(name: str, model: type[BaseModel]) -> tuple[str, str]:
    if issubclass(model, Table) and name in model.not_built:
        return _NOT_BUILT, ""
    hint = did_you_mean(name, model.model_fields)
    if not hint:
        homes = dict.fromkeys(item.table for item in all_options(Config) if item.key == name)
        hint = "it belongs in " + " or ".join(f"[{table}]" for table in homes) if homes else ""
    return "unknown key", hint


def _unknown_choice(value: str, option: Option) -> tuple[str, str]:
    known = ", ".join(f'"{choice}"' for choice in option.choices)
    if value.lower() in (later.lower() for later in option.extra.later):
        return f'"{value}" is {_NOT_BUILT}; expected one of {known}', ""
    return f"expected one of {known}; got {_shown(value)}", did_you_mean(value, option.choices)


def _shown(value: object) -> str:
    text = toml_value(value) if isinstance(value, str | int | float) else _type_name(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _type_name(value: object) -> str:
    """A value's type in TOML's words, with the value where it is short and plain."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "an array"
    if isinstance(value, datetime.date | datetime.time):
        return f"the date or time {value}"
    if isinstance(value, bool):
        return toml_value(value)
    if isinstance(value, str):
        return f"the string {_shown(value)}"
    return f"the number {value}" if isinstance(value, int | float) else "something else"


def syntax_error(file: str, place: Place, message: str) -> Finding:
    """A finding about text that is no TOML."""
    text = message[:1].lower() + message[1:]
    hint = ""
    if message.startswith("Invalid value"):
        hint = "text stands in quotes; true, false and numbers do not"
    elif message.startswith("Invalid statement"):
        hint = "a line is KEY = VALUE, [TABLE] or # a comment"
    elif message.startswith("Expected newline"):
        hint = "addresses, durations and other text stand in quotes; a line holds one KEY = VALUE"
    return Finding(file, *place, "error", "", f"syntax error: {text}", hint)
