"""Defects of files: order, chain, keys and who may read them, what lies beside, and how PKCS#12 files are locked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.pki import contents, der, doctor
from nlbcore.pki.authority import Authority
from nlbcore.pki.defects import Defect
from nlbcore.pki.index import now
from nlbcore.pki.issue import Request
from tests.support.odd import SERVER, Odd
from tests.support.odd import authority as odd_authority
from tests.support.programs import run


@pytest.fixture(scope="module")
def made(module_folder: Path) -> Path:
    """An authority in `ca`, and `alice` and `www` in `out`; `alice.p12` has the password secret."""
    authority = Authority.create(module_folder / "ca", name="Example")
    authority.issue(Request("alice", "client"), out=module_folder / "out", p12_password="secret")
    authority.issue(Request("www", "server", dns=["www.example.com"]), out=module_folder / "out")
    return module_folder


def defects(path: Path, *named: Path, password: str = "secret") -> list[Defect]:
    """What is found in a file, with what lies beside it and beside the others."""
    loaded = contents.load(path, lambda: password)
    return list(doctor.examine(loaded, doctor.beside([path, *named]), now()))


def codes(path: Path, *named: Path, password: str = "secret") -> list[str]:
    return [defect.code for defect in defects(path, *named, password=password)]


def write(path: Path, parts: Sequence[Path | bytes], mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(part if isinstance(part, bytes) else part.read_bytes() for part in parts))
    path.chmod(mode)
    return path


def test_what_nlb_makes_is_well(made: Path) -> None:
    for path in sorted((made / "out").iterdir()):
        assert codes(path) == (["p12-modern"] if path.suffix == ".p12" else []), path
    for path in sorted((made / "ca").glob("*.*")):
        if path.suffix != ".toml":
            assert codes(path) == [], path


def test_order(made: Path, tmp_path: Path) -> None:
    leaf, middle = (one.public_bytes(Encoding.PEM) for one in contents.load(made / "out/www.crt").certificates)
    root = (made / "ca/root.crt").read_bytes()
    other = Odd(tmp_path, "Other", ca=True).pem
    for parts, expected in (
        ([leaf, middle], []),
        ([leaf, middle, root], []),
        ([middle, leaf], ["leaf-not-first"]),
        ([leaf, root, middle], ["chain-order"]),
        ([leaf, middle, other], ["stranger-in-chain"]),
        ([middle, root], []),
    ):
        path = write(tmp_path / "beside/www.crt", parts)
        found = defects(path)
        assert [defect.code for defect in found] == expected
        for defect in found:
            assert defect.fix == f"nlb cert bundle {path} --form fullchain --out {path} --force"


def test_a_missing_intermediate(made: Path, tmp_path: Path) -> None:
    leaf = contents.load(made / "out/www.crt").certificates[0].public_bytes(Encoding.PEM)
    path = write(tmp_path / "www.crt", [leaf])
    assert codes(path) == [], "who has issued it may be a root, as far as can be seen here"
    write(tmp_path / "middle.crt", [made / "ca/intermediate.crt"])
    (defect,) = defects(path)
    assert (defect.code, defect.severity) == ("missing-chain", "error")
    assert (
        defect.what
        == f"CN=Example Intermediate, the intermediate that has issued CN=www, is missing (it is in {tmp_path}/middle.crt)"
    )
    assert defect.fix == f"nlb cert bundle {path} {tmp_path}/middle.crt --form fullchain --out {path} --force"
    (tmp_path / "middle.crt").unlink()
    assert codes(path, made / "ca/chain.crt") == ["missing-chain"]


def test_directly_under_a_root(tmp_path: Path) -> None:
    root = odd_authority(tmp_path, "Root")
    leaf = Odd(tmp_path, "alice", issuer=root)
    root.key_path.unlink()
    assert codes(leaf.path) == []


def test_who_may_read_keys(made: Path, tmp_path: Path) -> None:
    for mode, expected in (
        (0o600, []),
        (0o400, []),
        (0o640, [("key-mode", "warning")]),
        (0o644, [("key-mode", "error")]),
    ):
        path = write(tmp_path / "k.key", [made / "out/www.key"], mode)
        found = defects(path)
        assert [(defect.code, defect.severity) for defect in found] == expected
        assert all(defect.fix == f"chmod 600 {path}" for defect in found)
    write(tmp_path / "a.p12", [made / "out/alice.p12"], 0o644)
    assert [(one.code, one.severity) for one in defects(tmp_path / "a.p12")] == [
        ("key-mode", "warning"),
        ("p12-modern", "note"),
    ]


def test_keys_that_do_not_match(made: Path, tmp_path: Path) -> None:
    crt = write(tmp_path / "www.crt", [made / "out/www.crt"])
    write(tmp_path / "www.key", [made / "out/alice.key"])
    (defect,) = defects(crt)
    assert (defect.code, defect.what) == (
        "key-mismatch",
        f"{tmp_path}/www.key, which is called like it, is the key of another certificate",
    )
    assert defect.fix == f"nlb cert show {crt} {tmp_path}/www.key"
    both = write(tmp_path / "both.pem", [made / "out/www.crt", made / "out/alice.key"])
    assert codes(both) == ["key-mismatch"]
    assert codes(write(tmp_path / "fits.pem", [made / "out/www.crt", made / "out/www.key"])) == []
    two = write(tmp_path / "two.pem", [made / "out/www.crt", made / "out/www.key", made / "out/alice.key"])
    assert codes(two) == ["several-keys", "key-mismatch"]
    assert defects(two)[0].fix == f"nlb cert show {two}"


def test_an_old_way_to_encrypt_keys(tmp_path: Path) -> None:
    key = tmp_path / "k.key"
    run("openssl", "genrsa", "-out", str(key), "2048")
    run(
        *["openssl", "rsa", "-traditional", "-aes128", "-passout", "pass:x", "-in", "k.key", "-out", "l.key"],
        cwd=tmp_path,
    )
    assert codes(tmp_path / "l.key") == ["old-encryption"]


def test_the_key_of_an_authority(made: Path, tmp_path: Path) -> None:
    """Beside a certificate, in its file, in a bundle; in the authority's own folder it is at home."""
    crt = write(tmp_path / "client/alice.crt", [made / "out/alice.crt"])
    assert codes(crt) == []
    key = write(tmp_path / "client/root.key", [made / "ca/root.key"])
    (defect,) = defects(crt)
    assert (defect.code, defect.severity, defect.fix) == ("ca-key-beside", "error", "nlb ca init DIR")
    assert defect.what == f"the private key of the authority CN=Example lies beside it: {key}"
    key.unlink()
    inside = write(tmp_path / "client/all.pem", [made / "out/alice.crt", made / "ca/intermediate.key"])
    assert "ca-key-inside" in codes(inside)
    root = write(tmp_path / "flat/root.crt", [made / "ca/root.crt"])
    write(tmp_path / "flat/root.key", [made / "ca/root.key"])
    assert codes(root) == ["ca-key-beside"]
    write(tmp_path / "flat/root.key", [made / "ca/root.key", made / "out/alice.key"])
    assert codes(root) == ["ca-key-beside"]


