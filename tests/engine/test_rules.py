"""The compiled rules say what the plain ones say (tests/support/identity_rules.py), whatever is in the certificate."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nlbcore.engine.rules import Rules
from nlbcore.tls.rules import BadRule, parse
from nlbcore.tls.ruletable import compile_rules
from tests.support import forge
from tests.support.certs import Pki
from tests.support.forge import BITS, BMP, IA5, PRINTABLE, T61, UNIVERSAL, UTF8, certificate, tlv
from tests.support.identity_rules import Names, verdict


def rules(*allow: str, deny: tuple[str, ...] = ()) -> Rules:
    compiled = compile_rules(allow, deny)
    assert compiled.table is not None, compiled.remarks
    return Rules(compiled.table)


def word(der: bytes, *allow: str, deny: tuple[str, ...] = ()) -> str:
    return rules(*allow, deny=deny).look(der).word


# -- against the plain rules -------------------------------------------------------------------------------------------

_LABELS = st.sampled_from(["a", "B", "ab", "web-1", "corp", "example", "*", "xn--bcher-kva", "x" * 63])
_WILD = st.one_of(_LABELS, st.sampled_from(["*", "a*", "*b", "a*b", "web-*", "*-*", "bücher"]))
_SEGMENTS = st.sampled_from(["a", "A", "ns", "sa", "a.b", "a%20b", "*", "a:b", "a@b", ""])
_WILD_SEGMENTS = st.one_of(_SEGMENTS, st.sampled_from(["*", "n*", "*s", "*a*"]))
_TEXTS = st.sampled_from(["a", "client-1", "Client 1", " client   1 ", "Jürgen", "ab", "\U0001f512", "", "*"])
_WILD_TEXTS = st.sampled_from(["a", "client-*", "client 1", "*", "Jürgen", "j*n", "*-*", "CLIENT-1", "\U0001f512"])
_NUMBERS = st.sampled_from(["10.0.0.1", "10.1.2.3", "192.0.2.1", "2001:db8::1", "::ffff:10.0.0.1", "::1"])
_NETWORKS = st.sampled_from(
    ["10.0.0.0/8", "10.0.0.1", "0.0.0.0/0", "192.0.2.0/25", "2001:db8::/33", "::/0", "::ffff:10.0.0.0/104", "::1"]
)


def _hosts(label: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(label, min_size=1, max_size=4).map(".".join)


def _uris(label: st.SearchStrategy[str], segment: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    scheme = st.sampled_from(["spiffe", "SPIFFE", "urn"])
    rest = st.sampled_from(["", "?q", "?q/a", "#f", "?q#f", "/**"])
    host = st.one_of(_hosts(label), st.just("a:1"), st.just("u@a"))
    return st.builds(
        lambda s, h, p, r: f"{s}://{h}/{'/'.join(p)}{r}", scheme, host, st.lists(segment, max_size=3), rest
    )


def _mails(label: st.SearchStrategy[str], local: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda a, b: f"{a}@{b}", local, _hosts(label))


def _readable(rule: str) -> bool:
    try:
        parse(rule)
    except BadRule:
        return False
    return True


_RULES = (
    st.one_of(
        st.tuples(st.sampled_from(["cn", "o", "ou"]), _WILD_TEXTS),
        st.tuples(st.just("dns"), st.one_of(_hosts(_WILD), _hosts(_WILD).map("**.{}".format))),
        st.tuples(st.just("uri"), _uris(_WILD, _WILD_SEGMENTS)),
        st.tuples(st.just("email"), _mails(_WILD, st.sampled_from(["a", "A", "*", "a*"]))),
        st.tuples(st.just("ip"), _NETWORKS),
    )
    .map(":".join)
    .filter(_readable)
)

_DAMAGE = st.sampled_from([b"", b"", b"", b"", b"\0", b"\n", b".", b"\xff", b" ", b"/..", b"/%2e", b"%2", b"@", b"\\"])


def _address(text: str) -> bytes:
    import ipaddress

    return ipaddress.ip_address(text).packed


_NAMES = st.one_of(
    st.tuples(st.just("dns"), st.builds(lambda a, b: a.encode() + b, _hosts(_LABELS), _DAMAGE)),
    st.tuples(st.just("uri"), st.builds(lambda a, b: a.encode() + b, _uris(_LABELS, _SEGMENTS), _DAMAGE)),
    st.tuples(
        st.just("email"),
        st.builds(lambda a, b: b + a.encode(), _mails(_LABELS, st.sampled_from(["a", "A", "ab"])), _DAMAGE),
    ),
    st.tuples(st.just("ip"), st.one_of(_NUMBERS.map(_address), st.binary(max_size=17))),
    st.tuples(st.just("other"), st.binary(max_size=4)),
)
_VALUES = st.one_of(
    st.tuples(st.just(UTF8), st.one_of(_TEXTS.map(str.encode), st.binary(max_size=6))),
    st.tuples(st.just(BMP), st.one_of(_TEXTS.map(lambda text: text.encode("utf-16-be")), st.binary(max_size=6))),
    st.tuples(st.just(UNIVERSAL), st.one_of(_TEXTS.map(lambda text: text.encode("utf-32-be")), st.binary(max_size=9))),
    st.tuples(st.sampled_from([PRINTABLE, IA5, T61]), _TEXTS.map(lambda text: text.encode("latin-1", "ignore"))),
    st.tuples(st.just(BITS), st.binary(max_size=3)),
)
_ATTRIBUTES = st.tuples(st.sampled_from(["cn", "cn", "o", "ou", "title"]), _VALUES).map(lambda one: (one[0], *one[1]))


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    attributes=st.lists(_ATTRIBUTES, max_size=3),
    names=st.lists(_NAMES, max_size=3),
    allow=st.lists(_RULES, max_size=4),
    deny=st.lists(_RULES, max_size=2),
    one_set=st.booleans(),
)
@example(attributes=[], names=[("uri", b"spiffe://a/b/")], allow=["uri:spiffe://a/b/**"], deny=[], one_set=False)
@example(attributes=[], names=[("uri", b"spiffe://a/b//c")], allow=["uri:spiffe://a/b/**"], deny=[], one_set=False)
@example(attributes=[], names=[("email", b"A@b")], allow=["email:a@b"], deny=["email:a@b"], one_set=False)
@example(attributes=[], names=[("dns", b"a.b.")], allow=["dns:A.B"], deny=["dns:*.b"], one_set=False)
def test_against_the_plain_rules(
    attributes: list[forge.Attribute], names: list[forge.Name], allow: list[str], deny: list[str], one_set: bool
) -> None:
    compiled = compile_rules(allow, deny)
    if compiled.table is None:
        assert not allow
        assert not deny
        return
    found = Rules(compiled.table).look(certificate(attributes, names or None, one_set=one_set))
    expected = verdict(Names.of_raw(attributes, names), allow, deny)
    assert (found.word, found.allowed, found.denied) == expected


@settings(max_examples=150, deadline=None)
@given(data=st.data(), size=st.integers(50, 400))
def test_many_rules_against_the_plain_ones(data: st.DataObject, size: int) -> None:
    """Full tables: chains in the hash table, many lengths of prefixes and suffixes."""
    number = st.integers(0, 300)
    made = data.draw(
        st.lists(
            st.one_of(
                number.map("cn:client-{}".format),
                number.map("cn:client-{}*".format),
                number.map("cn:*-{}".format),
                number.map("dns:h{}.corp.example".format),
                number.map("dns:*.h{}.example".format),
                number.map("dns:**.h{}".format),
                number.map("uri:spiffe://prod/{}/*".format),
                number.map("ip:10.0.{}.0/24".format).filter(_readable),
            ),
            min_size=size,
            max_size=size,
        )
    )
    n = data.draw(number)
    attributes = [("cn", UTF8, f"client-{n}".encode())]
    names = [
        ("dns", f"a.h{n}.example".encode()),
        ("uri", f"spiffe://prod/{n}/x".encode()),
        ("ip", bytes([10, 0, n % 256, 1])),
    ]
    table = compile_rules(made[: size // 2], made[size // 2 :]).table
    assert table is not None
    found = Rules(table).look(certificate(attributes, names))
    assert (found.word, found.allowed, found.denied) == verdict(
        Names.of_raw(attributes, names), made[: size // 2], made[size // 2 :]
    )


def test_against_what_cryptography_reads(pki: Pki) -> None:
    """Every kind of rule on a real certificate, for and against."""
    made = pki.root.client("client-1", names=["client-1.corp.example", "10.1.2.3"], serial=0x1F_A0)
    names = Names.of(made.certificate)
    der = made.certificate.public_bytes(Encoding.DER)
    spki = names.by_kind["spki-sha256"][0]
    own = [
        "cn:client-1",
        "dns:*.corp.example",
        "ip:10.0.0.0/8",
        "serial:1f:a0",
        f"sha256:{made.sha256}",
        f"spki-sha256:{spki}",
    ]
    for rule in own:
        kind, _, value = rule.partition(":")
        other = "ip:10.0.0.0/16" if kind == "ip" else f"{kind}:{value.translate(str.maketrans('1ac', '2bd'))}"
        assert word(der, rule) == verdict(names, [rule], [])[0] == "open"
        assert word(der, other) == verdict(names, [other], [])[0] == "not_allowed", other
        assert word(der, deny=(rule,)) == verdict(names, [], [rule])[0] == "denied"
        assert word(der, deny=(other,)) == verdict(names, [], [other])[0] == "open"


# -- one by one --------------------------------------------------------------------------------------------------------


def cn(value: str | bytes, tag: int = UTF8) -> forge.Attribute:
    return ("cn", tag, value.encode() if isinstance(value, str) else value)


def test_a_nul_byte_ends_no_name() -> None:
    """CVE-2009-2408 and its children: what stands before the NUL is not the name."""
    der = certificate([cn("admin\0.evil.example")], [("dns", b"admin.corp.example\0.evil.example")])
    assert word(der, "cn:admin", "dns:admin.corp.example", "cn:admin*", "dns:**.example") == "not_allowed"
    found = rules(deny=("dns:other.example",)).look(der)
    assert (found.word, found.unreadable) == ("denied", "dns")


def test_several_common_names_are_no_identity() -> None:
    """Readers differ about which one counts; `deny` looks at all."""
    der = certificate([cn("mallory"), cn("admin")])
    assert word(der, "cn:admin") == word(der, "cn:mallory") == word(der, "cn:*") == "not_allowed"
    assert word(der, deny=("cn:admin",)) == word(der, deny=("cn:mallory",)) == "denied"
    one_set = certificate([cn("mallory"), cn("admin")], one_set=True)
    assert word(one_set, "cn:admin") == "not_allowed"
    assert word(one_set, deny=("cn:mallory",)) == "denied"
    hidden = certificate([cn("admin"), cn("x\0")])
    assert word(hidden, "cn:admin") == "not_allowed", "one that cannot be read counts"


def test_several_units_are_all_true() -> None:
    der = certificate([cn("x"), ("ou", UTF8, b"billing"), ("ou", UTF8, b"berlin")], one_set=True)
    assert word(der, "ou:berlin") == word(der, "ou:billing") == "open"
    assert word(der, "ou:berlin", deny=("ou:billing",)) == "denied"


def test_a_name_counts_only_as_what_it_is() -> None:
    """A common name is no DNS name, a DNS name no common name, a URI that looks like one neither."""
    der = certificate([cn("a.example")], [("uri", b"x:b.example"), ("dns", b"10.0.0.1"), ("email", b"c@d.example")])
    for rule in ("dns:a.example", "cn:b.example", "dns:b.example", "ip:10.0.0.1", "dns:d.example", "cn:c*"):
        assert word(der, rule) == "not_allowed", rule


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (UTF8, "Jürgen".encode()),
        (T61, b"J\xfcrgen"),
        (BMP, "Jürgen".encode("utf-16-be")),
        (UNIVERSAL, "Jürgen".encode("utf-32-be")),
    ],
)
def test_string_types(tag: int, value: bytes) -> None:
    """One name, however it is encoded."""
    assert word(certificate([cn(value, tag)]), "cn:jürgen") == "open"


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (UTF8, b"\xc0\xa1"),  # longer than need be
        (UTF8, b"\xed\xa0\x80"),  # a surrogate
        (UTF8, b"\xf4\x90\x80\x80"),
        (UTF8, b"a\xc3"),
        (PRINTABLE, b"\xfc"),
        (IA5, b"\xfc"),
        (T61, b"\x85"),
        (BMP, b"\0a\0"),
        (BMP, b"\xd8\x3d\xdd\x12"),
        (UNIVERSAL, b"\0\x11\0\0"),
        (BITS, b"\0a"),
        (UTF8, b"a\x1b[2J"),
        (UTF8, b"a" * 2049),
    ],
)
def test_unreadable_text(tag: int, value: bytes) -> None:
    der = certificate([cn(value, tag)])
    assert word(der, "cn:*") == "not_allowed"
    assert rules(deny=("cn:x",)).look(der).unreadable == "cn"
    assert word(der, deny=("ou:x",)) == "open", "there are no rules about its kind"


def test_unreadable_subject() -> None:
    """What cannot be told apart may be anything."""
    for broken in (tlv(0x30, b"\x31\x00"), tlv(0x30, tlv(0x31, b"\x30\x03\x06\x01")), tlv(0x30, b"\x0c\x01a")):
        der = certificate(whole_subject=broken)
        for kind in ("cn", "o", "ou"):
            assert word(der, f"{kind}:*") == "not_allowed"
            assert word(der, deny=(f"{kind}:x",)) == "denied"
        assert word(der, deny=("dns:x",)) == "open"


def test_unreadable_alternative_names() -> None:
    twice = [forge.alternative_names([("dns", b"a.example")]), forge.alternative_names([("dns", b"b.example")])]
    not_a_list = [tlv(0x30, tlv(0x06, b"\x55\x1d\x11"), tlv(0x04, b"\x02\x01\x01"))]
    cut = [tlv(0x30, tlv(0x06, b"\x55\x1d\x11"), tlv(0x04, tlv(0x30, b"\x82\x7fabc")))]
    for extensions in (twice, not_a_list, cut):
        der = certificate([cn("x")], extensions=extensions)
        for kind, value in (("dns", "z"), ("uri", "a:z"), ("email", "z@z"), ("ip", "10.0.0.1")):
            assert word(der, deny=(f"{kind}:{value}",)) == "denied", extensions
        assert word(der, "dns:a.example", "dns:b.example") == "not_allowed"
        assert word(der, "cn:x", deny=("o:x",)) == "open"


def test_no_certificate_at_all() -> None:
    for der in (b"", b"\x30", tlv(0x30, b""), certificate()[:-30]):
        assert word(der, "cn:*") == "not_allowed"
        assert word(der, deny=("cn:x",)) == "denied"


@pytest.mark.parametrize("value", [b"\x81", b"", b"\x01" * 21])
def test_serial_numbers_that_are_none(value: bytes) -> None:
    """Negative, absent, too long: nobody's number, and denied where numbers are."""
    der = certificate(serial=value)
    assert word(der, "serial:81", "serial:0") == "not_allowed"
    assert rules(deny=("serial:5",)).look(der).unreadable == "serial"


