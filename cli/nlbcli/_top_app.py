"""The full-screen view of `nlb top`.

Everything that is shown is made in `_top_tables` from what `_top_watch` knows; here are the window, its keys and its size.
The colours are the terminal's own, so that it looks at home on light and on dark ones.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the loop of the window, in a process of its own; no balancer runs in here
import datetime as dt
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.geometry import Size
from textual.message import Message
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Footer, Input, Label

from nlbcli._top_chart import Series, chart
from nlbcli._top_rates import Sample
from nlbcli._top_tables import TITLES, Table, count, duration, fitting, header, lines, plain, rate, tables
from nlbcli._top_watch import Failure, Poller, Watch, ask
from nlbcore.control.client import PATIENCE

INTERVALS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""What + and - step through."""
SPAN = 600.0
"""Seconds that a chart shows at most."""
_CHART_LINES = 3
_ROOM_FOR_CHARTS = 20
_ROOM_FOR_TABS = 8
_ROOMY = 30
_PROBLEMS = 3
"""Lines of the header for what is not well, where there is room."""
_WAYS = {
    "up": "up",
    "k": "up",
    "down": "down",
    "j": "down",
    "home": "home",
    "end": "end",
    "pageup": "page_up",
    "pagedown": "page_down",
    "space": "page_down",
}
"""Keys that scroll."""

HELP = """\
[bold]Keys[/]
  1 2 3 4 5   one table; the same key again, or 0: all of them
  /           only the rows with a text; Enter keeps it, Esc removes it
  p           pause: what is shown stays; the charts go on
  + -         ask less often, more often
  arrows      scroll; so do PgUp, PgDn, Home, End
  q           quit

[bold]Marks[/]
  !   not well: an unhealthy server, a worker that does not serve,
      something expired, a listener that is full
  *   to be looked at: a server that drains or has errors, connections
      that are refused, something that expires soon
  -   not known yet: a rate needs two answers of the same balancer

[bold]Listeners[/]   new/s: connections; full/s, resumed/s: TLS handshakes
            refused/s: turned away, for a reason in the third table
[bold]Servers[/]     new/s: connections to it; errors: those that failed
[bold]Ends[/]        ended: nobody's fault     client: the client's certificate
            live: cut later           handshake: no TLS that we speak
            limit: too many           server: no server took it
[bold]Workers[/]     longest stall: of one turn of its loop, ever

Any other key closes this.
"""


def watch(path: Path, interval: float) -> int:
    """Show the balancer at `path` until the user quits; the exit code.

    Raises:
        NlbError: it does not answer the first time
    """
    app = TopApp(path, interval, ask(path, PATIENCE))
    app.run()
    return app.return_code or 0


def _click(key: int) -> dict[str, str]:
    """What makes a text do as the key does, when it is clicked."""
    return {"@click": f"app.panel({key})"}


def _scroll(scroller: VerticalScroll, way: str) -> None:
    getattr(scroller, f"scroll_{way}")(animate=False)


class Answered(Message):
    """The poller has an answer, or none."""

    def __init__(self, found: Sample | Failure) -> None:
        self.found = found
        super().__init__()


class Lines(Widget):
    """Lines of text, as they are; only those that are to be seen are drawn, however many there are."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id, classes=classes)
        self._lines: list[Text] = []

    def show(self, new: list[Text]) -> None:
        """These from now on."""
        same = len(new) == len(self._lines)
        self._lines = new
        self.refresh(layout=not same)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One for each; asked by the layout."""
        del container, viewport, width
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        """Line number `y`, asked when it is seen."""
        text = self._lines[y] if y < len(self._lines) else Text()
        console = self.app.console
        strip = Strip(text.render(console)).apply_style(console.get_style(text.style))
        return strip.adjust_cell_length(self.size.width).apply_style(self.rich_style)


class Panel(Vertical):
    """One table: title and heading stay, the rows scroll when it is alone."""

    def __init__(self, key: int) -> None:
        super().__init__(classes="panel")
        self._key = key
        self._top = Lines()
        self._rows = Lines()
        self.scroller = VerticalScroll(self._rows, classes="scroller", can_focus=False)

    def compose(self) -> ComposeResult:
        yield self._top
        yield self.scroller

    def show(self, table: Table, sought: str, width: int) -> None:
        """The table as it is now."""
        shown = table.matching(sought)
        total = f"{table.total}" if not sought else f"{len(shown.rows)} of {table.total}"
        title = fitting([Text(f"{self._key} {table.title}", "bold cyan"), Text(total, "dim")], width)
        heading, *rows = lines(shown, width)
        nothing = Text("  nothing" + (" with this text" if sought else ""), "dim")
        self._top.show([title, heading] if rows else [title])
        self._rows.show(rows or [nothing])


