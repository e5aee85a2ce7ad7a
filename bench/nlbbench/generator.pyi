from typing import Any

from nlbbench.board import Board

def generate(
    board: Board,
    process: int,
    *,
    address: bytes,
    family: int,
    context: int,
    store: int,
    name: bytes,
    plans: list[dict[str, Any]],
    timeout: int,
    grace: int,
    prime: bool,
) -> None: ...
