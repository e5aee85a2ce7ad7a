"""What the watcher does: know each file by where its path leads and what is there, and tell when that is something else.

Theory of operation
-------------------
What counts is a *sight* of each named file: the real path that its name leads to through all symbolic links, and what
stat says of the file there; that of a folder changes with the names in it. A file that is renamed into place, a link that
is made to point elsewhere (Kubernetes' `..data`, certbot's `live`), a folder that is replaced on the way: each gives
another sight. A file beside it does not.

inotify only wakes us. It watches the folders in which a name on the way can change, those of links included, and the
folders between them for being moved or removed. Whenever a look finds other folders than the watched ones, all watches
are made anew, and then it looks once more: nothing can fall between. Where inotify sees nothing (network file systems,
folders that we may pass through but not read, no watches left) the looks that are made from time to time anyway do.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from inotify_simple import INotify as INotify  # type: ignore[import-untyped]  # noqa: PLC0414
from inotify_simple import flags as on

from nlbcore.observe.log import STDERR, EventLog
from nlbcore.process.attendant import BEAT, beat, close_all, hear, received, say
from nlbcore.process.watcher import Orders, read_paths
from nlbcore.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterable

_POLL = 2.0
"""Seconds between two looks that nothing has called for."""
_SOON = 0.1
"""Seconds between two looks while something goes on."""
_IDLE, _BUSY = 200, 10
"""A look is followed by a pause of at least so many times its own length, when nothing has called for it and when something
has: thousands of files cost half a percent of a processor, or ten while something goes on."""
_RETRY = 60.0
"""Seconds until inotify is tried again where there were no watches left."""
_LINKS = 40
"""Symbolic links on the way to one file, as in the kernel."""
_GONE = on.DELETE_SELF | on.MOVE_SELF
_NAMES = _GONE | on.CREATE | on.DELETE | on.MOVED_FROM | on.MOVED_TO | on.CLOSE_WRITE | on.ATTRIB
_LOST = _GONE | on.IGNORED | on.UNMOUNT
"""Events after which a watch is worth nothing, whatever has the folder's name and number now."""
_REASONS = {
    errno.ENOSPC: "no inotify watches are left (fs.inotify.max_user_watches)",
    errno.EMFILE: "no inotify instances are left (fs.inotify.max_user_instances), or no descriptors",
}


class Sight(NamedTuple):
    """What is at the end of a path.

    Attributes:
        path: where it is, without symbolic links
        status: what stat says of it that matters; the error number alone if there is nothing
        changed: when it, or a link on the way, last became what it is (unix time); 0 if there is nothing
    """

    path: str
    status: tuple[int, ...]
    changed: float


class Folder(NamedTuple):
    """A folder that has a say: which one it is, and whether the names in it matter or only that it stays."""

    device: int
    inode: int
    names: bool


class Look:
    """One look at the file system, in which nothing is asked twice."""

    def __init__(self) -> None:
        self.folders: dict[str, Folder] = {}
        self._known: dict[str, os.stat_result | int] = {}

    def follow(self, path: str) -> Sight:
        """Walk along an absolute path as the kernel would, and note the folders on the way."""
        here, changed, links = "", 0.0, 0  # the root's own name is empty: what follows begins with its slash
        rest = _parts(path)
        while rest:
            name = rest.pop()
            if name == "..":
                here = here.rpartition("/")[0]
                continue
            place = f"{here}/{name}"
            status = self._status(place)
            if isinstance(status, os.stat_result) and stat.S_ISDIR(status.st_mode) and rest:
                self._note(place, names=False)
                here = place
                continue
            self._note(here or "/", names=True)
            if isinstance(status, int):
                return Sight(place, (status,), 0.0)
            changed = max(changed, status.st_ctime)
            if not stat.S_ISLNK(status.st_mode):
                if stat.S_ISDIR(status.st_mode):  # a folder of files: its time changes with the names in it
                    self._note(place, names=True)
                return Sight(place, (errno.ENOTDIR,) if rest else _shown(status), changed)
            links += 1
            try:
                target = str(Path(place).readlink())
            except OSError as error:  # it was one a moment ago
                return Sight(place, (error.errno or 0,), 0.0)
            if links > _LINKS:
                return Sight(place, (errno.ELOOP,), 0.0)
            rest += _parts(target)
            if target.startswith("/"):
                here = ""
        return Sight(here or "/", (errno.EISDIR,), changed)

    def _status(self, place: str) -> os.stat_result | int:
        if place not in self._known:
            try:
                self._known[place] = os.lstat(place)
            except OSError as error:
                self._known[place] = error.errno or 0
        return self._known[place]

    def _note(self, folder: str, *, names: bool) -> None:
        status = self._status(folder)
        if isinstance(status, os.stat_result):
            before = self.folders.get(folder)
            names = names or (before is not None and before.names)
            self.folders[folder] = Folder(status.st_dev, status.st_ino, names)


def _parts(path: str) -> list[str]:
    """The names in a path, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _shown(status: os.stat_result) -> tuple[int, ...]:
    """Content and permissions; what a backup or a link elsewhere changes (atime, ctime, number of links) is left out."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_mtime_ns,
        status.st_size,
        status.st_mode,
        status.st_uid,
        status.st_gid,
    )


