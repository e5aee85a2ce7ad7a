"""What the machine and the compiled code allow: listening sockets of a worker, open files of a process."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from nlbcore.engine.engine import acceptors
from nlbcore.errors import StartError

if TYPE_CHECKING:
    from nlbcore.config.model import Config


def count_sockets(config: Config, slots: int) -> None:
    """Any worker may have to watch the sockets of all slots.

    Raises:
        StartError: there are more than it can
    """
    addresses = sum(len(listener.bind) for listener in config.listeners.values())
    if addresses * slots > acceptors():
        raise StartError(
            f"{addresses} addresses for {slots} workers are {addresses * slots} listening sockets, "
            f"more than {acceptors()}: give fewer addresses, or fewer workers ([node] workers)"
        )


def raise_descriptors() -> None:
    """As many descriptors as we may have; each connection takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
