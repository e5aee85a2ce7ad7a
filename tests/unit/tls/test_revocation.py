"""Every way in which a revocation list can be unfit is told when it is read; what is fit becomes a table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from nlbcore.config.load import load
from nlbcore.engine.revoked import Table
from nlbcore.tls import pem
from nlbcore.tls.authorities import Authority as Compiled
from nlbcore.tls.material import load_material
from nlbcore.tls.pem import BadFile
from nlbcore.tls.revocation import Revocations, Source, compile_lists, compile_table
from nlbcore.tls.standing import MISSING, Standing
from tests.support.certs import Authority, Pki, new_key, now
from tests.support.certs import pem as pem_of
from tests.support.lists import entry, overdue, revocation_list, write_lists

ONE = x509.UniformResourceIdentifier("http://ca.example/1.crl")
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def pki(module_folder: Path) -> Pki:
    """The one of the wire tests: it can sign lists."""
    return Pki(module_folder)


def compiled(
    authorities: Iterable[Authority | renewed],
    *files: bytes | Iterable[x509.CertificateRevocationList],
    accepted: bool = False,
    chain: bool = False,
    at: dt.datetime | None = None,
) -> Revocations:
    """What a listener with these CAs makes of files, which are called 0.crl, 1.crl ..."""

    def source(number: int, content: bytes | Iterable[x509.CertificateRevocationList]) -> Source:
        ders = [content] if isinstance(content, bytes) else [one.public_bytes(Encoding.DER) for one in content]
        return Source(Path(f"{number}.crl"), lambda: ders)

    return compile_lists(
        [source(*each) for each in enumerate(files)],
        [one.certificate for one in authorities],
        dt.datetime.now(dt.UTC),
        overdue_accepted=accepted,
        chain=chain,
        at=at,
    )


def told(made: Revocations) -> list[str]:
    return [f"{severity}: {text}" + (f" ({hint})" if hint else "") for _, severity, text, hint in made.remarks]


def refused(made: Revocations) -> str:
    """The one error of lists that are refused."""
    assert made.table is None
    (only,) = [text for text in told(made) if text.startswith("error: ")]
    return only.removeprefix("error: 0.crl: ")


def point(
    *,
    full_name: list[x509.GeneralName] | None = None,
    users: bool = False,
    authorities: bool = False,
    reasons: frozenset[x509.ReasonFlags] | None = None,
    indirect: bool = False,
    attributes: bool = False,
) -> tuple[x509.ExtensionType, bool]:
    return (
        x509.IssuingDistributionPoint(full_name, None, users, authorities, reasons, indirect, attributes),
        True,
    )


def test_good_lists(pki: Pki) -> None:
    lists = [revocation_list(pki.root, 1, 2, 3), revocation_list(pki.intermediate)]
    made = compiled([pki.root, pki.intermediate], lists)
    assert told(made) == []
    assert made.table is not None
    Table(made.table)
    assert made.table.count((2).to_bytes(20, "big")) == 1
    assert made == compiled([pki.root, pki.intermediate], lists[:1], lists[1:]), "in one file or in two"


def test_a_ca_without_a_list(pki: Pki) -> None:
    made = compiled([pki.root, pki.intermediate], [revocation_list(pki.root)])
    assert told(made) == ["warning: there is no list of CN=Test Intermediate: its clients are refused (crl_missing)"]
    assert made.table is not None


def test_signatures(pki: Pki) -> None:
    assert refused(compiled([pki.root], [revocation_list(pki.other)])) == (
        "it is the list of CN=Other Root, which is no CA of `ca` (add that CA's certificate to `ca`)"
    )
    forged = (
        "its signature is not that of CN=Test Root in `ca` "
        "(it is damaged, or the list of another CA with that name: add its certificate to `ca`)"
    )
    assert refused(compiled([pki.root], [revocation_list(pki.root, signed_with=new_key())])) == forged
    namesake = Authority(pki.folder, "Test Root")
    assert refused(compiled([pki.root], [revocation_list(namesake)])) == forged
    assert told(compiled([pki.root, namesake], [revocation_list(namesake)], [revocation_list(pki.root)])) == []
    assert refused(compiled([pki.root], [revocation_list(pki.other, issuer=pki.root.name)])) == forged


def test_a_ca_that_may_not_sign_lists(pki: Pki) -> None:
    usage = x509.KeyUsage(**{bit: bit == "key_cert_sign" for bit in USAGES})
    assert refused(compiled([renewed(pki.root, (usage, True))], [revocation_list(pki.root)])) == (
        "CN=Test Root may not sign revocation lists: its key usage lacks cRLSign"
    )
    assert told(compiled([renewed(pki.root)], [revocation_list(pki.root)])) == [], "no key usage: no limit"


USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


class renewed:  # noqa: N801 - stands for an Authority
    """Another certificate of an authority's name and key."""

    def __init__(
        self, authority: Authority, *extensions: tuple[x509.ExtensionType, bool], name: x509.Name | None = None
    ) -> None:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name or authority.name)
            .issuer_name(name or authority.name)
            .public_key(authority.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() - DAY)
            .not_valid_after(now() + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        self.certificate = builder.sign(authority.key, hashes.SHA256())


def test_dates(pki: Pki) -> None:
    late = overdue(pki.root)
    since = f"{now() - dt.timedelta(hours=1):%Y-%m-%d %H:}"
    (text,) = told(compiled([pki.root], [late]))
    assert text.startswith(f"warning: 0.crl: overdue since {since}")
    assert text.endswith(": its CA's clients are refused (crl_overdue)")
    (text,) = told(compiled([pki.root], [late], accepted=True))
    assert text.endswith(": it is used all the same")
    early = revocation_list(pki.root, this_update=now() + dt.timedelta(hours=2))
    assert refused(compiled([pki.root], [early])).startswith("its thisUpdate is in the future: ")


@pytest.mark.parametrize(
    ("extension", "reason"),
    [
        ((x509.DeltaCRLIndicator(3), True), "it is a delta list: only the changes since another one"),
        (point(indirect=True), "it is an indirect list: its certificates may be other issuers'"),
        (point(authorities=True), "it covers no client certificates: its distribution point excludes them"),
        (point(attributes=True), "it covers no client certificates: its distribution point excludes them"),
        (point(reasons=frozenset({x509.ReasonFlags.key_compromise})), "it covers some reasons for revocation only"),
        (point(full_name=[ONE]), "it covers the certificates of one distribution point only"),
        (
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True),
            "it has a critical extension that is not known: 1.3.6.1.4.1.99999.1",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_complete_list(pki: Pki, extension: tuple[x509.ExtensionType, bool], reason: str) -> None:
    found = refused(compiled([pki.root], [revocation_list(pki.root, extensions=[extension])]))
    assert found.removesuffix(" (give the complete list)") == reason


def test_extensions_that_do_no_harm(pki: Pki) -> None:
    others = (
        point(users=True),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), False),
        (x509.IssuerAlternativeName([ONE]), False),
    )
    assert told(compiled([pki.root], [revocation_list(pki.root, extensions=others)])) == []


def test_entries(pki: Pki) -> None:
    other = entry(5, (x509.CertificateIssuer([x509.DirectoryName(pki.other.name)]), True))
    assert refused(compiled([pki.root], [revocation_list(pki.root, other)])) == (
        "it is an indirect list: an entry names another issuer"
    )
    odd = entry(5, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True))
    assert refused(compiled([pki.root], [revocation_list(pki.root, odd)])) == (
        "an entry has a critical extension that is not known"
    )
    back = entry(0x5555555555, (x509.CRLReason(x509.ReasonFlags.remove_from_crl), False))
    held = entry(0x6666666666, (x509.CRLReason(x509.ReasonFlags.certificate_hold), False))
    table = compiled([pki.root], [revocation_list(pki.root, back, held)]).table
    assert table is not None
    assert b"\x55" * 5 not in table
    assert b"\x66" * 5 in table


