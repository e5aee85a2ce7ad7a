"""How CAs stand by the lists of the CAs above them."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.engine.revoked import collect
from nlbcore.tls.authorities import authorities_of
from nlbcore.tls.revocation import RevocationList
from nlbcore.tls.standing import GOOD, MISSING, NEVER, REVOKED, Standing, standings
from tests.support.certs import Authority, Key, Pki, now
from tests.support.lists import Revoked, revocation_list

Said = tuple[Authority, Sequence[Revoked], dt.datetime | None]
DAY = dt.timedelta(days=1)
SOON, LATE = now() + DAY, now() + 9 * DAY


@pytest.fixture(scope="module")
def pki(module_folder: Path) -> Pki:
    return Pki(module_folder)


def cross(
    issuer: Authority,
    subject: Authority,
    *,
    not_after: dt.datetime = LATE,
    signed_with: Key | None = None,
    **how: object,
) -> x509.Certificate:
    """Another certificate of `subject`, by `issuer`."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject.name)
        .issuer_name(issuer.name)
        .public_key(subject.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - 9 * DAY)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(signed_with or issuer.key, hashes.SHA256(), **how)  # type: ignore[arg-type]
    )


def stand(certificates: list[x509.Certificate], *lists: Said) -> list[Standing]:
    """How the CAs of these certificates stand; a list is of an authority, revokes, and is good until then."""
    cas = authorities_of(certificates)
    compiled = {}
    for authority, revoked, due in lists:
        index = next(n for n, one in enumerate(cas) if one.public_key == authority.key.public_key())
        der = revocation_list(authority, *revoked, next_update=LATE).public_bytes(Encoding.DER)
        compiled[index] = RevocationList("", 0, index, 1, now(), due, b"", collect(der))
    return standings(cas, compiled, dt.datetime.now(dt.UTC))


def good(due: dt.datetime | None = None) -> Standing:
    return Standing(GOOD, NEVER if due is None else int(due.timestamp()))


def test_anchors(pki: Pki) -> None:
    """Roots, and an intermediate without its root: nothing above them says anything."""
    assert stand([pki.root.certificate, pki.other.certificate], (pki.root, [], SOON)) == [good(), good()]
    assert stand([pki.intermediate.certificate], (pki.intermediate, [], SOON)) == [good()]
    assert stand([]) == []


def test_one_above_the_other(pki: Pki) -> None:
    """Down from where it is revoked; a list becomes overdue for all below it."""
    lower = pki.intermediate.intermediate("Lower")
    ca = [pki.root.certificate, pki.intermediate.certificate, lower.certificate]
    serials = [one.certificate.serial_number for one in (pki.root, pki.intermediate, lower)]
    own: Said = (lower, [], None)
    assert stand(ca, (pki.root, [], LATE), (pki.intermediate, [], SOON), own) == [good(), good(LATE), good(SOON)]
    assert stand(ca, (pki.root, [], SOON), (pki.intermediate, [], LATE), own) == [good(), good(SOON), good(SOON)]
    assert stand(ca, (pki.root, [], None), (pki.intermediate, [], None), own) == [good()] * 3
    found = stand(ca, (pki.root, [serials[1]], SOON), (pki.intermediate, [], SOON))
    assert [one.fault for one in found] == [GOOD, REVOKED, REVOKED]
    assert {one.by for one in found[1:]} == {"CN=Test Root"}
    assert [one.fault for one in stand(ca, (pki.root, [], SOON))] == [GOOD, GOOD, MISSING]
    found = stand(ca, (pki.intermediate, [serials[2]], SOON))
    assert [(one.fault, one.by) for one in found[1:]] == [(MISSING, "CN=Test Root"), (REVOKED, "CN=Test Intermediate")]
    assert [one.fault for one in stand(ca, (pki.root, [serials[0]], SOON))] == [REVOKED, REVOKED, REVOKED]
    for order in itertools.permutations(ca):
        faults = sorted(one.fault for one in stand(list(order), (pki.root, [serials[1]], SOON)))
        assert faults == [GOOD, REVOKED, REVOKED]


