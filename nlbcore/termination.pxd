# The one list of reasons why a connection ended; the words are in termination.pyx.

cpdef enum Termination:
    OPEN = 0
    # ended
    CLIENT_CLOSE
    SERVER_CLOSE
    IDLE_TIMEOUT
    DRAINED
    KILLED
    CLIENT_RESET
    SERVER_RESET
    TRUNCATED
    SHUTDOWN
    PROTOCOL_ERROR
    # refused client certificate
    NO_CERTIFICATE
    UNKNOWN_CA
    EXPIRED
    NOT_YET_VALID
    REVOKED
    CRL_OVERDUE
    CRL_MISSING
    WRONG_PURPOSE
    BAD_SIGNATURE
    CHAIN_TOO_LONG
    WEAK_KEY
    BAD_CERTIFICATE
    NOT_ALLOWED
    DENIED
    # refused later, on a live connection
    BECAME_REVOKED
    BECAME_EXPIRED
    BECAME_REFUSED
    # handshake
    NO_SHARED_CIPHER
    UNSUPPORTED_VERSION
    UNKNOWN_NAME
    NO_ALPN
    NOT_TLS
    HANDSHAKE_TIMEOUT
    HANDSHAKE_ERROR
    BAD_PROXY_HEADER
    CLIENT_ALERT
    # servers
    NO_SERVER
    CONNECT_TIMEOUT
    CONNECT_FAILED
    # limits
    CPS_LIMIT
    CONNECTION_LIMIT
    OVERLOAD
    # connected and left without a byte
    PROBE
