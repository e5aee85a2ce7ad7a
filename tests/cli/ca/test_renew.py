"""`nlb ca renew`: new certificates for the keys that are there, and who trusts the old ones goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.balancer import nlb
from tests.support.programs import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nlb("ca", "init", "ca", "--days", "100", "--intermediate-days", "50", cwd=tmp_path)
    return tmp_path


def test_renew(folder: Path) -> None:
    (folder / "old-root.crt").write_bytes((folder / "ca/root.crt").read_bytes())
    nlb("cert", "issue", "alice", "--ca", "ca", "--profile", "client", cwd=folder)
    result = nlb("ca", "renew", "ca", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    first, last = result.stdout.splitlines()
    assert first.startswith("ca/intermediate.crt: CN=Private CA Intermediate, valid until 2")
    assert first.endswith(" UTC, when the root ends")
    assert last == "ca/chain.crt is what those get who verify its certificates."
    result = nlb("ca", "renew", "ca", "both", "--days", "3000", "--intermediate-days", "1000", "--json", cwd=folder)
    shown = json.loads(result.stdout)
    assert [shown[which]["days_left"] for which in ("root", "intermediate")] in ([3000, 1000], [2999, 999])
    for trusted in ("ca/root.crt", "old-root.crt"):
        run(
            "openssl",
            "verify",
            "-x509_strict",
            "-CAfile",
            trusted,
            "-untrusted",
            "ca/chain.crt",
            "alice.crt",
            cwd=folder,
        )
    assert len([*(folder / "ca/old").iterdir()]) == 3


def test_the_root_alone(folder: Path) -> None:
    before = (folder / "ca/intermediate.crt").read_bytes()
    result = nlb("ca", "renew", "ca", "root", cwd=folder)
    assert result.returncode == 0
    assert result.stdout.startswith("ca/root.crt: CN=Private CA, valid until 2")
    assert (folder / "ca/intermediate.crt").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--days", "5"), "--days is how long the root is valid, and it is not renewed: give --intermediate-days"),
        (
            ("root", "--intermediate-days", "5"),
            "--intermediate-days: the intermediate is not renewed; `both` renews it too",
        ),
        (("both", "--days", "0"), '--days "0": 1 to 36500 days are possible'),
        (("--intermediate-days", "0"), '--intermediate-days "0": 1 to 36500 days are possible'),
    ],
)
def test_usage(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    result = nlb("ca", "renew", "ca", *arguments, cwd=folder)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"nlb: {message}\n")
    assert not (folder / "ca/old").exists()


def test_without_the_root_key(folder: Path) -> None:
    (folder / "ca/root.key").unlink()
    result = nlb("ca", "renew", "ca", cwd=folder)
    assert (result.returncode, result.stderr) == (1, "nlb: cannot read ca/root.key: no such file or directory\n")
