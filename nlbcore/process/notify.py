"""Telling systemd how the service fares (sd_notify(3)): datagrams of `KEY=value` lines to the socket in $NOTIFY_SOCKET.

Without that variable nothing happens. It is taken out of the environment, with those of the watchdog, so that no process
we start can speak for the service; they are kept here, because systemd wants to hear from us for as long as we run, and
then from the program that takes over in an upgrade.

A manager that does not read is never waited for. What it must not miss (READY=1 and the like) is kept, in order, and
sent with the next message or by `flush()`; a status or a sign of life that comes too late is worth nothing, and dropped.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque

_KEPT = 16
"""Messages that may wait; of more, the oldest are dropped: the newest say how things are."""


class Notifier:
    """Speaks to the service manager, if there is one.

    Attributes:
        interval: seconds after which the watchdog wants a sign of life, half of its limit; None: nobody watches
        environment: the variables that a program which takes over needs
    """

    def __init__(self) -> None:
        text = os.environ.pop("NOTIFY_SOCKET", "")
        limit, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        self._address = "\0" + text[1:] if text.startswith("@") else text if text.startswith("/") else ""
        self._kept: deque[bytes] = deque(maxlen=_KEPT)
        self.interval: float | None = None
        self.environment: dict[str, str] = {}
        if self._address:
            self.environment["NOTIFY_SOCKET"] = text
            if limit.isdecimal() and int(limit) and pid in ("", str(os.getpid())):
                self.interval = int(limit) / 2e6
                self.environment["WATCHDOG_USEC"] = limit

    def ready(self, status: str = "") -> None:
        """Start-up is complete, or a reload is, whether it was successful or not."""
        self._send(("READY", "1"), ("STATUS", status))

    def reloading(self, status: str = "") -> None:
        """A reload has begun. Without the time newer versions of systemd never take it as done."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(("RELOADING", "1"), ("MONOTONIC_USEC", str(now)), ("STATUS", status))

    def status(self, status: str) -> None:
        """What `systemctl status` shows: one line."""
        self._send(("STATUS", status), kept=False)

    def stopping(self, status: str = "") -> None:
        """The end has begun."""
        self._send(("STOPPING", "1"), ("STATUS", status))

    def watchdog(self) -> None:
        """A sign of life; to be given every `interval` seconds by who has looked whether all is well."""
        self._send(("WATCHDOG", "1"), kept=False)

    def main_pid(self, pid: int) -> None:
        """Another process is the service from now on. systemd believes only the one that it was before."""
        self._send(("MAINPID", str(pid)))

    def silence(self) -> None:
        """Say no more: another one speaks for the service."""
        self.flush()
        self._address = ""
        self._kept.clear()
        self.interval = None

    def flush(self) -> None:
        """Try again to send what had to wait."""
        while self._kept and self._sent(self._kept[0]):
            self._kept.popleft()

    def _send(self, *fields: tuple[str, str], kept: bool = True) -> None:
        """Send the fields that are not empty."""
        if not self._address:
            return
        lines = [f"{key}={' '.join(value.split())}" for key, value in fields if value]
        message = "\n".join(lines).encode(errors="backslashreplace")
        self.flush()
        if (self._kept or not self._sent(message)) and kept:
            self._kept.append(message)

    def _sent(self, message: bytes) -> bool:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(message, self._address)
        except OSError:
            return False
        return True