def test_the_newest_list_counts(pki: Pki) -> None:
    for older, newer in (
        (revocation_list(pki.root, 111, number=4), revocation_list(pki.root, 222, number=5)),
        (
            revocation_list(pki.root, 111, number=None, this_update=now() - DAY),
            revocation_list(pki.root, 222, number=None),
        ),
        (revocation_list(pki.root, 111, number=None), revocation_list(pki.root, 222, number=0)),
    ):
        for files, where in (([[older], [newer]], 0), ([[newer], [older]], 1)):
            made = compiled([pki.root], *files)
            assert told(made) == [f"warning: {where}.crl: {1 - where}.crl is newer, so it is not used"]
            assert made.remarks[0][0] == where
            assert made.table is not None
            assert (222).to_bytes(20, "big") in made.table
            assert (111).to_bytes(20, "big") not in made.table


def test_three_lists_of_one_ca(pki: Pki) -> None:
    made = compiled([pki.root], [revocation_list(pki.root, number=number) for number in (2, 3, 1)])
    assert told(made) == [
        "warning: list 1 of 0.crl: list 2 of 0.crl is newer, so it is not used",
        "warning: list 3 of 0.crl: list 2 of 0.crl is newer, so it is not used",
    ]


def test_one_number_and_two_contents(pki: Pki) -> None:
    first = revocation_list(pki.root, 111, number=7)
    made = compiled([pki.root], [first], [revocation_list(pki.root, 222, number=7)])
    assert made.table is None
    assert told(made) == [
        "error: 1.crl: differs from 0.crl, but both are number 7 (keep the one that the CA says is in force)"
    ]
    assert told(compiled([pki.root], [first], [first])) == [], "the same one twice is no contradiction"
    moment = now() - DAY
    same = [revocation_list(pki.root, number=None, this_update=moment, next_update=now() + n * DAY) for n in (1, 2)]
    assert "both are without a number and of the same time" in told(compiled([pki.root], same))[0]


