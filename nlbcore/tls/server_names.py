"""Which certificates a client is shown who asks for a name, now and later: an expired one never where there is a valid one.

Several certificates may have one name: an RSA and an ECDSA one, of which the client's abilities choose; the next one beside
the one that ends soon. Of each kind of key the first in the file that is valid is shown. When none is valid that has the
name itself, the wildcard's are; and when those are not either, the first ones all the same: the last good beats none.

Certificates become valid and expire without a reload, so that the answer is not one set of certificates but windows of time,
one after the other. Nearly always there is one window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nlbcore.tls.material import ServerCertificate

EVER = 2**62
"""Unix seconds, before and after all that matters."""


class Window(NamedTuple):
    """From `since` until before `until` (Unix seconds) these are shown: numbers of certificates, one for each kind of key."""

    since: int
    until: int
    certificates: tuple[int, ...]


class ServerNames:
    """The names of a listener's certificates. Fill it with `add`, which is quick; nothing is chosen before it is asked for.

    Args:
        certificates: in the order of the file; there is at least one
        now: Unix seconds; what has been before it is left out
    """

    def __init__(self, certificates: Sequence[ServerCertificate], now: float) -> None:
        self._certificates = certificates
        self._now = now
        self._by_name: dict[str, list[int]] = {}

    def add(self, numbers: Iterable[int]) -> None:
        """Enter the names of some of the certificates, in order."""
        for number in numbers:
            for name in self._certificates[number].names:
                self._by_name.setdefault(name, []).append(number)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def windows(self, name: str) -> list[Window]:
        """What is shown to who asks for one of the names."""
        own = self._by_name[name]
        wildcard = [] if name.startswith("*.") else self._by_name.get(f"*.{name.partition('.')[2]}", [])
        return self._windows(own, wildcard if len(own) + len(wildcard) > 1 else [])

    def fallback(self) -> list[Window]:
        """What is shown to who names nobody that is known: the first certificate, with those that share its names."""
        sharing = {number for name in self._certificates[0].names for number in self._by_name.get(name, ())}
        return self._windows([0, *sorted(sharing - {0})], [])

    def _windows(self, own: Sequence[int], wildcard: Sequence[int]) -> list[Window]:
        if len(own) == 1 and not wildcard:
            return [Window(-EVER, EVER, (own[0],))]
        edges = {edge for number in (*own, *wildcard) for edge in self._life(number) if edge > self._now}
        starts = [-EVER, *sorted(edges)]
        found: list[Window] = []
        for since, until in zip(starts, [*starts[1:], EVER], strict=True):
            moment = max(since, self._now)
            valid = [[number for number in some if self._valid(number, moment)] for some in (own, wildcard)]
            chosen = self._one_of_each_kind(valid[0] or valid[1] or own)
            if found and found[-1].certificates == chosen:
                since = found.pop().since  # noqa: PLW2901 - one window with the one before
            found.append(Window(since, until, chosen))
        return found

    def _life(self, number: int) -> tuple[int, int]:
        """When it becomes valid, and when it is no longer."""
        one = self._certificates[number]
        return int(one.not_before.timestamp()), int(one.not_after.timestamp()) + 1

    def _valid(self, number: int, moment: float) -> bool:
        first, end = self._life(number)
        return first <= moment < end

    def _one_of_each_kind(self, numbers: Iterable[int]) -> tuple[int, ...]:
        kinds: dict[str, int] = {}
        for number in numbers:
            kinds.setdefault(self._certificates[number].key_type, number)
        return tuple(sorted(kinds.values()))
