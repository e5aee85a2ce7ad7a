"""`nlb conns`: a table for people, an array for scripts, the filters, and what it does with a list that is spoilt."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore.control.server import Reply
from nlbcore.observe import access_log
from tests.support.balancer import NLB, nlb
from tests.unit.control.running import Loop
from tests.unit.observe.test_connections import NAMES, live, memfd

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.certs import Pki


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nlb.sock"


class Workers:
    """Answers `conns` with these lists, by their slots."""

    def __init__(self, *lists: bytes) -> None:
        self.lists = lists

    def __call__(self, verb: str, arguments: dict[str, Any]) -> Reply:
        assert (verb, arguments) == ("conns", {})
        answer = {"node": "n1", "names": NAMES, "workers": list(range(len(self.lists)))}
        return Reply(answer, [memfd(data) for data in self.lists])


@pytest.fixture
def workers(pki: Pki) -> Workers:
    """One connection is proven, one is in its handshake, one is plain."""
    v6 = bytes.fromhex("20010db8" + "00" * 11 + "01")
    first = live(
        1024,
        flags=access_log.PROVEN,
        family=4,
        address=bytes([10, 0, 0, 1]),
        port=40000,
        server_row=5,
        tls_version=0x0304,
        received=1500,
        sent=20,
        connection_us=3_700_000_000,
        der=pki.client.der,
    )
    second = live(2048, termination=2, family=6, address=v6, port=1, tls_version=0x0303, der=pki.server.der)
    return Workers(first + second, live(1025, listener_row=3, group_row=2, server_row=9))


TABLE = """\
connection  state      listener  client             server   certificate                        tls      received   sent        age
      1024  relay      web       10.0.0.1:40000     app/b    CN=client-1                        TLSv1.3    1.5 kB   20 B  1 h 1 min
      2048  handshake  web       [2001:db8::1]:1             CN=www.example.com (not proven)    TLSv1.2       0 B    0 B        0 s
      1025  relay      plain                        other/a                                                   0 B    0 B        0 s
"""


def squeezed(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_table(path: Path, workers: Workers) -> None:
    with Loop(path, workers):
        done = nlb("conns", "--socket", path)
        assert (done.returncode, done.stderr) == (0, "")
        assert squeezed(done.stdout) == squeezed(TABLE)
        heading, *lines = done.stdout.splitlines()
        for column in ("state", "certificate", "tls"):
            assert all(line[heading.index(column) - 1] == " " for line in lines if len(line) > heading.index(column))
        workers.lists = (b"",)
        done = nlb("conns", "--socket", path)
        assert (done.returncode, done.stdout) == (0, "no connections\n")
        done = nlb("conns", "--socket", path, "--json")
        assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_a_terminal(path: Path, workers: Workers) -> None:
    """Where the columns do not fit, every connection is a list."""
    with Loop(path, workers):
        master, slave = os.openpty()
        try:
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "60"}
            subprocess.run([NLB, "conns", "--socket", path], stdin=slave, stdout=slave, env=environment, check=True)
            text = os.read(master, 65536).decode()
        finally:
            os.close(master)
            os.close(slave)
    assert "3 connections" in text
    assert "\x1b[" in text
    assert "CN=www.example.com (not proven)" in text
    assert max(map(len, text.splitlines())) < 80


def test_json_and_filters(path: Path, workers: Workers, pki: Pki) -> None:
    with Loop(path, workers):

        def found(*filters: str) -> list[int]:
            done = nlb("conns", "--json", "--socket", path, *filters)
            assert (done.returncode, done.stderr) == (0, "")
            return [one["connection"] for one in json.loads(done.stdout)]

        assert found() == [1024, 2048, 1025]
        assert found("--identity", "client-1", "--listener", "web") == [1024]
        assert found("--identity", pki.server.sha256[:8].upper()) == [2048]
        assert found("--client", "10.0.0.0/8") == [1024]
        assert found("--client", "2001:db8::1") == [2048]
        assert found("--server", "other/a") == [1025]
        done = nlb("conns", "--socket", path, "--listener", "wbe")
        told = "nlb: there is no listener wbe; there are: plain, web\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


def test_a_worker_that_has_spoilt_its_list(path: Path, workers: Workers) -> None:
    workers.lists = (b"x" * 200, workers.lists[1])
    with Loop(path, workers):
        done = nlb("conns", "--json", "--socket", path)
        assert [one["connection"] for one in json.loads(done.stdout)] == [1025]
        told = "nlb: the connections of worker 0 are left out: it does not answer, or its list cannot be read\n"
        assert (done.returncode, done.stderr) == (1, told)


def test_a_reader_that_has_seen_enough(path: Path, workers: Workers) -> None:
    workers.lists = (workers.lists[1] * 20_000,)
    with Loop(path, workers):
        for form in ("table", "json"):
            command: list[str | Path] = [NLB, "conns", "--socket", path]
            command += ["--json"] if form == "json" else []
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                assert process.stdout.readline()
                process.stdout.close()
                assert process.stderr.read() == ""
