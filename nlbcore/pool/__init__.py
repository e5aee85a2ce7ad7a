"""Who gets the connection: server groups and their schedulers. Pure: no sockets, no clocks."""
