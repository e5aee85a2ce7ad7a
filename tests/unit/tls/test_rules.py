"""Identity rules as operators write them: every mistake is told with what to write instead."""

from __future__ import annotations

import pytest

from nlbcore.tls.rules import BadRule, covers, parse

SHA = "ab" * 32


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "an entry is empty", "as in cn:"),
        (" ", "an entry is empty", "as in cn:"),
        ("!cn:client-1", 'a rule has no "not"', "`deny` who is refused"),
        ("not:cn:client-1", 'a rule has no "not"', "`deny` who is refused"),
        ("client-1", '"client-1" does not say what it is about', 'did you mean "cn:client-1"?'),
        ("CN = client-1", "does not say", 'did you mean "cn:client-1"?'),
        ("x=y", "does not say", 'did you mean "cn:x=y"?'),
        ("a.example", "does not say", 'did you mean "dns:a.example"?'),
        ("a@b.example", "does not say", 'did you mean "email:a@b.example"?'),
        ("emial:a@b", 'there are no rules about "emial"', 'did you mean "email"?'),
        ("sub:a", 'there are no rules about "sub"', "there are cn, o, ou, dns"),
        ("cn:", "nothing stands behind the colon", "cn:client-*"),
        ("cn:  ", "nothing stands behind the colon", ""),
        ("cn:a\0b", "no control characters", ""),
        ("cn:" + "a" * 2049, "longer than 2048 bytes", ""),
        ("cn:a**", "** has a meaning in dns and uri", "write a*"),
        ("dns:.corp.example", "an empty label is in front", "*.corp.example covers"),
        ("dns:a..b", "a label is empty", ""),
        ("dns:a b", "no blanks", ""),
        ("dns:b*cher-ü.example", "other letters than ASCII and a wildcard", "a whole label"),
        ("dns:a\u0378x.example", "is not a label of a host name", ""),
        ("dns:a.**.b", "** is the first label", ""),
        ("dns:**.*.b", "** is the first label", ""),
        ("dns:**", "** is the first label", ""),
        ("dns:a**.b", "** is a label of its own", ""),
        ("dns:" + "a" * 64 + ".x" * 100, "at most 253", ""),
        ("uri:prod/web", "there is no scheme", "spiffe://"),
        ("uri:*://prod", "a wildcard cannot stand for the scheme", ""),
        ("uri:spiffe://prod/a b", "no blanks", "%20"),
        ("uri:spiffe://bücher/x", "ASCII letters only", "xn--"),
        ("uri:spiffe://prod/../x", "read in two ways", '".."'),
        ("uri:spiffe://prod/.", "read in two ways", ""),
        ("uri:spiffe://prod/%2e%2E/x", "read in two ways", ""),
        ("uri:spiffe://prod/a%2Fb", "read in two ways", ""),
        ("uri:spiffe://prod/a%zz", "read in two ways", ""),
        ("uri:spiffe://prod/**/x", "** is the last segment", ""),
        ("uri:spiffe://prod/x**", "** is the last segment", ""),
        ("uri:spiffe://**/x", "** is the last segment", ""),
        ("email:corp.example", "one at sign", "email:*@corp.example"),
        ("email:a@b@c", "one at sign", ""),
        ("email:@corp.example", "a part of the address is missing", ""),
        ("email:ü@corp.example", "ASCII letters only", ""),
        ("email:a@b.", "no trailing dot", ""),
        ("email:a b@c", "no blanks", ""),
        ("ip:10.0.0.1/8", "bits are set behind", 'did you mean "ip:10.0.0.0/8"?'),
        ("ip:10.*", "no wildcards", "ip:10.0.0.0/8"),
        ("ip:10.0.0.256", "neither an address nor a network", ""),
        ("ip:fe80::1%eth0", "no zone", ""),
        ("serial:xyz", "hexadecimal", "as the log"),
        ("serial:" + "8" + "0" * 39, "longer than 20 octets", "decimal"),
        ("sha256:" + "ab" * 20, "64 digits, this one 40: that is SHA-1", ""),
        ("sha256:xyz", "hexadecimal", "openssl x509"),
        ("spki-sha256:abc=", "hexadecimal or base64", ""),
        ("spki-sha256:" + "!" * 43 + "=", "hexadecimal or base64", ""),
    ],
)
def test_mistakes(text: str, message: str, hint: str) -> None:
    with pytest.raises(BadRule) as caught:
        parse(text)
    assert message in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "warning", "hint"),
    [
        ("cn:*", '"cn:*" covers every cn', ""),
        ("dns:*", "names of one label only", "**.example.com"),
        ("dns:10.0.0.1", '"dns:10.0.0.1" covers no iPAddress', "ip:10.0.0.1 does"),
        ("dns:2001:db8::1", "covers no iPAddress", "ip:2001:db8::1 does"),
        ("dns:localhost:443", 'a host name with ":", which is in none', "the name alone"),
        ("dns:https://a.example/", 'with ":"', "the name alone"),
        ("dns:a.example,dns:b.example", 'with ","', "an entry for each"),
        ("dns:_tcp.a.example", "", ""),
        ("serial:1000", "read as hexadecimal (4096)", "serial:0x1000"),
        ("serial:9", "", ""),
        ("serial:10:00", "", ""),
        ("serial:0x1000", "", ""),
    ],
)
def test_what_may_not_be_meant(text: str, warning: str, hint: str) -> None:
    rule = parse(text)
    assert warning in rule.warning
    assert bool(rule.warning) is bool(warning)
    assert hint in rule.hint


