"""What a reload changes in certificates, CAs and lists: told by what they say, not by the names of their files."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.tls.changes import SHOWN, changes
from nlbcore.tls.material import ListenerMaterial, Material, ServerCertificate
from nlbcore.tls.revocation import InForce, Source, compile_lists
from tests.support.certs import Authority
from tests.support.lists import revocation_list

END = dt.datetime(2027, 1, 2, 3, 4, tzinfo=dt.UTC)
LATER = END + dt.timedelta(days=365)


def certificate(path: str = "/a.crt", leaf: bytes = b"leaf", **changes: object) -> ServerCertificate:
    made = ServerCertificate(Path(path), Path("/a.key"), (leaf, b"chain"), b"key", ("a.test",), END, "EC")
    return replace(made, **changes)  # type: ignore[arg-type]


def told(old: ListenerMaterial, new: ListenerMaterial) -> list[str]:
    lines = changes(Material({"web": old, "x": old}), Material({"web": new, "x": old}))
    assert [line[:15] for line in lines] == ["listeners.web: "] * len(lines)
    return [line[15:] for line in lines]


def served(*certificates: ServerCertificate) -> ListenerMaterial:
    return ListenerMaterial(certificates)


A, B = certificate(), certificate("/b.crt", b"b")


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ([A], [certificate()], []),
        ([A], [certificate(key_path=Path("/other.key"))], []),
        ([A], [certificate(leaf=b"new", not_after=LATER)], ["certificate /a.crt renewed, expires 2028-01-02"]),
        (
            [A],
            [certificate(leaf=b"new", key=b"other", not_after=LATER)],
            ["certificate /a.crt renewed, key replaced, expires 2028-01-02"],
        ),
        (
            [certificate(not_after=LATER, names=("a.test", "b.test"))],
            [certificate(leaf=b"new", names=("c.test", "a.test"))],
            ["certificate /a.crt replaced, expires 2027-01-02, now also for c.test, no longer for b.test"],
        ),
        ([A], [certificate(chain=(b"leaf", b"other"))], ["certificate /a.crt has another chain behind it"]),
        ([A], [A, B], ["certificate /b.crt added, expires 2027-01-02"]),
        ([A, B], [A], ["certificate /b.crt removed"]),
        ([A, B], [B], ["certificate /a.crt removed", "the default certificate is /b.crt, was /a.crt"]),
        ([A, B], [B, A], ["the default certificate is /b.crt, was /a.crt"]),
        (
            [A, B, certificate("/c.crt")],
            [A, certificate("/c.crt"), B],
            ["certificates in another order"],
        ),
        ([], [A], ["certificate /a.crt added, expires 2027-01-02"]),
    ],
)
def test_server_certificates(old: list[ServerCertificate], new: list[ServerCertificate], lines: list[str]) -> None:
    assert told(served(*old), served(*new)) == lines


def test_many_certificates_are_counted() -> None:
    def thousand(leaf: str) -> ListenerMaterial:
        return served(*(certificate(f"/{n}.crt", f"{leaf} {n}".encode(), not_after=LATER) for n in range(1000)))

    lines = told(thousand("old"), thousand("new"))
    assert len(lines) == SHOWN + 1
    assert lines[-1] == f"{1000 - SHOWN} more certificates changed"


def test_listeners_that_come_and_go_are_told_elsewhere() -> None:
    assert changes(Material({"old": served(A)}), Material({"new.one": served(B)})) == []
    lines = changes(Material({"new.one": served(A)}), Material({"new.one": served(B)}))
    assert lines[0] == 'listeners."new.one": certificate /b.crt added, expires 2027-01-02'


def test_client_authorities(ca_maker) -> None:
    """By name and key: another certificate for both is the same CA, another key is another one."""
    one, two = ca_maker("one", end=END), ca_maker("two", end=END)
    renewed = ca_maker("one", key=one.key, end=LATER)
    impostor = ca_maker("one", end=LATER)

    def trusted(*authorities) -> ListenerMaterial:
        return ListenerMaterial(ca=tuple(authority.der for authority in authorities))

    assert told(trusted(one, two), trusted(two, one)) == []
    assert told(trusted(one), trusted(one, two)) == ["client CA CN=two added, expires 2027-01-02"]
    assert told(trusted(one, two), trusted(one)) == ["client CA CN=two removed"]
    assert told(trusted(one), trusted(renewed)) == ["client CA CN=one renewed, expires 2028-01-02"]
    assert told(trusted(one), trusted(impostor)) == [
        "client CA CN=one added, expires 2028-01-02",
        "client CA CN=one removed",
    ]


def one(number: int | None, digest: bytes, issuer: str = "CN=ca", due: dt.datetime | None = END) -> InForce:
    return InForce(issuer, due, number, digest)


DUE = "next update 2027-01-02 03:04 UTC"


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ([one(5, b"a")], [one(5, b"a")], []),
        ([one(5, b"a")], [one(6, b"b")], [f"revocation list of CN=ca number 5 -> 6, {DUE}"]),
        ([one(6, b"a")], [one(5, b"b")], [f"revocation list of CN=ca number 6 -> 5 (an older one), {DUE}"]),
        ([one(5, b"a")], [one(5, b"b")], [f"revocation list of CN=ca replaced, its number is 5 as before, {DUE}"]),
        (
            [one(5, b"a")],
            [one(None, b"b", due=None)],
            ["revocation list of CN=ca number 5 -> none (an older one), without a next update"],
        ),
        ([one(None, b"a")], [one(None, b"b")], [f"revocation list of CN=ca replaced, {DUE}"]),
        (
            [one(1, b"a")],
            [one(2, b"b", "CN=other")],
            [f"revocation list of CN=other number 2 added, {DUE}", "revocation list of CN=ca removed"],
        ),
        (  # two CAs of one name, with lists of their own
            [one(1, b"a"), one(7, b"b")],
            [one(1, b"a"), one(8, b"c")],
            [f"revocation list of CN=ca number 7 -> 8, {DUE}"],
        ),
    ],
)
def test_revocation_lists(old: list[InForce], new: list[InForce], lines: list[str]) -> None:
    assert told(ListenerMaterial(lists=tuple(old)), ListenerMaterial(lists=tuple(new))) == lines


def test_lists_know_their_number(tmp_path: Path) -> None:
    """From the list itself, by way of what is compiled."""
    root = Authority(tmp_path)

    def compiled(*revoked: int, number: int) -> ListenerMaterial:
        der = revocation_list(root, *revoked, number=number, next_update=END).public_bytes(Encoding.DER)
        source = Source(Path("l"), lambda: [der])
        made = compile_lists([source], [root.certificate], dt.datetime.now(dt.UTC), overdue_accepted=False)
        assert made.remarks == ()
        return ListenerMaterial(lists=made.in_force)

    name = root.name.rfc4514_string()
    assert told(compiled(number=5), compiled(77, number=6)) == [f"revocation list of {name} number 5 -> 6, {DUE}"]


def test_a_name_that_cannot_be_read(tmp_path: Path) -> None:
    """OpenSSL takes a CA whose name is no text; a reload with it goes on."""
    ca = Authority(tmp_path, "Test Root")
    der = ca.certificate.public_bytes(Encoding.DER)
    odd = der.replace(b"Test Root", b"Test \xff\xffot")
    assert told(ListenerMaterial(ca=(der,)), ListenerMaterial(ca=(odd,))) == [
        f"client CA with a name that cannot be read added, expires {ca.certificate.not_valid_after_utc:%Y-%m-%d}",
        "client CA CN=Test Root removed",
    ]
