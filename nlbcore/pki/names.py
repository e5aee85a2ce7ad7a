"""The names in a certificate: the subject, and the alternative names that clients and rules really look at.

Each kind has one function that gives the name in the form a certificate carries, or says why there is none. Names in
other scripts become A-labels (RFC 5891), which is what resolvers and verifiers compare.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from nlbcore.pki.errors import BadValue
from nlbcore.pki.store import RESERVED

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:([A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
MAX_DNS_NAME = 253

# Field -> (OID, greatest length in characters), RFC 5280 appendix A.1, in the order of a subject.
_ATTRIBUTES: Mapping[str, tuple[ObjectIdentifier, int]] = {
    "country": (NameOID.COUNTRY_NAME, 2),
    "state": (NameOID.STATE_OR_PROVINCE_NAME, 128),
    "locality": (NameOID.LOCALITY_NAME, 128),
    "organization": (NameOID.ORGANIZATION_NAME, 64),
    "organizational_unit": (NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
    "cn": (NameOID.COMMON_NAME, 64),
    "email": (NameOID.EMAIL_ADDRESS, 255),
}
FIELDS: Mapping[ObjectIdentifier, str] = {oid: field for field, (oid, _) in _ATTRIBUTES.items()}
"""What a part of a subject is called here."""


@dataclass(frozen=True)
class Subject:
    """What a subject says beside its common name; empty fields are left out."""

    country: str = ""
    state: str = ""
    locality: str = ""
    organization: str = ""
    organizational_unit: str = ""
    email: str = ""

    def name(self, cn: str, field: str = "cn") -> x509.Name:
        """The distinguished name with this common name.

        Args:
            cn: the common name
            field: what the caller calls it, for messages
        """
        values = {**vars(self), "cn": cn}
        given = [key for key in _ATTRIBUTES if values[key] or key == "cn"]
        called = {"cn": field, "email": "subject_email"}
        return x509.Name([attribute(key, values[key], called.get(key, key)) for key in given])


def attribute(key: str, value: str, field: str | None = None) -> x509.NameAttribute[str]:
    """One part of a subject.

    Args:
        key: which, as in `Subject`, or `cn`
        value: what it says
        field: what the caller calls it, for messages; `key` unless given
    """
    oid, most = _ATTRIBUTES[key]
    called = field or key
    _check_text(called, value, most)
    if key == "country":
        if not re.fullmatch("[A-Za-z]{2}", value):
            raise BadValue(called, value, "a country is two letters, for example DE")
        value = value.upper()
    return x509.NameAttribute(oid, email(value, called) if key == "email" else value)


def check_file_name(name: str) -> None:
    """Whether `name` can name a certificate's files and its line in the index."""
    _check_text("name", name, 64)
    if "/" in name or name.startswith((".", "-")) or "*" in name:
        reason = 'it names the files, so it has no "/" and no "*", and begins with neither "." nor "-"'
        raise BadValue("name", name, reason)
    if name in RESERVED:
        raise BadValue("name", name, "the authority's own files are called that; choose another name")


def alternative_names(
    *, dns: Sequence[str] = (), ip: Sequence[str] = (), uri: Sequence[str] = (), email: Sequence[str] = ()
) -> list[x509.GeneralName]:
    """The alternative names that are asked for, in the form that a certificate has them."""
    wanted = {"dns": dns, "ip": ip, "uri": uri, "email": email}
    return [_KINDS[kind](value) for kind, values in wanted.items() for value in values]


def checked(name: x509.GeneralName) -> x509.GeneralName | None:
    """A name that somebody else has written, in our form; None if it is of a kind that no certificate of ours has.

    Raises:
        BadValue: it is of such a kind, and is none.
    """
    kind = _KIND_OF.get(type(name))
    return None if kind is None else _KINDS[kind](str(name.value))


def described(name: x509.GeneralName) -> str:
    """`dns:localhost`, `ip:127.0.0.1`, `uri:spiffe://...`, `email:a@b`: the forms of identity rules and of the log."""
    return f"{_KIND_OF[type(name)]}:{name.value}"


