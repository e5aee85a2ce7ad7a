"""How a worker's memory goes back to the system.

OpenSSL's write buffer of a busy connection grows to 66 kB. When connections that were busy fall silent, glibc would
keep most of such blocks: they lie between smaller ones that live on, and only the end of its heap goes back (134 kB
were left of each connection, 33 kB are now). So blocks of that size are mappings of their own, which go back when they
are freed; a busy connection makes a few, and not with every byte. The end of the heap is kept in larger pieces instead,
or it would go and come back with every few handshakes.

Smaller blocks leave holes between those of silent connections. When many have fallen silent, the whole pages in them
are given back: a walk over the free blocks, 0.1 to 0.3 ms with 8,000 connections that have each moved 64 KB.

Another C library has its own ways, and is left to them.
"""

cdef extern from *:
    """
    #include <malloc.h>
    static inline void nlb_tune(int own, int keep) {
    #ifdef __GLIBC__
        mallopt(M_MMAP_THRESHOLD, own);
        mallopt(M_TRIM_THRESHOLD, keep);
    #endif
    }
    static inline void nlb_trim(int keep) {
    #ifdef __GLIBC__
        malloc_trim(keep);
    #endif
    }
    """
    void nlb_tune(int own, int keep) noexcept nogil
    void nlb_trim(int keep) noexcept nogil

cdef enum:
    OWN = 32 * 1024             # bytes that make a block a mapping of its own
    KEEP = 8 * 1024 * 1024      # bytes that may be free at the end of the heap


cdef void memory_tune() noexcept nogil:
    """For the whole process, which is a worker."""
    nlb_tune(OWN, KEEP)


cdef void memory_trim() noexcept nogil:
    """Give pages back that lie free between blocks in use, but for the end of the heap."""
    nlb_trim(KEEP)
