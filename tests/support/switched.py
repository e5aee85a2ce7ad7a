"""Servers that are stopped and started again, and servers that are ill as far as a health check can see."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from tests.support.backends import Backend, Seen, greet
from tests.support.ports import free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.balancer import Balancer


class Switched(Backend):
    """A `Backend` on a TCP port of `host` that it keeps while it is down; it begins up."""

    def __init__(
        self, serve: Callable[[Seen], None] | None = None, *, host: str = "127.0.0.1", port: int | None = None
    ) -> None:
        self._is_up = threading.Event()
        super().__init__(serve, host=host)
        self.down()
        self._listener.close()
        # A port by number: one that the kernel has chosen would be given back at shutdown().
        self._listener = socket.socket()
        self._listener.bind((host, port or free_port()))
        self.address = f"{host}:{self.port}"
        self.up()

    def up(self) -> None:
        """Listen and accept."""
        self._listener.listen(1024)
        self._is_up.set()

    def down(self) -> None:
        """Refuse new connections; those that are there go on."""
        self._is_up.clear()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """As every server's; the thread waits for nothing any more."""
        self._closing = True
        self._is_up.set()
        super().close()

    def _accept(self) -> None:
        while not self._closing:
            super()._accept()  # until shutdown()
            self._is_up.wait()


class Patients:
    """Servers a, b, ... that greet with their name and always serve, each on an address of its own with a second port there,
    the same for all, that health checks ask: `health["a"].down()` makes a ill without stopping it.
    """

    def __init__(self, names: str) -> None:
        self.check_port = free_port()
        hosts = {name: f"127.0.0.{number}" for number, name in enumerate(names, 1)}
        self.servers = {name: Backend(greet(name.encode()), host=host) for name, host in hosts.items()}
        self.health = {name: Switched(host=host, port=self.check_port) for name, host in hosts.items()}

    def entries(self, **weights: int) -> list[dict[str, object]]:
        """Entries of `servers`."""
        return [one.entry(name=name, weight=weights.get(name, 100)) for name, one in self.servers.items()]

    def check(self, **keys: object) -> dict[str, object]:
        """A `health_check` that asks the second ports once a second."""
        return {"interval": "1s", "connect_timeout": "1s", "port": self.check_port, **keys}

    def close(self) -> None:
        """Close all."""
        for one in [*self.servers.values(), *self.health.values()]:
            one.close()


def wait_event(balancer: Balancer, event: str, *, since: int = 0, **fields: Any) -> str:
    """Wait for an event with these fields among those after the first `since`; the line."""
    words = {f"{key}={value}" for key, value in fields.items()}

    def found() -> list[str]:
        lines = balancer.events()[since:]
        return [line for line in lines if line.split()[2] == event and words <= set(line.split()[3:])]

    return wait_until(found, lambda: f"{event} with {fields}\n{balancer.describe()}", 15.0)[0]
