"""Name constraints: what they permit, said before a certificate is made that openssl would refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlbcore.pki import constraints, hierarchy, index, issue
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue
from nlbcore.pki.issue import Request
from tests.support.programs import run

HOSTS = (
    "corp.example",
    "www.corp.example",
    "*.corp.example",
    "corpus.example",
    "example",
    "a.b.corp.example",
    "x.test",
)
ADDRESSES = ("10.1.2.3", "11.0.0.1", "fd00::1", "2001:db8::1")


def verified(authority: Authority, folder: Path, *, host: str = "", address: str = "") -> bool:
    """Whether openssl takes a leaf with that name, made without asking whether it may be."""
    request = Request("leaf", "server", "leaf", dns=[host] if host else [], ip=[address] if address else [])
    wanted = request.checked()
    wanted = issue.Wanted("server", wanted.subject, wanted.sans[1:])  # "leaf" is no name of the test
    signer = authority._hierarchy.signer(hierarchy.INTERMEDIATE)
    validity = issue.window(index.now(), 5, authority.intermediate)
    key = signer.key.public_key()
    path = folder / "leaf.crt"
    path.write_bytes(hierarchy.pem(issue.leaf(wanted, key, signer, validity), authority.intermediate))
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", authority.folder / "root.crt"]
    return run(*map(str, command), "-untrusted", str(path), str(path), check=False).returncode == 0


def permitted(authority: Authority, name: x509.GeneralName) -> bool:
    try:
        constraints.check(authority.intermediate, [name])
    except BadValue:
        return False
    return True


@pytest.mark.parametrize(
    ("dns", "ip"),
    [
        (["corp.example"], []),
        (["corp.example", "x.test"], ["10.0.0.0/8"]),
        ([], ["10.0.0.0/8", "fd00::/8"]),
        (["www.corp.example"], ["fd00::/8"]),
    ],
)
def test_openssl_agrees(tmp_path: Path, dns: list[str], ip: list[str]) -> None:
    authority = Authority.create(tmp_path / "ca", permit_dns=dns, permit_ip=ip)
    for certificate in (authority.root, authority.intermediate):
        assert certificate.extensions.get_extension_for_class(x509.NameConstraints).critical
    for host in HOSTS:
        assert permitted(authority, x509.DNSName(host)) is verified(authority, tmp_path, host=host), host
    for address in ADDRESSES:
        name = issue.Request("x", "server", ip=[address]).checked().sans[1]
        assert permitted(authority, name) is verified(authority, tmp_path, address=address), address


def test_issue_says_what_is_permitted(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", permit_dns=["corp.example"], permit_ip=["10.0.0.0/8"])
    good = Request("www.corp.example", "server", dns=["*.corp.example"], ip=["10.0.0.1"], uri=["spiffe://other/x"])
    made = authority.issue(good, out=tmp_path)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(authority.chain)]
    run(*command, str(made.certificate))
    for request, message in [
        (
            Request("www.example", "server"),
            'dns "www.example": this authority is constrained to corp.example, 10.0.0.0/8',
        ),
        (Request("a.corp.example", "client", ip=["::1"]), 'ip "::1": this authority is constrained to'),
    ]:
        with pytest.raises(BadValue) as caught:
            authority.issue(request, out=tmp_path)
        assert str(caught.value).startswith(message)
    assert len(authority.entries()) == 2
    assert Authority.open(authority.folder).describe()["root"]["permitted"] == ["corp.example", "10.0.0.0/8"]


def test_a_person_is_no_host(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", permit_dns=["corp.example"])
    made = authority.issue(Request("alice", "client", "Alice Example", email=["alice@other.example"]), out=tmp_path)
    run(
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslclient",
        "-CAfile",
        str(authority.chain),
        str(made.certificate),
    )


@pytest.mark.parametrize(
    ("dns", "ip", "message"),
    [
        (["*.example.com"], [], 'permit_dns "*.example.com": "example.com" covers itself and every name below it'),
        ([".example.com"], [], 'permit_dns ".example.com": "example.com" covers itself'),
        (["10.0.0.1"], [], 'permit_dns "10.0.0.1" is an IP address'),
        (
            [],
            ["10.0.0.1/8"],
            'permit_ip "10.0.0.1/8" is not a network, for example 10.0.0.0/8 (did you mean 10.0.0.0/8?)',
        ),
        ([], ["example.com"], 'permit_ip "example.com" is not a network'),
    ],
)
def test_refused(dns: list[str], ip: list[str], message: str) -> None:
    with pytest.raises(BadValue) as caught:
        constraints.parse(dns, ip)
    assert str(caught.value).startswith(message)


def test_none(tmp_path: Path) -> None:
    assert constraints.parse([], []) is None
    authority = Authority.create(tmp_path / "ca")
    assert constraints.of(authority.root) is None
    constraints.check(authority.intermediate, [x509.DNSName("anything.example")])


@pytest.fixture(scope="module")
def limited(module_folder: Path) -> Authority:
    return Authority.create(module_folder / "ca", permit_dns=["example.com"])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("abc-.", min_size=1, max_size=12))
def test_nothing_but_what_is_below(limited: Authority, host: str) -> None:
    assert permitted(limited, x509.DNSName(f"{host}.example.com"))
    for other in (f"{host}.example.org", f"{host}example.com", "com", f"example.com.{host}"):
        inside = f".{other}".endswith(".example.com")
        assert permitted(limited, x509.DNSName(other)) is inside


def test_a_word_is_no_host_unless_it_is_asked_for(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca", permit_dns=["corp.example"])
    alice = authority.issue(Request("alice", "client"), out=tmp_path)
    web = authority.issue(Request("web", "server", dns=["web.corp.example"]), out=tmp_path)
    assert (alice.entry.sans, web.entry.sans) == ((), ("dns:web.corp.example",))
    for made, purpose in ((alice, "sslclient"), (web, "sslserver")):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(authority.chain)]
        run(*command, str(made.certificate))
    for request in (Request("bob", "client", dns=["bob"]), Request("bob", "server"), Request("bob.example", "client")):
        with pytest.raises(BadValue, match=r'dns "bob.*": this authority is constrained to corp.example'):
            authority.issue(request, out=tmp_path)
