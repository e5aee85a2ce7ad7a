"""What is made of the listener's word: stages, advice, the chain. That the word is the listener's: tests/wire/test_certificate_table.py."""

from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.config.model import Config
from nlbcore.termination import WORDS
from nlbcore.tls.explain import (
    ACCEPTED,
    ADVICE,
    ADVICE_ABOUT_CHAINS,
    ADVICE_ABOUT_ITS_CA,
    ADVICE_ABOUT_ITS_NAMES,
    NO_USE,
    STAGES,
    explain,
)
from nlbcore.tls.material import load_material
from tests.support.certs import Issued, Pki, now
from tests.support.lists import revocation_list, write_lists


@pytest.fixture
def ask(tmp_path_factory: pytest.TempPathFactory) -> Any:
    pki = Pki(tmp_path_factory.mktemp("explain"))

    def asked(issued: Issued | None = None, at: dt.datetime | None = None, **auth: object) -> Any:
        table = {"mode": "required", "ca": [str(pki.root.path)], **auth}
        made = Config.model_validate(
            {
                "listeners": {
                    "web": {
                        "bind": "127.0.0.1:443",
                        "server_group": "app",
                        "certificates": [pki.server.entry()],
                        "client_auth": table if auth.get("mode") != "off" else {"mode": "off"},
                    }
                },
                "server_groups": {"app": {}},
            }
        )
        found, findings = load_material(made, lambda _: (1, 1), "x.toml", at)
        assert found is not None, findings
        chain = x509.load_pem_x509_certificates((issued or pki.client).path.read_bytes())
        given = [one.public_bytes(Encoding.DER) for one in chain]
        return explain("web", made.listeners["web"], found.listeners["web"], given, at=at)

    asked.pki = pki  # type: ignore[attr-defined]
    return asked


def test_every_word_about_certificates_has_a_stage_and_advice() -> None:
    about = set(WORDS[WORDS.index("no_certificate") + 1 : WORDS.index("denied") + 1])
    assert {word for _, _, words in STAGES for word in words} == about
    assert set(ADVICE) == about


def test_accepted(ask: Any) -> None:
    found = ask(allow=["cn:x", "cn:client-*"])
    assert (found.accepted, found.word, found.allowed) == (True, ACCEPTED, "allow[1] cn:client-*")
    assert found.chain == ("CN=client-1", "CN=Test Root")
    assert {result for _, result, _ in found.stages} == {"passed", "not configured"}


def test_refused(ask: Any) -> None:
    found = ask(ask.pki.other.client("x"), deny="cn:x")
    assert (found.accepted, found.word) == (False, "unknown_ca")
    assert [result for _, result, _ in found.stages] == [
        *("passed", "failed", "not reached", "not reached", "not reached", "not reached"),
        *("not configured", "not reached"),
    ]
    assert found.chain == ("CN=x",)


@pytest.mark.parametrize(("scope", "more"), [("leaf", ""), ("chain", ADVICE_ABOUT_CHAINS["revoked"])])
def test_the_advice_where_a_ca_may_be_the_one_that_is_revoked(ask: Any, tmp_path: Path, scope: str, more: str) -> None:
    lists = write_lists(tmp_path, revocation_list(ask.pki.root, ask.pki.client))
    found = ask(crl=str(lists), crl_scope=scope)
    assert (found.word, found.advice) == ("revoked", ADVICE["revoked"] + more)


def test_more_depth(ask: Any) -> None:
    """The word is the listener's; the advice is to raise `depth` only where that helps."""
    deep = ask.pki.deep_client("deep", 2)
    last = ask.pki.root.intermediate("Last One", path_length=0)
    for issued, auth, deeper, advice in (
        (deep, {}, "accepted", ADVICE["chain_too_long"]),
        (deep, {"deny": "cn:deep"}, "denied", f"{NO_USE}, it would then be refused as denied: {ADVICE['denied']}"),
        (
            ask.pki.other.intermediate("One").intermediate("Two").client("foreign"),
            {},
            "unknown_ca",
            f"{NO_USE}, it would then be refused as unknown_ca: {ADVICE['unknown_ca']}",
        ),
        (last.intermediate("One Too Many").client("low"), {}, "chain_too_long", f"{NO_USE}, a CA above it limits the"),
    ):
        found = ask(issued, depth=0, **auth)
        assert (found.word, found.with_more_depth) == ("chain_too_long", deeper)
        assert found.advice.startswith(advice)
    found = ask(ask.pki.other.client("x"), depth=0)
    assert (found.word, found.with_more_depth, found.advice) == ("unknown_ca", "", ADVICE["unknown_ca"])


