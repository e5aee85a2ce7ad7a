"""OpenSSL for the data plane: one table of C function pointers, and what OpenSSL's answers mean.

The ``cryptography`` wheel links OpenSSL statically and exports no symbols, so nothing can be linked against it. But
every function that its bindings know has an address that cffi can tell. ``load()`` takes each one, compares the C type
that the bindings declare with the one this table was written for, and refuses to go on when one is missing or has
changed: a wrong call would corrupt memory. From then on the engine calls OpenSSL without the GIL and without Python.

The meanings are here and nowhere else: verification results and error reasons become words of the termination list.
"""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset
from nlbcore.engine.linux.clock cimport timegm, tm
from nlbcore.termination cimport (
    BAD_CERTIFICATE, BAD_SIGNATURE, CHAIN_TOO_LONG, CLIENT_ALERT, CRL_MISSING, CRL_OVERDUE, DENIED, EXPIRED,
    HANDSHAKE_ERROR, NOT_ALLOWED, NOT_TLS, NOT_YET_VALID, NO_ALPN, NO_CERTIFICATE, NO_SHARED_CIPHER, OPEN, REVOKED,
    UNKNOWN_CA, UNSUPPORTED_VERSION, WEAK_KEY, WRONG_PURPOSE,
)

import importlib.metadata

from nlbcore.errors import StartError


def _versions():
    installed = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("cryptography", "pyOpenSSL"))
    return f"{installed} are installed"


cdef void *_function(str name, str declared) except NULL:
    """The address of one function of the bindings, its C type checked."""
    from cryptography.hazmat.bindings._rust import _openssl
    try:
        pointer = _openssl.ffi.addressof(_openssl.lib, name)
    except AttributeError:
        raise StartError(f"the OpenSSL bindings lack {name}; {_versions()}") from None
    found = _openssl.ffi.typeof(pointer).cname
    if found != declared:
        raise StartError(f"the OpenSSL bindings declare {name} as {found!r}, not {declared!r}; {_versions()}")
    return <void *><uintptr_t>int(_openssl.ffi.cast("uintptr_t", pointer))


