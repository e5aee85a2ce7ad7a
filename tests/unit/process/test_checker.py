"""The rehearsal puts everything together: file, meaning, material, policies, limits; it changes nothing."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from nlbcore.process.checker import rehearse
from nlbcore.process.snapshot import Limits, Rows
from tests.support.balancer import alive, title
from tests.support.certs import Pki
from tests.support.waiting import wait_until


def write(folder: Path, pki: Pki, listener: str = "", rest: str = "", bind: str = '"127.0.0.1:443"') -> Path:
    path = folder / "nlb.toml"
    path.write_text(
        f'[listeners.web]\nbind = {bind}\nserver_group = "app"\n{listener}\n'
        f'[[listeners.web.certificates]]\ncertificate = "{pki.server.path}"\nprivate_key = "{pki.server.key_path}"\n'
        f'[listeners.web.client_auth]\nmode = "required"\nca = "{pki.root.path}"\n'
        f'[server_groups.app]\nservers = [{{ address = "10.0.0.1:80" }}]\n{rest}'
    )
    return path


def found(path: Path) -> list[str]:
    return [str(one).removeprefix(f"{path}:").replace(str(path.parent), "DIR") for one in rehearse(path).findings]


def test_all_is_well(tmp_path: Path, pki: Pki) -> None:
    rehearsal = rehearse(write(tmp_path, pki))
    assert rehearsal.findings == ()
    assert rehearsal.ok
    assert rehearsal.material is not None
    assert rehearsal.loaded.config is not None
    assert rehearsal.material.listeners["web"].certificates[0].path == pki.server.path


def test_no_port_is_bound(tmp_path: Path, pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert rehearse(write(tmp_path, pki, bind=f'"127.0.0.1:{taken.getsockname()[1]}"')).ok


def test_findings_of_every_part_stand_in_the_order_of_the_file(tmp_path: Path, pki: Pki) -> None:
    path = write(tmp_path, pki, 'idle_timout = 5\nsecurity_policy = "tls_cipher_policy_1_2"', "[server_groups.old]\n")
    path.write_text(path.read_text().replace(str(pki.root.path), "none.crt"))
    lines = found(path)
    assert [line.split(": ")[1] for line in lines] == ["error", "warning", "error", "error", "warning"]
    assert "idle_timout" in lines[0]
    assert "3DES" not in lines[1]
    assert lines[1].startswith(
        "5:19: warning: listeners.web.security_policy: the OpenSSL in use lacks 1 cipher suite of"
    )
    assert "DIR/none.crt: no such file or directory" in lines[2]
    assert "server_groups.old: has no servers" in lines[3]
    assert "no listener uses this server group" in lines[4]


def test_a_broken_policy_is_not_judged_by_what_stands_in_for_the_broken_value(tmp_path: Path, pki: Pki) -> None:
    policy = '[security_policies.own]\ntls_versions = ["1.2"]\nciphers = ["ECDHE-ECDSA-AES128-GCM-SHA256"]\n'
    lines = found(write(tmp_path, pki, 'security_policy = "own"', policy))
    assert [line.split(": ")[2] for line in lines] == ["security_policies.own.tls_versions[0]"]


def test_an_error_anywhere_means_no_material(tmp_path: Path, pki: Pki) -> None:
    rehearsal = rehearse(write(tmp_path, pki, "cps = -1"))
    assert not rehearsal.ok
    assert rehearsal.material is None
    assert rehearsal.loaded.config is None
    meaning = rehearse(write(tmp_path, pki, rest="[server_groups.b]\n"))
    assert meaning.loaded.config is not None
    assert meaning.material is None
    assert len(meaning.errors) == len(meaning.warnings) == 1


def test_keys_that_are_broken_are_not_reported_as_missing_files(tmp_path: Path, pki: Pki) -> None:
    path = write(tmp_path, pki)
    path.write_text(path.read_text().replace(f'private_key = "{pki.server.key_path}"', "private_key = 5"))
    assert len(found(path)) == 1
    path.write_text(path.read_text().replace('bind = "127.0.0.1:443"', "bind = 5"))
    assert len(found(path)) == 2


def test_warnings_alone_do_not_stop_it(tmp_path: Path, pki: Pki) -> None:
    rehearsal = rehearse(write(tmp_path, pki, 'security_policy = "tls_cipher_policy_1_0"'))
    assert [line.severity for line in rehearsal.findings] == ["warning"]
    assert "DES-CBC3-SHA" in rehearsal.findings[0].message
    assert rehearsal.ok
    assert rehearsal.material is not None


def test_no_key_in_the_repr(tmp_path: Path, pki: Pki) -> None:
    rehearsal = rehearse(write(tmp_path, pki))
    assert rehearsal.material is not None
    assert repr(rehearsal.material.listeners["web"].certificates[0].key)[2:40] not in repr(rehearsal)


def test_too_few_descriptors(tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1064))
    assert found(write(tmp_path, pki, "max_connections = 500")) == []
    assert found(write(tmp_path, pki, "max_connections = 501")) == [
        (
            "4:19: warning: listeners.web.max_connections: the limit of 1064 open files allows about 500 connections, "
            "but 501 are asked for up to here (raise it with LimitNOFILE= or ulimit -n)"
        )
    ]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    assert found(write(tmp_path, pki, "max_connections = 501")) == []


def test_folders_of_logs_and_sockets(tmp_path: Path, pki: Pki) -> None:
    logs = '[log]\nfile = "no/such/nlb.log"\naccess = "./"\n'
    path = write(tmp_path, pki, bind='["unix:gone/web.sock", "127.0.0.1:443"]', rest=logs)
    assert found(path) == [
        "2:9: error: listeners.web.bind[0]: there is no folder DIR/gone (mkdir -p DIR/gone)",
        "14:8: error: log.file: there is no folder DIR/no/such (mkdir -p DIR/no/such)",
        "15:10: error: log.access: DIR is a folder",
    ]
    (tmp_path / "access.log").touch()
    path = write(tmp_path, pki, bind='"unix:web.sock"', rest='[log]\nfile = "/dev/null"\naccess = "access.log"\n')
    assert found(path) == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    rehearsal = rehearse(tmp_path / "nlb.toml")
    assert [str(one) for one in rehearsal.findings] == [
        f"{tmp_path}/nlb.toml: error: cannot read: no such file or directory"
    ]
    assert rehearsal.loaded.config is None


def test_rows(tmp_path: Path, pki: Pki) -> None:
    """What does not fit into the segment is an error of the file as a whole."""
    path = write(tmp_path, pki)
    rehearsal = rehearse(path)
    assert rehearsal.rows == Rows({"web": 0}, {"app": 0}, {("app", "10.0.0.1:80"): 0})
    rehearsal = rehearse(path, Limits(1, 1, 0))
    assert (rehearsal.rows, rehearsal.material) == (None, None)
    assert [str(one) for one in rehearsal.findings] == [f"{path}: error: 1 servers: there is room for 0"]
    living = Rows({}, {}, {("app", "old"): 0})
    assert [str(one) for one in rehearse(path, Limits(1, 1, 1), [living]).findings] == [
        (
            f"{path}: error: 1 servers: there is room for 1 "
            "(1 are in use, those that are being drained included) (restart the balancer)"
        )
    ]
    assert rehearse(path, Limits(1, 1, 2), [living]).rows == Rows({"web": 0}, {"app": 0}, {("app", "10.0.0.1:80"): 1})


# -- in a process of its own -------------------------------------------------------------------------------------------

APART = """
import json, os, resource, sys
from pathlib import Path
from nlbcore.errors import StartError
from nlbcore.process.checker import check_apart, rehearse
from nlbcore.process.snapshot import Snapshot

