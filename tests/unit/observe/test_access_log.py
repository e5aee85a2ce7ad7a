"""Records into lines: every field from its place in the record, absent ones left out, and one line whatever a client said."""

from __future__ import annotations

import errno
import json
import re
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.engine.journal import record_layout
from nlbcore.observe import access_log
from nlbcore.observe.access_log import Names
from nlbcore.termination import WORDS, Termination

if TYPE_CHECKING:
    from tests.support.certs import Pki

FORMAT, SIZE = record_layout()
HEAD = re.findall(
    r"\w+",
    "size kind termination verdict flags family address port listener_row group_row server_row tls_version generation "
    "verify_error verify_depth detail_errno id ended received sent handshake_us connect_us connection_us",
)
OLD = {"termination": int(Termination.EXPIRED), "verify_error": 10}
UNKNOWN = {"termination": int(Termination.UNKNOWN_CA), "verify_error": 20}
TEXTS = ("cipher", "group", "name", "alpn", "proxy", "authority", "ruling", "detail", "der")
NAMES = Names("n1", {0: "web", 3: "api"}, {1: "app"}, {0: "a", 7: "b"})
# In the order of the contract.
CONTRACT = re.findall(
    r"\w+",
    "time node worker generation connection listener client_ip client_port proxy_ip proxy_port server_group server tls_protocol_version "
    "tls_cipher_suite tls_named_group tls_resumed domain_name alpn client_cert_subject client_cert_issuer "
    "client_cert_serial client_cert_sha256 client_cert_not_after client_cert_sans client_cert_proven verify_result "
    "verify_ca_subject received_bytes sent_bytes tls_handshake_time_ms connect_time_ms connection_time_ms termination termination_detail",
)


def record(**fields: Any) -> bytes:
    """A record as the engine writes it; what is not said is as in a plain connection that came to nothing."""
    texts = [fields.pop(name, b"") for name in TEXTS]
    values: dict[str, Any] = {
        **dict.fromkeys(HEAD, 0),
        "kind": access_log.ACCESS,
        "termination": int(Termination.CLIENT_CLOSE),
        "address": b"",
        "group_row": 1,
        "server_row": access_log.NO_ROW,
        "handshake_us": -1,
        "connect_us": -1,
        **fields,
    }
    assert set(values) == set(HEAD), set(values) ^ set(HEAD)
    values["size"] = SIZE + sum(map(len, texts))
    return struct.pack(FORMAT, *(values[name] for name in HEAD), *map(len, texts)) + b"".join(texts)


def parsed(**fields: Any) -> dict[str, Any]:
    """The line of a record, read back."""
    text = access_log.line(record(**fields), 2, NAMES)
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    made: dict[str, Any] = json.loads(text)
    return made


def test_the_format_has_the_size() -> None:
    assert struct.calcsize(FORMAT) == SIZE
    assert access_log.size_of(record(name=b"abc")[:4]) == SIZE + 3


def test_a_full_line(pki: Pki) -> None:
    line = parsed(
        flags=access_log.RESUMED | access_log.PROVEN,
        family=4,
        address=bytes([192, 0, 2, 7]),
        port=65535,
        listener_row=3,
        server_row=7,
        tls_version=0x0304,
        generation=9,
        id=2**64 - 1,
        ended=1_795_362_299_123_456,
        received=2**63,
        sent=5,
        handshake_us=1234,
        connect_us=0,
        connection_us=10_000_001,
        cipher=b"TLS_AES_128_GCM_SHA256",
        group=b"X25519MLKEM768",
        name=b"www.example.com",
        alpn=b"h2",
        proxy=bytes([198, 51, 100, 9]) + (8443).to_bytes(2, "big"),
        authority=pki.root.name.public_bytes(),
        detail=b"half_close_timeout",
        der=pki.client.der,
    )
    assert list(line) == CONTRACT
    assert {key: value for key, value in line.items() if not key.startswith("client_cert")} == {
        "time": "2026-11-22T15:44:59.123Z",
        "node": "n1",
        "worker": 2,
        "generation": 9,
        "connection": 2**64 - 1,
        "listener": "api",
        "client_ip": "192.0.2.7",
        "client_port": 65535,
        "proxy_ip": "198.51.100.9",
        "proxy_port": 8443,
        "server_group": "app",
        "server": "b",
        "tls_protocol_version": "TLSv1.3",
        "tls_cipher_suite": "TLS_AES_128_GCM_SHA256",
        "tls_named_group": "X25519MLKEM768",
        "tls_resumed": True,
        "domain_name": "www.example.com",
        "alpn": "h2",
        "verify_result": 0,
        "verify_ca_subject": "CN=Test Root",
        "received_bytes": 2**63,
        "sent_bytes": 5,
        "tls_handshake_time_ms": 1.234,
        "connect_time_ms": 0.0,
        "connection_time_ms": 10000.001,
        "termination": "client_close",
        "termination_detail": "half_close_timeout",
    }
    assert line["client_cert_sha256"] == pki.client.sha256
    assert line["client_cert_subject"] == "CN=client-1"
    assert line["client_cert_sans"] == ["dns:client-1.corp.example"]
    assert line["client_cert_proven"] is True