def test_serial_zeros_in_front() -> None:
    assert word(certificate(serial=b"\0\x81"), "serial:0x0081") == "open"
    assert word(certificate(serial=b"\0"), "serial:0") == "open"


def test_public_keys_of_every_size() -> None:
    """The digest is SHA-256's, whatever the length: blocks and their ends."""
    for size in (*range(130), 549, 4096):
        key = tlv(0x30, bytes(range(256)) * 16)[: size or 1]
        key = tlv(0x30, key)
        assert word(certificate(key=key), f"spki-sha256:{hashlib.sha256(key).hexdigest()}") == "open", size


def test_ten_thousand() -> None:
    """Of all kinds; each is found, and the first one that matches is told."""
    allow = [f"cn:client-{n}" for n in range(4000)] + [f"dns:*.h{n}.example" for n in range(3000)]
    allow += [f"uri:spiffe://prod/ns/{n}/**" for n in range(3000)]
    made = rules(*allow)
    assert made.look(certificate([cn("client-3999")])).allowed == 3999
    assert made.look(certificate([cn("client-4000")])).word == "not_allowed"
    assert made.look(certificate(names=[("dns", b"a.h7.example")])).allowed == 4007
    assert made.look(certificate(names=[("dns", b"a.b.h7.example")])).word == "not_allowed"
    assert made.look(certificate(names=[("uri", b"spiffe://prod/ns/2999/sa/x")])).allowed == 9999
    assert made.look(certificate([cn("client-5")], [("dns", b"x.h1.example")])).allowed == 5


