from libc.stdint cimport uint32_t

cdef enum:
    INTEGER = 0x02
    SEQUENCE = 0x30

cdef struct Cursor:
    const unsigned char *at
    const unsigned char *end

# Of a certificate; each is what stands inside its element.
cdef struct Origin:
    Cursor serial
    Cursor issuer
    Cursor key_id           # of the issuer's key, as the certificate says; NULL: it does not

cdef int element(Cursor *outer, Cursor *content) noexcept nogil
cdef bint enter(const unsigned char *der, uint32_t size, Cursor *inside) noexcept nogil
cdef void der_signed(const unsigned char *der, uint32_t size, Cursor *signed_part) noexcept nogil
cdef bint same_bytes(const Cursor *a, const Cursor *b) noexcept nogil
cdef bint der_is_authority(const unsigned char *der, uint32_t size) noexcept nogil
cdef bint der_signs_certificates(const unsigned char *der, uint32_t size) noexcept nogil
cdef bint der_has_alternative_name(const unsigned char *der, uint32_t size) noexcept nogil
cdef bint der_alternative_names(const unsigned char *der, uint32_t size, Cursor *names) noexcept nogil
cdef bint der_excluded_names(const unsigned char *der, uint32_t size, Cursor *subtrees) noexcept nogil
cdef bint der_origin(const unsigned char *der, uint32_t size, Origin *origin) noexcept nogil
cdef bint der_authority(const unsigned char *der, uint32_t size, Cursor *subject, Cursor *key) noexcept nogil
cdef bint der_same_name(Cursor a, Cursor b) noexcept nogil
