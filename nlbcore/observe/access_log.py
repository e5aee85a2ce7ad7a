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
from typing import TYPE_CHECKING, Any

from nlbcore.engine.journal import record_layout
from nlbcore.observe.log import timestamp
from nlbcore.termination import word
from nlbcore.tls.identity import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCESS = 1
EVENT = 2
NO_ROW = 0xFFFF
RESUMED = 1
PROVEN = 2
DIGEST_ONLY = 4
NO_ISSUER = 20  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
VERSIONS = {0x0301: "TLSv1", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
_FORMAT, SIZE = record_layout()
_UNSEEN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON lets through and a terminal obeys: DEL, the C1 controls, line separators, changes of direction."""
_HEAD = struct.Struct(_FORMAT)


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
    return head[16] / 1e6, head[2], record[SIZE:].decode(errors="replace")


def line(record: bytes, worker: int, names: Names) -> bytes:
    """One line of the access log."""
    fields = {key: value for key, value in _fields(record, worker, names) if value is not None}
    text = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(fields, ensure_ascii=False))
    return text.encode(errors="backslashreplace") + b"\n"


def _fields(record: bytes, worker: int, names: Names) -> Iterator[tuple[str, object]]:
    """Every field in the order of the line. Long because it is that list."""
    (
        _,
        _,
        termination,
        flags,
        family,
        address,
        port,
        listener,
        group,
        server,
        version,
        generation,
        verify_error,
        depth,
        detail_errno,
        number,
        ended,
        received,
        sent,
        handshake_us,
        connect_us,
        connection_us,
        *sizes,
    ) = _HEAD.unpack_from(record)
    texts = []
    at = SIZE
    for size in sizes:
        texts.append(record[at : at + size])
        at += size
    cipher, named_group, server_name, alpn, detail, der = texts
    identity: dict[str, object] = {"client_cert_sha256": der.hex()} if flags & DIGEST_ONLY else describe(der)
    yield "time", timestamp(ended / 1e6)
    yield "node", names.node
    yield "worker", worker
    yield "generation", generation
    yield "connection", number
    yield "listener", names.listeners.get(listener)
    if family:
        yield "client_ip", str(ipaddress.ip_address(address[: 4 if family == 4 else 16]))
        yield "client_port", port
    yield "server_group", names.groups.get(group)
    yield "server", names.servers.get(server) if server != NO_ROW else None
    yield "tls_protocol_version", VERSIONS.get(version)
    yield "tls_cipher_suite", cipher.decode() or None
    yield "tls_named_group", named_group.decode() or None
    yield "tls_resumed", bool(flags & RESUMED) if handshake_us >= 0 else None
    yield "domain_name", server_name.decode(errors="backslashreplace") or None
    yield "alpn", alpn.decode(errors="backslashreplace") or None
    if der:
        yield from identity.items()
        yield "client_cert_proven", bool(flags & PROVEN)
        yield "verify_result", verify_error
    yield "received_bytes", received
    yield "sent_bytes", sent
    yield "tls_handshake_time_ms", _ms(handshake_us)
    yield "connect_time_ms", _ms(connect_us)
    yield "connection_time_ms", _ms(connection_us)
    yield "termination", word(termination)
    yield "termination_detail", _detail(detail.decode(), detail_errno, verify_error, depth, identity) or None


def _ms(microseconds: int) -> float | None:
    return None if microseconds < 0 else round(microseconds / 1000, 3)


def _detail(text: str, error: int, verify_error: int, depth: int, identity: dict[str, object]) -> str:
    """What the word alone does not say: the system's reason, which certificate of the chain, which issuer."""
    if error:
        reason = os.strerror(error)
        reason = reason[0].lower() + reason[1:]
        return f"{text}: {reason}" if text else reason
    if verify_error == NO_ISSUER and depth == 0:
        return f"issuer {identity.get('client_cert_issuer', 'unknown')} not found"
    return f"{text}, certificate at depth {depth}" if verify_error and depth else text
