"""`nlb config ...`"""

from __future__ import annotations

from nlbcli.main import LazyGroup


class ConfigGroup(LazyGroup):
    """`nlb config`"""

    lazy = {  # noqa: RUF012 - constant
        "init": "nlbcli.config.init",
        "show": "nlbcli.config.show",
        "schema": "nlbcli.config.schema",
    }


command = ConfigGroup(name="config", help="Write a sample configuration, show the one in force, print its schema.")
