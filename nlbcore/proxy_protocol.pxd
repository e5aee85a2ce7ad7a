# The PROXY protocol both ways: no socket, no Python object and no memory but the caller's; see proxy_protocol.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    PROXY_PATH = 108            # bytes of a UNIX address
    PROXY_LONGEST_LINE = 107    # of version 1, with its CRLF
    PROXY_FIXED = 16            # of version 2: what every header begins with
    PROXY_ADDRESSES = 216       # and the longest block of addresses behind it
    PROXY_LONGEST = 16 + 65535

cdef enum:                      # types of what may stand behind the addresses
    PP2_TYPE_ALPN = 0x01
    PP2_TYPE_AUTHORITY = 0x02
    PP2_TYPE_CRC32C = 0x03
    PP2_TYPE_UNIQUE_ID = 0x05
    PP2_TYPE_SSL = 0x20
    PP2_SUBTYPE_SSL_VERSION = 0x21
    PP2_SUBTYPE_SSL_CN = 0x22
    PP2_SUBTYPE_SSL_CIPHER = 0x23
    PP2_SUBTYPE_SSL_SIG_ALG = 0x24
    PP2_SUBTYPE_SSL_KEY_ALG = 0x25
    PP2_SUBTYPE_SSL_CLIENT_CERT = 0x28

    PP2_CLIENT_SSL = 0x01
    PP2_CLIENT_CERT_CONN = 0x02
    PP2_CLIENT_CERT_SESS = 0x04

cdef enum ProxyFamily:
    PROXY_UNKNOWN
    PROXY_INET
    PROXY_INET6
    PROXY_UNIX

cdef enum ProxyFault:
    PROXY_FINE
    PROXY_ABSENT                # another protocol
    PROXY_LINE                  # version 1 that is not well formed
    PROXY_LONG_LINE
    PROXY_VERSION
    PROXY_COMMAND
    PROXY_FAMILY
    PROXY_SHORT                 # no room for the addresses
    PROXY_TLV                   # a type-length-value that does not fit
    PROXY_CHECKSUM

cdef enum ProxyStage:
    PROXY_STARTS
    PROXY_IN_LINE
    PROXY_IN_FIXED
    PROXY_IN_ADDRESSES
    PROXY_IN_TYPE               # type and length of a TLV
    PROXY_IN_VALUE
    PROXY_SKIPS                 # what is left says nothing to us
    PROXY_DONE
    PROXY_FAILED

# Both ends of a connection; bytes and numbers as in memory of this machine but for the addresses (network order).
cdef struct ProxyEnds:
    ProxyFamily family
    uint16_t source_port
    uint16_t destination_port
    unsigned char source[PROXY_PATH]
    unsigned char destination[PROXY_PATH]

cdef struct ProxyParser:        # all zeros: ready for the first byte
    ProxyStage stage
    ProxyFault fault
    uint8_t version
    bint local                  # the sender's own connection, a health check of it: `ends` says nothing
    ProxyEnds ends
    uint8_t have                # bytes in `head`
    unsigned char head[PROXY_FIXED + PROXY_ADDRESSES]
    uint32_t left               # bytes of the header still to come
    uint8_t tlv_have
    unsigned char tlv[3]
    uint32_t tlv_left
    uint32_t crc                # of what has come
    uint32_t claimed            # by the header
    uint8_t summed              # it has a checksum

cdef struct ProxyWriter:
    unsigned char *data
    uint32_t limit
    uint32_t used
    uint32_t nest               # where the TLV begins that others are put into; 0: none

cdef size_t proxy_feed(ProxyParser *parser, const unsigned char *data, size_t size) noexcept nogil
cdef const char *proxy_fault(const ProxyParser *parser) noexcept nogil
cdef uint32_t proxy_line(unsigned char *out, const ProxyEnds *ends) noexcept nogil
cdef void proxy_begin(
    ProxyWriter *writer, unsigned char *out, uint32_t limit, bint local, const ProxyEnds *ends,
) noexcept nogil
cdef bint proxy_put(ProxyWriter *writer, uint8_t kind, const void *value, uint32_t size) noexcept nogil
cdef bint proxy_nest(ProxyWriter *writer, uint8_t kind) noexcept nogil
cdef bint proxy_raw(ProxyWriter *writer, const void *value, uint32_t size) noexcept nogil
cdef void proxy_unnest(ProxyWriter *writer) noexcept nogil
cdef uint32_t proxy_end(ProxyWriter *writer) noexcept nogil
