"""`nlb bench load` as it is typed: the table, JSON, errors in one line, commands in the middle, Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

from nlbbench.backends import serve
from nlbbench.spec import Backend, Outcome
from tests.support.balancer import NLB, Balancer, nlb, server_group, tls_listener
from tests.support.ports import free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nlbbench.backends import Server
    from tests.support.certs import Pki

QUICK = ("--warmup", "0.05", "-d", "0.2")


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    with serve(Backend.ECHO) as server:
        yield server


@pytest.fixture(scope="module")
def tls(pki: Pki, echo: Server, balancer_for: Callable[[Any], Balancer]) -> list[str]:
    """The words for a listener with mutual TLS."""
    configuration = {
        "listeners": {"web": tls_listener(pki.server, ca=pki.root.path)},
        "server_groups": {"app": server_group({"address": echo.address})},
    }
    port = balancer_for(configuration).port()
    return ["bench", "load", f"127.0.0.1:{port}", "--ca", str(pki.root.path)]


def own(pki: Pki) -> list[str]:
    return ["--cert", str(pki.client.path), "--key", str(pki.client.key_path)]


def test_handshakes(tls: list[str], pki: Pki) -> None:
    done = nlb(*tls, *own(pki), *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["done", "failed", "rate", "p50", "p90", "p99", "p99.9", "p99.99", "longest"]
    assert lines[2].split()[0] == "handshakes"
    assert "TLSv1.3 TLS_AES_128_GCM_SHA256" in done.stdout
    assert done.stderr == ""


def test_json(tls: list[str], pki: Pki) -> None:
    done = nlb(*tls, *own(pki), *QUICK, "-s", "storm", "-n", "2", "--storm", "2", "--rate", "20", "-d", "1", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    echo, storm = said["populations"]
    assert echo["population"]["name"] == "echo"
    assert echo["planned"] == echo["done"] == 20
    assert 0 < echo["latency_seconds"]["p50"] <= echo["latency_seconds"]["p99.99"] <= echo["latency_seconds"]["longest"]
    assert storm["full"] > 0
    assert Outcome.from_json(done.stdout).failures == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            ["--server-name", "wrong.example.com"],
            "hostname mismatch; give the name that the certificate is for with --server-name",
        ),
        (
            ["--tls-version", "1.2", "--suite", "ECDHE-RSA-AES128-GCM-SHA256"],
            "the server sent the alert handshake_failure",
        ),
        (
            ["--tls-version", "1.2", "--suite", "TLS_AES_128_GCM_SHA256"],
            "--tls-version and --suite do not fit together",
        ),
        (
            ["--plain"],
            "after 0 right bytes of the answer; is there `nlb bench backend echo` behind it? If it speaks TLS, leave out --plain",
        ),
        (["--group", "X"], "--group: OpenSSL knows no group 'X'"),
        (["-n", "1", "-p", "2"], "1 connections cannot be shared by 2 processes: fewer of these (-p)"),
    ],
)
def test_one_line_says_why(tls: list[str], pki: Pki, extra: list[str], message: str) -> None:
    done = nlb(*tls, *own(pki), *QUICK, *extra)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("nlb: ")
    assert message.lower() in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1


def test_no_certificate_of_ours(tls: list[str]) -> None:
    done = nlb(*tls, *QUICK)
    assert "certificate_required (116); show a client certificate with --cert and --key" in done.stderr


def test_a_certificate_that_the_listener_refuses(tls: list[str], pki: Pki) -> None:
    done = nlb(*tls, "--cert", str(pki.server.path), "--key", str(pki.server.key_path), *QUICK)
    assert f"`nlb explain {pki.server.path}` and the access log say why" in done.stderr


def test_a_root_that_is_missing_or_wrong(tls: list[str], pki: Pki) -> None:
    without = nlb(*tls[:3], *own(pki), *QUICK)
    assert "the server's certificate: " in without.stderr
    assert without.stderr.strip().endswith("; name a file with its root: --ca")
    wrong = nlb(*tls[:3], "--ca", str(pki.client.path), *own(pki), *QUICK)
    assert wrong.stderr.strip().endswith(f"; is its root in {pki.client.path} (--ca)?")


def test_no_tls_there(echo: Server) -> None:
    done = nlb("bench", "load", echo.address, "--insecure", *QUICK)
    assert done.stderr.strip().endswith("; if no TLS is spoken there: --plain")


def test_an_alert_that_is_not_about_certificates_has_no_advice(pki: Pki, tls: list[str]) -> None:
    done = nlb(*tls, *own(pki), *QUICK, "--tls-version", "1.2", "--suite", "ECDHE-RSA-AES128-GCM-SHA256")
    assert done.stderr.strip().endswith("the server sent the alert handshake_failure (40)")


def test_nobody_there() -> None:
    done = nlb("bench", "load", f"127.0.0.1:{free_port()}", "--plain")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("connect: Connection refused")


def test_nothing_behind_that_answers(pki: Pki) -> None:
    with serve(Backend.SINK) as sink:
        done = nlb("bench", "load", sink.address, "--plain", "--timeout", "0.3", "-s", "echo", "--size", "7")
    assert done.returncode == 1
    assert "is there `nlb bench backend echo` behind it?" in done.stderr


def test_a_command_in_the_middle(echo: Server, tmp_path: Path) -> None:
    words = ["bench", "load", echo.address, "--plain", "-s", "echo", *QUICK]
    done = nlb(*words, "--at", f"0.05:touch {tmp_path}/done", "--at", "0.1:false")
    assert (tmp_path / "done").exists()
    assert "touch" in done.stdout
    assert "false: failed: RuntimeError: exit 1" in done.stdout


@pytest.mark.parametrize("value", ["x:true", "3", "3:", "-1:true", "1:'"])
def test_a_command_without_its_time(value: str) -> None:
    done = nlb("bench", "load", "127.0.0.1:1", "--at", value)
    assert done.returncode == 2
    assert "could not convert" not in done.stderr


def test_failures_are_shown_and_make_the_exit_code(tmp_path: Path) -> None:
    with serve(Backend.ECHO) as other:
        words = ["bench", "load", other.address, "--plain", "-s", "idle", "-n", "3", *QUICK]
        done = nlb(*words, "--at", f"0.05:kill -9 {other.pids[0]}")
    assert done.returncode == 1
    assert "idle: 3 failed" in done.stdout


def test_ctrl_c_keeps_what_was_measured(echo: Server) -> None:
    child = pexpect.spawn(
        str(NLB),
        ["bench", "load", echo.address, "--plain", "-s", "echo", "-d", "60"],
        timeout=20,
        encoding="utf-8",
        dimensions=(40, 140),
    )
    child.expect("measuring.* done.* 5[0-9] s left")
    child.sendintr()
    child.expect(r"echo +[1-9][\d,]* +0 ")
    child.expect("Interrupted after")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_interrupted_by_a_signal_in_a_pipe(echo: Server, tmp_path: Path) -> None:
    words = ["bench", "load", echo.address, "--plain", "-s", "echo", "--at", f"0.1:touch {tmp_path}/begun", "-d", "60"]
    program = subprocess.Popen([NLB, *words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until((tmp_path / "begun").exists, "it measures", timeout=20)
    program.send_signal(signal.SIGINT)
    said, error = program.communicate(timeout=20)
    assert error == ""
    assert json.loads(said)["interrupted"] is True
