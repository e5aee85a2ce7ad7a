"""The loop of a server behind what is measured: echo, source, sink or slow; far cheaper than any proxy before it.

Level-triggered, one receive buffer for all; a connection owns memory only while its client does not take what was sent.
A source and a sink speak of pieces of the pattern (spec.Backend): 16 bytes ask for one, or go before one.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy
from nlbbench.linux cimport PR_SET_PDEATHSIG, SIGKILL, prctl
from nlbbench.pattern cimport PERIOD, pattern
from nlbcore.engine.linux.clock cimport CLOCK_MONOTONIC, clock_gettime, timespec
from nlbcore.engine.linux.epoll cimport (
    EPOLLEXCLUSIVE, EPOLLIN, EPOLLOUT, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, epoll_create1,
    epoll_ctl, epoll_event, epoll_wait,
)
from nlbcore.engine.linux.socket cimport (
    IPPROTO_TCP, MSG_NOSIGNAL, SHUT_WR, SOCK_CLOEXEC, SOCK_NONBLOCK, TCP_NODELAY, accept4, recv, send, setsockopt,
    shutdown,
)
from nlbcore.engine.linux.unistd cimport EAGAIN, EINTR, close, errno

cdef enum:
    ROOM = 65536            # bytes received, and sent, at once
    HEADER = 16
    BATCH = 256
    BURST = 1048576         # bytes a source sends before others have their turn
    ACCEPTS = 32
    TURN = 100              # ms after which a sleeping loop looks whether it shall end

cdef enum Mode:             # in the order of spec.Backend
    ECHO
    SOURCE
    SINK
    SLOW

cdef struct Client:
    int fd
    uint32_t watched
    bint ended              # the client has ended its side
    unsigned char header[HEADER]
    uint32_t have           # bytes of the header
    uint64_t place          # where we are in the piece
    uint64_t size, left     # of the piece
    uint64_t right          # sink: bytes that were as they must be
    bint wrong
    unsigned char *rest     # what the client did not take yet
    uint32_t from_, to      # the part of `rest` that is left
    int64_t ready           # slow: not before (ns)
    Client *next            # slow: in the line of those that wait

cdef unsigned char buffer[ROOM]
cdef int epfd = -1, listener = -1
cdef Mode mode = ECHO
cdef int64_t delay = 0                  # ns
cdef int chunk = ROOM                   # bytes received at once
cdef Client *first = NULL               # slow: those that wait, the first to be ready first
cdef Client *last = NULL


cdef int64_t clock() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <int64_t>at.tv_sec * 1000000000 + at.tv_nsec


cdef void watch(Client *c, uint32_t flags) noexcept nogil:
    cdef epoll_event event
    if flags == c.watched:
        return
    event.events = flags
    event.data.u64 = <uint64_t>c
    epoll_ctl(epfd, EPOLL_CTL_DEL if flags == 0 else EPOLL_CTL_MOD if c.watched else EPOLL_CTL_ADD, c.fd, &event)
    c.watched = flags


cdef void drop(Client *c) noexcept nogil:
    """Close and free. Nobody in the line may be dropped: slow() takes a client out of it before it serves it."""
    close(c.fd)
    free(c.rest)
    free(c)


cdef void accept_some() noexcept nogil:
    cdef Client *c
    cdef int fd, _i
    cdef int one = 1
    for _i in range(ACCEPTS):
        fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            return
        c = <Client *>calloc(1, sizeof(Client))
        if c == NULL:
            close(fd)
            return
        c.fd = fd
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        watch(c, EPOLLIN)


cdef int put(Client *c, const unsigned char *data, int size) noexcept nogil:
    """Send, and keep what the client does not take (at most ROOM). 0: all gone; 1: some is kept; -1: the client is
    gone."""
    cdef int n = 0
    if c.rest == NULL or c.from_ == c.to:
        n = <int>send(c.fd, data, size, MSG_NOSIGNAL)
        if n == size:
            return 0
        if n < 0 and errno not in (EAGAIN, EINTR):
            return -1
        n = 0 if n < 0 else n
        c.from_ = c.to = 0
    if c.rest == NULL:
        c.rest = <unsigned char *>malloc(ROOM)
        if c.rest == NULL:
            return -1
    if size - n > <int>(ROOM - c.to):
        return -1               # cannot be: nothing is read while something is kept
    memcpy(c.rest + c.to, data + n, size - n)
    c.to += <uint32_t>(size - n)
    watch(c, EPOLLOUT)
    return 1


cdef int put_rest(Client *c) noexcept nogil:
    """The answer of put()."""
    cdef int n
    if c.from_ == c.to:
        return 0
    n = <int>send(c.fd, c.rest + c.from_, c.to - c.from_, MSG_NOSIGNAL)
    if n < 0:
        return 1 if errno in (EAGAIN, EINTR) else -1
    c.from_ += <uint32_t>n
    return 0 if c.from_ == c.to else 1


cdef void number(const unsigned char *data, uint64_t *into) noexcept nogil:
    cdef int i
    into[0] = 0
    for i in range(8):
        into[0] = into[0] << 8 | data[i]


cdef bint request(Client *c, const unsigned char **data, int *size) noexcept nogil:
    """Take bytes of a header; True when it is complete."""
    cdef int step = HEADER - <int>c.have
    if step > size[0]:
        step = size[0]
    memcpy(c.header + c.have, data[0], step)
    c.have += <uint32_t>step
    data[0] += step
    size[0] -= step
    if c.have < HEADER:
        return False
    c.have = 0
    number(c.header, &c.place)
    number(c.header + 8, &c.size)
    c.left = c.size
    c.right = 0
    c.wrong = False
    return True


cdef int sink(Client *c, const unsigned char *data, int size) noexcept nogil:
    """Compare a piece, and answer when it is complete; the answer of put()."""
    cdef int step, i
    cdef unsigned char answer[HEADER]
    while size > 0:
        if c.left == 0:
            if not request(c, &data, &size) or c.left:
                continue
        else:
            step = size if <uint64_t>size < c.left else <int>c.left
            if not c.wrong and memcmp(data, pattern + c.place % PERIOD, step) == 0:
                c.right += <uint64_t>step
            else:
                c.wrong = True
            c.place += <uint64_t>step
            c.left -= <uint64_t>step
            data += step
            size -= step
            if c.left:
                continue
        memcpy(answer, c.header, 8)
        for i in range(8):
            answer[8 + i] = <unsigned char>(c.right >> (56 - 8 * i))
        step = put(c, answer, HEADER)
        if step < 0:
            return -1
    return 1 if c.rest != NULL and c.from_ != c.to else 0


cdef int pour(Client *c) noexcept nogil:
    """Source: send what is left of the piece, until the client takes no more or others shall have their turn."""
    cdef int n, size
    cdef int sent = 0
    while c.left and sent < BURST:
        size = ROOM if c.left > ROOM else <int>c.left
        n = <int>send(c.fd, pattern + c.place % PERIOD, size, MSG_NOSIGNAL)
        if n < 0:
            if errno in (EAGAIN, EINTR):
                break
            return -1
        c.place += <uint64_t>n
        c.left -= <uint64_t>n
        sent += n
    if c.left:
        watch(c, EPOLLOUT)
        return 1
    return 0


cdef int source(Client *c) noexcept nogil:
    """Read one request, never more: the next one is read when this one has been answered. -1: the client is gone."""
    cdef int n = <int>recv(c.fd, buffer, HEADER - c.have, 0)
    cdef const unsigned char *data = buffer
    if n == 0:
        c.ended = True
        return 0
    if n < 0:
        return 0 if errno in (EAGAIN, EINTR) else -1
    if request(c, &data, &n):
        return pour(c)
    return 0


cdef void serve(Client *c) noexcept nogil:
    """Read once, answer."""
    cdef int n
    cdef int state = 0
    if mode == SOURCE:
        state = source(c)
    else:
        n = <int>recv(c.fd, buffer, chunk, 0)
        if n == 0:
            c.ended = True
        elif n < 0:
            state = 0 if errno in (EAGAIN, EINTR) else -1
        elif mode == SINK:
            state = sink(c, buffer, n)
        else:
            state = put(c, buffer, n)
    after(c, state)


cdef void after(Client *c, int state) noexcept nogil:
    if state < 0:
        drop(c)
    elif state == 0 and c.ended:
        shutdown(c.fd, SHUT_WR)
        drop(c)
    elif state == 0:
        watch(c, EPOLLIN)


cdef void wait_first(Client *c) noexcept nogil:
    """Slow: to the end of the line, not watched; all wait equally long, so it is in order."""
    global first, last
    watch(c, 0)
    c.ready = clock() + delay
    c.next = NULL
    if last == NULL:
        first = c
    else:
        last.next = c
    last = c


cdef void serve_ready() noexcept nogil:
    global first, last
    cdef Client *c
    cdef int64_t now = clock()
    while first != NULL and first.ready <= now:
        c = first
        first = c.next
        if first == NULL:
            last = NULL
        serve(c)


cdef void on_event(Client *c, uint32_t flags) noexcept nogil:
    cdef int state
    if flags & EPOLLOUT:
        state = put_rest(c)
        if state == 0 and mode == SOURCE:
            state = pour(c)
        after(c, state)
    elif mode == SLOW:
        wait_first(c)
    else:
        serve(c)


cdef int turn() noexcept nogil:
    """Wait and serve once. 0, or -1 when the loop cannot go on."""
    cdef epoll_event events[BATCH]
    cdef int i
    cdef int64_t wait = TURN
    if first != NULL:
        wait = (first.ready - clock() + 999999) // 1000000
        wait = 0 if wait < 0 else wait
    cdef int n = epoll_wait(epfd, events, BATCH, <int>(wait if wait < TURN else TURN))
    if n < 0:
        return 0 if errno == EINTR else -1
    for i in range(n):
        if events[i].data.u64 == 0:
            accept_some()
        else:
            on_event(<Client *>events[i].data.u64, events[i].events)
    serve_ready()
    return 0


def serve_for_ever(int descriptor, int kind, int64_t wait, int at_once) -> None:
    """Serve a listening socket until the process ends, which it does with its parent.

    Args:
        descriptor: of the listening socket, non-blocking; other processes may have it too.
        kind: number in spec.Backend.
        wait: slow: ns between bytes that have come and reading them.
        at_once: slow: how many bytes are read then.
    """
    global epfd, listener, mode, delay, chunk
    cdef epoll_event event
    cdef int state = 0
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    listener = descriptor
    mode = <Mode>kind
    delay = wait
    chunk = at_once if 0 < at_once < ROOM else ROOM
    epfd = epoll_create1(EPOLL_CLOEXEC)
    event.events = EPOLLIN | <uint32_t>EPOLLEXCLUSIVE
    event.data.u64 = 0
    if epfd < 0 or epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &event) < 0:
        raise OSError("no descriptors left for the event loop")
    with nogil:
        while state == 0:
            state = turn()
    raise OSError("epoll_wait failed")
