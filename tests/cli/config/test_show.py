"""`nlb config show`: every default filled in, no key shown."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from tests.support.balancer import nlb
from tests.support.certs import Pki


def test_show_fills_in_defaults_and_shows_no_key(tmp_path: Path, pki: Pki) -> None:
    nlb("config", "init", cwd=tmp_path)
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs/server.key").write_bytes(pki.server.key_path.read_bytes())
    result = nlb("config", "show", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    shown = tomllib.loads(result.stdout)
    assert shown["listeners"]["web"]["idle_timeout"] == "900s"
    assert shown["node"]["workers"] == "auto"
    assert Path(shown["node"]["control_socket"]).name == "nlb.sock"
    assert shown["server_groups"]["app"]["health_check"] == {
        "enabled": True,
        "type": "TCP",
        "interval": "5s",
        "connect_timeout": "5s",
        "healthy_threshold": 2,
        "unhealthy_threshold": 2,
        "port": 0,
    }
    assert shown["listeners"]["web"]["certificates"][0]["private_key"] == str(tmp_path / "certs/server.key")
    assert "PRIVATE KEY" not in result.stdout
    again = nlb("config", "show", "--json", cwd=tmp_path)
    assert json.loads(again.stdout) == {**shown, "security_policies": {}}  # TOML has no empty tables to show


def test_show_of_a_bad_file(tmp_path: Path) -> None:
    (tmp_path / "nlb.toml").write_text("[node]\nnam = 1\nname = 1\n")
    result = nlb("config", "show", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr.splitlines() == [
        'nlb.toml:2:1: error: node.nam: unknown key (did you mean "name"?)',
        'nlb.toml:3:8: error: node.name: expected a string, for example name = "nlb-1"; got the number 1',
        "nlb: nlb.toml cannot be used",
    ]
