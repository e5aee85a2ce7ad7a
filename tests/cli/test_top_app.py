"""The window, without a terminal: a real control server, real keys, sizes from none to huge."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual.pilot import Pilot

from nlbcli._top_app import HELP, HelpScreen, TopApp, watch
from nlbcli._top_watch import ask
from nlbcore.errors import NotRunningError
from tests.support.status import Status, later, status
from tests.unit.control.running import Loop

INTERVAL = 0.15
"""Short, but with moments of rest between two answers, which a pilot waits for."""
Story = Callable[[TopApp, "Pilot[None]"], Awaitable[None]]


class Balancer:
    """Answers to `status` as one does through which connections go, on a real control socket."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "nlb.sock"
        self.answer = status()

    def status(self, verb: str, arguments: Status) -> Status:
        self.answer = later(self.answer, refused=1)
        return self.answer

    def running(self) -> Loop:
        return Loop(self.path, self.status)


@pytest.fixture
def balancer(tmp_path: Path) -> Balancer:
    return Balancer(tmp_path)


def play(balancer: Balancer, story: Story, size: tuple[int, int] = (120, 40)) -> TopApp:
    """Run the window, let the story happen."""
    app = TopApp(balancer.path, INTERVAL, ask(balancer.path))

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await story(app, pilot)

    asyncio.run(run())
    return app


