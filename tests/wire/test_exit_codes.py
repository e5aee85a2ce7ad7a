"""Exit codes of `nlb run` and `nlb check`: 0 stopped, 1 cannot start, 2 usage, 77 permission, 78 configuration; stderr says why."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import NLB, Balancer, nlb, plain_listener, server_group, tls_listener
from tests.support.ports import free_port
from tests.support.programs import run
from tests.support.tls_client import TlsClient
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki


def not_started(balancer: Balancer, code: int) -> str:
    """Launch, wait for the end with `code`, and return stderr."""
    balancer.expected_stderr = bool
    balancer.launch()
    balancer.wait_exit(code)
    return balancer.stderr()


def good(pki: Pki, backend: Backend, **keys: Any) -> dict[str, Any]:
    """A configuration that works."""
    return {
        "listeners": {"web": tls_listener(pki.server, ca=pki.root.path, **keys)},
        "server_groups": {"app": server_group(backend)},
    }


def test_good_configuration(tmp_path: Path, pki: Pki, backend: Backend) -> None:
    """`check` says 0, `run` starts, serves nothing, stops with 0."""
    balancer = Balancer(tmp_path, good(pki, backend))
    assert nlb("check", "-c", balancer.path).returncode == 0
    balancer.start()
    balancer.stop(0)


def test_configuration_errors(tmp_path: Path, pki: Pki, backend: Backend) -> None:
    """78, with every finding and its place, from both commands; not only the first."""
    configuration = good(pki, backend, idle_timeot="10s", cps=-1)
    configuration["listeners"]["web"]["server_group"] = "nowhere"
    balancer = Balancer(tmp_path, configuration)
    checked = nlb("check", "-c", balancer.path)
    assert checked.returncode == 78
    for text in (checked.stdout + checked.stderr, not_started(balancer, 78)):
        findings = [line for line in text.splitlines() if f"{balancer.path}:" in line]
        assert any("idle_timeot" in line and "idle_timeout" in line for line in findings), text
        assert any("cps" in line for line in findings), text
        assert any("nlb.toml:" in line and line.split("nlb.toml:")[1].split(":")[0].isdigit() for line in findings)


def test_unknown_group(tmp_path: Path, pki: Pki, backend: Backend) -> None:
    """A reference to nowhere is an error too."""
    balancer = Balancer(tmp_path, good(pki, backend, group="nowhere"))
    assert "nowhere" in not_started(balancer, 78)


def test_missing_configuration(tmp_path: Path) -> None:
    """78 when the file named is not there."""
    done = nlb("run", "-c", tmp_path / "none.toml")
    assert done.returncode == 78
    assert "none.toml" in done.stderr


def _no_ca_file(pki: Pki, folder: Path) -> dict[str, object]:
    return tls_listener(pki.server, ca=folder / "none.crt")


def _empty_ca(pki: Pki, folder: Path) -> dict[str, object]:
    (folder / "empty.crt").write_text("")
    return tls_listener(pki.server, ca=folder / "empty.crt")


def _garbage_ca(pki: Pki, folder: Path) -> dict[str, object]:
    (folder / "garbage.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return tls_listener(pki.server, ca=folder / "garbage.crt")


def _leaf_as_ca(pki: Pki, _: Path) -> dict[str, object]:
    return tls_listener(pki.server, ca=pki.client.path)


def _no_ca_at_all(pki: Pki, _: Path) -> dict[str, object]:
    return {**tls_listener(pki.server), "client_auth": {"mode": "required"}}


def _wrong_key(pki: Pki, _: Path) -> dict[str, object]:
    listener = tls_listener(pki.server, ca=pki.root.path)
    listener["certificates"] = [{"certificate": str(pki.server.path), "private_key": str(pki.client.key_path)}]
    return listener


def _open_key(pki: Pki, _: Path) -> dict[str, object]:
    server = pki.root.server("open.example.com")
    server.key_path.chmod(0o644)
    return tls_listener(server, ca=pki.root.path)


def _no_certificate(pki: Pki, _: Path) -> dict[str, object]:
    return tls_listener(ca=pki.root.path)


@pytest.mark.parametrize(
    "make",
    [_no_ca_file, _empty_ca, _garbage_ca, _leaf_as_ca, _no_ca_at_all, _wrong_key, _open_key, _no_certificate],
)
def test_never_starts_unsafe(tmp_path: Path, pki: Pki, backend: Backend, make: Any) -> None:
    """Bad CA, bad certificate or bad key: refused at start (and by `check`), never served without them."""
    listener = make(pki, tmp_path)
    balancer = Balancer(tmp_path, {"listeners": {"web": listener}, "server_groups": {"app": server_group(backend)}})
    checked = nlb("check", "-c", balancer.path)
    assert checked.returncode in {77, 78} if make is _open_key else checked.returncode == 78
    assert not_started(balancer, checked.returncode)


def test_port_in_use(tmp_path: Path, pki: Pki, backend: Backend) -> None:
    """1, naming the address: another program listens there."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = not_started(Balancer(tmp_path, good(pki, backend, bind=address)), 1)
    assert address in text