class Alarm:
    """inotify on folders: a descriptor that becomes readable when it is worth looking; -1 when there is none."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._inotify: INotify | None = None
        self._folders: dict[str, Folder] = {}
        self._stale = False
        self._not_before = 0.0

    @property
    def fd(self) -> int:
        return -1 if self._inotify is None else int(self._inotify.fileno())

    def cover(self, folders: dict[str, Folder]) -> bool:
        """Watch these; whether that is new, so that what has happened meanwhile was not seen."""
        now = time.monotonic()
        if now < self._not_before or (self._inotify is not None and folders == self._folders and not self._stale):
            return False
        made = None
        try:
            made = INotify(nonblocking=True)
            for path, folder in folders.items():
                _add(made, path, folder)
        except OSError as error:
            if made is not None:
                made.close()
            if not self._not_before:
                reason = _REASONS.get(error.errno or 0) or os.strerror(error.errno or 0).lower()
                self._events.event("warning", "watch_by_polling", error=reason, every=f"{_POLL:g}s")
            self._not_before = now + _RETRY
            self.close()
            return False
        if self._not_before:
            self._events.event("info", "watch_by_inotify")
            self._not_before = 0.0
        self.close()
        self._inotify, self._folders, self._stale = made, folders, False
        return True

    def answer(self) -> None:
        """It has rung: take what it says, and keep what that means for the watches."""
        if self._inotify is not None:
            self._stale |= any(event.mask & _LOST for event in self._inotify.read(timeout=0))

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None


def _add(inotify: INotify, path: str, folder: Folder) -> None:
    """One that is gone will be missed in the next look; one that we may not read is only looked at."""
    mask = (_NAMES if folder.names else _GONE) | on.ONLYDIR | on.DONT_FOLLOW | on.MASK_ADD
    try:
        inotify.add_watch(path, mask)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP):
            raise


class Watcher:
    """Looks, waits for quiet, tells."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.control = socket.socket(fileno=orders.control)
        self.segment = Segment(orders.segment)
        self.events = EventLog(orders.events, orders.level, orders.format)
        self.alarm = Alarm(self.events)
        self.sights: dict[str, Sight] = {}
        self.changed: dict[str, None] = {}
        """What has changed and is not told, in the order in which it was seen."""
        self.first = self.last = 0.0
        self.next_look = 0.0
        self.heard_from = 0.0  # alarms before it wait
        self.ended = False
        self._take_paths(orders)

    def run(self) -> None:
        """Until the control socket ends."""
        say(self.control, {"say": "ready"})
        while not self.ended:
            beat(self.segment, "watcher")
            now = time.monotonic()
            if now >= self.next_look:
                self.look()
            elif self.changed and now >= self._due:
                self._tell()
            else:
                self._wait(now)
        self.alarm.close()
        self.control.close()

    @property
    def _due(self) -> float:
        """When what has changed is told."""
        return min(self.last + self.orders.quiet, self.first + self.orders.patience)

    def _wait(self, now: float) -> None:
        """For orders, for an alarm or for the time to look; an alarm is not heard again right after a look."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        until = [now + BEAT, self.next_look]
        if self.changed:
            until.append(self._due)
        if self.alarm.fd >= 0:
            if now >= self.heard_from:
                poll.register(self.alarm.fd, select.POLLIN)
            else:
                until.append(self.heard_from)
        for fd, _ in poll.poll(max(0.0, min(until) - now) * 1000):
            if fd == self.alarm.fd:
                self.alarm.answer()
                self.next_look = 0.0
            else:
                self._hear()

    def look(self) -> None:
        """See what is there now; with new watches once more, and again while folders are moved about."""
        began = time.monotonic()
        for _ in range(5):
            look = Look()
            found = {path: look.follow(path) for path in self.sights}
            self._compare(found)
            if not self.alarm.cover(look.folders):
                break
        ended = time.monotonic()
        length = ended - began
        self.heard_from = ended + max(_SOON, length * _BUSY)
        self.next_look = self.heard_from if self.changed else ended + max(_POLL, length * _IDLE)

    def _compare(self, found: dict[str, Sight]) -> None:
        now = time.monotonic()
        for path, sight in found.items():
            if sight[:2] != self.sights[path][:2]:
                self.sights[path] = sight
                self._note(path, now)

    def _note(self, path: str, now: float) -> None:
        if not self.changed:
            self.first = now
        self.last = now
        self.changed[path] = None

    def _tell(self) -> None:
        if not say(self.control, {"say": "changed"}):  # it hears nothing now, or never again
            self.first = self.last = time.monotonic()
            return
        self.events.event("info", "files_changed", file=next(iter(self.changed)), count=len(self.changed))
        self.changed.clear()

    def _hear(self) -> None:
        heard = hear(self.control)
        if heard is None:
            self.ended = True
            return
        packet, fds = heard
        if "orders" in packet:
            self._obey(received(Orders, packet, fds))
            fds = [fd for fd in fds if fd != self.orders.events]
        close_all(fds)

    def _obey(self, new: Orders) -> None:
        old = self.orders
        self.orders = replace(new, segment=old.segment, control=old.control)
        self.events.fd = new.events
        self.events.format = new.format
        self.events.set_level(new.level)
        if old.events > STDERR and old.events != new.events:
            close_all([old.events])
        self._take_paths(new)

    def _take_paths(self, orders: Orders) -> None:
        """What is known of a file stays known. One that is new is as it is now; if it became so only after the supervisor
        has read it, that is a change.
        """
        look, now = Look(), time.monotonic()
        before, self.sights = self.sights, {}
        for path in read_paths(orders.paths):
            self.sights[path] = before.get(path) or look.follow(path)
            if path not in before and orders.since is not None and self.sights[path].changed > orders.since:
                self._note(path, now)
        self._forget(before.keys() - self.sights.keys())
        self.next_look = 0.0

    def _forget(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.changed.pop(path, None)


def run(orders: Orders) -> None:
    """Watch until the control socket ends."""
    Watcher(orders).run()
