from collections.abc import Sequence
from typing import NamedTuple

from nlbcore.engine.hooks import ListenerPlan

class Examined(NamedTuple):
    word: str
    detail: str
    verify_error: int
    verify_depth: int
    authority: bytes

def examine(plan: ListenerPlan, chain: Sequence[bytes], at: int | None = None) -> Examined: ...
