"""The scratch buffers of a worker. An idle connection owns no buffer: see buf.pxd for the cursors."""
