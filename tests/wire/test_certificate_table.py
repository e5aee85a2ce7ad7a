"""One table of client certificates (``tests/support/certificate_table``): of each the same word from the wire, the log, the
metrics and `nlb explain`, on TLS 1.2 and 1.3.

Every certificate goes through worlds that are one reload apart, on listeners that stay: one in which it may have been welcome,
the one in force (`required`), `report`, and the one in force again. What it was given in one world it offers in the next, so
that each word is shown in a full handshake and with a session from before the change. Whatever happens then, it ends with
that word, and no server is dialled. All visits are made once; the tests look at what came of them.
"""

from __future__ import annotations

import json
import ssl
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from nlbcli.explain import command as explain
from nlbcore.termination import WORDS, Termination
from tests.support.admin import wait_scrape
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certificate_table import ACCEPTED, CASES, Estate
from tests.support.ports import free_port
from tests.support.tls_client import TLS12, TLS13, Ended, TlsClient, client_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

    Key = tuple[str, ssl.TLSVersion]

pytestmark = pytest.mark.timeout(180)  # the first test waits for all visits

ABOUT_CERTIFICATES = set(WORDS[Termination.NO_CERTIFICATE : Termination.BECAME_REVOKED])
VERSIONS = (TLS12, TLS13)
REFUSED = [case for case, one in CASES.items() if one.word != ACCEPTED]
WELCOME = [case for case, one in CASES.items() if one.word == ACCEPTED]
ONCE_WELCOME = [case for case, one in CASES.items() if one.once_welcome]
ALERT_BYTES = {TLS12: 7, TLS13: 24}
"""A record with one alert: in the clear; encrypted, with its inner type and its tag."""


@dataclass(frozen=True)
class Visit:
    """What came of one connection.

    Attributes:
        line: of the access log
        resumed: whether a session was resumed, as far as the client can tell
        alert: what the client was told; empty: it was let in, and served
        answer: bytes that came after the client's last flight
        session: to offer later
        dialled: connections to the server meanwhile
    """

    line: dict[str, Any]
    resumed: bool
    alert: str
    answer: int
    session: ssl.SSLSession | None
    dialled: int


class Run:
    """All visits in all worlds. `terminations` and `verdicts` are what the table says that the metrics must have counted."""

    def __init__(self, balancer: Balancer, backend: Backend, estate: Estate, tables: dict[str, Any]) -> None:
        self.balancer, self._backend, self.estate, self._tables = balancer, backend, estate, tables
        self._world = "before"
        self.terminations: Counter[tuple[str, str]] = Counter()
        self.verdicts: Counter[tuple[str, str]] = Counter()
        self._contexts = {
            (case, version): client_context(None, version, estate.client(case))
            for case in CASES
            for version in VERSIONS
        }
        self.before = self._all(ONCE_WELCOME, "before")
        self.enter("required")
        self.after_change = self._all(ONCE_WELCOME, "required", self.before)
        self.full = self._all(CASES, "required")
        self.resumed = self._all(WELCOME, "required", self.full)
        self.enter("report")
        self.report = self._all(CASES, "report")
        self.report_resumed = self._all(CASES, "report", self.report)
        self.enter("required")
        self.after_report = self._all(CASES, "required", self.report)
        self.enter("optional")
        self.optional = self._all(CASES, "optional")

    def enter(self, world: str) -> None:
        """Bring it into force, if it is not."""
        if world == self._world:
            return
        self._world = world
        for policy, listener in self._tables["listeners"].items():
            listener["client_auth"] = self.estate.auth(policy, world)
        self.balancer.rewrite(self._tables)
        self.balancer.reload()

    def _all(self, cases: Iterable[str], world: str, sessions: dict[Key, Visit] | None = None) -> dict[Key, Visit]:
        return {
            (case, version): self._visit((case, version), world, sessions[case, version].session if sessions else None)
            for case in cases
            for version in VERSIONS
        }

    def _visit(self, key: Key, world: str, session: ssl.SSLSession | None) -> Visit:
        case = CASES[key[0]]
        welcome = welcomed(key[0], world)
        self.terminations[case.policy, "client_close" if welcome else case.word] += 1
        if world == "report":
            self.verdicts[case.policy, case.word] += 1
        self._backend.forget()
        came, alert = 0, ""
        with TlsClient(self.balancer.port(case.policy), self._contexts[key], session=session) as client:
            try:
                client.stop_before_last_flight()
                came = client.received
                client.release()
                client.handshake()
                if welcome:
                    client.ping()
                else:
                    client.recv(timeout=5)
            except ssl.SSLError as error:
                alert = error.reason or "ALERT"
            except Ended as ended:
                alert = ended.how
            except TimeoutError:
                alert = ""
        line = self.balancer.line(client)
        return Visit(line, client.resumed, alert, client.received - came, client.session, self._backend.accepted)


def welcomed(case: str, world: str) -> bool:
    """Whether a client is let in; "before" is asked only of those who are."""
    return (
        CASES[case].word == ACCEPTED
        or world in {"before", "report"}
        or (world == "optional" and CASES[case].word == "no_certificate")
    )


@pytest.fixture(scope="module")
def admin() -> int:
    return free_port()


