from nlbcore.engine.loop cimport Event

cdef void note_event(Event *event) noexcept nogil
cdef void serve_waiting() noexcept nogil