def test_whom_it_is_about(pki: Pki) -> None:
    """The CA that is revoked or has no list above it, else the one whose issuer's list becomes overdue first."""
    lower = pki.intermediate.intermediate("Lower")
    ca = [lower.certificate, pki.intermediate.certificate, pki.root.certificate]
    serial = pki.intermediate.certificate.serial_number
    for lists, about in (
        ([(pki.root, [serial], SOON), (pki.intermediate, [], SOON)], [1, 1]),
        ([(pki.root, [], SOON)], [0, 1]),
        ([(pki.intermediate, [], SOON)], [1, 1]),
        ([(pki.root, [], SOON), (pki.intermediate, [], LATE)], [1, 1]),
        ([(pki.root, [], LATE), (pki.intermediate, [], SOON)], [0, 1]),
    ):
        assert [one.about for one in stand(ca, *lists)[:2]] == about


def test_namesakes(pki: Pki) -> None:
    """A CA of the root's name that has not signed it says nothing of it."""
    namesake = Authority(pki.folder, "Test Root")
    ca = [namesake.certificate, pki.root.certificate, pki.intermediate.certificate]
    serial = pki.intermediate.certificate.serial_number
    assert stand(ca, (namesake, [serial], SOON), (pki.root, [], SOON))[2] == good(SOON)
    assert stand(ca, (namesake, [], SOON), (pki.root, [serial], SOON))[2].fault == REVOKED


def test_the_best_certificate_counts(pki: Pki) -> None:
    """Renewed or cross-signed: one that is revoked is no harm while another is good, and valid today."""
    old, roots = pki.intermediate.certificate, [pki.root.certificate, pki.other.certificate]
    lists: tuple[Said, Said] = (pki.root, [old.serial_number], SOON), (pki.other, [], SOON)
    other = cross(pki.other, pki.intermediate)
    assert stand([*roots, old, other], *lists)[2] == good(SOON)
    assert stand([*roots, other, old], *lists)[2] == good(SOON)
    assert stand([*roots, old, other], lists[0])[2].fault == MISSING
    over = cross(pki.other, pki.intermediate, not_after=now() - DAY)
    assert stand([*roots, old, over], *lists)[2].fault == REVOKED
    half = dt.timedelta(hours=12)
    ending = cross(pki.other, pki.intermediate, not_after=SOON - half)
    assert stand([*roots, old, ending], *lists)[2] == good(SOON - half), "the good one ends before its list"
    assert stand([*roots, over], *lists)[2] == good(SOON), "OpenSSL refuses it anyway"


def test_rings(pki: Pki) -> None:
    """CAs that have signed one another, with roots of their own and without."""
    a, b = cross(pki.other, pki.root), cross(pki.root, pki.other)
    lists: tuple[Said, Said] = (pki.root, [b.serial_number], SOON), (pki.other, [], LATE)
    roots = [pki.root.certificate, pki.other.certificate]
    assert [one.fault for one in stand([*roots, a, b], *lists)] == [GOOD, GOOD]
    assert [one.fault for one in stand([a, b], *lists)] == [GOOD, REVOKED]


def test_kinds_of_keys(pki: Pki) -> None:
    """Who has issued a certificate is known whatever it was signed with."""
    rsa = Authority(pki.folder, "RSA Root", key="rsa-2048")
    plain = rsa.intermediate("Below RSA")
    pss = cross(rsa, pki.other, rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32))
    found = stand([rsa.certificate, plain.certificate, pss], (rsa, [plain.certificate.serial_number], SOON))
    assert [one.fault for one in found] == [GOOD, REVOKED, GOOD]
    forged = cross(rsa, pki.other, signed_with=Authority(pki.folder, "RSA Root", key="rsa-2048").key)
    assert stand([rsa.certificate, forged]) == [good(), good()], "not issued by it: an anchor"
