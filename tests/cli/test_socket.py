"""Where `nlb status` and `nlb stop` look for the balancer: --socket, the configuration, the default."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.balancer import NLB, nlb

ETC = Path("/etc/nlb/nlb.toml")


def looked_for(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    """The path that `nlb status` finds nobody at."""
    kept = {key: value for key, value in os.environ.items() if key not in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")}
    done = subprocess.run(
        [NLB, "status", *arguments],
        cwd=cwd,
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (69, ""), done.stderr
    found = re.fullmatch(r"nlb: no running balancer at (.*)\n", done.stderr)
    assert found, done.stderr
    return found[1]


def test_the_socket_that_is_named(tmp_path: Path) -> None:
    assert looked_for("--socket", "some.sock", cwd=tmp_path) == "some.sock"


def test_the_socket_of_the_configuration(tmp_path: Path) -> None:
    """The configuration alone: certificates and keys need not be readable, nor there."""
    (tmp_path / "nlb.toml").write_text(
        'node.control_socket = "run/it.sock"\n'
        'listeners.web = { bind = "127.0.0.1:1", server_group = "app", '
        'certificates = [{ certificate = "no.crt", private_key = "no.key" }] }\n'
        'server_groups.app.servers = [{ address = "127.0.0.1:2" }]\n'
    )
    assert looked_for(cwd=tmp_path) == f"{tmp_path}/run/it.sock"
    assert looked_for("-c", tmp_path / "nlb.toml", cwd=Path("/")) == f"{tmp_path}/run/it.sock"


def test_a_configuration_with_errors_elsewhere(tmp_path: Path) -> None:
    """The balancer runs with what the file said before: it must be possible to ask and to stop it."""
    (tmp_path / "nlb.toml").write_text('[node]\ncontrol_socket = "it.sock"\nnam = 1\n[listeners.web]\nbind = 5\n')
    assert looked_for(cwd=tmp_path) == f"{tmp_path}/it.sock"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("node.control_socket = 5\n", "nlb.toml:1:23: error: node.control_socket: "),
        ("node = 5\n", "nlb.toml:1:8: error: node: "),
        ("[node\n", "syntax error"),
    ],
)
def test_a_configuration_that_hides_the_socket(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "nlb.toml").write_text(text)
    for command in ("status", "stop"):
        done = nlb(command, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (78, "")
        assert told in done.stderr
        assert "nlb: nlb.toml does not tell the control socket; name it with --socket PATH\n" in done.stderr


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    done = nlb("status", "-c", "no.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert "no.toml: error: cannot read: no such file or directory\n" in done.stderr


def test_no_configuration_at_all(tmp_path: Path) -> None:
    """The default path, the same as that of `nlb run`."""
    if ETC.exists():
        pytest.skip(f"this machine has {ETC}")
    assert looked_for(cwd=tmp_path, RUNTIME_DIRECTORY=f"{tmp_path}/a:{tmp_path}/b") == f"{tmp_path}/a/nlb.sock"
    assert looked_for(cwd=tmp_path) == "/run/nlb/nlb.sock"


def test_both_is_wrong_usage(tmp_path: Path) -> None:
    for command in ("status", "stop"):
        done = nlb(command, "-c", "a", "--socket", "b", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "give one of them" in done.stderr
