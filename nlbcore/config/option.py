"""One description per option.

`option()` stands beside each key of the model and says everything about it once: default, range, unit, help, an example.
The checks, the JSON Schema, the sample file (`nlb config init`) and the option reference (docs/options.md) are all made
from it. What kind of value a key takes is said once per type, by a `Kind` in the type's annotation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic_core import PydanticUndefined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from nlbcore.config.finding import KeyPath

REQUIRED: Any = ...


@dataclass(frozen=True, slots=True)
class Kind:
    """What may stand behind the equals sign.

    Attributes:
        expected: the words after "expected", for example "a duration".
        example: a value as it is written in the file.
    """

    expected: str
    example: str


@dataclass(frozen=True, slots=True)
class Extra:
    """What pydantic's own field description has no room for; see `option()`."""

    example: str = ""
    unit: str = ""
    default_text: str = ""
    low: float | None = None
    high: float | None = None
    later: tuple[str, ...] = ()
    tls_only: bool = False

    def __call__(self, schema: dict[str, Any]) -> None:
        """Complete the JSON Schema of the field; pydantic calls it as `json_schema_extra`."""
        if self.unit:
            schema["x-unit"] = self.unit
        if self.low is not None:
            schema["minimum"] = self.low
        if self.high is not None:
            schema["maximum"] = self.high


def option(
    default: Any,
    text: str,
    *,
    example: str = "",
    unit: str = "",
    default_text: str = "",
    low: float | None = None,
    high: float | None = None,
    later: tuple[str, ...] = (),
    tls_only: bool = False,
    factory: Any = None,
) -> Any:
    """Describe one key.

    Args:
        default: as it would be written in the file (it is validated like the user's own), or REQUIRED.
        text: help, one or more sentences.
        example: a value as written in the file; default: the default, else the example of the kind.
        unit: what the number counts.
        default_text: the default in words, where it is computed.
        low: smallest value allowed.
        high: largest value allowed.
        later: values of the interface that this version does not have yet; they are refused by name.
        tls_only: the key has no meaning on a plain TCP listener and is refused there.
        factory: computes the default, where it is no constant.
    """
    extra = Extra(example, unit, default_text, low, high, later, tls_only)
    bounds = {name: value for name, value in (("ge", low), ("le", high)) if value is not None}
    settings: dict[str, Any] = {"default_factory": factory} if factory else {"default": default}
    settings.update(bounds, description=text, json_schema_extra=extra)
    return Field(**settings)


@dataclass(frozen=True, slots=True)
class Option:
    """One key, described. `table` is the header it stands under, with NAME for what the operator chooses.

    `children` is the model of the table, or of each table, behind the key; None for a key that takes a plain value.
    """

    table: str
    key: str
    kind: Kind
    text: str
    required: bool
    default: Any
    extra: Extra
    choices: tuple[str, ...] = ()
    children: type[BaseModel] | None = field(default=None, compare=False)

    @property
    def is_array(self) -> bool:
        """Whether an array of tables stands behind the key."""
        return self.children is not None and self.kind not in (TABLE, NAMED_TABLES)

    @property
    def path(self) -> str:
        return f"{self.table}.{self.key}" if self.table else self.key

    @property
    def example(self) -> str:
        if self.extra.example:
            return self.extra.example
        return self.kind.example if self.default in (None, (), {}) else toml_value(self.default)

    @property
    def range_text(self) -> str:
        """`10s to 900s`, `1 or more`; empty where there is none."""
        low, high, unit = self.extra.low, self.extra.high, "s" if self.kind.expected == "a duration" else ""
        if low is None:
            return f"at most {high:g}{unit}" if high is not None else ""
        return f"{_plain(low)}{unit} to {_plain(high)}{unit}" if high is not None else f"{_plain(low)}{unit} or more"


def toml_value(value: Any) -> str:
    """A plain value, list or inline table as it is written in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


_BUILTIN_KINDS = {
    str: Kind("a string", '"text"'),
    bool: Kind("true or false", "true"),
    int: Kind("a whole number", "1"),
}


def options_of(model: type[BaseModel], table: str = "") -> Iterator[Option]:
    """The keys of one table, in the order of the model, sub-tables included."""
    for key, info in model.model_fields.items():
        yield _option(table, key, info)


def all_options(model: type[BaseModel], table: str = "") -> Iterator[Option]:
    """Every key that takes a value, table by table: first the table's own keys, then its sub-tables."""
    below: list[Option] = []
    for item in options_of(model, table):
        if item.children is None:
            yield item
        else:
            below.append(item)
    for item in below:
        assert item.children is not None
        yield from all_options(item.children, child_header(item))


def child_header(item: Option) -> str:
    """The header of the table behind a key: `[listeners.NAME]` or `[[listeners.NAME.certificates]]` without brackets."""
    return f"{item.path}.NAME" if item.kind is NAMED_TABLES else item.path


def look_up(root: type[BaseModel], path: KeyPath) -> tuple[Option | None, type[BaseModel]]:
    """The option that a path names, and the model of the table that its last key stands in."""
    model, table, named = root, "", False
    option: Option | None = None
    for part in path:
        if isinstance(part, int) or named:
            named = False
            continue
        option = next((item for item in options_of(model, table) if item.key == part), None)
        if option is None:
            return None, model
        if option.children is not None:
            model, table, named = option.children, child_header(option), option.kind is NAMED_TABLES
    return option, model


TABLE = Kind("a table", "{}")
NAMED_TABLES = Kind("tables with a name", "")


def _option(table: str, key: str, info: FieldInfo) -> Option:
    found = [item for item in info.metadata if isinstance(item, Kind)]
    extra = info.json_schema_extra
    assert isinstance(extra, Extra), f"{table}.{key} is not described by option()"
    choices = tuple(_literals(info.annotation))
    children, shape = _children(info.annotation)
    builtin = next((kind for of, kind in _BUILTIN_KINDS.items() if info.annotation is of), None)
    kind = found[0] if found else shape or builtin or _one_of(choices)
    default = None if info.default is PydanticUndefined else info.default
    return Option(table, key, kind, info.description or "", info.is_required(), default, extra, choices, children)


def _one_of(choices: tuple[str, ...]) -> Kind:
    return Kind("one of " + ", ".join(f'"{choice}"' for choice in choices), f'"{choices[0]}"')


def _literals(annotation: Any) -> Iterator[str]:
    """The words of a Literal, also inside `| None`."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for part in get_args(annotation):
            yield from _literals(part)


def _children(annotation: Any) -> tuple[type[BaseModel] | None, Kind | None]:
    """The model behind a table, a dictionary of tables or an array of tables; the kind, where the type does not say it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, TABLE
    arguments = [item for item in get_args(annotation) if isinstance(item, type) and issubclass(item, BaseModel)]
    if not arguments:
        return None, None
    return arguments[0], NAMED_TABLES if get_origin(annotation) is dict else None
