"""From policy and material to OpenSSL contexts: the front context of a listener, and its certificate contexts.

Session tickets are made and opened with the keys of the context that a connection was *created* on, the listener's
front context, and a resumed session is accepted before the server-name callback has chosen a certificate; OpenSSL
verifies nothing again. So (architecture, "the client-certificate bypass"):

- the front context is made blank before the first fork and never replaced; `apply()` puts a generation's settings on it
- it carries everything that is the listener's; only certificates are in contexts of their own, replaced at will
- one client-authentication policy for a listener, whatever the name: each certificate context gets the same trust store
- the session id context digests that policy: a ticket of another listener, mode or CA bundle is a full handshake

`SETTINGS` says for each setting which of the two contexts decides after SSL_set_SSL_CTX; a test proves every row on TLS
1.2 and 1.3. Settings are made with raw calls: pyOpenSSL refuses to change a Context in use, OpenSSL applies it to the
next connection. No Python callback is ever given to pyOpenSSL.
"""
# ruff: noqa: SLF001 - the raw pointers of pyOpenSSL's objects are what this module is about

from __future__ import annotations

import hashlib
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cryptography import x509
from cryptography.hazmat.bindings._rust import _openssl
from cryptography.hazmat.primitives.serialization import load_der_private_key
from OpenSSL import SSL, crypto

from nlbcore.engine import callbacks
from nlbcore.tls.custom_policy import policy_named
from nlbcore.tls.policy import VERSIONS, Policy
from nlbcore.tls.server_names import ServerNames

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence

    from nlbcore.config.model import Listener, SecurityPolicy
    from nlbcore.tls.material import ListenerMaterial, ServerCertificate

_lib, _ffi = _openssl.lib, _openssl.ffi

SETTINGS: Mapping[str, Literal["front", "follows", "follows up to TLS 1.2"]] = {
    "versions": "front",
    "groups": "front",
    "options": "front",
    "depth": "front",
    "verify_mode": "front",
    "session_id_context": "front",
    "ticket_keys": "front",
    "ticket_lifetime": "front",
    "server_name_callback": "front",
    "certificate": "follows",
    "cipher_suites": "follows up to TLS 1.2",
    "trust_store": "follows",
    "ca_names": "follows",
    "alpn_callback": "follows",
    "security_level": "follows",
}
"""Whose setting counts after the server-name callback has switched contexts. The engine sets verify mode and callback
again on the connection, because they stay with the front. A TLS 1.3 suite is chosen before the server name is looked at."""

ALPN = {
    "HTTP1Only": ("http/1.1", "http/1.0"),
    "HTTP2Only": ("h2",),
    "HTTP2Optional": ("http/1.1", "http/1.0", "h2"),
    "HTTP2Preferred": ("h2", "http/1.1", "http/1.0"),
}
"""The protocols of each ALPN policy in order of preference (Alibaba NLB, CreateListener)."""

_NAMED_AT_ONCE = 256
"""Certificates whose names are entered in one step."""

_SESSION_CACHE_OFF = 0
_NO_AUTO_CHAIN = 8  # else OpenSSL would complete the server's chain with the CAs of its clients
_RELEASE_BUFFERS = 16
_PURPOSE_SSL_CLIENT = 1
_NO_CHECK_TIME = 0x200000  # x509_vfy.h
_CALLBACK_VERIFY = "int(*)(int, X509_STORE_CTX *)"
_CALLBACK_SERVER_NAME = "int(*)(SSL *, int *, void *)"
_CALLBACK_ALPN = "int(*)(SSL *, unsigned char **, unsigned char *, unsigned char *, unsigned int, void *)"


@dataclass(frozen=True)
class Settings:
    """Everything of a listener that its contexts carry; see `settings()`.

    Attributes:
        policy: versions, suites and groups
        verify: clients are asked for a certificate
        required: who has none is refused
        depth: intermediates allowed
        store: the trust store, shared by all contexts of the listener
        live_store: that by which live connections are verified again
        ca_names: CA certificates whose names are sent to clients, each name once
        alpn: protocols in order of preference, wire format
        session_id_context: 32 bytes; a session of another one is not resumed
        ticket_lifetime: seconds
    """

    policy: Policy
    verify: bool
    required: bool
    depth: int
    store: crypto.X509Store
    live_store: crypto.X509Store
    ca_names: tuple[x509.Certificate, ...]
    alpn: bytes
    session_id_context: bytes
    ticket_lifetime: int