def test_a_self_signed_leaf_beside_its_key_is_no_authority(tmp_path: Path) -> None:
    leaf = Odd(tmp_path, "www.example.com", usages=[SERVER], dns=["www.example.com"])
    assert codes(leaf.path) == ["self-signed"]


def test_damaged_parts(made: Path, tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.crt", [b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", made / "out/www.crt"]
    )
    (defect,) = defects(path)
    assert (defect.code, defect.fix) == ("damaged", f"nlb cert show {path}")


P12 = {
    "": ["p12-modern"],
    "-legacy": ["p12-legacy"],
    "-macalg sha512": ["p12-too-modern"],
    "-nomac": ["p12-modern", "p12-no-mac"],
    "-iter 1 -nomaciter": ["p12-modern", "p12-few-rounds"],
    "-nokeys": ["p12-modern", "p12-no-key"],
    "-passout pass:": ["p12-modern", "p12-no-password"],
}


@pytest.mark.parametrize("options", P12)
def test_bundles(made: Path, tmp_path: Path, options: str) -> None:
    out = tmp_path / "x.p12"
    source = "openssl pkcs12 -export -in out/alice.crt -certfile ca/intermediate.crt -inkey out/alice.key -passout pass:secret"
    run(*source.split(), *options.split(), "-out", str(out), cwd=made)
    out.chmod(0o600)
    found = defects(out)
    assert [defect.code for defect in found] == P12[options]
    assert all(defect.fix.startswith("nlb cert p12 ") for defect in found)


