# OpenSSL as cryptography's bindings carry it: a table of typed function pointers; see openssl.pyx.
from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    typedef struct ssl_st SSL;
    typedef struct ssl_ctx_st SSL_CTX;
    typedef struct bio_st BIO;
    typedef struct bio_method_st BIO_METHOD;
    typedef struct x509_st X509;
    typedef struct X509_name_st X509_NAME;
    typedef struct x509_store_ctx_st X509_STORE_CTX;
    typedef struct x509_store_st X509_STORE;
    typedef struct X509_algor_st X509_ALGOR;
    typedef struct stack_st_X509 STACK_OF_X509;
    typedef struct evp_pkey_st EVP_PKEY;
    typedef struct evp_md_st EVP_MD;
    typedef struct ssl_cipher_st SSL_CIPHER;
    typedef struct asn1_string_st ASN1_STRING;
    typedef struct asn1_object_st ASN1_OBJECT;
    """
    ctypedef struct SSL:
        pass
    ctypedef struct SSL_CTX:
        pass
    ctypedef struct BIO:
        pass
    ctypedef struct BIO_METHOD:
        pass
    ctypedef struct X509:
        pass
    ctypedef struct X509_NAME:
        pass
    ctypedef struct X509_STORE_CTX:
        pass
    ctypedef struct X509_STORE:
        pass
    ctypedef struct X509_ALGOR:
        pass
    ctypedef struct STACK_OF_X509:
        pass
    ctypedef struct EVP_PKEY:
        pass
    ctypedef struct EVP_MD:
        pass
    ctypedef struct SSL_CIPHER:
        pass
    ctypedef struct ASN1_STRING:
        pass
    ctypedef struct ASN1_OBJECT:
        pass

# The numbers below are part of OpenSSL's stable interface (ssl.h, x509_vfy.h, sslerr.h, obj_mac.h).
cdef enum:
    SSL_ERROR_NONE = 0
    SSL_ERROR_SSL = 1
    SSL_ERROR_WANT_READ = 2
    SSL_ERROR_WANT_WRITE = 3
    SSL_ERROR_SYSCALL = 5
    SSL_ERROR_ZERO_RETURN = 6

    SSL_CB_LOOP = 1
    SSL_SENT_SHUTDOWN = 1
    SSL_RECEIVED_SHUTDOWN = 2
    SSL_VERIFY_NONE = 0
    SSL_VERIFY_PEER = 1
    SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2
    SSL_MODE_AUTO_RETRY = 4
    SSL_OP_NO_TICKET = 1 << 14
    SSL_TLSEXT_ERR_OK = 0
    SSL_TLSEXT_ERR_ALERT_FATAL = 2
    SSL_TLSEXT_ERR_NOACK = 3
    TLSEXT_NAMETYPE_host_name = 0

    SSL_AD_BAD_CERTIFICATE = 42
    SSL_AD_CERTIFICATE_REVOKED = 44
    SSL_AD_CERTIFICATE_EXPIRED = 45
    SSL_AD_CERTIFICATE_UNKNOWN = 46
    SSL_AD_UNKNOWN_CA = 48
    SSL_AD_INTERNAL_ERROR = 80
    SSL_AD_UNRECOGNIZED_NAME = 112

    X509_V_OK = 0
    X509_V_ERR_UNSPECIFIED = 1
    X509_V_ERR_CERT_SIGNATURE_FAILURE = 7
    X509_V_ERR_CERT_NOT_YET_VALID = 9
    X509_V_ERR_CERT_HAS_EXPIRED = 10
    X509_V_ERR_CRL_HAS_EXPIRED = 12
    X509_V_ERR_UNABLE_TO_GET_CRL = 3
    X509_V_ERR_CERT_CHAIN_TOO_LONG = 22
    X509_V_ERR_CERT_REVOKED = 23
    X509_V_ERR_INVALID_PURPOSE = 26
    X509_V_ERR_EXCLUDED_VIOLATION = 48
    X509_V_ERR_UNSUPPORTED_NAME_SYNTAX = 53
    X509_V_ERR_EE_KEY_TOO_SMALL = 66
    X509_V_ERR_SUBJECT_NAME_EMPTY = 84
    X509_V_ERR_CA_KEY_TOO_SMALL = 67
    X509_V_ERR_CA_MD_TOO_WEAK = 68

    EVP_PKEY_RSA = 6
    EVP_PKEY_DSA = 116
    EVP_PKEY_EC = 408
    EVP_PKEY_RSA_PSS = 912

cdef struct OpenSSL:
    # a connection
    void (*SSL_free)(SSL *) noexcept nogil
    int (*SSL_do_handshake)(SSL *) noexcept nogil
    int (*SSL_read)(SSL *, void *, int) noexcept nogil
    int (*SSL_write)(SSL *, const void *, int) noexcept nogil
    int (*SSL_pending)(const SSL *) noexcept nogil
    int (*SSL_shutdown)(SSL *) noexcept nogil
    void (*SSL_set_shutdown)(SSL *, int) noexcept nogil
    int (*SSL_get_shutdown)(const SSL *) noexcept nogil
    int (*SSL_get_error)(const SSL *, int) noexcept nogil
    uint64_t (*SSL_set_options)(SSL *, uint64_t) noexcept nogil
    long (*SSL_clear_mode)(SSL *, long) noexcept nogil
    void (*SSL_set_bio)(SSL *, BIO *, BIO *) noexcept nogil
    void (*SSL_set_info_callback)(SSL *, void (*)(SSL *, int, int) noexcept nogil) noexcept nogil
    # what was negotiated
    int (*SSL_version)(const SSL *) noexcept nogil
    int (*SSL_session_reused)(SSL *) noexcept nogil
    const SSL_CIPHER *(*SSL_get_current_cipher)(const SSL *) noexcept nogil
    const char *(*SSL_CIPHER_get_name)(const SSL_CIPHER *) noexcept nogil
    const char *(*SSL_get0_group_name)(SSL *) noexcept nogil
    void (*SSL_get0_alpn_selected)(const SSL *, const unsigned char **, unsigned int *) noexcept nogil
    const char *(*SSL_get_servername)(const SSL *, int) noexcept nogil
    # switching to the context of a server name
    SSL_CTX *(*SSL_set_SSL_CTX)(SSL *, SSL_CTX *) noexcept nogil
    void (*SSL_set_verify)(SSL *, int, int (*)(int, X509_STORE_CTX *) noexcept nogil) noexcept nogil
    # the certificates
    X509 *(*SSL_get_certificate)(const SSL *) noexcept nogil
    X509 *(*SSL_get_peer_certificate)(const SSL *) noexcept nogil
    STACK_OF_X509 *(*SSL_get_peer_cert_chain)(const SSL *) noexcept nogil
    long (*SSL_get_verify_result)(const SSL *) noexcept nogil
    void (*X509_free)(X509 *) noexcept nogil
    long (*X509_get_version)(const X509 *) noexcept nogil
    X509_NAME *(*X509_get_subject_name)(const X509 *) noexcept nogil
    int (*i2d_X509_NAME)(X509_NAME *, unsigned char **) noexcept nogil
    int (*X509_NAME_entry_count)(const X509_NAME *) noexcept nogil
    int (*X509_digest)(const X509 *, const EVP_MD *, unsigned char *, unsigned int *) noexcept nogil
    int (*i2d_X509_bio)(BIO *, X509 *) noexcept nogil
    ASN1_STRING *(*X509_getm_notBefore)(const X509 *) noexcept nogil
    ASN1_STRING *(*X509_getm_notAfter)(const X509 *) noexcept nogil
    EVP_PKEY *(*X509_get_pubkey)(X509 *) noexcept nogil
    X509_ALGOR *(*X509_get0_tbs_sigalg)(const X509 *) noexcept nogil
    void (*X509_ALGOR_get0)(const ASN1_OBJECT **, int *, const void **, const X509_ALGOR *) noexcept nogil
    int (*OBJ_obj2nid)(const ASN1_OBJECT *) noexcept nogil
    const char *(*OBJ_nid2sn)(int) noexcept nogil
    int (*EVP_PKEY_id)(const EVP_PKEY *) noexcept nogil
    int (*EVP_PKEY_bits)(const EVP_PKEY *) noexcept nogil
    void (*EVP_PKEY_free)(EVP_PKEY *) noexcept nogil
    const EVP_MD *(*EVP_get_digestbyname)(const char *) noexcept nogil
    int (*ASN1_STRING_length)(const ASN1_STRING *) noexcept nogil
    const unsigned char *(*ASN1_STRING_get0_data)(const ASN1_STRING *) noexcept nogil
    # a verification of ours
    X509_STORE_CTX *(*X509_STORE_CTX_new)() noexcept nogil
    int (*X509_STORE_CTX_init)(X509_STORE_CTX *, X509_STORE *, X509 *, STACK_OF_X509 *) noexcept nogil
    int (*X509_verify_cert)(X509_STORE_CTX *) noexcept nogil
    void (*X509_STORE_CTX_free)(X509_STORE_CTX *) noexcept nogil
    # a verification in progress
    X509 *(*X509_STORE_CTX_get0_cert)(const X509_STORE_CTX *) noexcept nogil
    X509 *(*X509_STORE_CTX_get_current_cert)(const X509_STORE_CTX *) noexcept nogil
    int (*X509_STORE_CTX_get_error)(const X509_STORE_CTX *) noexcept nogil
    int (*X509_STORE_CTX_get_error_depth)(const X509_STORE_CTX *) noexcept nogil
    void (*X509_STORE_CTX_set_error)(X509_STORE_CTX *, int) noexcept nogil
    STACK_OF_X509 *(*X509_STORE_CTX_get1_chain)(const X509_STORE_CTX *) noexcept nogil
    int (*sk_X509_num)(STACK_OF_X509 *) noexcept nogil
    X509 *(*sk_X509_value)(STACK_OF_X509 *, int) noexcept nogil
    void (*sk_X509_free)(STACK_OF_X509 *) noexcept nogil
    const char *(*X509_verify_cert_error_string)(long) noexcept nogil
    # memory BIOs
    BIO *(*BIO_new)(const BIO_METHOD *) noexcept nogil
    const BIO_METHOD *(*BIO_s_mem)() noexcept nogil
    BIO *(*BIO_new_mem_buf)(const void *, int) noexcept nogil
    long (*BIO_set_mem_eof_return)(BIO *, int) noexcept nogil
    int (*BIO_free)(BIO *) noexcept nogil
    int (*BIO_read)(BIO *, void *, int) noexcept nogil
    int (*BIO_write)(BIO *, const void *, int) noexcept nogil
    long (*BIO_get_mem_data)(BIO *, char **) noexcept nogil
    # errors
    void (*ERR_clear_error)() noexcept nogil
    unsigned long (*ERR_peek_error)() noexcept nogil
    const char *(*ERR_reason_error_string)(unsigned long) noexcept nogil

cdef OpenSSL ossl
cdef const EVP_MD *sha256

cdef void *_function(str name, str declared) except NULL
cdef int reason_of(unsigned long error) noexcept nogil
cdef int word_of_verify(long result) noexcept nogil
cdef int word_of_error(unsigned long error) noexcept nogil
cdef int64_t unix_time(const ASN1_STRING *value) noexcept nogil
cdef bint weak_signature(const X509 *certificate) noexcept nogil
cdef bint weak_key(X509 *certificate) noexcept nogil
