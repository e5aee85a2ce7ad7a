"""The C callbacks: which name finds which certificate, and what verify, server name and ALPN decide in real handshakes.

A context as the product makes it, an engine's connection of the test's own (`Current`), and pyOpenSSL at both ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from nlbcore.config.model import Listener
from nlbcore.engine.revoked import Table
from nlbcore.tls.context import Settings, apply, blank, certificate_contexts, context_address, settings
from nlbcore.tls.material import ListenerMaterial, load_material
from tests.support.certs import BAD_CLIENTS, Authority, Issued, Pki
from tests.support.handshake import shake
from tests.support.lists import overdue, revocation_list, write_lists
from tests.support.steps import result

LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
NAMES = {"a.example.org": 1, "*.example.org": 2, "example.org": 3, "*.a.example.org": 4, "localhost": 5}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (b"a.example.org", 1),
        (b"A.Example.ORG", 1),
        (b"a.example.org.", 1),
        (b"b.example.org", 2),
        (b"B.EXAMPLE.org.", 2),
        (b"*.example.org", 2),
        (b"example.org", 3),
        (b"b.a.example.org", 4),
        (b"c.b.a.example.org", 0),
        (b"b.c.example.org", 0),
        (b"localhost", 5),
        (b"localhost.", 5),
        (b"org", 0),
        (b"", 0),
        (b".", 0),
        (b"..", 0),
        (b"a.example.org..", 0),
        (b".example.org", 0),
        (b".b.example.org", 0),
        (b"..example.org", 0),
        (b"a", 0),
        (b"xexample.org", 0),
        (b"\xc3\xa4.example.org", 2),
        (b"[.example.org", 2),
        (b"@.example.org", 2),
    ],
    ids=repr,
)
def test_names(door: Any, said: bytes, found: int) -> None:
    assert door.find_name(NAMES, said) == found


def test_no_names(door: Any) -> None:
    assert door.find_name({}, b"a.example.org") == 0
    assert door.find_name({}, b"") == 0


def test_long_names(door: Any) -> None:
    """253 is the most that DNS has; with a trailing dot it is 254."""
    longest = "a" * 241 + ".example.org"
    assert len(longest) == 253
    assert door.find_name({longest: 1}, longest.encode()) == 1
    assert door.find_name({longest: 1}, longest.encode() + b".") == 1
    assert door.find_name({"*.example.org": 2}, longest.encode() + b".") == 2
    for size in (254, 255, 256, 1000, 16384):
        name = b"a" * (size - 12) + b".example.org"
        assert door.find_name({"*.example.org": 2}, name) in ({0, 2} if size == 254 else {0})
        assert door.find_name({longest: 1}, name) == 0
    for size in (254, 255, 70_000):
        with pytest.raises(ValueError, match="is too long"):
            door.find_name({"a" * size: 1}, b"a")


def test_names_with_times(door: Any) -> None:
    """Certificates take turns: what a name has depends on the time, and a wildcard stands in where it has nothing."""
    now, later = {"a.example": 1, "*.example": 2}, {"a.example": 3}
    for name, at, found in (
        ("a", 0, 1),
        ("a", 99, 1),
        ("a", 100, 3),
        ("a", 199, 3),
        ("a", 200, 0),
        ("b", 99, 2),
        ("b", 100, 0),
    ):
        assert door.find_name(now, f"{name}.example".encode(), at, later) == found, (name, at)
    assert door.find_name({"": 5}, b"") == 0, "an empty name is not the entry for those without a name"


def test_many_names(door: Any) -> None:
    names = {f"n{number}.example.org": number for number in range(1, 3000)}
    for number in (1, 2, 1499, 2999):
        assert door.find_name(names, f"N{number}.example.org".encode()) == number
    assert door.find_name(names, b"n3000.example.org") == 0


@given(
    st.lists(LABEL, min_size=1, max_size=4),
    st.dictionaries(st.lists(LABEL, min_size=1, max_size=3).map(".".join), st.just(1)),
)
def test_against_the_rule(door: Any, labels: list[str], others: dict[str, int]) -> None:
    """The exact one, else the one with a star for the first label."""
    name = ".".join(labels)
    table = {**dict.fromkeys(others, 9), name: 1}
    assert door.find_name(table, name.upper().encode()) == 1
    del table[name]
    wildcard = ".".join(["*", *labels[1:]])
    expected = 2 if len(labels) > 1 else 0
    assert door.find_name({**table, wildcard: 2}, name.encode()) == expected


# -- real handshakes -----------------------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["tls12", "tls13"])


class Served:
    """A listener's contexts, as a worker makes them."""

    def __init__(self, pki: Pki, *certificates: Issued, **keys: Any) -> None:
        self.pki = pki
        model = Listener.model_validate(
            {
                "bind": "127.0.0.1:443",
                "server_group": "app",
                "certificates": [pair.entry() for pair in certificates or (pki.server,)],
                "client_auth": {
                    "mode": keys.pop("mode", "required"),
                    "ca": [str(one.path) for one in keys.pop("authorities", (pki.root,))],
                    "crl": [str(one) for one in keys.pop("lists", ())],
                    "depth": 2,
                },
                "alpn_policy": keys.pop("alpn_policy", None),
            }
        )
        self.listener = model
        material = self.material()
        self.table = None if material.revocations is None else Table(material.revocations)
        self.settings: Settings = settings("web", model, material)
        self.front = blank()
        apply(self.front, self.settings)
        served = result(certificate_contexts(self.settings, material.certificates))
        self.first, self.names = served.first, served.by_name

    def material(self) -> ListenerMaterial:
        from nlbcore.config.model import Config

        config = Config.model_validate({"listeners": {"web": self.listener}, "server_groups": {"app": {}}})
        found, findings = load_material(config, lambda _: (1, 1), "x.toml")
        assert found is not None, findings
        return found.listeners["web"]

    def current(self, door: Any, **keys: Any) -> Any:
        keys = {"revocations": self.table, **keys}
        return door.Current(
            context_address(self.first),
            {name: context_address(context) for name, context in self.names.items()},
            verify=self.settings.verify,
            alpn=self.settings.alpn,
            **keys,
        )