def settings(
    name: str, listener: Listener, material: ListenerMaterial, policies: Mapping[str, SecurityPolicy] | None = None
) -> Settings:
    """The settings of the listener `name`.

    The session id context does not depend on what is judged again on every resumption (the leaf's dates and key, the
    revocation lists). It does on the suites: TLS 1.2 would resume a session with one that is not offered any more.

    Args:
        name: the listener's
        listener: its table
        material: its certificates and CAs
        policies: `[security_policies]`
    """
    policy = policy_named(listener.security_policy, policies or {})
    auth = listener.client_auth
    verify = auth.mode != "off"
    authorities = tuple(x509.load_der_x509_certificate(der) for der in material.ca)
    store = live_store = _store(authorities, strict=auth.strict)
    if auth.on_expired == "keep":
        live_store = _store(authorities, strict=auth.strict, dates=False)
    # With tickets or without: those that were issued before they were switched off are not taken any more.
    digest = hashlib.sha256(f"{name}\0{auth.mode}\0{auth.depth}\0{auth.strict}\0{listener.session_tickets}\0".encode())
    for der in sorted(material.ca):
        digest.update(hashlib.sha256(der).digest())
    digest.update(f"{policy.cipher_list}\0{policy.ciphersuites}".encode())
    return Settings(
        policy=policy,
        verify=verify,
        required=auth.mode == "required",
        depth=auth.depth,
        store=store,
        live_store=live_store,
        ca_names=_each_name_once(authorities) if verify and auth.advertise_ca_names else (),
        alpn=b"".join(bytes([len(p)]) + p.encode() for p in ALPN[listener.alpn_policy])
        if listener.alpn_policy
        else b"",
        session_id_context=digest.digest(),
        ticket_lifetime=int(listener.session_ticket_lifetime),
    )


