from typing import NamedTuple, Self, final

NAMES: tuple[str, ...]

class Verdict(NamedTuple):
    word: str
    allowed: int | None
    denied: int | None
    unreadable: str | None

@final
class Rules:
    def __new__(cls, buffer: bytes | memoryview) -> Self: ...
    @property
    def number(self) -> int: ...
    def look(self, der: bytes) -> Verdict: ...