def load():
    """Fill the table. Done when the module is imported. Long because it is the list of all functions.

    Raises:
        StartError: a function is missing or its C type is not the expected one; names it and the installed versions.
    """
    global sha256
    (<void **>&ossl.SSL_free)[0] = _function("SSL_free", "void(*)(SSL *)")
    (<void **>&ossl.SSL_do_handshake)[0] = _function("SSL_do_handshake", "int(*)(SSL *)")
    (<void **>&ossl.SSL_read)[0] = _function("SSL_read", "int(*)(SSL *, void *, int)")
    (<void **>&ossl.SSL_write)[0] = _function("SSL_write", "int(*)(SSL *, void *, int)")
    (<void **>&ossl.SSL_pending)[0] = _function("SSL_pending", "int(*)(SSL *)")
    (<void **>&ossl.SSL_shutdown)[0] = _function("SSL_shutdown", "int(*)(SSL *)")
    (<void **>&ossl.SSL_set_shutdown)[0] = _function("SSL_set_shutdown", "void(*)(SSL *, int)")
    (<void **>&ossl.SSL_get_shutdown)[0] = _function("SSL_get_shutdown", "int(*)(SSL *)")
    (<void **>&ossl.SSL_get_error)[0] = _function("SSL_get_error", "int(*)(SSL *, int)")
    (<void **>&ossl.SSL_set_options)[0] = _function("SSL_set_options", "uint64_t(*)(SSL *, uint64_t)")
    (<void **>&ossl.SSL_clear_mode)[0] = _function("SSL_clear_mode", "long(*)(SSL *, long)")
    (<void **>&ossl.SSL_set_bio)[0] = _function("SSL_set_bio", "void(*)(SSL *, BIO *, BIO *)")
    (<void **>&ossl.SSL_set_info_callback)[0] = _function(
        "SSL_set_info_callback", "void(*)(SSL *, void(*)(SSL *, int, int))")
    (<void **>&ossl.SSL_version)[0] = _function("SSL_version", "int(*)(SSL *)")
    (<void **>&ossl.SSL_session_reused)[0] = _function("SSL_session_reused", "int(*)(SSL *)")
    (<void **>&ossl.SSL_get_current_cipher)[0] = _function("SSL_get_current_cipher", "SSL_CIPHER *(*)(SSL *)")
    (<void **>&ossl.SSL_CIPHER_get_name)[0] = _function("SSL_CIPHER_get_name", "char *(*)(SSL_CIPHER *)")
    (<void **>&ossl.SSL_get0_group_name)[0] = _function("SSL_get0_group_name", "char *(*)(SSL *)")
    (<void **>&ossl.SSL_get0_alpn_selected)[0] = _function(
        "SSL_get0_alpn_selected", "void(*)(SSL *, unsigned char * *, unsigned int *)")
    (<void **>&ossl.SSL_get_servername)[0] = _function("SSL_get_servername", "char *(*)(SSL *, int)")
    (<void **>&ossl.SSL_set_SSL_CTX)[0] = _function("SSL_set_SSL_CTX", "SSL_CTX *(*)(SSL *, SSL_CTX *)")
    (<void **>&ossl.SSL_set_verify)[0] = _function(
        "SSL_set_verify", "void(*)(SSL *, int, int(*)(int, X509_STORE_CTX *))")
    (<void **>&ossl.SSL_get_certificate)[0] = _function("SSL_get_certificate", "X509 *(*)(SSL *)")
    (<void **>&ossl.SSL_get_peer_certificate)[0] = _function("SSL_get_peer_certificate", "X509 *(*)(SSL *)")
    (<void **>&ossl.SSL_get_peer_cert_chain)[0] = _function(
        "SSL_get_peer_cert_chain", "Cryptography_STACK_OF_X509 *(*)(SSL *)")
    (<void **>&ossl.SSL_get_verify_result)[0] = _function("SSL_get_verify_result", "long(*)(SSL *)")
    (<void **>&ossl.X509_free)[0] = _function("X509_free", "void(*)(X509 *)")
    (<void **>&ossl.X509_get_subject_name)[0] = _function("X509_get_subject_name", "X509_NAME *(*)(X509 *)")
    (<void **>&ossl.i2d_X509_NAME)[0] = _function("i2d_X509_NAME", "int(*)(X509_NAME *, unsigned char * *)")
    (<void **>&ossl.X509_NAME_entry_count)[0] = _function("X509_NAME_entry_count", "int(*)(X509_NAME *)")
    (<void **>&ossl.X509_get_version)[0] = _function("X509_get_version", "long(*)(X509 *)")
    (<void **>&ossl.X509_digest)[0] = _function(
        "X509_digest", "int(*)(X509 *, EVP_MD *, unsigned char *, unsigned int *)")
    (<void **>&ossl.i2d_X509_bio)[0] = _function("i2d_X509_bio", "int(*)(BIO *, X509 *)")
    (<void **>&ossl.X509_getm_notBefore)[0] = _function("X509_getm_notBefore", "ASN1_TIME *(*)(X509 *)")
    (<void **>&ossl.X509_getm_notAfter)[0] = _function("X509_getm_notAfter", "ASN1_TIME *(*)(X509 *)")
    (<void **>&ossl.X509_get_pubkey)[0] = _function("X509_get_pubkey", "EVP_PKEY *(*)(X509 *)")
    (<void **>&ossl.X509_get0_tbs_sigalg)[0] = _function("X509_get0_tbs_sigalg", "X509_ALGOR *(*)(X509 *)")
    (<void **>&ossl.X509_ALGOR_get0)[0] = _function(
        "X509_ALGOR_get0", "void(*)(ASN1_OBJECT * *, int *, void * *, X509_ALGOR *)")
    (<void **>&ossl.OBJ_obj2nid)[0] = _function("OBJ_obj2nid", "int(*)(ASN1_OBJECT *)")
    (<void **>&ossl.OBJ_nid2sn)[0] = _function("OBJ_nid2sn", "char *(*)(int)")
    (<void **>&ossl.EVP_PKEY_id)[0] = _function("EVP_PKEY_id", "int(*)(EVP_PKEY *)")
    (<void **>&ossl.EVP_PKEY_bits)[0] = _function("EVP_PKEY_bits", "int(*)(EVP_PKEY *)")
    (<void **>&ossl.EVP_PKEY_free)[0] = _function("EVP_PKEY_free", "void(*)(EVP_PKEY *)")
    (<void **>&ossl.EVP_get_digestbyname)[0] = _function("EVP_get_digestbyname", "EVP_MD *(*)(char *)")
    (<void **>&ossl.ASN1_STRING_length)[0] = _function("ASN1_STRING_length", "int(*)(ASN1_STRING *)")
    (<void **>&ossl.ASN1_STRING_get0_data)[0] = _function("ASN1_STRING_get0_data", "unsigned char *(*)(ASN1_STRING *)")
    (<void **>&ossl.X509_STORE_CTX_new)[0] = _function("X509_STORE_CTX_new", "X509_STORE_CTX *(*)()")
    (<void **>&ossl.X509_STORE_CTX_init)[0] = _function(
        "X509_STORE_CTX_init", "int(*)(X509_STORE_CTX *, X509_STORE *, X509 *, Cryptography_STACK_OF_X509 *)")
    (<void **>&ossl.X509_verify_cert)[0] = _function("X509_verify_cert", "int(*)(X509_STORE_CTX *)")
    (<void **>&ossl.X509_STORE_CTX_free)[0] = _function("X509_STORE_CTX_free", "void(*)(X509_STORE_CTX *)")
    (<void **>&ossl.X509_STORE_CTX_get0_cert)[0] = _function("X509_STORE_CTX_get0_cert", "X509 *(*)(X509_STORE_CTX *)")
    (<void **>&ossl.X509_STORE_CTX_get_current_cert)[0] = _function(
        "X509_STORE_CTX_get_current_cert", "X509 *(*)(X509_STORE_CTX *)")
    (<void **>&ossl.X509_STORE_CTX_get_error)[0] = _function("X509_STORE_CTX_get_error", "int(*)(X509_STORE_CTX *)")
    (<void **>&ossl.X509_STORE_CTX_get_error_depth)[0] = _function(
        "X509_STORE_CTX_get_error_depth", "int(*)(X509_STORE_CTX *)")
    (<void **>&ossl.X509_STORE_CTX_set_error)[0] = _function(
        "X509_STORE_CTX_set_error", "void(*)(X509_STORE_CTX *, int)")
    (<void **>&ossl.X509_STORE_CTX_get1_chain)[0] = _function(
        "X509_STORE_CTX_get1_chain", "Cryptography_STACK_OF_X509 *(*)(X509_STORE_CTX *)")
    (<void **>&ossl.sk_X509_num)[0] = _function("sk_X509_num", "int(*)(Cryptography_STACK_OF_X509 *)")
    (<void **>&ossl.sk_X509_value)[0] = _function("sk_X509_value", "X509 *(*)(Cryptography_STACK_OF_X509 *, int)")
    (<void **>&ossl.sk_X509_free)[0] = _function("sk_X509_free", "void(*)(Cryptography_STACK_OF_X509 *)")
    (<void **>&ossl.X509_verify_cert_error_string)[0] = _function("X509_verify_cert_error_string", "char *(*)(long)")
    (<void **>&ossl.BIO_new)[0] = _function("BIO_new", "BIO *(*)(BIO_METHOD *)")
    (<void **>&ossl.BIO_s_mem)[0] = _function("BIO_s_mem", "BIO_METHOD *(*)()")
    (<void **>&ossl.BIO_new_mem_buf)[0] = _function("BIO_new_mem_buf", "BIO *(*)(void *, int)")
    (<void **>&ossl.BIO_set_mem_eof_return)[0] = _function("BIO_set_mem_eof_return", "long(*)(BIO *, int)")
    (<void **>&ossl.BIO_free)[0] = _function("BIO_free", "int(*)(BIO *)")
    (<void **>&ossl.BIO_read)[0] = _function("BIO_read", "int(*)(BIO *, void *, int)")
    (<void **>&ossl.BIO_write)[0] = _function("BIO_write", "int(*)(BIO *, void *, int)")
    (<void **>&ossl.BIO_get_mem_data)[0] = _function("BIO_get_mem_data", "long(*)(BIO *, char * *)")
    (<void **>&ossl.ERR_clear_error)[0] = _function("ERR_clear_error", "void(*)()")
    (<void **>&ossl.ERR_peek_error)[0] = _function("ERR_peek_error", "unsigned long(*)()")
    (<void **>&ossl.ERR_reason_error_string)[0] = _function("ERR_reason_error_string", "char *(*)(unsigned long)")
    sha256 = ossl.EVP_get_digestbyname(b"SHA256")
    if sha256 == NULL:
        raise StartError(f"the OpenSSL in use has no SHA-256; {_versions()}")


