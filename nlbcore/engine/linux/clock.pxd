# <time.h>
from libc.stdint cimport int64_t

cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC
        CLOCK_REALTIME

    ctypedef int64_t time_t

    struct timespec:
        time_t tv_sec
        long tv_nsec

    struct tm:
        int tm_sec
        int tm_min
        int tm_hour
        int tm_mday
        int tm_mon
        int tm_year

    int clock_gettime(int clock, timespec *now)
    time_t timegm(tm *broken)
