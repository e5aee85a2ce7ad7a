"""TALKING TO A RUNNING BALANCER: the protocol of the control socket, its server in the supervisor, its client."""
