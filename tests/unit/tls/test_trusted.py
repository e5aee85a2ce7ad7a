"""What is taken from a folder without a listener; as the command shows it: tests/cli/cert/test_verify.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.errors import NlbError
from nlbcore.tls import trusted
from nlbcore.tls.material import read_file
from tests.support.certs import Pki


def test_several_in_one_file(tmp_path: Path) -> None:
    """DER too, one behind the other, as a listener reads it; what is passed over is told."""
    root = x509.load_pem_x509_certificate(Pki(tmp_path).root.path.read_bytes())
    folder = tmp_path / "trust"
    folder.mkdir()
    (folder / "both.crt").write_bytes(root.public_bytes(Encoding.DER) * 2)
    (folder / "notes").write_text("x")
    told: list[str] = []
    assert trusted.certificates(folder, told.append) == [root, root]
    assert told == [f"{folder}/notes: holds no PEM certificate: it is not used"]
    with pytest.raises(NlbError, match=r"trust: no file in this folder can be used"):
        trusted.revocation_lists(folder, told.append)
    with pytest.raises(NlbError, match=r"none: this folder cannot be read: no such file or directory"):
        trusted.certificates(tmp_path / "none", told.append)


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken is what was found good, also if the file is replaced meanwhile."""
    root = Pki(tmp_path).root.path.read_bytes()
    folder = tmp_path / "trust"
    folder.mkdir()
    for name in ("a.crt", "b.crt", "notes"):
        (folder / name).write_bytes(root if name != "notes" else b"x")
    read: list[str] = []

    def counted(file: Path, limit: int) -> tuple[bytes, os.stat_result]:
        read.append(file.name)
        return read_file(file, limit)

    monkeypatch.setattr(trusted, "read_file", counted)
    assert len(trusted.certificates(folder, lambda text: None)) == 2
    assert read == ["a.crt", "b.crt", "notes"]
