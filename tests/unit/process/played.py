"""A fleet whose workers are played by the test: real slots and channels, no processes."""

from __future__ import annotations

import os
import selectors
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nlbcore.observe.log import EventLog
from nlbcore.process.channel import Channel, Message
from nlbcore.process.fleet import Fleet
from nlbcore.process.slot import State
from nlbcore.segment import Segment

if TYPE_CHECKING:
    from nlbcore.process.snapshot import Snapshot


class Played:
    """All workers run; their slots beat, so that nobody is taken for stuck.

    Args:
        count: of workers
        snapshot: the generation in force
        folder: for the event log
    """

    def __init__(self, count: int, snapshot: Snapshot, folder: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.segment = Segment.create(count + 1)
        self.log = folder / "events.log"
        self._events = os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.fleet = Fleet(count, {}, self.segment, -1, [], EventLog(self._events, "info"), self.selector)
        self.fleet.enforce(snapshot, -1)
        self.fleet._starting = False
        self.segment.use(count)
        self.ends: list[Channel] = []
        for slot in self.fleet.slots:
            slot.channel, end = Channel.pair()
            slot.state = State.RUNNING
            slot.living.add(snapshot.generation)
            self.ends.append(end)
            self.selector.register(slot.channel, selectors.EVENT_READ, partial(self.fleet._on_channel, slot))

    def heard(self, number: int) -> list[Message]:
        """What a worker has been told since the last time; the descriptors are the caller's."""
        found = []
        try:
            while (message := self.ends[number].receive()) is not None:
                found.append(message)
        except BlockingIOError:
            pass
        return found

    def say(self, number: int, *arguments: Any, **keys: Any) -> None:
        """A worker says something, and the fleet hears it."""
        assert self.ends[number].send(Message(*arguments, **keys))
        self.turn()

    def turn(self) -> None:
        """Hear everything that was said."""
        while events := self.selector.select(0):
            for key, mask in events:
                key.data(mask)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for slot, end in zip(self.fleet.slots, self.ends, strict=False):
            if slot.channel is not None:
                slot.channel.close()
            end.close()
        self.selector.close()
        os.close(self._events)
        os.close(self.segment.fd)
        del self.segment, self.fleet  # a mapping has a descriptor of its own