def dns(value: str, field: str = "dns") -> str:
    """A host name in lower case, as A-labels; `*.` may stand for the first label."""
    if _is_address(value):
        raise BadValue(field, value, "is an IP address; --ip takes it")
    star = "*." if value.startswith("*.") else ""
    name = value.removeprefix(star).removesuffix(".")
    if not name.isascii():
        name = _to_ascii(value, name, field)
    name = name.lower()
    labels = name.split(".")
    bad = next((label for label in labels if not _LABEL.fullmatch(label)), None)
    if bad is not None:
        what = f' ("{bad}")' if bad != value else ""
        raise BadValue(field, value, f"is not a host name{what}: a label is 1 to 63 letters, digits and inner hyphens")
    if labels[-1].isdigit():
        raise BadValue(field, value, "is not a host name: the last label is a number, as if it were an IP address")
    if star and len(labels) < 2:
        raise BadValue(field, value, "a wildcard needs two labels after it, or no client accepts it")
    if len(star + name) > MAX_DNS_NAME:
        raise BadValue(field, value, f"is not a host name: longer than {MAX_DNS_NAME} characters")
    return star + name


def ip(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        hint = "a certificate names single addresses, not networks" if "/" in value else "for example 192.0.2.1 or ::1"
        raise BadValue("ip", value, f"is not an IP address ({hint})") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise BadValue("ip", value, f"a certificate cannot name an interface; leave out %{address.scope_id}")
    return address


def uri(value: str) -> str:
    if not _URI.fullmatch(value):
        reason = "is not an absolute URI (for example spiffe://example.com/billing; other characters as %XX)"
        raise BadValue("uri", value, reason)
    if not _names_a_host(value):
        raise BadValue("uri", value, "has no host behind the //, or a host or port that programs cannot read")
    return value


def email(value: str, field: str = "email") -> str:
    local, at, domain = value.rpartition("@")
    if not at or not _MAILBOX.fullmatch(local):
        raise BadValue(field, value, "is not an e-mail address (for example alice@example.com; ASCII before the @)")
    try:
        return f"{local}@{dns(domain)}"
    except BadValue as error:
        raise BadValue(field, value, f'its domain "{domain}" {error.reason}') from None


def of_common_name(cn: str) -> Iterator[x509.GeneralName]:
    """The common name as a host name, address, URI or mailbox, if it is one. A word in another script is a person."""
    tries = {"ip": _is_address(cn), "email": "@" in cn, "uri": "://" in cn, "dns": cn.isascii() or "." in cn}
    for kind, fits in tries.items():
        if fits:
            try:
                yield _KINDS[kind](cn)
            except BadValue:
                continue
            return


_KIND_OF: Mapping[type[x509.GeneralName], str] = {
    x509.DNSName: "dns",
    x509.IPAddress: "ip",
    x509.UniformResourceIdentifier: "uri",
    x509.RFC822Name: "email",
}
_KINDS: Mapping[str, Callable[[str], x509.GeneralName]] = {
    "dns": lambda value: x509.DNSName(dns(value)),
    "ip": lambda value: x509.IPAddress(ip(value)),
    "uri": lambda value: x509.UniformResourceIdentifier(uri(value)),
    "email": lambda value: x509.RFC822Name(email(value)),
}


def _names_a_host(value: str) -> bool:
    """Whether what stands behind `//`, if that is there, is a host and its port (RFC 5280, 4.2.1.6): Go reads no other."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:  # brackets, or a port that is none
        return False
    return all(host.split(".")) or not value.partition(":")[2].startswith("//")


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _to_ascii(value: str, name: str, field: str) -> str:
    import idna  # big tables, for names that most authorities never see

    try:
        return idna.encode(name, uts46=True).decode()
    except UnicodeError as error:
        raise BadValue(field, value, f"is not a host name in any script: {error}") from None


def _check_text(field: str, value: str, most: int) -> None:
    if not value.strip():
        raise BadValue(field, value, "is empty")
    if len(value) > most:
        raise BadValue(field, value, f"has {len(value)} characters; X.509 has room for {most}")
    if not value.isprintable():
        raise BadValue(field, value, "has characters that cannot be printed")
    if len(value.encode()) > most:  # how `cryptography` counts
        raise BadValue(field, value, f"has {len(value.encode())} bytes in UTF-8; there is room for {most}")
