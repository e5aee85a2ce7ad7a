from nlbcore.engine.slab cimport Listener

cdef int ask_clients(Listener *listener, object plan) except -1
