# <sys/timerfd.h>, <sys/prctl.h>, <netinet/in.h>: what nlbcore.engine.linux does not declare.
from libc.stdint cimport uint16_t
from nlbcore.engine.linux.clock cimport timespec

cdef extern from "<sys/timerfd.h>" nogil:
    enum:
        TFD_NONBLOCK
        TFD_CLOEXEC
        TFD_TIMER_ABSTIME

    struct itimerspec:
        timespec it_interval
        timespec it_value

    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new, itimerspec *old)

cdef extern from "<sys/prctl.h>" nogil:
    enum:
        PR_SET_PDEATHSIG
        PR_SET_TIMERSLACK

    int prctl(int option, unsigned long argument)

cdef extern from "<signal.h>" nogil:
    enum:
        SIGKILL