@pytest.mark.parametrize(
    "spellings",
    [
        ("cn:Client 1", "CN: client  1 ", "cn:CLIENT 1"),
        ("dns:bücher.example", "dns:BÜCHER.example.", "dns:xn--bcher-kva.EXAMPLE"),
        ("uri:SPIFFE://Prod/a", "uri:spiffe://prod/a"),
        ("email:a@Corp.example", "email:a@corp.EXAMPLE"),
        ("ip:10.0.0.1", "ip:10.0.0.1/32", "ip:::ffff:10.0.0.1", "ip:::ffff:a00:1/128"),
        ("serial:1FA0", "serial:0x1fa0", "serial:1f:a0", "serial:00:1f:a0", "serial:001fa0"),
        (f"sha256:{SHA}", f"sha256:{SHA.upper()}", "sha256:" + ":".join(["AB"] * 32)),
        (f"spki-sha256:{SHA}", "spki-sha256:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="),
    ],
    ids=lambda spellings: spellings[0].partition(":")[0],
)
def test_spellings_of_one_rule(spellings: tuple[str, ...]) -> None:
    assert len({(rule.kind, rule.pattern, rule.bits) for rule in map(parse, spellings)}) == 1


@pytest.mark.parametrize(
    ("broad", "narrow", "expected"),
    [
        ("cn:a*", "cn:ab", True),
        ("cn:a*", "cn:a*b", True),
        ("cn:a*b", "cn:a*", False),
        ("dns:*.b", "dns:a.b", True),
        ("dns:*.b", "dns:*.b", True),
        ("dns:**.b", "dns:*.a.b", True),
        ("dns:*.b", "dns:**.b", False),
        ("dns:*.b", "dns:c.a.b", False),
        ("uri:spiffe://a/**", "uri:spiffe://a/b/c", True),
        ("uri:spiffe://a/*", "uri:spiffe://a/b/c", False),
        ("ip:10.0.0.0/8", "ip:10.1.0.0/16", True),
        ("ip:10.1.0.0/16", "ip:10.0.0.0/8", False),
        ("ip:10.0.0.0/8", "ip:::ffff:10.0.0.1", True),
        ("cn:*", "ou:x", False),
    ],
)
def test_covers(broad: str, narrow: str, expected: bool) -> None:
    assert covers(parse(broad), parse(narrow)) is expected
