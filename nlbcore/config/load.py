"""Read the configuration file into the model, with a finding for everything that is wrong in it.

`load()` never raises for what it finds. Where a key is wrong the rest is still worth checking, so it also makes a
*partial* model, in which its default or a stand-in takes the place of each wrong key: later checks run on that, what
they say about stand-ins is dropped, and one run tells everything.
"""

from __future__ import annotations

import copy
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nlbcore.config.explain import explain, syntax_error
from nlbcore.config.finding import Finding, KeyPath, Severity, in_order, key_text
from nlbcore.config.model import Config
from nlbcore.config.option import look_up
from nlbcore.config.position import Place, Positions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Loaded:
    """The outcome of `load()`.

    Attributes:
        path: the file, as it was given.
        config: the model; None if there is any error.
        partial: the model without what is wrong; None if not even that can be made; `config` itself if all is well.
        findings: what is wrong, in the order of the file.
        document: the file as tomllib reads it.
        broken: the paths where `partial` differs from the file.
    """

    path: Path
    config: Config | None
    findings: tuple[Finding, ...]
    partial: Config | None = None
    document: dict[str, Any] = field(default_factory=dict, repr=False)
    broken: frozenset[KeyPath] = frozenset()
    positions: Positions | None = field(default=None, repr=False)

    def locate(self, path: KeyPath) -> Place:
        """Line and column of a value, else of the nearest table above it that is in the file."""
        return self.positions.value(path) if self.positions else (0, 0)

    def finding(
        self, path: KeyPath, severity: Severity, message: str, hint: str = "", *, denied: bool = False
    ) -> Finding:
        return Finding(str(self.path), *self.locate(path), severity, key_text(path), message, hint, denied)

    def real(self, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Without those about keys that are known to be broken: they are about a stand-in."""
        texts = tuple(key_text(path) for path in self.broken)
        inside = tuple(text + mark for text in texts for mark in ".[")
        return tuple(item for item in findings if item.key not in texts and not item.key.startswith(inside))

    def whole(self, path: KeyPath) -> bool:
        """Whether nothing at or below a table is broken, so that what is absent there is really absent."""
        return not any(item[: len(path)] == path for item in self.broken)


STAND_IN = "/nlb-broken/"
"""Begins the paths that stand in for broken ones in a partial model."""


def load(path: Path) -> Loaded:
    """Read a file. Every problem is a finding; `config` is None if one of them is an error."""
    file = str(path)
    try:
        text = _read(path)
    except OSError as error:
        return Loaded(
            path,
            None,
            (
                Finding(
                    *(file, 0, 0, "error", "", f"cannot read: {(error.strerror or str(error)).lower()}"),
                    denied=isinstance(error, PermissionError),
                ),
            ),
        )
    except UnicodeDecodeError as error:
        return Loaded(path, None, (_not_utf8(file, error),))
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return Loaded(path, None, in_order(_syntax_findings(file, text, error)))
    positions = Positions(text)
    context = {"base": path.absolute().parent}
    try:
        config = Config.model_validate(document, context=context)
    except ValidationError as error:
        errors = _errors(error)
        findings = in_order(explain(item, file, positions) for item in errors)
        partial, broken = _partial(document, errors, context)
        return Loaded(path, None, findings, partial, document, broken, positions)
    return Loaded(path, config, (), config, document, frozenset(), positions)


def _errors(error: ValidationError) -> list[ErrorDetails]:
    """Without the complaint that a default could not be computed from a key that is itself wrong."""
    return [item for item in error.errors(include_url=False) if item["type"] != "default_factory_not_called"]


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(f"larger than {MAX_BYTES // 1024 // 1024} MB")
    return data.decode("utf-8")


def _not_utf8(file: str, error: UnicodeDecodeError) -> Finding:
    before = bytes(error.object[: error.start]).decode("utf-8", errors="replace")
    place = (before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
    return Finding(file, *place, "error", "", "the file is not UTF-8 text", "save it as UTF-8")


def _syntax_findings(file: str, text: str, error: Exception) -> Iterable[Finding]:
    if isinstance(error, RecursionError):
        yield syntax_error(file, (1, 1), "Arrays or tables are nested too deeply")
        return
    message, place = _tomllib_error(text, error)
    if text.startswith("\ufeff"):
        yield Finding(file, 1, 1, "error", "", "the file begins with a byte order mark", "save it as UTF-8 without BOM")
        return
    if re.search(r"overwrite|twice|immutable", message):
        repeated = Positions(text).repeated
        for path, where, first in repeated:
            yield Finding(file, *where, "error", key_text(path), f"defined twice, first in line {first[0]}")
        if repeated:
            return
    yield syntax_error(file, place, message)


def _tomllib_error(text: str, error: Exception) -> tuple[str, Place]:
    """Message and place; before Python 3.14 they come in one string."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
    if found is None:
        return str(error), (1, 1)
    if found[2]:
        return found[1], (int(found[2]), int(found[3]))
    lines = text.rstrip().split("\n")
    return found[1] + " at the end of the file", (len(lines), len(lines[-1]) + 1)


def _partial(
    document: dict[str, Any], errors: list[ErrorDetails], context: dict[str, Any]
) -> tuple[Config | None, frozenset[KeyPath]]:
    """Mend what is wrong, until the model takes the rest: a mended table may turn out to lack a key."""
    rest = copy.deepcopy(document)
    broken: set[KeyPath] = set()
    while True:
        # A table with a bad name may be wrong in itself too; the name decides, for it cannot be mended.
        wrong = {_path(item): item["type"] for item in sorted(errors, key=lambda item: item["type"] == "bad_name")}
        if broken.issuperset(wrong):
            return None, frozenset(broken)
        for path, kind in wrong.items():
            _mend(rest, path, kind, f"{STAND_IN}{len(broken)}")
            broken.add(path)
            if isinstance(path[-1], int) and _alone(document, path):
                broken.add(path[:-1])  # findings about the one entry of a list stand at the list
        try:
            config = Config.model_validate(rest, context=context)
        except ValidationError as error:
            errors = _errors(error)
        else:
            return config, frozenset(broken)


def _alone(document: dict[str, Any], path: KeyPath) -> bool:
    """Whether an entry is all that its list holds, or stands where a list may stand."""
    node: Any = document
    for part in path[:-1]:
        node = node[part]
    return not isinstance(node, list) or len(node) == 1


def _path(error: ErrorDetails) -> KeyPath:
    """Where the error is, without pydantic's mark for "the key, not the value"."""
    return error["loc"][:-1] if error["type"] == "bad_name" else error["loc"]


def _mend(rest: dict[str, Any], path: KeyPath, kind: str, unique: str) -> None:
    """Put a stand-in where a value is needed, else take the key out. Entries of an array keep their numbers."""
    node: Any = rest
    for part in path[:-1]:
        below = node[part]
        if not isinstance(below, dict | list):
            # One value where a list may stand, as in bind = "...": there is no entry 0 in the file.
            node[part] = _stand_in(path, unique)
            return
        node = below
    option, _ = look_up(Config, path)
    if (
        kind not in {"extra_forbidden", "bad_name"}
        and option is not None
        and (option.required or option.key != path[-1])
    ):
        node[path[-1]] = _stand_in(path, unique)
    else:
        node.pop(path[-1], None)


def _stand_in(path: KeyPath, unique: str) -> object:
    """A value that the model takes and that clashes with no other: an empty table, a word, a socket or a path."""
    option, _ = look_up(Config, path)
    if option is None or option.children is not None:
        return {}
    if option.choices:
        return option.choices[0]
    return f"unix:{unique}" if option.key in {"bind", "address"} else unique
