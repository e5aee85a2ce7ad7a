"""`nlb server ...`"""

from __future__ import annotations

from nlbcli.main import LazyGroup


class ServerGroup(LazyGroup):
    """`nlb server`"""

    lazy = {  # noqa: RUF012 - constant
        "drain": "nlbcli.server.drain",
        "maint": "nlbcli.server.maint",
        "ready": "nlbcli.server.ready",
        "weight": "nlbcli.server.weight",
    }


command = ServerGroup(name="server", help="Take a server out and put it back, change its weight, at run time.")
