"""What the board's numbers mean: failures in words, and what the generator's processes cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nlbbench.spec import Failure, Sample

KINDS = tuple(Failure)
"""Numbered as board.Kind is."""
ALERT_REASON = 1000
"""A received alert N is OpenSSL's reason 1000 + N (sslerr.h)."""
ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""RFC 8446, 6; RFC 5246, 7.2."""


def failed(counts: Sequence[int]) -> dict[Failure, int]:
    """By kind; those that did not occur are left out."""
    return {KINDS[number]: count for number, count in enumerate(counts) if count}


def samples(found: Sequence[tuple[int, int, int, int, int, int]], begun: int) -> tuple[Sample, ...]:
    """The described failures, in the order of their times."""
    made = [
        Sample(KINDS[kind], describe(KINDS[kind], error, verify, code, right), (at - begun) / 1e9)
        for kind, at, error, verify, code, right in found
    ]
    return tuple(sorted(made, key=lambda one: one.at))


def describe(kind: Failure, error: int, verify: int, code: int, right: int) -> str:
    """A failure in words.

    Args:
        kind: its kind.
        error: OpenSSL's packed error, 0 for none.
        verify: the verification's result.
        code: errno, 0 for none.
        right: how many bytes of the answer had come, and were right.
    """
    if kind is Failure.ALERT:
        number = (error & 0x7FFFFF) - ALERT_REASON
        return f"the server sent the alert {ALERTS.get(number, 'of an unknown kind')} ({number})"
    if kind is Failure.CERTIFICATE:
        return f"the server's certificate: {_verification(verify)}"
    if kind is Failure.REFUSED:
        return f"connect: {os.strerror(code)}"
    if kind is Failure.HANDSHAKE:
        if code:
            return f"in the middle of the handshake: {os.strerror(code)}"
        return f"the handshake failed: {_reason(error)}" if error else "closed in the middle of the handshake"
    if kind is Failure.NOT_RESUMED:
        return "a full handshake, where a resumed one had to be"
    if kind is Failure.NOT_FULL:
        return "a resumed handshake, where a full one had to be"
    after = f"after {right} right bytes of the answer"
    if kind is Failure.RESET:
        return f"{os.strerror(code)}, {after}"
    if kind is Failure.TLS:
        return f"{_reason(error) if error else os.strerror(code)}, {after}"
    words = {
        Failure.TRUNCATED: "the stream ended",
        Failure.CORRUPT: "a wrong byte",
        Failure.SURPLUS: "more bytes than were asked for",
        Failure.TIMEOUT: "not over in time",
        Failure.UNFINISHED: "not over at the end",
    }
    return words[kind] if kind is Failure.SURPLUS else f"{words[kind]}, {after}"


def _reason(error: int) -> str:
    from cryptography.hazmat.bindings._rust import _openssl

    _openssl.lib.SSL_CTX_free(_openssl.lib.SSL_CTX_new(_openssl.lib.TLS_method()))  # the first one loads the texts
    text = _openssl.lib.ERR_reason_error_string(error)
    return f"OpenSSL error {error:#x}" if text == _openssl.ffi.NULL else _openssl.ffi.string(text).decode()


def _verification(result: int) -> str:
    from cryptography.hazmat.bindings._rust import _openssl

    said: str = _openssl.ffi.string(_openssl.lib.X509_verify_cert_error_string(result)).decode()
    return said


class _Cost(NamedTuple):
    on_cpu: int
    in_line: int


class Bill:
    """What the generator's processes cost between begin() and end(), by the kernel's scheduler statistics (ns)."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = pids
        self.before: list[_Cost] = []
        self.after: list[_Cost] = []

    def begin(self) -> None:
        """The measurement begins."""
        self.before = [_read(pid) for pid in self.pids]

    def end(self) -> None:
        """The measurement is over."""
        self.after = [_read(pid) for pid in self.pids]

    @property
    def cpu(self) -> float:
        """CPU seconds of all."""
        return sum(b.on_cpu - a.on_cpu for a, b in zip(self.before, self.after, strict=False)) / 1e9

    def shares(self, seconds: float) -> tuple[float, float]:
        """Of `seconds`: how much the busiest process was on a CPU, how much they waited for one on average."""
        if not self.after or seconds <= 0:
            return 0.0, 0.0
        pairs = list(zip(self.before, self.after, strict=True))
        busiest = max(b.on_cpu - a.on_cpu for a, b in pairs) / 1e9 / seconds
        waiting = sum(b.in_line - a.in_line for a, b in pairs) / 1e9 / seconds / len(pairs)
        return min(1.0, busiest), min(1.0, waiting)


def _read(pid: int) -> _Cost:
    """Time on a CPU and time in the run queue of a process with one thread (/proc/PID/schedstat)."""
    try:
        running, waiting, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except (OSError, ValueError):
        return _Cost(0, 0)
    return _Cost(int(running), int(waiting))
