"""A bad value is told in one line that names its option; a bad word by click, with the words that are good."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nlbcli.ca.options import UsageProblem, naming_options, tell_warning
from nlbcore.pki.errors import BadValue
from nlbcore.pki.index import now
from nlbcore.pki.lists import Crl
from tests.support.balancer import nlb


@pytest.mark.parametrize(
    ("field", "message"),
    [("organizational_unit", '--organizational-unit "x": bad'), ("name", 'NAME "x": bad'), ("dns", '--dns "x": bad')],
)
def test_names_of_options(field: str, message: str) -> None:
    with pytest.raises(UsageProblem) as caught, naming_options(name="NAME"):
        raise BadValue(field, "x", "bad")
    assert (str(caught.value), caught.value.exit_code) == (message, 2)


def test_a_warning_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    crl = Crl(Path("ca.crl"), 1, now(), 0)
    tell_warning(crl)
    assert capsys.readouterr() == ("", "")
    tell_warning(replace(crl, warning="look out"))
    assert capsys.readouterr() == ("", "nlb: warning: look out\n")


@pytest.mark.parametrize(
    "command",
    [
        *("ca", "ca init", "ca show", "ca renew", "ca crl"),
        *("cert", "cert issue", "cert csr", "cert sign", "cert list", "cert renew", "cert revoke", "cert unrevoke"),
    ],
)
def test_help(command: str) -> None:
    result = nlb(*command.split(), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Usage: nlb {command} " in result.stdout


def test_the_authority_must_be_named(tmp_path: Path) -> None:
    result = nlb("cert", "issue", "x", "--profile", "client", cwd=tmp_path)
    assert result.returncode == 2
    assert "Missing option '--ca'" in result.stderr
    result = nlb("cert", "issue", "x", "--ca", "ca", "--profile", "client", "--key-type", "dsa", cwd=tmp_path)
    assert result.returncode == 2
    assert "ec-p256" in result.stderr


def test_no_authority_there(tmp_path: Path) -> None:
    for command in (
        ("ca", "show", "ca"),
        ("ca", "crl", "ca"),
        ("ca", "renew", "ca"),
        ("cert", "list", "--ca", "ca"),
        ("cert", "revoke", "x", "--ca", "ca"),
        ("cert", "unrevoke", "x", "--ca", "ca"),
        ("cert", "renew", "x", "--ca", "ca"),
        ("cert", "sign", "x.csr", "--ca", "ca", "--profile", "client"),
        ("cert", "issue", "x", "--ca", "ca", "--profile", "client"),
    ):
        result = nlb(*command, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (1, "")
        assert (
            result.stderr == "nlb: ca is not a certificate authority: it has no ca.toml. `nlb ca init ca` makes one\n"
        )
