"""What a process of the generator starts from: the TLS context, the resolved address, the limit of descriptors. Cold code."""

from __future__ import annotations

import ipaddress
import resource
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

from nlbcore.address import Endpoint
from nlbcore.errors import NlbError

if TYPE_CHECKING:
    from nlbbench.spec import Target

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
SERVER = 2
"""X509_PURPOSE_SSL_SERVER (x509v3.h)."""
SPARE_DESCRIPTORS = 32
"""What a process needs beside its connections."""


class LoadError(NlbError):
    """The load cannot be made as it is asked for; a sentence for the person who asked."""


@dataclass(frozen=True)
class Address:
    """Where to connect, resolved."""

    family: socket.AddressFamily
    packed: bytes
    """A sockaddr."""
    host: str | None
    """As it was written, without the port; None for a UNIX socket."""
    text: str
    """For a reader."""


def resolve(text: str) -> Address:
    """Look an address up: the first answer counts.

    Raises:
        LoadError: it cannot be read or is not known
    """
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        return _by_name(text, error)
    if endpoint.systemd is not None:
        raise LoadError(f"{text}: a client cannot connect to a socket that systemd holds")
    if endpoint.path is not None:
        path = endpoint.path.encode()
        return Address(socket.AF_UNIX, struct.pack("=H", socket.AF_UNIX) + path + b"\0", None, text)
    try:
        where = endpoint.sockaddr()
    except OSError as error:
        raise LoadError(f"{text}: {error}") from None
    assert endpoint.host is not None
    assert isinstance(where, tuple)
    return Address(endpoint.family, _packed(endpoint.family, where), endpoint.host, text)


def _by_name(text: str, reason: ValueError) -> Address:
    host, found, port = text.rpartition(":")
    if not found or not host or not port.isdigit() or any(c in host for c in "/:[]* "):
        raise LoadError(f"{reason}") from None
    try:
        family, _, _, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, OverflowError, UnicodeError) as error:
        raise LoadError(f"{text}: the name is not known: {_why(error)}") from None
    return Address(family, _packed(family, where), host, f"{text} ({where[0]})")


def _packed(family: socket.AddressFamily, where: tuple[Any, ...]) -> bytes:
    if family == socket.AF_INET:
        return struct.pack("=HH4s8x", family, socket.htons(where[1]), socket.inet_pton(family, where[0]))
    flow, scope = where[2:] if len(where) == 4 else (0, 0)
    number = socket.inet_pton(family, where[0].partition("%")[0])
    return struct.pack("=HHI16sI", family, socket.htons(where[1]), socket.htonl(flow), number, scope)


def server_name(target: Target, address: Address) -> tuple[str | None, str | None]:
    """What is sent as SNI, and what the certificate has to be for (a name or an IP address)."""
    wanted = target.server_name or address.host
    if wanted is None:
        return None, None
    try:
        ipaddress.ip_address(wanted.partition("%")[0])
    except ValueError:
        return wanted, wanted
    return None, wanted.partition("%")[0]


@dataclass(frozen=True)
class Tls:
    """What connections are made from, and what the server's certificate is judged by; both live as long as this does."""

    context: int
    """Address of an SSL_CTX."""
    store: int
    """Address of an X509_STORE; 0: any certificate will do."""
    owners: tuple[SSL.Context, ...]


def context(target: Target, address: Address) -> Tls:
    """Make the client's context.

    The server's certificate is not verified by the handshake but by us behind it, once for each different certificate (see
    wire.pyx): that is cheaper, and so is a context without roots, from which OpenSSL would complete our own chain each time.

    Raises:
        LoadError: a file cannot be read or used, or a name is not known to OpenSSL; with the option of `nlb bench load`
    """
    made = SSL.Context(SSL.TLS_CLIENT_METHOD)
    made.set_verify(SSL.VERIFY_NONE)
    if target.version is not None:
        if target.version not in VERSIONS:
            raise LoadError(f"no such TLS version: {target.version}; there are {' and '.join(VERSIONS)}")
        made.set_min_proto_version(VERSIONS[target.version])
        made.set_max_proto_version(VERSIONS[target.version])
    _ciphers(made, target)
    _own_certificate(made, target)
    if not target.verify:
        return Tls(_address(made._context), 0, (made,))  # noqa: SLF001 - pyOpenSSL has no other door
    trust = SSL.Context(SSL.TLS_CLIENT_METHOD)
    return Tls(_address(made._context), _trust(trust, target, address), (made, trust))  # noqa: SLF001


def _address(pointer: Any) -> int:
    from cryptography.hazmat.bindings._rust import _openssl

    return int(_openssl.ffi.cast("uintptr_t", pointer))


