"""What `nlb top` shows of a frame: header, tables and their columns, as lines of text for any width. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.text import Text

from nlbcli._top_rates import Expiry, Frame, Grade, Head, Listener, Process, Rate, Reload, Server

UNKNOWN = "-"
_GAP = "  "
_STYLE: dict[Grade, str] = {"": "", "warning": "yellow", "bad": "bold red"}
_MARK: dict[Grade, str] = {"": " ", "warning": "*", "bad": "!"}
_STATES = {"running": "green", "Available": "green", "Unavailable": "", "starting": "yellow", "draining": "yellow"}
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Column:
    """Of a table.

    Attributes:
        title: its heading
        right: numbers stand at the right
        least: cells it has at least, so that the table does not dance as numbers grow
        keep: where there is no room, the columns with the highest number go first; those with 0 stay
    """

    title: str
    right: bool = False
    least: int = 0
    keep: int = 0


@dataclass(frozen=True)
class Row:
    """Of a table; its grade is a mark in front, for those who see no colours."""

    grade: Grade
    cells: tuple[Text, ...]

    def has(self, text: str) -> bool:
        """Whether a person finds the text in it; upper and lower case are the same."""
        return text.casefold() in " ".join(cell.plain for cell in self.cells).casefold()


@dataclass(frozen=True)
class Table:
    """A title, columns, rows; `total` counts the rows before a filter."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    total: int

    def matching(self, text: str) -> Table:
        """Only the rows that have the text."""
        return replace(self, rows=tuple(row for row in self.rows if row.has(text))) if text else self


def tables(frame: Frame) -> tuple[Table, ...]:
    """The five tables, in the order of their keys."""
    return (
        _table("Listeners", _LISTENER, ((one.grade, _listener(one)) for one in frame.listeners)),
        _table("Servers", _SERVER, ((one.grade, _server(one)) for one in frame.servers)),
        _table(
            "Ends of connections",
            _ENDING,
            (
                (
                    one.grade,
                    (
                        Text(plain(one.word), _STYLE[one.grade]),
                        Text(one.kind, "dim"),
                        Text(f"{one.total:,}"),
                        rate(one.rate),
                        _names(one.listeners),
                    ),
                )
                for one in frame.endings
            ),
        ),
        _table("Certificates and CRLs", _EXPIRY, ((one.grade, _expiry(one)) for one in frame.expiries)),
        _table("Workers", _PROCESS, ((one.grade, _process(one)) for one in frame.processes)),
    )


TITLES = ("Listeners", "Servers", "Ends", "Certificates", "Workers")
"""The tables in one word each."""

_LISTENER = (
    Column("name"),
    Column("bind", keep=6),
    Column("protocol", keep=8),
    Column("client auth", keep=9),
    Column("conns", right=True, least=7),
    Column("new/s", right=True, least=6, keep=1),
    Column("full/s", right=True, least=6, keep=4),
    Column("resumed/s", right=True, least=6, keep=7),
    Column("refused/s", right=True, least=6, keep=2),
    Column("in/s", right=True, least=8, keep=3),
    Column("out/s", right=True, least=8, keep=3),
)
_SERVER = (
    Column("group", keep=3),
    Column("name"),
    Column("address", keep=5),
    Column("state"),
    Column("weight", right=True, keep=6),
    Column("conns", right=True, least=7, keep=1),
    Column("new/s", right=True, least=6, keep=2),
    Column("errors/s", right=True, least=6, keep=4),
    Column("errors", right=True, least=6, keep=7),
)
_ENDING = (
    Column("reason", least=19),
    Column("kind", keep=3, least=9),
    Column("total", right=True, least=9, keep=1),
    Column("per s", right=True, least=7),
    Column("listeners", keep=4),
)
_EXPIRY = (
    Column("days left", right=True),
    Column("what", keep=3),
    Column("listener", keep=1),
    Column("subject"),
    Column("ends", keep=2),
    Column("file", keep=4),
)
_PROCESS = (
    Column("slot"),
    Column("pid", right=True, least=7, keep=2),
    Column("state", least=8),
    Column("conns", right=True, least=7, keep=1),
    Column("new/s", right=True, least=6, keep=5),
    Column("restarts", right=True, keep=3),
    Column("heartbeat", right=True, least=9, keep=4),
    Column("longest stall", right=True, keep=6),
)


def _table(title: str, columns: tuple[Column, ...], rows: Iterable[tuple[Grade, tuple[Text, ...]]]) -> Table:
    made = tuple(Row(grade, cells) for grade, cells in rows)
    return Table(title, columns, made, len(made))


