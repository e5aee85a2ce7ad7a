"""How the CAs of a listener stand themselves: what `crl_scope = "chain"` adds to the lookup of the client certificate.

A list counts only when its CA stands in `ca`, and what stands there ends the chain that OpenSSL builds. So above the client
certificate there is nothing but CAs of `ca`, and whether each of them is revoked by one of the others is known when the
lists are read. A handshake looks up the client certificate and its CA, however long the chain is, and so does a resumed
session, whose chain is gone: it is judged, not sent into a full handshake, so that the session id context need not change
with each new list.

A CA may have several certificates (renewed, cross-signed); it stands as well as the best of those that are valid now. One
that none of the others has issued is an anchor: trusted as it is. A root that its own list revokes is revoked (OpenSSL's
CRL_CHECK_ALL says the same).
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from nlbcore.tls.authorities import canonical

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping, Sequence

    from cryptography import x509

    from nlbcore.tls.authorities import Authority
    from nlbcore.tls.revocation import RevocationList

NEVER = 2**63 - 1
SERIAL = 20
"""Octets of a record."""

GOOD, REVOKED, MISSING = 0, 1, 2
"""As `engine/revoked` has them."""
_BEST_LAST = (REVOKED, MISSING, GOOD)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a CA stands.

    Attributes:
        fault: GOOD; REVOKED by the list of a CA above it; or such a list is MISSING.
        due: Unix seconds; when a list above it becomes overdue.
        by: the CA whose list says so, for people.
        about: the index of the CA, it or one above it, that is revoked or that has no list above it; of one that is GOOD,
            the one whose issuer's list becomes overdue then.
    """

    fault: int = GOOD
    due: int = NEVER
    by: str = field(default="", compare=False)
    about: int = field(default=0, compare=False)

    @property
    def rank(self) -> tuple[int, int]:
        """Greater is better."""
        return _BEST_LAST.index(self.fault), self.due


@dataclass(frozen=True, slots=True)
class _Link:
    """One certificate of a CA, and who has issued it: what the issuer's list says of it."""

    issuer: int
    said: Standing

    def below(self, upper: Standing) -> Standing:
        """How the CA stands by this certificate, when the issuer stands so."""
        worse = min(self.said, upper, key=lambda one: _BEST_LAST.index(one.fault))
        sooner = min(self.said, upper, key=lambda one: one.due)
        return Standing(worse.fault, sooner.due, worse.by, (worse if worse.fault else sooner).about)


def standings(
    authorities: Sequence[Authority], lists: Mapping[int, RevocationList], now: datetime.datetime
) -> list[Standing]:
    """How each of them stands.

    Args:
        authorities: the CAs of a listener.
        lists: the list of each that has one, by its index.
        now: UTC.
    """
    by_name: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, one in enumerate(authorities):
        by_name[one.name].append(index)
    links = [list(_links(index, authorities, by_name, lists, now)) for index in range(len(authorities))]
    found: list[Standing | None] = [None if above else Standing() for above in links]
    _settle(found, links)
    for index, above in enumerate(links):
        if (
            found[index] is None
        ):  # a ring of CAs that only vouch for one another: each is trusted as it is, but for that
            found[index] = max((link.below(Standing()) for link in above), key=lambda one: one.rank)
    _settle(found, links)
    return [one or Standing() for one in found]


def _settle(found: list[Standing | None], links: Sequence[Sequence[_Link]]) -> None:
    """Each gets the best of its certificates, until nobody's is better than it was."""
    changed = True
    while changed:
        changed = False
        for index, above in enumerate(links):
            for link in above:
                upper = Standing() if link.issuer == index else found[link.issuer]
                here = found[index]
                if upper is not None and (here is None or link.below(upper).rank > here.rank):
                    found[index] = link.below(upper)
                    changed = True


def _links(
    index: int,
    authorities: Sequence[Authority],
    by_name: Mapping[tuple[object, ...], list[int]],
    lists: Mapping[int, RevocationList],
    now: datetime.datetime,
) -> list[_Link]:
    mine = authorities[index].certificates
    valid = [one for one in mine if one.not_valid_before_utc <= now <= one.not_valid_after_utc] or list(mine)
    found = []
    for certificate in valid:
        # Where another certificate may take over, this one counts no longer than it is valid.
        until = int(certificate.not_valid_after_utc.timestamp()) if len(valid) > 1 else NEVER
        for issuer in by_name.get(canonical(certificate.issuer), ()):
            if _issued(authorities[issuer], certificate):
                said = _said(certificate, authorities[issuer], lists.get(issuer), itself=issuer == index)
                found.append(_Link(issuer, Standing(said.fault, min(said.due, until), said.by, index)))
    return found


def _issued(issuer: Authority, certificate: x509.Certificate) -> bool:
    """Whether its signature is by that key. One that cannot be checked here is believed: it can only make things worse."""
    key: Any = issuer.public_key
    signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(key, rsa.RSAPublicKey):
                how: Any = certificate.signature_algorithm_parameters
                key.verify(*signed, how, certificate.signature_hash_algorithm)  # type: ignore[arg-type]
            elif isinstance(key, ec.EllipticCurvePublicKey):
                how = certificate.signature_algorithm_parameters
                key.verify(*signed, how)
            else:
                key.verify(*signed)
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, TypeError, ValueError):
        return True
    return True


def _said(certificate: x509.Certificate, issuer: Authority, one: RevocationList | None, *, itself: bool) -> Standing:
    """What the issuer's list says; a root needs none for itself, and is overdue to its clients anyway."""
    if one is None:
        return Standing() if itself else Standing(MISSING, NEVER, issuer.text)
    if _lists(one.records, certificate.serial_number):
        return Standing(REVOKED, NEVER, issuer.text)
    due = NEVER if itself or one.next_update is None else int(one.next_update.timestamp())
    return Standing(GOOD, due, issuer.text)


def _lists(records: bytes, serial: int) -> bool:
    if serial < 0 or serial.bit_length() > SERIAL * 8:
        return False
    wanted = serial.to_bytes(SERIAL, "big")
    count = len(records) // SERIAL
    at = bisect_left(range(count), wanted, key=lambda place: records[place * SERIAL : (place + 1) * SERIAL])
    return at < count and records[at * SERIAL : (at + 1) * SERIAL] == wanted
