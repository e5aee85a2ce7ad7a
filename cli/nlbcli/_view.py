"""What `nlb status` and `nlb conns` show on a terminal: columns where they fit, else each row as a list; plain text in a
pipe.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

Row = dict[str, str | Text]
"""One line of a table: column -> cell; the first column names the row."""

_RIGHT = {
    *("now", "max", "total", "received", "sent", "weight", "configured", "failed", "timeout", "days left", "pid"),
    *("restarts", "stall ms", "connection", "age"),
}
_STYLES = {
    "running": "green",
    "Available": "green",
    "starting": "yellow",
    "draining": "yellow",
    "retiring": "yellow",
    "retired": "",
    "Initial": "yellow",
    "Draining": "yellow",
    "Unavailable": "",
    "ended": "",
}
_SOON = 14
"""Days before its end in which a certificate is shown in yellow."""
_MANY = 1000
"""More rows than anybody looks at: they are printed without what rich does for each."""
_BYTES = ("kB", "MB", "GB", "TB", "PB")
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def console() -> Console:
    """For standard output: colour on a terminal only, and not even there with NO_COLOR; a pipe is as wide as need be."""
    terminal = sys.stdout.isatty()
    plain = not terminal or bool(os.environ.get("NO_COLOR"))
    return Console(
        force_terminal=terminal,
        color_system=None if plain else "auto",
        highlight=False,
        width=None if terminal else 9999,
    )


def show(out: Console, status: dict[str, Any]) -> None:
    """Print the answer to `status`."""
    out.print(
        Text.assemble(
            (_plain(status["node"]), "bold"),
            "  ",
            _state(status["state"]),
            f"  generation {status['generation']}{_others(status)}, {_connections(status['connections'])}",
        )
    )
    admin = f", admin http://{_plain(status['admin'])}/" if status["admin"] else ""
    up = _duration(status["uptime_s"])
    out.print(Text(f"nlb {_plain(status['version'])}, pid {status['pid']}, up {up}{admin}", style="dim"))
    if status["reload"]:
        out.print(_reload(status), overflow="fold")
    listeners = status["listeners"]
    _table(out, "Listeners", (_listener(one) for one in listeners))
    _lines(out, "Handshakes", ((one["name"], _handshakes(one)) for one in listeners))
    _lines(out, "Ended", ((one["name"], _counts(one["terminations"])) for one in listeners))
    _lines(out, "Would be", ((one["name"], _counts(one.get("verdicts", {}))) for one in listeners))
    _lines(out, "Client certificates that end", ((one["name"], _expiring(one)) for one in listeners))
    for group in status["server_groups"]:
        _table(out, _group_title(group), (_server(one) for one in group["servers"]))
    _table(out, "Certificates", (_certificate(one) for one in status["certificates"]))
    _table(out, "Revocation lists", (_crl(one) for one in status["crls"]))
    _table(out, "Workers", (_worker(one) for one in status["workers"]))
    not_well = [one for one in status["attendants"] if one["state"] != "running"]
    _table(out, "Not running", (_attendant(one) for one in not_well))


def show_connections(out: Console, connections: Iterable[Mapping[str, Any]]) -> None:
    """Print them as a table; many of them, or in a pipe, in plain columns."""
    rows = [_connection(one) for one in connections]
    if not rows:
        out.print("no connections")
    elif out.is_terminal and len(rows) <= _MANY:
        _table(out, _connections(len(rows)), rows)
    else:
        for line in _plain_columns(rows):
            out.file.write(line)


# -- what stands where ------------------------------------------------------------------------------------------------


def _others(status: dict[str, Any]) -> str:
    """The generations that connections began with and that live until the last of those has ended."""
    older = [str(number) for number in status["generations"] if number != status["generation"]]
    return f" ({', '.join(older)} living on)" if older else ""


def _connections(count: int) -> str:
    return f"{count:,} connection{'' if count == 1 else 's'}"


def _reload(status: dict[str, Any]) -> Text:
    last = status["reload"]
    when = f"{_plain(last['time'])} ({_plain(last['trigger'])})"
    if last["successful"]:
        return Text(f"last reload {when}", style="dim")
    stays = f"generation {status['generation']} stays in force"
    return Text(f"reload refused {when}, {stays}: {_plain(last['reason'])}", style="bold red")


def _listener(one: dict[str, Any]) -> Row:
    return {
        "name": one["name"],
        "address": ", ".join(one["bind"]),
        "protocol": one["protocol"],
        "client auth": one["client_auth"] if one["protocol"] == "TCPSSL" else "",
        "servers": one["server_group"],
        "now": f"{one['connections']:,}",
        "max": f"{one['max_connections']:,}" if one["max_connections"] else "",
        "total": f"{one['connections_total']:,}",
        "received": _bytes(one["received_bytes"]),
        "sent": _bytes(one["sent_bytes"]),
    }


def _handshakes(listener: dict[str, Any]) -> str:
    return ", ".join(
        f"{version} {both['full'] + both['resumed']:,} ({both['resumed']:,} resumed)"
        for version, both in listener["handshakes"].items()
    )


def _expiring(listener: dict[str, Any]) -> str:
    return ", ".join(f"within {period} {count:,}" for period, count in listener.get("expiring", {}).items() if count)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{word} {count:,}" for word, count in sorted(counts.items(), key=lambda item: -item[1]))


def _group_title(group: dict[str, Any]) -> Text:
    title = Text.assemble("Servers of ", (_plain(group["name"]), "bold"), f" ({group['scheduler']})")
    if group["fail_open"]:
        title.append("  none is usable: new connections go to all of them", "bold red")
    elif not group["usable"]:
        title.append("  none takes new connections", "bold red")
    return title


def _server(one: dict[str, Any]) -> Row:
    state = _state(one["state"])
    if one["reason"]:
        state.append(f" {_plain(one['reason'])}", "red")
    return {
        "name": one["name"],
        "address": one["address"] if one["address"] != one["name"] else "",
        "weight": str(one["weight"]),
        "configured": str(one["configured_weight"]) if one["configured_weight"] != one["weight"] else "",
        "order": one["admin"] if one["admin"] != "ready" else "",
        "state": state,
        "since": one["since"] or "",
        "now": f"{one['connections']:,}",
        "total": f"{one['connections_total']:,}",
        "failed": f"{one['connect_failed']:,}" if one["connect_failed"] else "",
        "timeout": f"{one['connect_timeout']:,}" if one["connect_timeout"] else "",
    }


def _certificate(one: dict[str, Any]) -> Row:
    return {
        "listener": one["listener"],
        "file": one["path"],
        "names": ", ".join(one["names"]),
        "expires": one["not_after"],
        "days left": _days(one["days_left"], _SOON),
    }


def _crl(one: dict[str, Any]) -> Row:
    return {
        "listener": one["listener"],
        "issuer": one["issuer"],
        "next update": one["next_update"] or "never",
        "days left": Text("") if one["days_left"] is None else _days(one["days_left"], 0),
    }


def _worker(one: dict[str, Any]) -> Row:
    age = one["heartbeat_age_ms"]
    return {
        "worker": str(one["slot"]),
        "pid": str(one["pid"] or ""),
        "state": _state(one["state"]),
        "since": one["since"],
        "restarts": str(one["restarts"]),
        "now": f"{one['connections']:,}",
        "heartbeat": "none yet" if age is None else f"{age:,} ms ago",
        "stall ms": f"{one['longest_stall_ms']:.1f}",
    }


def _attendant(one: dict[str, Any]) -> Row:
    return {
        "process": one["name"].replace("_", " "),
        "pid": str(one["pid"] or ""),
        "state": _state(one["state"]),
        "restarts": str(one["restarts"]),
    }


def _connection(one: Mapping[str, Any]) -> dict[str, str]:
    """One that `report` has let in holds the key to its certificate, which may be anybody's: the verdict stands beside it."""
    subject = one.get("client_cert_subject") or one.get("client_cert_sha256", "")
    verdict = one.get("client_cert_verdict", "accepted")
    doubt = "not proven" if not one.get("client_cert_proven", True) else "" if verdict == "accepted" else verdict
    return {
        "connection": str(one["connection"]),
        "state": one["state"],
        "listener": one.get("listener", ""),
        "client": _client(one),
        "server": f"{one.get('server_group', '')}/{one['server']}" if "server" in one else "",
        "certificate": f"{subject} ({doubt})" if subject and doubt else subject,
        "tls": one.get("tls_protocol_version", ""),
        "received": _bytes(one["received_bytes"]),
        "sent": _bytes(one["sent_bytes"]),
        "age": _duration(one["connection_time_ms"] / 1000),
    }


