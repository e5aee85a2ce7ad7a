"""Name constraints (RFC 5280, 4.2.1.10): which names an authority may put into certificates at all.

Who names host names only means that there are to be no addresses, and the other way round: the kind that is not named
is shut out as a whole, where RFC 5280 leaves what is not mentioned open. URIs and mailboxes stay open.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cryptography import x509

from nlbcore.pki import names
from nlbcore.pki.errors import BadValue
from nlbcore.pki.issue import Wanted

EVERY_HOST = x509.DNSName("")
EVERY_ADDRESS = tuple(x509.IPAddress(ipaddress.ip_network(text)) for text in ("0.0.0.0/0", "::/0"))


def parse(dns: Sequence[str], ip: Sequence[str]) -> x509.NameConstraints | None:
    """The extension that permits these host names, with all below them, and these networks; None if there are none.

    Raises:
        BadValue: one of them is none.
    """
    if not dns and not ip:
        return None
    hosts = [x509.DNSName(_host(value)) for value in dns]
    networks = [x509.IPAddress(_network(value)) for value in ip]
    excluded: list[x509.GeneralName] = [] if hosts else [EVERY_HOST]
    if not networks:
        excluded += EVERY_ADDRESS
    else:
        # An address of the family that is not named matches none of the networks, but not every verifier sees it so.
        families = {one.value.version for one in networks}
        excluded += [one for one in EVERY_ADDRESS if one.value.version not in families]
    return x509.NameConstraints([*hosts, *networks], excluded or None)


def of(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def without_words(certificate: x509.Certificate, wanted: Wanted) -> Wanted:
    """Without a common name of one word (`alice`, `web`) among the alternative names, where no such host is permitted.

    Nobody has asked for it as a host, and verifiers take no word without a dot for one (OpenSSL's check of the common name).
    """
    constraints = of(certificate)
    if constraints is None:
        return wanted
    left_out = [
        one
        for one in wanted.implied
        if isinstance(one, x509.DNSName) and "." not in one.value and not _permits(constraints, one)
    ]
    sans = [one for one in wanted.sans if one not in left_out]
    return replace(wanted, sans=sans) if sans or wanted.profile != "server" else wanted


def check(certificate: x509.Certificate, sans: Iterable[x509.GeneralName]) -> None:
    """Whether the authority with this certificate may certify these names.

    Raises:
        BadValue: for one of them it may not: verifiers would refuse the certificate.
    """
    constraints = of(certificate)
    if constraints is None:
        return
    for name in sans:
        if not isinstance(name, x509.DNSName | x509.IPAddress):
            continue
        if not _permits(constraints, name):
            kind, _, value = names.described(name).partition(":")
            reason = f"this authority is constrained to {', '.join(described(constraints)) or 'other names'}"
            raise BadValue(kind, value, reason)


def described(constraints: x509.NameConstraints) -> list[str]:
    """What is permitted, for people: `example.com`, `10.0.0.0/8`."""
    return [str(one.value) for one in constraints.permitted_subtrees or ()]


def _permits(constraints: x509.NameConstraints, name: x509.DNSName | x509.IPAddress) -> bool:
    permitted = [one for one in constraints.permitted_subtrees or () if type(one) is type(name)]
    excluded = [one for one in constraints.excluded_subtrees or () if type(one) is type(name)]
    inside = not permitted or any(_covers(one, name) for one in permitted)
    return inside and not any(_covers(one, name) for one in excluded)


def _covers(tree: x509.GeneralName, name: x509.GeneralName) -> bool:
    if isinstance(tree, x509.DNSName) and isinstance(name, x509.DNSName):
        base = tree.value.lower().removeprefix(".")
        host = name.value.removeprefix("*.")
        return not base or host == base or host.endswith(f".{base}")
    assert isinstance(tree, x509.IPAddress)
    assert isinstance(name, x509.IPAddress)
    network, address = tree.value, name.value
    assert isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
    assert isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
    return address in network


def _host(value: str) -> str:
    if value.startswith(("*.", ".")):
        bare = value.lstrip("*.")
        raise BadValue("permit_dns", value, f'"{bare}" covers itself and every name below it')
    return names.dns(value, "permit_dns")


def _network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise BadValue(
            "permit_ip", value, f"is not a network, for example 10.0.0.0/8 ({_hint(value, error)})"
        ) from None


def _hint(value: str, error: ValueError) -> str:
    try:
        return f"did you mean {ipaddress.ip_network(value, strict=False)}?"
    except ValueError:
        return str(error)
