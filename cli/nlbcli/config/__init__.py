"""`nlb config ...`"""

from __future__ import annotations

import rich_click as click

from nlbcli.main import LazyGroup


class ConfigGroup(LazyGroup):
    """`nlb config`"""

    lazy = {  # noqa: RUF012 - constant
        "init": "nlbcli.config.init",
        "show": "nlbcli.config.show",
        "schema": "nlbcli.config.schema",
    }


@click.group("config", cls=ConfigGroup)
def command() -> None:
    """Write a sample configuration, show the one in force, print its schema."""
