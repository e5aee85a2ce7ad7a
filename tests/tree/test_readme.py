"""The README tells the truth: its certificates and its configuration pass `nlb check`, its finding is what nlb prints."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.support.programs import need
from tests.tree import ROOT, run

README = (ROOT / "README.md").read_text()
NLB = Path(sys.executable).parent / "nlb"


def block(name: str) -> str:
    """The fenced block after the comment with its name."""
    found = re.search(rf"^<!-- {re.escape(name)} -->\n```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no block {name}"
    return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the reader has after the README's first two steps."""
    need("openssl")
    script = tmp_path / "certificates.sh"
    script.write_text(block("certificates"))
    done = run("bash", "-euo", "pipefail", script, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    (tmp_path / "nlb.toml").write_text(block("nlb.toml"))
    return tmp_path


def test_five_lines() -> None:
    assert len(block("nlb.toml").splitlines()) == 5


def test_the_configuration_is_accepted_without_a_finding(folder: Path) -> None:
    done = run(NLB, "check", "--strict", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert ": error: " not in done.stdout
    assert ": warning: " not in done.stdout


def test_the_certificates_are_strictly_right(folder: Path) -> None:
    for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
        command = ("openssl", "verify", "-x509_strict", "-CAfile", "root.crt", "-purpose", purpose, f"{name}.crt")
        done = run(*command, cwd=folder)
        assert done.returncode == 0, done.stdout


def test_the_finding_is_what_nlb_prints(folder: Path) -> None:
    shown = re.search(r"^nlb\.toml:2:.*$", README, re.MULTILINE)
    assert shown
    path = folder / "nlb.toml"
    path.write_text(path.read_text().replace("server_group =", "server_grup ="))
    done = run(NLB, "check", cwd=folder)
    assert done.returncode == 78
    assert shown[0] in [line.removeprefix(f"{folder}/").removeprefix("./") for line in done.stdout.splitlines()]


def test_every_link_leads_to_a_file() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
