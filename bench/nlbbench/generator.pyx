"""The loop of one process of the generator: events, schedule, phases. No Python and no GIL in it.

Phases, by the marks that the parent sets on the board: opening (connections that stay open, sessions; at most OPENING
at a time), warm-up from `schedule`, measurement from `begin` to `end`; then nothing new is begun, and what is in
flight or due is given the grace. What a connection does is in exchange.pyx, what is due and counted in plan.pyx.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from nlbbench.board cimport TIMEOUT, UNFINISHED, Board
from nlbbench.client_ssl cimport cssl
from nlbbench.exchange cimport begin, drop, fail, goodbye, pump, queue, readable, secure, settle, shake
from nlbbench.hist cimport hist_record
from nlbbench.linux cimport (
    PR_SET_PDEATHSIG, PR_SET_TIMERSLACK, SIGKILL, TFD_CLOEXEC, TFD_NONBLOCK, TFD_TIMER_ABSTIME, itimerspec, prctl,
    timerfd_create, timerfd_settime,
)
from nlbbench.plan cimport (
    CLOSING, CONNECT, DIALLING, FREE, IDLE, LINGER, MS, OPEN, POPULATIONS, SHAKING, Connection, Population, Work,
    backlog, clock, ending, job, may_begin, note, seed,
)
from nlbbench.wire cimport Fault, wire_dialled
from nlbcore.engine.linux.clock cimport CLOCK_MONOTONIC
from nlbcore.engine.linux.epoll cimport (
    EPOLLET, EPOLLIN, EPOLLOUT, EPOLL_CLOEXEC, EPOLL_CTL_ADD, epoll_create1, epoll_ctl, epoll_event, epoll_wait,
)
from nlbcore.engine.linux.socket cimport sockaddr_storage
from nlbcore.engine.linux.unistd cimport close
from nlbcore.engine.openssl cimport SSL_CTX, X509_STORE

cdef enum:
    OPENING = 64            # connections of a process that are being opened at a time
    BATCH = 256             # events a round
    SOON = 5                # ms between looks at the board while something is awaited
    SELDOM = 50             # ms between looks otherwise, and between looks for what takes too long
    ALARM = 0xFFFFFFFF      # the schedule's timer among the events

cdef uint32_t opened = 0    # connections that are being opened or are primed
cdef int alarm = -1
cdef int64_t due = 0        # what the alarm is set to


# ---------------------------------------------------------------- the loop

cdef void on_event(Connection *c, uint32_t flags) noexcept nogil:
    cdef Fault fault
    if c.state == DIALLING:
        if wire_dialled(&c.wire, &fault) < 0:
            fail(c, &fault)
        else:
            secure(c)
        return
    if flags & ~<uint32_t>EPOLLOUT:
        readable(c)
    elif c.state == SHAKING:
        shake(c)
    elif c.state == CLOSING:
        goodbye(c)
    elif c.state == OPEN:
        pump(c)


cdef void arrivals() noexcept nogil:
    """Open model: let begin what is due, as far as there are free connections, and arrange to be woken for the next."""
    global due
    cdef Population *p
    cdef Connection *c
    cdef int64_t planned, at, next = 0
    cdef itimerspec when
    cdef int i
    for i in range(job.kinds):
        p = &job.populations[i]
        if p.period == 0 or (p.limit and p.begun >= p.limit):
            continue
        while True:
            at = job.control.schedule + <int64_t>(p.offset + p.seen * p.period)
            if at > job.now or (job.control.end != 0 and at >= job.control.end):
                break
            hist_record(job.place.late, <uint64_t>(job.now - at))
            p.seen += 1
        while p.free and may_begin(p, &planned):
            c = p.line[p.head]
            p.head = (p.head + 1) % p.count
            p.free -= 1
            c.waiting = False
            begin(c, planned)
            if c.state == OPEN:
                pump(c)
        if at > job.now and (next == 0 or at < next):
            next = at
    if next and next != due:
        due = next
        memset(&when, 0, sizeof(when))
        when.it_value.tv_sec = next // 1000000000
        when.it_value.tv_nsec = next % 1000000000
        timerfd_settime(alarm, TFD_TIMER_ABSTIME, &when, NULL)


cdef void rouse(Connection *c) noexcept nogil:
    """Give a connection that has nothing to do something, if there is something."""
    cdef int64_t planned
    if not c.primed or c.begun != c.receiving or (c.state == FREE and c.retry > job.now):
        return
    if c.of.period > 0:
        if c.state in (FREE, OPEN):
            queue(c)
    elif c.state in (FREE, OPEN) and may_begin(c.of, &planned):
        begin(c, planned)
        if c.state == OPEN:
            pump(c)


cdef void look_round() noexcept nogil:
    """The janitor: what takes too long, who may try again, and what the board says."""
    cdef Fault fault
    cdef uint32_t i
    cdef Connection *c
    cdef bint wake = job.pausing > 0
    if not job.scheduled and job.control.schedule != 0 and job.now >= job.control.schedule:
        job.scheduled = wake = True
    job.pausing = 0
    for i in range(job.total):
        c = &job.connections[i]
        if c.deadline and job.now >= c.deadline:
            if c.state == CLOSING:
                settle(c)
                continue
            fault.kind = TIMEOUT
            fault.error = 0
            fault.verify = 0
            fault.code = 0
            fail(c, &fault)
        elif wake:
            rouse(c)
            job.pausing += c.state == FREE and c.retry > job.now
    open_more()


cdef void open_more() noexcept nogil:
    """Before the measurement: connections that stay open are opened, sessions collected; never too many at a time."""
    global opened
    cdef Connection *c
    while opened < job.total and job.opening < OPENING and not ending():
        c = &job.connections[opened]
        opened += 1
        if (c.of.resumed or c.of.work == IDLE or (job.prime and c.of.work != CONNECT)):
            job.opening += 1
            c.of.tally.planned += c.of.work == IDLE
            begin(c, job.now)
        else:
            c.primed = True
    if opened == job.total and job.opening == 0:
        job.place.ready = 1


cdef bint finished() noexcept nogil:
    """Set what the parent wants to know; True when the measurement is over and nothing is in flight any more."""
    cdef int i
    cdef bint counted = True
    cdef bint flying = False
    cdef Population *p
    for i in range(job.kinds):
        p = &job.populations[i]
        if not p.beside and (p.flying or p.begun < p.limit):
            counted = False
        if p.flying or backlog(p):
            flying = True
    job.place.counted = counted
    return ending() and not flying


cdef void give_up() noexcept nogil:
    """The grace is over: what is in flight or was never begun has failed."""
    cdef Fault fault
    cdef uint32_t i
    cdef uint64_t left
    cdef int k
    memset(&fault, 0, sizeof(fault))
    fault.kind = UNFINISHED
    for i in range(job.total):
        if job.connections[i].begun != job.connections[i].receiving:
            fail(&job.connections[i], &fault)
    for k in range(job.kinds):
        left = backlog(&job.populations[k])
        if left:
            job.populations[k].tally.planned += left
            note(&job.populations[k], &fault, 0, left)


cdef void turn(int timeout) noexcept nogil:
    """Wait for events and handle them."""
    cdef epoll_event events[BATCH]
    cdef int i
    cdef int n = epoll_wait(job.epfd, events, BATCH, timeout)
    job.now = clock()
    for i in range(n):
        if events[i].data.u64 != ALARM:
            on_event(&job.connections[events[i].data.u64], events[i].events)


cdef void work() noexcept nogil:
    cdef int64_t janitor = 0
    cdef int step
    cdef bint over
    job.now = clock()
    while True:
        step = SELDOM if job.scheduled and not ending() and job.pausing == 0 else SOON
        if job.now >= janitor:
            look_round()
            over = finished()
            if over:
                break
            if ending() and job.now > job.control.end + job.grace:
                give_up()
                break
            janitor = job.now + step * <int64_t>MS
        if not job.place.ready:
            open_more()
        if job.scheduled:
            arrivals()
        turn(step)


cdef void close_all() noexcept nogil:
    """The connections that are left are ended in order; what silent ones have met until now has been counted."""
    cdef uint32_t i, left
    cdef int64_t last = job.now + LINGER * <int64_t>MS
    for i in range(job.total):
        if job.connections[i].state == OPEN:
            goodbye(&job.connections[i])
        elif job.connections[i].state != CLOSING:
            drop(&job.connections[i])
    while job.now < last:
        left = 0
        for i in range(job.total):
            left += job.connections[i].state != FREE
        if left == 0:
            break
        turn(SOON)
    for i in range(job.total):
        drop(&job.connections[i])
        if job.connections[i].session != NULL:
            cssl.SSL_SESSION_free(job.connections[i].session)
            job.connections[i].session = NULL
    job.place.over = 1


# ---------------------------------------------------------------- from Python

cdef Connection **room_for(int number) except NULL:
    cdef Connection **line = <Connection **>calloc(<size_t>number + 1, sizeof(Connection *))
    if line == NULL:
        raise MemoryError
    return line


cdef enlist(Board board, int process, list plans):
    """Make the populations and their connections as `plans` has them."""
    cdef int k
    cdef uint32_t i, first = 0
    cdef Population *p
    job.connections = <Connection *>calloc(1 + sum(one["connections"] for one in plans), sizeof(Connection))
    if job.connections == NULL:
        raise MemoryError
    job.kinds = len(plans)
    for k, plan in enumerate(plans):
        p = &job.populations[k]
        memset(p, 0, sizeof(Population))
        p.work = <Work><int>plan["work"]
        p.size = plan["size"]
        p.burst = plan["burst"]
        p.limit = plan["limit"]
        p.period = plan["period"]
        p.offset = plan["offset"]
        p.depth = plan["depth"]
        p.resumed = plan["resumed"]
        p.beside = plan["beside"]
        p.count = plan["connections"]
        p.line = room_for(p.count)
        p.tally = board.tally(process, k)
        for i in range(p.count):
            job.connections[first + i].of = p
            job.connections[first + i].wire.fd = -1
            job.connections[first + i].wrong = -1
        first += p.count
    job.total = first


def generate(Board board, int process, *, bytes address, int family, size_t context, size_t store, bytes name,
             list plans, int64_t timeout, int64_t grace, bint prime) -> None:
    """Make the load of one process; comes back when the board says that it is over.

    Args:
        board: where to count, and what steers.
        process: our number on it.
        address: a packed sockaddr.
        family: its family.
        context: address of an SSL_CTX that lives longer than this call; 0 for plain TCP.
        store: address of an X509_STORE that does too, to verify the server's certificate with; 0: any will do.
        name: SNI; empty for none.
        plans: a population each: work, connections, size, burst, limit, period and offset (ns), depth, resumed, beside.
        timeout: ns that an exchange may take.
        grace: ns for what is in flight at the end.
        prime: connections that stay open are opened, and used once, before the schedule.
    """
    global alarm
    cdef epoll_event event
    cdef int k
    if len(address) > <Py_ssize_t>sizeof(sockaddr_storage):
        raise ValueError("the address is too long")
    if len(plans) > POPULATIONS:
        raise ValueError(f"at most {POPULATIONS} populations")
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    prctl(PR_SET_TIMERSLACK, 1)
    memset(&job.peer, 0, sizeof(job.peer))
    memcpy(&job.peer.address, <const char *>address, <size_t>len(address))
    job.peer.size = len(address)
    job.peer.family = family
    job.peer.context = <SSL_CTX *>context
    job.peer.store = <X509_STORE *>store
    if name:
        job.peer.name = name
    job.control = board.control
    job.place = board.places + process
    job.patience = timeout
    job.grace = grace
    job.prime = prime
    job.scheduled = False
    seed(<uint64_t>clock() + <uint64_t>process * <uint64_t>0x9E3779B97F4A7C15)
    enlist(board, process, plans)
    job.epfd = epoll_create1(EPOLL_CLOEXEC)
    alarm = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
    if job.epfd < 0 or alarm < 0:
        raise OSError("no descriptors left for the event loop")
    event.events = EPOLLIN | <uint32_t>EPOLLET
    event.data.u64 = ALARM
    epoll_ctl(job.epfd, EPOLL_CTL_ADD, alarm, &event)
    with nogil:
        work()
        close_all()
    close(job.epfd)
    close(alarm)
    for k in range(job.kinds):
        free(job.populations[k].line)
    free(job.connections)
