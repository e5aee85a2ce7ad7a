"""The watcher as the process it is: every way to exchange a file is told once, when it is over, and nothing else is."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import pytest

from nlbcore.process.attendant import hear, say
from nlbcore.process.watcher import Orders, paths_memfd, read_paths
from nlbcore.segment import HEARTS, Segment
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUIET = 0.2


class Watching:
    """A watcher of these paths; more of them one after the other if the first one ends."""

    def __init__(self, folder: Path, *paths: Path, **orders: Any) -> None:
        self.segment = Segment.create(1)
        self.log = folder / "events.log"
        self.events = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listed = paths_memfd(paths)
        self.settings: dict[str, Any] = {"level": "debug", "quiet": QUIET, **orders}
        with theirs:
            given = Orders(self.segment.fd, theirs.fileno(), self.events, listed, **self.settings)
            self.process = subprocess.Popen(
                given.command(),
                pass_fds=[getattr(given, name) for name in Orders.DESCRIPTORS],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        os.close(listed)
        self.control.settimeout(20)
        assert hear(self.control) == ({"say": "ready"}, [])

    def renew(self, *paths: Path, level: str = "debug") -> None:
        """New orders."""
        listed = paths_memfd(paths)
        fields = asdict(Orders(-1, -1, 0, 1, **{**self.settings, "level": level}))
        assert say(self.control, {"orders": fields}, [self.events, listed])
        os.close(listed)

    def told(self) -> float:
        """It says that something has changed, once; seconds until then."""
        began = time.monotonic()
        assert hear(self.control) == ({"say": "changed"}, [])
        return time.monotonic() - began

    def says_nothing(self, seconds: float = 2 * QUIET) -> None:
        self.control.settimeout(seconds)
        with pytest.raises(TimeoutError):
            hear(self.control)
        self.control.settimeout(20)

    def heart(self) -> int:
        return int(self.segment.shared.hearts[HEARTS.index("watcher")])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failed: object) -> None:
        self.control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        status = self.process.wait()
        os.close(self.events)
        os.close(self.segment.fd)
        del self.segment
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            said = stderr.read()
        if failed[0] is None:
            assert (status, said) == (0, b"")


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def swap(link: Path, target: str) -> None:
    """Another target in one step, as the kubelet and certbot do it."""
    temporary = link.with_name(f"{link.name}_tmp")
    temporary.symlink_to(target)
    temporary.rename(link)


@pytest.fixture
def material(tmp_path: Path) -> Iterator[Path]:
    """The folder to watch; the log is elsewhere."""
    folder = tmp_path / "material"
    folder.mkdir()
    yield folder


def test_orders() -> None:
    fd = paths_memfd(["/a", "/\udcff"])
    assert not os.get_inheritable(fd)
    assert read_paths(fd) == read_paths(fd) == ["/a", "/\udcff"]
    os.close(fd)
    orders = Orders(3, 4, 2, 5, "info")
    assert orders.command()[1:4] == ["-P", "-m", "nlbcore.process.watcher"]


def renamed(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = write(folder / "a.crt", "old")
    return path, lambda: write(folder / ".a.crt.new", "new").rename(path)


def written(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = write(folder / "a.crt", "old")
    return path, lambda: path.write_text("new")


def kubernetes(folder: Path) -> tuple[Path, Callable[[], object]]:
    write(folder / "..1" / "tls.crt")
    (folder / "..data").symlink_to("..1")
    (folder / "tls.crt").symlink_to("..data/tls.crt")

    def update() -> None:
        write(folder / "..2" / "tls.crt")
        swap(folder / "..data", "..2")
        (folder / "..1" / "tls.crt").unlink()
        (folder / "..1").rmdir()

    return folder / "tls.crt", update


def certbot(folder: Path) -> tuple[Path, Callable[[], object]]:
    write(folder / "archive" / "example" / "cert1.pem")
    live = folder / "live" / "example" / "cert.pem"
    live.parent.mkdir(parents=True)
    live.symlink_to("../../archive/example/cert1.pem")

    def renew() -> None:
        write(folder / "archive" / "example" / "cert2.pem")
        live.unlink()
        live.symlink_to("../../archive/example/cert2.pem")

    return live, renew


def linked_file(folder: Path) -> tuple[Path, Callable[[], object]]:
    """What a link points at is written; nothing happens in the link's folder."""
    target = write(folder / "elsewhere" / "a.crt")
    (folder / "links").mkdir()
    (folder / "links" / "a.crt").symlink_to(target)
    return folder / "links" / "a.crt", lambda: target.write_text("new")


def folder_on_the_way(folder: Path) -> tuple[Path, Callable[[], object]]:
    write(folder / "new" / "b" / "c" / "a.crt", "new")
    path = write(folder / "a" / "b" / "c" / "a.crt", "old")

    def exchange() -> None:
        (folder / "a").rename(folder / "old")
        (folder / "new").rename(folder / "a")

    return path, exchange


