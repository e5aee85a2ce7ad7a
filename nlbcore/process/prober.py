"""The prober: asks the servers whether they live, and is the only one who writes verdicts into the segment.

Started by the supervisor with fork and **exec**: it has no key in its memory, and its event loop, asyncio, is in no
other process (``probing`` is imported by `main` alone). It ends when its control socket does. One that has died is replaced
and goes on from the verdicts that stand.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import setproctitle

from nlbcore.pool import health
from nlbcore.process.attendant import ignore_signals

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Orders:
    """What the prober is started with, as JSON in its argument: descriptors that it inherits, and how to write events.

    Attributes:
        segment: the segment's memfd
        control: our end of the control socket
        events: the event log
        checks: a memfd of `checks_memfd`
        level: least severe event that is written
        format: of the event log
    """

    DESCRIPTORS: ClassVar[tuple[str, ...]] = ("segment", "control", "events", "checks")

    segment: int
    control: int
    events: int
    checks: int
    level: str
    format: Literal["text", "json"]

    def command(self) -> list[str]:
        return [sys.executable, "-P", "-m", __name__, json.dumps(asdict(self))]


def checks_memfd(checks: Iterable[health.Check]) -> int:
    """Write all checks, also the disabled ones, into a memfd: thousands of servers do not fit into an argument.

    The caller owns the descriptor; any number of probers can be given it.
    """
    fd = os.memfd_create("nlb-checks", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "w") as out:
        out.write(health.to_json(checks))
    return fd


def read_checks(fd: int) -> list[health.Check]:
    """What `checks_memfd` wrote, wherever others have left the file's offset."""
    return health.from_json(os.pread(fd, os.fstat(fd).st_size, 0))


def main() -> None:
    ignore_signals()
    setproctitle.setproctitle("nlb: prober")
    from nlbcore.process import probing

    probing.run(Orders(**json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