def _ciphers(made: SSL.Context, target: Target) -> None:
    from cryptography.hazmat.bindings._rust import _openssl

    if target.suite is not None:
        try:
            if target.suite.startswith("TLS_"):
                made.set_tls13_ciphersuites(target.suite.encode())
                made.set_min_proto_version(SSL.TLS1_3_VERSION)
            else:
                made.set_cipher_list(target.suite.encode())
                made.set_max_proto_version(SSL.TLS1_2_VERSION)
        except SSL.Error:
            raise LoadError(f"--suite: OpenSSL knows no cipher suite {target.suite!r}") from None
    if target.group is not None:
        known = _openssl.lib.SSL_CTX_set1_curves_list(made._context, target.group.encode())  # noqa: SLF001
        if known != 1:
            _openssl.lib.ERR_clear_error()
            raise LoadError(f"--group: OpenSSL knows no group {target.group!r}")


def _own_certificate(made: SSL.Context, target: Target) -> None:
    if target.certificate is None:
        if target.private_key is not None:
            raise LoadError(f"--key {target.private_key}: a key without a certificate; name that with --cert FILE")
        return
    key = target.private_key or target.certificate
    option = "--cert" if target.private_key is None else "--key"
    _readable("--cert", target.certificate)
    _readable(option, key)
    try:
        made.use_certificate_chain_file(str(target.certificate))
    except SSL.Error as error:
        raise LoadError(f"--cert {target.certificate}: no certificate in PEM ({_reason(error)})") from None
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except TypeError:
        raise LoadError(
            f"{option} {key}: the key has a password; take it off first (openssl pkey -in ... -out ...)"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        if target.private_key is None:
            raise LoadError(f"--cert {key}: holds no private key; name its file with --key FILE") from None
        raise LoadError(f"--key {key}: no private key in PEM ({error})") from None
    try:
        made.use_privatekey(private)  # type: ignore[arg-type]
        made.check_privatekey()
    except SSL.Error:
        raise LoadError(f"{option} {key}: not the key of the certificate in {target.certificate}") from None


def _trust(made: SSL.Context, target: Target, address: Address) -> int:
    """Let the context's store know the roots and what a certificate has to be for; its address."""
    from cryptography.hazmat.bindings._rust import _openssl

    if target.ca is None:
        made.set_default_verify_paths()
    else:
        _readable("--ca", target.ca)
        try:
            made.load_verify_locations(str(target.ca))
        except SSL.Error as error:
            raise LoadError(f"--ca {target.ca}: no certificates in PEM ({_reason(error)})") from None
    _, wanted = server_name(target, address)
    if wanted is None:
        raise LoadError(
            "a UNIX socket has no name that a certificate could be for: give one with --server-name, or do not verify: "
            "--insecure"
        )
    lib = _openssl.lib
    rules = _openssl.ffi.gc(lib.X509_VERIFY_PARAM_new(), lib.X509_VERIFY_PARAM_free)
    try:
        number = ipaddress.ip_address(wanted).packed
    except ValueError:
        fine = lib.X509_VERIFY_PARAM_set1_host(rules, wanted.encode(), len(wanted.encode()))
    else:
        fine = lib.X509_VERIFY_PARAM_set1_ip(rules, number, len(number))
    store = lib.SSL_CTX_get_cert_store(made._context)  # noqa: SLF001
    if fine != 1 or lib.X509_STORE_set1_param(store, rules) != 1 or lib.X509_STORE_set_purpose(store, SERVER) != 1:
        raise LoadError(f"OpenSSL does not take {wanted!r} as a server name")
    return _address(store)


def _readable(option: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise LoadError(f"{option} {path}: {error.strerror}") from None


def _why(error: Exception) -> str:
    """The system's words alone, without its number."""
    return str(getattr(error, "strerror", None) or error)


def _reason(error: SSL.Error) -> str:
    """OpenSSL's words for the first entry of its queue."""
    queue = error.args[0] if error.args else []
    return str(queue[0][2]) if queue else "unknown"


def descriptors_for(connections: int) -> int:
    """How many descriptors a process with so many connections needs, if it may have them.

    Raises:
        LoadError: the hard limit is too low; with what to do
    """
    needed = connections + SPARE_DESCRIPTORS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise LoadError(
            f"{connections} connections in a process need {needed} descriptors, and the limit is {hard}: "
            "use more processes, fewer connections, or raise the limit (ulimit -n)"
        )
    return needed


def raise_descriptor_limit(connections: int) -> None:
    """See to it that this process may have so many connections; raises LoadError as `descriptors_for` does."""
    needed = descriptors_for(connections)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft not in {resource.RLIM_INFINITY, hard} and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
