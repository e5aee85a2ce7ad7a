# <unistd.h>, <errno.h>
from libc.stdint cimport uint64_t

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int dup(int fd)
    ssize_t write(int fd, const void *data, size_t size)

cdef extern from "<errno.h>" nogil:
    int errno
    enum:
        EAGAIN
        ECONNABORTED
        ECONNRESET
        EINPROGRESS
        EINTR
        EINVAL
        EMFILE
        ENFILE
        ENOBUFS
        ENOMEM
        EPIPE
        EPROTO
        ETIMEDOUT
