"""The access log for human eyes."""

from __future__ import annotations

import pytest

from nlbcli._demo_view import readable

PROVEN = {
    "time": "2026-11-22T12:00:00.000Z",
    "server": "a",
    "tls_protocol_version": "TLSv1.3",
    "client_cert_subject": "CN=client-1",
    "client_cert_proven": True,
    "received_bytes": 1079,
    "sent_bytes": 107,
    "connection_time_ms": 3.6,
    "termination": "server_close",
}
REFUSED = {
    "time": "2026-11-22T12:00:00.000Z",
    "client_cert_subject": "CN=client-2",
    "client_cert_proven": False,
    "received_bytes": 0,
    "sent_bytes": 0,
    "termination": "revoked",
}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_a_connection() -> None:
    text = readable(PROVEN)
    assert text.plain == (
        "12:00:00  server_close     -> a  CN=client-1             TLSv1.3, 1,079 B in, 107 B out, 4 ms"
    )
    assert "green" in [span.style for span in text.spans]


def test_a_refusal() -> None:
    text = readable(REFUSED)
    assert text.plain.rstrip() == "12:00:00  revoked                CN=client-2 (claimed)"
    assert "red" in [span.style for span in text.spans]


def test_an_odd_end() -> None:
    assert "yellow" in [span.style for span in readable({**PROVEN, "termination": "idle_timeout"}).spans]


def test_almost_nothing() -> None:
    assert readable({}).plain.split() == ["?", "no", "certificate"]


def test_a_terminal_obeys_no_client() -> None:
    text = readable({**REFUSED, "client_cert_subject": "CN=\x1b[2J\u202e\n\u009b[bold]x"}).plain
    assert "CN=?[2J???[bold]x (claimed)" in text
