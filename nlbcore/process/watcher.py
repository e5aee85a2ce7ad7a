"""The watcher: tells the supervisor when the configuration or a file that it names has changed (`[node] watch = true`).

Started by the supervisor with fork and **exec**: it needs to know where keys are, never what is in them. It only says that
there is something to look at; whether the files fit together the supervisor finds out, as in any reload. It ends when its
control socket does; one that has died is replaced, and finds by `since` what has changed meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import setproctitle

from nlbcore.process.attendant import ignore_signals

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Orders:
    """What the watcher is started with, as JSON in its argument; later ones can change all but `segment` and `control`.

    Attributes:
        segment: the segment's memfd
        control: see ``attendant``
        events: the event log
        paths: a memfd of `paths_memfd`
        level: least severe event that is written
        format: of the event log
        since: when the supervisor began to read the files, unix time: what has changed after it is told at once
        quiet: seconds without a change after which one is told
        patience: seconds after which it is told though there are ever more
    """

    DESCRIPTORS: ClassVar[tuple[str, ...]] = ("segment", "control", "events", "paths")

    segment: int
    control: int
    events: int
    paths: int
    level: str
    format: Literal["text", "json"] = "text"
    since: float | None = None
    quiet: float = 0.5
    patience: float = 5.0

    def command(self) -> list[str]:
        return [sys.executable, "-P", "-m", __name__, json.dumps(asdict(self))]


def paths_memfd(paths: Iterable[Path | str]) -> int:
    """Write absolute paths into a memfd: thousands of certificates do not fit into an argument.

    The caller owns the descriptor; any number of watchers can be started with it.
    """
    fd = os.memfd_create("nlb-paths", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "w") as out:
        json.dump([str(path) for path in paths], out)
    return fd


def read_paths(fd: int) -> list[str]:
    """What `paths_memfd` wrote, wherever others have left the file's offset."""
    return [str(path) for path in json.loads(os.pread(fd, os.fstat(fd).st_size, 0))]


def main() -> None:
    ignore_signals()
    setproctitle.setproctitle("nlb: watcher")
    from nlbcore.process import watching

    watching.run(Orders(**json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
