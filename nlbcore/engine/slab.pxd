# The structures of a connection, and the slab they live in; see slab.pyx.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from nlbcore.engine.counters cimport ListenerCounters, ServerCounters
from nlbcore.engine.hooks cimport TRIES, route_t
from nlbcore.engine.linux.socket cimport sockaddr_storage
from nlbcore.engine.openssl cimport BIO, SSL, SSL_CTX, X509_STORE
from nlbcore.engine.timers cimport Timer
from nlbcore.engine.transport cimport Transport
from nlbcore.proxy_protocol cimport ProxyEnds, ProxyParser

cdef enum:
    NURSERY = 4             # TLS connections made at a time: 40 us each, together no longer than a handshake step

cdef enum OnTruncated:
    TRUNCATED_CLOSES
    TRUNCATED_RESETS

cdef enum Announce:         # what a server is told of its client; see announce.pyx
    ANNOUNCE_NOTHING
    ANNOUNCE_LINE           # PROXY protocol, version 1
    ANNOUNCE_ENDS           # version 2 ...
    ANNOUNCE_TLS            # ... with what TLS knows
    ANNOUNCE_CERTIFICATE    # ... and the client's certificate

cdef enum State:            # the allowed moves are in session.pyx
    FREE
    HELLO                   # accepted; not a byte yet, no TLS object
    HANDSHAKE
    CONNECT                 # accepted as a client; a server is being dialled
    RELAY
    FLUSH                   # decided to end: the last bytes go out
    LINGER                  # our FIN is sent; reading until the client's, so that no RST destroys the last bytes
    PREAMBLE                # accepted from a front balancer, whose PROXY header is awaited; HELLO or CONNECT follows
    CLOSED                  # to be freed when the batch is over

cdef enum Queue:            # the list a session stands in; HANDSHAKE sessions stand in one of the two for steps
    NO_QUEUE
    NEWCOMERS               # the first bytes have come
    FIRST_STEPS             # handshakes that begin
    NEXT_STEPS              # handshakes that were begun, served before those
    READY                   # bytes can move
    QUEUES

# A client certificate, once for all connections that show it.
cdef struct Identity:
    Identity *next          # in its bucket
    uint32_t references
    unsigned char sha256[32]
    int64_t not_before      # Unix seconds
    int64_t not_after
    uint8_t wildcard        # one of its names is one
    int fault               # why it is never a client, whoever signed it (X509_V_ERR_*); 0: nothing
    uint32_t size
    unsigned char *der
    uint64_t contents           # present.pyx: what its twin has too; 0: not worked out
    unsigned char *issuer_key   # SubjectPublicKeyInfo of the verified issuer; NULL: not known here
    uint32_t issuer_key_size
    uint64_t ruled_by           # rules.pyx: what these rules say ...
    int ruling                  # ... is this verification result ...
    char denied_by[96]          # ... for this reason
    const Listener *judged_for      # trust.pyx: found good for this listener ...
    uint32_t judged_in              # ... in this re-check
    uint32_t counted_in             # janitor.pyx: counted in this round ...
    uint8_t counted_for[32]         # ... for these listeners, a bit for each row

# A certificate context for a server name, in the listener's hash table: one of several where certificates take turns.
cdef struct ServerName:
    SSL_CTX *context        # NULL: empty slot
    int64_t since           # Unix seconds
    int64_t until           # not included
    uint16_t size
    char name[254]          # lower case, no trailing dot; "*.example.org" for a wildcard