def held():
    return sorted(os.listdir("/proc/self/fd"))

path = Path(sys.argv[1])
before = held()
if sys.argv[2:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
report = {}
try:
    checked = check_apart(path, 7)
except StartError as error:
    report["failed"] = str(error)
else:
    rehearsal = rehearse(path)
    report["findings"] = len(checked.findings)
    report["equal"] = checked.findings == rehearsal.findings
    report["sealed"] = checked.sealed is not None
    if checked.sealed is not None:
        snapshot = Snapshot.unseal(checked.sealed)
        report["generation"] = snapshot.generation
        report["rows"] = snapshot.rows.listeners
        report["same"] = snapshot.material == rehearsal.material
        os.close(checked.sealed)
        del snapshot
report["leaked"] = held() != before
try:
    os.waitpid(-1, os.WNOHANG)
    report["child"] = True
except ChildProcessError:
    report["child"] = False
print(json.dumps(report))
"""
"""Forks the checker where nothing else runs, and tells what came of it. With a second argument no file may be written."""


def start_apart(path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-c", APART, str(path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """What it reports, and what the checker printed. It never leaves a child or a descriptor."""
    out, printed = process.communicate(timeout=20)
    assert process.returncode == 0, printed
    report: dict[str, Any] = json.loads(out)
    assert (report.pop("leaked"), report.pop("child")) == (False, False)
    return report, printed


def test_apart(tmp_path: Path, pki: Pki) -> None:
    """Warnings and the sealed snapshot: the same as from a rehearsal at home."""
    path = write(tmp_path, pki, rest='[server_groups.old]\nservers = [{ address = "10.0.0.2:80" }]\n')
    assert told(start_apart(path)) == (
        {"findings": 1, "equal": True, "sealed": True, "generation": 7, "rows": {"web": 0}, "same": True},
        "",
    )


def test_apart_with_an_error(tmp_path: Path, pki: Pki) -> None:
    """Nothing is sealed, and every finding arrives, be they more than a socket holds."""
    many = "".join(f"key_{number}_{'x' * 200} = 1\n" for number in range(2500))
    path = write(tmp_path, pki, rest=f"[node]\n{many}")
    assert told(start_apart(path)) == ({"findings": 2500, "equal": True, "sealed": False}, "")


DIED = {"failed": "the checker ended without an answer; what it printed stands above"}


def test_a_checker_that_fails(tmp_path: Path, pki: Pki) -> None:
    """It may write no file, so it cannot seal a snapshot: it says why, and nothing came of it."""
    report, printed = told(start_apart(write(tmp_path, pki), "limited"))
    assert report == DIED
    assert "File too large" in printed


def test_a_checker_that_is_killed(tmp_path: Path) -> None:
    """While it reads a configuration that does not come."""
    path = tmp_path / "nlb.toml"
    os.mkfifo(path)
    process = start_apart(path)

    def checker() -> list[psutil.Process]:
        return [one for one in psutil.Process(process.pid).children() if "nlb: checker" in title(one)]

    try:
        wait_until(checker, "the checker is there")[0].kill()
    finally:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))  # one that still reads sees an end
    assert told(process) == (DIED, "")


# -- beside a supervisor that runs ---------------------------------------------------------------------------------------

BESIDE = """
import json, os, select, signal, socket, sys, time
from pathlib import Path
from nlbcore.errors import StartError
from nlbcore.process.checker import ROOM, Checker
from nlbcore.process.snapshot import Rows, Snapshot

def signals(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: int(value, 16) for key, _, value in (line.partition(":") for line in lines) if key.startswith("Sig")
            and "/" not in value}

def files(pid):
    return sorted(os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2)

def until(condition):
    while not condition():
        time.sleep(0.002)

path, report = Path(sys.argv[1]), {}
server = socket.create_server(("127.0.0.1", 0))
wake, wakeup = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(wakeup)
for name in "INT TERM HUP USR1 USR2 TTIN TTOU QUIT CHLD".split():
    signal.signal(getattr(signal, f"SIG{name}"), lambda *_: None)
signal.signal(signal.SIGCHLD, lambda *_: Checker.reap())
living = Rows({"old": 0}, {"app": 3}, {("app", "other"): 0})

# One that hangs: it reads a configuration that does not come.
fifo = path.with_name("fifo")
os.mkfifo(fifo)
before = sorted(os.listdir("/proc/self/fd"))
mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
checker = Checker(fifo, 2)
until(lambda: Path(f"/proc/{checker.pid}/cmdline").read_text().startswith("nlb: checker"))
report["mask kept"] = signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
report["silent"] = checker.read() is None and not select.select([checker], [], [], 0)[0]
report["holds"] = [one.partition(":")[0] for one in files(checker.pid)]
states = signals(checker.pid)
report["blocked"], report["caught"] = states["SigBlk"], states["SigCgt"]
os.kill(checker.pid, signal.SIGTERM)  # nothing of this reaches our wakeup descriptor
try:
    until(lambda: select.select([checker], [], [], 1)[0])
    checker.read()
except StartError as error:
    report["died"] = str(error)
    report["closed"] = (checker.pid, checker.fileno())

# Another one that hangs is given up.
checker = Checker(fifo, 2)
pid = checker.pid
checker.kill()
checker.kill()
until(lambda: not Path(f"/proc/{pid}").exists())
report["noted"] = [signal.Signals(number).name for number in set(os.read(wake, 64))]

# One that answers, in its own time.
checker, waits = Checker(path, 4, ROOM, [living]), 0
while (checked := checker.read()) is None:
    waits += 1
    select.select([checker], [], [])
report["waited"] = waits > 0
report["findings"] = [str(one) for one in checked.findings]
if checked.sealed is not None:
    rows = Snapshot.unseal(checked.sealed).rows
    report["rows"] = [rows.listeners, rows.groups, list(rows.servers.values())]
    os.close(checked.sealed)
report["leaked"] = sorted(os.listdir("/proc/self/fd")) != before

# One whose snapshot cannot be taken: there is no descriptor left.
import resource
checker = Checker(path, 5)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + 1, 4096))
try:
    while checker.read() is None:
        time.sleep(0.002)
