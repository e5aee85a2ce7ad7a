"""SHA-256 (FIPS 180-4) of a few hundred bytes: the bindings digest a whole certificate, and nothing else.

For fingerprints of public keys, once for each certificate of a listener that has rules about them; not for secrets.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    BLOCK = 64
    ROUNDS = 64

cdef uint32_t[64] K
cdef uint32_t[8] FIRST


def _constants():
    """The first 32 bits of the fractional parts of the roots of the first primes: cube roots, and square roots of eight
    (4.2.2, 5.3.3). In whole numbers, so that nothing is rounded."""
    primes = [n for n in range(2, 312) if all(n % d for d in range(2, n))]

    def root(power, n):
        low, high = 0, n << 32
        scaled = n << 32 * power
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle ** power <= scaled else (low, middle)
        return low & 0xFFFFFFFF

    return [root(3, n) for n in primes], [root(2, n) for n in primes[:8]]


cdef void fill():
    cubes, squares = _constants()
    cdef int i
    for i in range(64):
        K[i] = cubes[i]
    for i in range(8):
        FIRST[i] = squares[i]


cdef inline uint32_t turned(uint32_t word, int by) noexcept nogil:
    return word >> by | word << (32 - by)


cdef void block(uint32_t *state, const unsigned char *data) noexcept nogil:
    """6.2.2"""
    cdef uint32_t[64] w
    cdef uint32_t[8] v
    cdef uint32_t first, second
    cdef int i
    for i in range(16):
        w[i] = (<uint32_t>data[4 * i] << 24 | <uint32_t>data[4 * i + 1] << 16 | <uint32_t>data[4 * i + 2] << 8
                | data[4 * i + 3])
    for i in range(16, ROUNDS):
        w[i] = (w[i - 16] + w[i - 7]
                + (turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3)
                + (turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10))
    memcpy(v, state, sizeof(v))
    for i in range(ROUNDS):
        first = (v[7] + (turned(v[4], 6) ^ turned(v[4], 11) ^ turned(v[4], 25)) + (v[4] & v[5] ^ ~v[4] & v[6])
                 + K[i] + w[i])
        second = ((turned(v[0], 2) ^ turned(v[0], 13) ^ turned(v[0], 22)) + (v[0] & v[1] ^ v[0] & v[2] ^ v[1] & v[2]))
        v[7], v[6], v[5] = v[6], v[5], v[4]
        v[4] = v[3] + first
        v[3], v[2], v[1] = v[2], v[1], v[0]
        v[0] = first + second
    for i in range(8):
        state[i] += v[i]


cdef void sha256_of(const unsigned char *data, uint32_t size, unsigned char *digest) noexcept nogil:
    cdef uint32_t[8] state
    cdef unsigned char[128] last
    cdef uint32_t whole = size // BLOCK
    cdef uint32_t rest = size % BLOCK
    cdef uint32_t end = BLOCK if rest < 56 else 2 * BLOCK
    cdef uint64_t bits = <uint64_t>size * 8
    cdef uint32_t i
    memcpy(state, FIRST, sizeof(state))
    for i in range(whole):
        block(state, data + i * BLOCK)
    memset(last, 0, sizeof(last))
    if rest:
        memcpy(last, data + whole * BLOCK, rest)
    last[rest] = 0x80
    for i in range(8):
        last[end - 1 - i] = <unsigned char>(bits >> 8 * i)
    for i in range(end // BLOCK):
        block(state, last + i * BLOCK)
    for i in range(32):
        digest[i] = <unsigned char>(state[i // 4] >> 8 * (3 - i % 4))


fill()
