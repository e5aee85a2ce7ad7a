"""The PROXY header that a server is sent first of all: who the client is and, in version 2, what TLS knows of it.

Written anew for every server that is tried, as soon as it is connected: a protocol in which the server speaks first
gets it at once. A server that it cannot be written to is one that could not be connected to: another one is tried.

`verify` is 0 only for a client that has proven to hold a certificate which is good: not for one that `report` has let
in. CERT_CONN says that it was shown on this connection; CERT_SESS alone, that it was in the session which this one
resumes. No header is longer than the listener's limit: what has no room is left out, the certificate first.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset, strlen
from nlbcore.engine.buf cimport SCRATCH, plaintext
from nlbcore.engine.common_name cimport COMMON_NAME, common_name
from nlbcore.engine.linux.socket cimport (
    AF_INET, AF_INET6, AF_UNIX, getsockname, ipv4_mapped, ntohs, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage,
    sockaddr_un, socklen_t,
)
from nlbcore.engine.openssl cimport (
    ASN1_OBJECT, EVP_PKEY, EVP_PKEY_EC, EVP_PKEY_RSA, EVP_PKEY_RSA_PSS, TLSEXT_NAMETYPE_host_name, X509,
    X509_V_ERR_UNSPECIFIED, ossl,
)
from nlbcore.engine.slab cimport ANNOUNCE_CERTIFICATE, ANNOUNCE_LINE, ANNOUNCE_TLS, Session
from nlbcore.engine.transport cimport IO_ERROR
from nlbcore.proxy_protocol cimport (
    PP2_CLIENT_CERT_CONN, PP2_CLIENT_CERT_SESS, PP2_CLIENT_SSL, PP2_SUBTYPE_SSL_CIPHER, PP2_SUBTYPE_SSL_CLIENT_CERT,
    PP2_SUBTYPE_SSL_CN, PP2_SUBTYPE_SSL_KEY_ALG, PP2_SUBTYPE_SSL_SIG_ALG, PP2_SUBTYPE_SSL_VERSION, PP2_TYPE_ALPN,
    PP2_TYPE_AUTHORITY, PP2_TYPE_SSL, PP2_TYPE_UNIQUE_ID, PROXY_INET, PROXY_INET6, PROXY_PATH, PROXY_UNIX,
    PROXY_UNKNOWN, ProxyEnds, ProxyFamily, ProxyWriter, proxy_begin, proxy_end, proxy_line, proxy_nest, proxy_put,
    proxy_raw, proxy_unnest,
)

cdef enum:
    UNIQUE_ID = 128         # bytes that the specification allows


cdef void text(ProxyWriter *writer, int kind, const char *value) noexcept nogil:
    """A TLV of text; nothing for none."""
    if value != NULL and value[0] != 0:
        proxy_put(writer, <uint8_t>kind, value, <uint32_t>strlen(value))


# -- the ends of the connection ----------------------------------------------------------------------------------------

cdef ProxyFamily address_of(const sockaddr_storage *name, unsigned char *address, uint16_t *port) noexcept nogil:
    """Address and port in the header's form."""
    cdef const sockaddr_in *v4 = <const sockaddr_in *>name
    cdef const sockaddr_in6 *v6 = <const sockaddr_in6 *>name
    cdef const sockaddr_un *local = <const sockaddr_un *>name
    if name.ss_family == AF_INET:
        memcpy(address, &v4.sin_addr, 4)
        port[0] = ntohs(v4.sin_port)
        return PROXY_INET
    if name.ss_family == AF_INET6:
        port[0] = ntohs(v6.sin6_port)
        if ipv4_mapped(v6.sin6_addr.s6_addr):
            memcpy(address, v6.sin6_addr.s6_addr + 12, 4)
            return PROXY_INET
        memcpy(address, v6.sin6_addr.s6_addr, 16)
        return PROXY_INET6
    if name.ss_family == AF_UNIX:
        memcpy(address, local.sun_path, PROXY_PATH)
        return PROXY_UNIX
    return PROXY_UNKNOWN


cdef void ends_of(const Session *s, ProxyEnds *ends) noexcept nogil:
    """Of the client's connection: as a front balancer has told them, else as the kernel knows them."""
    cdef sockaddr_storage name
    cdef socklen_t size = sizeof(name)
    if s.forwarded != NULL:
        ends[0] = s.forwarded.ends
        return
    memset(ends, 0, sizeof(ProxyEnds))
    memset(&name, 0, sizeof(name))
    if getsockname(s.client.fd, <sockaddr *>&name, &size) != 0:
        return
    ends.family = address_of(&name, ends.destination, &ends.destination_port)
    # a client of a UNIX socket has no name, and none is what the zeros say
    if ends.family != PROXY_UNIX and address_of(&s.peer, ends.source, &ends.source_port) != ends.family:
        ends.family = PROXY_UNKNOWN


# -- TLS ---------------------------------------------------------------------------------------------------------------

cdef const char *version_text(int version) noexcept nogil:
    """As OpenSSL, and so HAProxy, spells it."""
    if version == 0x0304:
        return b"TLSv1.3"
    if version == 0x0303:
        return b"TLSv1.2"
    return b"TLSv1.1" if version == 0x0302 else b"TLSv1"