def test_absent_values_are_left_out() -> None:
    assert set(parsed()) == {
        *("time", "node", "worker", "generation", "connection", "listener", "server_group", "received_bytes"),
        *("sent_bytes", "connection_time_ms", "termination"),
    }


def test_rows_without_a_name() -> None:
    line = parsed(listener_row=200, group_row=access_log.NO_ROW, server_row=99)
    assert not {"listener", "server_group", "server"} & set(line)


def test_a_proxy_with_ipv6() -> None:
    line = parsed(proxy=bytes(15) + b"\1" + b"\0\1")
    assert (line["proxy_ip"], line["proxy_port"]) == ("::1", 1)


def test_ipv6() -> None:
    line = parsed(family=6, address=bytes.fromhex("20010db8" + "00" * 11 + "01"), port=1)
    assert (line["client_ip"], line["client_port"]) == ("2001:db8::1", 1)


@pytest.mark.parametrize(
    ("number", "name"), [(0x0301, "TLSv1"), (0x0302, "TLSv1.1"), (0x0303, "TLSv1.2"), (0x0304, "TLSv1.3"), (0, None)]
)
def test_versions(number: int, name: str | None) -> None:
    assert parsed(tls_version=number).get("tls_protocol_version") == name


def test_resumed_is_said_of_finished_handshakes_only() -> None:
    assert "tls_resumed" not in parsed(flags=access_log.RESUMED)
    assert parsed(handshake_us=1)["tls_resumed"] is False


def test_every_word() -> None:
    assert [parsed(termination=number)["termination"] for number in range(len(WORDS))] == list(WORDS)


HOSTILE = [
    b'"}\n{"forged":1,"x":"',
    b"a\r\nb",
    b"\x00\x1b[31m\x07\x08\x7f",
    "\u009b31m\u0085\u2028\u2029".encode(),
    b"\xff\xfe\xc3(",
    b"\xed\xa0\x80",
    b"\\x41",
    "\u202egpj.exe".encode(),
]


@pytest.mark.parametrize("said", HOSTILE, ids=repr)
def test_a_server_name_is_data(said: bytes) -> None:
    line = parsed(name=said, alpn=said)
    assert line["domain_name"] == line["alpn"] == said.decode(errors="backslashreplace")


@pytest.mark.parametrize("said", HOSTILE, ids=repr)
def test_no_control_character_reaches_a_terminal(said: bytes) -> None:
    """C0, DEL and C1 (U+009B is as good as ESC [) are escaped, and so are what some readers take for the end of a line."""
    text = access_log.line(record(name=said, alpn=said), 0, NAMES)
    harmful = [
        char for char in text.decode()[:-1] if ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u2028\u2029"
    ]
    assert harmful == []


@given(st.binary(max_size=300), st.binary(max_size=255), st.binary(max_size=300))
def test_whatever_a_client_says_is_one_line(name: bytes, alpn: bytes, der: bytes) -> None:
    line = parsed(name=name, alpn=alpn, der=der)
    assert line["termination"] == "client_close"
    assert ("client_cert_sha256" in line) == bool(der)


def test_a_certificate_that_is_only_claimed(pki: Pki) -> None:
    line = parsed(
        termination=int(Termination.EXPIRED), verify_error=10, detail=b"certificate has expired", der=pki.client.der
    )
    assert line["client_cert_proven"] is False
    assert (line["verify_result"], line["termination"]) == (10, "expired")
    assert line["termination_detail"] == "certificate has expired"


