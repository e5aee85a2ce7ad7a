"""Generations made by hand: the configuration of a test, and rows as the checker gives them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlbcore.config.model import Config
from nlbcore.process.snapshot import Limits, Rows, Snapshot
from nlbcore.tls.material import Material

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMITS = Limits(4, 4, 8)


def config(
    groups: Mapping[str, Mapping[str, int]], listeners: Mapping[str, str] | None = None, **tables: Mapping[str, Any]
) -> Config:
    """A configuration.

    Args:
        groups: by name, the servers' weights by their names; the n-th server of all listens at 10.0.0.n:80
        listeners: by name, the server group of each
        tables: more of `node`, `log`; and more of a group, by its name
    """
    number = 0
    made: dict[str, Any] = {}
    for group, servers in groups.items():
        made[group] = {"servers": [], **tables.pop(group, {})}
        for name, weight in servers.items():
            number += 1
            made[group]["servers"].append({"name": name, "address": f"10.0.0.{number}:80", "weight": weight})
    bound = {
        name: {"bind": f"127.0.0.1:{443 + number}", "protocol": "TCP", "server_group": group}
        for number, (name, group) in enumerate((listeners or {}).items())
    }
    return Config.model_validate({"listeners": bound, "server_groups": made, **tables})


def generation(number: int, made: Config, living: Sequence[Rows] = (), material: Material | None = None) -> Snapshot:
    """The generation with this number; what one of the living ones has a row for keeps it."""
    return Snapshot(number, made, material or Material({}), Rows.number(made, LIMITS, living))
