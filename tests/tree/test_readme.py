"""The README tells the truth: its certificates and its configuration pass `nlb check`, its finding is what nlb prints,
its curl lines are answered as it says, and its commands are there.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import Backend, answer_then_close
from tests.support.ports import free_port
from tests.support.programs import need
from tests.support.waiting import wait_until
from tests.tree import ROOT, run

README = (ROOT / "README.md").read_text()
NLB = Path(sys.executable).parent / "nlb"
ENVIRONMENT = {**os.environ, "PATH": f"{NLB.parent}:{os.environ['PATH']}"}


def block(name: str) -> str:
    """The fenced block after the comment with its name."""
    found = re.search(rf"^<!-- {re.escape(name)} -->\n```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no block {name}"
    return found[1]


def shell(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Lines typed where `nlb` is on the PATH and the README's balancer has its default control socket in the folder."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={**ENVIRONMENT, "RUNTIME_DIRECTORY": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the reader has after the README's first two steps."""
    done = shell(block("certificates"), tmp_path)
    assert done.returncode == 0, done.stdout
    (tmp_path / "nlb.toml").write_text(block("nlb.toml"))
    return tmp_path


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    """Where the README's `nlb run` listens, on another port and before other servers: those it names may be taken."""
    port = free_port()
    path = folder / "nlb.toml"
    servers = [Backend(answer_then_close(f"HTTP/1.0 200 OK\r\n\r\nserver {one}\n".encode())) for one in (1, 2)]
    text = path.read_text().replace(":8443", f":{port}")
    for number, server in enumerate(servers, 1):
        text = text.replace(f"127.0.0.1:800{number}", server.address)
    path.write_text(text)
    environment = {**ENVIRONMENT, "RUNTIME_DIRECTORY": str(folder)}
    with (folder / "log").open("wb") as log, (folder / "events").open("wb") as events:
        balancer = subprocess.Popen([NLB, "run"], cwd=folder, env=environment, stdout=log, stderr=events)
    try:
        wait_until(lambda: " ready " in (folder / "events").read_text(), "the balancer is ready")
        yield port
    finally:
        balancer.send_signal(signal.SIGTERM)
        assert balancer.wait(10) == 0
        for server in servers:
            server.close()


def test_five_lines() -> None:
    assert len(block("nlb.toml").splitlines()) == 5


def test_the_configuration_is_accepted_without_a_finding(folder: Path) -> None:
    done = run(NLB, "check", "--strict", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert ": error: " not in done.stdout
    assert ": warning: " not in done.stdout


def test_the_certificates_are_strictly_right(folder: Path) -> None:
    trust = ("-x509_strict", "-CAfile", "ca/root.crt", "-untrusted", "ca/intermediate.crt")
    for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
        done = run(need("openssl"), "verify", *trust, "-purpose", purpose, f"{name}.crt", cwd=folder)
        assert done.returncode == 0, done.stdout
    done = run("openssl", "pkcs12", "-in", "client.p12", "-passin", "file:password", "-nokeys", cwd=folder)
    assert done.returncode == 0, done.stdout


def test_what_verify_and_doctor_say(folder: Path) -> None:
    """Each line that the README shows, but for dates and days."""

    def timeless(line: str) -> str:
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d|\d+ days", "T", line)

    parts = re.findall(r"^\$ (.*)\n([^$]*)", block("verify"), re.MULTILINE)
    codes = []
    for command, shown in parts:
        done = shell(command, folder)
        codes.append(done.returncode)
        printed = {timeless(line) for line in done.stdout.splitlines()}
        for line in shown.splitlines():
            if line != "...":
                assert timeless(line) in printed, done.stdout
    assert codes == [0, 2, 0]


def test_curl_and_the_control_commands(folder: Path, port: int) -> None:
    """The last of the control commands ends the balancer."""
    need("curl")
    console = block("curl").replace(":8443", f":{port}")
    parts = re.findall(r"^\$ (.*)\n([^$]*)", console, re.MULTILINE)
    codes = []
    for command, shown in parts:
        done = shell(command.replace("curl ", "curl --silent --show-error ", 1), folder)
        codes.append(done.returncode)
        begin, _, rest = _without_numbers(shown.strip()).partition(" ... ")
        assert _without_numbers(done.stdout).startswith(begin), done.stdout
        assert rest in done.stdout
    assert codes == [0, 56]
    done = shell(block("control"), folder)
    assert done.returncode == 0, done.stdout
    assert "Available" in done.stdout
    assert "has stopped" in done.stdout
    assert '"termination": "revoked"' in (folder / "log").read_text()


def test_the_finding_is_what_nlb_prints(folder: Path) -> None:
    shown = re.search(r"^nlb\.toml:2:.*$", README, re.MULTILINE)
    assert shown
    path = folder / "nlb.toml"
    path.write_text(path.read_text().replace("server_group =", "server_grup ="))
    done = run(NLB, "check", cwd=folder)
    assert done.returncode == 78
    assert shown[0] in [line.removeprefix(f"{folder}/").removeprefix("./") for line in done.stdout.splitlines()]


def test_the_demo_shows_what_the_readme_shows() -> None:
    done = run(NLB, "demo", "--once", "--port", str(free_port()))
    assert done.returncode == 0, done.stdout
    printed = {_without_numbers(line) for line in done.stdout.splitlines()}
    for line in block("demo").splitlines():
        if line not in {"", "...", "$ nlb demo"}:
            assert _without_numbers(line.replace("✓", "ok")) in printed, line


def _without_numbers(line: str) -> str:
    """Which server answers, and how often, is not the same each time."""
    return re.sub(r"server ([ab]) \d+|server [12]", r"server \1", line)


def test_every_command_it_names_is_there() -> None:
    """Those in blocks are run above; these are in the text."""
    for words in (("ca", "crl"), ("cert", "list"), ("demo",), ("status",), ("stop",)):
        assert f"nlb {' '.join(words)}" in README
        done = run(NLB, *words, "--help")
        assert done.returncode == 0, done.stdout


def test_every_link_leads_to_a_file() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