def client_of(pki: Pki, version: int, issued: Issued | None, alpn: tuple[bytes, ...] = ()) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
    if issued is not None:
        context.use_certificate_chain_file(str(issued.path))
        context.use_privatekey(issued.key)
    if alpn:
        context.set_alpn_protos(list(alpn))
    return context


@BOTH
def test_a_good_client(door: Any, pki: Pki, version: int) -> None:
    served = Served(pki)
    with served.current(door) as current:
        server, _, accepted = shake(served.front, client_of(pki, version, pki.client))
        assert accepted
        assert current.verdict() == {
            "verify_error": 0,
            "verify_depth": 0,
            "name_refused": False,
            "alpn_refused": False,
            "der": pki.client.der,
        }
        assert server.get_peer_certificate() is not None


@BOTH
@pytest.mark.parametrize("kind", BAD_CLIENTS)
def test_bad_clients(door: Any, pki: Pki, version: int, kind: str) -> None:
    """The first error is kept, whatever OpenSSL finds after it, and so is the claimed identity."""
    served = Served(pki)
    bad = pki.bad_client(kind)
    with served.current(door) as current:
        _, _, accepted = shake(served.front, client_of(pki, version, bad))
        assert not accepted
        verdict = current.verdict()
    assert door.verify_word(verdict["verify_error"]) == BAD_CLIENTS[kind][0]
    assert verdict["der"] == bad.der


@BOTH
def test_no_certificate(door: Any, pki: Pki, version: int) -> None:
    served = Served(pki)
    with served.current(door) as current:
        _, _, accepted = shake(served.front, client_of(pki, version, None))
        assert not accepted
        assert current.verdict()["der"] == b""
        assert current.verdict()["verify_error"] == 0, "it is not called"


@BOTH
def test_nobody_is_there(door: Any, pki: Pki, version: int) -> None:
    """Without a current connection every callback fails closed."""
    served = Served(pki, mode="off")
    _, _, accepted = shake(served.front, client_of(pki, version, pki.client))
    assert not accepted
    with served.current(door):
        assert shake(served.front, client_of(pki, version, pki.client))[2]


@BOTH
def test_certificates_by_name(door: Any, pki: Pki, version: int) -> None:
    other = pki.root.server("other.example.com", "*.wild.example.com")
    served = Served(pki, pki.server, other)
    shown = {}
    for name in (b"www.example.com", b"OTHER.example.com", b"a.wild.example.com", b"unknown.example", None):
        with served.current(door):
            _, client, accepted = shake(served.front, client_of(pki, version, pki.client), name)
            assert accepted
        shown[name] = client.get_peer_certificate().to_cryptography() == other.certificate
    assert shown == {
        b"www.example.com": False,
        b"OTHER.example.com": True,
        b"a.wild.example.com": True,
        b"unknown.example": False,
        None: False,
    }


