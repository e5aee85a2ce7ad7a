"""Short runs of the generator; echoes that break what they send back, each in one way, once enough has gone well."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from nlbbench.load import run
from nlbbench.spec import Load, Population, PopulationOutcome, Target, Work
from tests.support.backends import Seen, reset

GOOD = 3000
"""Bytes of a connection that come back as they should, before something is broken."""


def one(target: Target, work: Work, *, processes: int = 1, timeout: float = 5.0, **fields: Any) -> PopulationOutcome:
    """Run one population by count, without a warm-up."""
    outcome = run(
        Load(
            target,
            (Population("one", work, **fields),),
            duration=None,
            warmup=0.0,
            processes=processes,
            timeout=timeout,
        )
    )
    return outcome.populations[0]


def breaking(change: Callable[[Seen, bytes], bytes | None]) -> Callable[[Seen], None]:
    """An echo that gives what comes behind GOOD bytes to `change` once: bytes to send instead, None to end."""

    def serve(seen: Seen) -> None:
        done = 0
        broken = False
        with contextlib.suppress(OSError):
            while data := seen.recv():
                if done < GOOD or broken:
                    seen.send(data)
                else:
                    broken = True
                    changed = change(seen, data)
                    if changed is None:
                        return
                    seen.send(changed)
                done += len(data)

    return serve


def cut(seen: Seen, _data: bytes) -> None:
    reset(seen.sock)


BROKEN: dict[str, Callable[[Seen], None]] = {
    "drops": breaking(lambda _seen, data: data[:7] + data[8:]),
    "doubles": breaking(lambda _seen, data: data[:7] + data[6:]),
    "repeats": breaking(lambda _seen, data: data + data),
    "corrupts": breaking(lambda _seen, data: data[:7] + bytes([data[7] ^ 1]) + data[8:]),
    "swaps": breaking(lambda _seen, data: data[8:16] + data[:8] + data[16:]),
    "truncates": breaking(lambda _seen, _data: None),
    "cuts": breaking(cut),
    "swallows": breaking(lambda _seen, _data: b""),
}
