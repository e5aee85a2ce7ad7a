# The bytes that are sent and expected; see pattern.pyx.
cdef enum:
    PERIOD = 262139         # bytes until the pattern repeats: the largest prime below 256 KiB
    WRAP = 65536            # bytes behind it that repeat its beginning

cdef unsigned char pattern[327675]      # PERIOD + WRAP
