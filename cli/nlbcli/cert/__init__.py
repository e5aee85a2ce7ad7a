"""`nlb cert ...`"""

from __future__ import annotations

from nlbcli.main import LazyGroup


class CertGroup(LazyGroup):
    """`nlb cert`"""

    lazy = {  # noqa: RUF012 - constant
        "issue": "nlbcli.cert.issue",
        "csr": "nlbcli.cert.csr",
        "sign": "nlbcli.cert.sign",
        "list": "nlbcli.cert.list",
        "renew": "nlbcli.cert.renew",
        "revoke": "nlbcli.cert.revoke",
        "unrevoke": "nlbcli.cert.unrevoke",
        "show": "nlbcli.cert.show",
        "verify": "nlbcli.cert.verify",
        "doctor": "nlbcli.cert.doctor",
        "p12": "nlbcli.cert.p12",
        "bundle": "nlbcli.cert.bundle",
    }


command = CertGroup(
    name="cert",
    help="Issue, sign, renew and revoke certificates of a private authority; look into any certificate and pack it.",
)