def test_a_bundle_without_its_chain_and_one_that_stays_closed(made: Path, tmp_path: Path) -> None:
    leaf, middle = contents.load(made / "out/alice.crt").certificates
    write(tmp_path / "alice.crt", [leaf.public_bytes(Encoding.PEM)])
    pack = f"openssl pkcs12 -export -in {tmp_path}/alice.crt -inkey out/alice.key -passout pass:secret"
    run(*pack.split(), "-out", str(tmp_path / "x.p12"), cwd=made)
    assert codes(tmp_path / "x.p12") == ["p12-modern"]
    write(tmp_path / "middle.crt", [middle.public_bytes(Encoding.PEM)])
    missing = defects(tmp_path / "x.p12")[0]
    assert missing.code == "missing-chain"
    assert missing.fix == f"nlb cert p12 {tmp_path}/x.p12 {tmp_path}/middle.crt --out {tmp_path}/x.p12 --force"
    closed = contents.load(tmp_path / "x.p12")
    assert [defect.code for defect in doctor.examine(closed, [], now())] == ["p12-modern", "p12-closed"]


def test_a_bundle_with_the_key_of_an_authority(made: Path, tmp_path: Path) -> None:
    pack = "openssl pkcs12 -export -in ca/root.crt -inkey ca/root.key -passout pass:secret"
    run(*pack.split(), "-out", str(tmp_path / "r.p12"), cwd=made)
    assert "p12-ca-key" in codes(tmp_path / "r.p12")


def test_beside(made: Path, tmp_path: Path) -> None:
    """Only ordinary files of a sensible size are looked at, and none that is no such file stops it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(b"-----BEGIN X-----\n" + b"x" * doctor.MAX_BESIDE_SIZE)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    shutil.copy(made / "ca/root.crt", tmp_path)
    assert [one.path.name for one in doctor.beside([tmp_path / "x", contents.STDIN])] == ["root.crt"]
    assert doctor.beside([tmp_path / "nothing/x"]) == []


def test_a_bundle_with_a_second_key(made: Path, tmp_path: Path) -> None:
    """The authority's key as the second one, which most programs do not show: two files of openssl put into one."""
    contents_of = []
    for name in ("out/alice", "ca/root"):
        pack = f"openssl pkcs12 -export -nomac -in {name}.crt -inkey {name}.key -passout pass:secret"
        run(*pack.split(), "-out", str(tmp_path / "one.p12"), cwd=made)
        pfx = der.read((tmp_path / "one.p12").read_bytes())
        contents_of += der.read(pfx.child(1).child(1).child(0).octets()).children()
    safes = _encoded(0x30, b"".join(one.encoded for one in contents_of))
    content = _encoded(0x30, pfx.child(1).child(0).encoded + _encoded(0xA0, _encoded(0x04, safes)))
    (tmp_path / "two.p12").write_bytes(_encoded(0x30, pfx.child(0).encoded + content))
    (tmp_path / "two.p12").chmod(0o600)
    loaded = contents.load(tmp_path / "two.p12", lambda: "secret")
    assert len(loaded.keys) == 2
    assert {"several-keys", "p12-ca-key", "p12-no-mac"} <= set(codes(tmp_path / "two.p12"))


def _encoded(tag: int, content: bytes) -> bytes:
    return bytes([tag, 0x82]) + len(content).to_bytes(2) + content
