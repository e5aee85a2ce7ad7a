"""What happened: the access log and the event log."""
