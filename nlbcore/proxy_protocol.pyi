import os
from collections.abc import Iterable
from typing import Literal, NamedTuple, final

from _typeshed import ReadableBuffer

class Header(NamedTuple):
    version: int
    local: bool
    source: tuple[str, int] | bytes | None
    destination: tuple[str, int] | bytes | None

@final
class Parser:
    def feed(self, data: ReadableBuffer) -> int: ...
    @property
    def header(self) -> Header | None: ...

def encode(
    version: Literal[1, 2],
    source: tuple[str, int] | str | bytes | os.PathLike[str] | None = None,
    destination: tuple[str, int] | str | bytes | os.PathLike[str] | None = None,
    *,
    local: bool = False,
    tlvs: Iterable[tuple[int, bytes]] = (),
) -> bytes: ...
