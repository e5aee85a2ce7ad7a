"""What a certificate, request, revocation list or key says, as plain values (for JSON) and in words (for people).

    for part in contents.load(path).parts:
        shown = inspect.describe(part, now)
        lines = inspect.in_words(shown)

Names are written as identity rules and the access log have them: `dns:www.example.com`, `uri:spiffe://example.com/a`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from nlbcore.dn import dn
from nlbcore.pki import contents, keys
from nlbcore.pki.contents import Contents, Key, Part
from nlbcore.pki.index import fingerprint, readable, serial_hex, stamp

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE

_PURPOSES = {
    SERVER: "server",
    CLIENT: "client",
    ANY: "any",
    ExtendedKeyUsageOID.CODE_SIGNING: "code signing",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "e-mail",
    ExtendedKeyUsageOID.TIME_STAMPING: "time stamps",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSP answers",
}
_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign"),
)
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp224r1": "P-224"}
_ASKED = (x509.SubjectAlternativeName, x509.BasicConstraints, x509.ExtendedKeyUsage, x509.KeyUsage)
"""The extensions of a request that are shown one by one; of others it is said that they are there."""
SHOWN_REVOKED = 20
"""Entries of a revocation list that are printed; it may have a million."""

Extension = TypeVar("Extension", bound=x509.ExtensionType)


def describe(part: Part, now: dt.datetime) -> dict[str, Any]:
    """The part as plain values; absent ones are left out. `kind` says what it is."""
    with contents.tolerant():
        try:
            shown = _described(part, now)
        except contents.UNREADABLE:
            shown = {"kind": "damaged", "problem": "a part that cannot be read to its end"}
    return {name: value for name, value in shown.items() if value not in (None, "", [])}


def _described(part: Part, now: dt.datetime) -> dict[str, Any]:
    if isinstance(part, x509.Certificate):
        return _certificate(part, now)
    if isinstance(part, x509.CertificateSigningRequest):
        return _request(part)
    if isinstance(part, x509.CertificateRevocationList):
        return _list(part, now)
    if isinstance(part, Key):
        return _key(part)
    return {"kind": "damaged", "problem": part.what}


def describe_file(file: Contents, now: dt.datetime) -> dict[str, Any]:
    """A file and all its parts."""
    shown: dict[str, Any] = {"file": str(file.path), "format": file.form}
    if file.bundle is not None:
        bundle = file.bundle
        shown["pkcs12"] = {
            "opened": bundle.opened,
            "name": bundle.name or None,
            "keys": [key_words(key.public_key()) for key in bundle.keys] or None,
            "ciphers": list(bundle.protection.ciphers),
            "mac": bundle.protection.mac or None,
            "iterations": bundle.protection.iterations,
            "target": "legacy" if bundle.protection.legacy else "modern",
        }
    return {**shown, "parts": [describe(part, now) for part in file.parts]}


# -- values -----------------------------------------------------------------------------------------------------------


def extension(
    of: x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList, kind: type[Extension]
) -> Extension | None:
    """The value of an extension, None if it is not there."""
    try:
        return of.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others: its basicConstraints say so, or it is a self-signed one without any extension (v1)."""
    constraints = extension(certificate, x509.BasicConstraints)
    if constraints is not None:
        return constraints.ca
    return certificate.version is x509.Version.v1 and certificate.issuer == certificate.subject


def names_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    """The alternative names with their kinds."""
    sans = extension(certificate, x509.SubjectAlternativeName)
    return [] if sans is None else [name_words(name) for name in sans]


def name_words(name: x509.GeneralName) -> str:
    if isinstance(name, x509.DirectoryName):
        return f"dirname:{dn(name.value)}"
    if isinstance(name, x509.OtherName):
        return f"othername:{name.type_id.dotted_string}"
    if isinstance(name, x509.RegisteredID):
        return f"rid:{name.value.dotted_string}"
    kinds = {x509.DNSName: "dns", x509.IPAddress: "ip", x509.UniformResourceIdentifier: "uri", x509.RFC822Name: "email"}
    return f"{kinds[type(name)]}:{name.value}"


def subject_words(name: x509.Name) -> str:
    return dn(name) or "(empty)"


