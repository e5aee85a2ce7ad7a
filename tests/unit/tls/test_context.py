"""Contexts: which of two decides after the server name is known, what `apply()` puts on a front, who gets which certificate.

The table of `nlbcore.tls.context.SETTINGS` is proved with contexts of the test's own and a server-name callback that only
switches: each row is tried both ways round, and what the handshake shows says whose setting counted. The engine's callbacks
refuse every handshake outside of the engine, so they are taken off a context that a handshake is made with.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import re
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.bindings._rust import _openssl
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto

from nlbcore.config.model import Listener
from nlbcore.tls import context as module
from nlbcore.tls.context import (
    SETTINGS,
    Front,
    ServerContexts,
    Settings,
    apply,
    blank,
    certificate_contexts,
    context_address,
    settings,
    store_address,
)
from nlbcore.tls.material import ListenerMaterial, ServerCertificate
from nlbcore.tls.policy import POLICIES
from nlbcore.tls.server_names import EVER
from tests.support import handshake
from tests.support.handshake import Shaken
from tests.support.steps import result

_lib, _ffi = _openssl.lib, _openssl.ffi
REQUIRED = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
BOTH = pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION], ids=["tls12", "tls13"])
SUITES = {
    128: (b"ECDHE-ECDSA-AES128-GCM-SHA256", b"TLS_AES_128_GCM_SHA256"),
    256: (b"ECDHE-ECDSA-AES256-GCM-SHA384", b"TLS_AES_256_GCM_SHA384"),
}


@dataclass(frozen=True)
class World:
    """Certificates: `Made` objects of conftest."""

    root: Any
    intermediate: Any
    other: Any
    server: dict[str, Any]
    client: Any  # below the intermediate
    direct: Any  # below the root
    weak: Any  # RSA-1024, below the root


@pytest.fixture(scope="module")
def world(maker: Callable[..., Any], ca_maker: Callable[..., Any]) -> World:
    root = ca_maker("root", usage=None)
    intermediate = ca_maker("intermediate", root)

    def client(name: str, issuer: Any, key: Any = None) -> Any:
        return maker(name, issuer, key=key, sans=None, purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,))

    return World(
        root,
        intermediate,
        ca_maker("other"),
        {name: maker(name, root, sans=(name,)) for name in ("a.example", "b.example")},
        client("client", intermediate),
        client("direct", root),
        client("weak", root, rsa.generate_private_key(65537, 1024)),
    )


def contexts(wanted: Settings, certificates: Iterable[ServerCertificate]) -> tuple[SSL.Context, dict[str, SSL.Context]]:
    """`certificate_contexts`, all steps at once."""
    made: ServerContexts = result(certificate_contexts(wanted, list(certificates)))
    return made.first, dict(made.by_name)


def server_context(made: Any) -> SSL.Context:
    """A server's context of the test's own, with a certificate."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(made.certificate)
    context.use_privatekey(made.key)
    context.set_session_id(b"test")
    return context