DAY, SECOND = dt.timedelta(days=1), dt.timedelta(seconds=1)


def test_at_another_time(ask: Any) -> None:
    """Dates of the client's certificate and of a CA's, as `openssl verify -attime` judges them; what the chain is shown as too."""
    begin, end = now() + 3 * DAY, now() + 5 * DAY
    issued = ask.pki.root.intermediate("Late", not_after=end).client("x", not_before=begin, not_after=end + DAY)
    for at, word, depth in (
        (begin - SECOND, "not_yet_valid", 0),
        (begin, "accepted", 0),
        (end - SECOND, "accepted", 0),
        (end + SECOND, "expired", 1),
        (end + 9 * DAY, "expired", None),
        (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), "not_yet_valid", None),
    ):
        found = ask(issued, at)
        assert (found.word, found.depth if depth is not None else None) == (word, depth)
        verify = ["openssl", "verify", "-attime", f"{at.timestamp():.0f}", "-CAfile", ask.pki.root.path]
        done = subprocess.run([*verify, "-untrusted", issued.path, issued.path], capture_output=True, check=False)
        assert (done.returncode == 0) is (word == "accepted")
    assert ask(issued, begin.astimezone(dt.timezone(dt.timedelta(hours=9)))).word == "accepted"
    assert ask(issued, begin).chain == ("CN=x", "CN=Late", "CN=Test Root")
    assert ask(issued).word == "not_yet_valid"


def test_a_list_at_another_time(ask: Any, tmp_path: Path) -> None:
    """Overdue by then; a list of today counts at a time before it, too."""
    due = now() + 3 * DAY
    lists = write_lists(tmp_path, revocation_list(ask.pki.root, next_update=due))
    for at, word in ((due - 4 * DAY, "accepted"), (due, "accepted"), (due + SECOND, "crl_overdue")):
        assert ask(None, at, crl=str(lists)).word == word
    assert ask(None, due + SECOND, crl=str(lists), on_crl_overdue="accept").word == "accepted"


def test_reported_and_off(ask: Any) -> None:
    found = ask(ask.pki.other.client("x"), mode="report")
    assert (found.accepted, found.word, found.mode) == (True, "unknown_ca", "report")
    off = ask(mode="off")
    assert (off.accepted, off.word, off.stages) == (True, ACCEPTED, ())


def test_the_detail_is_that_of_the_log(ask: Any) -> None:
    """Which issuer was not found, which certificate of the chain it is about."""
    assert ask(ask.pki.other.client("x")).detail == "issuer CN=Other Root not found"
    old = ask.pki.root.intermediate("Old", not_after=now() - DAY)
    assert ask(old.client("x")).detail == "certificate has expired, certificate at depth 1"
    assert ask(deny="cn:client-1").detail == "deny[0] cn:client-1"
    assert ask().detail == ""


def test_the_advice_is_about_the_certificate_that_is_wrong(ask: Any) -> None:
    """For the wrong purpose of a CA above it the client's certificate needs no other one; a name that may not be needs another name."""
    for issued, word, advice in (
        (ask.pki.root.client("signs", signs=True), "wrong_purpose", ADVICE["wrong_purpose"]),
        (ask.pki.root.intermediate("No CA", is_ca=False).client("x"), "wrong_purpose", ADVICE_ABOUT_ITS_CA),
        (ask.pki.root.client("odd", critical_unknown=True), "bad_certificate", ADVICE["bad_certificate"]),
        (constrained(ask.pki, excluded="a.example"), "bad_certificate", ADVICE_ABOUT_ITS_NAMES),
        (constrained(ask.pki, permitted="b.example"), "bad_certificate", ADVICE_ABOUT_ITS_NAMES),
    ):
        found = ask(issued)
        assert (found.word, found.advice) == (word, advice)


def constrained(pki: Pki, *, permitted: str = "", excluded: str = "") -> Issued:
    """A client called x.a.example below a CA with name constraints."""
    permits, excludes = ([x509.DNSName(name)] if name else None for name in (permitted, excluded))
    constraints = x509.NameConstraints(permits, excludes)
    return pki.root.intermediate("Constrained", extensions=[constraints]).client("x", names=["x.a.example"])