# -- the table ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> bytes:
    made = compile_rules(["cn:a*", "dns:x.example", "ip:10.0.0.0/8"], ["cn:b", "uri:a:*", "email:*@x"]).table
    assert made is not None
    return made


def test_what_is_no_table(table: bytes) -> None:
    for bad, reason in (
        (b"", "not a table"),
        (b"x" * 64, "not a table"),
        (table[:-1], "cut off"),
        (table + b"\0", "cut off"),
        (table[:8] + b"\x02" + table[9:], "version 2"),
    ):
        with pytest.raises(ValueError, match=reason):
            Rules(bad)
    with pytest.raises(ValueError, match="can be written to"):
        Rules(memoryview(bytearray(table)))


def test_every_offset_is_checked(table: bytes) -> None:
    """Whatever eight bytes are overwritten: refused, or harmless."""
    der = certificate([cn("abc")], [("dns", b"x.example"), ("email", b"a@x"), ("ip", b"\x0a\0\0\1"), ("uri", b"a:b")])
    refused = 0
    for at in range(8, len(table) - 8, 4):
        for value in (0xFFFFFFFFFFFFFFFF, len(table) - 1, 0x0101010101010101):
            damaged = bytearray(table)
            struct.pack_into("=Q", damaged, at, value)
            try:
                Rules(bytes(damaged)).look(der)
            except ValueError:
                refused += 1
    assert refused > 50


def test_numbers_are_different(table: bytes) -> None:
    """By them a certificate remembers which rules it was judged by."""
    made: Any = [Rules(table) for _ in range(3)]
    assert len({one.number for one in made}) == 3