def key_words(key: Any) -> str:
    """The kind of a public key and its size, for example `EC P-256`."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {_CURVES.get(key.curve.name, key.curve.name)}"
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA {key.key_size}"
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return "Ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else "Ed448"
    return type(key).__name__.removesuffix("PublicKey")


def spki(key: Any) -> bytes:
    """The public key as a certificate has it: equal bytes, equal keys."""
    made: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return made


def days_left(end: dt.datetime, now: dt.datetime) -> int:
    """Whole days, negative when it is over."""
    return (end - now).days


def purposes_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    """The extended key usages in words; empty if it does not say."""
    usage = extension(certificate, x509.ExtendedKeyUsage)
    return [] if usage is None else [_PURPOSES.get(oid, oid.dotted_string) for oid in usage]


def _certificate(one: x509.Certificate, now: dt.datetime) -> dict[str, Any]:
    constraints = extension(one, x509.BasicConstraints)
    key_id = extension(one, x509.SubjectKeyIdentifier)
    issuer_id = extension(one, x509.AuthorityKeyIdentifier)
    begin, end = one.not_valid_before_utc, one.not_valid_after_utc
    return {
        "kind": "certificate",
        "subject": subject_words(one.subject),
        "issuer": subject_words(one.issuer),
        "self_issued": one.subject == one.issuer,
        "names": names_of(one),
        "authority": is_authority(one),
        "path_length": constraints.path_length if constraints else None,
        "permitted": _constraints(one, "permitted_subtrees"),
        "excluded": _constraints(one, "excluded_subtrees"),
        "purposes": purposes_of(one),
        "key_usage": _usages(one),
        "not_before": stamp(begin),
        "not_after": stamp(end),
        "days_left": days_left(end, now),
        "status": "expired" if end <= now else "not yet valid" if begin > now else "valid",
        "key": key_words(one.public_key()),
        "signature": _signature(one),
        "version": one.version.value + 1,
        "serial": serial_hex(one.serial_number),
        "sha256": fingerprint(one),
        "sha1": one.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - what other programs show
        "spki_sha256": _digest(spki(one.public_key())),
        "subject_key_identifier": key_id.digest.hex() if key_id else None,
        "authority_key_identifier": (issuer_id.key_identifier or b"").hex() if issuer_id else None,
        "crl_urls": _crl_urls(one),
        "ocsp_urls": _access(one, AuthorityInformationAccessOID.OCSP),
        "issuer_urls": _access(one, AuthorityInformationAccessOID.CA_ISSUERS),
    }


def _request(one: x509.CertificateSigningRequest) -> dict[str, Any]:
    constraints = extension(one, x509.BasicConstraints)
    return {
        "kind": "request",
        "subject": subject_words(one.subject),
        "names": names_of(one),
        "authority": constraints.ca if constraints else None,
        "path_length": constraints.path_length if constraints else None,
        "purposes": purposes_of(one),
        "key_usage": _usages(one),
        "other_extensions": [_oid(other.oid) for other in one.extensions if not isinstance(other.value, _ASKED)],
        "key": key_words(one.public_key()),
        "signature": _signature(one),
        "signature_valid": keys.signed_by(one.public_key(), one),
        "spki_sha256": _digest(spki(one.public_key())),
    }


def _list(one: x509.CertificateRevocationList, now: dt.datetime) -> dict[str, Any]:
    number = extension(one, x509.CRLNumber)
    issuer_id = extension(one, x509.AuthorityKeyIdentifier)
    due = one.next_update_utc
    return {
        "kind": "revocation list",
        "issuer": subject_words(one.issuer),
        "number": number.crl_number if number else None,
        "last_update": stamp(one.last_update_utc),
        "next_update": stamp(due) if due else None,
        "days_left": days_left(due, now) if due else None,
        "status": "overdue" if due and due <= now else "current",
        "revoked": len(one),
        "entries": [_revoked(entry) for entry in islice(one, SHOWN_REVOKED)],
        "signature": _signature(one),
        "authority_key_identifier": (issuer_id.key_identifier or b"").hex() if issuer_id else None,
    }


def reason_of(entry: x509.RevokedCertificate) -> str:
    """Why it was revoked, in RFC 5280's words."""
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except (x509.ExtensionNotFound, ValueError):
        return "unspecified"


def _revoked(entry: x509.RevokedCertificate) -> dict[str, Any]:
    return {
        "serial": serial_hex(entry.serial_number),
        "revoked_at": stamp(entry.revocation_date_utc),
        "reason": reason_of(entry),
    }


def _key(one: Key) -> dict[str, Any]:
    public = one.private.public_key() if one.private is not None else None
    return {
        "kind": "private key",
        "encrypted": one.encrypted,
        "key": key_words(public) if public is not None else None,
        "spki_sha256": _digest(spki(public)) if public is not None else None,
    }