cdef enum:      # reason codes of sslerr.h; library, type and object numbers of err.h, asn1.h, obj_mac.h
    SSL_R_BAD_SIGNATURE = 123
    SSL_R_HTTPS_PROXY_REQUEST = 155
    SSL_R_HTTP_REQUEST = 156
    SSL_R_NO_SHARED_CIPHER = 193
    SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE = 199
    SSL_R_NO_APPLICATION_PROTOCOL = 235
    SSL_R_UNSUPPORTED_PROTOCOL = 258
    SSL_R_WRONG_SSL_VERSION = 266
    SSL_R_WRONG_VERSION_NUMBER = 267
    SSL_R_VERSION_TOO_HIGH = 166
    SSL_R_VERSION_TOO_LOW = 396
    SSL_R_UNKNOWN_PROTOCOL = 252
    SSL_R_INAPPROPRIATE_FALLBACK = 373
    SSL_R_NO_PROTOCOLS_AVAILABLE = 191
    SSL_R_CERTIFICATE_VERIFY_FAILED = 134
    SSL_R_NO_SUITABLE_KEY_SHARE = 101
    SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM = 118
    SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS = 376
    SSL_R_ALERT = 1000              # a received alert N, of one byte, is reason 1000 + N
    EVP_R_PROVIDER_SIGNATURE_FAILURE = 234
    RSA_R_BAD_SIGNATURE = 104
    ERR_LIB_RSA = 4
    ERR_LIB_EVP = 6
    ERR_LIB_ASN1 = 13
    ERR_LIB_X509 = 11
    ERR_LIB_EC = 16
    ERR_LIB_SSL = 20

    V_ASN1_SEQUENCE = 16
    NID_md2WithRSA = 7
    NID_md5WithRSA = 8
    NID_sha1WithRSA = 65
    NID_dsaWithSHA = 66
    NID_dsaWithSHA1Oiw = 70
    NID_md5WithRSAOiw = 104
    NID_dsaWithSHA1 = 113
    NID_sha1WithRSAOiw = 115
    NID_md4WithRSA = 396
    NID_ecdsaWithSHA1 = 416
    NID_rsassaPss = 912