class Chart(Lines):
    """A number over the last minutes."""

    def __init__(self, title: str, style: str, number: Callable[[float | None], Text]) -> None:
        super().__init__(classes="chart")
        self._title = title
        self._style = style
        self._number = number

    def show_series(self, series: Series, height: int) -> None:
        """The series as it is now."""
        width = self.content_size.width
        values = series.columns(width, SPAN)
        known = [value for value in values if value is not None]
        title = fitting(
            [
                Text(self._title, "bold"),
                self._number(series.last),
                Text(f"peak {self._number(max(known)).plain}" if known else "", "dim"),
                Text(f"last {duration(series.seconds(SPAN))}", "dim"),
            ],
            width,
        )
        self.show([title, *(Text(line, self._style) for line in chart(values, width, height))])


class HelpScreen(ModalScreen[None]):
    """The keys and the words; any key closes it that does not scroll."""

    def __init__(self) -> None:
        super().__init__()
        self._text = Lines()

    def compose(self) -> ComposeResult:
        with VerticalScroll(can_focus=False):
            yield self._text

    def on_mount(self) -> None:
        """A screen has to be there before it can be written on."""
        self._text.show(list(Text.from_markup(HELP).split()))

    def on_key(self, event: events.Key) -> None:
        """No key does here what it does elsewhere."""
        event.stop()
        event.prevent_default()
        if event.key in _WAYS:
            _scroll(self.query_one(VerticalScroll), _WAYS[event.key])
        else:
            self.dismiss()


