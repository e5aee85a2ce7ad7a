"""A table of client certificates and what a listener makes of each: for tests that ask wire, log, metrics and `nlb explain` the
same question. One listener has it all: a CA, a revocation list, rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support import forge
from tests.support.balancer import tls_listener
from tests.support.certs import BAD_CLIENTS
from tests.support.lists import overdue, revocation_list, write_lists

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.certs import Issued, Pki

SERIAL = 2**100 + 7

CASES: dict[str, tuple[str, str, Callable[[Pki], Issued]]] = {
    "good": ("strict", "accepted", lambda pki: pki.client),
    "revoked": ("strict", "revoked", lambda pki: pki.root.client("client-5", serial=SERIAL)),
    "denied": ("strict", "denied", lambda pki: pki.root.client("client-9")),
    "not_allowed": ("strict", "not_allowed", lambda pki: pki.root.client("somebody")),
    "nul": ("strict", "bad_certificate", lambda pki: forge.client(pki.root, [("cn", forge.UTF8, b"client-1\0.x")])),
    "crl_missing": ("strict", "crl_missing", lambda pki: pki.intermediate.client("client-2")),
    "crl_overdue": ("late", "crl_overdue", lambda pki: pki.client),
    "is_ca": ("plain", "wrong_purpose", lambda pki: pki.root.client("a-ca", is_ca=True)),
    "below": ("plain", "accepted", lambda pki: pki.intermediate.client("below")),
    "optional": ("optional", "unknown_ca", lambda pki: pki.other.client("other")),
    "reported": ("report", "unknown_ca", lambda pki: pki.other.client("other")),
    "off": ("off", "accepted", lambda pki: pki.other.client("other")),
    **{kind: ("plain", word, lambda pki, kind=kind: pki.bad_client(kind)) for kind, (word, _) in BAD_CLIENTS.items()},  # type: ignore[misc]
}
"""Name of the case: listener, word, how the certificate is made."""


def listeners(pki: Pki, folder: Path) -> dict[str, dict[str, Any]]:
    """The listeners that the cases name."""
    full = write_lists(folder, revocation_list(pki.root, SERIAL))
    late = write_lists(folder, overdue(pki.root, SERIAL))

    def listener(**auth: object) -> dict[str, Any]:
        return tls_listener(pki.server, ca=pki.root.path, client_auth=auth)

    off = listener()
    off["client_auth"] = {"mode": "off"}
    return {
        "strict": listener(crl=str(full), allow=["cn:client-*"], deny=["cn:client-9"]),
        "late": listener(crl=str(late)),
        "plain": listener(),
        "optional": listener(mode="optional"),
        "report": listener(mode="report"),
        "off": off,
    }
