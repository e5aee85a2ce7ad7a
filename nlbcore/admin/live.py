"""The live connections: only the workers know them, so the supervisor is asked."""

from __future__ import annotations

import asyncio  # noqa: TID251 - in the admin process only, which has nothing but HTTP to serve
import contextlib
import os
from itertools import islice
from typing import TYPE_CHECKING, Any

from nlbcore.errors import BusyError
from nlbcore.observe import connections

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nlbcore.facts import Facts

PATIENCE = 10.0
"""Seconds for an answer, the wait for those who asked before included."""
_SLICE = 100  # records that are read before somebody else is served


class Connections:
    """Asks the supervisor, for one request at a time.

    Args:
        facts: what the supervisor has published
        ask: sends the question; False when that is not possible
    """

    def __init__(self, facts: Facts, ask: Callable[[], bool]) -> None:
        self._facts = facts
        self._ask = ask
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[tuple[dict[str, Any], list[int]]] | None = None

    async def listed(self, limit: int) -> dict[str, Any]:
        """At most `limit` connections, as objects with the fields of the access log, whether there are more, and the
        workers that do not answer, or whose list cannot be read.

        Raises:
            BusyError: no answer in time
        """
        try:
            async with asyncio.timeout(PATIENCE), self._turn:
                answer, fds = await self._asked()
                try:
                    return await self._read(answer, fds, limit)
                finally:
                    _close(fds)
        except TimeoutError:
            raise BusyError("the balancer does not say who is connected; try again") from None

    async def _asked(self) -> tuple[dict[str, Any], list[int]]:
        self._answer = asyncio.get_running_loop().create_future()
        try:
            if not self._ask():
                raise TimeoutError
            return await self._answer
        finally:
            self._answer = None

    async def _read(self, answer: dict[str, Any], fds: list[int], limit: int) -> dict[str, Any]:
        found = connections.Connections({**self._facts.read(), **answer}, fds)
        coming = iter(found)
        listed: list[dict[str, Any]] = []
        while len(listed) <= limit and (some := list(islice(coming, min(_SLICE, limit + 1 - len(listed))))):
            listed += some
            await asyncio.sleep(0)
        return {"connections": listed[:limit], "truncated": len(listed) > limit, "unreadable": found.unreadable}

    def answered(self, answer: dict[str, Any], fds: list[int]) -> None:
        """What the supervisor says: which workers, and a descriptor of each; ours from now on. Nobody may wait any more."""
        if self._answer is None or self._answer.done():
            _close(fds)
        else:
            self._answer.set_result((answer, fds))


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
