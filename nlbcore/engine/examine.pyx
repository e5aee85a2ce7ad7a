"""What a listener would say of a client certificate, found out by a handshake in memory that goes as far as that.

In TLS 1.2 a client sends its certificate in the clear, before it proves that it has the key, and the server verifies it
there and then. So a ClientHello and a Certificate message that are written here by hand bring a real SSL object, on the
listener's own context, to call the real callbacks: what `nlb explain` says is what the listener says, and no imitation.
Whoever is accepted is left waiting for a proof that never comes.
"""

from libc.stdlib cimport calloc, free
from libc.stdint cimport uintptr_t
from nlbcore.engine cimport callbacks
from nlbcore.engine.callbacks cimport judge_for, verdict_about
from nlbcore.engine.der cimport Cursor
from nlbcore.engine.identities cimport identity_drop
from nlbcore.engine.openssl cimport (
    BIO, SSL, SSL_CTX, SSL_ERROR_WANT_READ, X509_STORE, X509_V_OK, ossl, word_of_error, word_of_verify,
)
from nlbcore.engine.revoked cimport Table
from nlbcore.engine.rules cimport Rules, rules_reason
from nlbcore.engine.slab cimport Listener, Session

import os
import struct
from collections import namedtuple

from nlbcore.termination import word

Examined = namedtuple("Examined", "word, detail, verify_error, verify_depth, authority")

cdef enum:
    RECORD = 16384

_HANDSHAKE, _CLIENT_HELLO, _CERTIFICATE = 22, 1, 11
_TLS1_2 = b"\x03\x03"
_SUITES = (0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA9, 0xCCA8, 0xC009, 0xC00A, 0xC013, 0xC014, 0x00FF)
_SIGNATURES = (
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080A, 0x080B, 0x0401, 0x0501, 0x0601,
)
_GROUPS = (0x001D, 0x0017, 0x0018)


cdef int ask_clients(Listener *listener, object plan) except -1:
    """What the plan says of client certificates."""
    listener.verify = plan.verify
    listener.optional = plan.optional
    listener.report = plan.report
    if plan.revocations is not None:
        listener.revocations = (<Table?>plan.revocations).at
        listener.overdue_accepted = plan.overdue_accepted
    if plan.rules is not None:
        listener.rules = (<Rules?>plan.rules).at
        listener.rules_number = (<Rules>plan.rules).number
    listener.store = <X509_STORE *><uintptr_t>plan.store
    listener.depth = plan.depth
    listener.keep_live = plan.keep_live
    listener.keep_expired = plan.keep_expired
    return 0


def examine(plan, chain, at=None):
    """Show a certificate to a listener.

    Args:
        plan: a :class:`nlbcore.engine.hooks.ListenerPlan` whose front makes TLS 1.2 connections; what it says of
            client certificates and its fallback context count
        chain: DER, the client's certificate first, as the client would send them
        at: Unix seconds of another time that certificates and lists are judged by; the plan's store has it too
    Returns:
        the word ("open": it is accepted), what the log would say beside it, OpenSSL's or our verification result, the
        depth of the certificate in the chain that it is about, and the subject (DER) of that if it is a CA's
    Raises:
        RuntimeError: the handshake does not come so far
    """
    cdef Listener *listener = <Listener *>calloc(1, sizeof(Listener))
    cdef Session *s = <Session *>calloc(1, sizeof(Session))
    cdef BIO *into
    try:
        if listener == NULL or s == NULL:
            raise MemoryError
        ask_clients(listener, plan)
        listener.dated = at is not None
        listener.today = at or 0
        listener.fallback = <SSL_CTX *><uintptr_t>plan.fallback
        s.listener = listener
        ((ssl, rbio, _),) = plan.front.connections(1)
        s.client.ssl = <SSL *><uintptr_t>ssl
        into = <BIO *><uintptr_t>rbio
        if not _step(s, into, _records(_CLIENT_HELLO, _hello())):
            raise RuntimeError(f"no handshake: {_reason()}")
        return _examined(s, _step(s, into, _records(_CERTIFICATE, _certificates(chain))))
    finally:
        ossl.ERR_clear_error()
        if s != NULL:
            ossl.SSL_free(s.client.ssl)
            identity_drop(s.identity)
            free(s.authority)
        free(s)
        free(listener)


cdef bint _step(Session *s, BIO *into, bytes data):
    """Whether OpenSSL wants more after these bytes."""
    cdef int n
    ossl.ERR_clear_error()
    if ossl.BIO_write(into, <const char *>data, <int>len(data)) != len(data):
        raise MemoryError
    callbacks.current = s
    n = ossl.SSL_do_handshake(s.client.ssl)
    callbacks.current = NULL
    return ossl.SSL_get_error(s.client.ssl, n) == SSL_ERROR_WANT_READ


cdef object _examined(Session *s, bint accepted):
    cdef unsigned long error = ossl.ERR_peek_error()
    cdef Cursor authority
    if accepted and s.verify_error == X509_V_OK and s.identity != NULL:
        s.verify_error = judge_for(s.listener, s.identity)      # as after every handshake
    if s.verify_error != X509_V_OK:
        verdict_about(s, &authority)
        return Examined(word(word_of_verify(s.verify_error)), rules_reason(s.verify_error, s.identity).decode(),
                        s.verify_error, s.verify_depth, authority.at[:authority.end - authority.at])
    if accepted:
        return Examined("open", "", X509_V_OK, 0, b"")
    return Examined(word(word_of_error(error)), _reason(), X509_V_OK, 0, b"")


def _reason():
    cdef const char *text = ossl.ERR_reason_error_string(ossl.ERR_peek_error())
    return text.decode() if text != NULL else "no reason given"


def _records(kind, content):
    """A handshake message in as many records as it needs (RFC 5246, 6.2.1 and 7.4)."""
    message = bytes([kind]) + len(content).to_bytes(3, "big") + content
    parts = (message[at:at + RECORD] for at in range(0, len(message), RECORD))
    return b"".join(bytes([_HANDSHAKE]) + _TLS1_2 + struct.pack(">H", len(part)) + part for part in parts)


def _hello():
    """RFC 5246, 7.4.1.2; without a server name, so that the fallback context is used."""
    extensions = b"".join(
        struct.pack(">HH", kind, len(content)) + content
        for kind, content in ((10, _list(_GROUPS)), (11, b"\x01\x00"), (13, _list(_SIGNATURES))))
    return (_TLS1_2 + os.urandom(32) + b"\x00" + _list(_SUITES) + b"\x01\x00"
            + struct.pack(">H", len(extensions)) + extensions)


def _list(numbers):
    return struct.pack(f">H{len(numbers)}H", 2 * len(numbers), *numbers)


def _certificates(chain):
    """RFC 5246, 7.4.2"""
    listed = b"".join(len(der).to_bytes(3, "big") + der for der in chain)
    return len(listed).to_bytes(3, "big") + listed