def client_context(version: int, *certificates: Any, alpn: Iterable[bytes] = (), prefer: int = 256) -> SSL.Context:
    """A client that speaks one version (0: both) and refuses nothing; `certificates`: its own, then intermediates."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if version:
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
    order = [SUITES[prefer], *(pair for bits, pair in SUITES.items() if bits != prefer)]
    context.set_cipher_list(b":".join([old for old, _ in order]) + b":@SECLEVEL=0")
    context.set_tls13_ciphersuites(b":".join(new for _, new in order))
    for made in certificates[:1]:
        context.use_certificate(made.certificate)
        context.use_privatekey(made.key)
    for made in certificates[1:]:
        context.add_extra_chain_cert(made.certificate)
    if alpn:
        context.set_alpn_protos(list(alpn))
    return context


def shake(front: SSL.Context, client: SSL.Context, session: Any = None) -> Shaken:
    """For a name that the second certificate covers."""
    return handshake.shake(front, client, b"b.example", session)


def switching(front: SSL.Context, second: SSL.Context) -> SSL.Context:
    """The front context, with a server-name callback that does nothing but switch."""
    front.set_tlsext_servername_callback(lambda connection: connection.set_context(second))
    return front


# -- the table -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """How a setting is proved.

    Attributes:
        values: two values of it.
        put: sets it on a context.
        seen: which value a handshake shows.
        client: the client's certificates (names in `World`) and other arguments of `client_context`.
    """

    values: tuple[Any, Any]
    put: Callable[[SSL.Context, Any, World], None]
    seen: Callable[[Shaken], Any]
    certificates: tuple[str, ...] = ()
    alpn: tuple[bytes, ...] = ()
    any_version: bool = False


def verifying(context: SSL.Context, world: World, *, trust: str = "root", depth: int = 5, mode: int = REQUIRED) -> None:
    store = context.get_cert_store()
    assert store is not None
    store.add_cert(crypto.X509.from_cryptography(getattr(world, trust).certificate))
    context.set_verify(mode)
    context.set_verify_depth(depth)


def put_versions(context: SSL.Context, value: int, _: World) -> None:
    context.set_min_proto_version(value)
    context.set_max_proto_version(value)


def put_groups(context: SSL.Context, value: str, _: World) -> None:
    assert _lib.SSL_CTX_set1_curves_list(context._context, value.encode()) == 1


def put_options(context: SSL.Context, value: int, _: World) -> None:
    """The server's order has 128 bits first, the client's 256: the option says whose order counts."""
    context.set_cipher_list(b":".join(SUITES[bits][0] for bits in (128, 256)))
    context.set_tls13_ciphersuites(b":".join(SUITES[bits][1] for bits in (128, 256)))
    if value == 128:
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)


def put_depth(context: SSL.Context, value: int, world: World) -> None:
    verifying(context, world, depth=value)


def put_verify_mode(context: SSL.Context, value: int, world: World) -> None:
    verifying(context, world, mode=value)


def put_trust_store(context: SSL.Context, value: str, world: World) -> None:
    verifying(context, world, trust=value)


def put_ca_names(context: SSL.Context, value: str, world: World) -> None:
    verifying(context, world)
    context.add_client_ca(getattr(world, value).certificate)


def put_cipher_suites(context: SSL.Context, value: int, _: World) -> None:
    context.set_cipher_list(SUITES[value][0])
    context.set_tls13_ciphersuites(SUITES[value][1])


def put_certificate(context: SSL.Context, value: str, world: World) -> None:
    context.use_certificate(world.server[value].certificate)
    context.use_privatekey(world.server[value].key)


def put_security_level(context: SSL.Context, value: int, world: World) -> None:
    context.set_cipher_list(b"DEFAULT:@SECLEVEL=%d" % value)
    verifying(context, world)


def put_alpn(context: SSL.Context, value: bytes, _: World) -> None:
    context.set_alpn_select_callback(lambda _connection, _offered: value)


def seen_cipher(shaken: Shaken) -> int:
    return next(bits for bits in SUITES if str(bits) in shaken.server.get_cipher_name())


def seen_ca_names(shaken: Shaken) -> str:
    (name,) = shaken.client.get_client_ca_list()
    return str(name.commonName)


GROUP_NAMES = {"x25519": "X25519", "X25519": "X25519", "secp256r1": "P-256", "P-256": "P-256", "prime256v1": "P-256"}
ROWS = {
    "versions": Row(
        (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION),
        put_versions,
        lambda s: s.server.get_protocol_version(),
        any_version=True,
    ),
    "groups": Row(("X25519", "P-256"), put_groups, lambda s: GROUP_NAMES[s.server.get_group_name()]),
    "options": Row((128, 256), put_options, seen_cipher),
    "depth": Row((0, 1), put_depth, lambda s: int(s.accepted), ("client", "intermediate")),
    "verify_mode": Row((SSL.VERIFY_NONE, REQUIRED), put_verify_mode, lambda s: 0 if s.accepted else REQUIRED),
    "trust_store": Row(("root", "other"), put_trust_store, lambda s: "root" if s.accepted else "other", ("direct",)),
    "ca_names": Row(("root", "other"), put_ca_names, seen_ca_names, ("direct",)),
    "cipher_suites": Row((128, 256), put_cipher_suites, seen_cipher),
    "certificate": Row(
        ("a.example", "b.example"), put_certificate, lambda s: s.client.get_peer_certificate().get_subject().CN
    ),
    "security_level": Row((0, 2), put_security_level, lambda s: 0 if s.accepted else 2, ("weak",)),
    "alpn_callback": Row(
        (b"one", b"two"), put_alpn, lambda s: s.client.get_alpn_proto_negotiated(), alpn=(b"one", b"two")
    ),
}


def whose(seen: tuple[Any, Any], values: tuple[Any, Any]) -> str:
    """From what was seen with `values` on front and second, and with them changed round."""
    return {values: "front", values[::-1]: "follows"}.get(seen, f"neither: {seen}")


@BOTH
@pytest.mark.parametrize("setting", ROWS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # X509.get_subject, to read what the test itself wrote
def test_whose_setting_counts(setting: str, version: int, world: World) -> None:
    row = ROWS[setting]
    certificates = [getattr(world, name) for name in row.certificates]
    client = client_context(0 if row.any_version else version, *certificates, alpn=row.alpn)
    seen = []
    for values in (row.values, row.values[::-1]):
        contexts = [server_context(world.server["a.example"]) for _ in values]
        for context, value in zip(contexts, values, strict=True):
            row.put(context, value, world)
        seen.append(row.seen(shake(switching(*contexts), client)))
    expected: str = SETTINGS[setting]
    if expected == "follows up to TLS 1.2":
        expected = "front" if version == SSL.TLS1_3_VERSION else "follows"
    assert whose((seen[0], seen[1]), row.values) == expected


def resumption(version: int, world: World, change: Callable[[SSL.Context, SSL.Context], tuple[Any, Any]]) -> bool:
    """Whether a session is resumed after `change(front, second)`, which answers what serves then."""
    client = client_context(version)
    front, second = (server_context(world.server["a.example"]) for _ in range(2))
    session = shake(switching(front, second), client).client.get_session()
    assert session is not None
    assert shake(front, client, session=session).resumed, "resumed while nothing has changed"
    front, second = change(front, second)
    # Raw, as pyOpenSSL allows no change of a used context; the callback of the front that was there goes on.
    return shake(front, client, session=session).resumed


def sid(context: SSL.Context, value: bytes) -> None:
    assert _lib.SSL_CTX_set_session_id_context(context._context, value, len(value)) == 1


@BOTH
def test_whose_session_id_context_counts(version: int, world: World) -> None:
    def of_front(front: SSL.Context, second: SSL.Context) -> tuple[Any, Any]:
        sid(front, b"changed")
        return front, second

    def of_second(front: SSL.Context, second: SSL.Context) -> tuple[Any, Any]:
        sid(second, b"changed")
        return front, second

    decides = (
        "front" if not resumption(version, world, of_front) and resumption(version, world, of_second) else "follows"
    )
    assert decides == SETTINGS["session_id_context"]


@BOTH
def test_whose_ticket_keys_count(version: int, world: World) -> None:
    def other_front(_: SSL.Context, second: SSL.Context) -> tuple[Any, Any]:
        return switching(server_context(world.server["a.example"]), second), second

    client = client_context(version)
    front, second = (server_context(world.server["a.example"]) for _ in range(2))
    now = [second]
    front.set_tlsext_servername_callback(lambda connection: connection.set_context(now[0]))
    session = shake(front, client).client.get_session()
    now[0] = server_context(world.server["b.example"])
    other_second = shake(front, client, session=session).resumed
    decides = "front" if not resumption(version, world, other_front) and other_second else "follows"
    assert decides == SETTINGS["ticket_keys"]


@BOTH
def test_whose_ticket_lifetime_counts(version: int, world: World) -> None:
    seen = []
    for values in ((100, 200), (200, 100)):
        contexts = [server_context(world.server["a.example"]) for _ in values]
        for context, value in zip(contexts, values, strict=True):
            context.set_timeout(value)
        seen.append(ticket_lifetime(switching(*contexts), version))
    assert whose((seen[0], seen[1]), (100, 200)) == SETTINGS["ticket_lifetime"]


def ticket_lifetime(front: SSL.Context, version: int) -> int:
    """What the server tells a client about its ticket; Python's `ssl` can say it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion(version)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="b.example")
    server: Any = SSL.Connection(front)
    server.set_accept_state()
    for _ in range(4):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
            client.read(1)
        if outgoing.pending:
            server.bio_write(outgoing.read())
        with contextlib.suppress(SSL.WantReadError):
            server.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            incoming.write(server.bio_read(1 << 20))
    assert client.session is not None
    assert client.session.has_ticket
    return client.session.ticket_lifetime_hint