@BOTH
def test_strict_names(door: Any, pki: Pki, version: int) -> None:
    served = Served(pki)
    for name, content in ((b"www.example.com", True), (b"unknown.example", False), (None, True)):
        with served.current(door, strict_sni=True) as current:
            assert shake(served.front, client_of(pki, version, pki.client), name)[2] is content
            assert current.verdict()["name_refused"] is not content


@BOTH
@pytest.mark.parametrize(
    ("policy", "offered", "agreed"),
    [
        ("HTTP2Preferred", (b"http/1.1", b"h2"), b"h2"),
        ("HTTP2Optional", (b"h2", b"http/1.1"), b"http/1.1"),
        ("HTTP2Optional", (b"spdy", b"h2"), b"h2"),
        ("HTTP1Only", (b"http/1.0",), b"http/1.0"),
        ("HTTP1Only", (b"h2", b"http/1.10", b"http/1."), None),
        ("HTTP2Only", (), b""),
        (None, (b"h2",), b""),
    ],
)
def test_alpn(
    door: Any, pki: Pki, version: int, policy: str | None, offered: tuple[bytes, ...], agreed: bytes | None
) -> None:
    served = Served(pki, alpn_policy=policy)
    with served.current(door) as current:
        _, client, accepted = shake(served.front, client_of(pki, version, pki.client, offered))
        assert accepted is (agreed is not None)
        assert current.verdict()["alpn_refused"] is (agreed is None)
        if agreed is not None:
            assert client.get_alpn_proto_negotiated() == agreed


@BOTH
@pytest.mark.parametrize("tickets", [True, False])
def test_tickets(door: Any, pki: Pki, version: int, tickets: bool) -> None:
    """Issued where they are wanted; and a connection that resumed gets no new one."""
    served = Served(pki)
    client = client_of(pki, version, pki.client)
    with served.current(door, tickets=tickets):
        session = shake(served.front, client)[1].get_session()
    with served.current(door, tickets=tickets) as current:
        shaken = shake(served.front, client, session=session)
        assert shaken.accepted
        assert shaken.resumed is tickets
        assert current.verdict()["der"] == pki.client.der, "also of a resumed one"


def resumable(door: Any, served: Served, client: SSL.Context) -> Callable[[], Any]:
    with served.current(door):
        session = shake(served.front, client)[1].get_session()
    return lambda: session


@BOTH
def test_the_identity_of_a_resumed_session_is_judged(door: Any, pki: Pki, version: int) -> None:
    """A certificate that is expired by now: judged in the server-name callback, since OpenSSL verifies nothing again."""
    import datetime as dt
    import time

    from tests.support.certs import now

    served = Served(pki)
    short = pki.root.client("short", not_after=now() + dt.timedelta(seconds=2))
    client = client_of(pki, version, short)
    session = resumable(door, served, client)()
    with served.current(door):
        shaken = shake(served.front, client, session=session)
        assert shaken.accepted
        assert shaken.resumed
    time.sleep(max(0.0, short.certificate.not_valid_after_utc.timestamp() + 1.01 - time.time()))
    with served.current(door) as current:
        assert not shake(served.front, client, session=session)[2]
        assert door.verify_word(current.verdict()["verify_error"]) == "expired"


# -- revocation ----------------------------------------------------------------------------------------------------------


def word_of(door: Any, served: Served, client: SSL.Context, session: Any = None, **keys: Any) -> str:
    """How a client fares: "open", or the word of its refusal."""
    with served.current(door, **keys) as current:
        shaken = shake(served.front, client, session=session)
        assert shaken.resumed is (session is not None)
        error = current.verdict()["verify_error"]
        assert shaken.accepted is (error == 0)
        return door.verify_word(error)  # type: ignore[no-any-return]


def table_of(pki: Pki, *lists: Any, authorities: tuple[Authority, ...] | None = None) -> Table:
    served = Served(pki, authorities=authorities or (pki.root,), lists=[write_lists(pki.folder, *lists)])
    assert served.table is not None
    return served.table