def screen(app: TopApp) -> str:
    """What is to be seen, as text."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    assert len(lines) <= height
    assert all(line.cell_length <= width for line in lines)
    return "\n".join("".join(segment.text for segment in line).rstrip() for line in lines)


async def until(pilot: Pilot[None], condition: Callable[[], Any], what: str) -> None:
    """Let the window live until the condition holds."""
    for _ in range(500):
        if condition():
            return
        await pilot.pause(0.02)
    raise AssertionError(f"not within 10 s: {what}\n{screen(pilot.app)}")  # type: ignore[arg-type]


async def sees(app: TopApp, pilot: Pilot[None], *words: str) -> None:
    await until(pilot, lambda: all(word in screen(app) for word in words), f"{words} on the screen")


def test_everything_at_a_glance(balancer: Balancer) -> None:
    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await sees(app, pilot, "nlb-1  running  generation 3 (+1 older)", "web", "no_certificate", "Unhealthy", "█")
        await until(pilot, lambda: app._shown.head.new, "a rate")
        for word in (
            "! worker 1 is down\n",
            "! the prober is silent\n",
            "10.0.0.1:80",
            "-0.5",
            "CN=Issuing",
            "prober",
            "q Quit",
        ):
            assert word in screen(app), word

    with balancer.running():
        app = play(balancer, story, size=(130, 50))
    assert app.return_code in (0, None)


def test_keys_show_one_table_and_all(balancer: Balancer) -> None:
    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        names = ("10.0.0.1:80", "0.0.0.0:443", "unknown_ca", "CN=Issuing", "longest stall")
        for key, name in (("2", names[0]), ("1", names[1]), ("3", names[2]), ("4", names[3]), ("5", names[4])):
            await pilot.press(key)
            await sees(app, pilot, name)
            assert [one for one in names if one in screen(app)] == [name], key
        await pilot.press("5")
        await sees(app, pilot, *names)
        await pilot.press("3", "0")
        await sees(app, pilot, *names)
        await pilot.click("#tabs", offset=(10, 1))
        await until(pilot, lambda: "CN=Issuing" not in screen(app), "a click does as the key does")
        assert names[1] in screen(app)

    with balancer.running():
        play(balancer, story, size=(130, 50))


def test_a_filter(balancer: Balancer) -> None:
    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"unh", "p")
        await sees(app, pilot, "filter: unhp", "Esc No filter")
        assert "Slower" not in screen(app)
        assert not app._paused, "a key typed into the filter is a letter"
        await pilot.press("backspace", "enter")
        await sees(app, pilot, "filter: unh", "10.0.0.2:80", "1 of 3")
        assert "10.0.0.1:80" not in screen(app)
        await pilot.press("p")
        await until(pilot, lambda: app._paused, "keys are keys again")
        await pilot.press("slash", "slash", "minus", "plus", "0", "space", "escape", "escape")
        assert (app._poller.interval, app._alone, app._sought) == (INTERVAL, 0, "")
        await pilot.press("escape")
        await sees(app, pilot, "10.0.0.1:80")
        assert "filter:" not in screen(app)
        await until(pilot, lambda: "No filter" not in screen(app), "nothing to remove")

    with balancer.running():
        play(balancer, story)


def test_pause_and_interval(balancer: Balancer) -> None:
    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await sees(app, pilot, "PAUSED")
        shown, seen = app._shown, app._watch.frame
        await until(pilot, lambda: app._watch.frame is not seen, "answers go on")
        assert app._shown is shown
        await pilot.press("p")
        await until(pilot, lambda: app._shown is not shown, "it goes on")
        assert "PAUSED" not in screen(app)
        await pilot.press("minus", "minus")
        assert app._poller.interval == 0.1, "never less than that"
        await pilot.press("plus", "plus")
        await sees(app, pilot, "every 0.5 s")
        await pilot.press("minus")
        await sees(app, pilot, "every 0.2 s")
        await pilot.press(*["plus"] * 7, "p")
        await sees(app, pilot, "every 60 s", "PAUSED")
        await pilot.resize_terminal(20, 5)
        await sees(app, pilot, "PAUSED")

    with balancer.running():
        play(balancer, story)


def test_help(balancer: Balancer) -> None:
    assert max(len(line) for line in Text.from_markup(HELP).plain.splitlines()) <= 77, "a narrow terminal has room"

    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        await sees(app, pilot, "Marks")
        await pilot.press("end")
        await sees(app, pilot, "Any other key closes this.")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(app.screen, HelpScreen), "the end of the help, and of that only")
        await sees(app, pilot, "web")
        assert app.is_running

    with balancer.running():
        play(balancer, story, size=(80, 12))


def test_the_balancer_goes_and_comes_back(balancer: Balancer) -> None:
    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await sees(app, pilot, "web")
        await asyncio.get_running_loop().run_in_executor(None, loop.__exit__, None, None, None)
        await sees(app, pilot, "no answer since", f"no running balancer at {balancer.path}", "web")
        with balancer.running():
            await until(pilot, lambda: "no answer since" not in screen(app), "the end of the silence")
            balancer.answer["listeners"][0]["name"] = "newname"
            await sees(app, pilot, "newname", "! worker 1 is down")

    with open_loop(balancer) as loop:
        play(balancer, story, size=(250, 40))


@contextmanager
def open_loop(balancer: Balancer) -> Iterator[Loop]:
    """One that the story ends."""
    yield balancer.running().__enter__()


@pytest.mark.parametrize("size", [(1, 1), (20, 5), (400, 120)])
def test_any_size(balancer: Balancer, size: tuple[int, int]) -> None:
    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        if size == (20, 5):
            await sees(app, pilot, "nlb-1  running", "1,241 connections")
        for keys in (("2", "end", "pagedown", "up"), ("slash", "x"), ("escape", "question_mark"), ("x", "0")):
            await pilot.press(*keys)
            screen(app)
        await pilot.resize_terminal(20, 5)
        await sees(app, pilot, "nlb-1  running")

    with balancer.running():
        play(balancer, story, size)


def test_what_is_too_long_scrolls(balancer: Balancer) -> None:
    servers = balancer.answer["server_groups"][0]["servers"]
    servers += [servers[0] | {"name": f"s{number}", "address": f"10.1.0.{number}:80"} for number in range(90)]

    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("2")
        await sees(app, pilot, "10.0.0.1:80", "weight")
        await pilot.press("end")
        await sees(app, pilot, "10.1.0.89:80", "weight", "93")
        await pilot.press("up")
        assert "10.0.0.1:80" not in screen(app)
        await pilot.press("home")
        await sees(app, pilot, "10.0.0.1:80")

    with balancer.running():
        play(balancer, story)


def test_no_colour_where_none_is_wanted(balancer: Balancer, monkeypatch: pytest.MonkeyPatch) -> None:
    def colours(app: TopApp) -> set[object]:
        found: set[object] = set()
        for strip in app.screen._compositor.render_strips():
            filtered = strip
            for one in app._filters:
                filtered = filtered.apply_filter(one, app.screen.background_colors[1]) if one.enabled else filtered
            for segment in filtered:
                if segment.style is not None:
                    found |= {
                        segment.style.color and segment.style.color.name,
                        segment.style.bgcolor and segment.style.bgcolor.name,
                    }
        return found - {None, "default"}

    seen: list[set[object]] = []

    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await sees(app, pilot, "Unhealthy")
        seen.append(colours(app))

    with balancer.running():
        play(balancer, story)
        monkeypatch.setenv("NO_COLOR", "1")
        play(balancer, story)
    coloured, plain = seen
    assert {"red", "green", "yellow"} <= coloured
    assert plain == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(balancer: Balancer, number: signal.Signals) -> None:
    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        os.kill(os.getpid(), number)
        await until(pilot, lambda: not app.is_running or app._exit, "the end")

    with balancer.running():
        assert play(balancer, story).return_code == 128 + number


def test_the_first_answer_must_come(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError):
        watch(tmp_path / "nlb.sock", 1.0)


def test_charts_are_left_out_where_there_is_no_room(balancer: Balancer) -> None:
    async def story(app: TopApp, pilot: Pilot[None]) -> None:
        await sees(app, pilot, "Handshakes/s")
        assert app._problems()[:2] == ["worker 1 is down", "the prober is silent"]
        assert app._problems()[2].startswith("2 more, such as: certificate /etc/nlb/old.crt")
        await pilot.resize_terminal(80, 15)
        await until(pilot, lambda: "Handshakes/s" not in screen(app), "the end of the charts")
        assert app._problems() == ["4 problems, such as: worker 1 is down"]
        assert app._head.display

    with balancer.running():
        play(balancer, story)
