"""`nlb run` with a configuration that cannot be used; what it does with a good one is shown in tests/wire."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.balancer import NLB, nlb
from tests.support.certs import Pki
from tests.support.programs import run
from tests.support.toml import to_toml


def test_every_finding_on_stderr_and_78(tmp_path: Path) -> None:
    (tmp_path / "nlb.toml").write_text("[node]\nnam = 1\n[server_groups.app]\nservers = [{ address = 'app:80' }]\n")
    result = nlb("run", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (78, "")
    for text in (
        'nlb.toml:2:1: error: node.nam: unknown key (did you mean "name"?)',
        "nlb.toml:4:24: error:",
        "no listener",
    ):
        assert result.stderr.count(text) == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("broken", ["certificate", "private_key"])
def test_a_missing_file_is_a_configuration_error(tmp_path: Path, pki: Pki, broken: str) -> None:
    pair = {**pki.server.entry(), broken: "none.pem"}
    listener = {"bind": "127.0.0.1:1", "server_group": "app", "certificates": [pair]}
    group = {"servers": [{"address": "127.0.0.1:2"}]}
    (tmp_path / "nlb.toml").write_text(to_toml({"listeners": {"web": listener}, "server_groups": {"app": group}}))
    result = nlb("run", cwd=tmp_path)
    assert result.returncode == 78
    assert f"certificates[0].{broken}: {tmp_path}/none.pem: no such file or directory" in result.stderr


@pytest.mark.parametrize(("name", "code"), [("app", 77), ("ap", 78)])
def test_a_key_that_may_not_be_read(tmp_path: Path, pki: Pki, name: str, code: int) -> None:
    """77 where nothing else is wrong; also for root, who is here without the right to read everything."""
    key = tmp_path / "server.key"
    key.write_bytes(pki.server.key_path.read_bytes())
    key.chmod(0)
    listener = {
        "bind": "127.0.0.1:1",
        "server_group": name,
        "certificates": [{**pki.server.entry(), "private_key": "server.key"}],
    }
    group = {"servers": [{"address": "127.0.0.1:2"}]}
    (tmp_path / "nlb.toml").write_text(to_toml({"listeners": {"web": listener}, "server_groups": {"app": group}}))
    prefix = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all") if os.geteuid() == 0 else ()
    result = run(*prefix, str(NLB), "run", "-c", str(tmp_path / "nlb.toml"), check=False)
    assert (result.returncode, result.stdout) == (code, b"")
    said = f"certificates[0].private_key: {key}: may not be read (run as the user that nlb runs as)"
    assert said in result.stderr.decode()