class TopApp(App[None]):
    """The window."""

    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    TITLE = "nlb top"
    CSS = """
    Screen { background: ansi_default; }
    Lines { height: auto; }
    #charts { height: auto; padding-top: 1; }
    .chart { width: 1fr; }
    .chart:last-child { margin-left: 2; }
    #tabs { padding-top: 1; }
    .stale Lines { text-style: dim; }
    #body { height: 1fr; scrollbar-size-vertical: 1; }
    .panel { height: auto; padding-bottom: 1; }
    .scroller { height: auto; scrollbar-size-vertical: 1; }
    .alone .panel { height: 100%; padding-bottom: 0; }
    .alone .scroller { height: 1fr; }
    #filter { dock: bottom; margin-bottom: 1; height: 1; }
    HelpScreen VerticalScroll { padding: 0 1; background: ansi_default; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("question_mark,h", "help", "Help", key_display="?"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "everything", "No filter", key_display="Esc"),
        Binding("p", "pause", "Pause"),
        Binding("plus,equals_sign", "slower", "Slower", key_display="+"),
        Binding("minus", "faster", "Faster", key_display="-"),
        *(Binding(str(key), f"panel({key})", show=False) for key in range(len(TITLES) + 1)),
        *(Binding(key, f"scroll('{way}')", show=False) for key, way in _WAYS.items()),
        Binding("ctrl+z", "suspend_process", show=False),
    ]

    def __init__(self, path: Path, interval: float, first: Sample) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self._watch = Watch(first)
        self._shown = self._watch.frame
        """Of the time of the pause, while it is paused."""
        self._paused = False
        self._alone = 0
        """The number of the only table, 0 for all."""
        self._sought = ""
        self._poller = Poller(path, interval, lambda found: self.post_message(Answered(found)))
        self._head = Lines()
        self._charts = (Chart("Connections", "green", count), Chart("Handshakes/s", "cyan", rate))
        self._both = Horizontal(*self._charts, id="charts")
        self._tabs = Lines(id="tabs")
        self._panels = [Panel(key) for key in range(1, len(TITLES) + 1)]
        self._body = VerticalScroll(*self._panels, id="body", can_focus=False)
        self._filter = Input(placeholder="show only rows with this text", compact=True)
        self._prompt = Horizontal(Label("/"), self._filter, id="filter")
        self._prompt.display = False

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._both
        yield self._tabs
        yield self._body
        yield self._prompt
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to ask. A signal that ends the program restores the terminal first."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(one, partial(self.exit, None, 128 + one))
        self._poller.start()
        self.set_interval(1.0, self._draw_head)
        self.call_after_refresh(self._draw)

    def on_unmount(self) -> None:
        """Ask no more."""
        self._poller.stop()

    # -- what happens

    def on_answered(self, message: Answered) -> None:
        """Show it, if it is to be shown."""
        self._watch.take(message.found)
        if not self._paused:
            self._shown = self._watch.frame
        self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """What has no room is not shown."""
        self._both.display = event.size.height >= _ROOM_FOR_CHARTS
        self._tabs.display = event.size.height >= _ROOM_FOR_TABS
        self.call_after_refresh(self._draw)

    def on_input_changed(self, event: Input.Changed) -> None:
        """The filter holds as it is typed."""
        self._sought = event.value.strip()
        self._draw()

    def on_input_submitted(self) -> None:
        """The filter stays, the keys are keys again."""
        self._end_filter()

    # -- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What a key does at this moment, for the footer: a text that is typed is no order, and without a filter none ends."""
        del parameters
        if action == "everything":
            return self._prompt.display or bool(self._sought)
        return not (self._prompt.display and action in ("slower", "faster", "filter"))

    def action_panel(self, key: int) -> None:
        """One table, or all."""
        self._alone = 0 if key == self._alone else key
        self._body.set_class(self._alone > 0, "alone")
        for place, panel in enumerate(self._panels, 1):
            panel.display = self._alone in (0, place)
        self.call_after_refresh(self._draw)

    def action_pause(self) -> None:
        """Stop the frame, or go on with the newest."""
        self._paused = not self._paused
        self._shown = self._shown if self._paused else self._watch.frame
        self._draw()

    def action_slower(self) -> None:
        """The next longer interval."""
        self._poller.interval = next((one for one in INTERVALS if one > self._poller.interval), INTERVALS[-1])
        self._draw()

    def action_faster(self) -> None:
        """The next shorter interval."""
        self._poller.interval = next((one for one in reversed(INTERVALS) if one < self._poller.interval), INTERVALS[0])
        self._draw()

    def action_filter(self) -> None:
        """Ask for a text."""
        self._prompt.display = True
        self._filter.focus()
        self.refresh_bindings()

    def action_everything(self) -> None:
        """No filter."""
        self._filter.value = ""
        self._end_filter()

    def action_help(self) -> None:
        """What the keys and words mean."""
        self.push_screen(HelpScreen())

    def action_scroll(self, way: str) -> None:
        """Scroll what is too long."""
        scroller = self._panels[self._alone - 1].scroller if self._alone else self._body
        _scroll(scroller, way)

    def _end_filter(self) -> None:
        self._prompt.display = False
        self.set_focus(None)
        self.refresh_bindings()
        self._draw()

    # -- drawing

    def _draw(self) -> None:
        if not self.is_running or not self._panels[-1].is_mounted:
            return
        self._draw_head()
        series = (self._watch.connections, self._watch.handshakes)
        for one, values in zip(self._charts, series, strict=True):
            one.show_series(values, _CHART_LINES if self._roomy else _CHART_LINES - 1)
        self._tabs.show([self._bar()])
        width = max(1, self.size.width - 1)
        for panel, table in zip(self._panels, tables(self._shown), strict=True):
            if panel.display:
                panel.show(table, self._sought, width)

    def _draw_head(self) -> None:
        width = self.size.width
        silent = self._watch.silent(time.monotonic())
        self._body.set_class(silent is not None, "stale")
        mark = Text.assemble((" PAUSED ", "black on yellow"), " ") if self._paused else Text()
        who, what = header(self._shown.head, dt.datetime.now(dt.UTC), width - mark.cell_len)
        said = [Text().append_text(mark).append_text(who), what]
        if silent is not None and self._watch.failure is not None:
            reason = plain(self._watch.failure.reason)
            said.append(fitting([Text(f"no answer since {duration(silent)}", "bold red"), Text(reason, "red")], width))
        else:
            said += [fitting([Text(f"! {plain(one)}", "bold red")], width) for one in self._problems()]
        self._head.show(said)

    def _problems(self) -> list[str]:
        """What is not well, with the number of those that are left out."""
        problems = self._shown.problems
        room = _PROBLEMS if self._roomy else 1
        if len(problems) <= room:
            return list(problems)
        first, last = problems[: room - 1], problems[room - 1]
        return [*first, f"{len(problems) - len(first)} {'more' if first else 'problems'}, such as: {last}"]

    @property
    def _roomy(self) -> bool:
        return self.size.height >= _ROOMY

    def _bar(self) -> Text:
        """What tables there are, with the one that is shown; what else was chosen stands at its end."""
        tabs = [
            Text(f" {key} {title} ", Style(reverse=key == self._alone, dim=key != self._alone, meta=_click(key)))
            for key, title in enumerate(("All", *TITLES))
        ]
        sought = Text(f" filter: {plain(self._sought)} ", "black on cyan") if self._sought else Text()
        width = self.size.width
        chosen = fitting([sought, Text(f"every {self._poller.interval:g} s", "dim")], width)
        return fitting([fitting([Text("").join(tabs)], width - chosen.cell_len - 2), chosen], width)
