# A histogram as HdrHistogram lays it out (1 ns to 137 s, three digits), as an array of counts: recording is a shift and
# an addition. The conversion is in histogram.py.
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #define nlbbench_clz64(word) __builtin_clzll(word)
    """
    int nlbbench_clz64(uint64_t word) noexcept nogil

cdef enum:
    HALF = 1024             # half the values of a bucket: what keeps three digits
    BUCKETS = 28            # each twice as wide as the one before, the first one double
    COUNTS = 28672          # BUCKETS * HALF
    LONGEST = 137438953471  # 2^37 - 1 ns, the largest value that fits

cdef inline void hist_record(uint64_t *counts, uint64_t value) noexcept nogil:
    cdef int bucket
    if value > <uint64_t>LONGEST:
        value = <uint64_t>LONGEST
    bucket = 64 - nlbbench_clz64(value | (2 * HALF - 1)) - 11
    counts[(bucket << 10) + <int>(value >> bucket)] += 1

cdef inline uint64_t hist_value(int index) noexcept nogil:
    """The largest value that is counted at `index`."""
    cdef int bucket = (index >> 10) - 1
    if bucket <= 0:
        return <uint64_t>index
    return ((<uint64_t>(index - (bucket << 10)) + 1) << bucket) - 1
