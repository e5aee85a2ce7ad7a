"""The PROXY protocol, versions 1 and 2 (HAProxy's doc/proxy-protocol.txt): parse and write, no sockets.

The parser takes the bytes as they come, in any pieces, and says how many of them were the header's: what follows is
the connection's own. It keeps no more than the addresses, so a header of 64 KB takes no more memory than one of 16
bytes. TLVs are walked, to refuse those that do not fit, and skipped; a CRC32C is checked. Of a LOCAL or UNSPEC header
everything behind the first 16 bytes is skipped unread, as the specification wants it.

The writer puts TLVs as long as they fit into the caller's limit; the length is written last, so it is always that of
the bytes. ``Parser`` and ``encode()`` are the same for Python.
"""

import os
import socket
from collections import namedtuple

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memset

cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET
        AF_INET6
        INET6_ADDRSTRLEN
    int inet_pton(int family, const char *text, void *address)
    const char *inet_ntop(int family, const void *address, char *text, unsigned int size)

cdef enum:
    LINE_START = 6              # "PROXY "
    SIGNATURE_SIZE = 12
    VERSION_2 = 0x20
    COMMAND_PROXY = 0x01
    STREAM = 0x01
    CHECKSUM_SIZE = 4

cdef const unsigned char *LINE = b"PROXY "
cdef const unsigned char *SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

cdef uint32_t castagnoli[256]


def _castagnoli():
    """The table of CRC32C (RFC 4960, appendix B), for bytes with the lowest bit first."""
    cdef uint32_t byte, value
    cdef int _bit
    for byte in range(256):
        value = byte
        for _bit in range(8):
            value = value >> 1 ^ (0x82F63B78U if value & 1 else 0)
        castagnoli[byte] = value


_castagnoli()


cdef uint32_t summed(uint32_t crc, const unsigned char *data, size_t size) noexcept nogil:
    cdef size_t i
    for i in range(size):
        crc = castagnoli[(crc ^ data[i]) & 0xFF] ^ crc >> 8
    return crc


# -- reading ----------------------------------------------------------------------------------------------------------

cdef void fail(ProxyParser *p, ProxyFault fault) noexcept nogil:
    p.fault = fault
    p.stage = PROXY_FAILED


cdef void finish(ProxyParser *p) noexcept nogil:
    if p.summed and p.crc ^ 0xFFFFFFFFU != p.claimed:
        fail(p, PROXY_CHECKSUM)
    else:
        p.stage = PROXY_DONE


cdef size_t gather(ProxyParser *p, const unsigned char *data, size_t size, size_t wanted) noexcept nogil:
    """Bytes into `head` until it has the wanted number: how many were taken."""
    cdef size_t n = min(size, wanted - p.have)
    memcpy(p.head + p.have, data, n)
    p.have += <uint8_t>n
    return n


cdef void start(ProxyParser *p, unsigned char byte) noexcept nogil:
    """The first bytes tell the version, and whether it is a header at all."""
    cdef const unsigned char *expected = LINE if (p.head[0] if p.have else byte) == LINE[0] else SIGNATURE
    if byte != expected[p.have]:
        fail(p, PROXY_ABSENT)
        return
    p.head[p.have] = byte
    p.have += 1
    if expected == LINE and p.have == LINE_START:
        p.version = 1
        p.stage = PROXY_IN_LINE
    elif expected == SIGNATURE and p.have == SIGNATURE_SIZE:
        p.version = 2
        p.stage = PROXY_IN_FIXED


cdef size_t line(ProxyParser *p, const unsigned char *data, size_t size) noexcept nogil:
    cdef size_t n = 0
    while n < size:
        p.head[p.have] = data[n]
        p.have += 1
        n += 1
        if p.head[p.have - 1] == c"\n":
            if p.head[p.have - 2] == c"\r" and line_read(p, <const char *>p.head + LINE_START, p.head + p.have - 2):
                p.stage = PROXY_DONE
            else:
                fail(p, PROXY_LINE)
            break
        if p.have == PROXY_LONGEST_LINE:
            fail(p, PROXY_LONG_LINE)
            break
    return n