def _client(one: Mapping[str, Any]) -> str:
    if "client_ip" not in one:
        return ""
    address = one["client_ip"]
    return f"[{address}]:{one['client_port']}" if ":" in address else f"{address}:{one['client_port']}"


# -- layout -----------------------------------------------------------------------------------------------------------


def _table(out: Console, title: str | Text, rows: Iterable[Mapping[str, str | Text]]) -> None:
    """Aligned columns without those that are empty; on a narrow terminal every row as a list. No rows, nothing."""
    texts = [{column: _cell(cell) for column, cell in row.items()} for row in rows]
    if not texts:
        return
    out.print()
    out.print(title if isinstance(title, Text) else Text(title))
    columns = [column for column in texts[0] if any(row[column].plain for row in texts)]
    widths = {column: max(cell_len(column), *(row[column].cell_len for row in texts)) for column in columns}
    if sum(widths.values()) + 2 * len(columns) > out.width:
        _stacked(out, columns, texts)
        return
    heading = {column: Text(column, "dim") for column in columns}
    for row in [heading, *texts]:
        line = Text()
        for column in columns:
            gap = " " * (widths[column] - row[column].cell_len)
            line.append("  ")
            line.append(gap if column in _RIGHT else "")
            line.append_text(row[column])
            line.append("" if column in _RIGHT else gap)
        line.rstrip()
        out.print(line)


