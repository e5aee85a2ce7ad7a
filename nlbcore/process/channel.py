"""The channel between the supervisor and a worker: a handful of commands over a SOCK_SEQPACKET pair.

    supervisor -> worker    PREPARE n + memfd     make generation n ready (the memfd is the snapshot)
                            COMMIT n              it is in force from now on
                            ABORT n               forget it
                            ADOPT slot            accept from its sockets too: it has no worker, or one that hangs
                            RELEASE slot          no more: it has one again
                            DRAIN                 accept what is queued, then no more; exit when the last one has gone
                            STOP                  end every connection and exit
    worker -> supervisor    READY n | REFUSED n   the answer to PREPARE, with the reason; REFUSED later: it cannot work
                            FAILED slot           it could not adopt all of it, with the reason
                            DONE n                the answer to COMMIT, and to DRAIN when nothing is queued any more

A message is one packet: JSON ``{"command": ..., "generation": ..., "slot": ..., "reason": ...}``, with at most one
descriptor beside it. The end of the channel means that the other process is gone.
"""

from __future__ import annotations

import array
import json
import socket
from dataclasses import dataclass
from typing import Literal

Command = Literal[
    "PREPARE", "COMMIT", "ABORT", "ADOPT", "RELEASE", "DRAIN", "STOP", "READY", "REFUSED", "FAILED", "DONE"
]
_PACKET = 65536
_REASON = 4096  # characters; six bytes each at most in JSON


@dataclass(frozen=True)
class Message:
    """A command, the generation or the slot it is about, why (REFUSED), and a descriptor that the receiver owns
    (PREPARE).
    """

    command: Command
    generation: int = 0
    reason: str = ""
    slot: int = 0
    fd: int = -1


class Channel:
    """One end of a channel; `fileno()` for whoever polls it."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, message: Message) -> bool:
        """Send; False when the other end is gone, or has let so many messages wait that there is no room for one."""
        text = {
            "command": message.command,
            "generation": message.generation,
            "slot": message.slot,
            "reason": message.reason[:_REASON],
        }
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [message.fd]))] if message.fd >= 0 else []
        try:
            self._socket.sendmsg([json.dumps(text).encode()], rights)
        except (BrokenPipeError, ConnectionResetError, BlockingIOError):
            return False
        return True

    def receive(self) -> Message | None:
        """The next message; None at the end of the channel.

        Raises:
            BlockingIOError: there is none now
        """
        fds = array.array("i")
        try:
            data, rights, _, _ = self._socket.recvmsg(_PACKET, socket.CMSG_SPACE(fds.itemsize), socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return None
        if not data:
            return None
        for level, kind, payload in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        return Message(**json.loads(data), fd=fds[0] if fds else -1)