cdef bint line_read(ProxyParser *p, const char *at, const void *until) noexcept nogil:
    """Whether what stands between "PROXY " and CRLF is well formed."""
    cdef const char *end = <const char *>until
    cdef int family
    if end - at >= 7 and memcmp(at, b"UNKNOWN", 7) == 0:
        return end - at == 7 or at[7] == c" "
    if end - at < 5 or (memcmp(at, b"TCP4 ", 5) != 0 and memcmp(at, b"TCP6 ", 5) != 0):
        return False
    family = AF_INET if at[3] == c"4" else AF_INET6
    at += 5
    if (not line_address(&at, end, family, p.ends.source) or not line_address(&at, end, family, p.ends.destination)
            or not line_port(&at, end, c" ", &p.ends.source_port)
            or not line_port(&at, end, 0, &p.ends.destination_port)):
        return False
    p.ends.family = PROXY_INET if family == AF_INET else PROXY_INET6
    return True


cdef bint line_address(const char **at, const char *end, int family, unsigned char *into) noexcept nogil:
    """One address and the space behind it."""
    cdef char text[INET6_ADDRSTRLEN]
    cdef int size = 0
    while at[0] < end and at[0][0] != c" ":
        if size == INET6_ADDRSTRLEN - 1 or at[0][0] == 0:   # a zero would end the text for inet_pton()
            return False
        text[size] = at[0][0]
        size += 1
        at[0] += 1
    if at[0] == end:
        return False
    at[0] += 1
    text[size] = 0
    return inet_pton(family, text, into) == 1


cdef bint line_port(const char **at, const char *end, char behind, uint16_t *port) noexcept nogil:
    """A number from 0 to 65535 without leading zeros, and what stands behind it: a space, or the end (0)."""
    cdef uint32_t value = 0
    cdef int digits = 0
    while at[0] < end and c"0" <= at[0][0] <= c"9":
        value = value * 10 + <uint32_t>(at[0][0] - c"0")
        digits += 1
        if digits > 5 or (digits > 1 and value < 10):
            return False
        at[0] += 1
    if digits == 0 or value > 65535:
        return False
    port[0] = <uint16_t>value
    if behind == 0:
        return at[0] == end
    if at[0] == end or at[0][0] != behind:
        return False
    at[0] += 1
    return True


cdef uint32_t block_size(unsigned char family) noexcept nogil:
    """Bytes of addresses; 0 for a family and protocol of which we want to know nothing."""
    if family == 0x10 | STREAM:
        return 12
    if family == 0x20 | STREAM:
        return 36
    return PROXY_ADDRESSES if family == 0x30 | STREAM else 0


cdef void fixed_read(ProxyParser *p) noexcept nogil:
    cdef unsigned char command = p.head[12]
    cdef unsigned char family = p.head[13]
    cdef uint32_t block = block_size(family)
    p.left = <uint32_t>p.head[14] << 8 | p.head[15]
    if command & 0xF0 != VERSION_2:
        fail(p, PROXY_VERSION)
    elif command & 0x0F > COMMAND_PROXY:
        fail(p, PROXY_COMMAND)
    elif family >> 4 > 3 or family & 0x0F > 2:
        fail(p, PROXY_FAMILY)
    elif command & 0x0F != COMMAND_PROXY or block == 0:
        p.local = command & 0x0F != COMMAND_PROXY
        p.stage = PROXY_SKIPS
    elif p.left < block:
        fail(p, PROXY_SHORT)
    else:
        p.crc = summed(0xFFFFFFFFU, p.head, PROXY_FIXED)
        p.stage = PROXY_IN_ADDRESSES


cdef void addresses_read(ProxyParser *p, uint32_t block) noexcept nogil:
    cdef const unsigned char *at = p.head + PROXY_FIXED
    cdef uint32_t size = PROXY_PATH if block == PROXY_ADDRESSES else (block - 4) // 2
    memcpy(p.ends.source, at, size)
    memcpy(p.ends.destination, at + size, size)
    if block == PROXY_ADDRESSES:
        p.ends.family = PROXY_UNIX
    else:
        p.ends.family = PROXY_INET if size == 4 else PROXY_INET6
        at += 2 * size
        p.ends.source_port = <uint16_t>(<uint16_t>at[0] << 8 | at[1])
        p.ends.destination_port = <uint16_t>(<uint16_t>at[2] << 8 | at[3])
    p.crc = summed(p.crc, p.head + PROXY_FIXED, block)
    p.left -= block
    next_tlv(p)


