"""What identity rules mean, a second time: plain Python over the names of a certificate, with regular expressions and without
a table. The oracle of the compiled rules; it shares no line with them.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import idna
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from tests.support import forge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//([^/?#]*))?([^?#]*)(\?([^#]*))?(#(.*))?")
_ENCODINGS = {
    forge.UTF8: "utf-8",
    forge.PRINTABLE: "ascii",
    forge.IA5: "ascii",
    forge.T61: "latin-1",
    forge.BMP: "utf-16-be",
    forge.UNIVERSAL: "utf-32-be",
}
_OIDS = {"cn": NameOID.COMMON_NAME, "o": NameOID.ORGANIZATION_NAME, "ou": NameOID.ORGANIZATIONAL_UNIT_NAME}
UNREADABLE = None


@dataclass
class Names:
    """The names of a certificate by kind; UNREADABLE for one that cannot be read."""

    by_kind: dict[str, list[str | None]] = field(default_factory=dict)

    def add(self, kind: str, value: str | None) -> None:
        self.by_kind.setdefault(kind, []).append(value)

    @classmethod
    def of_raw(cls, attributes: Iterable[forge.Attribute], names: Iterable[forge.Name]) -> Names:
        """From what `forge` makes a certificate of."""
        made = cls()
        for kind, tag, value in attributes:
            if kind in _OIDS:
                made.add(kind, _text(tag, value))
        for kind, value in names:
            if kind == "ip":
                made.add("ip", _address(value))
            elif kind != "other":
                made.add(kind, _READERS[kind](value.decode("latin-1")))
        return made

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Names:
        """From a certificate that `cryptography` can read."""
        made = cls()
        for kind, oid in _OIDS.items():
            for attribute in certificate.subject.get_attributes_for_oid(oid):
                made.add(kind, _normal(str(attribute.value)))
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            names = x509.SubjectAlternativeName([])
        for name in names:
            if isinstance(name, x509.IPAddress):
                made.add("ip", str(name.value))
            for kind, of in (
                ("dns", x509.DNSName),
                ("uri", x509.UniformResourceIdentifier),
                ("email", x509.RFC822Name),
            ):
                if isinstance(name, of):
                    made.add(kind, _READERS[kind](name.value))
        made.add("serial", f"{certificate.serial_number:x}")
        made.add("sha256", hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest())
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        made.add("spki-sha256", hashlib.sha256(key).hexdigest())
        return made


def verdict(names: Names, allow: Sequence[str], deny: Sequence[str]) -> tuple[str, int | None, int | None]:
    """The word, and the first entries of `allow` and of `deny` that match."""
    allowed = _first(names, allow, deny=False)
    denied = _first(names, deny, deny=True)
    unreadable = any(UNREADABLE in names.by_kind.get(_split(rule)[0], ()) for rule in deny)
    if denied is not None or unreadable:
        return "denied", allowed, denied
    return ("not_allowed" if allow and allowed is None else "open"), allowed, denied


def _split(rule: str) -> tuple[str, str]:
    kind, _, value = rule.partition(":")
    return kind.strip().lower(), value.strip()


def _first(names: Names, rules: Sequence[str], *, deny: bool) -> int | None:
    for number, rule in enumerate(rules):
        kind, value = _split(rule)
        found = names.by_kind.get(kind, [])
        if kind == "cn" and not deny and len(found) != 1:
            continue
        if any(one is not None and _matches(kind, value, one, deny=deny) for one in found):
            return number
    return None


def _matches(kind: str, value: str, name: str, *, deny: bool) -> bool:
    if kind in _OIDS:
        return _part(_normal(value) or "", "").fullmatch(name) is not None
    if kind == "dns":
        return _host(value.removesuffix(".")).fullmatch(name) is not None
    if kind == "email":
        local, _, host = value.partition("@")
        theirs, _, their_host = name.partition("@")
        if deny:
            local, theirs = local.lower(), theirs.lower()
        return bool(_part(local, "").fullmatch(theirs) and _host(host).fullmatch(their_host))
    if kind == "uri":
        return _uri_matches(value, name)
    if kind == "ip":
        network, address = ipaddress.ip_network(value), ipaddress.ip_address(name)
        if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
            mapped = network.network_address.ipv4_mapped
            if mapped is not None:
                network = ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}")
        return address in network
    if kind == "serial":
        return int(value.replace(":", ""), 16) == int(name, 16)
    if kind == "spki-sha256" and value.endswith("="):
        value = base64.b64decode(value).hex()
    return value.replace(":", "").lower() == name


def _part(pattern: str, separators: str) -> re.Pattern[str]:
    """A part of a name as a regular expression."""
    letter = f"[^{re.escape(separators)}]" if separators else "."
    if pattern == "*":
        return re.compile(f"{letter}+", re.DOTALL)
    return re.compile(f"{letter}*".join(re.escape(piece) for piece in pattern.split("*")), re.DOTALL)


def _host(pattern: str) -> re.Pattern[str]:
    labels = []
    for label in pattern.split("."):
        if label == "**":
            labels.append(r"[^.]+(?:\.[^.]+)*")
        elif label.isascii():
            labels.append(_part(label.lower(), ".").pattern)
        else:
            labels.append(re.escape(idna.encode(label, uts46=True).decode()))
    return re.compile(r"\.".join(labels))


def _uri_matches(pattern: str, name: str) -> bool:
    ours, theirs = _URI.fullmatch(pattern), _URI.fullmatch(name)
    assert ours is not None
    if theirs is None or ours[1].lower() != theirs[1].lower():
        return False
    for group in (2, 5, 7):
        if (ours[group] is None) != (theirs[group] is None):
            return False
    if ours[3] is not None and not _parts(ours[3].lower(), theirs[3].lower(), ".:@"):
        return False
    if ours[6] is not None and not _part(ours[6], "").fullmatch(theirs[6]):
        return False
    if ours[8] is not None and not _parts(ours[8], theirs[8], "#"):
        return False
    if not ours[4].endswith("/**"):
        return _parts(ours[4], theirs[4], "/")
    count = ours[4].count("/")
    segments = theirs[4].split("/")
    return _parts(ours[4][:-3], "/".join(segments[:count]), "/") and len(segments) > count and all(segments[count:])


def _parts(pattern: str, name: str, separators: str) -> bool:
    """The same separators, and every part between them covered."""
    cut = re.compile(f"([{re.escape(separators)}])")
    ours, theirs = cut.split(pattern), cut.split(name)
    return len(ours) == len(theirs) and all(
        one == other if number % 2 else _part(one, separators).fullmatch(other)
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True))
    )


# -- readable or not ---------------------------------------------------------------------------------------------------


def _text(tag: int, value: bytes) -> str | None:
    try:
        text = value.decode(_ENCODINGS[tag])
    except (KeyError, UnicodeDecodeError):
        return UNREADABLE
    if tag == forge.BMP and any(ord(letter) > 0xFFFF for letter in text):
        return UNREADABLE
    return _normal(text)


def _normal(text: str) -> str | None:
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text):
        return UNREADABLE
    return re.sub(" +", " ", text.translate(_SMALL)).strip(" ")


def _printable(text: str) -> bool:
    return all(33 <= ord(letter) < 127 for letter in text) and len(text) <= 2048


def _dns_name(text: str) -> str | None:
    if not _printable(text):
        return UNREADABLE
    name = text.lower().removesuffix(".")
    return name if len(name) <= 253 and all(name.split(".")) else UNREADABLE


def _email_name(text: str) -> str | None:
    if not _printable(text) or text.count("@") != 1 or text.endswith("."):
        return UNREADABLE
    local, _, host = text.partition("@")
    return f"{local}@{host.lower()}" if local and _dns_name(host) else UNREADABLE


def _uri_name(text: str) -> str | None:
    if not _printable(text) or "\\" in text or _URI.fullmatch(text) is None:
        return UNREADABLE
    for found in re.finditer("%(.{0,2})", text):
        if not re.fullmatch("[0-9A-Fa-f]{2}", found[1]):
            return UNREADABLE
        letter = chr(int(found[1], 16))
        if letter in "./\\\x7f" or letter < " ":
            return UNREADABLE
    return UNREADABLE if re.search(r"/\.\.?([/?#]|$)", text) else text


def _address(value: bytes) -> str | None:
    if len(value) not in {4, 16}:
        return UNREADABLE
    address = ipaddress.ip_address(value)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


_READERS = {"dns": _dns_name, "email": _email_name, "uri": _uri_name}
