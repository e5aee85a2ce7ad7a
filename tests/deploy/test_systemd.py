"""The units: systemd accepts them, finds them tight, and the balancer works within what they allow."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from nlbcore.config.model import Node
from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request, Term
from tests.deploy import DEPLOY, commands, is_command
from tests.support.backends import Backend, greet
from tests.support.balancer import NLB, Balancer, nlb, server_group, tls_listener
from tests.support.certs import Pki
from tests.support.ports import free_port
from tests.support.programs import need, run
from tests.support.tls_client import TlsClient, client_context, refusal
from tests.support.waiting import wait_until

UNITS = DEPLOY / "systemd"
CONFINE = Path(__file__).with_name("confine.py")
SECONDS = {"": 1, "s": 1, "min": 60}


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units with the program where it is here."""
    made = []
    for unit in sorted(UNITS.glob("nlb*.[st]*")):
        if unit.suffix != ".sysusers":
            made.append(tmp_path / unit.name)
            made[-1].write_text(re.sub(r"/usr/bin/nlb\b", str(NLB), unit.read_text()))
    return made


def values(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


def test_systemd_accepts_them(units: list[Path]) -> None:
    """A key that it does not know is only a warning to systemd, and an error here; of other units it may say what it likes."""
    assert len(units) == 6
    done = run("systemd-analyze", "verify", "--man=no", *map(str, units))
    assert b"nlb" not in done.stdout + done.stderr
    run("systemd-sysusers", "--dry-run", str(UNITS / "nlb.sysusers"))


@pytest.mark.parametrize(
    ("unit", "exposure"), [("nlb.service", 20), ("nlb-crl.service", 10), ("nlb-renew.service", 10)]
)
def test_they_are_tight(units: list[Path], unit: str, exposure: int) -> None:
    """Tenths of systemd's measure: 100 is a service without any restriction."""
    (path,) = (one for one in units if one.name == unit)
    run("systemd-analyze", "security", "--offline=true", f"--threshold={exposure}", str(path))


def test_the_end_is_not_cut_short() -> None:
    (timeout,) = values("nlb.service", "TimeoutStopSec")
    number, unit = re.fullmatch(r"(\d+)(\D*)", timeout).groups()  # type: ignore[union-attr]
    defaults = Node()
    assert int(number) * SECONDS[unit] > defaults.drain_timeout + defaults.shutdown_delay


def test_users_are_made() -> None:
    made = set(re.findall(r"^u (\S+)", (UNITS / "nlb.sysusers").read_text(), re.MULTILINE))
    assert {
        user for unit in ("nlb.service", "nlb-crl.service", "nlb-renew.service") for user in values(unit, "User")
    } == made


def test_commands_and_pages_are_there() -> None:
    """What ExecStart, ExecReload and Documentation name."""
    texts = [unit.read_text() for unit in UNITS.iterdir()]
    started = {
        words for text in texts for words in re.findall(r"/usr/bin/nlb ([a-z ]+?)(?: -| /|$)", text, re.MULTILINE)
    }
    assert started == {"run", "reload", "ca crl", "cert renew"}
    assert all(map(is_command, started))
    pages = {page for text in texts for page in re.findall(r"man:nlb([a-z-]*)\(1\)", text)}
    assert {tuple(page.split("-")[1:]) for page in pages} <= set(commands())


def test_renewal_reaches_the_balancer(pki: Pki, tmp_path: Path) -> None:
    """The commands of nlb-renew.service, with its folders elsewhere: nothing due, nothing done; then the balancer serves the
    renewed certificate, also where another one could not be renewed.
    """
    places = {f"/{name}": tmp_path / name for name in ("var/lib/nlb-ca", "run/nlb-renew", "etc/nlb")}
    for place in places.values():
        place.mkdir(parents=True)
    issued, served = tmp_path / "var/lib/nlb-ca/issued", tmp_path / "etc/nlb"
    authority = Authority.create(tmp_path / "var/lib/nlb-ca/ca")
    authority.issue(Request("www", "server", dns=["www.example.com"], term=Term(days=20)), out=issued)
    authority.issue(Request("alice", "client", term=Term(days=20)), out=issued)
    for name in ("www.crt", "www.key"):
        shutil.copy(issued / name, served)
    unit = (UNITS / "nlb-renew.service").read_text().replace("\\\n", "")
    unit = re.sub(r"/usr/bin/nlb\b", str(NLB), unit).replace("$$", "$")
    for name, place in places.items():
        unit = unit.replace(f"{name}/", f"{place}/")
    start, after = (re.findall(rf"^{key}=\+?(.*)$", unit, re.MULTILINE)[0] for key in ("ExecStart", "ExecStopPost"))
    start = start.replace("--before 15d", "--before {}")
    after = re.sub(r"/usr/bin/setpriv [^/]*", "", after)  # the user is not here

    def timer(before: str) -> list[int]:
        (places["/run/nlb-renew"] / "renewed").unlink(missing_ok=True)
        return [run(*shlex.split(command.replace("{}", before)), check=False).returncode for command in (start, after)]

    def is_new() -> bool:
        return (served / "www.crt").read_bytes() == (issued / "www.crt").read_bytes()

    with ExitStack() as stack:
        server = Backend(greet(b"hello"))
        stack.callback(server.close)
        listener = {
            "certificates": [{"certificate": str(served / "www.crt"), "private_key": str(served / "www.key")}],
            **{key: value for key, value in tls_listener(ca=pki.root.path).items() if key != "certificates"},
        }
        tables = {"listeners": {"web": listener}, "server_groups": {"app": server_group(server)}}
        assert timer("10d") == [0, 0]
        balancer = stack.enter_context(Balancer(served, tables))
        generation = balancer.status()["generation"]
        assert timer("10d") == [0, 0]
        assert balancer.status()["generation"] == generation
        (issued / "alice.crt").unlink()
        assert timer("30d") == [1, 0]
        assert is_new()
        assert (served / "www.crt").stat().st_mode & 0o777 == 0o644
        assert sorted(path.name for path in served.glob("*.crt")) == ["www.crt"]
        assert balancer.status()["generation"] == generation + 1
    assert timer("30d") == [1, 69]  # nobody runs: the unit takes that as success


def test_the_balancer_works_within_them(pki: Pki, tmp_path: Path) -> None:
    """Under the unit's filters of system calls every process starts, a client is served and another refused, metrics are
    answered, a reload comes into force, a dead worker is replaced, and the end is in order.
    """
    need("systemd-analyze")
    prefix = (sys.executable, str(CONFINE), str(UNITS / "nlb.service"))
    with ExitStack() as stack:
        server = Backend(greet(b"hello"))
        stack.callback(server.close)
        tables = {
            "node": {"workers": 2, "watch": True, "admin": f"127.0.0.1:{(admin := free_port())}"},
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path)},
            "server_groups": {"app": server_group(server, health_check={"enabled": True, "interval": "1s"})},
        }
        balancer = stack.enter_context(Balancer(tmp_path, tables, prefix=prefix))
        balancer.restarts_expected = True
        wait_until(
            lambda: balancer.status()["server_groups"][0]["servers"][0]["state"] == "Available", "the server is checked"
        )
        with TlsClient(balancer.port(), client_context(pki.root.path, None, pki.client)) as client:
            assert client.handshake().recv_exactly(5) == b"hello"
        with TlsClient(balancer.port(), client_context(pki.root.path)) as stranger:
            refusal(stranger)
        balancer.access.wait_for(termination="no_certificate")
        with urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as answer:
            assert b"nlb_listener_connections_total" in answer.read()
        assert nlb("reload", "-c", balancer.path).returncode == 0
        assert all(_filtered(process) for process in balancer.processes())

        os.kill(balancer.workers()[0].pid, signal.SIGKILL)
        wait_until(lambda: [one["restarts"] for one in balancer.status()["workers"]].count(1) == 1, "a new worker")
        wait_until(lambda: all(one["state"] == "running" for one in balancer.status()["workers"]), "two workers")


def _filtered(process: psutil.Process) -> bool:
    return "Seccomp:\t2\n" in Path(f"/proc/{process.pid}/status").read_text()