def deleted_and_made_anew(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = write(folder / "a" / "b" / "a.crt")

    def anew() -> None:
        path.unlink()
        path.parent.rmdir()
        path.parent.parent.rmdir()
        write(path)

    return path, anew


def not_there_yet(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = folder / "a" / "b" / "a.crt"
    return path, lambda: write(path)


def deleted(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = write(folder / "a.crt")
    return path, path.unlink


@pytest.mark.parametrize(
    "layout",
    [
        renamed,
        written,
        kubernetes,
        certbot,
        linked_file,
        folder_on_the_way,
        deleted_and_made_anew,
        not_there_yet,
        deleted,
    ],
    ids=lambda layout: layout.__name__,
)
def test_every_way_to_exchange_a_file(
    tmp_path: Path, material: Path, layout: Callable[[Path], tuple[Path, Callable[[], object]]]
) -> None:
    """Told once, and the next change too; by inotify, for the looks from time to time are too rare for that."""
    path, change = layout(material)
    with Watching(tmp_path, path) as watching:
        change()
        assert QUIET * 0.9 <= watching.told() < 1.5
        if path.exists():
            path.write_text("again")
        else:
            write(path)
        assert watching.told() < 1.5
        watching.says_nothing()
        assert [line.partition(" ")[2] for line in watching.log.read_text().splitlines()] == [
            f"info files_changed file={path} count=1"
        ] * 2


def test_what_is_not_named_is_nothing(tmp_path: Path, material: Path) -> None:
    path = write(material / "a.crt")
    with Watching(tmp_path, path) as watching:
        for number in range(20):
            write(material / f"other{number}").rename(material / "other")
        (material / "folder").mkdir()
        (material / os.fsdecode(b"\xff")).touch()
        os.link(path, material / "backup")
        path.read_text()
        before = watching.heart()
        watching.says_nothing()
        assert watching.heart() > before


def test_a_burst_is_one_change(tmp_path: Path, material: Path) -> None:
    paths = [write(material / name) for name in ("a.crt", "a.key", "ca.crt")]
    with Watching(tmp_path, *paths) as watching:
        end = time.monotonic() + 2 * QUIET
        pauses = [0.0]
        while (now := time.monotonic()) < end:
            for path in paths:
                write(material / "new", str(now)).rename(path)
            time.sleep(QUIET / 10)
            pauses.append(time.monotonic() - now)
        assert watching.told() < 1.5
        if max(pauses) < QUIET / 2:  # else this machine has made a pause of its own, which ends a burst
            watching.says_nothing()
            assert "count=3" in watching.log.read_text()


def test_changes_without_end_are_told_all_the_same(tmp_path: Path, material: Path) -> None:
    path = write(material / "a.crt")
    with Watching(tmp_path, path, patience=2 * QUIET) as watching:
        began = time.monotonic()
        told = 0
        while told < 2 and time.monotonic() - began < 10:
            path.write_text(str(time.monotonic()))
            watching.control.settimeout(QUIET / 10)
            with contextlib.suppress(TimeoutError):
                assert hear(watching.control) is not None
                told += 1
                assert time.monotonic() - began >= told * 2 * QUIET * 0.9
        assert told == 2


def test_new_orders(tmp_path: Path, material: Path) -> None:
    """Another list and another level; what is on both lists and has changed is not forgotten."""
    one, two, both = (write(material / name / "a.crt") for name in ("one", "two", "both"))
    with Watching(tmp_path, one, both) as watching:
        both.write_text("new")
        watching.renew(both, two, level="warning")
        watching.told()
        one.write_text("new")
        watching.says_nothing()
        two.write_text("new")
        watching.told()
        watching.says_nothing()
        assert watching.log.read_text() == ""


def test_what_changed_before_it_began(tmp_path: Path, material: Path) -> None:
    """Between the moment in which the supervisor read it and the first look; a link too."""
    target, old = write(material / "target"), write(material / "old")
    link = material / "link"
    link.symlink_to(target)
    time.sleep(0.05)
    since = time.time()
    with Watching(tmp_path, old, link, material / "missing", since=since) as watching:
        watching.says_nothing()
    time.sleep(0.05)
    swap(link, "target")
    with Watching(tmp_path, old, link, since=since) as watching:
        watching.told()
        watching.says_nothing()
        assert f"file={link} count=1" in watching.log.read_text().splitlines()[-1]


def test_a_supervisor_that_does_not_listen(tmp_path: Path, material: Path) -> None:
    """Nothing is lost, and nobody waits."""
    path = write(material / "a.crt")
    with Watching(tmp_path, path, quiet=0.01) as watching:
        for number in range(5):
            path.write_text("x" * (number + 2))
            wait_until(lambda: watching.log.read_text().count("files_changed") == number + 1, "told")  # noqa: B023
        for _ in range(5):
            watching.told()
        watching.says_nothing(0.3)