def test_names_of_issuers_are_compared_as_openssl_does(pki: Pki) -> None:
    other = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "  TEST   root ", x509.name._ASN1Type.PrintableString)])
    assert told(compiled([pki.root], [revocation_list(pki.root, issuer=other)])) == []


def test_the_chain(pki: Pki) -> None:
    """Whose CA is revoked, or has none above it with a list, is told when the lists are read - with that scope only."""
    cas = [pki.root, pki.intermediate]
    bad = [revocation_list(pki.root, pki.intermediate.certificate.serial_number), revocation_list(pki.intermediate)]
    assert told(compiled(cas, bad)) == []
    assert told(compiled(cas, bad, chain=True)) == [
        "warning: the list of CN=Test Root revokes CN=Test Intermediate: its clients are refused (revoked)"
    ]
    assert told(compiled(cas, bad[1:], chain=True)) == [
        "warning: there is no list of CN=Test Root: its clients are refused (crl_missing)",
        (
            "warning: CN=Test Intermediate stands below CN=Test Root, of which there is no list: "
            "its clients are refused (crl_missing)"
        ),
    ]
    assert told(compiled(cas, [revocation_list(pki.root), revocation_list(pki.intermediate)], chain=True)) == []


def test_how_a_ca_stands_at_another_time(pki: Pki) -> None:
    """By its certificates that are valid then: the one that is not revoked is not any more."""
    soon = now() + dt.timedelta(days=2)
    good = Authority(pki.folder, "Renewed", issuer=pki.root, not_after=soon)
    old = Authority(pki.folder, "Renewed", issuer=pki.root, key=good.key)
    lists = [revocation_list(pki.root, old.certificate.serial_number), revocation_list(good)]
    for at, count in ((None, 0), (now() + dt.timedelta(days=1), 0), (now() + dt.timedelta(days=3), 1)):
        said = told(compiled([pki.root, good, old], lists, chain=True, at=at))
        assert sum("revokes CN=Renewed" in one for one in said) == count


def test_the_layout(pki: Pki) -> None:
    """An empty table, and one CA without a list: byte for byte as engine/revoked draws it."""
    assert compile_table([], []) == (
        b"NLB-CRLs" + (3).to_bytes(4, "little") + bytes(4) + (32).to_bytes(8, "little") + bytes(8)
    )
    ca = Compiled((), b"SUBJECT", b"THE KEY", b"ID", True, pki.root.key.public_key(), "x")
    table = compile_table([], [ca], [Standing(MISSING, 77, about=5)])
    assert len(table) == 32 + 80 + 16
    assert table[40:48] == (77).to_bytes(8, "little")
    assert table[100:] == (2).to_bytes(4, "little") + (5).to_bytes(4, "little") + bytes(4) + b"SUBJECTTHE KEYID"


