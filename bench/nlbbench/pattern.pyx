"""The bytes that are sent and expected: byte number n of a stream that begins at `place` is pattern[(place + n) %
PERIOD].

Random, so that any few bytes tell their place: what a proxy drops, doubles, swaps, changes or takes from another
connection does not fit. The period is prime: no buffer of a round size is a whole number of periods. It is small enough
for a processor's second-level cache, so that comparing costs little. Up to WRAP bytes from any place are in one piece.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef void fill() noexcept nogil:
    """splitmix64 (Steele, Lea, Flood 2014), from a fixed seed: the same bytes in every process."""
    cdef uint64_t state = 0x6E6C6262656E6368
    cdef uint64_t word = 0
    cdef int at
    for at in range(PERIOD):
        if at % 8 == 0:
            state += <uint64_t>0x9E3779B97F4A7C15
            word = (state ^ (state >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
            word = (word ^ (word >> 27)) * <uint64_t>0x94D049BB133111EB
            word ^= word >> 31
        pattern[at] = <unsigned char>(word >> (8 * (at % 8)))
    memcpy(&pattern[PERIOD], &pattern[0], WRAP)


def piece(place: int, size: int) -> bytes:
    """`size` bytes of the pattern from `place` on."""
    start = place % PERIOD
    whole = bytes(pattern[:PERIOD])
    return (whole[start:] + whole * (size // PERIOD + 1))[:size]


fill()
