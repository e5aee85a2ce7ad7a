"""`nlb run` with a configuration that cannot be used; what it does with a good one is shown in tests/wire."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.balancer import nlb
from tests.support.certs import Pki
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
