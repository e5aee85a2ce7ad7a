from nlbcore.engine.transport cimport TransportOps

cdef TransportOps plain_ops
