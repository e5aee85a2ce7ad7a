"""`nlb config init`: a sample that is good as it stands, and nothing is overwritten."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from tests.support.balancer import NLB, nlb
from tests.support.certs import Pki
from tests.support.programs import run


def test_init_writes_a_file_that_needs_only_certificates(tmp_path: Path, pki: Pki) -> None:
    result = nlb("config", "init", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "nlb check -c nlb.toml" in result.stdout
    result = nlb("check", cwd=tmp_path)
    assert result.returncode == 78
    assert result.stdout.count("no such file or directory") == 3
    assert result.stdout.endswith("nlb.toml: 3 errors\n")
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs/server.crt").symlink_to(pki.server.path)
    (tmp_path / "certs/server.key").symlink_to(pki.server.key_path)
    (tmp_path / "certs/root.crt").symlink_to(pki.root.path)
    result = nlb("check", "--strict", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "nlb.toml: OK\n")


def test_init_overwrites_nothing_without_force(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("precious")
    result = nlb("config", "init", path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"nlb: {path} is there already; --force overwrites it\n"
    assert path.read_text() == "precious"
    assert nlb("config", "init", path, "--force").returncode == 0
    assert tomllib.loads(path.read_text())


def test_init_prints(tmp_path: Path) -> None:
    result = nlb("config", "init", "-", cwd=tmp_path)
    assert result.returncode == 0
    assert tomllib.loads(result.stdout)
    assert list(tmp_path.iterdir()) == []


def test_init_json(tmp_path: Path) -> None:
    """The file that was written; the sample itself is no JSON."""
    result = nlb("config", "init", "my.toml", "--json", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"file": "my.toml"}
    assert tomllib.loads((tmp_path / "my.toml").read_text())
    result = nlb("config", "init", "my.toml", "--json", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "nlb: my.toml is there already; --force overwrites it\n"
    result = nlb("config", "init", "-", "--json", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--json is about the file that is written" in result.stderr


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    result = nlb("config", "init", tmp_path / "no/nlb.toml")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"nlb: cannot write {tmp_path}/no/nlb.toml: no such file or directory\n"


@pytest.mark.parametrize("force", [(), ("-f",)])
def test_init_where_one_may_not_write(tmp_path: Path, force: tuple[str, ...]) -> None:
    """77; also for root, who is here without the right to write everywhere."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    prefix = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all") if os.geteuid() == 0 else ()
    result = run(*prefix, str(NLB), "config", "init", *force, str(closed / "nlb.toml"), check=False)
    assert (result.returncode, result.stdout) == (77, b"")
    assert result.stderr.decode() == f"nlb: cannot write {closed}/nlb.toml: permission denied\n"
    assert list(closed.iterdir()) == []