cdef struct Listener:
    uint32_t references     # sessions and acceptors
    uint32_t generation     # of the snapshot it came from
    uint16_t row
    uint16_t group_row
    uint8_t tls
    uint8_t verify          # clients are asked for a certificate
    uint8_t optional        # ... and need not have one
    uint8_t report          # ... and are let in whatever it is: what would have become of them is noted
    uint8_t tickets
    uint8_t strict_sni
    uint8_t on_truncated
    uint8_t overdue_accepted
    uint8_t retired         # a newer generation is in force; it serves whom it has
    uint8_t reverify        # some CA of this one is trusted no more
    uint8_t keep_live       # on_revoked = "keep"
    uint8_t keep_expired    # on_expired = "keep"
    uint8_t dated           # examine.pyx: certificates are judged as at another time ...
    int64_t today           # ... this one, Unix seconds
    uint8_t announce        # Announce
    uint32_t announce_limit     # bytes
    const char *node        # names this machine in unique ids
    const unsigned char *front_list     # peers whose PROXY header is believed; see preamble.pyx
    uint32_t fronts         # how many there are
    int depth
    Listener *successor     # of the same name in the generation in force; NULL: there is none (any more)
    X509_STORE *store       # borrowed from Engine
    uint64_t handshake_timeout  # all times in ms
    uint64_t connect_timeout
    uint64_t idle_timeout
    uint64_t half_close_timeout
    uint32_t max_handshakes     # limits: 0 = none
    uint32_t max_connections
    uint32_t cps
    uint32_t per_certificate    # connections with one client certificate
    uint32_t refusals       # alike ones that are told in a second; 0 = all
    uint32_t handshakes         # in progress
    route_t route
    void *group
    ListenerCounters *counters
    ServerName *names           # open addressing, a power of two
    uint32_t names_mask
    SSL_CTX *fallback           # the context for a client that names nobody, unless the table has one for "" now
    const unsigned char *alpn   # our protocols in order of preference, wire format
    uint32_t alpn_size
    const unsigned char *revocations    # the table of revoked.pyx; NULL: nobody is revoked
    const unsigned char *rules          # the table of rules.pyx; NULL: everybody is allowed
    uint64_t rules_number
    void *front                 # the Python object that makes connections; borrowed from Engine
    int ready                   # connections in the nursery
    SSL *nursery[NURSERY]
    BIO *nursery_rbio[NURSERY]
    BIO *nursery_wbio[NURSERY]

# What the header of a front balancer says, and who that is.
cdef struct Forwarded:
    sockaddr_storage proxy
    ProxyEnds ends

cdef struct Session:
    uint32_t slot
    uint32_t generation     # of this slot: an event of an earlier connection is recognised by it
    State state
    Queue queue
    Session *prev
    Session *next
    Timer timer
    Listener *listener
    Transport client
    Transport server
    uint8_t resetting       # FLUSH ends by a reset of the client ...
    uint8_t server_resetting    # ... of the server, each when the kernel has delivered what was said before
    uint8_t up_cut          # the server takes no more bytes: the client is not read any more
    uint8_t down_cut        # the client takes no more bytes: the server is not read any more
    uint8_t ending          # the word for the direction that ended first; 0 while both go on
    uint64_t half_closed    # ms; when that was
    uint64_t active         # ms; the last byte in either direction
    uint64_t gone           # ms; when the kernel said that the client's connection is broken
    uint64_t flush_until    # ms
    int queued              # bytes that peers had not acknowledged when the connection last seemed idle
    # who
    uint64_t id
    sockaddr_storage peer
    ProxyParser *preamble   # while it waits for its PROXY header
    Forwarded *forwarded    # who has forwarded it; `peer` is then what they say; NULL: nobody
    uint8_t local           # a front balancer's own connection
    Identity *identity
    uint8_t proven
    uint8_t counted         # among those who have its certificate: present.pyx
    # verdict of the handshake
    int verify_error        # first error that the verify callback saw
    int verify_depth
    unsigned char *authority    # subject (DER) of the CA certificate that it is about; NULL: none, or a very long one
    uint16_t authority_size
    uint8_t reported        # `report` has let it in ...
    uint8_t verdict         # ... and this word would have refused it; 0: none
    uint8_t name_refused
    uint8_t alpn_refused
    # how it ended
    uint8_t termination
    const char *detail      # static text, or NULL
    int detail_errno
    # to whom
    uint16_t server_row
    uint16_t tries
    uint16_t tried[TRIES]
    ServerCounters *server_counters
    # when, in us on the monotonic clock; 0 = never came to it
    uint64_t accepted
    uint64_t greeted        # the first byte
    uint64_t handshaken
    uint64_t dialled
    uint64_t connected
    uint64_t received       # bytes of the client, decrypted
    uint64_t sent

cdef Session *session_new() noexcept nogil
cdef void session_free(Session *s) noexcept nogil
cdef Session *session_find(uint32_t slot, uint32_t generation) noexcept nogil
cdef Session *session_at(uint32_t slot) noexcept nogil
cdef uint32_t session_count() noexcept nogil
cdef uint32_t session_slots() noexcept nogil
