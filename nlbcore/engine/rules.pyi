from collections.abc import Buffer
from typing import NamedTuple, final

class Verdict(NamedTuple):
    word: str
    allowed: int | None
    denied: int | None
    unreadable: str | None

@final
class Rules:
    def __init__(self, buffer: Buffer) -> None: ...
    @property
    def number(self) -> int: ...
    def look(self, der: bytes) -> Verdict: ...
