"""`nlb log ...`"""

from __future__ import annotations

from nlbcli.main import LazyGroup


class LogGroup(LazyGroup):
    """`nlb log`"""

    lazy = {  # noqa: RUF012 - constant
        "level": "nlbcli.log.level",
    }


command = LogGroup(name="log", help="Change what a running balancer logs.")
