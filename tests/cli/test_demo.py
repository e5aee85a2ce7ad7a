"""`nlb demo`, driven as a user does: on a terminal (pexpect), in a pipe, interrupted, killed; its curl lines are run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import psutil
import pytest
from click.testing import CliRunner

from nlbcli._demo_checks import Check
from nlbcli.demo import command
from tests.support.balancer import NLB
from tests.support.ports import free_port
from tests.support.programs import need
from tests.support.waiting import wait_until

# Python 3.12 and newer: pexpect forks (and executes at once), and a test process of xdist has more than one thread.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

CHECKS = (
    "requests of client-1 are spread over both servers",
    "a client without a certificate is refused",
    "client-2, whose certificate is revoked, is refused",
)
FOLLOWING = "Ctrl-C ends everything"
ENDED = "everything has ended"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where a demo makes its throw-away folder: with a short name, for the path of a socket has little room."""
    with tempfile.TemporaryDirectory(prefix="nlb-") as name:
        yield Path(name)


Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def run(temporary: Path) -> Run:
    """`nlb demo ARGUMENTS` to its end, in a pipe."""

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [NLB, "demo", *arguments],
            env={**os.environ, "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return call


@pytest.fixture
def spawn(temporary: Path) -> Iterator[Spawn]:
    """`nlb demo ARGUMENTS` on a terminal, followed until it shows the log; killed after the test with all it started."""
    started: list[pexpect.spawn[str]] = []

    def start(*arguments: str, **environment: str) -> pexpect.spawn[str]:
        demo = pexpect.spawn(
            str(NLB),
            ["demo", *arguments],
            env={**os.environ, "TMPDIR": str(temporary), "TERM": "xterm-256color", **environment},
            encoding="utf-8",
            dimensions=(40, 100),
            timeout=20,
        )
        started.append(demo)
        demo.expect_exact(FOLLOWING)
        return demo

    yield start
    for demo in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in psutil.Process(demo.pid).children(recursive=True):
                one.kill()
        demo.close(force=True)


def family(demo: pexpect.spawn[str]) -> list[psutil.Process]:
    """Everything that the demo has started."""
    found = psutil.Process(demo.pid).children(recursive=True)
    assert len(found) >= 5, found  # two servers, supervisor, log writer, prober, workers
    return found


def end(demo: pexpect.spawn[str], key: str = "\x03") -> str:
    """Press the key; what is printed until the end, which is orderly."""
    processes = family(demo)
    demo.send(key)
    demo.expect(pexpect.EOF)
    rest = demo.before
    demo.close()
    assert (demo.exitstatus, demo.signalstatus) == (0, None), rest
    assert not [one for one in processes if one.is_running()]
    assert isinstance(rest, str)
    return rest


def commands(demo: pexpect.spawn[str]) -> list[str]:
    """The commands to try."""
    shown = COLOUR.sub("", f"{demo.before}{demo.after}")
    return [line for line in shown.splitlines() if " --socket " in line or line.startswith("curl ")]


def test_once(run: Run, temporary: Path) -> None:
    """Everything shown, in words for a pipe, with less than five seconds of a processor's time; nothing is left."""
    port = free_port()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("--once", "--port", str(port))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5
    assert [line for line in done.stdout.splitlines() if line.startswith(("ok", "FAILED"))] == [
        f"ok {title}" for title in CHECKS
    ]
    for fact in (
        r"server a \d+, server b \d+ \(TLSv1\.3\)",
        "server_close, CN=client-1, proven",
        'alert "certificate required"',
        "no_certificate",
        'alert "certificate revoked"',
        "revoked, CN=client-2, claimed",
    ):
        assert re.search(rf" {fact}$", done.stdout, re.MULTILINE), fact
    assert "\x1b" not in done.stdout
    assert not list(temporary.iterdir())
    assert _is_free(port)


def test_json(run: Run, temporary: Path) -> None:
    """The checks and nothing else; what goes wrong before them is told to stderr alone."""
    done = run("--once", "--json", "--port", str(free_port()))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    shown = json.loads(done.stdout)
    assert shown["ok"] is True
    assert [(check["title"], check["ok"], check["problem"]) for check in shown["checks"]] == [
        (title, True, None) for title in CHECKS
    ]
    assert shown["checks"][2]["facts"] == {
        "the client saw": 'alert "certificate revoked"',
        "the log says": "revoked, CN=client-2, claimed",
    }
    done = run("--json", "--port", str(free_port()))
    assert (done.returncode, done.stdout) == (2, "")
    assert "give --once too" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--once", "--json", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stdout) == (1, "")
    assert "address already in use" in done.stderr
    assert not list(temporary.iterdir())


def test_json_of_what_went_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [Check("a", (("the client saw", "x"),)), Check("b", (), "an alert was due")]
    monkeypatch.setattr("nlbcli._demo.play", lambda _wishes: checks)
    result = CliRunner().invoke(command, ["--once", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"ok": False, "checks": [check.as_dict() for check in checks]}


def test_many_workers(run: Run) -> None:
    """Each goes round the servers by itself; both answer all the same."""
    done = run("--once", "--workers", "5", "--port", str(free_port()))
    assert done.returncode == 0, done.stdout
    assert "5 workers" in done.stdout


def test_the_curl_lines_do_what_they_say(spawn: Spawn, temporary: Path) -> None:
    """On a terminal, in colour; the lines are copied to a shell; Ctrl-C ends everything."""
    need("curl")
    demo = spawn("--port", str(free_port()))
    assert demo.before is not None
    assert "✓" in demo.before
    assert COLOUR.search(demo.before)
    answered, refused, revoked, status = commands(demo)
    bodies = {_shell(answered).stdout for _ in range(8)}
    assert bodies == {"server a\n", "server b\n"}
    for line, alert in ((refused, "certificate required"), (revoked, "certificate revoked")):
        done = _shell(line)
        assert done.returncode != 0
        assert done.stdout == ""
        assert alert in done.stderr
    done = _shell(status)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Available") == 2
    # The log grew with what curl did.
    for word, who in (
        ("server_close", "-> [ab]  CN=client-1 "),
        ("no_certificate", "no certificate"),
        ("revoked", r"CN=client-2 \(claimed\)"),
    ):
        demo.expect(rf"\x1b\[3[12]m{word} *\x1b\[0m +{who}")
    assert ENDED in end(demo)
    assert not list(temporary.iterdir())


def test_no_color_and_a_signal(spawn: Spawn) -> None:
    demo = spawn("--port", str(free_port()), NO_COLOR="1")
    assert demo.before is not None
    assert not COLOUR.search(demo.before)
    processes = family(demo)
    demo.kill(signal.SIGTERM)
    demo.expect_exact(ENDED)
    demo.expect(pexpect.EOF)
    demo.close()
    assert (demo.exitstatus, demo.signalstatus) == (0, None)
    assert not [one for one in processes if one.is_running()]


def test_a_named_folder_is_kept(spawn: Spawn, run: Run, temporary: Path) -> None:
    """It is refused while its demo runs, and used again only when told to; `nlb check` likes its configuration."""
    folder, port = temporary / "my demo", str(free_port())
    demo = spawn("--port", port, "--dir", str(folder))
    assert _shell(commands(demo)[0]).stdout.startswith("server ")  # the space in the path is quoted
    busy = run("--once", "--port", str(free_port()), "--dir", folder, "--force")
    assert busy.returncode == 75
    assert f"nlb: a demo is running in {folder}" in busy.stderr
    assert f"the files are in {folder}" in end(demo).replace("\r\n", "")
    root = (folder / "ca" / "root.crt").read_bytes()
    strict = subprocess.run([NLB, "check", "--strict", "-c", folder / "nlb.toml"], capture_output=True, check=False)
    assert strict.returncode == 0, strict.stdout
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*.key"))
    again = run("--once", "--port", port, "--dir", folder)
    assert again.returncode == 1
    assert "--force makes it anew" in again.stderr
    assert (folder / "ca" / "root.crt").read_bytes() == root
    assert run("--once", "--port", port, "--dir", folder, "--force").returncode == 0
    assert (folder / "ca" / "root.crt").read_bytes() != root


def test_a_foreign_folder_is_not_touched(run: Run, temporary: Path) -> None:
    (temporary / "thesis.tex").touch()
    done = run("--once", "--port", str(free_port()), "--dir", temporary, "--force")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"nlb: {temporary} is not empty" in done.stderr
    assert "--dir" in done.stderr
    assert [one.name for one in temporary.iterdir()] == ["thesis.tex"]


def test_a_taken_port(run: Run, temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--once", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"nlb: port {port} of 127.0.0.1: address already in use" in done.stderr
    assert "--port" in done.stderr
    assert not list(temporary.iterdir())


def test_a_balancer_that_cannot_start_says_why(run: Run, temporary: Path) -> None:
    """Here: something stands where its control socket belongs."""
    folder = temporary / "demo"
    (folder / "nlb.sock").mkdir(parents=True)
    (folder / ".nlb-demo").touch()
    done = run("--once", "--port", str(free_port()), "--dir", folder, "--force")
    assert done.returncode == 1
    assert "nlb: the balancer has not started:\n" in done.stderr
    assert "nlb.sock" in done.stderr


def test_a_killed_demo_leaves_nothing_running(spawn: Spawn) -> None:
    port = free_port()
    demo = spawn("--port", str(port))
    processes = family(demo)
    demo.kill(signal.SIGKILL)
    wait_until(lambda: not [one for one in processes if _alive(one)], lambda: f"the end of {processes}")
    assert _is_free(port)


def test_a_balancer_that_has_ended_ends_the_demo(spawn: Spawn) -> None:
    demo = spawn("--port", str(free_port()))
    *_, status = commands(demo)
    stopped = subprocess.run([NLB, "stop", *shlex.split(status)[2:]], capture_output=True, check=False)
    assert stopped.returncode == 0, stopped.stderr
    demo.expect_exact("the balancer has ended, with status 0")
    demo.expect(pexpect.EOF)
    demo.close()
    assert demo.exitstatus == 1


def _shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line as it was printed."""
    environment = {**os.environ, "PATH": f"{NLB.parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["/bin/sh", "-c", line], env=environment, capture_output=True, text=True, timeout=20, check=False
    )


def _is_free(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
