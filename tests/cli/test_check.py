"""`nlb check`: every finding on a line of its own, 0 or 78, JSON for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.balancer import nlb
from tests.support.certs import Pki
from tests.support.toml import to_toml


@pytest.fixture
def folder(tmp_path: Path, pki: Pki) -> Path:
    """A folder with a good nlb.toml."""
    listener = {
        "bind": "127.0.0.1:8443",
        "server_group": "app",
        "certificates": [pki.server.entry()],
        "client_auth": {"mode": "required", "ca": [str(pki.root.path)]},
    }
    group = {"servers": [{"address": "127.0.0.1:8080"}]}
    (tmp_path / "nlb.toml").write_text(to_toml({"listeners": {"web": listener}, "server_groups": {"app": group}}))
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "nlb.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_ok(folder: Path) -> None:
    result = nlb("check", cwd=folder)
    assert (result.returncode, result.stdout, result.stderr) == (0, "nlb.toml: OK\n", "")
    result = nlb("check", "-c", folder / "nlb.toml", "--strict")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{folder}/nlb.toml: OK\n", "")


def test_every_finding(folder: Path) -> None:
    change(folder, "[listeners.web.client_auth]", 'protcol = "TCP"\ncps = "é"\n[listeners.web.client_auth]')
    change(folder, 'server_group = "app"', 'server_group = "ap"')
    change(folder, 'mode = "required"', 'mode = "requird"')
    result = nlb("check", cwd=folder)
    assert (result.returncode, result.stderr) == (78, "")
    assert [line.removeprefix("nlb.toml:") for line in result.stdout.splitlines()] == [
        '4:16: error: listeners.web.server_group: there is no [server_groups.ap] (did you mean "app"?)',
        '7:1: error: listeners.web.protcol: unknown key (did you mean "protocol"?)',
        '8:7: error: listeners.web.cps: expected a whole number, for example cps = 0; got the string "é"',
        (
            '10:8: error: listeners.web.client_auth.mode: expected one of "off", "optional", "required", "report"; got "requird" '
            '(did you mean "required"?)'
        ),
        " 4 errors",
    ]


def test_warnings_pass_unless_strict(folder: Path) -> None:
    change(folder, 'server_group = "app"', 'server_group = "app"\nsecurity_policy = "tls_cipher_policy_1_0"')
    result = nlb("check", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    warning, last = result.stdout.splitlines()
    assert warning == (
        "nlb.toml:5:19: warning: listeners.web.security_policy: "
        "the OpenSSL in use lacks 1 cipher suite of tls_cipher_policy_1_0: DES-CBC3-SHA"
    )
    assert last == "nlb.toml: OK, 1 warning"
    result = nlb("check", "--strict", cwd=folder)
    assert (result.returncode, result.stderr) == (78, "")
    assert result.stdout.splitlines() == [warning, "nlb.toml: 1 warning (--strict)"]


def test_a_key_that_others_can_read(folder: Path, pki: Pki) -> None:
    key = folder / "open.key"
    key.write_bytes(pki.server.key_path.read_bytes())
    key.chmod(0o644)
    change(folder, str(pki.server.key_path), str(key))
    result = nlb("check", cwd=folder)
    assert result.returncode == 78
    assert f"{key}: this private key can be read by others (mode 0644) (run: chmod 600 {key})" in result.stdout
    assert "BEGIN" not in result.stdout


def test_json(folder: Path) -> None:
    result = nlb("check", "--json", cwd=folder)
    assert result.returncode == 0
    assert json.loads(result.stdout) == {"file": "nlb.toml", "ok": True, "findings": []}
    change(folder, "[listeners.web.client_auth]", "'ü' = 1\n[listeners.web.client_auth]")
    result = nlb("check", "--json", cwd=folder)
    assert result.returncode == 78
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    assert answer["findings"] == [
        {
            "file": "nlb.toml",
            "line": 7,
            "column": 1,
            "severity": "error",
            "key": 'listeners.web."ü"',
            "message": "unknown key",
            "hint": "",
        }
    ]


def test_a_syntax_error_is_one_finding(folder: Path) -> None:
    (folder / "nlb.toml").write_text("[listeners.web\nbind = 5\n")
    result = nlb("check", cwd=folder)
    assert result.returncode == 78
    assert result.stdout.splitlines() == [
        "nlb.toml:1:15: error: syntax error: expected ']' at the end of a table declaration",
        "nlb.toml: 1 error",
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = nlb("check", "-c", "no.toml", cwd=tmp_path)
    assert result.returncode == 78
    assert result.stdout == "no.toml: error: cannot read: no such file or directory\nno.toml: 1 error\n"