cdef void next_tlv(ProxyParser *p) noexcept nogil:
    p.tlv_have = 0
    if p.left == 0:
        finish(p)
    elif p.left < 3:
        fail(p, PROXY_TLV)
    else:
        p.stage = PROXY_IN_TYPE


cdef size_t type_read(ProxyParser *p, const unsigned char *data) noexcept nogil:
    """One byte of type and length."""
    p.tlv[p.tlv_have] = data[0]
    p.tlv_have += 1
    p.left -= 1
    p.crc = summed(p.crc, data, 1)
    if p.tlv_have == 3:
        p.tlv_left = <uint32_t>p.tlv[1] << 8 | p.tlv[2]
        if p.tlv_left > p.left or p.tlv[0] == PP2_TYPE_CRC32C and (p.tlv_left != CHECKSUM_SIZE or p.summed):
            fail(p, PROXY_TLV)
        elif p.tlv_left == 0:
            next_tlv(p)
        else:
            p.summed |= p.tlv[0] == PP2_TYPE_CRC32C
            p.stage = PROXY_IN_VALUE
    return 1


cdef size_t value_read(ProxyParser *p, const unsigned char *data, size_t size) noexcept nogil:
    """Some bytes of a value. The checksum's own bytes count as zeros."""
    cdef unsigned char zero = 0
    cdef size_t n = min(size, <size_t>p.tlv_left)
    if p.tlv[0] == PP2_TYPE_CRC32C:
        n = 1
        p.claimed = p.claimed << 8 | data[0]
        p.crc = summed(p.crc, &zero, 1)
    else:
        p.crc = summed(p.crc, data, n)
    p.left -= <uint32_t>n
    p.tlv_left -= <uint32_t>n
    if p.tlv_left == 0:
        next_tlv(p)
    return n


cdef size_t skipped(ProxyParser *p, size_t size) noexcept nogil:
    cdef size_t n = min(size, <size_t>p.left)
    p.left -= <uint32_t>n
    if p.left == 0:
        p.stage = PROXY_DONE
    return n


cdef size_t proxy_feed(ProxyParser *p, const unsigned char *data, size_t size) noexcept nogil:
    """Read on: how many of the bytes are the header's. All of them while it goes on; then `stage` is PROXY_DONE or
    PROXY_FAILED, with `fault`."""
    cdef size_t used = 0
    cdef uint32_t block
    while p.stage < PROXY_DONE and used < size:
        if p.stage == PROXY_STARTS:
            start(p, data[used])
            used += 1
        elif p.stage == PROXY_IN_LINE:
            used += line(p, data + used, size - used)
        elif p.stage == PROXY_IN_FIXED:
            used += gather(p, data + used, size - used, PROXY_FIXED)
            if p.have == PROXY_FIXED:
                fixed_read(p)
                if p.stage == PROXY_SKIPS and p.left == 0:
                    p.stage = PROXY_DONE
        elif p.stage == PROXY_IN_ADDRESSES:
            block = block_size(p.head[13])
            used += gather(p, data + used, size - used, PROXY_FIXED + block)
            if p.have == PROXY_FIXED + block:
                addresses_read(p, block)
        elif p.stage == PROXY_IN_TYPE:
            used += type_read(p, data + used)
        elif p.stage == PROXY_IN_VALUE:
            used += value_read(p, data + used, size - used)
        else:
            used += skipped(p, size - used)
    return used


cdef const char *proxy_fault(const ProxyParser *p) noexcept nogil:
    """What is wrong, in words."""
    if p.fault == PROXY_ABSENT:
        return b"no PROXY header"
    if p.fault == PROXY_LINE:
        return b"a PROXY line that is not well formed"
    if p.fault == PROXY_LONG_LINE:
        return b"a PROXY line of more than 107 bytes"
    if p.fault == PROXY_VERSION:
        return b"an unknown version of the PROXY header"
    if p.fault == PROXY_COMMAND:
        return b"an unknown command in the PROXY header"
    if p.fault == PROXY_FAMILY:
        return b"an unknown address family in the PROXY header"
    if p.fault == PROXY_SHORT:
        return b"a PROXY header too short for its addresses"
    if p.fault == PROXY_TLV:
        return b"a TLV that does not fit into the PROXY header"
    if p.fault == PROXY_CHECKSUM:
        return b"a wrong checksum of the PROXY header"
    return b""


