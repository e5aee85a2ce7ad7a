"""Listening sockets: those of one address for all worker slots, made by the supervisor and kept until they are not wanted.

A TCP address has a socket for each slot, bound with SO_REUSEPORT, so that the kernel spreads connections over the slots.
That would also let a second balancer share the port silently, so each address is first bound without it. A Unix socket is
one for all slots, and so are those that systemd has opened. Options that accepted sockets inherit (TCP_NODELAY,
SO_KEEPALIVE) are set here once instead of on each connection.

Sockets belong to addresses, not to listeners: a reload that gives an address to another listener touches none of them.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from nlbcore import unixsocket
from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, StartError
from nlbcore.process.channel import ANY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nlbcore.address import Endpoint

BACKLOG = 4096


class Address:
    """An address and its sockets, by slot; from ANY on: for all slots."""

    def __init__(self, endpoint: Endpoint, sockets: Mapping[int, socket.socket]) -> None:
        self.endpoint = endpoint
        self.sockets = dict(sockets)
        self._listens = False
        self._known = unixsocket.inode(endpoint.path) if endpoint.path is not None else None

    @classmethod
    def bind(
        cls, endpoint: Endpoint, slots: int, activated: Mapping[str, Sequence[socket.socket]] | None = None
    ) -> Address:
        """Bind it; clients can connect from `listen()` on.

        Args:
            endpoint: the address
            slots: how many there are
            activated: what systemd has opened, by name
        Raises:
            StartError: it cannot be bound (exit code 77 when a permission is missing)
        """
        try:
            if endpoint.systemd is not None:
                found = (activated or {}).get(endpoint.systemd)
                if not found:
                    raise StartError(
                        f"cannot listen on {endpoint}: systemd has handed over no socket of that name "
                        "(FileDescriptorName= of a .socket unit that starts this service)"
                    )
                for sock in found:
                    _set_options(sock)
                return cls(endpoint, dict(enumerate(found, ANY)))
            if endpoint.family == socket.AF_UNIX:
                return cls(endpoint, {ANY: unixsocket.bind(Path(str(endpoint.path)), BACKLOG)})
            _bound(endpoint, reuseport=False).close()
            with contextlib.ExitStack() as undo:
                made = {slot: undo.enter_context(_bound(endpoint, reuseport=True)) for slot in range(slots)}
                undo.pop_all()
            return cls(endpoint, made)
        except OSError as error:
            raise _start_error(endpoint, error) from None

    @classmethod
    def inherit(cls, endpoint: Endpoint, sockets: Mapping[int, socket.socket], slots: int) -> Address:
        """Take over the sockets of a predecessor, and bind those that it has not had.

        Raises:
            StartError: one cannot be bound
        """
        address = cls(endpoint, sockets)
        address._listens = True
        address.disown()
        for slot in range(slots):
            address.add(slot)
        address.listen(range(slots))
        return address

    def own(self) -> None:
        """We are the balancer: its name in the file system is ours to remove in the end."""
        if self.endpoint.path is not None:
            with contextlib.suppress(OSError):  # somebody has removed it: nothing is left to remove
                self._known = unixsocket.inode(self.endpoint.path)

    def disown(self) -> None:
        """A successor has it: its name in the file system is not ours to remove."""
        self._known = None

    @property
    def shared(self) -> bool:
        """Whether all slots have the same sockets."""
        return any(slot >= ANY for slot in self.sockets)

    def listen(self, slots: Iterable[int] | None = None) -> None:
        """Let clients connect; with `slots`, to these only.

        Raises:
            StartError: the kernel refuses it
        """
        chosen = [sock for slot, sock in self.sockets.items() if slots is None or slot in slots]
        try:
            if chosen and not self._listens and not self.shared:
                self._look_again()
            for sock in chosen:
                sock.listen(BACKLOG)
                self._listens = True
        except OSError as error:
            raise _start_error(self.endpoint, error) from None

    def _look_again(self) -> None:
        """Another balancer that was bound in the same moment may listen by now. That is the one thing that is asked here: for
        want of a descriptor nobody is refused.
        """
        try:
            _bound(self.endpoint, reuseport=False).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise

    def add(self, slot: int) -> socket.socket | None:
        """Bind a socket for one slot more; None if it shares those there are.

        Raises:
            StartError: it cannot be bound
        """
        if self.shared or slot in self.sockets:
            return None
        try:
            self.sockets[slot] = _bound(self.endpoint, reuseport=True)
        except OSError as error:
            raise _start_error(self.endpoint, error) from None
        return self.sockets[slot]

    def close(self) -> None:
        """No more connections; a Unix socket loses its name, if that is still its own."""
        if self._known is not None:
            unixsocket.remove(Path(str(self.endpoint.path)), self._known)
        for sock in self.sockets.values():
            sock.close()


def _bound(endpoint: Endpoint, *, reuseport: bool) -> socket.socket:
    made = socket.socket(endpoint.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuseport:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _set_options(made)
        if endpoint.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(endpoint.sockaddr())
    except OSError:
        made.close()
        raise
    return made


def _set_options(listening: socket.socket) -> None:
    """What accepted sockets inherit."""
    if listening.family != socket.AF_UNIX:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _start_error(endpoint: Endpoint, error: OSError) -> StartError:
    hints = {
        errno.EADDRINUSE: "another process listens there",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.EACCES: "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        errno.ENOENT: "the folder does not exist",
        errno.EEXIST: "something else has that name, and it is not removed",
    }
    reason = hints.get(error.errno or 0, error.strerror or str(error))
    code = EXIT_PERMISSION if error.errno in (errno.EACCES, errno.EPERM) else EXIT_FAILED
    return StartError(f"cannot listen on {endpoint}: {reason}", code)
