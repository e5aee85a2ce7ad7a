"""`nlb ca crl`: a list for each authority in one file, which openssl accepts."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.balancer import nlb
from tests.support.programs import run


def test_crl(tmp_path: Path) -> None:
    nlb("ca", "init", "ca", cwd=tmp_path)
    for number in (1, 2):
        result = nlb("ca", "crl", "ca", "--days", "3", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith(f"ca/ca.crl: list {number}, 0 revoked, the next is due 2")
    crl = tmp_path / "ca/ca.crl"
    assert crl.read_text().count("BEGIN X509 CRL") == 2
    assert crl.stat().st_mode & 0o777 == 0o600
    command = ["openssl", "crl", "-in", str(crl), "-CAfile", str(tmp_path / "ca/chain.crt"), "-noout", "-crlnumber"]
    done = run(*command)
    assert (done.stdout, done.stderr) == (b"crlNumber=0x02\n", b"verify OK\n")


def test_refused(tmp_path: Path) -> None:
    nlb("ca", "init", "ca", cwd=tmp_path)
    result = nlb("ca", "crl", "ca", "--days", "0", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (2, 'nlb: --days "0": 1 to 36500 days are possible\n')
    assert not (tmp_path / "ca/ca.crl").exists()


def test_without_the_root_key(tmp_path: Path) -> None:
    """A warning as long as the root's list is good; without one the intermediate's is written, and it fails."""
    nlb("ca", "init", "ca", cwd=tmp_path)
    nlb("ca", "crl", "ca", "--days", "20", cwd=tmp_path)
    (tmp_path / "ca/root.key").unlink()
    result = nlb("ca", "crl", "ca", cwd=tmp_path)
    assert (result.returncode, result.stdout[:31]) == (0, "ca/ca.crl: list 2, 0 revoked, t")
    begin = (
        "nlb: warning: cannot read ca/root.key: no such file or directory: the root's list stays as it is, good until 2"
    )
    assert result.stderr.startswith(begin)
    assert result.stderr.endswith((" (19 days)\n", " (20 days)\n"))
    (tmp_path / "ca/ca.crl").unlink()
    result = nlb("ca", "crl", "ca", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "nlb: cannot read ca/root.key: no such file or directory: there is no list of the root; the intermediate's has"
        " been written, which is not enough for who checks the whole chain: put root.key back and run `nlb ca crl ca`\n"
    )
    assert (tmp_path / "ca/ca.crl").read_text().count("BEGIN X509 CRL") == 1


def test_for_a_timer(tmp_path: Path) -> None:
    """A list that is young enough is left as it is, and that is said."""
    nlb("ca", "init", "ca", cwd=tmp_path)
    crl = ("ca", "crl", "ca", "--if-older", "1d")
    result = nlb(*crl, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("ca/ca.crl: list 1, 0 revoked, the next is due 2")
    before = (tmp_path / "ca/ca.crl").read_bytes()
    again = nlb(*crl, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == result.stdout.removesuffix("\n") + " (not written again: young enough)\n"
    assert (tmp_path / "ca/ca.crl").read_bytes() == before
    shown = json.loads(nlb(*crl, "--json", cwd=tmp_path).stdout)
    assert (shown["file"], shown["number"], shown["written"], shown["warning"]) == ("ca/ca.crl", 1, False, None)
    result = nlb("ca", "crl", "ca", "--if-older", "7d", cwd=tmp_path)
    assert result.stdout.startswith("ca/ca.crl: list 2, ")
    result = nlb("ca", "crl", "ca", "--if-older", "1", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (
        2,
        'nlb: --if-older "1" is not a span of time: a number with s, m, h, d or w behind it, as in "10d"\n',
    )


def test_der_beside_it(tmp_path: Path) -> None:
    nlb("ca", "init", "ca", cwd=tmp_path)
    nlb("ca", "crl", "ca", cwd=tmp_path)
    for name in ("intermediate", "root"):
        command = ("openssl", "crl", "-inform", "DER", "-in", f"ca/{name}.crl", "-CAfile", "ca/chain.crt", "-noout")
        assert run(*command, cwd=tmp_path).stderr == b"verify OK\n"
