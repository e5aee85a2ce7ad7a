# <sys/socket.h>, <netinet/in.h>, <sys/un.h>, <netinet/tcp.h>, <sys/ioctl.h>, <linux/sockios.h>
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcmp

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_INET
        AF_INET6
        AF_UNIX
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR
        SO_LINGER
        SO_KEEPALIVE
        MSG_MORE
        MSG_PEEK
        MSG_NOSIGNAL
        SHUT_WR

    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t

    struct sockaddr:
        sa_family_t sa_family

    struct sockaddr_storage:
        sa_family_t ss_family

    struct linger:
        int l_onoff
        int l_linger

    int accept4(int fd, sockaddr *address, socklen_t *size, int flags)
    int socket(int domain, int type, int protocol)
    int connect(int fd, const sockaddr *address, socklen_t size)
    int shutdown(int fd, int how)
    int getsockname(int fd, sockaddr *address, socklen_t *size)
    int getsockopt(int fd, int level, int option, void *value, socklen_t *size)
    int setsockopt(int fd, int level, int option, const void *value, socklen_t size)
    ssize_t recv(int fd, void *into, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)

cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_TCP

    struct in_addr:
        uint32_t s_addr

    struct in6_addr:
        unsigned char s6_addr[16]

    struct sockaddr_in:
        sa_family_t sin_family
        uint16_t sin_port
        in_addr sin_addr

    struct sockaddr_in6:
        sa_family_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
        uint32_t sin6_scope_id

    uint16_t ntohs(uint16_t value)
    uint16_t htons(uint16_t value)

cdef extern from "<sys/un.h>" nogil:
    struct sockaddr_un:
        sa_family_t sun_family
        char sun_path[108]

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, void *value)

cdef extern from "<linux/sockios.h>" nogil:
    enum:
        SIOCOUTQ

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY


# Whether the 16 bytes of an IPv6 address are an IPv4 one (RFC 4291, 2.5.5.2), which is then the last 4 of them. Not
# IN6_IS_ADDR_V4MAPPED, which reads words: bytes of a certificate stand anywhere.
cdef inline bint ipv4_mapped(const unsigned char *address) noexcept nogil:
    return memcmp(address, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0