@BOTH
def test_whose_server_name_callback_is_called(version: int, world: World) -> None:
    seen = []
    for values in (("one", "two"), ("two", "one")):
        called: list[str] = []
        front, second = (server_context(world.server["a.example"]) for _ in values)
        for context, value in ((front, values[0]), (second, values[1])):

            def callback(connection: SSL.Connection, value: str = value, second: SSL.Context = second) -> None:
                called.append(value)  # noqa: B023 - read in this round
                connection.set_context(second)

            context.set_tlsext_servername_callback(callback)
        assert shake(front, client_context(version)).accepted
        (one,) = called
        seen.append(one)
    assert whose((seen[0], seen[1]), ("one", "two")) == SETTINGS["server_name_callback"]


def test_every_row_is_proved() -> None:
    sessions = {"session_id_context", "ticket_keys", "ticket_lifetime", "server_name_callback"}
    assert set(ROWS) | sessions == set(SETTINGS)


# -- settings() ----------------------------------------------------------------------------------------------------------


def listener(mode: str = "required", **keys: Any) -> Listener:
    authentication: dict[str, Any] = {"mode": mode}
    authentication |= {key: keys.pop(key) for key in ("depth", "advertise_ca_names") if key in keys}
    return Listener.model_validate(
        {"bind": "127.0.0.1:443", "server_group": "app", "client_auth": authentication, **keys}
    )


