"""Names: the form a certificate has them in, and a sentence for each that is none."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from nlbcore.pki import names
from nlbcore.pki.errors import BadValue
from nlbcore.pki.names import Subject


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("localhost", "localhost"),
        ("WWW.Example.COM.", "www.example.com"),
        ("*.example.com", "*.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        ("1and1.com", "1and1.com"),
        (".".join(["a" * 49] * 5), ".".join(["a" * 49] * 5)),
    ],
)
def test_dns(given: str, made: str) -> None:
    assert names.dns(given) == made


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "is not a host name: a label is"),
        (".", "is not a host name"),
        ("a b", "is not a host name: a label is"),
        ("a_b.example", 'is not a host name ("a_b"): a label is'),
        ("-a.example", 'is not a host name ("-a")'),
        ("a-.example", 'is not a host name ("a-")'),
        ("a..example", 'is not a host name ("")'),
        ("a" * 64, "is not a host name: a label is 1 to 63"),
        (".".join(["a" * 50] * 5), "longer than 253"),
        ("a.*.example", 'is not a host name ("*")'),
        ("*a.example.com", 'is not a host name ("*a")'),
        ("*", "is not a host name"),
        ("*.com", "a wildcard needs two labels"),
        ("*.*.example.com", 'is not a host name ("*")'),
        ("10.0.0.1", "is an IP address; --ip takes it"),
        ("::1", "is an IP address; --ip takes it"),
        ("10.0.0.300", "the last label is a number"),
        ("a\x00.example", "is not a host name"),
        ("a.example\n", "is not a host name"),
        ("☃\ufe0f..example", "is not a host name in any script"),
        ("\udcff.example", "is not a host name in any script"),
    ],
)
def test_no_dns_name(given: str, reason: str) -> None:
    with pytest.raises(BadValue) as caught:
        names.dns(given)
    assert reason in caught.value.reason
    assert caught.value.field == "dns"


def test_ip() -> None:
    assert names.ip("192.0.2.1") == ipaddress.ip_address("192.0.2.1")
    assert names.ip("2001:DB8::1") == ipaddress.ip_address("2001:db8::1")
    for given, reason in [
        ("10.0.0.0/8", "not networks"),
        ("localhost", "is not an IP address (for example"),
        ("1.2.3", "is not an IP"),
        ("fe80::1%eth0", "leave out %eth0"),
    ]:
        with pytest.raises(BadValue) as caught:
            names.ip(given)
        assert reason in caught.value.reason


def test_uri() -> None:
    for good in ("spiffe://example.com/ns/x", "https://a.example/%20?x=1#y", "urn:uuid:1-2", "https://[::1]:8443/"):
        assert names.uri(good) == good
    for bad in (
        "",
        "example.com",
        "//example.com/x",
        "http:",
        "http://a b",
        "http://bücher/",
        "x://%zz",
        "1a:b",
        "a:b\n",
    ):
        with pytest.raises(BadValue, match=r"is not an absolute URI"):
            names.uri(bad)
    for bad in (
        "http://",
        "http:///x",
        "http://[::1",
        "http://a]/",
        "http://a:b:c/",
        "http://a:99999/",
        "http://a..b/",
    ):
        with pytest.raises(BadValue, match=r'^uri ".*" has no host behind the //, or a host or port'):
            names.uri(bad)
    for good in ("http://[::1]:80/x", "http://user@a.b/", "spiffe://a_b/x", "urn:uuid:1", "a:[", "mailto:a@b"):
        assert names.uri(good) == good


def test_email() -> None:
    assert names.email("Alice.B+x@Example.COM") == "Alice.B+x@example.com"
    assert names.email("a@bücher.example") == "a@xn--bcher-kva.example"
    for bad, reason in [
        ("alice", "is not an e-mail address"),
        ("@example.com", "is not an e-mail address"),
        ("a b@example.com", "is not an e-mail address"),
        ("ä@example.com", "is not an e-mail address"),
        ("a..b@example.com", "is not an e-mail address"),
        ("a@b_c", 'its domain "b_c" is not a host name'),
        ("a@", 'its domain "" is not a host name'),
    ]:
        with pytest.raises(BadValue) as caught:
            names.email(bad)
        assert reason in caught.value.reason
        assert caught.value.field == "email"


@pytest.mark.parametrize(
    ("cn", "made"),
    [
        ("localhost", ["dns:localhost"]),
        ("Alice", ["dns:alice"]),
        ("*.example.com", ["dns:*.example.com"]),
        ("bücher.example", ["dns:xn--bcher-kva.example"]),
        ("Jörg", []),
        ("Alice Example", []),
        ("alice@example.com", ["email:alice@example.com"]),
        ("a@b@c_d", []),
        ("spiffe://x/y", ["uri:spiffe://x/y"]),
        ("10.0.0.1", ["ip:10.0.0.1"]),
        ("::1", ["ip:::1"]),
        ("fe80::1%eth0", []),
        ("12345", []),
    ],
)
def test_common_name_that_is_a_name(cn: str, made: list[str]) -> None:
    assert [names.described(one) for one in names.of_common_name(cn)] == made


def test_alternative_names() -> None:
    made = names.alternative_names(dns=["b.example", "A.example"], ip=["0::1"], uri=["u:1"], email=["a@b"])
    assert [names.described(one) for one in made] == [
        "dns:b.example",
        "dns:a.example",
        "ip:::1",
        "uri:u:1",
        "email:a@b",
    ]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (x509.DNSName("WWW.Example.com"), "dns:www.example.com"),
        (x509.IPAddress(ipaddress.ip_address("::1")), "ip:::1"),
        (x509.RFC822Name("a@B"), "email:a@b"),
        (x509.UniformResourceIdentifier("u:x"), "uri:u:x"),
        (x509.RegisteredID(NameOID.COMMON_NAME), None),
    ],
)
def test_names_of_others(given: x509.GeneralName, made: str | None) -> None:
    checked = names.checked(given)
    assert (None if checked is None else names.described(checked)) == made


def test_bad_names_of_others() -> None:
    with pytest.raises(BadValue, match=r'dns "a b" is not a host name'):
        names.checked(x509.DNSName("a b"))
    with pytest.raises(BadValue, match=r"a certificate names single addresses, not networks"):
        names.checked(x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")))


def test_subject() -> None:
    whole = Subject("de", "Bayern", "München", "Ä & Co.", "Ops", "a@bücher.example").name("A, B")
    assert [one.value for one in whole] == [
        *("DE", "Bayern", "München", "Ä & Co.", "Ops", "A, B"),
        "a@xn--bcher-kva.example",
    ]
    assert [one.oid for one in Subject().name("A")] == [NameOID.COMMON_NAME]


@pytest.mark.parametrize(
    ("subject", "cn", "message"),
    [
        (Subject(country="DEU"), "a", 'country "DEU" has 3 characters; X.509 has room for 2'),
        (Subject(country="4 "), "a", 'country "4 ": a country is two letters, for example DE'),
        (Subject(organization="o" * 65), "a", f'organization "{"o" * 65}" has 65 characters; X.509 has room for 64'),
        (Subject(), "ö" * 33, f'cn "{"ö" * 33}" has 66 bytes in UTF-8; there is room for 64'),
        (Subject(locality="a\nb"), "a", 'locality "a\\nb" has characters that cannot be printed'),
        (Subject(email="x"), "a", 'subject_email "x" is not an e-mail address'),
        (Subject(), "", 'cn "" is empty'),
        (Subject(), "  ", 'cn "  " is empty'),
        (Subject(), "a\udcff", 'cn "a\\udcff" has characters that cannot be printed'),
        (Subject(), "c" * 65, f'cn "{"c" * 65}" has 65 characters'),
    ],
)
def test_no_subject(subject: Subject, cn: str, message: str) -> None:
    with pytest.raises(BadValue) as caught:
        subject.name(cn)
    assert str(caught.value).startswith(message)


def test_file_names() -> None:
    for good in ("alice", "www.example.com", "Jörg", "alice@example.com", "a b", "roots"):
        names.check_file_name(good)
    for bad in ("", ".", "..", ".x", "-x", "a/b", "/a", "*.x", "a\n", "n" * 65):
        with pytest.raises(BadValue):
            names.check_file_name(bad)
    for taken in ("root", "intermediate", "chain", "ca", "index"):
        with pytest.raises(BadValue, match=r"the authority's own files"):
            names.check_file_name(taken)