@pytest.fixture(scope="module")
def run(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, module_folder: Path, admin: int) -> Run:
    """Made once."""
    estate = Estate(pki, module_folder)
    tables = {
        "node": {"admin": f"127.0.0.1:{admin}"},
        "log": {"refusals_per_second": 0},
        "listeners": {
            policy: tls_listener(pki.server, client_auth=None) | {"client_auth": estate.auth(policy, "before")}
            for policy in estate.policies
        },
        "server_groups": {"app": server_group(backend)},
    }
    return Run(balancer_for(tables), backend, estate, tables)


def check_refused(visit: Visit, case: str, certificate: Issued | None) -> None:
    """By an alert, with its word and what the client has claimed to be, and nobody behind has seen it."""
    line = visit.line
    assert line["termination"] == CASES[case].word, line
    assert visit.alert.startswith(("TLS", "SSL", "ALERT")), f"an alert, not {visit.alert or 'let in'}"
    assert visit.dialled == 0
    assert "server" not in line
    assert line.get("sent_bytes", 0) == 0
    if certificate is None:
        assert not [key for key in line if key.startswith("client_cert")], line
        return
    assert line["client_cert_proven"] is False
    assert line["client_cert_sha256"] == certificate.sha256
    assert int(line["client_cert_serial"], 16) == certificate.certificate.serial_number
    names = certificate.certificate.subject, certificate.certificate.issuer
    for field, name in zip(("client_cert_subject", "client_cert_issuer"), names, strict=True):
        values = [str(attribute.value).partition("\0")[0] for attribute in name]
        assert all(value in line.get(field, "") for value in values), (field, line)


def test_every_word_is_in_the_table() -> None:
    assert {one.word for one in CASES.values()} == ABOUT_CERTIFICATES | {ACCEPTED}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(run: Run, case: str) -> None:
    """In a full handshake, when the wire carries an alert and nothing else; with a session from `report`, which lets everybody
    in; with one from before a CA, list, rule, depth, strictness or the mode has changed; and in `optional`, if there is one.
    """
    certificate = run.estate.client(case)
    for version in VERSIONS:
        check_refused(run.full[case, version], case, certificate)
        assert run.full[case, version].answer == ALERT_BYTES[version]
        assert run.report[case, version].session is not None
        check_refused(run.after_report[case, version], case, certificate)
        if certificate is not None:
            check_refused(run.optional[case, version], case, certificate)
        if CASES[case].once_welcome:
            before = run.before[case, version]
            assert (before.alert, before.dialled) == ("", 1), before.line
            assert before.session is not None
            check_refused(run.after_change[case, version], case, certificate)


@pytest.mark.parametrize("case", CASES)
def test_reported(run: Run, case: str) -> None:
    """`report` serves them all and says the word that `required` has, full and resumed."""
    for version in VERSIONS:
        for visit in (run.report[case, version], run.report_resumed[case, version]):
            assert (visit.alert, visit.dialled) == ("", 1), visit.line
            assert visit.line["client_cert_verdict"] == CASES[case].word
            assert visit.line["termination"] == "client_close"
        assert run.report_resumed[case, version].resumed


@pytest.mark.parametrize("case", WELCOME)
def test_welcome(run: Run, case: str) -> None:
    """In every mode, full and resumed, named and proven; after a change of the mode not resumed."""
    for version in VERSIONS:
        for visits in (run.full, run.resumed, run.report, run.after_report, run.optional):
            visit = visits[case, version]
            assert (visit.alert, visit.dialled) == ("", 1), visit.line
            assert visit.line["client_cert_proven"] is True
            assert visit.resumed is (visits is run.resumed)


@pytest.mark.parametrize("case", [case for case in CASES if case != "none"])
def test_explained(run: Run, case: str) -> None:
    """`nlb explain` has the word too, and what the log says beside it; in `report` the certificate would be let in."""
    certificate = run.estate.client(case)
    assert certificate is not None
    word = CASES[case].word
    run.enter("required")
    arguments = [str(certificate.path), "-c", str(run.balancer.path), "--listener", CASES[case].policy, "--json"]
    done = CliRunner().invoke(explain, arguments)
    told = json.loads(done.stdout)
    assert (told["word"], told["accepted"], done.exit_code) == (word, word == ACCEPTED, int(word != ACCEPTED))
    assert told["depth"] == 0 or (told["detail"] and told["verify_ca_subject"])
    for version in VERSIONS:
        line = run.full[case, version].line
        detail = line.get("termination_detail", "")
        assert told["detail"] == detail
        assert detail.endswith(f", certificate at depth {told['depth']}") is bool(told["depth"])
        assert told["verify_ca_subject"] == line.get("verify_ca_subject", "")


def test_without_a_certificate_where_none_is_needed(run: Run) -> None:
    assert not any(run.optional["none", version].alert for version in VERSIONS)


@pytest.mark.parametrize("counter", ["terminations", "verdicts"])
def test_counted(run: Run, admin: int, counter: str) -> None:
    """The metrics have counted what the table says, and nothing else; verdicts are shown where they are asked for."""
    run.enter("report")
    name, label, wanted = {
        "terminations": ("nlb_terminations_total", "termination", run.terminations),
        "verdicts": ("nlb_client_certificate_verdicts_total", "verdict", run.verdicts),
    }[counter]
    total = sum(wanted.values())
    samples = wait_scrape(admin, lambda one: one.total(name) >= total, f"{total} counted").samples
    found = [(dict(labels), int(value)) for (one, labels), value in samples.items() if one == name and value]
    assert {(labels["listener"], labels[label]): value for labels, value in found} == wanted
