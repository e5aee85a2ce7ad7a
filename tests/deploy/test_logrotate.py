"""Log rotation: logrotate accepts the file, and with it not a line of a running balancer is lost."""

from __future__ import annotations

import grp
import os
import pwd
import re
from contextlib import ExitStack
from pathlib import Path

from tests.deploy import DEPLOY
from tests.support.backends import Backend, greet
from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.programs import run
from tests.support.tls_client import connect
from tests.support.waiting import wait_until

TEXT = (DEPLOY / "logrotate/nlb").read_text()
USER = f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}"


def here(folder: Path) -> Path:
    """The file for logs in a folder, with the command for those without systemd."""
    (by_pid_file,) = re.findall(r"# Without systemd: (kill .*), with", TEXT)
    text = TEXT.replace("/var/log/nlb", str(folder)).replace("su nlb nlb", f"su {USER}")
    text = re.sub(r"systemctl kill .*", by_pid_file, text).replace("/run/nlb/nlb.pid", str(folder / "nlb.pid"))
    made = folder / "logrotate.conf"
    made.write_text(text)
    made.chmod(0o600)
    return made


def test_logrotate_accepts_it(tmp_path: Path) -> None:
    (tmp_path / "access.log").touch()
    done = run("logrotate", "--debug", "--state", str(tmp_path / "state"), str(here(tmp_path)))
    assert b"error" not in done.stderr
    assert b"access.log" in done.stderr


def test_systemctl_knows_the_options() -> None:
    """It reads all options before it obeys --version."""
    (options,) = re.findall(r"systemctl kill (.*) nlb\.service", TEXT)
    run("systemctl", *options.split(), "--version")


def test_no_line_is_lost(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = Backend(greet(b"hello"))
        stack.callback(server.close)
        tables = {
            "node": {"pid_file": str(tmp_path / "nlb.pid")},
            "listeners": {"web": plain_listener()},
            "server_groups": {"app": server_group(server)},
        }
        balancer = stack.enter_context(Balancer(tmp_path, tables))
        access = balancer.access.path
        rotated = access.with_name(f"{access.name}.1")
        ports = [visit(balancer)]
        wait_until(lambda: logged(access) == set(ports), "the first line")
        run("logrotate", "--force", "--state", str(tmp_path / "state"), str(here(tmp_path)))
        wait_until(lambda: access.exists() and balancer.event_log.exists(), "new files")
        ports.append(visit(balancer))
        wait_until(lambda: logged(access) | logged(rotated) == set(ports), "both lines")
        assert logged(access) == {ports[-1]}


def visit(balancer: Balancer) -> int:
    """A connection, from its beginning to its end; its port."""
    with connect(balancer.port()) as sock:
        assert sock.recv(5) == b"hello"
        return int(sock.getsockname()[1])


def logged(path: Path) -> set[int]:
    return {int(port) for port in re.findall(r'"client_port": ?(\d+)', path.read_text())}