def test_a_certificate_of_a_version_that_does_not_exist(pki: Pki) -> None:
    """It must not cost the line, let alone the log writer."""
    der = pki.client.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
    line = parsed(termination=int(Termination.UNKNOWN_CA), verify_error=20, detail=b"unable", der=der)
    assert line["client_cert_proven"] is False


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, None),
        ({"detail": b"max_handshakes"}, "max_handshakes"),
        ({"detail_errno": errno.ECONNREFUSED}, "connection refused"),
        ({"detail": b"dialling", "detail_errno": errno.EMFILE}, "dialling: too many open files"),
        ({"detail_errno": 9999}, "unknown error 9999"),
        ({**OLD, "verify_depth": 1, "detail": b"too old"}, "too old, certificate at depth 1"),
        ({**OLD, "detail": b"too old"}, "too old"),
        ({**UNKNOWN, "verify_depth": 1, "detail": b"no issuer"}, "no issuer, certificate at depth 1"),
        ({**UNKNOWN, "der": b"broken"}, "issuer unknown not found"),
        ({"verify_error": 20, "detail": b"of something else"}, "of something else"),
    ],
    ids=repr,
)
def test_details(fields: dict[str, Any], text: str | None) -> None:
    assert parsed(**fields).get("termination_detail") == text


def test_the_issuer_that_is_missing(pki: Pki) -> None:
    line = parsed(**UNKNOWN, detail=b"unable to get local issuer certificate", der=pki.client.der)
    assert line["termination_detail"] == "issuer CN=Test Root not found"


@pytest.mark.parametrize(
    ("fields", "verdict", "detail"),
    [
        ({}, "accepted", None),
        ({"verdict": int(Termination.NO_CERTIFICATE)}, "no_certificate", None),
        ({"verdict": int(Termination.EXPIRED), "verify_error": 10}, "expired", "certificate has expired"),
        (
            {"verdict": int(Termination.EXPIRED), "verify_error": 10, "verify_depth": 2},
            "expired",
            "certificate has expired, certificate at depth 2",
        ),
        ({"verdict": int(Termination.UNKNOWN_CA), "verify_error": 20}, "unknown_ca", "issuer unknown not found"),
        ({"verdict": int(Termination.DENIED), "verify_error": 1002}, "denied", "an entry of deny matches"),
        (
            {"verdict": int(Termination.DENIED), "verify_error": 1002, "ruling": b"deny[0] cn:x"},
            "denied",
            "deny[0] cn:x",
        ),
    ],
)
def test_a_verdict(fields: dict[str, Any], verdict: str, detail: str | None) -> None:
    """Of a client that was let in whatever it had; how it ended has a reason of its own."""
    line = parsed(flags=access_log.REPORTED, detail=b"half_close_timeout", **fields)
    assert (line["client_cert_verdict"], line.get("client_cert_verdict_detail")) == (verdict, detail)
    assert (line["termination"], line["termination_detail"]) == ("client_close", "half_close_timeout")


def test_a_verdict_and_a_refusal_later() -> None:
    """When the mode has changed: the error is that of the refusal."""
    fields = {"termination": int(Termination.BECAME_REFUSED), "verify_error": 22, "detail": b"too long"}
    line = parsed(flags=access_log.REPORTED, verdict=int(Termination.UNKNOWN_CA), **fields)
    assert (line["client_cert_verdict"], line["termination_detail"]) == ("unknown_ca", "too long")
    assert "client_cert_verdict_detail" not in line


def test_events() -> None:
    data = record(kind=access_log.EVENT, termination=30, ended=1_500_000) + b"accept_failed"
    assert access_log.event(data) == (1.5, 30, "accept_failed")
    assert access_log.event(record(kind=access_log.EVENT) + b"\xff") == (0.0, int(Termination.CLIENT_CLOSE), "\ufffd")
    assert access_log.event(record()) is None


def test_names_of_a_directory() -> None:
    directory = {"node": "n", "listeners": {"0": "web"}, "groups": {"1": "app"}, "servers": {"7": "b", "0": "a"}}
    assert Names.of(directory) == Names("n", {0: "web"}, {1: "app"}, {0: "a", 7: "b"})
    assert Names.of({}) == Names("", {}, {}, {})