# -- writing ----------------------------------------------------------------------------------------------------------

cdef uint32_t proxy_line(unsigned char *out, const ProxyEnds *ends) noexcept nogil:
    """Write version 1 into PROXY_LONGEST_LINE + 1 bytes: how many it takes."""
    cdef char source[INET6_ADDRSTRLEN]
    cdef char destination[INET6_ADDRSTRLEN]
    cdef int family = AF_INET if ends.family == PROXY_INET else AF_INET6
    if ends.family != PROXY_INET and ends.family != PROXY_INET6:
        return <uint32_t>snprintf(<char *>out, PROXY_LONGEST_LINE + 1, b"PROXY UNKNOWN\r\n")
    inet_ntop(family, ends.source, source, sizeof(source))
    inet_ntop(family, ends.destination, destination, sizeof(destination))
    return <uint32_t>snprintf(<char *>out, PROXY_LONGEST_LINE + 1, b"PROXY TCP%c %s %s %u %u\r\n",
                              c"4" if family == AF_INET else c"6", source, destination,
                              <unsigned int>ends.source_port, <unsigned int>ends.destination_port)


cdef void big_endian(unsigned char *at, uint32_t value) noexcept nogil:
    at[0] = <unsigned char>(value >> 8)
    at[1] = <unsigned char>(value & 0xFF)


cdef void proxy_begin(
    ProxyWriter *writer, unsigned char *out, uint32_t limit, bint local, const ProxyEnds *ends,
) noexcept nogil:
    """Begin a header of version 2 in `out`, which has room for `limit` bytes and at least for the longest addresses."""
    cdef uint32_t size = 0
    cdef unsigned char family = 0
    memset(writer, 0, sizeof(ProxyWriter))
    writer.data = out
    writer.limit = min(limit, <uint32_t>PROXY_LONGEST)
    memcpy(out, SIGNATURE, SIGNATURE_SIZE)
    out[12] = VERSION_2 | (0 if local else COMMAND_PROXY)
    if local or ends.family == PROXY_UNKNOWN:
        out[13] = 0
        writer.used = PROXY_FIXED
        return
    if ends.family == PROXY_UNIX:
        family, size = 0x30, PROXY_PATH
    elif ends.family == PROXY_INET:
        family, size = 0x10, 4
    else:
        family, size = 0x20, 16
    out[13] = family | STREAM
    out += PROXY_FIXED
    memcpy(out, ends.source, size)
    memcpy(out + size, ends.destination, size)
    writer.used = PROXY_FIXED + 2 * size
    if size != PROXY_PATH:
        big_endian(out + 2 * size, ends.source_port)
        big_endian(out + 2 * size + 2, ends.destination_port)
        writer.used += 4


cdef bint proxy_raw(ProxyWriter *writer, const void *value, uint32_t size) noexcept nogil:
    """Bytes, if they fit."""
    if size > writer.limit - writer.used:
        return False
    if size:
        memcpy(writer.data + writer.used, value, size)
    writer.used += size
    return True


cdef bint proxy_put(ProxyWriter *writer, uint8_t kind, const void *value, uint32_t size) noexcept nogil:
    """A TLV, if it fits; nothing of it, if not."""
    cdef unsigned char head[3]
    if size > 0xFFFF or 3 + size > writer.limit - writer.used:
        return False
    head[0] = kind
    big_endian(head + 1, size)
    return proxy_raw(writer, head, 3) and proxy_raw(writer, value, size)


cdef bint proxy_nest(ProxyWriter *writer, uint8_t kind) noexcept nogil:
    """Begin a TLV that others are put into, one at a time; False when there is no room for it."""
    cdef uint32_t at = writer.used
    if not proxy_put(writer, kind, NULL, 0):
        return False
    writer.nest = at
    return True


cdef void proxy_unnest(ProxyWriter *writer) noexcept nogil:
    """End it."""
    big_endian(writer.data + writer.nest + 1, writer.used - writer.nest - 3)
    writer.nest = 0


