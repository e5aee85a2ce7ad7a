"""The protocol: what is encoded is decoded however the bytes are cut, and rubbish is told from messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlbcore.control import protocol
from nlbcore.control.protocol import ANSWER_LIMIT, REQUEST_LIMIT, Decoder, ProtocolError, encode
from nlbcore.errors import BusyError, NlbError, RefusedError
from tests.unit.control.running import frame

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
MESSAGES = st.lists(st.dictionaries(st.text(), JSON, max_size=5), max_size=5)


@given(MESSAGES, st.data())
def test_any_split_of_the_bytes(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    stream = b"".join(encode(message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    decoder, found = Decoder(ANSWER_LIMIT), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        decoder.feed(stream[start:end])
        while (message := decoder.next()) is not None:
            found.append(message)
    assert found == messages
    assert decoder.next() is None


@given(st.binary(max_size=200))
def test_rubbish_is_refused_or_waited_for(data: bytes) -> None:
    """Nothing but a ProtocolError ever comes out of it."""
    decoder = Decoder(REQUEST_LIMIT)
    decoder.feed(data)
    try:
        while (message := decoder.next()) is not None:
            assert isinstance(message, dict)
    except ProtocolError:
        pass


@given(st.binary(max_size=100))
def test_a_frame_of_rubbish(text: bytes) -> None:
    decoder = Decoder(REQUEST_LIMIT)
    decoder.feed(frame(text))
    try:
        assert decoder.next() == json.loads(text)
    except ProtocolError as error:
        assert "JSON" in str(error)


def test_the_frame() -> None:
    assert encode({"a": "é"}) == b'\x00\x00\x00\x0e{"a":"\\u00e9"}'
    assert protocol.request("status") == {"version": 1, "verb": "status", "arguments": {}}
    assert protocol.success({"a": 1}) == {"version": 1, "ok": True, "result": {"a": 1}}
    assert protocol.success({"a": 1}, 2) == {"version": 1, "ok": True, "result": {"a": 1}, "descriptors": 2}
    assert protocol.failure(BusyError("no")) == {"version": 1, "ok": False, "error": "no", "exit_code": 75}


def test_sizes() -> None:
    decoder = Decoder(100)
    decoder.feed(b"\x00\x00\x00\x65")
    with pytest.raises(ProtocolError, match="101 bytes is too large, 100 are allowed"):
        decoder.next()
    with pytest.raises(ProtocolError, match="too large"):
        encode({"a": "x" * 100}, 100)
    decoder = Decoder(100)
    decoder.feed(encode({"a": "x" * 92}, 100))
    assert decoder.next() == {"a": "x" * 92}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b'"a"', b"\xff{}", b'{"a":1}x', b"[" * 50_000, b'{"a":' + b"9" * 10_000 + b"}"],
    ids=lambda text: repr(text[:8]),
)
def test_no_message(text: bytes) -> None:
    decoder = Decoder(REQUEST_LIMIT)
    decoder.feed(frame(text))
    with pytest.raises(ProtocolError):
        decoder.next()


def test_a_request_is_read() -> None:
    assert protocol.read_request(protocol.request("stop", {"now": True})) == ("stop", {"now": True})
    assert protocol.read_request({"version": 1, "verb": "status"}) == ("status", {})


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({}, "without a protocol version"),
        ({"version": "1", "verb": "status"}, "without a protocol version"),
        ({"version": True, "verb": "status"}, "without a protocol version"),
        ({"version": 2, "verb": "status"}, "protocol version 2, the balancer speaks version 1"),
        ({"version": 1}, "no verb"),
        ({"version": 1, "verb": 5}, "no verb"),
        ({"version": 1, "verb": "status", "arguments": []}, "arguments are no object"),
    ],
)
def test_no_request(message: dict[str, Any], told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        protocol.read_request(message)


def test_an_answer_is_read() -> None:
    assert protocol.read_answer(protocol.success({"a": 1})) == {"a": 1}
    with pytest.raises(RefusedError, match="not now") as caught:
        protocol.read_answer(protocol.failure(BusyError("not now")))
    assert caught.value.exit_code == 75


@pytest.mark.parametrize(
    "message",
    [
        {"ok": True, "result": {}},
        {"version": 9, "ok": True, "result": {}},
        {"version": 1},
        {"version": 1, "ok": True},
        {"version": 1, "ok": True, "result": []},
        {"version": 1, "ok": False, "error": "x", "exit_code": 0},
        {"version": 1, "ok": False, "error": "x", "exit_code": True},
        {"version": 1, "ok": False, "error": "x", "exit_code": 256},
        {"version": 1, "ok": False, "exit_code": 1},
    ],
    ids=str,
)
def test_no_answer(message: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        protocol.read_answer(message)


def test_the_number_of_descriptors() -> None:
    assert protocol.descriptors(protocol.success({})) == 0
    assert protocol.descriptors(protocol.success({}, 250)) == 250
    for count in (-1, 251, "2", True, None):
        with pytest.raises(ProtocolError):
            protocol.descriptors({**protocol.success({}), "descriptors": count})


def test_errors_have_exit_codes() -> None:
    assert issubclass(ProtocolError, NlbError)
    assert ProtocolError("x").exit_code == 1
