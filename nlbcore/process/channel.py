"""The channel between the supervisor and a worker: a handful of commands over a SOCK_SEQPACKET pair.

    supervisor -> worker    PREPARE n + memfd     make generation n ready (the memfd is the snapshot)
                            SOCKETS slot + fds    listening sockets of an address (`text`) that were made after the fork: one
                                                  of each slot from `slot` on; from ANY on they are for all slots
                            COMMIT n              it is in force from now on
                            ABORT n               forget it
                            ADOPT slot            accept from its sockets too: it has no worker, or one that hangs
                            RELEASE slot          no more: it has one again
                            DUMP + fd             write who is connected into the file
                            KILL + fd             end the connections whose numbers (u64) are in the file
                            DRAIN                 accept what is queued, then no more; exit when the last one has gone
                            STOP                  end every connection and exit
    worker -> supervisor    READY n | REFUSED n   the answer to PREPARE, with the reason; REFUSED otherwise: it cannot work
                            FAILED slot           it could not adopt all of it, with the reason
                            DONE n                the answer to COMMIT, with the number of live connections that it has closed
                            FREED n               nobody needs generation n any more
                            DUMPED                the answer to DUMP; with a reason if it could not
                            KILLED                the answer to KILL, with the number of connections; likewise
                            DRAINED               the answer to DRAIN: nothing is queued any more

A message is one packet: JSON ``{"command": ..., "generation": ..., "slot": ..., "count": ..., "text": ...}``, with
descriptors beside it only on the way to a worker. The end of the channel means that the other process is gone. A worker
reads what strangers send, so what it says is not taken on trust: what is no such message is a `ChannelError`.
"""

from __future__ import annotations

import array
import errno
import json
import socket
from dataclasses import dataclass
from typing import Literal, get_args

Order = Literal["PREPARE", "SOCKETS", "COMMIT", "ABORT", "ADOPT", "RELEASE", "DUMP", "KILL", "DRAIN", "STOP"]
Answer = Literal["READY", "REFUSED", "FAILED", "DONE", "FREED", "DUMPED", "KILLED", "DRAINED"]
ANY = 65535
DESCRIPTORS = 250
"""In one message; the kernel takes 253."""
_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
_PACKET = 65536
_LARGEST = 2**63 - 1
_TEXT = 4096  # characters; six bytes each at most in JSON


@dataclass(frozen=True)
class Message:
    """A command; the generation, the slot, the number it is about; why (REFUSED, DUMPED, KILLED) or where (SOCKETS);
    descriptors that the receiver owns, and whether some are `lost`, because it has no room for them.
    """

    command: Order | Answer
    generation: int = 0
    text: str = ""
    slot: int = 0
    count: int = 0
    fds: tuple[int, ...] = ()
    lost: bool = False


class ChannelError(Exception):
    """The other end has said something that is no message."""


class Channel:
    """One end of a channel; `fileno()` for whoever polls it.

    Args:
        end: the socket
        expected: the commands that may come
        descriptors: whether one may come with them; else the kernel throws them away
    """

    def __init__(self, end: socket.socket, expected: tuple[str, ...], *, descriptors: bool) -> None:
        self._socket = end
        self._expected = expected
        self.full = False
        """Whether the last message was not sent because too many wait; else the other end is gone."""
        self._ancillary = socket.CMSG_LEN(DESCRIPTORS * array.array("i").itemsize) if descriptors else 0

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """The supervisor's end, and the worker's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        return cls(ours, get_args(Answer), descriptors=False), cls(theirs, get_args(Order), descriptors=True)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, message: Message) -> bool:
        """Send; False when it could not: the other end is gone, or has let too many messages wait."""
        fields = {
            "command": message.command,
            "generation": message.generation,
            "slot": message.slot,
            "count": message.count,
            "text": message.text[:_TEXT],
        }
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", message.fds))] if message.fds else []
        try:
            self._socket.sendmsg([json.dumps(fields).encode()], rights)
        except OSError as error:
            self.full = error.errno in _FULL
            return False
        return True

    def receive(self) -> Message | None:
        """The next message; None at the end of the channel.

        Raises:
            BlockingIOError: there is none now
            ChannelError: what came is no message of the other end's
        """
        fds = array.array("i")
        try:
            data, rights, flags, _ = self._socket.recvmsg(_PACKET, self._ancillary, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return None
        if not data and not rights:
            return None
        for level, kind, payload in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        lost = bool(flags & socket.MSG_CTRUNC)
        if flags & socket.MSG_TRUNC or (lost and not self._ancillary):
            raise ChannelError("a message with more than there may be in it")
        return self._parse(data, tuple(fds), lost=lost)

    def _parse(self, data: bytes, fds: tuple[int, ...], *, lost: bool) -> Message:
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError):
            raise ChannelError("a message that is no JSON") from None
        if not isinstance(fields, dict) or fields.keys() != {"command", "generation", "slot", "count", "text"}:
            raise ChannelError("a message with other fields")
        numbers = (fields["generation"], fields["slot"], fields["count"])
        if not all(type(number) is int and 0 <= number <= _LARGEST for number in numbers):
            raise ChannelError("a message with an impossible number")
        if fields["command"] not in self._expected or not isinstance(fields["text"], str):
            raise ChannelError("a message with an unknown command")
        return Message(**fields, fds=fds, lost=lost)