def test_damaged_lists(pki: Pki) -> None:
    good = revocation_list(pki.root, 1, 2).public_bytes(Encoding.DER)
    damaged = "the revocation list is damaged or of a kind that cannot be read"
    for bad in (b"", b"x", good[:-1], good + b"\0", b"\x30\x00"):
        assert refused(compiled([pki.root], bad)) == damaged
    for place in range(0, len(good), 7):
        spoilt = bytearray(good)
        spoilt[place] ^= 1
        assert compiled([pki.root], bytes(spoilt)).table is None


# -- files and configuration ----------------------------------------------------------------------------------------------


def test_pem_and_der(pki: Pki, tmp_path: Path) -> None:
    lists = [revocation_list(pki.root, 1), revocation_list(pki.other, 2)]
    ders = [one.public_bytes(Encoding.DER) for one in lists]
    text = b"Certificate Revocation List (CRL):\r\n  Version 2\r\n" + pem_of(pki.root.certificate)
    assert pem.revocation_lists(write_lists(tmp_path, *lists, text=text).read_bytes()) == ders
    assert pem.revocation_lists(ders[0]) == [ders[0]]
    windows = write_lists(tmp_path, *lists).read_bytes().replace(b"\n", b"\r\n")
    assert pem.revocation_lists(windows) == ders
    for data, reason in (
        (pem_of(pki.root.certificate), "holds no revocation list but: certificate"),
        (b"hello", "holds no PEM revocation list"),
        (windows[:-40], "the X509 CRL that begins in line "),
    ):
        with pytest.raises(BadFile, match=reason):
            pem.revocation_lists(data)


def read(folder: Path, pki: Pki, keys: str, mode: str = "required") -> tuple[bytes | memoryview | None, list[str]]:
    path = folder / "nlb.toml"
    path.write_text(
        '[listeners.web]\nbind = "127.0.0.1:443"\nserver_group = "app"\n'
        f'certificates = [{{ certificate = "{pki.server.path}", private_key = "{pki.server.key_path}" }}]\n'
        f'[listeners.web.client_auth]\nmode = "{mode}"\nca = "{pki.root.path}"\n{keys}\n'
        '[server_groups.app]\nservers = [{ address = "10.0.0.1:80" }]\n'
    )
    loaded = load(path)
    assert loaded.config is not None, loaded.findings
    material, findings = load_material(loaded.config, loaded.locate, "nlb.toml")
    return (
        None if material is None else material.listeners["web"].revocations,
        [str(finding).replace(f"{folder}/", "") for finding in findings],
    )


def test_in_the_configuration(pki: Pki, tmp_path: Path) -> None:
    good, bad = write_lists(tmp_path, revocation_list(pki.root)), write_lists(tmp_path, revocation_list(pki.other))
    table, findings = read(tmp_path, pki, f'crl = "{good}"')
    assert table is not None
    assert findings == []
    assert read(tmp_path, pki, "") == (None, [])
    assert read(tmp_path, pki, f'crl = "{bad}"', mode="off") == (None, [])
    table, findings = read(tmp_path, pki, f'crl = ["{good.name}", "{bad.name}", "none.crl"]')
    assert table is None
    assert findings == [
        (
            f"nlb.toml:8:{8 + len(good.name) + 4}: error: listeners.web.client_auth.crl[1]: {bad.name}: it is the list of "
            "CN=Other Root, which is no CA of `ca` (add that CA's certificate to `ca`)"
        ),
        (
            f"nlb.toml:8:{8 + len(good.name) + len(bad.name) + 8}: error: listeners.web.client_auth.crl[2]: none.crl: "
            "no such file or directory (`nlb ca crl DIR` writes the lists of an authority that `nlb ca init` has made)"
        ),
    ]
