"""One table of client certificates and what has to become of each: every word of `termination` that concerns certificates, by
the tests' own CA and by trustme. The words are those of the contract; nothing here knows how they are found.

A case belongs to a policy, which is a listener: what it asks of its clients, and a laxer form of it under which those cases
come in that are to be refused after the world has changed (`Case.once_welcome`).
"""

from __future__ import annotations

import datetime as dt
import itertools
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.support import forge
from tests.support.certs import BAD_CLIENTS, Issued, now, write_key
from tests.support.lists import overdue, revocation_list, write_lists

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.certs import Key, Pki

ACCEPTED = "accepted"
SERIAL = 2**120 + 5
"""Of who is revoked, and of who is denied by it: another listener's matter."""


class Trustme:
    """A CA of trustme's; its certificates as the tests' own are."""

    _number = itertools.count(1)

    def __init__(self, folder: Path, parent: Trustme | None = None) -> None:
        self.folder = folder
        self.made: trustme.CA = trustme.CA() if parent is None else parent.made.create_child_ca()
        self.path = folder / f"trustme-ca-{next(self._number)}.crt"
        self.path.write_bytes(self.made.cert_pem.bytes())
        self.certificate = x509.load_pem_x509_certificate(self.made.cert_pem.bytes())
        self.key = _key(self.made.private_key_pem)

    @property
    def name(self) -> x509.Name:
        return self.certificate.subject

    def below(self, count: int = 1) -> Trustme:
        """An intermediate, so many levels down."""
        authority = self
        for _ in range(count):
            authority = Trustme(self.folder, authority)
        return authority

    def client(
        self,
        common_name: str,
        *names: str,
        alone: bool = False,
        broken: bool = False,
        dates: tuple[dt.datetime, dt.datetime] | None = None,
    ) -> Issued:
        """A certificate that trustme has issued.

        Args:
            common_name: of the subject
            names: its alternative names; default the common name
            alone: without the intermediates
            broken: with a bit of its signature turned
            dates: notBefore and notAfter
        """
        begin, end = dates or (None, None)
        made = self.made.issue_cert(
            *(names or (common_name,)), common_name=common_name, not_before=begin, not_after=end
        )
        pems = [one.bytes() for one in made.cert_chain_pems]
        if broken:
            der = bytearray(ssl.PEM_cert_to_DER_cert(pems[0].decode()))
            der[-1] ^= 1
            pems[0] = ssl.DER_cert_to_PEM_cert(der).encode()
        return self._write(pems[:1] if alone else pems, _key(made.private_key_pem))

    def itself(self) -> Issued:
        """This CA as a client."""
        return self._write([self.made.cert_pem.bytes()], self.key)

    def _write(self, pems: list[bytes], key: Key) -> Issued:
        stem = self.folder / f"trustme-{next(self._number)}"
        path, key_path = stem.with_suffix(".crt"), stem.with_suffix(".key")
        path.write_bytes(b"".join(pems))
        write_key(key_path, key)
        return Issued(x509.load_pem_x509_certificate(pems[0]), key, path, key_path)


def _key(blob: trustme.Blob) -> Key:
    return load_pem_private_key(blob.bytes(), None)  # type: ignore[return-value]


