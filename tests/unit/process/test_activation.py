"""Socket activation, as systemd does it: descriptors from 3 on across an exec, and the variables that tell of them."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.process.activation import inherited
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PROGRAM = """
import json, os, sys
from nlbcore.errors import NlbError
from nlbcore.process.activation import inherited
before = len(os.listdir("/proc/self/fd"))
try:
    found = inherited(os.environ)
except NlbError as error:
    print(json.dumps({"error": str(error), "code": error.exit_code, "closed": before - len(os.listdir("/proc/self/fd"))}))
else:
    sockets = [
        [name, one.fileno(), one.getsockname(), one.get_inheritable(), one.getblocking()]
        for name, several in found.items() for one in several
    ]
    left = [name for name in os.environ if name.startswith("LISTEN_")]
    print(json.dumps({"sockets": sockets, "left": left}))
"""


def activated(fds: Sequence[int], pid: str = "$$", **variables: str) -> dict[str, Any]:
    """What `inherited` says in a process that was started as systemd does: a shell that becomes it has its pid already."""
    moves = " ".join(f"{number}<&{fd}" for number, fd in enumerate(fds, 3))
    settings = " ".join(f"{name}='{value}'" for name, value in variables.items())
    result = subprocess.run(
        ["/bin/bash", "-c", f'LISTEN_PID={pid} {settings} exec "$0" -P -c "$1" {moves}', sys.executable, PROGRAM],
        pass_fds=fds,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    return dict(json.loads(result.stdout))


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[list[socket.socket]]:
    made = [socket.create_server(("127.0.0.1", free_port())), socket.socket(socket.AF_UNIX)]
    made[1].bind(str(tmp_path / "s"))
    made[1].listen()
    # Far from 3, so that the shell's moves do not tread on each other.
    moved = [socket.socket(fileno=fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, 50)) for one in made]
    yield moved
    for one in (*made, *moved):
        one.close()


def test_named_sockets(listening: list[socket.socket]) -> None:
    fds = [one.fileno() for one in listening]
    found = activated([*fds, fds[0]], LISTEN_FDS="3", LISTEN_FDNAMES="web:local:web")
    tcp, unix = list(listening[0].getsockname()), listening[1].getsockname()
    assert found == {
        "sockets": [["web", 3, tcp, False, False], ["web", 5, tcp, False, False], ["local", 4, unix, False, False]],
        "left": [],
    }


def test_sockets_without_names(listening: list[socket.socket]) -> None:
    found = activated([listening[0].fileno()], LISTEN_FDS="1")
    assert [one[:2] for one in found["sockets"]] == [["unknown", 3]]


@pytest.mark.parametrize("pid", ["1", "", "x", "'$$ '"])
def test_sockets_of_another_process(listening: list[socket.socket], pid: str) -> None:
    """They are left alone; the variables go all the same."""
    assert activated([listening[0].fileno()], pid, LISTEN_FDS="1", LISTEN_FDNAMES="web") == {"sockets": [], "left": []}


def test_no_activation() -> None:
    environ = {"PATH": "/bin"}
    assert inherited(environ) == {}
    assert environ == {"PATH": "/bin"}
    assert activated([], LISTEN_FDS="0") == {"sockets": [], "left": []}


@pytest.mark.parametrize("kind", ["file", "datagram", "connected", "bound", "packets", "closed"])
def test_what_is_no_listening_stream_socket(listening: list[socket.socket], kind: str) -> None:
    """The good one before it is closed again."""
    pair = socket.socketpair()
    several = {
        "datagram": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "bound": socket.socket(),
        "packets": socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
        "connected": pair[0],
    }
    several["bound"].bind(("127.0.0.1", 0))
    several["packets"].bind("")
    several["packets"].listen()
    with open("/dev/null") as null:
        fds = {"file": null.fileno(), **{name: one.fileno() for name, one in several.items()}}
        used = [listening[0].fileno()]
        if kind != "closed":
            used.append(fcntl.fcntl(fds[kind], fcntl.F_DUPFD_CLOEXEC, 50))
        found = activated(used, LISTEN_FDS="2", LISTEN_FDNAMES="web:other")
    if kind != "closed":
        os.close(used[1])
    for one in (*several.values(), pair[1]):
        one.close()
    assert found["code"] == 1
    assert found["closed"] == (1 if kind in ("file", "closed") else 2)
    expected = "no socket" if kind in ("file", "closed") else "no listening stream socket: its .socket unit needs"
    assert found["error"].startswith(f"systemd:other: descriptor 4 is {expected}")


@pytest.mark.parametrize(
    ("count", "names", "sentence"),
    [
        ("x", "", 'LISTEN_FDS="x" of the environment is no number'),
        ("-1", "", 'LISTEN_FDS="-1" of the environment is no number'),
        ("", "", 'LISTEN_FDS="" of the environment is no number'),
        ("1", "a:b", 'LISTEN_FDS="1" and LISTEN_FDNAMES="a:b" of the environment do not agree'),
        ("2", "a", 'LISTEN_FDS="2" and LISTEN_FDNAMES="a" of the environment do not agree'),
    ],
)
def test_variables_that_make_no_sense(count: str, names: str, sentence: str) -> None:
    assert activated([], LISTEN_FDS=count, LISTEN_FDNAMES=names)["error"] == sentence