def serving(made: Any, *names: str, kind: str = "EC", chain: Iterable[Any] = ()) -> ServerCertificate:
    return ServerCertificate(
        path=Path("x.crt"),
        key_path=Path("x.key"),
        chain=(made.der, *(one.der for one in chain)),
        key=made.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        names=names,
        not_after=made.certificate.not_valid_after_utc,
        key_type=kind,
    )


def wanted(world: World, name: str = "web", ca: tuple[str, ...] = ("root",), **keys: Any) -> Settings:
    material = ListenerMaterial(ca=tuple(getattr(world, one).der for one in ca))
    return settings(name, listener(**keys), material)


def test_what_a_session_id_context_depends_on(world: World) -> None:
    base = wanted(world, ca=("root", "other")).session_id_context
    assert len(base) == 32
    assert wanted(world, ca=("other", "root")).session_id_context == base, "not the order"
    different = [
        wanted(world, "api", ca=("root", "other")),
        wanted(world, ca=("root",)),
        wanted(world, ca=("root", "other", "intermediate")),
        wanted(world, ca=("root", "other"), depth=4),
        wanted(world, ca=("root", "other"), mode="off"),
        wanted(world, ca=("root", "other"), security_policy="tls_cipher_policy_1_2"),
    ]
    assert len({base, *(one.session_id_context for one in different)}) == 1 + len(different)


