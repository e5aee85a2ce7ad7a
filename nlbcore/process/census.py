"""Who is connected, and ending them: asked of all workers at once, answered when they have.

A worker writes the records of its connections into a memfd of its own; who has asked gets the files and makes words of
them, so that neither the workers nor the supervisor parse what strangers sent.
"""

from __future__ import annotations

import array
import os
from typing import TYPE_CHECKING, Any

from nlbcore.errors import NlbError
from nlbcore.process.channel import Message
from nlbcore.process.errand import Errand

if TYPE_CHECKING:
    from collections.abc import Callable

    from nlbcore.process.fleet import Fleet
    from nlbcore.process.slot import Slot

NUMBERS = 2**63


def connections(fleet: Fleet, finished: Callable[[list[int], list[int]], None]) -> None:
    """Ask who is connected.

    Args:
        fleet: the workers
        finished: gets the slots that have answered, and for each a file of records, which it owns
    """
    files: dict[int, int] = {}

    def message(slot: Slot) -> Message:
        files[slot.number] = os.memfd_create("nlb-connections", os.MFD_CLOEXEC)
        return Message("DUMP", fds=(files[slot.number],))

    def done(answers: dict[int, int]) -> None:
        for slot in files.keys() - answers.keys():
            os.close(files[slot])
        slots = sorted(answers)
        for slot in slots:
            os.lseek(files[slot], 0, os.SEEK_SET)
        finished(slots, [files[slot] for slot in slots])

    fleet.send_out(Errand("DUMPED", done), message)


def silent(fleet: Fleet, answered: list[int]) -> list[int]:
    """The slots whose workers have not answered: they hang, or have just begun."""
    return [slot.number for slot in fleet.slots if slot.pid and slot.number not in answered]


def kill(fleet: Fleet, numbers: Any, finished: Callable[[int], None]) -> None:
    """End the connections with these numbers.

    Args:
        fleet: the workers
        numbers: as they came from the control socket
        finished: gets how many there were
    Raises:
        NlbError: they are no numbers of connections
    """
    if not isinstance(numbers, list) or not all(type(one) is int and 0 <= one < NUMBERS for one in numbers):
        raise NlbError('"connections" is a list of the numbers that `nlb conns` shows')
    file = os.memfd_create("nlb-kill", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(file), "wb") as out:
            out.write(array.array("Q", numbers).tobytes())
        fleet.send_out(
            Errand("KILLED", lambda answers: finished(sum(answers.values()))),
            lambda _slot: Message("KILL", fds=(file,)),
        )
    finally:
        os.close(file)
