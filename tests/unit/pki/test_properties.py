"""For any names and dates: what can be certified is certified as it was asked, openssl agrees, and the rest ends in a sentence."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from nlbcore.pki import constraints, dates, hierarchy, index, issue, keys, names, requests
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue
from nlbcore.pki.issue import Request, Signer, Term, Wanted, Window
from nlbcore.pki.names import Subject
from tests.support.programs import run

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(
    lambda label: not label.isdigit() and label[2:4] != "--"
)
SCRIPTS = st.sampled_from(("bücher", "пример", "例え", "παράδειγμα", "faß", "ドメイン", "العربية", "हिन्दी", "MÜNCHEN"))
HOST = st.lists(LABEL | SCRIPTS, min_size=2, max_size=4).map(".".join)
DNS = HOST | HOST.map(lambda host: f"*.{host}")
IP = st.ip_addresses().map(str)
URI = st.tuples(HOST, st.from_regex(r"[a-z0-9/_.-]{0,20}", fullmatch=True)).map(
    lambda parts: f"spiffe://{parts[0].encode('idna').decode() if parts[0].isascii() else 'example.com'}/{parts[1]}"
)
EMAIL = st.tuples(st.from_regex(r"[a-z0-9+_-]{1,12}", fullmatch=True), HOST).map("@".join)
WORDS = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1, max_size=60).filter(
    lambda text: text.strip() and len(text.encode()) <= 64
)
MOMENTS = st.datetimes(
    *(dt.datetime(year, 1, 1) for year in (2000, 2080)),  # noqa: DTZ001 - hypothesis adds the zone
    timezones=st.just(dt.UTC),
).map(lambda moment: moment.replace(microsecond=0))


@pytest.fixture(scope="module")
def authority(module_folder: Path) -> Authority:
    return Authority.create(module_folder / "ca", name="Example")


def requested(profile: str) -> st.SearchStrategy[Request]:
    def several(one: st.SearchStrategy[str], least: int = 0) -> st.SearchStrategy[list[str]]:
        return st.lists(one, min_size=least, max_size=3)

    return st.builds(
        Request,
        name=st.just("leaf"),
        profile=st.just(profile),
        cn=WORDS,
        subject=st.builds(
            Subject,
            country=st.sampled_from(("", "DE", "jp")),
            state=st.just("") | WORDS,
            organization=st.just("") | WORDS,
            organizational_unit=st.just("") | WORDS,
        ),
        dns=several(DNS, 1),
        ip=several(IP),
        uri=several(URI),
        email=several(EMAIL),
        term=st.builds(Term, days=st.integers(1, 3000)),
    )


@pytest.mark.parametrize("profile", ["server", "client"])
def test_what_was_asked_is_what_is_certified(authority: Authority, tmp_path: Path, profile: str) -> None:
    """Every leaf says the names it was asked for, also when the request goes through a CSR; openssl verifies them all."""
    signer = authority._hierarchy.signer(hierarchy.INTERMEDIATE)
    key = keys.new("ec-p256")
    made: list[Path] = []

    @settings(max_examples=60, deadline=None)
    @given(requested(profile))
    def check(request: Request) -> None:
        wanted = request.checked()
        assert len(set(wanted.sans)) == len(wanted.sans)
        texts = [names.described(one) for one in wanted.sans]
        assert {f"ip:{ipaddress.ip_address(one)}" for one in request.ip} <= set(texts)
        assert {f"uri:{one}" for one in request.uri} <= set(texts)
        assert {f"dns:{names.dns(one)}" for one in request.dns} <= set(texts)
        csr = tmp_path / "leaf.csr"
        csr.write_bytes(requests.make(wanted, key))
        signable = requests.load(csr, profile)
        assert (signable.wanted.subject, signable.left_out) == (wanted.subject, ())
        assert signable.wanted.sans == list(wanted.sans)
        window = issue.window(index.now(), 30, authority.intermediate, request.term)
        leaf = issue.leaf(wanted, key.public_key(), signer, window)
        assert leaf.subject == wanted.subject
        assert [*leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value] == list(wanted.sans)
        assert leaf.not_valid_after_utc <= authority.intermediate.not_valid_after_utc
        path = tmp_path / f"{len(made)}.crt"
        path.write_bytes(hierarchy.pem(leaf))
        made.append(path)

    check()
    command = ["openssl", "verify", "-x509_strict", "-purpose", f"ssl{profile}", "-CAfile", str(authority.chain)]
    shown = run(*command, *map(str, made)).stdout.decode()
    assert shown.count(": OK\n") == len(made) >= 50


@pytest.mark.parametrize("kind", [names.dns, names.email, names.uri, names.ip, lambda text: Subject().name(text)])
def test_any_text_is_a_name_or_a_sentence(kind: Callable[[str], object]) -> None:
    """Whatever is typed, it is taken or told; what is taken is taken again as it is."""

    @settings(deadline=None)
    @given(st.text(max_size=80) | DNS | EMAIL | IP | URI)
    @example("\u200d.example")
    @example("xn--\u00fc.example")
    @example("xn--a.example")
    @example("a" * 300)
    @example("ß" * 63 + ".example")
    @example("١.٢")
    @example("a@" + "b" * 64)
    @example("\ud800")
    def check(text: str) -> None:
        try:
            made = kind(text)
        except BadValue as error:
            assert error.reason
            return
        if isinstance(made, str):
            assert made.isascii()
            assert kind(made) == made

    check()


@settings(deadline=None)
@given(days=st.none() | st.integers(-5, 40000), begin=st.none() | MOMENTS, end=st.none() | MOMENTS)
def test_no_dates_go_past_the_issuer(
    authority: Authority, days: int | None, begin: dt.datetime | None, end: dt.datetime | None
) -> None:
    issuer = authority.intermediate
    first, last = issuer.not_valid_before_utc, issuer.not_valid_after_utc
    now = index.now()
    try:
        made = issue.window(now, 30, issuer, Term(days, begin, end))
    except BadValue as error:
        assert error.field in {"days", "not_before", "not_after"}
        return
    assert first <= made.begin < made.end <= last
    assert made.end == end or end is None or (made.clamped and end > last)
    assert made.begin == begin or begin is None or (made.late and begin < first)
    if made.clamped:
        assert made.end == last


@settings(deadline=None)
@given(MOMENTS)
def test_every_date_can_be_typed(moment: dt.datetime) -> None:
    assert dates.moment(index.stamp(moment), "not_after") == moment


@settings(max_examples=40, deadline=None)
@given(
    hosts=st.lists(HOST, min_size=1, max_size=3),
    networks=st.lists(
        st.ip_addresses().map(lambda one: str(ipaddress.ip_network((one, 24), strict=False))), max_size=2
    ),
    below=LABEL,
    other=HOST,
)
def test_constraints_permit_what_they_name_and_nothing_else(
    hosts: list[str], networks: list[str], below: str, other: str
) -> None:
    permitted = constraints.parse(hosts, networks)
    key = keys.new("ec-p256")
    now = index.now()
    window = Window(now, now + dt.timedelta(days=1), clamped=False)
    root = issue.root(Subject().name("x"), key, window, permitted)
    good = [names.dns(host) for host in hosts] + [names.dns(f"{below}.{host}") for host in hosts]
    inside = [ipaddress.ip_network(one)[7] for one in networks]
    wanted = Request("x", "server", "x y", dns=good, ip=list(map(str, inside))).checked()
    constraints.check(root, wanted.sans)
    leaf = issue.leaf(wanted, key.public_key(), Signer(root, key), window)
    assert leaf.issuer == root.subject
    bases = [names.dns(host) for host in hosts]
    stranger = names.dns(other)
    assume(not any(f".{stranger}".endswith(f".{base}") for base in bases))
    with pytest.raises(BadValue):
        constraints.check(root, [x509.DNSName(stranger)])
    if not networks:
        with pytest.raises(BadValue):
            constraints.check(root, [x509.IPAddress(ipaddress.ip_address("192.0.2.1"))])


def test_wanted_is_plain() -> None:
    """What is given to a certificate is a value: two that say the same are the same."""
    request = Request("x", "client", "alice", dns=["a.example"])
    assert request.checked() == request.checked()
    assert isinstance(request.checked(), Wanted)