def _each_name_once(authorities: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Of the CAs of one name the first: a CA with an old and a new key is one for clients."""
    named: dict[bytes, x509.Certificate] = {}
    for authority in authorities:
        named.setdefault(authority.subject.public_bytes(), authority)
    return tuple(named.values())


def _store(authorities: Iterable[x509.Certificate], *, strict: bool, dates: bool = True) -> crypto.X509Store:
    store = crypto.X509Store()
    flags = crypto.X509StoreFlags.PARTIAL_CHAIN  # what stands in `ca` is trusted as it is
    if strict:
        flags |= crypto.X509StoreFlags.X509_STRICT
    store.set_flags(flags if dates else flags | _NO_CHECK_TIME)
    _check(
        _lib.X509_STORE_set_purpose(store._store, _PURPOSE_SSL_CLIENT)
    )  # also where no SSL object says so (a re-check)
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    return store


def blank() -> SSL.Context:
    """A front context before it has any settings: its ticket keys are what matters, and fork copies them."""
    return SSL.Context(SSL.TLS_SERVER_METHOD)


def apply(front: SSL.Context, wanted: Settings) -> None:
    """Put a listener's settings on its front context, blank or live; the next connection has them.

    Raises:
        SSL.Error: OpenSSL refuses one; rehearse on a blank context what is to be applied to a live one
    """
    context: Any = front._context
    _common(context, wanted)
    versions = (wanted.policy.min_version, wanted.policy.max_version)
    _check(_lib.SSL_CTX_set_min_proto_version(context, VERSIONS[versions[0]]))
    _check(_lib.SSL_CTX_set_max_proto_version(context, VERSIONS[versions[1]]))
    _check(_lib.SSL_CTX_set1_curves_list(context, wanted.policy.group_list.encode()))
    _lib.SSL_CTX_set_options(context, SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    _lib.SSL_CTX_set_session_cache_mode(context, _SESSION_CACHE_OFF)  # tickets only: nothing to grow in a worker
    _lib.SSL_CTX_set_timeout(context, wanted.ticket_lifetime)
    _lib.SSL_CTX_set_tlsext_servername_callback(
        context, _ffi.cast(_CALLBACK_SERVER_NAME, callbacks.server_name_address())
    )


@dataclass(frozen=True)
class ServerContexts:
    """The certificate contexts of a listener.

    Attributes:
        first: for clients that name nobody we know, now
        by_name: which one is for which name, where that is so for ever (``*.`` for a wildcard)
        windows: name, from when, until when (Unix seconds), context: where certificates take turns; "" is for those clients
    """

    first: SSL.Context
    by_name: Mapping[str, SSL.Context]
    windows: Sequence[tuple[str, int, int, SSL.Context]] = ()


def certificate_contexts(
    wanted: Settings, certificates: Sequence[ServerCertificate], now: float | None = None
) -> Generator[SSL.Context | None, None, ServerContexts]:
    """A context for each set of certificates that is shown together (``tls/server_names``); a step for each context.

    Certificates of different key types for one name go into one context, and the client's abilities choose.

    Args:
        wanted: the listener's settings
        certificates: in the order of the file
        now: Unix seconds; the clock's
    Yields:
        each context, or None after a step without one
    """
    names = ServerNames(certificates, time.time() if now is None else now)
    for start in range(0, len(certificates), _NAMED_AT_ONCE):
        names.add(range(start, min(start + _NAMED_AT_ONCE, len(certificates))))
        yield None
    made: dict[tuple[int, ...], SSL.Context] = {}
    by_name: dict[str, SSL.Context] = {}
    windows: list[tuple[str, int, int, SSL.Context]] = []
    fallback = names.fallback()
    for name, found in itertools.chain([("", fallback)], ((name, names.windows(name)) for name in names)):
        for since, until, numbers in found:
            if numbers not in made:
                made[numbers] = _certificate_context(wanted, [certificates[number] for number in numbers])
                yield made[numbers]
            if len(found) > 1:
                windows.append((name, since, until, made[numbers]))
            elif name:
                by_name[name] = made[numbers]
    return ServerContexts(made[fallback[0].certificates], by_name, windows)


def _certificate_context(wanted: Settings, certificates: list[ServerCertificate]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    _common(context._context, wanted)
    extra: dict[bytes, None] = {}
    for certificate in certificates:
        context.use_certificate(x509.load_der_x509_certificate(certificate.chain[0]))
        # The checker has validated it; again, that would be ten times a handshake step for RSA.
        key = load_der_private_key(certificate.key, None, unsafe_skip_rsa_key_validation=True)
        context.use_privatekey(key)  # type: ignore[arg-type]
        context.check_privatekey()
        extra.update(dict.fromkeys(certificate.chain[1:]))
    for der in extra:
        context.add_extra_chain_cert(x509.load_der_x509_certificate(der))
    return context


def _common(context: Any, wanted: Settings) -> None:
    """What the front and the certificate contexts have alike: a setting that follows must be the same before."""
    _check(_lib.SSL_CTX_set_cipher_list(context, wanted.policy.cipher_list.encode()))
    if wanted.policy.ciphersuites:
        _check(_lib.SSL_CTX_set_ciphersuites(context, wanted.policy.ciphersuites.encode()))
    _lib.SSL_CTX_set_mode(context, _RELEASE_BUFFERS | _NO_AUTO_CHAIN)
    _check(_lib.X509_STORE_up_ref(wanted.store._store))
    _lib.SSL_CTX_set_cert_store(context, wanted.store._store)
    mode = SSL.VERIFY_PEER if wanted.verify else SSL.VERIFY_NONE
    if wanted.required:
        mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    _lib.SSL_CTX_set_verify(context, mode, _ffi.cast(_CALLBACK_VERIFY, callbacks.verify_address()))
    _lib.SSL_CTX_set_verify_depth(context, wanted.depth)
    # The front's counts; but after a HelloRetryRequest the connection has the other one already.
    _check(_lib.SSL_CTX_set_session_id_context(context, wanted.session_id_context, len(wanted.session_id_context)))
    names = _lib.sk_X509_NAME_new_null()
    _lib.SSL_CTX_set_client_CA_list(context, names)  # takes the list over
    for authority in wanted.ca_names:
        _check(_lib.SSL_CTX_add_client_CA(context, crypto.X509.from_cryptography(authority)._x509))
    _lib.SSL_CTX_set_alpn_select_cb(context, _ffi.cast(_CALLBACK_ALPN, callbacks.alpn_address()), _ffi.NULL)


def _check(answer: int) -> None:
    if answer != 1:
        raise SSL.Error([("SSL", "", _reason())])


def _reason() -> str:
    code = _lib.ERR_peek_error()
    _lib.ERR_clear_error()
    text = _lib.ERR_reason_error_string(code)
    return _ffi.string(text).decode() if text != _ffi.NULL else f"error {code:#x}"


class Front:
    """A listener's front context as the engine's `hooks.Front`: makes the connections of its nursery.

    Each is a pyOpenSSL ``Connection`` whose SSL object is unhooked: ownership goes to the engine, and no Python object
    remains for the collector (7 us a connection).
    """

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def connections(self, count: int) -> list[tuple[int, int, int]]:
        made: list[tuple[int, int, int]] = []
        for _ in range(count):
            try:
                connection: Any = SSL.Connection(self.context, None)
            except SSL.Error:
                if not made:
                    raise
                break  # what was made belongs to the engine already
            connection.set_accept_state()
            ssl, rbio, wbio = connection._ssl, connection._into_ssl, connection._from_ssl
            made.append((_address(ssl), _address(rbio), _address(wbio)))
            _ffi.gc(ssl, None)
        return made


def context_address(context: Any) -> int:
    """The ``SSL_CTX *`` of a pyOpenSSL Context as a number for the engine; valid while the Context lives."""
    return _address(context._context)


def store_address(store: Any) -> int:
    """The ``X509_STORE *`` of a pyOpenSSL X509Store, likewise."""
    return _address(store._store)


def _address(pointer: Any) -> int:
    return int(_ffi.cast("uintptr_t", pointer))
