"""Servers that demand a PROXY header, and read it with a parser that is not ours (the proxy-protocol package)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from proxyprotocol import ProxyProtocolIncompleteError
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from tests.support.backends import Backend, Seen, echo
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxyprotocol.result import ProxyResult

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def header_v2(rest: bytes = b"", *, command: int = 0x21, family: int = 0x11, size: int | None = None) -> bytes:
    """A header of version 2, with whatever is wrong in it."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest) if size is None else size) + rest


class Proxied:
    """A server's manner: read the header byte by byte, keep it, go on with another manner.

    Attributes:
        results: what the headers say, one for each connection that has had one
        raw: the headers themselves
    """

    def __init__(self, serve: Callable[[Seen], None] = echo) -> None:
        self._serve = serve
        self.results: list[Any] = []
        self.raw: list[bytes] = []

    def __call__(self, seen: Seen) -> None:
        data = b""
        while True:
            byte = seen.sock.recv(1)
            if not byte:
                return  # a bare connection, such as a check without a header
            data += byte
            result = parsed(data)
            if result is not None:
                break
        self.raw.append(data)
        self.results.append(result)
        self._serve(seen)

    def wait(self, count: int) -> Any:
        """The newest of so many headers."""
        wait_until(lambda: len(self.results) >= count, lambda: f"{count} PROXY headers, got {len(self.results)}")
        return self.results[count - 1]


def parsed(data: bytes) -> ProxyResult | None:
    """What a header says; None while it is not whole."""
    parser = ProxyProtocolV2() if data[:1] == b"\r" else ProxyProtocolV1()
    try:
        return parser.unpack(data)
    except ProxyProtocolIncompleteError:
        return None


def proxied_backend(serve: Callable[[Seen], None] = echo, **options: Any) -> tuple[Backend, Proxied]:
    """A server of that manner, and where its headers are."""
    manner = Proxied(serve)
    return Backend(manner, **options), manner