@BOTH
def test_revoked(door: Any, pki: Pki, version: int) -> None:
    served = Served(
        pki, authorities=(pki.root, pki.other), lists=[write_lists(pki.folder, revocation_list(pki.root, 5))]
    )
    good, bad, stranger = pki.client, pki.root.client("bad", serial=5), pki.other.client("of-another", serial=5)
    assert word_of(door, served, client_of(pki, version, good)) == "open"
    assert word_of(door, served, client_of(pki, version, bad)) == "revoked"
    assert word_of(door, served, client_of(pki, version, stranger)) == "crl_missing"
    late = table_of(pki, overdue(pki.root, 5))
    for accepted, word in ((False, "crl_overdue"), (True, "open")):
        keys = {"revocations": late, "overdue_accepted": accepted}
        assert word_of(door, served, client_of(pki, version, good), **keys) == word
        assert word_of(door, served, client_of(pki, version, bad), **keys) == "revoked"


@BOTH
def test_the_issuer_is_the_certificate_above(door: Any, pki: Pki, version: int) -> None:
    """Another CA of our CA's name, under our CA: its certificates are not looked up in our CA's list, nor is one under
    an intermediate that only the client knows.
    """
    namesake = pki.root.intermediate("Test Root")
    clients = [pki.root.client("a", serial=5), namesake.client("b", serial=5), pki.intermediate.client("c", serial=5)]

    def words(*lists: Any, authorities: tuple[Authority, ...]) -> list[str]:
        served = Served(pki, authorities=authorities, lists=[write_lists(pki.folder, *lists)])
        return [word_of(door, served, client_of(pki, version, one)) for one in clients]

    empty, full = revocation_list(pki.root), revocation_list(pki.root, 5)
    assert words(full, authorities=(pki.root,)) == ["revoked", "crl_missing", "crl_missing"]
    both = (pki.root, namesake)
    assert words(empty, revocation_list(namesake, 5), authorities=both) == ["open", "revoked", "crl_missing"]
    assert words(full, revocation_list(namesake), authorities=both) == ["revoked", "open", "crl_missing"]
    under = (pki.root, pki.intermediate)
    assert words(empty, revocation_list(pki.intermediate, 5), authorities=under) == ["open", "crl_missing", "revoked"]


@BOTH
@pytest.mark.parametrize("says_whose_key", [True, False], ids=["key identifier", "no key identifier"])
def test_revoked_after_the_session_began(door: Any, pki: Pki, version: int, says_whose_key: bool) -> None:
    """A resumed session is looked up again, in the list of its issuer as far as that can be known without a chain."""
    namesake = Authority(pki.folder, "Test Root")
    both = (pki.root, namesake)
    served = Served(pki, authorities=both)
    client = client_of(pki, version, pki.root.client("later", serial=77, says_whose_key=says_whose_key))

    def resumed(table: Table, **keys: Any) -> str:
        """With a session from before there were lists: OpenSSL does not offer one again that was refused."""
        session = resumable(door, served, client)()
        return word_of(door, served, client, session, revocations=table, **keys)

    def word(in_ours: tuple[int, ...], in_theirs: tuple[int, ...]) -> str:
        lists = revocation_list(pki.root, *in_ours), revocation_list(namesake, *in_theirs)
        return resumed(table_of(pki, *lists, authorities=both))

    assert word((), ()) == "open"
    assert word((77,), ()) == "revoked"
    assert word((), (77,)) == ("open" if says_whose_key else "revoked"), "revoked in any that it may be is revoked"
    late = table_of(pki, overdue(pki.root), revocation_list(namesake), authorities=both)
    assert resumed(late) == "crl_overdue"
    assert resumed(late, overdue_accepted=True) == "open"
    other = table_of(pki, revocation_list(pki.other), authorities=(pki.other,))
    assert resumed(other) == "crl_missing"


@BOTH
def test_the_issuer_is_remembered(door: Any, pki: Pki, version: int) -> None:
    """As long as a connection with the certificate lives: then its list is known although the chain is gone."""
    namesake = Authority(pki.folder, "Test Root")
    both = (pki.root, namesake)
    lists = revocation_list(pki.root), revocation_list(namesake, 77)
    served = Served(pki, authorities=both, lists=[write_lists(pki.folder, *lists)])
    client = client_of(pki, version, pki.root.client("remembered", serial=77, says_whose_key=False))
    with served.current(door):
        session = shake(served.front, client)[1].get_session()
        living = served.current(door)
        with living:
            assert shake(served.front, client)[2], "a second one, which lives on"
    assert word_of(door, served, client, session) == "open"
    del living
    assert word_of(door, served, client, session) == "revoked", "forgotten: it may be the namesake's"
