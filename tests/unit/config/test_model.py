"""The model: defaults of the interface, ranges, types, frozen; what is not built is neither a key nor unknown."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nlbcore.address import Endpoint
from nlbcore.config.model import ClientAuth, Config, HealthCheck, Listener, Log, Node, Server, ServerGroup
from nlbcore.config.values import default_control_socket, format_seconds

LISTENER = {"bind": "127.0.0.1:443", "server_group": "app"}


def listener(**keys: Any) -> Listener:
    return Listener.model_validate({**LISTENER, **keys}, context={"base": Path("/etc/nlb")})


def problem(model: Any, **keys: Any) -> dict[str, Any]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(keys)
    (error,) = caught.value.errors()
    return dict(error)


def test_defaults_are_those_of_the_interface() -> None:
    config = Config.model_validate({})
    assert config.node.name == socket.gethostname()
    assert (config.node.shutdown_delay, config.node.drain_timeout) == (0.0, 300.0)
    assert (config.node.workers, config.node.control_socket) == ("auto", default_control_socket())
    assert (config.node.admin, config.node.pid_file, config.node.watch) == (None, None, False)
    assert config.node.upgrade_timeout == 60.0
    assert (config.log.level, config.log.file, config.log.access) == ("info", "stderr", "stdout")
    assert config.log.format == "text"
    one = listener()
    assert one.bind == (Endpoint("127.0.0.1", 443),)
    assert one.protocol == "TCPSSL"
    assert one.security_policy == "tls_cipher_policy_1_2_strict_with_1_3"
    assert one.alpn_policy is None
    assert (one.idle_timeout, one.handshake_timeout, one.half_close_timeout) == (900.0, 10.0, 300.0)
    assert (one.max_handshakes, one.cps, one.max_connections) == (4096, 0, 0)
    assert (one.session_tickets, one.session_ticket_lifetime) == (True, 300.0)
    assert (one.on_truncated, one.strict_sni, one.certificates) == ("close", False, ())
    auth = one.client_auth
    assert (auth.mode, auth.ca, auth.depth, auth.advertise_ca_names) == ("off", (), 3, True)
    assert auth.on_revoked == "close"
    group = Config.model_validate({"server_groups": {"app": {"servers": [{"address": "10.0.0.1:80"}]}}}).server_groups[
        "app"
    ]
    assert (group.scheduler, group.connect_timeout) == ("wrr", 5.0)
    assert (group.connection_drain, group.connection_drain_timeout) == (True, 300.0)
    check = group.health_check
    assert (check.enabled, check.type, check.interval, check.connect_timeout, check.port) == (True, "TCP", 5.0, 5.0, 0)
    assert (check.healthy_threshold, check.unhealthy_threshold) == (2, 2)
    assert group.servers == (Server(address=Endpoint("10.0.0.1", 80), name="10.0.0.1:80", weight=100),)


def test_it_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        listener().cps = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("10s", 10), ("15m", 900), ("0.25h", 900), ("900000ms", 900), ("10.5s", 10.5), (900, 900), (10.5, 10.5)],
)
def test_durations(written: object, seconds: float) -> None:
    assert listener(idle_timeout=written).idle_timeout == seconds


@pytest.mark.parametrize(
    "written", ["", "10", "s", "10 s", "-5s", "1e2s", "10S", "10s\n", float("nan"), float("inf"), -1, "٣s"]
)
def test_no_durations(written: object) -> None:
    assert problem(Listener, **LISTENER, idle_timeout=written)["type"] == "bad_value"


@given(st.floats(0, 86400))
def test_a_duration_is_printed_as_it_is_read(seconds: float) -> None:
    again = (
        Config.model_validate({"node": {"drain_timeout": format_seconds(seconds)}}) if "e" not in str(seconds) else None
    )
    assert again is None or again.node.drain_timeout == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("idle_timeout", 10, 900),
        ("handshake_timeout", 1, 300),
        ("half_close_timeout", 1, 86400),
        ("session_ticket_lifetime", 1, 86400),
        ("cps", 0, 1_000_000),
        ("max_handshakes", 1, 1_000_000),
        ("max_connections", 0, 100_000_000),
    ],
)
def test_ranges(key: str, low: int, high: int) -> None:
    for good in (low, high):
        assert getattr(listener(**{key: good}), key) == good
    for bad in (low - 1, high + 1):
        assert problem(Listener, **LISTENER, **{key: bad})["loc"] == (key,)


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("interval", 1, 50),
        ("connect_timeout", 1, 300),
        ("healthy_threshold", 2, 10),
        ("unhealthy_threshold", 2, 10),
        ("port", 0, 65535),
    ],
)
def test_ranges_of_health_checks(key: str, low: int, high: int) -> None:
    for good in (low, high):
        assert getattr(HealthCheck.model_validate({key: good}), key) == good
    for bad in (low - 1, high + 1):
        assert problem(HealthCheck, **{key: bad})["loc"] == (key,)


@pytest.mark.parametrize(
    ("model", "key", "low", "high"),
    [(Node, "upgrade_timeout", 1, 600), (ServerGroup, "connection_drain_timeout", 0, 900)],
)
def test_ranges_of_ends(model: Any, key: str, low: int, high: int) -> None:
    for good in (low, high):
        assert getattr(model.model_validate({key: good}), key) == good
    for bad in (low - 1, high + 1):
        assert problem(model, **{key: bad})["loc"] == (key,)


@pytest.mark.parametrize(("key", "value"), [("type", "HTTP"), ("type", "tcp"), ("enabled", 0), ("port", "80")])
def test_health_checks_as_they_are_not(key: str, value: object) -> None:
    assert problem(HealthCheck, **{key: value})["loc"] == (key,)


@pytest.mark.parametrize("good", ["auto", 1, 256])
def test_workers(good: object) -> None:
    assert Node.model_validate({"workers": good}).workers == good


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (0, "bad_value", "0 is out of range: 1 to 256 processes"),
        (257, "bad_value", "257 is out of range: 1 to 256 processes"),
        (-1, "bad_value", "-1 is out of range: 1 to 256 processes"),
        ("Auto", "bad_value", '"Auto" is neither "auto" nor a number'),
        ("4", "bad_value", '"4" is neither "auto" nor a number'),
        (True, "wrong_type", ""),
        (2.0, "wrong_type", ""),
    ],
)
def test_not_so_many_workers(bad: object, kind: str, message: str) -> None:
    error = problem(Node, workers=bad)
    assert (error["type"], error["msg"]) == (kind, message)


def test_the_control_socket_is_relative_to_the_file() -> None:
    node = Node.model_validate({"control_socket": "run/nlb.sock"}, context={"base": Path("/etc/nlb")})
    assert node.control_socket == Path("/etc/nlb/run/nlb.sock")
    assert problem(Node, control_socket="")["loc"] == ("control_socket",)


def test_the_admin_page_has_an_address() -> None:
    assert Node.model_validate({"admin": "127.0.0.1:9180"}).admin == Endpoint("127.0.0.1", 9180)
    assert Node.model_validate({"admin": "[::1]:9180"}).admin == Endpoint("::1", 9180)
    for bad in ("unix:admin.sock", "systemd:admin", "127.0.0.1", "127.0.0.1:0", 9180, "", "localhost:9180"):
        assert problem(Node, admin=bad)["loc"] == ("admin",)


def test_the_pid_file_is_relative_to_the_file() -> None:
    node = Node.model_validate({"pid_file": "nlb.pid"}, context={"base": Path("/run/nlb")})
    assert node.pid_file == Path("/run/nlb/nlb.pid")


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        (Node, "watch", "yes"),
        (Node, "pid_file", ""),
        (Log, "format", "logfmt"),
        (ClientAuth, "on_revoked", "refuse"),
        (ServerGroup, "connection_drain", "300s"),
    ],
)
def test_words_that_are_not_known(model: Any, key: str, value: object) -> None:
    assert problem(model, **{key: value})["loc"][0] == key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cps", "5"),
        ("cps", 5.0),
        ("cps", True),
        ("session_tickets", 1),
        ("session_tickets", "true"),
        ("protocol", "tcp"),
        ("idle_timeout", True),
        ("server_group", 1),
        ("certificates", "x"),
        ("client_auth", []),
        ("bind", 443),
        ("bind", []),
    ],
)
def test_nothing_is_converted(key: str, value: object) -> None:
    assert problem(Listener, **{**LISTENER, key: value})["loc"] == (key,)


def test_bind_takes_one_or_many() -> None:
    assert listener(bind="systemd:web").bind == (Endpoint(systemd="web"),)
    assert listener(bind=["0.0.0.0:1", "[::]:1", "unix:run/x"]).bind == (
        Endpoint("0.0.0.0", 1),
        Endpoint("::", 1),
        Endpoint(path="/etc/nlb/run/x"),
    )
    assert "is a socket to listen on" in problem(Server, name="a", address="systemd:web")["msg"]
    assert "1 to 65535" in problem(Listener, **{**LISTENER, "bind": "127.0.0.1:0"})["msg"]


def test_paths_are_relative_to_the_file() -> None:
    one = listener(
        certificates=[{"certificate": "a.crt", "private_key": "/keys/a.key"}],
        client_auth={"ca": "root.crt", "mode": "required"},
    )
    assert one.certificates[0].certificate == Path("/etc/nlb/a.crt")
    assert one.certificates[0].private_key == Path("/keys/a.key")
    assert one.client_auth.ca == (Path("/etc/nlb/root.crt"),)


@pytest.mark.parametrize("word", ["stdout", "stdrr", "off"])
def test_a_bare_word_is_no_log_file(word: str) -> None:
    assert "is neither" in problem(Log, file=word)["msg"]


def test_log_files() -> None:
    log = Log.model_validate({"file": "nlb.log", "access": "./off"}, context={"base": Path("/var/log")})
    assert (log.file, log.access) == (Path("/var/log/nlb.log"), Path("/var/log/off"))
    assert Log.model_validate({"access": "off"}).access == "off"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "x" * 64, "é", "a\n"])
def test_names_of_tables(name: str) -> None:
    assert problem(Config, listeners={name: LISTENER})["loc"] == ("listeners", name, "[key]")


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a=b", "x" * 129, "a\x1bb"])
def test_names_of_servers(name: str) -> None:
    assert problem(Server, address="10.0.0.1:80", name=name)["loc"] == ("name",)


def test_schedulers_ignore_case() -> None:
    assert Config.model_validate({"server_groups": {"a": {"scheduler": "Wrr"}}}).server_groups["a"].scheduler == "wrr"


def test_revocation_lists() -> None:
    auth = Listener.model_validate({**LISTENER, "client_auth": {"crl": "a.crl"}}).client_auth
    assert [path.name for path in auth.crl] == ["a.crl"]
    assert (auth.crl_scope, auth.on_crl_overdue) == ("leaf", "refuse")
    assert Listener.model_validate({**LISTENER, "client_auth": {"crl": []}}).client_auth.crl == ()
    chain = Listener.model_validate({**LISTENER, "client_auth": {"crl": "a.crl", "crl_scope": "chain"}}).client_auth
    assert chain.crl_scope == "chain"
    with pytest.raises(ValidationError):
        Listener.model_validate({**LISTENER, "client_auth": {"crl_scope": "root"}})


def test_proxy_protocol() -> None:
    assert listener().accept_proxy_protocol_from == ()
    found = listener(accept_proxy_protocol_from=["10.0.0.0/8", "2001:db8::1", "unix"])
    assert [str(peer) for peer in found.accept_proxy_protocol_from] == ["10.0.0.0/8", "2001:db8::1/128", "unix"]
    assert found.model_dump(mode="json")["accept_proxy_protocol_from"] == ["10.0.0.0/8", "2001:db8::1/128", "unix"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("10.0.0.1/8", 'write "10.0.0.0/8", or "10.0.0.1" for it alone'),
        ("front.example.com", "is no network"),
        ("10.0.0.0/33", "is no network"),
        ("unix:/run/front.sock", "is no network"),
        ("", "is no network"),
    ],
)
def test_no_network(value: str, words: str) -> None:
    error = problem(Listener, **LISTENER, accept_proxy_protocol_from=[value])
    assert words in error["msg"]


NOT_BUILT = [
    (("node",), "user"),
    (("listeners", "web"), "max_connection_age"),
    (("server_groups", "app", "health_check"), "domain"),
    (("server_groups", "app", "health_check"), "url"),
    (("server_groups", "app", "health_check"), "method"),
    (("server_groups", "app", "health_check"), "http_code"),
    (("server_groups", "app", "health_check"), "http_version"),
    (("server_groups", "app", "servers", 0), "max_connections"),
    (("server_groups", "app", "servers", 0), "backup"),
]


@pytest.mark.parametrize(("table", "key"), NOT_BUILT, ids=lambda part: str(part))
def test_what_is_not_built_is_refused(table: tuple[str | int, ...], key: str) -> None:
    document: dict[str, Any] = {
        "node": {},
        "listeners": {"web": {**LISTENER, "client_auth": {}}},
        "server_groups": {"app": {"servers": [{"address": "10.0.0.1:80"}], "health_check": {}}},
    }
    place: Any = document
    for part in table:
        place = place[part]
    place[key] = {}
    error = problem(Config, **document)
    assert (error["type"], error["loc"]) == ("extra_forbidden", (*table, key))
