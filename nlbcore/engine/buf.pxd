# Bytes that wait to be sent, as named cursors; and the scratch buffers that every read of this worker shares.
#
#     data           done            end              size
#      |--- sent ----|--- waiting ---|----- free -----|
#
# A Buf holds memory only while something waits: it is made by a short write and freed when the last byte has gone.
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef enum:
    SCRATCH = 65536         # bytes of a scratch buffer
    PIECE = 49152           # bytes of a server moved at a time: 3 TLS records; 4 are a bit more than a packet of 64 KB

cdef struct Buf:
    unsigned char *data
    uint32_t done
    uint32_t end
    uint32_t size

cdef unsigned char plaintext[SCRATCH]      # what a transport has read, until it is written to the other one
cdef unsigned char ciphertext[SCRATCH]     # what recv() brought for OpenSSL

cdef inline bint buf_sane(const Buf *buf) noexcept nogil:
    return buf.done <= buf.end <= buf.size and (buf.data != NULL) == (buf.size != 0)

cdef inline uint32_t buf_waiting(const Buf *buf) noexcept nogil:
    return buf.end - buf.done

cdef inline void buf_free(Buf *buf) noexcept nogil:
    free(buf.data)
    buf.data = NULL
    buf.done = buf.end = buf.size = 0

cdef inline int buf_keep(Buf *buf, const unsigned char *data, uint32_t size) noexcept nogil:
    """Keep a copy of what could not be sent; the Buf must be empty. 0, or -1 without memory."""
    buf.data = <unsigned char *>malloc(size)
    if buf.data == NULL:
        return -1
    memcpy(buf.data, data, size)
    buf.done = 0
    buf.end = buf.size = size
    return 0