except StartError as error:
    report["full"] = str(error)
report["child"] = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
print(json.dumps(report))
"""
"""What a supervisor is to the checker: it has sockets, signal handlers and a wakeup descriptor, and does not wait."""


def test_beside_a_supervisor(tmp_path: Path, pki: Pki) -> None:
    """It holds nothing of the supervisor's, not its signals either; it may die, be killed, and answer."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", BESIDE, str(write(tmp_path, pki))],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert json.loads(done.stdout) == {
        "mask kept": True,
        "silent": True,
        "holds": ["socket"],
        "blocked": 0,
        "caught": 0,
        "died": DIED["failed"],
        "closed": [0, -1],
        "noted": ["SIGCHLD"],
        "waited": True,
        "findings": [],
        "rows": [{"web": 1}, {"app": 3}, [1]],
        "leaked": False,
        "full": "the checker's snapshot cannot be taken: too many open files",
        "child": "",
    }


ASKS_AND_GOES = """
import os, sys
from pathlib import Path
from nlbcore.process.checker import Checker
print(Checker(Path(sys.argv[1]), 1).pid, flush=True)
os._exit(0)
"""


def test_who_has_asked_is_gone(tmp_path: Path, pki: Pki) -> None:
    """A balancer that is told to stop while it starts: there is nothing to complain of."""
    text = write(tmp_path, pki).read_text()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (tmp_path / "out").open("w+") as out, (tmp_path / "err").open("w+") as err:
        subprocess.run(
            [sys.executable, "-P", "-c", ASKS_AND_GOES, fifo], stdout=out, stderr=err, check=True, timeout=20
        )
        out.seek(0)
        checker = psutil.Process(int(out.read()))
        fifo.write_text(text)
        wait_until(lambda: not alive(checker), "it ends", 20)
        err.seek(0)
        assert err.read() == ""