cdef void tell_server_certificate(const Session *s, ProxyWriter *writer) noexcept nogil:
    """How the certificate that we have shown is signed, and its key: "RSA-SHA256", "EC256"."""
    cdef char words[32]
    cdef const ASN1_OBJECT *algorithm = NULL
    cdef X509 *certificate = ossl.SSL_get_certificate(s.client.ssl)     # borrowed
    cdef EVP_PKEY *key
    cdef int kind, bits
    if certificate == NULL:
        return
    ossl.X509_ALGOR_get0(&algorithm, NULL, NULL, ossl.X509_get0_tbs_sigalg(certificate))
    text(writer, PP2_SUBTYPE_SSL_SIG_ALG, ossl.OBJ_nid2sn(ossl.OBJ_obj2nid(algorithm)))
    key = ossl.X509_get_pubkey(certificate)
    if key == NULL:
        return
    kind = ossl.EVP_PKEY_id(key)
    bits = ossl.EVP_PKEY_bits(key)
    ossl.EVP_PKEY_free(key)
    if kind == EVP_PKEY_RSA or kind == EVP_PKEY_RSA_PSS:
        snprintf(words, sizeof(words), b"RSA%d", bits)
    elif kind == EVP_PKEY_EC:
        snprintf(words, sizeof(words), b"EC%d", bits)
    else:
        snprintf(words, sizeof(words), b"%s", ossl.OBJ_nid2sn(kind))
    text(writer, PP2_SUBTYPE_SSL_KEY_ALG, words)


cdef void tell_client(const Session *s, ProxyWriter *writer) noexcept nogil:
    """PP2_TYPE_SSL; the client's certificate comes last, where it is what may have no room."""
    cdef unsigned char head[5]
    cdef char name[COMMON_NAME]
    cdef int size
    cdef uint32_t verify = X509_V_ERR_UNSPECIFIED
    memset(head, 0, sizeof(head))
    head[0] = PP2_CLIENT_SSL
    if s.identity != NULL and s.proven:
        verify = <uint32_t>s.verify_error
        head[0] |= PP2_CLIENT_CERT_SESS
        if not ossl.SSL_session_reused(s.client.ssl):
            head[0] |= PP2_CLIENT_CERT_CONN
    head[1], head[2] = <unsigned char>(verify >> 24), <unsigned char>(verify >> 16 & 0xFF)
    head[3], head[4] = <unsigned char>(verify >> 8 & 0xFF), <unsigned char>(verify & 0xFF)
    if not proxy_nest(writer, PP2_TYPE_SSL) or not proxy_raw(writer, head, sizeof(head)):
        return
    text(writer, PP2_SUBTYPE_SSL_VERSION, version_text(ossl.SSL_version(s.client.ssl)))
    text(writer, PP2_SUBTYPE_SSL_CIPHER, ossl.SSL_CIPHER_get_name(ossl.SSL_get_current_cipher(s.client.ssl)))
    tell_server_certificate(s, writer)
    if s.identity != NULL and s.proven:
        size = common_name(s.identity.der, s.identity.size, name)
        if size > 0:
            proxy_put(writer, PP2_SUBTYPE_SSL_CN, name, <uint32_t>size)
        if s.listener.announce == ANNOUNCE_CERTIFICATE and not proxy_put(
                writer, PP2_SUBTYPE_SSL_CLIENT_CERT, s.identity.der, s.identity.size):
            s.listener.counters.certificates_left_out += 1
    proxy_unnest(writer)


cdef void tell_tls(const Session *s, ProxyWriter *writer) noexcept nogil:
    cdef const unsigned char *protocol = NULL
    cdef unsigned int size = 0
    cdef char number[UNIQUE_ID]
    cdef int digits
    ossl.SSL_get0_alpn_selected(s.client.ssl, &protocol, &size)
    if size:
        proxy_put(writer, PP2_TYPE_ALPN, protocol, size)
    text(writer, PP2_TYPE_AUTHORITY, ossl.SSL_get_servername(s.client.ssl, TLSEXT_NAMETYPE_host_name))
    digits = snprintf(number, sizeof(number), b"%s/%llu", s.listener.node, <unsigned long long>s.id)
    if 0 < digits < UNIQUE_ID:
        proxy_put(writer, PP2_TYPE_UNIQUE_ID, number, <uint32_t>digits)
    tell_client(s, writer)


cdef int announce(Session *s) noexcept nogil:
    """Write the header to the server that has just been connected; 0, or -1 with the errno in s.server.error."""
    cdef ProxyEnds ends
    cdef ProxyWriter writer
    cdef uint32_t size
    ends_of(s, &ends)
    if s.listener.announce == ANNOUNCE_LINE:
        size = proxy_line(plaintext, &ends)
    else:
        proxy_begin(&writer, plaintext, min(s.listener.announce_limit, <uint32_t>SCRATCH), False, &ends)
        if s.listener.announce >= ANNOUNCE_TLS and s.client.ssl != NULL:
            tell_tls(s, &writer)
        size = proxy_end(&writer)
    return -1 if s.server.ops.write(&s.server, plaintext, <int>size) == IO_ERROR else 0
