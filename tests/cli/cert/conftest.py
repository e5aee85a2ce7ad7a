"""A folder with an authority in `ca`; and the same with what it has issued, for commands that only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request

PASSWORD = "secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Authority.create(tmp_path / "ca", name="Example")
    return tmp_path


@pytest.fixture(scope="module")
def issued(module_folder: Path) -> Path:
    """`ca`, `alice` (a client, with `alice.p12`), `www.example.com` (a server), `password`, and the list in `ca/ca.crl`."""
    authority = Authority.create(module_folder / "ca", name="Example")
    authority.issue(Request("alice", "client"), out=module_folder, p12_password=PASSWORD)
    authority.issue(Request("www.example.com", "server"), out=module_folder)
    authority.issue(Request("mallory", "client"), out=module_folder)
    authority.revoke("mallory", "keyCompromise")
    (module_folder / "password").write_text(f"{PASSWORD}\n")
    return module_folder
