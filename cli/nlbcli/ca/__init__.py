"""`nlb ca ...`"""

from __future__ import annotations

from nlbcli.main import LazyGroup


class CaGroup(LazyGroup):
    """`nlb ca`"""

    lazy = {  # noqa: RUF012 - constant
        "init": "nlbcli.ca.init",
        "show": "nlbcli.ca.show",
        "renew": "nlbcli.ca.renew",
        "passphrase": "nlbcli.ca.passphrase",
        "crl": "nlbcli.ca.crl",
    }


command = CaGroup(
    name="ca",
    help="Make and renew a private certificate authority, write its lists of revoked certificates, lock its keys.",
)
