"""The process model, from outside: workers, supervisor, log writer and prober are killed, stopped and counted."""