class Estate:
    """All authorities, and the certificates of the table, each made once."""

    def __init__(self, pki: Pki, folder: Path) -> None:
        self.pki, self.folder = pki, folder
        self.trustme, self.stranger = Trustme(folder), Trustme(folder)
        self.between = self.trustme.below()
        self.revoked = self.trustme.client("client-5")
        self._made: dict[str, Issued | None] = {}
        self.policies = self._policies()

    def client(self, case: str) -> Issued | None:
        """The certificate of a case; None: it has none."""
        if case not in self._made:
            self._made[case] = CASES[case].make(self)
        return self._made[case]

    def _policies(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """What each listener asks of clients: before, when those are welcome who `once_welcome`, and in force."""
        ours, theirs = self.pki.root, self.trustme

        def lists(make: Callable[..., x509.CertificateRevocationList], number: int) -> str:
            made = make(ours, SERIAL, number=number), make(theirs, self.revoked, number=number)
            return str(write_lists(self.folder, *made))

        good = str(write_lists(self.folder, revocation_list(ours), revocation_list(theirs)))
        both = [str(ours.path), str(theirs.path)]
        everybody = [str(one.path) for one in (self.pki.other, self.pki.intermediate, self.between, self.stranger)]
        return {
            "plain": ({"mode": "optional", "ca": [*both, *everybody], "depth": 10}, {}),
            "shallow": ({}, {"depth": 0}),
            "revoking": ({}, {"crl": lists(revocation_list, 2)}),
            "overdue": ({"crl": good}, {"crl": lists(overdue, 2)}),
            "rules": (
                {},
                {
                    "allow": ["cn:client-*", "dns:*.corp.example"],
                    "deny": ["cn:client-9", "dns:evil.corp.example", f"serial:{SERIAL:x}"],
                },
            ),
            "strict": ({}, {"strict": True}),
        }

    def auth(self, policy: str, world: str) -> dict[str, Any]:
        """`client_auth` of a listener: "before", or in force with the mode "report", "optional" or "required"."""
        before, after = self.policies[policy]
        both = {"ca": [str(self.pki.root.path), str(self.trustme.path)]}
        return {"mode": "required", **both, **before} if world == "before" else {"mode": world, **both, **after}


@dataclass(frozen=True)
class Case:
    """One certificate at one listener."""

    policy: str
    word: str
    make: Callable[[Estate], Issued | None]
    once_welcome: bool = False


def _dates(days: int) -> tuple[dt.datetime, dt.datetime]:
    """A day that begins so many days from now."""
    return now() + dt.timedelta(days), now() + dt.timedelta(days + 1)


CASES: dict[str, Case] = {
    "good": Case("plain", ACCEPTED, lambda e: e.pki.client),
    "good_below": Case("plain", ACCEPTED, lambda e: e.pki.intermediate.client("below")),
    "good_trustme": Case("plain", ACCEPTED, lambda e: e.trustme.client("client-1")),
    "good_trustme_below": Case("plain", ACCEPTED, lambda e: e.between.client("below")),
    "none": Case("plain", "no_certificate", lambda _: None, once_welcome=True),
    **{
        kind: Case(
            "plain",
            word,
            lambda e, kind=kind: e.pki.bad_client(kind),  # type: ignore[misc]
            once_welcome=kind in {"unknown_ca", "missing_intermediate", "chain_too_long"},
        )
        for kind, (word, _) in BAD_CLIENTS.items()
    },
    "ca_as_client": Case("plain", "wrong_purpose", lambda e: e.pki.root.client("a-ca", is_ca=True)),
    "signs": Case("plain", "wrong_purpose", lambda e: e.pki.root.client("signs", signs=True)),
    "nameless": Case("plain", "bad_certificate", lambda e: e.pki.root.client("nameless", subject=x509.Name([]))),
    "nul": Case("rules", "bad_certificate", lambda e: forge.client(e.pki.root, [("cn", forge.UTF8, b"client-1\0.x")])),
    "trustme_stranger": Case("plain", "unknown_ca", lambda e: e.stranger.client("client-1"), once_welcome=True),
    "trustme_alone": Case("plain", "unknown_ca", lambda e: e.between.client("alone", alone=True), once_welcome=True),
    "trustme_expired": Case("plain", "expired", lambda e: e.trustme.client("late", dates=_dates(-3))),
    "trustme_early": Case("plain", "not_yet_valid", lambda e: e.trustme.client("early", dates=_dates(2))),
    "trustme_ca": Case("plain", "wrong_purpose", lambda e: e.between.itself()),
    "trustme_broken": Case("plain", "bad_signature", lambda e: e.trustme.client("broken", broken=True)),
    "trustme_deep": Case("plain", "chain_too_long", lambda e: e.trustme.below(4).client("deep"), once_welcome=True),
    "direct": Case("shallow", ACCEPTED, lambda e: e.pki.root.client("direct")),
    "one_between": Case(
        "shallow", "chain_too_long", lambda e: e.pki.intermediate.client("one-between"), once_welcome=True
    ),
    "trustme_between": Case("shallow", "chain_too_long", lambda e: e.between.client("two"), once_welcome=True),
    "not_listed": Case("revoking", ACCEPTED, lambda e: e.pki.client),
    "trustme_not_listed": Case("revoking", ACCEPTED, lambda e: e.trustme.client("client-6")),
    "revoked": Case("revoking", "revoked", lambda e: e.pki.root.client("left-us", serial=SERIAL), once_welcome=True),
    "trustme_revoked": Case("revoking", "revoked", lambda e: e.revoked, once_welcome=True),
    "crl_missing": Case("revoking", "crl_missing", lambda e: e.pki.intermediate.client("whose"), once_welcome=True),
    "trustme_crl_missing": Case("revoking", "crl_missing", lambda e: e.between.client("whose"), once_welcome=True),
    "crl_overdue": Case("overdue", "crl_overdue", lambda e: e.pki.client, once_welcome=True),
    "trustme_overdue": Case("overdue", "crl_overdue", lambda e: e.trustme.client("client-7"), once_welcome=True),
    "overdue_and_revoked": Case(
        "overdue", "revoked", lambda e: e.pki.root.client("left-too", serial=SERIAL), once_welcome=True
    ),
    "allowed": Case("rules", ACCEPTED, lambda e: e.pki.client),
    "trustme_allowed": Case("rules", ACCEPTED, lambda e: e.trustme.client("x", "host.corp.example")),
    "not_allowed": Case("rules", "not_allowed", lambda e: e.pki.root.client("somebody"), once_welcome=True),
    "trustme_not_allowed": Case(
        "rules", "not_allowed", lambda e: e.trustme.client("y", "a.b.corp.example"), once_welcome=True
    ),
    "denied": Case("rules", "denied", lambda e: e.pki.root.client("Client-9"), once_welcome=True),
    "denied_serial": Case("rules", "denied", lambda e: e.pki.root.client("client-1", serial=SERIAL), once_welcome=True),
    "trustme_denied": Case(
        "rules", "denied", lambda e: e.trustme.client("client-3", "evil.corp.example"), once_welcome=True
    ),
    "by_the_book": Case("strict", ACCEPTED, lambda e: e.pki.client),
    "says_not_whose": Case(
        "strict",
        "bad_certificate",
        lambda e: e.pki.root.client("says-not-whose", says_whose_key=False),
        once_welcome=True,
    ),
}
