"""What a TLS client needs of OpenSSL beside the engine's table, taken and checked the same way
(nlbcore.engine.openssl)."""

from nlbcore.engine.openssl cimport _function


def load():
    """Fill the table. Done when the module is imported.

    Raises:
        StartError: a function is missing or its C type is not the expected one.
    """
    (<void **>&cssl.SSL_new)[0] = _function("SSL_new", "SSL *(*)(SSL_CTX *)")
    (<void **>&cssl.SSL_set_connect_state)[0] = _function("SSL_set_connect_state", "void(*)(SSL *)")
    (<void **>&cssl.SSL_set_tlsext_host_name)[0] = _function(
        "SSL_set_tlsext_host_name", "void(*)(SSL *, char *)")
    (<void **>&cssl.SSL_set_mode)[0] = _function("SSL_set_mode", "long(*)(SSL *, long)")
    (<void **>&cssl.SSL_set_session)[0] = _function("SSL_set_session", "int(*)(SSL *, SSL_SESSION *)")
    (<void **>&cssl.SSL_get1_session)[0] = _function("SSL_get1_session", "SSL_SESSION *(*)(SSL *)")
    (<void **>&cssl.SSL_SESSION_free)[0] = _function("SSL_SESSION_free", "void(*)(SSL_SESSION *)")
    (<void **>&cssl.SSL_get_version)[0] = _function("SSL_get_version", "char *(*)(SSL *)")


load()
