"""The commands' side of the control socket: ask a running balancer, wait for its end, judge what it says of itself."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from nlbcore.control.protocol import (
    ANSWER_LIMIT,
    DESCRIPTORS,
    REQUEST_LIMIT,
    Decoder,
    Message,
    ProtocolError,
    descriptors,
    encode,
    read_answer,
    request,
)
from nlbcore.errors import BusyError, DeniedError, NlbError, NotRunningError

PATIENCE = 5.0
"""Seconds for an answer; a supervisor never takes long."""
WORKERS_PATIENCE = 30.0
"""Seconds for an answer that every worker has a part in."""
KILLED_AT_ONCE = 2500
"""Connections in one request; each number has up to twenty digits."""
_PIECE = 1 << 20
_RIGHTS_SIZE = socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
_CREDENTIALS = struct.Struct("=iII")
STUCK_MS = 3000
"""Age of a heartbeat that no worker of good health has."""


def call(path: Path, verb: str, arguments: Message | None = None, timeout: float | None = PATIENCE) -> Message:
    """Ask the balancer at `path` and return its result; a timeout of None waits for as long as it takes.

    Raises:
        NotRunningError: nobody listens there (69)
        DeniedError: it is another user's (77)
        BusyError: it does not answer within `timeout` seconds (75)
        RefusedError: it answers no, with the exit code it gives
        ProtocolError: it is of another version, or no balancer
    """
    return read_answer(_ask(path, verb, arguments, timeout))


def call_with_descriptors(
    path: Path, verb: str, arguments: Message | None = None, timeout: float | None = WORKERS_PATIENCE
) -> tuple[Message, list[int]]:
    """As `call()`, and the descriptors that came with the answer: the caller's to close, close-on-exec."""
    fds: list[int] = []
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(_close_all, fds)
        answer = _ask(path, verb, arguments, timeout, fds)
        result = read_answer(answer)
        if len(fds) != (sent := descriptors(answer)):
            raise ProtocolError(f"{len(fds)} of {sent} descriptors have arrived: are too many files open? (ulimit -n)")
        cleanup.pop_all()
    return result, fds


def kill(path: Path, connections: Sequence[int]) -> int:
    """Have these connections ended; how many of them were there.

    Raises:
        as `call()`
    """
    killed = 0
    for first in range(0, len(connections), KILLED_AT_ONCE):
        some = list(connections[first : first + KILLED_AT_ONCE])
        killed += int(call(path, "kill", {"connections": some}, WORKERS_PATIENCE)["killed"])
    return killed