def _listener(one: Listener) -> tuple[Text, ...]:
    return (
        Text(plain(one.name), "bold"),
        _names(one.bind),
        Text(one.protocol),
        Text(plain(one.client_auth) if one.protocol == "TCPSSL" else ""),
        Text(f"{one.connections:,}", _STYLE[one.grade]),
        rate(one.new),
        rate(one.full),
        rate(one.resumed),
        rate(one.refused, "yellow"),
        volume(one.received),
        volume(one.sent),
    )


def _server(one: Server) -> tuple[Text, ...]:
    state = _state(one.state, one.grade if one.grade == "bad" or one.state in ("Initial", "Draining") else "")
    if one.reason:
        state.append(f" {plain(one.reason)}", "red")
    if one.admin != "ready":
        state.append(f" ({plain(one.admin)})", "dim")
    changed = one.weight != one.configured_weight
    return (
        Text(plain(one.group), "dim"),
        Text(plain(one.name), "bold"),
        Text(plain(one.address) if one.address != one.name else ""),
        state,
        Text(f"{one.weight} of {one.configured_weight}" if changed else str(one.weight), "yellow" if changed else ""),
        Text(f"{one.connections:,}"),
        rate(one.new),
        rate(one.errors, "yellow"),
        Text(f"{one.errors_total:,}", "" if one.errors_total else "dim"),
    )


def _expiry(one: Expiry) -> tuple[Text, ...]:
    return (
        Text("never", "dim") if one.days is None else Text(f"{one.days:,.1f}", _STYLE[one.grade]),
        Text(one.kind),
        Text(plain(one.listener), "bold"),
        Text(plain(one.subject)),
        Text(one.end or UNKNOWN),
        Text(plain(one.path), "dim"),
    )


def _process(one: Process) -> tuple[Text, ...]:
    attendant = one.connections is None
    return (
        Text(plain(one.name), "bold"),
        Text(str(one.pid or UNKNOWN)),
        _state(one.state, one.grade),
        Text(f"{one.connections:,}" if one.connections is not None else ""),
        Text("") if attendant else rate(one.new),
        Text(f"{one.restarts:,}", "yellow" if one.restarts else "dim"),
        Text("" if attendant else UNKNOWN) if one.heartbeat_ms is None else Text(f"{one.heartbeat_ms:,} ms"),
        Text("") if one.stall_ms is None else Text(f"{one.stall_ms:,.1f} ms"),
    )


# -- the header -------------------------------------------------------------------------------------------------------


def header(head: Head, now: dt.datetime, width: int) -> list[Text]:
    """Two lines: who it is, and what it does; on a narrow terminal the last parts are left out."""
    who = [
        Text(plain(head.node), "bold"),
        _state(head.state, ""),
        Text(f"generation {head.generation}" + (f" (+{head.older} older)" if head.older else "")),
        _reload(head.reload, head.reloads_refused, now),
        Text(f"up {duration(head.uptime)}"),
        Text(f"nlb {plain(head.version)}", "dim"),
        Text(f"pid {head.pid}", "dim"),
    ]
    resumed = Text(" (").append_text(rate(head.resumed)).append(" resumed)") if head.resumed else Text()
    handshakes = _sum(head.full, head.resumed)
    what = [
        Text.assemble((f"{head.connections:,}", "bold"), f" connection{'' if head.connections == 1 else 's'}"),
        _named("handshakes", rate(handshakes), "/s").append_text(resumed),
        _named("refused", rate(head.refused, "bold yellow"), "/s"),
        _named("in", volume(head.received), "/s"),
        _named("out", volume(head.sent), "/s"),
        _named("new", rate(head.new), "/s"),
    ]
    return [fitting(who, width), fitting(what, width)]


def _reload(last: Reload | None, refused: int, now: dt.datetime) -> Text:
    if last is None:
        return Text("never reloaded", "dim")
    age = f"{ago(last.time, now)} ({plain(last.trigger)})"
    if not last.successful:
        return Text(f"reload REFUSED {age}", "bold red")
    changes = f", {last.changes} change{'' if last.changes == 1 else 's'}"
    return Text(f"reloaded {age}{changes}").append(f", {refused} refused before" if refused else "", "yellow")


def fitting(parts: Iterable[Text], width: int) -> Text:
    """As many parts as there is room for, in their order; the first one is cut if it must be."""
    line = Text(no_wrap=True)
    for part in parts:
        if not part.plain:
            continue
        if line.plain and line.cell_len + len(_GAP) + part.cell_len > width:
            continue
        line.append(_GAP if line.plain else "").append_text(part)
    return _cut(line, width)


# -- layout -----------------------------------------------------------------------------------------------------------