def _digest(data: bytes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize().hex()


def _signature(one: x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList) -> str:
    return _oid(one.signature_algorithm_oid)


def _oid(oid: x509.ObjectIdentifier) -> str:
    return oid._name if oid._name != "Unknown OID" else oid.dotted_string  # noqa: SLF001 - its only list of names


def _usages(one: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    usage = extension(one, x509.KeyUsage)
    return [] if usage is None else [name.replace("_", " ") for name in _USAGES if getattr(usage, name)]


def _constraints(one: x509.Certificate, which: str) -> list[str]:
    constraints = extension(one, x509.NameConstraints)
    return [] if constraints is None else [name_words(name) for name in getattr(constraints, which) or ()]


def _crl_urls(one: x509.Certificate) -> list[str]:
    points = extension(one, x509.CRLDistributionPoints)
    return [] if points is None else [str(name.value) for point in points for name in point.full_name or ()]


def _access(one: x509.Certificate, method: x509.ObjectIdentifier) -> list[str]:
    access = extension(one, x509.AuthorityInformationAccess)
    found = [] if access is None else [entry for entry in access if entry.access_method == method]
    return [str(entry.access_location.value) for entry in found]


# -- words ------------------------------------------------------------------------------------------------------------


def in_words(shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A label and a text for each thing worth saying about a part that `describe` has described."""
    yield from _WORDS[shown["kind"]](shown)


def file_in_words(shown: Mapping[str, Any]) -> str:
    """One line about a whole file."""
    counts: dict[str, int] = {}
    for part in shown["parts"]:
        counts[part["kind"]] = counts.get(part["kind"], 0) + 1
    text = ", ".join(
        f"{count} {kind}{'s' if count > 1 and kind != 'damaged' else ''}" for kind, count in counts.items()
    )
    if "pkcs12" not in shown:
        return f"{shown['format']}, {text or 'nothing that is known'}"
    bundle = shown["pkcs12"]
    lock = f"{' and '.join(bundle['ciphers']) or 'not encrypted'}, {bundle['mac'] or 'no'} MAC"
    inside = f'"{bundle["name"]}", ' if bundle["name"] else ""
    inside += ", ".join([*(f"{key} key" for key in bundle["keys"] or ()), text] if bundle["opened"] else [])
    return f"PKCS#12 ({bundle['target']}: {lock}), {inside or 'closed: it has a password'}"


def _certificate_words(shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "subject", shown["subject"]
    yield "issuer", "itself" if shown["self_issued"] else shown["issuer"]
    yield "names", ", ".join(shown.get("names", ())) or "no alternative names"
    yield "purpose", _purpose_words(shown)
    limits = [f"only {name}" for name in shown.get("permitted", ())]
    limits += [f"not {name}" for name in shown.get("excluded", ())]
    if limits:
        yield "limited to", ", ".join(limits)
    if "key_usage" in shown:
        yield "key usage", ", ".join(shown["key_usage"])
    yield "valid", f"{_day(shown['not_before'])} until {_day(shown['not_after'])}, {_left(shown)}"
    yield "key", shown["key"]
    yield "signature", shown["signature"] + ("" if shown["version"] == 3 else f", X.509 version {shown['version']}")
    yield "serial", shown["serial"]
    yield "sha256", shown["sha256"]
    yield "sha1", shown["sha1"]
    yield "spki-sha256", shown["spki_sha256"]
    for label, key in (("lists at", "crl_urls"), ("OCSP at", "ocsp_urls"), ("issuer at", "issuer_urls")):
        if key in shown:
            yield label, ", ".join(shown[key])


def _purpose_words(shown: Mapping[str, Any]) -> str:
    purposes = ", ".join(shown.get("purposes", ()))
    if shown["authority"]:
        length = shown.get("path_length")
        below = {None: "certificates and further authorities", 0: "certificates, no further authority"}
        signs = below.get(length, f"certificates and {length} levels of authorities")
        return f"authority: signs {signs}" + (f" ({purposes})" if purposes else "")
    return purposes or "not said: both server and client"


def _request_words(shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "subject", shown["subject"]
    yield "names", ", ".join(shown.get("names", ())) or "no alternative names"
    if shown.get("authority"):
        yield "purpose", _purpose_words(shown)
    elif "purposes" in shown:
        yield "purpose", ", ".join(shown["purposes"])
    if shown.get("authority") is False:
        yield "authority", "no"
    if "key_usage" in shown:
        yield "key usage", ", ".join(shown["key_usage"])
    if "other_extensions" in shown:
        yield "asks for", ", ".join(shown["other_extensions"])
    yield "key", shown["key"]
    yield "signature", f"{shown['signature']}, {'good' if shown['signature_valid'] else 'WRONG'}"
    yield "spki-sha256", shown["spki_sha256"]


def _list_words(shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "issuer", shown["issuer"]
    yield "number", str(shown.get("number", "none"))
    due = f"next due {_day(shown['next_update'])}, {_left(shown)}" if "next_update" in shown else "never due again"
    yield "made", f"{_day(shown['last_update'])}, {due}"
    yield "signature", shown["signature"]
    yield "revoked", f"{shown['revoked']:,}"
    for entry in shown.get("entries", ()):
        yield "", f"{entry['serial']}  {_day(entry['revoked_at'])}  {entry['reason']}"
    if shown["revoked"] > SHOWN_REVOKED:
        yield "", f"and {shown['revoked'] - SHOWN_REVOKED:,} more"


def _key_words(shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "key", shown.get("key", "encrypted: it has a passphrase")
    if "spki_sha256" in shown:
        yield "spki-sha256", shown["spki_sha256"]


def _damaged_words(shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "problem", shown["problem"]


_WORDS = {
    "certificate": _certificate_words,
    "request": _request_words,
    "revocation list": _list_words,
    "private key": _key_words,
    "damaged": _damaged_words,
}


def left_words(days: int) -> str:
    return f"{days} days left" if days != 1 else "one day left"


def _left(shown: Mapping[str, Any]) -> str:
    good = shown["status"] in {"valid", "current"}
    return left_words(shown["days_left"]) if good else shown["status"].upper()


def _day(text: str) -> str:
    return readable(dt.datetime.fromisoformat(text))
