"""What a new configuration changes, in words an operator reads after `nlb reload`.

One line for each key with another value; for tables, servers and the entries of a list: which were added, which removed.
In the order of the new file, what it no longer has comes last. `certificates` is left out: what counts are the contents of
the files, not their names (``tls/changes``). A list never makes more than a screen of lines.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from nlbcore.config.finding import key_text
from nlbcore.config.option import toml_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbcore.config.finding import KeyPath
    from nlbcore.config.model import Config

    Table = dict[str, Any]

RESTART: tuple[tuple[str, str], ...] = (("node", "control_socket"), ("node", "admin"), ("node", "pid_file"))
"""The keys that only a restart changes."""

SHOWN = 10
"""Tables, servers or list entries that are named; the others are counted."""

_PLAIN = re.compile(r"[!#-&(-~]+")
"""Text that needs no quotes to be told from what stands around it."""


def diff(old: Config, new: Config) -> list[str]:
    """What is different, without what `needs_restart` tells."""
    return list(_table(_plain(old), _plain(new), ()))


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys in `RESTART` that differ: the old value stays in force until the balancer is started again."""
    before, after = _plain(old), _plain(new)
    pairs = [((table, key), before[table][key], after[table][key]) for table, key in RESTART]
    return [f"{key_text(path)}: {_value(one)} -> {_value(other)}" for path, one, other in pairs if one != other]


def as_started(old: Config, new: Config) -> Config:
    """The new configuration with the keys in `RESTART` as they were: what is served is what is said."""
    kept: dict[str, dict[str, Any]] = {}
    for table, key in RESTART:
        kept.setdefault(table, {})[key] = getattr(getattr(old, table), key)
    return new.model_copy(
        update={table: getattr(new, table).model_copy(update=values) for table, values in kept.items()}
    )


def _plain(config: Config) -> Table:
    """In the types and the words of the file, with `None` for what is absent."""
    return config.model_dump(mode="json", exclude={"listeners": {"__all__": {"certificates"}}})


def _table(old: Table, new: Table, path: KeyPath) -> Iterator[str]:
    """The keys of a table; or the tables with a name, of which there may be other ones."""
    added: list[str] = []
    for key, value in new.items():
        here = (*path, key)
        if key not in old:
            added.append(f"{key_text(here)}: added")
        elif here not in RESTART:
            yield from _changed(old[key], value, here)
    yield from _shortened(added, path, "added")
    yield from _shortened([f"{key_text((*path, key))}: removed" for key in old if key not in new], path, "removed")


def _changed(old: Any, new: Any, path: KeyPath) -> Iterator[str]:
    if isinstance(new, dict):
        yield from _table(old, new, path)
    elif isinstance(new, list) or isinstance(old, list):
        if path[-1] == "servers":
            yield from _servers(old, new, path)
        elif old != new:
            yield f"{key_text(path)}: {_entries(old, new)}"
    elif old != new:
        yield f"{key_text(path)}: {_value(old)} -> {_value(new)}"


def _servers(old: list[Table], new: list[Table], path: KeyPath) -> Iterator[str]:
    """The servers of a group: the same name is the same server."""
    before = {server["name"]: server for server in old}
    after = {server["name"]: server for server in new}
    changed: list[str] = []
    added: list[str] = []
    for name, server in after.items():
        here = (*path, name)
        if name in before:
            changed += _table(before[name], server, here)
        else:
            added.append(f"{key_text(here)}: added ({server['address']}, weight {server['weight']})")
    removed = [f"{key_text((*path, name))}: removed" for name in before if name not in after]
    yield from _shortened(changed, path, "changed")
    yield from _shortened(added, path, "added")
    yield from _shortened(removed, path, "removed")
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield f"{key_text(path)}: in another order"


def _shortened(lines: list[str], path: KeyPath, what: str) -> Iterator[str]:
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"{key_text(path)}: {len(lines) - SHOWN} more {what}"


def _entries(old: list[Any] | None, new: list[Any] | None) -> str:
    """What came into a list and what left it; None: there was none, or there is none now."""
    if old is None or new is None:
        return f"absent -> {_several(new or [])}" if old is None else f"{_several(old)} -> absent"
    parts = [
        f"{what} {_several(items)}"
        for what, items in (
            ("added", _without(new, old)),
            ("removed", _without(old, new)),
        )
        if items
    ]
    return "; ".join(parts) or "in another order"


def _without(items: list[Any], others: list[Any]) -> list[Any]:
    """Those that are not among the others, of which there may be thousands."""
    known = {json.dumps(item, sort_keys=True) for item in others}
    return [item for item in items if json.dumps(item, sort_keys=True) not in known]


def _several(items: list[Any]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(_value(item) for item in items[:SHOWN]) + more


def _value(value: Any) -> str:
    """As it is written in the file; without the quotes where the end is plain to see."""
    if value is None:
        return "absent"
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return toml_value(value)
