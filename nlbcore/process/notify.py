"""Telling systemd how the service fares (sd_notify(3)): datagrams of `KEY=value` lines to the socket in $NOTIFY_SOCKET.

Without that variable nothing happens. It is taken out of the environment, so that no process we start can speak for the
service; the address is kept here, because systemd wants to hear from us for as long as we run.
"""

from __future__ import annotations

import os
import socket

_PATIENCE = 1.0
"""Seconds that a message may wait for room in systemd's queue: READY=1 is worth waiting for, but not for ever."""


class Notifier:
    """Speaks to the service manager, if there is one."""

    def __init__(self) -> None:
        text = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + text[1:] if text.startswith("@") else text if text.startswith("/") else ""

    def ready(self, status: str = "") -> None:
        """Start-up is complete."""
        self._send(("READY", "1"), ("STATUS", status))

    def status(self, status: str) -> None:
        """What `systemctl status` shows: one line."""
        self._send(("STATUS", status))

    def stopping(self, status: str = "") -> None:
        """The end has begun."""
        self._send(("STOPPING", "1"), ("STATUS", status))

    def _send(self, *fields: tuple[str, str]) -> None:
        """Send the fields that are not empty. A manager that does not listen must not stop the balancer."""
        if not self._address:
            return
        lines = [f"{key}={' '.join(value.split())}" for key, value in fields if value]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_PATIENCE)
                sender.connect(self._address)
                sender.send("\n".join(lines).encode(errors="backslashreplace"))
        except OSError:
            return
