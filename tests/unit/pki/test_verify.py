"""Verdicts: each way to be refused in its own words, warnings before the end, and OpenSSL's no is never a yes here."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from nlbcore.pki import contents, keys
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue
from nlbcore.pki.index import now
from nlbcore.pki.issue import Request
from nlbcore.pki.verify import Question, Verdict, verify
from tests.support.odd import SERVER, Odd, authority
from tests.support.programs import run


@pytest.fixture(scope="module")
def root(module_folder: Path) -> Odd:
    return authority(module_folder, "Root")


@pytest.fixture(scope="module")
def middle(module_folder: Path, root: Odd) -> Odd:
    return authority(module_folder, "Middle", issuer=root, path_length=0)


def ask(leaf: Odd, *trusted: Odd, chain: Sequence[Odd] = (), **options: Any) -> Verdict:
    question = {"now": now(), "untrusted": [one.certificate for one in chain], **options}
    return verify(Question(leaf.certificate, [one.certificate for one in trusted], **question))


def worst(verdict: Verdict) -> tuple[int, str, str]:
    check = next(check for check in verdict.checks if check.status == verdict.status)
    assert check.text == verdict.reason
    return verdict.exit_code, check.about, check.text


def test_all_is_well(module_folder: Path, root: Odd, middle: Odd) -> None:
    leaf = Odd(module_folder, "alice", issuer=middle)
    verdict = ask(leaf, root, chain=[middle], purpose="client")
    assert [(check.about, check.status) for check in verdict.checks] == [
        (about, "ok") for about in ("chain", "dates", "purpose", "names", "strength")
    ]
    assert (verdict.exit_code, verdict.days_left) == (0, 29)
    assert verdict.checks[0].text == "CN=alice <- CN=Middle <- CN=Root"
    assert list(verdict.chain) == [leaf.certificate, middle.certificate, root.certificate]
    partial = ask(leaf, middle)
    assert partial.checks[0].text == "CN=alice <- CN=Middle, which is trusted although it is not a root"
    assert partial.checks[2].text == "it is for client"
    assert ask(middle, root).checks[2].text == "it is for signing certificates"


def test_chains(module_folder: Path, root: Odd, middle: Odd) -> None:
    """Each is refused by OpenSSL for its own reason, and told in other words."""
    leaf = Odd(module_folder, "a", issuer=middle)
    other_root = authority(module_folder, "Root", file="other")
    stranger = authority(module_folder, "Stranger")
    no_authority = Odd(module_folder, "No Authority", issuer=root, signs=True)
    below = authority(module_folder, "Below", issuer=middle)
    limited = authority(module_folder, "Limited", issuer=root, permitted=[x509.DNSName("corp.example")])
    unknown = [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00"), True)]
    cases: list[tuple[Odd, list[Odd], list[Odd], str]] = [
        (leaf, [root], [], "CN=Middle, which has issued CN=a, is neither in the CA file nor among the certificates that came along"),
        (leaf, [stranger], [middle], "CN=Root, which has issued CN=Middle, is neither in the CA file nor among the"),
        (leaf, [stranger], [middle, root], "the chain ends with CN=Root, which is not in the CA file"),
        (leaf, [other_root], [middle], "CN=Middle says that CN=Root has issued it, but the certificate of that name has another key"),
        (Odd(module_folder, "self"), [root], [], "CN=self is self-signed and not in the CA file: nobody who is trusted vouches"),
        (Odd(module_folder, "b", issuer=no_authority), [root], [no_authority], "CN=No Authority is not an authority"),
        (Odd(module_folder, "c", issuer=below), [root], [middle, below], "there are more authorities below CN=Middle than its path"),
        (
            Odd(module_folder, "d", issuer=limited, dns=["www.example.com"]),
            [root],
            [limited],
            "CN=d has a name outside of what an authority above it may sign (name constraints)",
        ),
        (Odd(module_folder, "e", issuer=root, more=unknown), [root], [], "CN=e has a critical extension that OpenSSL does not know"),
        (
            Odd(module_folder, "f", issuer=authority(module_folder, "Root", key=stranger.key, file="forger"), identifiers=False),
            [root],
            [],
            "the signature of CN=f is wrong: CN=Root has not made it, or the certificate is damaged",
        ),
    ]  # fmt: skip
    for odd, trusted, chain, expected in cases:
        code, about, text = worst(ask(odd, *trusted, chain=chain))
        assert (code, about) == (2, "chain"), expected
        assert text.startswith(expected)


def test_a_leaf_behind_its_authority(module_folder: Path, root: Odd, middle: Odd) -> None:
    leaf = Odd(module_folder, "alice", issuer=middle)
    text = "CN=Middle, an authority, comes first, and CN=alice behind it: `nlb cert bundle` puts them in order"
    assert worst(ask(middle, root, chain=[leaf])) == (1, "order", text)
    assert ask(leaf, root, chain=[middle]).exit_code == 0


def test_dates(module_folder: Path, root: Odd) -> None:
    short = authority(module_folder, "Short", issuer=root, days=3)
    leaf = Odd(module_folder, "alice", issuer=short, days=30)
    end = short.certificate.not_valid_after_utc
    moment = now()
    code, about, text = worst(ask(leaf, root, chain=[short]))
    assert (code, about) == (1, "dates")
    assert text == f"CN=Short expires on {end:%Y-%m-%d %H:%M} UTC: 2 days left"
    assert ask(leaf, root, chain=[short]).days_left == 2
    assert ask(leaf, root, chain=[short], warn_days=2).exit_code == 0
    assert worst(ask(leaf, root, chain=[short], warn_days=31))[2].startswith("expires on ")
    code, about, text = worst(ask(leaf, root, chain=[short], now=end))
    assert (code, text) == (2, f"CN=Short expired on {end:%Y-%m-%d %H:%M} UTC")
    assert worst(ask(leaf, root, chain=[short], now=moment + dt.timedelta(40)))[2].startswith("expired on ")
    early = worst(ask(leaf, root, chain=[short], now=moment - dt.timedelta(1)))
    assert (early[0], early[2][:20]) == (2, "is not valid before ")


def test_purposes(module_folder: Path, root: Odd, tmp_path: Path) -> None:
    server = Odd(module_folder, "www", issuer=root, usages=[SERVER], dns=["www.example.com"])
    silent = Odd(module_folder, "silent", issuer=root, usages=[])
    locked = Odd(module_folder, "locked", issuer=root, digital_signature=False)
    for_mail = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    mail = authority(module_folder, "Mail", issuer=root, more=[(for_mail, False)])
    for leaf, chain, purpose, expected in [
        (server, [], "server", (0, "chain", "CN=www <- CN=Root")),
        (server, [], "client", (2, "purpose", "it is for server, not for a client (extended key usage)")),
        (silent, [], "client", (0, "chain", "CN=silent <- CN=Root")),
        (locked, [], "client", (2, "purpose", "its key usage does not allow what a client does")),
        (Odd(module_folder, "m", issuer=mail), [mail], "client", (2, "purpose", "CN=Mail above it is for e-mail")),
        (mail, [], "client", (2, "purpose", "it is an authority's certificate, which nlb does not take for a client")),
        (silent, [], "server", (1, "names", "no alternative names: browsers and most clients refuse such a server")),
    ]:
        assert worst(ask(leaf, root, chain=chain, purpose=purpose)) == expected
    assert ask(silent, root, purpose="client").checks[2].text == "good for a client, as for anything: it does not say"


def test_version_1_is_no_client(module_folder: Path, root: Odd) -> None:
    request = "openssl req -new -newkey rsa:2048 -noenc -keyout v1.key -subj /CN=v1 -out v1.csr"
    run(*request.split(), cwd=module_folder)
    signed = "openssl x509 -req -in v1.csr -CA Root.crt -CAkey Root.key -CAcreateserial -out v1.crt -days 30"
    run(*signed.split(), cwd=module_folder)
    (certificate,) = contents.load(module_folder / "v1.crt").certificates
    question = Question(certificate, [root.certificate], now())
    assert verify(question).exit_code == 0
    verdict = verify(Question(certificate, [root.certificate], now(), purpose="client"))
    assert worst(verdict) == (2, "purpose", "it is of X.509 version 1, which nlb does not take for a client")


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("www.example.com", True),
        ("WWW.example.com.", True),
        ("a.wild.example", True),
        ("a.b.wild.example", False),
        ("wild.example", False),
        ("bücher.example", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("::2", False),
        ("cn.example", False),
        ("alice@example.com", True),
        ("bob@example.com", False),
        ("spiffe://example.com/a", True),
        ("spiffe://example.com/b", False),
    ],
)
def test_names(module_folder: Path, root: Odd, name: str, valid: bool) -> None:
    """Common names count for nothing, a star for one label."""
    names = [
        *(x509.DNSName(one) for one in ("www.example.com", "*.wild.example", "xn--bcher-kva.example")),
        *(x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", "::1")),
        *(x509.RFC822Name("alice@example.com"), x509.UniformResourceIdentifier("spiffe://example.com/a")),
    ]
    leaf = Odd(module_folder, "cn.example", issuer=root, more=[(x509.SubjectAlternativeName(names), False)])
    verdict = ask(leaf, root, name=name)
    assert verdict.exit_code == (0 if valid else 2)
    assert (verdict.checks[3].about, verdict.checks[3].status) == ("names", "ok" if valid else "critical")


@pytest.mark.parametrize("name", ["", "a b", "@", "://", "1.2.3"])
def test_names_that_are_none(module_folder: Path, root: Odd, name: str) -> None:
    with pytest.raises(BadValue) as caught:
        ask(root, root, name=name)
    assert caught.value.field == "name"


def test_strength(module_folder: Path, root: Odd) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    leaf = Odd(module_folder, "weak", issuer=root, key=weak)
    assert worst(ask(leaf, root)) == (2, "strength", "CN=weak: its RSA key has 1024 bits only: refused as weak_key")
    under = Odd(module_folder, "under", issuer=authority(module_folder, "Weak CA", issuer=root, key=weak))
    (ca,) = contents.load(module_folder / "Weak CA.crt").certificates
    verdict = verify(Question(under.certificate, [root.certificate], now(), untrusted=[ca]))
    assert worst(verdict)[2] == "CN=Weak CA: its RSA key has 1024 bits only: refused as weak_key"
    run(*["openssl", "req", "-new", "-key", "alice.key", "-subj", "/CN=old", "-out", "old.csr"], cwd=module_folder)
    signed = "openssl x509 -req -sha1 -in old.csr -CA Root.crt -CAkey Root.key -CAcreateserial -out old.crt -days 30"
    run(*signed.split(), cwd=module_folder)
    (old,) = contents.load(module_folder / "old.crt").certificates
    text = "CN=old: it is signed with SHA-1, which can be forged: refused as weak_key"
    assert worst(verify(Question(old, [root.certificate], now()))) == (2, "strength", text)


def test_revocation(tmp_path: Path, authority: Authority) -> None:
    """Lists of a real authority: good, revoked, overdue, due soon, missing, and another's of the same name."""
    alice = authority.issue(Request("alice", "client"), out=tmp_path)
    mallory = authority.issue(Request("mallory", "client"), out=tmp_path)
    lists = contents.load(authority.revoke("mallory", "keyCompromise").crl.path).of(x509.CertificateRevocationList)
    other = contents.load(Authority.create(tmp_path / "other", name="Example").crl().path)
    foreign = other.of(x509.CertificateRevocationList)

    def judged(path: Path, moment: dt.datetime, lists: Any, **options: Any) -> tuple[int, str, str]:
        certificate, *chain = contents.load(path).certificates
        return worst(verify(Question(certificate, [authority.root], moment, chain, lists, **options)))

    moment = now()
    code, about, text = judged(alice.certificate, moment, lists)
    assert (code, about) == (0, "chain")
    code, about, text = judged(mallory.certificate, moment, lists)
    assert (code, about) == (2, "revocation")
    assert text.startswith("revoked on ")
    assert text.endswith(" UTC (keyCompromise)")
    code, about, text = judged(alice.certificate, moment + dt.timedelta(days=8), lists)
    assert (code, about) == (2, "revocation")
    assert text.startswith("the list of CN=Example Intermediate is overdue since ")
    code, about, text = judged(alice.certificate, moment + dt.timedelta(days=6, hours=12), lists)
    assert (code, about) == (1, "revocation")
    assert text.startswith("the next list of CN=Example Intermediate is due on ")
    for missing in (lists[1:], foreign):
        code, about, text = judged(alice.certificate, moment, missing)
        assert (code, about) == (2, "revocation")
        assert text == "there is no list of CN=Example Intermediate in the CRL file, so it is not known"
    leaf_only = verify(
        Question(*_pair(alice.certificate), moment, [authority.intermediate], lists[:1])
    )  # fmt: skip
    assert leaf_only.exit_code == 2, "without the root there is no chain"
    assert leaf_only.checks[-1].text == "cannot be looked up: there is no chain to who would revoke it"


def _pair(path: Path) -> tuple[x509.Certificate, list[x509.Certificate]]:
    return contents.load(path).certificates[0], []


def test_what_openssl_alone_sees_is_no_yes(tmp_path: Path, authority: Authority) -> None:
    """A list for some reasons only: nothing above looks at that, and OpenSSL refuses to decide by it."""
    alice = authority.issue(Request("alice", "client"), out=tmp_path)
    moment = now()
    key = keys.load(authority.folder / "intermediate.key", authority.intermediate)
    partial = x509.IssuingDistributionPoint(
        None, None, False, False, frozenset([x509.ReasonFlags.key_compromise]), False, False
    )
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.intermediate.subject)
        .last_update(moment)
        .next_update(moment + dt.timedelta(7))
        .add_extension(partial, critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, *chain = contents.load(alice.certificate).certificates
    verdict = verify(Question(certificate, [authority.root], moment, chain, [made]))
    code, about, text = worst(verdict)
    assert (code, about) == (2, "openssl")
    assert text.startswith("CN=alice: ")