def _plain_columns(rows: list[dict[str, str]]) -> Iterator[str]:
    """The same columns without colour and title, as lines: a hundred thousand of them in a second or two."""
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    printed = [columns, *([_plain(row[column]) for column in columns] for row in rows)]
    widths = [max(map(cell_len, cells)) for cells in zip(*printed, strict=True)]
    right = [column in _RIGHT for column in columns]
    for cells in printed:
        padded = (
            " " * (width - cell_len(cell)) + cell if to_right else cell + " " * (width - cell_len(cell))
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        )
        yield "  ".join(padded).rstrip() + "\n"


def _stacked(out: Console, columns: list[str], rows: list[dict[str, Text]]) -> None:
    first, *others = columns
    width = max((cell_len(column) for column in others), default=0)
    for row in rows:
        label = "" if first == "name" else f"{first} "
        out.print(Text.assemble("  ", (label, "dim"), row[first]), overflow="fold")
        for column in others:
            if row[column].plain:
                name = column + " " * (width - cell_len(column))
                out.print(Text.assemble("    ", (name, "dim"), "  ", row[column]), overflow="fold")


def _lines(out: Console, title: str, items: Iterable[tuple[str, str]]) -> None:
    """A line of prose for each that has any."""
    told = [(name, text) for name, text in items if text]
    if not told:
        return
    out.print()
    out.print(Text(title))
    for name, text in told:
        out.print(Text(f"  {_plain(name)}: {_plain(text)}"), overflow="fold")


def _cell(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(_plain(cell))


def _plain(text: str) -> str:
    """Without anything that a terminal obeys: names of certificates are not ours."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def _state(word: str) -> Text:
    return Text(_plain(word), _STYLES.get(word, "bold red"))


def _days(left: float, soon: float) -> Text:
    shown = min(round(left, 1), -0.1) if left < 0 else left  # what is over is below zero, however little
    return Text(f"{shown:.1f}", "bold red" if left < 0 else "yellow" if left < soon else "")


def _bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    power = min((len(str(count)) - 1) // 3, len(_BYTES))
    return f"{count / 1000**power:.1f} {_BYTES[power - 1]}"


def _duration(seconds: float) -> str:
    """The two largest units: 2 d 3 h."""
    left = int(seconds)
    parts = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