cdef int reason_of(unsigned long error) noexcept nogil:
    """ERR_GET_REASON: the low 23 bits; a system error (bit 31) has none."""
    if error & 0x80000000U:
        return 0
    return <int>(error & 0x7FFFFF)


cdef int library_of(unsigned long error) noexcept nogil:
    if error & 0x80000000U:
        return 0
    return <int>((error >> 23) & 0xFF)


cdef int word_of_verify(long result) noexcept nogil:
    """The termination word for a verification result (X509_V_ERR_*, x509_vfy.h)."""
    if result == 0:
        return OPEN
    if result in (2, 18, 19, 20, 21, 27):   # no issuer to be found, or one that is not trusted
        return UNKNOWN_CA
    if result == 3:
        return CRL_MISSING
    if result == 7:
        return BAD_SIGNATURE
    if result in (9, 11):
        return NOT_YET_VALID
    if result == 10:
        return EXPIRED
    if result == 12:
        return CRL_OVERDUE
    if result in (22, 25):                  # our depth; the issuer's path length
        return CHAIN_TOO_LONG
    if result == 23:
        return REVOKED
    if result in (26, 28, 24, 32, 79):      # the purpose; a signer that is no CA or may not sign certificates
        return WRONG_PURPOSE
    if result in (66, 67, 68):
        return WEAK_KEY
    if result == 1001:                      # ours, of rules.pxd
        return NOT_ALLOWED
    if result == 1002:
        return DENIED
    return BAD_CERTIFICATE


