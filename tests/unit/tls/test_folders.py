"""Which files of a folder count, and what is told of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.config.load import load
from nlbcore.tls.folders import CERTIFICATES, LISTS, files_in, is_folder, is_foreign
from nlbcore.tls.material import load_material
from nlbcore.tls.pem import BadFile, NothingThere
from tests.support.certs import Pki
from tests.support.certs import pem as pem_of
from tests.support.lists import revocation_list


@pytest.fixture(scope="module")
def pki(module_folder: Path) -> Pki:
    return Pki(module_folder)


def test_which_count(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("b.crt", "a.pem", "C.CRT", ".hidden.crt", "a.crt~", "x.crl", "below/d.crt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "hash.0").symlink_to("b.crt")
    (tmp_path / "gone.crt").symlink_to("nowhere")
    assert [path.name for path in files_in(tmp_path, LISTS)] == ["C.CRT", "a.pem", "b.crt", "gone.crt"]
    assert [path.name for path in files_in(tmp_path, CERTIFICATES)] == ["a.pem", "hash.0", "x.crl"]
    assert is_folder(tmp_path)
    assert not is_folder(tmp_path / "b.crt")
    assert not is_folder(tmp_path / "none")


def test_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="there is no file in this folder"):
        files_in(tmp_path)
    with pytest.raises(BadFile, match="this folder cannot be read: no such file"):
        files_in(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "nothing", "foreign"),
    [
        *(("a.crt", nothing, False) for nothing in (True, False)),
        *(("README", nothing, True) for nothing in (True, False)),
        *(("a.pem", nothing, nothing) for nothing in (True, False)),
    ],
)
def test_foreign(name: str, nothing: bool, foreign: bool) -> None:
    assert is_foreign(Path(name), (NothingThere if nothing else BadFile)("x"), CERTIFICATES) is foreign


def read(folder: Path, pki: Pki, ca: str, crl: str = "") -> tuple[int, int, list[str]]:
    """How many CAs and lists there are, and what is told."""
    path = folder / "nlb.toml"
    path.write_text(
        '[listeners.web]\nbind = "127.0.0.1:443"\nserver_group = "app"\n'
        f'certificates = [{{ certificate = "{pki.server.path}", private_key = "{pki.server.key_path}" }}]\n'
        f'[listeners.web.client_auth]\nmode = "required"\nca = "{ca}"\n{f"crl = {crl!r}" if crl else ""}\n'
        '[server_groups.app]\nservers = [{ address = "10.0.0.1:80" }]\n'
    )
    loaded = load(path)
    assert loaded.config is not None, loaded.findings
    material, findings = load_material(loaded.config, loaded.locate, "nlb.toml")
    said = [str(finding).replace(f"{folder}/", "").split(": ", 1)[1] for finding in findings]
    if material is None:
        return 0, 0, said
    return len(material.listeners["web"].ca), len(material.listeners["web"].lists), said


def test_one_folder_for_both(pki: Pki, tmp_path: Path) -> None:
    """PEM and DER, a file with several, and what is something else."""
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "two.der").write_bytes(
        b"".join(one.certificate.public_bytes(Encoding.DER) for one in (pki.root, pki.other))
    )
    (trust / "below.crt").write_bytes(pem_of(pki.intermediate.certificate))
    (trust / "root.crl").write_bytes(revocation_list(pki.root).public_bytes(Encoding.DER))
    (trust / "lists.pem").write_bytes(
        b"".join(revocation_list(one).public_bytes(Encoding.PEM) for one in (pki.other, pki.intermediate))
    )
    (trust / "README").write_text("what is here")
    cas, _, said = read(tmp_path, pki, "trust/")
    assert cas == 3
    assert said == [
        "warning: listeners.web.client_auth.ca: trust/README: holds no PEM certificate: it is not used",
        "warning: listeners.web.client_auth.ca: trust/lists.pem: holds no certificate but: x509 crl: it is not used",
    ]
    (trust / "two.der").rename(tmp_path / "two.der")
    (tmp_path / "lists").mkdir()
    for name in ("root.crl", "lists.pem"):
        (trust / name).rename(tmp_path / "lists" / name)
    (trust / "others.crt").write_bytes((tmp_path / "two.der").read_bytes())
    (trust / "README").unlink()
    assert read(tmp_path, pki, "trust", "lists") == (3, 3, [])


def test_what_is_wrong_in_a_folder(pki: Pki, tmp_path: Path) -> None:
    trust = tmp_path / "trust"
    trust.mkdir()
    where = "error: listeners.web.client_auth.ca:"
    assert read(tmp_path, pki, "trust")[2] == [f"{where} trust: there is no file in this folder"]
    (trust / "root.key").write_bytes(pki.root.key_path.read_bytes())
    assert read(tmp_path, pki, "trust")[2] == [
        f"{where} trust: no file in this folder can be used",
        "warning: listeners.web.client_auth.ca: trust/root.key: holds no certificate but: private key: it is not used",
    ]
    (trust / "root.crt").write_bytes(pki.root.path.read_bytes())
    (trust / "cut.crt").write_bytes(pki.other.path.read_bytes()[:-40])
    (trust / "empty.crt").write_bytes(b"")
    (trust / "gone.crt").symlink_to("nowhere")
    said = [text for text in read(tmp_path, pki, "trust")[2] if text.startswith("error")]
    assert said == [
        f"{where} trust/cut.crt: the CERTIFICATE that begins in line 1 has no end: the file is cut off",
        f"{where} trust/empty.crt: is empty",
        f"{where} trust/gone.crt: no such file or directory",
    ]
