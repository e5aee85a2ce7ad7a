"""`nlb bench compare`: the smoke test of the harness on what is installed, its options, and Ctrl-C. No time is a pass mark."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import psutil
import pytest

from nlbbench import results
from nlbbench.figures import Figures
from nlbbench.trials import TRIALS
from tests.support.balancer import nlb
from tests.support.programs import need
from tests.support.waiting import wait_until

NLB = Path(sys.executable).parent / "nlb"


@pytest.mark.timeout(180)
def test_smoke(tmp_path: Path) -> None:
    """nlb and HAProxy, every kind of figure once: the report is whole, and no exchange has failed."""
    need("haproxy")
    out = tmp_path / "out"
    options = ["--quick", "--peers", "nlb,haproxy", "--repetitions", "1", "--strict", "--json", "--out", str(out)]
    done = nlb(
        "bench",
        "compare",
        *options,
        "--scenario",
        "full,resumed,download",
        "--scenario",
        "reload",
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    jsonschema.validate(json.loads(done.stdout), results.schema())
    report = results.load(out / "report.json")
    assert report.to_json() == done.stdout
    figures = Figures(report)
    assert [trial.name for trial in figures.trials()] == ["full", "resumed", "download", "reload"]
    for trial in figures.trials():
        for peer in ("nlb", "haproxy"):
            failures = figures.failures(trial, peer)
            assert failures is not None
            assert (failures.total, failures.exchanges > 0) == (0, True), failures
            for metric in trial.metrics:
                figure = figures.figure(trial, metric, peer)
                assert figure is not None, (trial.name, metric.name, peer)
                assert (figure.median > 0) == (metric.name != "failed")
    assert figures.unexpected() == 0
    full = figures.figure(TRIALS["full"], TRIALS["full"].metrics[0], "nlb")
    assert full is not None
    assert full.ratio is not None
    assert full.multiple is not None
    assert {path.name for path in out.iterdir()} == {"report.json", "report.html", "report.png"}


def test_ctrl_c_still_writes_the_report(tmp_path: Path) -> None:
    """On a terminal: the bar is seen, Ctrl-C ends it, what was measured is shown and written."""
    command = [str(NLB), "bench", "compare", "--peers", "nlb", "--scenario", "single", "--repetitions", "1000"]
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [*command, "--no-floor", "--out", str(tmp_path)], stdin=slave, stdout=subprocess.PIPE, stderr=slave
        )
        os.close(slave)
        seen = b""
        while b"2: single, nlb" not in seen:
            seen += os.read(master, 4096)
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        os.set_blocking(master, False)
        with process.stdout as stdout:
            text = stdout.read().decode()
        assert process.wait(20) == 0
    finally:
        os.close(master)
    assert "ended by Ctrl-C (of 1000 repetitions)" in text
    assert below
    assert not any(one.is_running() for one in below)
    report = results.load(tmp_path / "report.json")
    assert report.interrupted
    assert report.samples
    assert (tmp_path / "report.html").exists()


def test_killed_it_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGKILL: the proxy, the servers behind it and the generator end by themselves."""
    command = [
        str(NLB),
        "bench",
        "compare",
        "--peers",
        "nlb",
        "--scenario",
        "echo",
        "--repetitions",
        "1000",
        "--no-floor",
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    harness = psutil.Process(process.pid)

    def at_work() -> bool:
        lines = []
        for one in harness.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # a short one of the start has ended meanwhile
                lines.append(" ".join(one.cmdline()))
        return all(
            any(word in line for line in lines) for word in ("nlb: worker", "nlbbench.backends", "nlbbench.process")
        )

    wait_until(at_work, "everything has been started", timeout=30)
    below = harness.children(recursive=True)
    process.kill()
    process.wait()
    assert len(below) >= 5
    wait_until(lambda: not any(one.is_running() for one in below), lambda: f"all have ended: {below}")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--peers", "envoy"], 1, "envoy: no proxy that is known here"),
        (["--scenario", "beauty"], 1, "beauty: no such scenario"),
        (["--binary", "nlb-b"], 2, "--binary nlb-b: NAME=PATH is meant"),
        (["--address", "=x"], 2, "--address =x: NAME=HOST:PORT is meant"),
        (["--pid", "mine=7"], 2, "--pid mine: there is no --address of that name"),
        (["--address", "mine=127.0.0.1:1", "--pid", "mine=x"], 2, "--pid x: a number is meant"),
        (["--backend", "slow=127.0.0.1:1"], 2, "--backend slow: echo, source or sink is meant"),
        (["--workers", "0"], 2, "--workers 0: a number from 1 to 64 is meant, or NAME=N"),
        (["--workers", "nginx-x=2"], 2, "--workers nginx-x: there is no peer of that name"),
        (["--peers", "nlb", "--reference", "haproxy"], 2, "--reference haproxy: it is none of the peers: nlb"),
        (["--peers", "haproxy-9", "--binary", "haproxy-9=/no/such"], 1, "none of the peers is there: /no/such is not"),
        (["--peers", "nlb", "--out", "/proc/no/such"], 1, "/proc/no/such cannot be written to"),
    ],
)
def test_what_is_refused_before_anything_is_started(options: list[str], code: int, message: str) -> None:
    done = nlb("bench", "compare", *options)
    assert done.returncode == code
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_a_running_proxy_that_is_not_there() -> None:
    options = ["--address", "mine=127.0.0.1:1", "--peers", "", "--scenario", "single", "--repetitions", "1"]
    done = nlb("bench", "compare", *options, "--no-floor")
    assert done.returncode == 1
    assert "mine (127.0.0.1:1): left out of single: " in done.stdout
