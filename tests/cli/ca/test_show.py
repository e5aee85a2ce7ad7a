"""`nlb ca show`: text for people, JSON for programs, no key in either."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.balancer import nlb
from tests.support.programs import run


def test_show(tmp_path: Path) -> None:
    nlb("ca", "init", "ca", "--name", "Example", cwd=tmp_path)
    text = nlb("ca", "show", "ca", cwd=tmp_path).stdout
    assert "next_update: -\n" in text
    nlb("ca", "crl", "ca", cwd=tmp_path)
    result = nlb("ca", "show", "ca", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("folder: ca\nname: Example\nroot:\n  subject: CN=Example\n  serial: ")
    assert "  key_present: yes\n" in result.stdout
    assert "  next_update (root): 2" in result.stdout
    shown = json.loads(nlb("ca", "show", "ca", "--json", cwd=tmp_path).stdout)
    assert set(shown) == {"folder", "name", "root", "intermediate", "certificates", "crl"}
    assert shown["root"]["days_left"] in {3649, 3650}
    assert shown["crl"]["file"] == "ca/ca.crl"
    serial = run("openssl", "x509", "-in", str(tmp_path / "ca/root.crt"), "-noout", "-serial").stdout.decode()
    assert serial == f"serial={shown['root']['serial']}\n"
    assert "PRIVATE" not in result.stdout