cdef int word_of_error(unsigned long error) noexcept nogil:
    """The termination word for a failed handshake, from the first entry of OpenSSL's error queue."""
    cdef int library = library_of(error)
    cdef int reason = reason_of(error)
    if library == ERR_LIB_SSL:
        if SSL_R_ALERT < reason <= SSL_R_ALERT + 255:   # above those: ERR_R_INTERNAL_ERROR and its like
            return CLIENT_ALERT
        if reason in (SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SUITABLE_KEY_SHARE, SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM,
                      SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS):
            return NO_SHARED_CIPHER
        if reason in (SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_WRONG_SSL_VERSION, SSL_R_WRONG_VERSION_NUMBER,
                      SSL_R_VERSION_TOO_HIGH, SSL_R_VERSION_TOO_LOW, SSL_R_UNKNOWN_PROTOCOL,
                      SSL_R_INAPPROPRIATE_FALLBACK, SSL_R_NO_PROTOCOLS_AVAILABLE):
            return UNSUPPORTED_VERSION
        if reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
            return NO_CERTIFICATE
        if reason == SSL_R_BAD_SIGNATURE:   # CertificateVerify: the client does not hold the key
            return BAD_SIGNATURE
        if reason == SSL_R_NO_APPLICATION_PROTOCOL:
            return NO_ALPN
        if reason in (SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST):
            return NOT_TLS
        if reason == SSL_R_CERTIFICATE_VERIFY_FAILED:
            return BAD_CERTIFICATE
    elif (library == ERR_LIB_EVP and reason == EVP_R_PROVIDER_SIGNATURE_FAILURE
            or library == ERR_LIB_RSA and reason == RSA_R_BAD_SIGNATURE):
        return BAD_SIGNATURE                # of CertificateVerify, as the algorithm itself says it
    elif library in (ERR_LIB_ASN1, ERR_LIB_X509, ERR_LIB_EC):
        return BAD_CERTIFICATE              # the certificate message could not be decoded
    return HANDSHAKE_ERROR


cdef int two(const unsigned char *at) noexcept nogil:
    return (at[0] - 48) * 10 + (at[1] - 48)


cdef int64_t unix_time(const ASN1_STRING *value) noexcept nogil:
    """Seconds since 1970 of a certificate's date: UTCTime or GeneralizedTime ending in Z (RFC 5280, 4.1.2.5).

    -1 for anything else; OpenSSL has refused such a certificate before it gets here.
    """
    cdef int size = ossl.ASN1_STRING_length(value)
    cdef const unsigned char *text = ossl.ASN1_STRING_get0_data(value)
    cdef tm broken
    memset(&broken, 0, sizeof(broken))
    if size == 13:
        broken.tm_year = two(text) + (100 if two(text) < 50 else 0)
    elif size == 15:
        broken.tm_year = two(text) * 100 + two(text + 2) - 1900
        text += 2
    else:
        return -1
    broken.tm_mon = two(text + 2) - 1
    broken.tm_mday = two(text + 4)
    broken.tm_hour = two(text + 6)
    broken.tm_min = two(text + 8)
    broken.tm_sec = two(text + 10)
    return timegm(&broken)


cdef bint weak_key(X509 *certificate) noexcept nogil:
    """Our own rule, because the security level comes from the cipher string and may be 0: RSA below 2048 bits,
    elliptic curves below 224, DSA at any size (TLS 1.3 and FIPS 186-5 have it no more)."""
    cdef EVP_PKEY *key = ossl.X509_get_pubkey(certificate)
    if key == NULL:
        return True
    cdef int kind = ossl.EVP_PKEY_id(key)
    cdef int bits = ossl.EVP_PKEY_bits(key)
    ossl.EVP_PKEY_free(key)
    if kind == EVP_PKEY_DSA:
        return True
    if kind in (EVP_PKEY_RSA, EVP_PKEY_RSA_PSS):
        return bits < 2048
    return bits < 224


cdef bint weak_signature(const X509 *certificate) noexcept nogil:
    """True for a signature over MD5 or SHA-1 (numbers of obj_mac.h). RSA-PSS names its hash in its parameters, SHA-1
    when they do not start with one (RFC 4055, 3.1)."""
    cdef const ASN1_OBJECT *algorithm = NULL
    cdef const void *parameters = NULL
    cdef int kind = 0
    cdef const unsigned char *der
    ossl.X509_ALGOR_get0(&algorithm, &kind, &parameters, ossl.X509_get0_tbs_sigalg(certificate))
    cdef int nid = ossl.OBJ_obj2nid(algorithm)
    if nid in (NID_md2WithRSA, NID_md4WithRSA, NID_md5WithRSA, NID_md5WithRSAOiw, NID_sha1WithRSA, NID_sha1WithRSAOiw,
               NID_dsaWithSHA, NID_dsaWithSHA1, NID_dsaWithSHA1Oiw, NID_ecdsaWithSHA1):
        return True
    if nid != NID_rsassaPss:
        return False
    if kind != V_ASN1_SEQUENCE or ossl.ASN1_STRING_length(<const ASN1_STRING *>parameters) < 13:
        return True
    der = ossl.ASN1_STRING_get0_data(<const ASN1_STRING *>parameters)
    if der[2] != 0xA0:
        return True
    return der[8] == 0x2B and der[9] == 0x0E and der[10] == 0x03 and der[11] == 0x02 and der[12] == 0x1A   # SHA-1


load()
