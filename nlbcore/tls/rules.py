"""Identity rules: what an entry of `allow` or `deny` means, read and judged; ``tls/ruletable`` compiles them.

What a rule means, kind by kind (docs/options.md says the same to operators):

    cn, o, ou       the subject's attributes of that name, never alternative names; ASCII letters without case, blanks as one
    dns             dNSName of subjectAltName, never the common name; without case, without a trailing dot; a rule in other
                    letters than ASCII is compared in its xn-- form
    uri             uniformResourceIdentifier; scheme and host without case, the rest exactly
    email           rfc822Name; the host without case, the part before the at sign exactly - but by `deny` without case
    ip              iPAddress, one or a network; an IPv4 address mapped into IPv6 is the IPv4 address
    serial          the serial number, hexadecimal as the log and openssl print it
    sha256          SHA-256 of the certificate
    spki-sha256     SHA-256 of its SubjectPublicKeyInfo, hexadecimal or base64

``*`` stands for any characters within one part: a label of a host name, a segment of a path, the part before an at sign, the
whole of a cn, o, ou. As a part of its own it stands for one that is not empty. ``**`` stands for one or more parts, as the
first label of a `dns` rule or the last segment of a `uri` rule. A wildcard in a certificate is a character like any other.

Several names: one that matches is enough, for `allow` as for `deny` - but a certificate with several common names is
allowed by none of them, since nobody can say which of them its other readers take. A name that cannot be read is allowed by
no rule and denied as soon as `deny` has a rule of its kind.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import idna

from nlbcore.config.finding import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_NAME = 2048
LONGEST_HOST = 253
LABEL, AT, SEGMENT, QUERY, FRAGMENT, PORT = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05", b"\x06"
STAR, STARS = b"\x07", b"\x08"
CN, O, OU, DNS, URI, EMAIL, IP4, IP6, SERIAL, CERTIFICATE, KEY = range(11)  # noqa: E741 - the attribute's name

_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_AMBIGUOUS = re.compile(r"%(?![0-9a-f]{2})|%(?:[01][0-9a-f]|2e|2f|5c|7f)|\\|/\.\.?(?=[/?#]|$)", re.IGNORECASE)
_NOT_IN_HOSTS = re.compile("[/:,;@?]")
WILD = re.compile(b"[\x07\x08]")


class BadRule(Exception):  # noqa: N818 - a finding in the making
    """What is wrong with a rule, and what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry, in the form in which names are compared.

    Attributes:
        text: as the operator wrote it
        kind: of name
        pattern: the name, with `STAR` and `STARS` for wildcards; of a network: its address
        bits: of a network, how many of the address count
        warning: what an operator may not have meant
        hint: and what to write
    """

    text: str
    kind: int
    pattern: bytes
    bits: int = 0
    warning: str = ""
    hint: str = ""

    @property
    def wild(self) -> bool:
        """Whether it has wildcards."""
        return self.kind < IP4 and WILD.search(self.pattern) is not None


def parse(text: str) -> Rule:
    """Read one entry.

    Raises:
        BadRule: it cannot be used
    """
    prefix, colon, value = text.partition(":")
    prefix, value = prefix.strip().lower(), value.strip()
    if not colon or prefix not in _PARSERS:
        raise _unknown(text, prefix if colon else "")
    if not value:
        raise BadRule(f'"{text}": nothing stands behind the colon', f"as in {_EXAMPLES[prefix]}")
    if _CONTROL.search(value):
        raise BadRule(f"{text!r}: a name has no control characters")
    if len(value.encode()) > LONGEST_NAME:
        raise BadRule(f'"{text[:40]}...": longer than {LONGEST_NAME} bytes')
    try:
        rule = _PARSERS[prefix](value)
    except BadRule as error:
        raise BadRule(f'"{text}": {error}', error.hint) from None
    if value == "*":
        warning = {
            "dns": '"dns:*" covers names of one label only, as in "localhost"',
        }.get(prefix, f'"{text}" covers every {prefix}')
        rule = replace(
            rule, warning=warning, hint="dns:**.example.com covers all below a domain" if prefix == "dns" else ""
        )
    return replace(rule, text=text)


def _unknown(text: str, prefix: str) -> BadRule:
    if not text.strip():
        return BadRule("an entry is empty", f"as in {_EXAMPLES['cn']}")
    if text.strip().startswith(("!", "not:")):
        return BadRule(f'"{text}": a rule has no "not"', "`allow` has who is let in, `deny` who is refused")
    hint = did_you_mean(prefix, _PARSERS) if prefix else ""
    if not prefix:
        named, equals, value = (part.strip() for part in text.partition("="))
        if equals and value and named.lower() in _PARSERS:
            return BadRule(f'"{text}" does not say what it is about', f'did you mean "{named.lower()}:{value}"?')
        kind = "email" if "@" in text else "dns" if "." in text else "cn"
        return BadRule(f'"{text}" does not say what it is about', f'did you mean "{kind}:{text.strip()}"?')
    known = ", ".join(_PARSERS)
    return BadRule(f'"{text}": there are no rules about "{prefix}"', hint or f"there are {known}")


def _attribute(kind: int) -> Callable[[str], Rule]:
    def read(value: str) -> Rule:
        if "**" in value:
            raise BadRule("** has a meaning in dns and uri rules only", f"write {value.replace('**', '*')}")
        plain = " ".join(part for part in value.translate(_SMALL).split(" ") if part)
        return Rule("", kind, plain.encode().replace(b"*", STAR))

    return read


def _dns(value: str) -> Rule:
    rule = Rule("", DNS, _host(value.removesuffix("."), several=True))
    odd = _NOT_IN_HOSTS.search(value)
    if _is_address(value):
        return replace(rule, warning=f'"dns:{value}" covers no iPAddress', hint=f"ip:{value} does")
    if odd:
        what = f'"dns:{value}" is about a host name with "{odd[0]}", which is in none'
        return replace(rule, warning=what, hint="the name alone, as in dns:www.example.com; an entry for each")
    return rule


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _host(value: str, *, several: bool = False) -> bytes:
    labels = value.split(".")
    if labels[0] == "" and len(labels) > 1:
        raise BadRule("an empty label is in front", f"*{value} covers the names one label below, **{value} all below")
    if "" in labels:
        raise BadRule("a label is empty")
    made: list[bytes] = []
    for number, label in enumerate(labels):
        if label == "**":
            if not several or number or "*" in value[2:] or len(labels) == 1:
                raise BadRule("** is the first label of a dns rule, and has no other wildcard behind it")
            made.append(STARS)
        elif "**" in label:
            raise BadRule("** is a label of its own", "* stands for any characters within a label")
        else:
            made.append(_label(label))
    name = LABEL.join(made)
    if len(name) > LONGEST_HOST:
        raise BadRule(f"a host name has at most {LONGEST_HOST} characters")
    return name


def _label(label: str) -> bytes:
    if label.isascii():
        if not all(33 <= ord(letter) < 127 for letter in label):
            raise BadRule("a host name has no blanks")
        return label.lower().encode().replace(b"*", STAR)
    if "*" in label:
        raise BadRule(
            f'the label "{label}" has other letters than ASCII and a wildcard', "* can stand for a whole label"
        )
    try:
        return idna.encode(label, uts46=True)
    except idna.IDNAError as error:
        raise BadRule(f'"{label}" is not a label of a host name: {error}') from None


def _uri(value: str) -> Rule:
    if not value.isascii():
        raise BadRule("a URI has ASCII letters only", "encode others with %, and those of its host as xn--")
    if " " in value:
        raise BadRule("a URI has no blanks", "write %20")
    scheme, colon, rest = value.partition(":")
    if not colon or not re.fullmatch("[A-Za-z][A-Za-z0-9+.-]*", scheme):
        what = "a wildcard cannot stand for the scheme" if "*" in scheme else "there is no scheme"
        raise BadRule(what, "as in uri:spiffe://prod/web")
    if _AMBIGUOUS.search(value):
        raise BadRule(
            "certificates with such a URI are matched by no rule, since it can be read in two ways",
            'it has a backslash, a damaged %, "." or ".." as a segment, or an encoded dot, slash, backslash or control',
        )
    host, path = "", rest
    if rest.startswith("//"):
        host, path = re.fullmatch("([^/?#]*)(.*)", rest[2:]).groups()  # type: ignore[union-attr]
        if "**" in host:
            raise BadRule(
                "** is the last segment of a uri rule", "* stands for any characters within a label of the host"
            )
    if "**" in path:
        if not path.endswith("/**") or "**" in path[:-2] or re.search("[?#]", path):
            raise BadRule("** is the last segment of a uri rule", "as in uri:spiffe://prod/ns/web/**")
        path = path[:-2]
        end = STARS
    else:
        end = b""
    made = scheme.lower().encode() + b":"
    if rest.startswith("//"):
        made += SEGMENT * 2 + _translated(host.lower(), {".": LABEL, "@": AT, ":": PORT})
    way, mark, query = re.fullmatch("([^?#]*)([?#]?)(.*)", path).groups()  # type: ignore[union-attr]
    made += _translated(way, {"/": SEGMENT})
    if mark == "#":
        made += FRAGMENT + _translated(query, {"#": FRAGMENT})
    elif mark:
        made += QUERY + _translated(query, {"#": FRAGMENT})
    return Rule("", URI, made + end)


def _translated(text: str, separators: dict[str, bytes]) -> bytes:
    return b"".join(separators.get(letter) or (STAR if letter == "*" else letter.encode()) for letter in text)


def _email(value: str) -> Rule:
    if not value.isascii() and not value.rpartition("@")[0].isascii():
        raise BadRule("the part before the at sign has ASCII letters only: others are not in rfc822Name")
    if value.count("@") != 1:
        hint = f"email:*@{value} covers all addresses there" if "@" not in value else ""
        raise BadRule("an address has one at sign", hint)
    local, _, host = value.partition("@")
    if not local or not host:
        raise BadRule("a part of the address is missing", "as in email:*@corp.example")
    if " " in local or "**" in local:
        raise BadRule("the part before the at sign has no blanks and no **")
    if host.endswith("."):
        raise BadRule("the host of an address has no trailing dot")
    return Rule("", EMAIL, local.encode().replace(b"*", STAR) + AT + _host(host))


def _ip(value: str) -> Rule:
    if "*" in value:
        raise BadRule("addresses have no wildcards", "write a network, as in ip:10.0.0.0/8")
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        try:
            meant = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise BadRule("neither an address nor a network", "as in ip:10.0.0.0/8 or ip:2001:db8::1") from None
        raise BadRule("bits are set behind the length of the network", f'did you mean "ip:{meant}"?') from None
    address, bits = network.network_address, network.prefixlen
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise BadRule("an address in a certificate has no zone")
        if address.ipv4_mapped is not None and bits >= 96:
            return Rule("", IP4, address.ipv4_mapped.packed, bits - 96)
        return Rule("", IP6, address.packed, bits)
    return Rule("", IP4, address.packed, bits)


def _serial(value: str) -> Rule:
    digits = value.replace(":", "")
    plain = digits == value and digits.isdigit()
    if digits[:2].lower() == "0x":
        digits, plain = digits[2:], False
    if not re.fullmatch("[0-9A-Fa-f]+", digits):
        raise BadRule("a serial number is hexadecimal, with colons or without", "as the log and openssl print it")
    number = int(digits, 16)
    if number >= 1 << 159:
        raise BadRule("longer than 20 octets (RFC 5280, 4.1.2.2)", "is it decimal? It is read as hexadecimal")
    return Rule(
        "",
        SERIAL,
        number.to_bytes((number.bit_length() + 7) // 8, "big"),
        warning=f"{value} is read as hexadecimal ({number})" if plain and number > 9 else "",
        hint=f"serial:0x{digits} says so" if plain and number > 9 else "",
    )


def _fingerprint(kind: int) -> Callable[[str], Rule]:
    def read(value: str) -> Rule:
        digits = value.replace(":", "")
        if kind == KEY and len(value) == 44 and value.endswith("="):
            try:
                return Rule("", kind, base64.b64decode(value, validate=True))
            except binascii.Error:
                pass
        if not re.fullmatch("[0-9A-Fa-f]+", digits):
            form = "hexadecimal" if kind == CERTIFICATE else "hexadecimal or base64"
            raise BadRule(f"a fingerprint is {form}", "openssl x509 -noout -fingerprint -sha256 prints it")
        if len(digits) != 64:
            what = {40: ": that is SHA-1", 32: ": that is MD5", 128: ": that is SHA-512"}.get(len(digits), "")
            raise BadRule(f"a SHA-256 has 64 digits, this one {len(digits)}{what}")
        return Rule("", kind, bytes.fromhex(digits))

    return read


_PARSERS: dict[str, Callable[[str], Rule]] = {
    "cn": _attribute(CN),
    "o": _attribute(O),
    "ou": _attribute(OU),
    "dns": _dns,
    "uri": _uri,
    "email": _email,
    "ip": _ip,
    "serial": _serial,
    "sha256": _fingerprint(CERTIFICATE),
    "spki-sha256": _fingerprint(KEY),
}
_EXAMPLES = {
    "cn": "cn:client-*",
    "o": "o:Example Ltd",
    "ou": "ou:billing",
    "dns": "dns:*.corp.example",
    "uri": "uri:spiffe://prod/*",
    "email": "email:*@corp.example",
    "ip": "ip:10.0.0.0/8",
    "serial": "serial:0x1f",
    "sha256": "sha256: and 64 hexadecimal digits",
    "spki-sha256": "spki-sha256: and 64 hexadecimal digits",
}


def covers(broad: Rule, narrow: Rule) -> bool:
    """Whether everything that `narrow` matches is matched by `broad`; False when that is not plain to see."""
    if broad.kind != narrow.kind:
        return False
    if broad.kind in (IP4, IP6):
        shift = len(broad.pattern) * 8 - broad.bits
        first, second = (int.from_bytes(rule.pattern, "big") >> shift for rule in (broad, narrow))
        return broad.bits <= narrow.bits and first == second
    if STARS in narrow.pattern or not broad.wild:
        return False
    return _expression(broad.pattern).fullmatch(narrow.pattern) is not None


def _expression(pattern: bytes) -> re.Pattern[bytes]:
    """A pattern as a regular expression over names, wildcards of which are letters like any other."""
    if pattern.startswith(STARS):
        return re.compile(b"[^\x00]+" + re.escape(pattern[1:]), re.DOTALL)
    parts = re.split(b"([\x01-\x06])", pattern)
    made = [
        b"[^\x01-\x06]+"
        if part == STAR
        else b"[^\x01-\x06]+(?:\x03[^\x01-\x06]+)*"
        if part == STARS
        else re.escape(part).replace(re.escape(STAR), b"[^\x01-\x06]*")
        for part in parts
    ]
    return re.compile(b"".join(made), re.DOTALL)
