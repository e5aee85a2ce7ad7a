"""`nlb top` as it is called: on a terminal, in a pipe, against a real balancer; and it costs nobody else anything."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pexpect
import pytest

from tests.support.balancer import NLB, nlb
from tests.support.status import status
from tests.unit.control.running import Loop

if TYPE_CHECKING:
    from pathlib import Path

# Python 3.12 and newer: pexpect forks (and executes at once), and a test process of xdist has more than one thread.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
"""The other page of a terminal."""
Spawn = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The control socket of somebody who answers `status`."""
    with Loop(tmp_path / "nlb.sock", lambda verb, arguments: status()):
        yield tmp_path / "nlb.sock"


@pytest.fixture
def spawn(path: Path) -> Iterator[Spawn]:
    """`nlb top` on a terminal."""
    started: list[pexpect.spawn[str]] = []

    def start(size: tuple[int, int] = (40, 120), term: str = "xterm-256color") -> pexpect.spawn[str]:
        top = pexpect.spawn(
            "env",
            [f"TERM={term}", str(NLB), "top", "--socket", str(path)],
            encoding="utf-8",
            dimensions=size,
            timeout=20,
        )
        started.append(top)
        return top

    yield start
    for top in started:
        top.close(force=True)


def modes(top: pexpect.spawn[str]) -> list[object]:
    """How the terminal treats keys: with echo, line by line, and so on."""
    return termios.tcgetattr(top.child_fd)[:4]


@pytest.mark.parametrize(("key", "size"), [("q", (40, 120)), ("\x03", (5, 20))])
def test_a_key_ends_it_and_the_terminal_is_as_before(spawn: Spawn, key: str, size: tuple[int, int]) -> None:
    top = spawn(size)
    before = modes(top)
    top.expect_exact(ENTER)
    top.expect("web" if size[0] > 20 else "nlb-1")
    assert modes(top) != before
    top.send(key)
    top.expect(pexpect.EOF)
    assert isinstance(top.before, str)
    assert LEAVE in top.before
    assert modes(top) == before
    top.close()
    assert (top.exitstatus, top.signalstatus) == (0, None)


def test_a_signal_ends_it_and_the_terminal_is_as_before(spawn: Spawn) -> None:
    top = spawn()
    before = modes(top)
    top.expect_exact("web")
    top.kill(signal.SIGTERM)
    top.expect(pexpect.EOF)
    assert isinstance(top.before, str)
    assert LEAVE in top.before
    assert modes(top) == before
    top.close()
    assert (top.exitstatus, top.signalstatus) == (143, None)


def test_a_terminal_that_cannot(spawn: Spawn) -> None:
    top = spawn(term="dumb")
    top.expect(pexpect.EOF)
    assert isinstance(top.before, str)
    assert "can place text" in top.before
    assert "--once" in top.before
    assert ENTER not in top.before
    top.close()
    assert top.exitstatus == 2


def test_elsewhere(path: Path) -> None:
    done = nlb("top", "--socket", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nlb top needs a terminal" in done.stderr
    assert "nlb top --once" in done.stderr


def test_once(path: Path) -> None:
    done = nlb("top", "--once", "--interval", "0.1", "--socket", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nlb-1  running  generation 3")
    assert re.search(r"^ web +0\.0\.0\.0:443, \[::\]:443  TCPSSL +required +1,234 +0 ", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


def test_nobody(tmp_path: Path) -> None:
    done = nlb("top", "--once", "--socket", "nlb.sock", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (69, "", "nlb: no running balancer at nlb.sock\n")


def test_an_interval_is_a_sensible_number() -> None:
    done = nlb("top", "--once", "--interval", "0")
    assert (done.returncode, done.stdout) == (2, "")


def test_help_loads_no_window() -> None:
    code = (
        "import sys\nfrom nlbcli.main import nlb\n"
        "for words in (['--help'], ['top', '--help']):\n"
        "    nlb(words, standalone_mode=False)\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('textual', 'asyncio')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "top" in done.stdout
