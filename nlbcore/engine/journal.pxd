# One record in the worker's log ring for each connection that ended; see journal.pyx.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from nlbcore.engine.slab cimport Session

cdef enum RecordKind:
    ACCESS = 1
    EVENT = 2               # text for the event log: level in `termination`, words in the last field
    CONNECTION = 3          # one that lives: its state (slab.State) in `termination`; for `nlb conns`, not in the ring
    UNTOLD = 4              # refusals that were not told: how many in `id`, their word in `termination`

cdef enum:
    LONGEST_CERTIFICATE = 8192
    LONGEST_RECORD = LONGEST_CERTIFICATE + 6 * 65536
    NO_ROW = 0xFFFF
    RESUMED = 1
    PROVEN = 2
    DIGEST_ONLY = 4         # of a very long certificate: its SHA-256 stands in its place
    REPORTED = 8            # let in whatever its certificate is; `verdict` is the word

cdef packed struct Record:
    uint32_t size           # of the whole record
    uint8_t kind
    uint8_t termination
    uint8_t verdict         # the word that would have refused it; 0: none
    uint8_t flags
    uint8_t family          # 4, 6, or 0 for a Unix socket
    uint8_t address[16]
    uint16_t port
    uint16_t listener_row
    uint16_t group_row
    uint16_t server_row
    uint16_t tls_version
    uint32_t generation
    int32_t verify_error
    int32_t verify_depth
    int32_t detail_errno
    uint64_t id
    uint64_t ended          # us since 1970
    uint64_t received
    uint64_t sent
    int64_t handshake_us    # -1: never came to it; so are the next
    int64_t connect_us
    int64_t connection_us
    uint16_t cipher_size    # the sizes of what follows, in this order
    uint16_t group_size
    uint16_t name_size
    uint16_t alpn_size
    uint16_t proxy_size     # address and port (network order) of who has forwarded it
    uint16_t authority_size     # subject of the CA certificate that the verdict is about
    uint16_t ruling_size        # what the rules say of a client that is let in all the same
    uint16_t detail_size
    uint32_t der_size

cdef void journal_access(const Session *s) noexcept nogil
cdef uint32_t journal_connection(const Session *s, unsigned char *buffer) noexcept nogil
cdef void journal_untold(
    uint16_t row, uint32_t generation, uint8_t word, uint64_t count, const unsigned char *sha256) noexcept nogil
cdef void journal_event(int level, const char *text) noexcept nogil
cdef bint journal_half_full() noexcept nogil
cdef void journal_wake(int eventfd) noexcept nogil
