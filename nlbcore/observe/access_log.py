"""Records of the log ring into lines of the access log.

The engine writes a struct, a few texts and the client's certificate (``engine/journal.pxd`` draws the layout); here they
become one JSON object. Absent values are left out. Everything a client said is escaped by JSON.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nlbcore.engine.journal import record_layout, verify_text
from nlbcore.observe.log import timestamp
from nlbcore.termination import Termination, word
from nlbcore.tls.identity import describe, name_text, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCESS = 1
EVENT = 2
UNTOLD = 4
NO_ROW = 0xFFFF
RESUMED = 1
PROVEN = 2
DIGEST_ONLY = 4
REPORTED = 8
VERSIONS = {0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
_FORMAT, SIZE = record_layout()
_UNSEEN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON lets through and a terminal obeys: DEL, the C1 controls, line separators, changes of direction."""
_HEAD = struct.Struct(_FORMAT)
_ABOUT_CERTIFICATE = range(Termination.NO_CERTIFICATE, Termination.BECAME_REFUSED + 1)


class Head(NamedTuple):
    """What a record begins with: the fields of ``Record`` in ``engine/journal.pxd``, but for the sizes at its end."""

    size: int
    kind: int
    termination: int
    verdict: int
    flags: int
    family: int
    address: bytes
    port: int
    listener_row: int
    group_row: int
    server_row: int
    tls_version: int
    generation: int
    verify_error: int
    verify_depth: int
    detail_errno: int
    id: int
    ended: int
    received: int
    sent: int
    handshake_us: int
    connect_us: int
    connection_us: int


_FIELDS = len(Head._fields)
_ENDED = Head._fields.index("ended")


@dataclass(frozen=True)
class Names:
    """What the rows of a record mean, from the segment's directory."""

    node: str
    listeners: dict[int, str]
    groups: dict[int, str]
    servers: dict[int, str]

    @classmethod
    def of(cls, directory: dict[str, Any]) -> Names:
        return cls(
            directory.get("node", ""),
            *({int(row): name for row, name in directory.get(kind, {}).items()} for kind in _KINDS),
        )


_KINDS = ("listeners", "groups", "servers")


def size_of(head: bytes) -> int:
    """The size of the record that begins with these four bytes."""
    return int.from_bytes(head[:4], "little")


def event(record: bytes) -> tuple[float, int, str] | None:
    """Time, level and text of an event record; None for an access record."""
    head = _HEAD.unpack_from(record)
    if head[1] != EVENT:
        return None
    return head[_ENDED] / 1e6, head[2], record[SIZE:].decode(errors="replace")


def unpack(record: bytes) -> tuple[Head, list[bytes]]:
    """The head of a record and the texts behind it: cipher, named group, server name, ALPN, address and port
    of who has forwarded it, subject of the CA certificate that the verdict is about, what the rules say of one who is let in
    all the same, detail, certificate.
    """
    values = _HEAD.unpack_from(record)
    texts = []
    at = SIZE
    for size in values[_FIELDS:]:
        texts.append(record[at : at + size])
        at += size
    return Head._make(values[:_FIELDS]), texts


def line(record: bytes, worker: int, names: Names) -> bytes:
    """One line of the access log."""
    head, texts = unpack(record)
    identity = claimed(head, texts[-1])
    if head.kind == UNTOLD:
        return as_json(_untold(head, identity, worker, names)) + b"\n"
    fields = {
        "time": timestamp(head.ended / 1e6),
        "node": names.node,
        **described(head, texts, identity, worker, names),
        "termination": word(head.termination),
    }
    if detail := _detail(head, texts[-2].decode(), identity):
        fields["termination_detail"] = detail
    return as_json(fields) + b"\n"


def _untold(head: Head, identity: dict[str, object], worker: int, names: Names) -> dict[str, object]:
    """Refusals that are alike beyond those that have lines of their own: only how many they were."""
    fields = {
        "time": timestamp(head.ended / 1e6),
        "node": names.node,
        "worker": worker,
        "generation": head.generation,
        "listener": names.listeners.get(head.listener_row),
        **identity,
        "termination": word(head.termination),
        "suppressed": head.id,
    }
    return {key: value for key, value in fields.items() if value is not None}


