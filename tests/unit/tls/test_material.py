"""Every file that the configuration names is read, compared and judged, all of them in one run; keys stay out of sight."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from nlbcore.config.load import load
from nlbcore.tls.material import Material, load_material

GROUP = '[server_groups.app]\nservers = [{ address = "10.0.0.1:80" }]\n'


@pytest.fixture
def files(pki, write, tmp_path: Path):
    write("server.crt", pki.server.pem + pki.intermediate.pem)
    write("server.key", pki.server.key_pem())
    write("root.crt", pki.root.pem, 0o644)
    return write


def read(
    folder: Path, keys: str = "", pairs: tuple[str, ...] = ("server",), ca: str = '"root.crt"'
) -> tuple[Material | None, list[str]]:
    listed = ", ".join(f'{{ certificate = "{name}.crt", private_key = "{name}.key" }}' for name in pairs)
    text = (
        f'[listeners.web]\nbind = "127.0.0.1:443"\nserver_group = "app"\ncertificates = [{listed}]\n{keys}\n'
        f'[listeners.web.client_auth]\nmode = "required"\nca = {ca}\n{GROUP}'
    )
    path = folder / "nlb.toml"
    path.write_text(text)
    loaded = load(path)
    assert loaded.config is not None, loaded.findings
    material, findings = load_material(loaded.config, loaded.locate, "nlb.toml")
    return material, [str(finding).replace(f"{folder}/", "") for finding in findings]


CERTIFICATE = "nlb.toml:4:33: {}: listeners.web.certificates[0].certificate: server.crt: {}"
KEY = "nlb.toml:4:61: {}: listeners.web.certificates[0].private_key: server.key: {}"
CA = "nlb.toml:8:6: {}: listeners.web.client_auth.ca: root.crt: {}"


def test_good_material(files, pki, tmp_path: Path) -> None:
    material, findings = read(tmp_path)
    assert findings == []
    assert material is not None
    one = material.listeners["web"].certificates[0]
    assert one.path == tmp_path / "server.crt"
    assert one.key_path == tmp_path / "server.key"
    assert one.chain == (pki.server.der, pki.intermediate.der)
    assert load_der_private_key(one.key, None).public_key() == pki.server.key.public_key()
    assert one.names == ("www.example.com", "*.example.org")
    assert one.not_after == pki.server.certificate.not_valid_after_utc
    assert one.key_type == "EC"
    assert material.listeners["web"].ca == (pki.root.der,)


def test_no_key_bytes_in_any_repr(files, tmp_path: Path) -> None:
    material, _ = read(tmp_path)
    assert material is not None
    one = material.listeners["web"].certificates[0]
    text = repr(material) + repr(one) + str(one)
    assert "key=" not in text
    assert repr(one.key)[2:30] not in text


def test_everything_missing_is_told_at_once(tmp_path: Path) -> None:
    material, findings = read(tmp_path, pairs=("a", "b"), ca='["c.crt", "d.crt"]')
    assert material is None
    assert [line.split(": ", 2)[2] for line in findings] == [
        "listeners.web.certificates[0].certificate: a.crt: no such file or directory",
        "listeners.web.certificates[0].private_key: a.key: no such file or directory",
        "listeners.web.certificates[1].certificate: b.crt: no such file or directory",
        "listeners.web.certificates[1].private_key: b.key: no such file or directory",
        "listeners.web.client_auth.ca[0]: c.crt: no such file or directory",
        "listeners.web.client_auth.ca[1]: d.crt: no such file or directory",
    ]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666, 0o602])
def test_a_key_that_others_can_read_is_refused(files, pki, tmp_path: Path, mode: int) -> None:
    files("server.key", pki.server.key_pem(), mode)
    material, (finding,) = read(tmp_path)
    assert material is None
    assert finding.startswith(
        "nlb.toml:4:61: error: listeners.web.certificates[0].private_key: server.key: this private key can be "
    )
    assert f"(mode {mode:04o})" in finding
    assert finding.endswith("(run: chmod 600 server.key)")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_of_its_owner_only_is_fine(files, pki, tmp_path: Path, mode: int) -> None:
    files("server.key", pki.server.key_pem(), mode)
    assert read(tmp_path)[1] == []


def test_the_mode_of_the_file_behind_a_link_counts(files, pki, tmp_path: Path) -> None:
    files("real.key", pki.server.key_pem(), 0o644)
    (tmp_path / "server.key").unlink()
    (tmp_path / "server.key").symlink_to("real.key")
    assert "(mode 0644)" in read(tmp_path)[1][0]


def test_the_key_of_another_certificate(files, maker, tmp_path: Path) -> None:
    files("server.key", maker().key_pem())
    material, findings = read(tmp_path)
    assert material is None
    assert findings == [KEY.format("error", "this key does not belong to the certificate in server.crt")]


def test_the_leaf_stands_first(files, pki, tmp_path: Path) -> None:
    files("server.crt", pki.intermediate.pem + pki.server.pem)
    findings = read(tmp_path)[1]
    assert any("the key belongs to certificate 2 of server.crt" in line and ": error: " in line for line in findings)


def test_a_chain_out_of_order_is_a_warning(files, pki, tmp_path: Path) -> None:
    files("server.crt", pki.server.pem + pki.root.pem + pki.intermediate.pem)
    material, findings = read(tmp_path)
    assert material is not None
    assert [line.split(": ")[1] for line in findings] == ["warning", "warning"]


def test_one_file_may_hold_certificate_and_key(files, pki, tmp_path: Path) -> None:
    files("server.crt", pki.server.pem + pki.server.key_pem())
    (tmp_path / "server.key").unlink()
    (tmp_path / "server.key").symlink_to("server.crt")
    assert read(tmp_path)[1] == []


def test_an_expired_certificate_loads_with_a_warning(files, pki, maker, tmp_path: Path) -> None:
    now = pki.server.certificate.not_valid_before_utc
    old = maker(issuer=pki.intermediate, start=now - (now - now.replace(year=now.year - 1)), end=now)
    files("server.crt", old.pem)
    files("server.key", old.key_pem())
    material, findings = read(tmp_path)
    assert material is not None
    assert findings == [CERTIFICATE.format("warning", f"expired on {now.strftime('%Y-%m-%d %H:%M UTC')}")]


def test_a_client_certificate_does_not_serve(files, pki, maker, tmp_path: Path) -> None:
    made = maker(issuer=pki.intermediate, purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])
    files("server.crt", made.pem)
    files("server.key", made.key_pem())
    assert "error" in read(tmp_path)[1][0]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"garbage", "holds no PEM {}"), (b"\x00" * 50, "holds no PEM {}")],
)
def test_empty_and_garbage(files, tmp_path: Path, data: bytes, sentence: str) -> None:
    files("server.crt", data)
    files("server.key", data)
    files("root.crt", data)
    assert read(tmp_path)[1] == [
        CERTIFICATE.format("error", sentence.format("certificate")),
        KEY.format("error", sentence.format("private key")),
        CA.format("error", sentence.format("certificate")),
    ]


def test_what_is_no_file(files, tmp_path: Path) -> None:
    for name in ("server.crt", "server.key", "root.crt"):
        (tmp_path / name).unlink()
    (tmp_path / "server.crt").mkdir()
    os.mkfifo(tmp_path / "server.key")
    (tmp_path / "root.crt").symlink_to("root.crt")
    findings = read(tmp_path)[1]
    assert findings[0] == CERTIFICATE.format("error", "is a folder")
    assert findings[1] == KEY.format("error", "is not a regular file")
    assert "too many levels of symbolic links" in findings[2]


def test_a_huge_file(files, tmp_path: Path) -> None:
    os.truncate(tmp_path / "root.crt", 17 * 1024 * 1024)
    assert read(tmp_path)[1] == [CA.format("error", "is larger than 16 MB")]


def test_a_file_that_may_not_be_read(files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def refuse(path: object, *more: int) -> int:
        if str(path).endswith(".key"):
            raise PermissionError(13, "Permission denied")
        return really(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    assert read(tmp_path)[1] == [KEY.format("error", "may not be read (run as the user that nlb runs as)")]


def test_an_encrypted_key(files, pki, tmp_path: Path) -> None:
    files("server.key", pki.server.key_pem(password=b"secret"))
    assert read(tmp_path)[1] == [
        KEY.format("error", "the private key is encrypted, and there is nobody to ask for the passphrase")
        + " (openssl pkey -in server.key -out NEW writes it without one)"
    ]


def test_authorities(files, pki, ca_maker, tmp_path: Path) -> None:
    other = ca_maker("other")
    files("both.crt", pki.root.pem + other.pem)
    material, findings = read(tmp_path, ca='["root.crt", "both.crt"]')
    assert findings == []
    assert material is not None
    assert material.listeners["web"].ca == (pki.root.der, other.der)


def test_what_is_no_authority(files, pki, tmp_path: Path) -> None:
    files("root.crt", pki.root.pem + pki.server.pem)
    material, findings = read(tmp_path)
    assert material is None
    assert findings == [
        CA.format("error", "CN=www.example.com is not a CA: its basicConstraints say CA:FALSE").replace(
            "ca: root.crt", "ca: certificate 2 of root.crt"
        ),
        *[line for line in findings if "extended key usage" in line],
    ]


def test_two_certificates_for_one_name(files, pki, maker, tmp_path: Path) -> None:
    twin = maker(issuer=pki.root, sans=["www.example.com"])
    files("twin.crt", twin.pem)
    files("twin.key", twin.key_pem())
    other = maker(issuer=pki.root, key=rsa.generate_private_key(65537, 2048))
    files("rsa.crt", other.pem)
    files("rsa.key", other.key_pem())
    material, findings = read(tmp_path, pairs=("server", "rsa"))
    assert findings == []
    assert material is not None
    assert [one.key_type for one in material.listeners["web"].certificates] == ["EC", "RSA"]
    assert [
        "www.example.com is in certificates[0] too" in line for line in read(tmp_path, pairs=("server", "twin"))[1]
    ] == [True]


def test_a_weak_key_is_refused_by_openssl_at_the_level_of_the_policy(files, pki, maker, tmp_path: Path) -> None:
    weak = maker(issuer=pki.root, key=rsa.generate_private_key(65537, 1024))
    files("server.crt", weak.pem)
    files("server.key", weak.key_pem())
    material, findings = read(tmp_path)
    assert material is None
    assert findings == [
        CERTIFICATE.format("error", "OpenSSL refuses it under tls_cipher_policy_1_2_strict_with_1_3: ee key too small")
    ]
    assert read(tmp_path, 'security_policy = "tls_cipher_policy_1_0"')[1] == []


def test_listeners_without_tls_have_no_material(tmp_path: Path) -> None:
    path = tmp_path / "nlb.toml"
    path.write_text(f'[listeners.raw]\nbind = "127.0.0.1:1"\nprotocol = "TCP"\nserver_group = "app"\n{GROUP}')
    loaded = load(path)
    assert loaded.config is not None
    material, findings = load_material(loaded.config, loaded.locate, "f")
    assert findings == ()
    assert material is not None
    assert material.listeners["raw"].certificates == ()
