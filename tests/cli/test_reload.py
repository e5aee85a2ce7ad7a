"""`nlb reload`: what it prints and how it ends, for every answer that a balancer may give."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.control.server import Pending
from nlbcore.errors import BusyError
from tests.support.balancer import NLB, nlb
from tests.support.waiting import wait_until
from tests.unit.control.running import Loop

if TYPE_CHECKING:
    from pathlib import Path

FINDING = {
    "file": "/etc/nlb/nlb.toml",
    "line": 7,
    "column": 3,
    "severity": "error",
    "key": "listeners.web.bnd",
    "message": "unknown key",
    "hint": 'did you mean "bind"?',
}
WARNING = {**FINDING, "line": 0, "severity": "warning", "key": "", "message": "it is old", "hint": ""}
DONE = {
    "successful": True,
    "generation": 3,
    "changes": ["listeners.web.certificates: www.example.com until 2027-01-01", "listeners.old: removed"],
    "needs_restart": ["node.user", "node.control_socket"],
    "closed": 1200,
    "findings": [],
    "reason": "",
    "seconds": 0.25,
}
TOLD = """\
generation 3 is in force
  listeners.web.certificates: www.example.com until 2027-01-01
  listeners.old: removed
only a restart brings into force: node.user, node.control_socket
1,200 live connections were closed
"""
REFUSED = {
    **DONE,
    "successful": False,
    "generation": 2,
    "changes": [],
    "needs_restart": [],
    "closed": 0,
    "findings": [FINDING, WARNING],
    "reason": "1 error in /etc/nlb/nlb.toml",
}
TOLD_REFUSED = """\
/etc/nlb/nlb.toml:7:3: error: listeners.web.bnd: unknown key (did you mean "bind"?)
/etc/nlb/nlb.toml: warning: it is old
nlb: reload refused, generation 2 stays in force: 1 error in /etc/nlb/nlb.toml
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nlb.sock"


@pytest.mark.parametrize(
    ("answer", "code", "stdout", "stderr"),
    [
        (
            DONE,
            0,
            TOLD,
            "",
        ),
        (
            {**DONE, "changes": [], "needs_restart": [], "closed": 1, "findings": [WARNING]},
            0,
            "generation 3 is in force\n  nothing has changed\n1 live connection was closed\n",
            "/etc/nlb/nlb.toml: warning: it is old\n",
        ),
        (
            REFUSED,
            1,
            "",
            TOLD_REFUSED,
        ),
    ],
    ids=["done", "nothing", "refused"],
)
def test_what_is_told(path: Path, answer: dict[str, Any], code: int, stdout: str, stderr: str) -> None:
    """As JSON it is the answer, and the exit code is the same."""
    with Loop(path, lambda verb, _: answer) as loop:
        done = nlb("reload", "--socket", path)
        assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)
        done = nlb("reload", "--socket", path, "--json")
        assert (done.returncode, json.loads(done.stdout), done.stderr) == (code, answer, "")
        assert loop.seen == [("reload", {})] * 2


def test_it_waits(path: Path) -> None:
    """Longer than other commands would, unless it is told how long, or interrupted; then it says what goes on."""
    made: list[Pending] = []

    def answer(verb: str, arguments: dict[str, Any]) -> Pending:
        made.append(Pending())
        return made[-1]

    with Loop(path, answer) as loop:
        done = nlb("reload", "--socket", path, "--timeout", "0.1")
        told = (
            f"nlb: the balancer at {path} does not answer in time; a reload that has begun goes on, `nlb status` tells"
        )
        assert (done.returncode, done.stdout, done.stderr) == (75, "", f"{told} how it ended\n")
        process = subprocess.Popen([NLB, "reload", "--socket", path], stderr=subprocess.PIPE, text=True)
        wait_until(lambda: len(made) == 2, "the request")
        process.send_signal(signal.SIGINT)
        assert "the reload goes on" in process.communicate(timeout=10)[1]
        assert process.returncode == 1
        with subprocess.Popen([NLB, "reload", "--socket", path], stdout=subprocess.PIPE, text=True) as process:
            wait_until(lambda: len(made) == 3, "the request")
            loop.do(lambda: made[2].resolve(DONE))
            assert process.communicate(timeout=10)[0].startswith("generation 3 is in force\n")


def test_what_a_balancer_or_none_may_say(path: Path, tmp_path: Path) -> None:
    def refuse(verb: str, arguments: dict[str, Any]) -> None:
        raise BusyError("the balancer is draining")

    with Loop(path, refuse):
        done = nlb("reload", "--socket", path)
        assert (done.returncode, done.stdout, done.stderr) == (75, "", "nlb: the balancer is draining\n")
    (tmp_path / "nlb.toml").write_text('[node]\ncontrol_socket = "nlb.sock"\n')
    done = nlb("reload", "-c", tmp_path / "nlb.toml")
    assert (done.returncode, done.stdout, done.stderr) == (69, "", f"nlb: no running balancer at {path}\n")
    for seconds in ("0", "-1", "soon"):
        assert nlb("reload", "--timeout", seconds).returncode == 2