def as_json(fields: dict[str, object]) -> bytes:
    """A JSON object in one line, in which nothing is left that a terminal obeys."""
    text = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(fields, ensure_ascii=False))
    return text.encode(errors="backslashreplace")


def claimed(head: Head, der: bytes) -> dict[str, object]:
    """The ``client_cert_*`` fields of the certificate that the client showed; proven or not, `head.flags` says."""
    if not der:
        return {}
    return {"client_cert_sha256": der.hex()} if head.flags & DIGEST_ONLY else describe(der)


def described(
    head: Head, texts: list[bytes], identity: dict[str, object], worker: int, names: Names
) -> dict[str, object]:
    """What a connection is and has done, in the order of the line and without what is absent; not how it ended."""
    fields = _fields(head, texts, identity, worker, names)
    return {key: value for key, value in fields if value is not None}


def _fields(
    head: Head, texts: list[bytes], identity: dict[str, object], worker: int, names: Names
) -> Iterator[tuple[str, object]]:
    cipher, named_group, server_name, alpn, proxy, authority, ruling, _, der = texts
    yield "worker", worker
    yield "generation", head.generation
    yield "connection", head.id
    yield "listener", names.listeners.get(head.listener_row)
    if head.family:
        yield "client_ip", str(ipaddress.ip_address(head.address[: 4 if head.family == 4 else 16]))
        yield "client_port", head.port
    if proxy:
        yield "proxy_ip", str(ipaddress.ip_address(proxy[:-2]))
        yield "proxy_port", int.from_bytes(proxy[-2:], "big")
    yield "server_group", names.groups.get(head.group_row)
    yield "server", names.servers.get(head.server_row) if head.server_row != NO_ROW else None
    yield "tls_protocol_version", VERSIONS.get(head.tls_version)
    yield "tls_cipher_suite", cipher.decode() or None
    yield "tls_named_group", named_group.decode() or None
    yield "tls_resumed", bool(head.flags & RESUMED) if head.handshake_us >= 0 else None
    yield "domain_name", server_name.decode(errors="backslashreplace") or None
    yield "alpn", alpn.decode(errors="backslashreplace") or None
    if der:
        yield from identity.items()
        yield "client_cert_proven", bool(head.flags & PROVEN)
        yield "verify_result", head.verify_error
    yield "verify_ca_subject", name_text(authority)
    if head.flags & REPORTED:
        yield "client_cert_verdict", word(head.verdict) if head.verdict else "accepted"
        yield "client_cert_verdict_detail", _verdict_detail(head, ruling.decode(), identity)
    yield "received_bytes", head.received
    yield "sent_bytes", head.sent
    yield "tls_handshake_time_ms", _ms(head.handshake_us)
    yield "connect_time_ms", _ms(head.connect_us)
    yield "connection_time_ms", _ms(head.connection_us)


def _ms(microseconds: int) -> float | None:
    return None if microseconds < 0 else round(microseconds / 1000, 3)


def _detail(head: Head, text: str, identity: dict[str, object]) -> str:
    """What the word alone does not say: the system's reason, which certificate of the chain, which issuer."""
    if head.detail_errno:
        said = os.strerror(head.detail_errno)
        said = said[0].lower() + said[1:]
        return f"{text}: {said}" if text else said
    return _verify_detail(head, text, identity) if head.termination in _ABOUT_CERTIFICATE else text


def _verdict_detail(head: Head, ruling: str, identity: dict[str, object]) -> str | None:
    """The same of what `report` would have been refused for; a re-check after it has a detail of its own."""
    if head.verify_error == 0 or head.termination in _ABOUT_CERTIFICATE:
        return None
    return _verify_detail(head, ruling or verify_text(head.verify_error), identity)


def _verify_detail(head: Head, text: str, identity: dict[str, object]) -> str:
    return reason(text, head.verify_error, head.verify_depth, identity.get("client_cert_issuer"))