@pytest.mark.parametrize(
    "keys",
    [
        {"advertise_ca_names": False},
        {"alpn_policy": "HTTP2Only"},
        {"session_ticket_lifetime": "10s"},
        {"bind": "[::1]:8443"},
        {"server_group": "other"},
        {"strict_sni": True},
        {"idle_timeout": "20s"},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_what_a_session_id_context_does_not_depend_on(world: World, keys: dict[str, Any]) -> None:
    assert wanted(world, **keys).session_id_context == wanted(world).session_id_context


def test_names_cannot_run_into_modes(world: World) -> None:
    """The parts of the digest are separated: no listener's name can look like another's name and mode."""
    assert wanted(world, "web").session_id_context != wanted(world, "web\0required").session_id_context


def test_settings_of_a_listener(world: World) -> None:
    one = wanted(world, depth=2, alpn_policy="HTTP2Optional", session_ticket_lifetime="90s")
    assert (one.verify, one.depth, one.ticket_lifetime) == (True, 2, 90)
    assert one.alpn == b"\x08http/1.1\x08http/1.0\x02h2"
    assert one.ca_names == (world.root.certificate,)
    assert one.policy is POLICIES["tls_cipher_policy_1_2_strict_with_1_3"]
    off = wanted(world, mode="off")
    assert (off.verify, off.ca_names, off.alpn) == (False, (), b"")
    assert wanted(world, advertise_ca_names=False).ca_names == ()


# -- apply() -------------------------------------------------------------------------------------------------------------


def disarm(context: SSL.Context) -> SSL.Context:
    """Take the engine's callbacks off, which refuse every handshake outside of the engine."""
    raw: Any = context._context
    _lib.SSL_CTX_set_verify(raw, _lib.SSL_CTX_get_verify_mode(raw), _ffi.NULL)
    _lib.SSL_CTX_set_tlsext_servername_callback(raw, _ffi.NULL)
    _lib.SSL_CTX_set_alpn_select_cb(raw, _ffi.NULL, _ffi.NULL)
    return context


def ready(context: SSL.Context, one: Settings, world: World) -> SSL.Context:
    """`apply()`, and what a handshake in a test needs beside it; again and again on one context."""
    apply(context, one)
    raw: Any = context._context
    made = world.server["a.example"]
    assert _lib.SSL_CTX_use_certificate(raw, crypto.X509.from_cryptography(made.certificate)._x509) == 1
    assert _lib.SSL_CTX_use_PrivateKey(raw, crypto.PKey.from_cryptography_key(made.key)._pkey) == 1
    return disarm(context)


PYTHON_CALLBACKS = re.findall(
    r"\w+",
    "_verify_helper _verify_callback _info_callback _keylog_callback _tlsext_servername_callback _alpn_select_helper "
    "_alpn_select_callback _ocsp_helper _ocsp_callback _cookie_generate_helper _cookie_verify_helper _passphrase_helper",
)


def test_no_python_callback_is_set(world: World) -> None:
    one = wanted(world, alpn_policy="HTTP1Only")
    front = blank()
    apply(front, one)
    first, by_name = contexts(one, [serving(world.server["a.example"], "a.example")])
    for context in (front, first, *by_name.values()):
        assert {name: getattr(context, name) for name in PYTHON_CALLBACKS} == dict.fromkeys(PYTHON_CALLBACKS)


def test_what_is_on_a_front(world: World) -> None:
    front = blank()
    apply(front, wanted(world, depth=7, session_ticket_lifetime="77s"))
    raw: Any = front._context
    assert _lib.SSL_CTX_get_verify_mode(raw) == REQUIRED
    assert _lib.SSL_CTX_get_verify_depth(raw) == 7
    assert _lib.SSL_CTX_get_timeout(raw) == 77
    assert _lib.SSL_CTX_get_session_cache_mode(raw) & SSL.SESS_CACHE_BOTH == 0
    options = _lib.SSL_CTX_get_options(raw)
    for option in (SSL.OP_CIPHER_SERVER_PREFERENCE, SSL.OP_NO_COMPRESSION, SSL.OP_NO_RENEGOTIATION):
        assert options & option
    assert not options & SSL.OP_NO_TICKET, "that is decided for each connection"
    names = SSL.Connection(front).get_client_ca_list()
    assert [name.commonName for name in names] == ["root"]


@BOTH
def test_the_engine_s_callbacks_fail_closed(version: int, world: World) -> None:
    """Without the engine no handshake is completed, whatever the client has."""
    front = blank()
    one = wanted(world)
    ready(front, one, world)
    assert shake(front, client_context(version, world.direct)).accepted
    apply(front, one)
    assert not shake(front, client_context(version, world.direct)).accepted


@BOTH
def test_a_live_front_changes_for_the_next_connection(version: int, world: World) -> None:
    front = ready(blank(), wanted(world), world)
    ours = client_context(version, world.direct)
    session = shake(front, ours).client.get_session()
    assert shake(front, ours, session=session).resumed
    ready(front, wanted(world), world)
    assert shake(front, ours, session=session).resumed, "nothing has changed"
    ready(front, wanted(world, ca=("other",)), world)
    shaken = shake(front, ours, session=session)
    assert not shaken.resumed
    assert not shaken.accepted, "the store is another one"
    assert [name.commonName for name in SSL.Connection(front).get_client_ca_list()] == ["other"]
    ready(front, wanted(world), world)
    assert shake(front, ours, session=session).resumed, "and the old one again"
    ready(front, wanted(world, mode="off"), world)
    shaken = shake(front, client_context(version), session=None)
    assert shaken.accepted
    assert SSL.Connection(front).get_client_ca_list() == []


def test_a_session_begun_before_keeps_what_it_had(world: World) -> None:
    """`SSL_new` has copied the settings: a connection of the nursery made before a commit serves as before."""
    front = ready(blank(), wanted(world, mode="off"), world)
    before: Any = SSL.Connection(front)
    ready(front, wanted(world, depth=9), world)
    assert _lib.SSL_CTX_get_verify_mode(front._context) == REQUIRED
    assert before.get_verify_mode() == SSL.VERIFY_NONE


def test_versions_of_a_live_front(world: World) -> None:
    front = ready(blank(), wanted(world), world)
    client = client_context(0, world.direct)
    assert shake(front, client).client.get_protocol_version_name() == "TLSv1.3"
    ready(front, wanted(world, security_policy="tls_cipher_policy_1_2"), world)
    assert shake(front, client).client.get_protocol_version_name() == "TLSv1.2"
    ready(front, wanted(world), world)
    assert shake(front, client).client.get_protocol_version_name() == "TLSv1.3"


@pytest.mark.parametrize("before", POLICIES)
@pytest.mark.parametrize("after", POLICIES)
def test_no_policy_leaves_a_trace(world: World, before: str, after: str) -> None:
    """Suites, as the security level lets them be: a live front that has had another policy is like a new one."""
    live, new = blank(), blank()
    for policy in (before, after):
        apply(live, wanted(world, security_policy=policy))
    apply(new, wanted(world, security_policy=after))
    live_suites, new_suites = (
        [suite for suite in SSL.Connection(one).get_cipher_list() if "1_3" in after or not suite.startswith("TLS_")]
        for one in (live, new)
    )
    assert live_suites == new_suites
    weak = world.weak.certificate
    for context in (live, new):
        lifted = after in ("tls_cipher_policy_1_0", "tls_cipher_policy_1_1")
        taken = _lib.SSL_CTX_use_certificate(context._context, crypto.X509.from_cryptography(weak)._x509)
        assert bool(taken) is lifted, "the security level is the policy's own"
    _lib.ERR_clear_error()


@BOTH
def test_a_ticket_is_good_at_its_front_only(version: int, world: World) -> None:
    one = wanted(world)
    fronts = [ready(blank(), one, world) for _ in range(2)]
    client = client_context(version, world.direct)
    session = shake(fronts[0], client).client.get_session()
    assert shake(fronts[0], client, session=session).resumed
    other = shake(fronts[1], client, session=session)
    assert other.accepted
    assert not other.resumed


@pytest.mark.parametrize("groups", ["P-256:X25519", "X25519:P-256"], ids=["with a HelloRetryRequest", "without"])
def test_resumption_behind_a_hello_retry_request(world: World, groups: str) -> None:
    """The second ClientHello is compared when the connection has its certificate context already."""
    one = wanted(world)
    one = replace(one, policy=replace(one.policy, groups=("X25519",)))
    front = blank()
    apply(front, one)
    first, _ = contexts(one, [serving(world.server["a.example"], "a.example")])
    switching(disarm(front), disarm(first))
    client = client_context(SSL.TLS1_3_VERSION, world.direct)
    assert _lib.SSL_CTX_set1_curves_list(client._context, groups.encode()) == 1
    session = shake(front, client).client.get_session()
    shaken = shake(front, client, session=session)
    assert shaken.accepted
    assert shaken.resumed


def test_openssl_s_refusal_is_an_error_with_its_reason(world: World) -> None:
    one = wanted(world)
    with pytest.raises(SSL.Error) as caught:
        apply(blank(), replace(one, policy=replace(one.policy, suites=("NO-SUCH-SUITE",))))
    assert caught.value.args[0][0][2] == "no cipher match"
    with pytest.raises(SSL.Error):
        apply(blank(), replace(one, policy=replace(one.policy, groups=("NO-SUCH-GROUP",))))
    apply(blank(), one)
    assert _lib.ERR_peek_error() == 0


def test_the_store_outlives_its_python_object(world: World) -> None:
    front = ready(blank(), wanted(world), world)
    gc.collect()
    for _ in range(3):
        assert shake(front, client_context(0, world.direct)).accepted


@pytest.mark.parametrize("purpose", [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH, None])
def test_the_store_knows_what_it_is_for(purpose: Any, maker: Callable[..., Any], world: World) -> None:
    """A re-check asks it without a connection that would say so: a server's certificate is no client's there either."""
    made = maker("one", world.root, sans=None, purposes=None if purpose is None else (purpose,))
    check = crypto.X509StoreContext(wanted(world).store, crypto.X509.from_cryptography(made.certificate))
    if purpose == ExtendedKeyUsageOID.SERVER_AUTH:
        with pytest.raises(crypto.X509StoreContextError, match="purpose"):
            check.verify_certificate()
    else:
        check.verify_certificate()


# -- certificates --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rsa_server(maker: Callable[..., Any], world: World) -> Any:
    return maker("a.example", world.root, key=rsa.generate_private_key(65537, 2048), sans=("a.example",))


def shown(context: SSL.Context, *, kind: str = "ECDSA") -> tuple[str, int]:
    """The name on the certificate that a TLS 1.2 client with suites of one kind is shown, and how many stand behind it."""
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_max_proto_version(SSL.TLS1_2_VERSION)
    client.set_cipher_list(f"ECDHE-{kind}-AES128-GCM-SHA256".encode())
    shaken = shake(disarm(context), client)
    assert shaken.accepted
    chain = shaken.client.get_peer_cert_chain(as_cryptography=True)
    return str(chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value), len(chain) - 1


def test_names_find_their_certificates(world: World) -> None:
    one = wanted(world, mode="off")
    a, b = world.server["a.example"], world.server["b.example"]
    first, names = contexts(one, [serving(a, "a.example", "*.wild.example"), serving(b, "b.example")])
    assert set(names) == {"a.example", "*.wild.example", "b.example"}
    assert names["a.example"] is names["*.wild.example"] is first
    assert names["b.example"] is not first
    assert shown(first)[0] == "a.example"
    assert shown(names["b.example"])[0] == "b.example"


def test_a_wildcard_and_an_exact_name(world: World) -> None:
    one = wanted(world, mode="off")
    a, b = world.server["a.example"], world.server["b.example"]
    _, names = contexts(one, [serving(a, "*.example"), serving(b, "b.example")])
    assert shown(names["b.example"])[0] == "b.example"
    assert shown(names["*.example"])[0] == "a.example"


def test_the_first_of_two_alike_is_used(world: World) -> None:
    one = wanted(world, mode="off")
    a, b = world.server["a.example"], world.server["b.example"]
    first, names = contexts(one, [serving(a, "x.example"), serving(b, "x.example", "y.example")])
    assert shown(first)[0] == shown(names["x.example"])[0] == "a.example"
    assert shown(names["y.example"])[0] == "b.example"


@pytest.mark.parametrize("order", [1, -1])
def test_two_kinds_of_key_for_one_name_are_one_context(world: World, rsa_server: Any, order: int) -> None:
    one = wanted(world, mode="off")
    pairs = [
        serving(world.server["b.example"], "a.example"),
        serving(rsa_server, "a.example", kind="RSA", chain=[world.intermediate]),
    ][::order]
    first, names = contexts(one, pairs)
    assert first is names["a.example"]
    assert shown(first, kind="ECDSA")[0] == "b.example"
    assert shown(first, kind="RSA")[0] == "a.example"


def test_a_chain_is_sent(world: World) -> None:
    made = serving(world.server["a.example"], "a.example", chain=[world.intermediate])
    first, _ = contexts(wanted(world, mode="off"), [made])
    assert shown(first) == ("a.example", 1)


@BOTH
def test_nothing_is_sent_that_the_file_does_not_have(version: int, world: World) -> None:
    """OpenSSL would build a chain from the trust store, in every handshake, where the server's certificate and the
    clients' have one CA.
    """
    one = wanted(world)
    front = blank()
    apply(front, one)
    first, _ = contexts(one, [serving(world.server["a.example"], "a.example")])
    shaken = shake(switching(disarm(front), disarm(first)), client_context(version, world.direct))
    assert shaken.accepted
    assert len(shaken.client.get_peer_cert_chain(as_cryptography=True)) == 1


def test_a_certificate_without_names_is_the_default_only(world: World) -> None:
    first, names = contexts(wanted(world, mode="off"), [serving(world.server["a.example"])])
    assert names == {}
    assert shown(first)[0] == "a.example"


def test_what_follows_is_on_certificate_contexts_too(world: World) -> None:
    one = wanted(world, depth=6, security_policy="tls_cipher_policy_1_2")
    front = blank()
    apply(front, one)
    first, _ = contexts(one, [serving(world.server["a.example"], "a.example")])
    ends: list[Any] = [SSL.Connection(context) for context in (front, first)]
    assert ends[0].get_cipher_list() == ends[1].get_cipher_list()
    assert [name.commonName for name in ends[1].get_client_ca_list()] == ["root"]
    raw: Any = first._context
    assert _lib.SSL_CTX_get_verify_mode(raw) == REQUIRED
    assert _lib.SSL_CTX_get_verify_depth(raw) == 6
    stores = [_lib.SSL_CTX_get_cert_store(context._context) for context in (front, first)]
    assert stores[0] == stores[1] == one.store._store, "one store for all of a listener"


def test_a_step_for_each_context(world: World) -> None:
    """A thousand certificates at once would take longer than a worker may be away from its connections."""
    a, b = world.server["a.example"], world.server["b.example"]
    many = [serving(b if number == 1 else a, f"{number}.example", f"*.{number}.example") for number in range(5)]
    steps = certificate_contexts(wanted(world, mode="off"), [*many, serving(b, "0.example", "again.example")])
    assert next(steps) is None, "their names"
    begun = next(steps)
    assert begun is not None
    assert shown(begun)[0] == "a.example"
    steps.close()  # it is not wanted any more
    steps = certificate_contexts(wanted(world, mode="off"), [*many, serving(b, "0.example", "again.example")])
    made = []
    try:
        while True:
            made.append(next(steps))
    except StopIteration as end:
        served: ServerContexts = end.value
    made = [one for one in made if one is not None]
    assert made[0] is served.first
    assert len(made) == len({id(one) for one in made}) == 6
    assert {id(one) for one in served.by_name.values()} == {id(one) for one in made}


def test_certificates_take_turns(world: World) -> None:
    """One that ends, one that has not begun: contexts with times, also for who names nobody."""
    a, b = world.server["a.example"], world.server["b.example"]
    first = replace(serving(a, "x.example", "only.example"), not_after=dt.datetime.fromtimestamp(2000, dt.UTC))
    second = replace(serving(b, "x.example"), not_before=dt.datetime.fromtimestamp(1500, dt.UTC))
    served: ServerContexts = result(certificate_contexts(wanted(world, mode="off"), [first, second], now=1000))
    assert shown(served.first)[0] == "a.example"
    assert set(served.by_name) == {"only.example"}
    begin = [(name, since, shown(context)[0]) for name, since, _, context in served.windows if since < 3000]
    assert begin == [
        *(("", -EVER, "a.example"), ("", 2001, "b.example")),
        *(("x.example", -EVER, "a.example"), ("x.example", 2001, "b.example")),
    ]
    assert len({id(context) for *_, context in served.windows}) == 2


def test_a_key_that_does_not_fit(world: World) -> None:
    made = serving(world.server["a.example"], "a.example")
    stranger = ec.generate_private_key(ec.SECP256R1())
    wrong = replace(made, key=stranger.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SSL.Error):
        contexts(wanted(world), [wrong])


# -- the front as the engine sees it -------------------------------------------------------------------------------------


def test_connections_belong_to_the_engine(world: World) -> None:
    """No Python object is left of them, and `SSL_free` is all that is needed."""
    context = blank()
    apply(context, wanted(world))
    made = Front(context).connections(64)
    try:
        assert len({number for triple in made for number in triple}) == 3 * 64
        known = {int(_ffi.cast("uintptr_t", pointer)) for pointer in list(SSL.Connection._reverse_mapping)}
        assert not known & {triple[0] for triple in made}
        gc.collect()
        assert not [one for one in gc.get_objects() if type(one) is SSL.Connection]
        assert _lib.SSL_get_verify_mode(_ffi.cast("SSL *", made[0][0])) == REQUIRED
    finally:
        for pointer, _, _ in made:
            _lib.SSL_free(_ffi.cast("SSL *", pointer))


def test_a_connection_lives_longer_than_its_context(world: World) -> None:
    """The SSL object has a reference of its own."""
    context = blank()
    apply(context, wanted(world, mode="off"))
    ((pointer, _, _),) = Front(context).connections(1)
    del context
    gc.collect()
    held = _ffi.gc(_ffi.cast("SSL *", pointer), _lib.SSL_free)
    assert _lib.SSL_get_verify_mode(held) == SSL.VERIFY_NONE
    assert _lib.SSL_do_handshake(held) == -1
    assert _lib.SSL_get_error(held, -1) == _lib.SSL_ERROR_WANT_READ


def test_the_address_of_a_context() -> None:
    context: Any = blank()
    assert _ffi.cast("SSL_CTX *", context_address(context)) == context._context


def test_the_address_of_a_store(world: World) -> None:
    store: Any = wanted(world).store
    assert _ffi.cast("X509_STORE *", store_address(store)) == store._store


def test_alpn_policies() -> None:
    assert set(module.ALPN) == {"HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred"}
    assert module.ALPN["HTTP2Preferred"][0] == "h2"
