"""Who runs: the supervisor and the processes it starts."""
