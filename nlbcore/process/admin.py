"""The admin process: metrics, health, JSON and the status page over HTTP (``nlbcore.admin``); it reads and changes nothing.

Started by the supervisor with fork and **exec**: a stranger's HTTP is parsed where no key is in memory, and asyncio,
uvicorn and starlette are in no other process (``serving`` is imported by `main` alone). The listening socket is the
supervisor's, so one that dies and is started again loses no connection that waits there. It says that it is ready on its
control socket, and ends when that does.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import setproctitle

from nlbcore.process.attendant import ignore_signals


@dataclass(frozen=True)
class Orders:
    """What the admin process is started with, as JSON in its argument; later ones can change `events` and `level`.

    Attributes:
        segment: the segment's memfd
        facts: the facts' memfd
        control: see ``attendant``
        listening: the socket to serve, already listening
        events: the event log
        level: least severe event that is written
        format: of the event log
        bind: the address that `listening` is bound to, as configured
    """

    DESCRIPTORS: ClassVar[tuple[str, ...]] = ("segment", "facts", "control", "listening", "events")

    segment: int
    facts: int
    control: int
    listening: int
    events: int
    level: str
    bind: str
    format: Literal["text", "json"] = "text"

    def command(self) -> list[str]:
        return [sys.executable, "-P", "-m", __name__, json.dumps(asdict(self))]


def main() -> None:
    ignore_signals()
    setproctitle.setproctitle("nlb: admin")
    from nlbcore.process import serving

    serving.run(Orders(**json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