def lines(table: Table, width: int) -> list[Text]:
    """The heading and a line for each row, none wider than `width`; empty columns and what has no room are left out."""
    columns = [
        number
        for number, column in enumerate(table.columns)
        if not column.keep or any(row.cells[number].plain for row in table.rows)
    ]
    widths = {
        number: max(
            (row.cells[number].cell_len for row in table.rows),
            default=0,
        )
        for number in columns
    }
    for number in columns:
        column = table.columns[number]
        widths[number] = max(widths[number], column.least, cell_len(column.title))
    while _width(columns, widths) > width and (optional := [one for one in columns if table.columns[one].keep]):
        columns.remove(max(optional, key=lambda number: (table.columns[number].keep, number)))
    _squeeze(columns, widths, width)
    headings = tuple(Text(column.title, "dim") for column in table.columns)
    return [_line(table.columns, columns, widths, row, width) for row in (Row("", headings), *table.rows)]


def _width(columns: list[int], widths: dict[int, int]) -> int:
    return 1 + sum(widths[number] for number in columns) + len(_GAP) * (len(columns) - 1)


def _squeeze(columns: list[int], widths: dict[int, int], width: int) -> None:
    """Where not even the columns that stay have room, the widest give way, down to a few cells."""
    while _width(columns, widths) > width:
        widest = max(columns, key=lambda number: widths[number])
        if widths[widest] <= 4:
            return
        widths[widest] -= 1


def _line(all_columns: tuple[Column, ...], columns: list[int], widths: dict[int, int], row: Row, width: int) -> Text:
    line = Text(no_wrap=True)
    line.append(_MARK[row.grade], _STYLE[row.grade])
    for place, number in enumerate(columns):
        cell = row.cells[number].copy()
        cell.truncate(widths[number], overflow="ellipsis")
        gap = " " * (widths[number] - cell.cell_len)
        line.append(_GAP if place else "")
        if all_columns[number].right:
            line.append(gap).append_text(cell)
        else:
            line.append_text(cell).append(gap)
    line.rstrip()
    return _cut(line, width)


def _cut(line: Text, width: int) -> Text:
    if width <= 0:
        return Text(no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line


# -- words and numbers ------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Without anything that a terminal obeys: names in certificates are not ours."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def rate(value: Rate, style: str = "") -> Text:
    """Per second: a digit after the point where it says something; zero is dim, what is above in `style`."""
    if value is None:
        return Text(UNKNOWN, "dim")
    if value == 0:
        return Text("0", "dim")
    return Text("<0.1" if value < 0.05 else f"{value:.1f}" if value < 9.95 else f"{value:,.0f}", style)


def count(value: float | None) -> Text:
    """A count."""
    return Text(UNKNOWN, "dim") if value is None else Text(f"{value:,.0f}", "" if value else "dim")


def volume(value: Rate) -> Text:
    """Bytes per second, without the `/s`."""
    if value is None:
        return Text(UNKNOWN, "dim")
    if value < 0.5:
        return Text("0 B", "dim")
    power = 0
    while power < len(_SIZES) - 1 and value >= (999.5 if power == 0 else 999.95):
        value /= 1000
        power += 1
    return Text(f"{value:.1f} {_SIZES[power]}" if power else f"{value:.0f} B")


def duration(seconds: float) -> str:
    """In the largest unit and the next: 2 d 3 h."""
    whole = max(0, int(seconds))
    first = next((place for place, (size, _) in enumerate(_UNITS) if whole >= size), len(_UNITS) - 1)
    parts: list[str] = []
    for size, unit in _UNITS[first : first + 2]:
        many, whole = divmod(whole, size)
        if many or not parts:
            parts.append(f"{many} {unit}")
    return " ".join(parts)


def ago(moment: str, now: dt.datetime) -> str:
    """How long a moment of `status` is past, in the largest unit."""
    try:
        seconds = (now - dt.datetime.fromisoformat(moment)).total_seconds()
    except (TypeError, ValueError):  # the words of another version: better shown than understood
        return plain(moment)
    if seconds < 1:
        return "just now"
    return next(f"{int(seconds // size)} {unit} ago" for size, unit in _UNITS if seconds >= size)


def _state(word: str, grade: Grade) -> Text:
    return Text(plain(word), _STYLE[grade] or _STATES.get(word, ""))


def _names(names: tuple[str, ...]) -> Text:
    return Text(", ".join(plain(name) for name in names))


def _named(name: str, value: Text, unit: str) -> Text:
    return Text(f"{name} ").append_text(value).append(unit)


def _sum(one: Rate, other: Rate) -> Rate:
    return one if other is None else other if one is None else one + other
