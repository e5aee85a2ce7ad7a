"""The certificates of a comparison: made once, good for what they are for, kept when they are there, renewed for a reload."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from nlbbench import material
from nlbcore.errors import NlbError
from tests.support.programs import run


def test_one_level_and_good_for_their_purpose(tmp_path: Path) -> None:
    made = material.provide(tmp_path / "new")
    for purpose, certificate in (("sslserver", made.server), ("sslclient", made.client)):
        run("openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(made.root), str(certificate))
    assert made.server.read_text().count("BEGIN") == 1
    run("openssl", "verify", "-CAfile", str(made.root), "-verify_hostname", material.NAME, str(made.server))
    for key in (made.server_key, made.client_key):
        assert key.stat().st_mode & 0o777 == 0o600


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    made = material.provide(tmp_path)
    before = made.server.read_bytes()
    assert material.provide(tmp_path) == made
    assert made.server.read_bytes() == before


def test_a_part_is_not_enough(tmp_path: Path) -> None:
    made = material.provide(tmp_path)
    made.client_key.unlink()
    with pytest.raises(NlbError, match=r"has root.crt, .* but not client.key: an empty folder is filled"):
        material.provide(tmp_path)


def test_renewed_from_the_same_root(tmp_path: Path) -> None:
    made = material.provide(tmp_path / "material")
    certificate, key = material.renew_server(made, tmp_path)
    run("openssl", "verify", "-purpose", "sslserver", "-CAfile", str(made.root), str(certificate))
    serials = {x509.load_pem_x509_certificate(path.read_bytes()).serial_number for path in (certificate, made.server)}
    assert len(serials) == 2
    assert key.read_bytes() != made.server_key.read_bytes()


def test_somebody_elses_root_cannot_renew(tmp_path: Path) -> None:
    made = material.provide(tmp_path / "material")
    (made.folder / "root.key").unlink()
    assert material.provide(made.folder) == made
    with pytest.raises(NlbError, match="cannot be renewed without"):
        material.renew_server(made, tmp_path)