def stop(path: Path, *, now: bool = False, timeout: float | None = None) -> None:
    """Ask the balancer at `path` to stop, and wait until its process has gone.

    Args:
        path: of the control socket
        now: end every connection at once, instead of letting them finish
        timeout: seconds to wait; None: as long as it takes
    Raises:
        as `call()`; BusyError: it is still there after `timeout`
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    with _connect(path, PATIENCE) as sock, contextlib.ExitStack() as cleanup:
        pid, _, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        process = _open_process(pid)
        if process >= 0:
            cleanup.callback(os.close, process)
        _send(sock, path, "stop", {"now": now})
        try:
            while (answer := _receive(sock, path, deadline)) is not None:
                read_answer(answer)
            ended = process < 0 or _await_exit(process, deadline)
        except BusyError:
            ended = False
    if not ended:
        raise BusyError(f"the balancer at {path} has not stopped yet")


def problems(status: Message, days: float) -> list[str]:
    """What is not well in the answer to `status`, each in a few words.

    Args:
        status: the answer
        days: a certificate that expires within so many days is not well
    """
    found = []
    if status["state"] != "running":
        found.append(f"the balancer is {status['state']}")
    else:
        found += _reload_problem(status)
        found += [text for worker in status["workers"] if (text := _worker_problem(worker))]
        if not any(worker["state"] == "running" for worker in status["workers"]):
            found.append("no worker is running")
        found += [
            f"the {one['name'].replace('_', ' ')} is {one['state']}"
            for one in status["attendants"]
            if one["state"] != "running"
        ]
    found += [
        f"server group {group['name']} has no usable server"
        + (": new connections go to all of them" if group["fail_open"] else "")
        for group in status["server_groups"]
        if group["usable"] == 0
    ]
    for certificate in status["certificates"]:
        left = certificate["days_left"]
        if left < days:
            found.append(f"certificate {certificate['path']} of listener {certificate['listener']} {_expiry(left)}")
    found += [
        f"the revocation list of {crl['issuer']} of listener {crl['listener']} is overdue"
        for crl in status["crls"]
        if crl["days_left"] is not None and crl["days_left"] < 0
    ]
    return found


def summary(status: Message) -> str:
    """The answer to `status` in one line."""
    servers = sum(server["weight"] > 0 for group in status["server_groups"] for server in group["servers"])
    usable = sum(group["usable"] for group in status["server_groups"])
    parts = [
        f"generation {status['generation']}",
        _count(len(status["listeners"]), "listener"),
        f"{usable} of {_count(servers, 'server')} usable",
        _count(status["connections"], "connection"),
        _count(sum(worker["state"] != "retired" for worker in status["workers"]), "worker"),
    ]
    if status["certificates"]:
        left = min(certificate["days_left"] for certificate in status["certificates"])
        parts.append(f"first certificate {_expiry(left)}")
    return ", ".join(parts)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _reload_problem(status: Message) -> list[str]:
    last = status["reload"]
    if last is None or last["successful"]:
        return []
    return [f"the last reload was refused, generation {status['generation']} stays in force: {last['reason']}"]


def _worker_problem(worker: Message) -> str:
    if worker["state"] in ("retiring", "retired"):  # somebody wanted one less
        return ""
    if worker["state"] != "running":
        return f"worker {worker['slot']} is {worker['state']}"
    age = worker["heartbeat_age_ms"]
    if age is not None and age >= STUCK_MS:
        return f"worker {worker['slot']} has not moved for {age / 1000:.0f} s"
    return ""


def _expiry(days: float) -> str:
    return f"expired {-days:.1f} days ago" if days < 0 else f"expires in {days:.1f} days"


def _ask(
    path: Path, verb: str, arguments: Message | None, timeout: float | None, fds: list[int] | None = None
) -> Message:
    """The answer to a request; `fds` takes the descriptors that come with it."""
    deadline = None if timeout is None else time.monotonic() + timeout
    with _connect(path, PATIENCE if timeout is None else timeout) as sock:
        _send(sock, path, verb, arguments)
        answer = _receive(sock, path, deadline, fds)
    if answer is None:
        raise NlbError(f"the balancer at {path} has ended the connection without an answer")
    return answer


def _connect(path: Path, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        sock.close()
        raise NotRunningError(f"no running balancer at {path}") from None
    except PermissionError:
        sock.close()
        raise DeniedError(f"{path}: permission denied; only the balancer's own user and root may talk to it") from None
    except (BlockingIOError, TimeoutError):
        sock.close()
        raise _silent(path) from None
    except OSError as error:
        sock.close()
        raise NlbError(f"{path}: {error.strerror or error}") from None
    return sock


def _send(sock: socket.socket, path: Path, verb: str, arguments: Message | None) -> None:
    try:
        sock.sendall(encode(request(verb, arguments), REQUEST_LIMIT))
    except TimeoutError:
        raise _silent(path) from None
    except ConnectionError:  # it refuses us without reading, but has said why
        pass


def _receive(sock: socket.socket, path: Path, deadline: float | None, fds: list[int] | None = None) -> Message | None:
    """The next answer; None at the end of the connection."""
    decoder = Decoder(ANSWER_LIMIT)
    while (message := decoder.next()) is None:
        try:
            sock.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
            data = sock.recv(_PIECE) if fds is None else _take(sock, fds)
        except TimeoutError:
            raise _silent(path) from None
        except ConnectionError:
            return None
        if not data:
            return None
        decoder.feed(data)
    return message


def _take(sock: socket.socket, fds: list[int]) -> bytes:
    """Receive; add the descriptors that come with it to `fds`."""
    data, rights, _, _ = sock.recvmsg(_PIECE, _RIGHTS_SIZE, socket.MSG_CMSG_CLOEXEC)
    for level, kind, value in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            some = array.array("i")
            some.frombytes(value[: len(value) - len(value) % some.itemsize])
            fds += some
    return data


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _silent(path: Path) -> BusyError:
    return BusyError(f"the balancer at {path} does not answer in time")


def _open_process(pid: int) -> int:
    """A descriptor of the process, -1 where it cannot be seen from here (another pid namespace)."""
    try:
        return os.pidfd_open(pid) if pid > 0 else -1
    except OSError:
        return -1


def _await_exit(process: int, deadline: float | None) -> bool:
    """Whether it ends in time. The connection has ended; a moment later the process has too, and with it its ports."""
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    ended, _, _ = select.select([process], [], [], left)
    return bool(ended)