cdef uint32_t proxy_end(ProxyWriter *writer) noexcept nogil:
    """The header is whole: how many bytes it has."""
    big_endian(writer.data + 14, writer.used - PROXY_FIXED)
    return writer.used


# -- the same for Python ----------------------------------------------------------------------------------------------

Header = namedtuple("Header", "version local source destination")


cdef object _address(ProxyFamily family, const unsigned char *address, uint16_t port):
    if family == PROXY_UNIX:
        return (<bytes>address[:PROXY_PATH]).rstrip(b"\0")
    if family == PROXY_INET:
        return socket.inet_ntop(socket.AF_INET, <bytes>address[:4]), port
    return socket.inet_ntop(socket.AF_INET6, <bytes>address[:16]), port


@cython.final
cdef class Parser:
    """Reads one header, in whatever pieces it comes."""

    cdef ProxyParser parser

    def feed(self, data):
        """Read on.

        Returns:
            how many of the bytes are the header's; what follows is the connection's own
        Raises:
            ValueError: it is no header, or one that must be refused; the text says why
        """
        cdef const unsigned char[::1] view = data
        cdef size_t used = 0
        if view.shape[0]:
            used = proxy_feed(&self.parser, &view[0], <size_t>view.shape[0])
        if self.parser.stage == PROXY_FAILED:
            raise ValueError(proxy_fault(&self.parser).decode())
        return used

    @property
    def header(self):
        """What the header says, when it is whole: a ``Header``; None before. Addresses are (host, port), or bytes, the
        path of a UNIX socket, or None where the header tells none."""
        cdef const ProxyEnds *ends = &self.parser.ends
        if self.parser.stage != PROXY_DONE:
            return None
        if ends.family == PROXY_UNKNOWN:
            return Header(self.parser.version, bool(self.parser.local), None, None)
        return Header(self.parser.version, bool(self.parser.local),
                      _address(ends.family, ends.source, ends.source_port),
                      _address(ends.family, ends.destination, ends.destination_port))


cdef int _fill(object address, unsigned char *into, uint16_t *port) except -1:
    """Write an address as Header has it; its ProxyFamily."""
    cdef bytes raw
    if isinstance(address, (str, bytes, os.PathLike)):
        raw = os.fsencode(address)
        if len(raw) > PROXY_PATH:
            raise ValueError(f"{raw!r} is longer than {PROXY_PATH} bytes")
        memcpy(into, <const unsigned char *>raw, len(raw))
        return PROXY_UNIX
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    raw = socket.inet_pton(family, address[0])
    memcpy(into, <const unsigned char *>raw, len(raw))
    port[0] = address[1]
    return PROXY_INET if len(raw) == 4 else PROXY_INET6


def encode(version, source=None, destination=None, *, bint local=False, tlvs=()):
    """A header as bytes.

    Args:
        version: 1 or 2
        source, destination: as in ``Header``; without them the header tells no addresses
        local: the connection is the sender's own (version 2; version 1 has no word for it and says UNKNOWN)
        tlvs: pairs of type and value (version 2)
    Raises:
        ValueError: an address that is none, a mixture of families, or more than a header can hold
    """
    cdef ProxyEnds ends
    cdef ProxyWriter writer
    cdef bytes value
    cdef unsigned char text[PROXY_LONGEST_LINE + 1]
    cdef bytearray out
    memset(&ends, 0, sizeof(ends))
    if source is not None and not local:
        ends.family = <ProxyFamily>_fill(source, ends.source, &ends.source_port)
        if _fill(destination, ends.destination, &ends.destination_port) != <int>ends.family:
            raise ValueError(f"{source!r} and {destination!r} are of different families")
    if version == 1:
        return <bytes>text[:proxy_line(text, &ends)]
    if version != 2:
        raise ValueError(f"there is no version {version} of the PROXY protocol")
    out = bytearray(PROXY_LONGEST)
    proxy_begin(&writer, <unsigned char *>out, PROXY_LONGEST, local, &ends)
    for kind, value in tlvs:
        if not proxy_put(&writer, kind, <const unsigned char *>value, <uint32_t>len(value)):
            raise ValueError("the header would be too long")
    return bytes(out[:proxy_end(&writer)])
