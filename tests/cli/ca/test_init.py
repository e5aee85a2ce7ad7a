"""`nlb ca init`: the files, what is said about them, and every way in which there is no authority afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.balancer import nlb
from tests.support.programs import run


def test_init(tmp_path: Path) -> None:
    result = nlb("ca", "init", "ca", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "root          CN=Private CA\n" in result.stdout
    assert "intermediate  CN=Private CA Intermediate\n" in result.stdout
    assert "ca/root.key belongs to nobody else" in result.stdout
    folder = tmp_path / "ca"
    assert {path.name for path in folder.iterdir()} == {
        *("root.crt", "root.key", "intermediate.crt", "intermediate.key", "chain.crt", "ca.toml", "index")
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(folder / "root.crt")]
    run(*command, str(folder / "intermediate.crt"))


def test_json(tmp_path: Path) -> None:
    """As `nlb ca show` has it; what goes wrong is told to stderr alone."""
    (tmp_path / "secret").write_text("a secret\n")
    arguments = ("ca", "init", "ca", "--json", "--permit-dns", "corp.example", "--passphrase-file", "secret")
    result = nlb(*arguments, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    shown, later = json.loads(result.stdout), json.loads(nlb("ca", "show", "ca", "--json", cwd=tmp_path).stdout)
    for which in ("root", "intermediate"):
        assert shown[which].pop("days_left") - later[which].pop("days_left") in {0, 1}  # the first second is over
    assert shown == later
    assert shown["folder"] == "ca"
    assert shown["intermediate"]["permitted"] == ["corp.example"]
    assert shown["root"]["key_encrypted"] is True
    result = nlb(*arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("nlb: ca is an authority already; ")


def test_every_option(tmp_path: Path) -> None:
    options = {
        "--name": "Über CA",
        "--key-type": "ec-p384",
        "--days": "100",
        "--intermediate-days": "200",
        "-C": "de",
        "--state": "Bayern",
        "--locality": "München",
        "--organization": "Ä",
        "--organizational-unit": "Ops",
        "--email": "ca@example.com",
    }
    result = nlb("ca", "init", "ca", *(word for pair in options.items() for word in pair), cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert " (with the root)\n" in result.stdout
    shown = run(
        "openssl", "x509", "-in", str(tmp_path / "ca/root.crt"), "-noout", "-text", "-nameopt", "RFC2253,utf8,-esc_msb"
    )
    text = shown.stdout.decode()
    assert "Subject: emailAddress=ca@example.com,CN=Über CA,OU=Ops,O=Ä,L=München,ST=Bayern,C=DE" in text
    assert "secp384r1" in text
    assert "ecdsa-with-SHA384" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--country", "DEU"), '--country "DEU" has 3 characters; X.509 has room for 2'),
        (("--days", "0"), '--days "0": 1 to 36500 days are possible'),
        (("--intermediate-days", "99999"), '--intermediate-days "99999": 1 to 36500 days are possible'),
        (("--name", ""), '--name "" is empty'),
        (("--email", "x"), '--email "x" is not an e-mail address (for example alice@example.com; ASCII before the @)'),
    ],
)
def test_bad_values(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = nlb("ca", "init", "ca", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"nlb: {message}\n")
    assert not (tmp_path / "ca").exists()


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    nlb("ca", "init", "ca", cwd=tmp_path)
    before = (tmp_path / "ca/root.key").read_bytes()
    result = nlb("ca", "init", "ca", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "nlb: ca is an authority already; --force replaces it, and what it has issued is worthless then\n"
    )
    assert (tmp_path / "ca/root.key").read_bytes() == before
    assert nlb("ca", "init", "ca", "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "ca/root.key").read_bytes() != before


def test_where_none_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    result = nlb("ca", "init", tmp_path)
    assert (result.returncode, result.stderr) == (
        1,
        f"nlb: {tmp_path} is not empty: an authority needs a folder of its own\n",
    )
    result = nlb("ca", "init", "file", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, "nlb: cannot make an authority in file: not a directory\n")
    result = nlb("ca", "init", "/proc/ca")
    assert result.returncode in {1, 77}
    assert result.stderr.startswith("nlb: cannot make the folder /proc/ca: ")


def test_name_constraints(tmp_path: Path) -> None:
    limits = ("--permit-dns", "corp.example", "--permit-ip", "10.0.0.0/8")
    result = nlb("ca", "init", "ca", *limits, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "  permitted     corp.example, 10.0.0.0/8\n" in result.stdout
    shown = run(
        "openssl", "x509", "-in", str(tmp_path / "ca/intermediate.crt"), "-noout", "-ext", "nameConstraints"
    ).stdout
    assert shown.decode().split() == [
        *("X509v3", "Name", "Constraints:", "critical", "Permitted:", "DNS:corp.example", "IP:10.0.0.0/255.0.0.0"),
        *("Excluded:", "IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0"),
    ]
    result = nlb("cert", "issue", "www.example", "--ca", "ca", "--profile", "server", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (
        2,
        'nlb: --dns "www.example": this authority is constrained to corp.example, 10.0.0.0/8\n',
    )
    assert "  permitted: corp.example, 10.0.0.0/8\n" in nlb("ca", "show", "ca", cwd=tmp_path).stdout


def test_refused_constraints(tmp_path: Path) -> None:
    result = nlb("ca", "init", "ca", "--permit-ip", "10.0.0.1/8", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (
        2,
        'nlb: --permit-ip "10.0.0.1/8" is not a network, for example 10.0.0.0/8 (did you mean 10.0.0.0/8?)\n',
    )
    assert not (tmp_path / "ca").exists()