def test_second_balancer(tmp_path: Path, pki: Pki, backend: Backend, mutual: ssl.SSLContext) -> None:
    """1 too when the other program is a balancer, which goes on: two would silently share the clients."""
    (tmp_path / "second").mkdir()
    with Balancer(tmp_path, good(pki, backend)) as first:
        address = f"127.0.0.1:{first.port()}"
        assert address in not_started(Balancer(tmp_path / "second", good(pki, backend, bind=address)), 1)
        with TlsClient(first.port(), mutual) as client:
            client.handshake().ping()


def test_no_permission_to_bind(tmp_path: Path, backend: Backend) -> None:
    """77 where the port needs a right that the process lacks."""
    if os.geteuid() == 0:
        prefix: tuple[str, ...] = ("setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service")
        run(*prefix, "true")
    else:
        prefix = ()
    configuration = {
        "listeners": {"plain": plain_listener(bind="127.0.0.1:81")},
        "server_groups": {"app": server_group(backend)},
    }
    assert "127.0.0.1:81" in not_started(Balancer(tmp_path, configuration, prefix=prefix), 77)


def test_usage(tmp_path: Path) -> None:
    """2 for an option that does not exist."""
    done = nlb("run", "--no-such-option", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no-such-option" in done.stderr


def test_default_path(tmp_path: Path, pki: Pki, backend: Backend) -> None:
    """Without -c, `./nlb.toml` is used."""
    balancer = Balancer(tmp_path, good(pki, backend))
    assert nlb("check", cwd=tmp_path).returncode == 0
    balancer.path.write_text("nonsense = 1\n")
    assert nlb("check", cwd=tmp_path).returncode == 78


def test_access_log_on_stdout(tmp_path: Path, pki: Pki, backend: Backend, mutual: ssl.SSLContext) -> None:
    """The default: access log on stdout, events on stderr; nothing else on either."""
    configuration = good(pki, backend)
    configuration["log"] = {"file": "stderr", "access": "stdout"}
    balancer = Balancer(tmp_path, configuration)
    balancer.event_log, balancer.access.path = balancer.stderr_path, balancer.stdout_path
    levels = {"debug", "info", "warning", "error"}
    balancer.expected_stderr = lambda text: all(line.split()[1] in levels for line in text.splitlines())
    with balancer, TlsClient(balancer.port(), mutual) as client:
        client.handshake().ping()
        client.close()
        assert balancer.line(client)["termination"] == "client_close"
    wait_until(lambda: " stopped" in balancer.stderr(), "the last event")


def test_installed_program() -> None:
    """These tests run the installed command."""
    assert NLB.exists(), f"{NLB}: install the package first"
