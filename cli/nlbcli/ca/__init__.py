"""`nlb ca ...`"""

from __future__ import annotations

from nlbcli.main import LazyGroup


class CaGroup(LazyGroup):
    """`nlb ca`"""

    lazy = {  # noqa: RUF012 - constant
        "init": "nlbcli.ca.init",
        "show": "nlbcli.ca.show",
        "renew": "nlbcli.ca.renew",
        "crl": "nlbcli.ca.crl",
    }


command = CaGroup(
    name="ca", help="Make and renew a private certificate authority, and write its lists of revoked certificates."
)
