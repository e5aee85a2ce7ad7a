r"""The protocol of the control socket: frames of JSON, a request and its answer, one at a time.

    0               4                           4 + length
    +---------------+---------------------------+
    | length        | one JSON object in UTF-8  |
    +---------------+---------------------------+
      big-endian, of the object alone

    request    {"version": 1, "verb": "status", "arguments": {}}
    answer     {"version": 1, "ok": true, "result": {...}}
               {"version": 1, "ok": true, "result": {...}, "descriptors": 2}
               {"version": 1, "ok": false, "error": "what a user is told", "exit_code": 75}

The exit code is the one that the command ends with. "descriptors" says how many come with the first byte of the frame
(SCM_RIGHTS); a client that does not expect them loses nothing but them. An answer may also be the end of the connection,
where the verb waits for the end of the balancer (`stop`). Nothing here knows of sockets: bytes in, messages out.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from nlbcore.errors import NlbError, RefusedError

VERSION = 1
REQUEST_LIMIT = 64 * 1024
ANSWER_LIMIT = 64 * 1024 * 1024
DESCRIPTORS = 250
"""The most that may come with an answer; the kernel passes 253."""
_LENGTH = struct.Struct(">I")

Message = dict[str, Any]


class ProtocolError(NlbError):
    """What came is not of this protocol, or of another version of it."""


def encode(message: Message, limit: int = ANSWER_LIMIT) -> bytes:
    """The frame of a message.

    Raises:
        ProtocolError: it is larger than the other side takes
    """
    text = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > limit:
        raise ProtocolError(f"a message of {len(text)} bytes is too large, {limit} are allowed")
    return _LENGTH.pack(len(text)) + text


class Decoder:
    """Finds the messages in a stream of bytes, however it is cut; after an error it is of no more use."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what has been received."""
        self._data += data

    def next(self) -> Message | None:
        """The next message, None while it is not complete.

        Raises:
            ProtocolError: it is too large, or no JSON object
        """
        if len(self._data) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._data)
        if length > self._limit:
            raise ProtocolError(f"a message of {length} bytes is too large, {self._limit} are allowed")
        end = _LENGTH.size + length
        if len(self._data) < end:
            return None
        text = bytes(self._data[_LENGTH.size : end])
        del self._data[:end]
        try:
            message = json.loads(text.decode())
        except (ValueError, RecursionError):
            raise ProtocolError("a message is not JSON") from None
        if not isinstance(message, dict):
            raise ProtocolError("a message is not a JSON object")
        return message


def request(verb: str, arguments: Message | None = None) -> Message:
    """A request."""
    return {"version": VERSION, "verb": verb, "arguments": arguments or {}}


def success(result: Message, descriptors: int = 0) -> Message:
    """The answer to a request that was carried out, and how many descriptors come with it."""
    answer: Message = {"version": VERSION, "ok": True, "result": result}
    return {**answer, "descriptors": descriptors} if descriptors else answer


def failure(error: NlbError) -> Message:
    """The answer to one that was not."""
    return {"version": VERSION, "ok": False, "error": str(error), "exit_code": error.exit_code}


def read_request(message: Message) -> tuple[str, Message]:
    """Verb and arguments of a request.

    Raises:
        ProtocolError: it is of another version, or none
    """
    _same_version(message, "the balancer")
    verb, arguments = message.get("verb"), message.get("arguments", {})
    if not isinstance(verb, str) or not isinstance(arguments, dict):
        raise ProtocolError("not a request: it has no verb, or its arguments are no object")
    return verb, arguments


def read_answer(message: Message) -> Message:
    """The result in an answer.

    Raises:
        RefusedError: the balancer said no
        ProtocolError: it is of another version, or no answer
    """
    _same_version(message, "this command")
    result = message.get("result")
    if message.get("ok") is True and isinstance(result, dict):
        return result
    error, exit_code = message.get("error"), message.get("exit_code")
    if message.get("ok") is False and isinstance(error, str) and type(exit_code) is int and 1 <= exit_code <= 255:
        raise RefusedError(error, exit_code)
    raise ProtocolError("what came back is not an answer of a balancer")


def descriptors(message: Message) -> int:
    """How many descriptors an answer came with when it was sent.

    Raises:
        ProtocolError: no number, or more than are allowed
    """
    count = message.get("descriptors", 0)
    if type(count) is not int or not 0 <= count <= DESCRIPTORS:
        raise ProtocolError("what came back is not an answer of a balancer")
    return count


def _same_version(message: Message, who: str) -> None:
    version = message.get("version")
    if type(version) is not int:
        raise ProtocolError("a message without a protocol version")
    if version != VERSION:
        raise ProtocolError(
            f"a message of protocol version {version}, {who} speaks version {VERSION}: "
            "the command and the running balancer are of different versions of nlb"
        )
