"""A reader for BER and DER, as far as PKCS#12 files need one: `cryptography` opens them but does not say how they are locked.

Java, NSS and old keychains write indefinite lengths and octet strings in pieces (BER), so both are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

INTEGER = 0x02
OCTETS = 0x04
OID = 0x06
SEQUENCE = 0x30
_CONSTRUCTED = 0x20
MAX_DEPTH = 40
"""Of indefinite lengths within each other: their end is found by reading all that is inside."""


class BadEncoding(ValueError):  # noqa: N818 - the data are bad
    """These bytes are not what they should be."""


@dataclass(frozen=True)
class Node:
    """One value: its tag (the whole identifier byte), what is in it, and all its bytes with tag and length."""

    tag: int
    content: bytes
    encoded: bytes

    def children(self) -> list[Node]:
        if not self.tag & _CONSTRUCTED:
            raise BadEncoding("a value without parts")
        return list(_nodes(self.content, 0))

    def child(self, number: int) -> Node:
        children = self.children()
        if number >= len(children):
            raise BadEncoding("a part is missing")
        return children[number]

    def octets(self) -> bytes:
        """An octet string, which BER may have cut into pieces. Its tag may be an implicit one."""
        if not self.tag & _CONSTRUCTED:
            return self.content
        return b"".join(piece.octets() for piece in self.children())

    def integer(self) -> int:
        if self.tag != INTEGER or not self.content:
            raise BadEncoding("a number is missing")
        return int.from_bytes(self.content, signed=True)

    def oid(self) -> str:
        if self.tag != OID or not self.content or self.content[-1] & 0x80:
            raise BadEncoding("an object identifier is missing")
        arcs, value = [], 0
        for byte in self.content:
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def read(data: bytes) -> Node:
    """The one value that these bytes are; what follows it is not looked at.

    Raises:
        BadEncoding: they are none.
    """
    node, _ = _node(data, 0, 0)
    return node


def _nodes(data: bytes, depth: int) -> Iterator[Node]:
    position = 0
    while position < len(data):
        node, position = _node(data, position, depth)
        yield node


def _node(data: bytes, begin: int, depth: int) -> tuple[Node, int]:
    """The value that begins there, and where the next one does."""
    if depth > MAX_DEPTH:
        raise BadEncoding("nested too deeply")
    if begin + 2 > len(data):
        raise BadEncoding("cut off")
    tag, length, position = data[begin], data[begin + 1], begin + 2
    if tag & 0x1F == 0x1F:
        raise BadEncoding("a tag of several bytes")
    if length == 0x80:
        if not tag & _CONSTRUCTED:
            raise BadEncoding("a plain value without a length")
        start = position
        while data[position : position + 2] != b"\0\0":
            _, position = _node(data, position, depth + 1)
        return Node(tag, data[start:position], data[begin : position + 2]), position + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(data[position : position + count])
        position += count
    end = position + length
    if end > len(data):
        raise BadEncoding("cut off")
    return Node(tag, data[position:end], data[begin:end]), end
