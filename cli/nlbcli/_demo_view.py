"""What a demo prints: what it has made, what went as it should, what to try, and the access log for human eyes."""

from __future__ import annotations

import datetime as dt
import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from nlbcli._demo_checks import Check, Line
from nlbcli._demo_folder import CLIENT, PASSWORD, REASON, REVOKED, SERVER_ADDRESS, SERVER_NAMES, SOCKET
from nlbcli._view import console

_ENDED = {"client_close", "server_close"}
"""How connections end when nothing is wrong."""
_WIDTH = 15
"""Of a word in the log; the longest common ones fit."""


class View:
    """Prints to standard output, or nothing if quiet; colour on a terminal only."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._out: Console = console()
        self._out.quiet = quiet
        symbols = self._out.is_terminal and (self._out.encoding or "").lower().startswith("utf")
        self._good, self._bad = ("✓", "✗") if symbols else ("ok", "FAILED")

    def made(self, folder: Path, port: int, workers: int, *, kept: bool) -> None:
        """The files, and what runs."""
        self._heading(f"nlb demo: mutual TLS on https://{SERVER_NAMES[0]}:{port}/")
        names = ", ".join((*SERVER_NAMES, SERVER_ADDRESS))
        processes = "1 worker" if workers == 1 else f"{workers} workers"
        rows = (
            (str(folder), "" if kept else "(removed at the end)"),
            ("  ca/", "a private authority: root, intermediate, ca.crl"),
            ("  server.crt", names),
            ("  client.crt", f"{CLIENT}; client.p12 for browsers, password: {PASSWORD}"),
            ("  revoked.crt", f"{REVOKED}, revoked: {REASON}"),
            ("  nlb.toml", f"the configuration, in force: 2 servers, both Available; {processes}"),
        )
        for name, text in rows:
            self._line(Text.assemble((f"{name:<14}", "bold"), " ", text))

    def checked(self, check: Check) -> None:
        """How one check went."""
        mark, style = (self._bad, "bold red") if check.problem else (self._good, "bold green")
        self._line(Text())
        self._line(Text.assemble((mark, style), " ", (check.title, "bold")))
        for name, text in check.facts:
            self._line(Text.assemble((f"    {name:<15}", "dim"), clean(text)))
        if check.problem:
            self._line(Text(f"    {check.problem}", "red"))

    def to_try(self, folder: Path, port: int) -> None:
        """Commands for another terminal, whole lines for the clipboard."""
        root, url = folder / "ca" / "root.crt", f"https://{SERVER_NAMES[0]}:{port}/"
        self._line(Text())
        self._heading("To try in another terminal")
        for certificate, title in (("client", "answered"), (None, "refused"), ("revoked", "refused: revoked")):
            self._line(Text(f"# {title}", "dim"))
            pair = [] if certificate is None else _pair(folder, certificate)
            self._command("curl", "--cacert", str(root), *pair, url)
        self._line(Text("# how it fares", "dim"))
        self._command(*_nlb(), "status", "--socket", str(folder / SOCKET))
        self._line(Text(f"# a browser: import client.p12 (password: {PASSWORD}) and ca/root.crt, open {url}", "dim"))

    def following(self) -> None:
        """The rest is the access log."""
        self._line(Text())
        self._heading("The access log as it grows; Ctrl-C ends everything")

    def logged(self, line: Line) -> None:
        """One line of the access log."""
        self._out.print(readable(line), no_wrap=True, overflow="ellipsis")
        sys.stdout.flush()

    def ended(self, *, kept: Path | None) -> None:
        """The last words."""
        self._line(Text())
        self._line(Text("everything has ended" + (f"; the files are in {kept}" if kept else "; the folder is removed")))

    def _heading(self, text: str) -> None:
        self._line(Text(text, "bold cyan"))

    def _command(self, *words: str) -> None:
        self._line(Text(shlex.join(words)))

    def _line(self, text: Text) -> None:
        """Never broken by us: what a terminal wraps by itself it also copies in one piece."""
        self._out.print(text, soft_wrap=True)
        sys.stdout.flush()


def readable(line: Line) -> Text:
    """A line of the access log: when, how it ended, where it went, who it was, how much."""
    word = str(line.get("termination", "?"))
    style = "green" if word in _ENDED else "yellow" if "server" in line else "red"
    moment = dt.datetime.fromisoformat(line["time"]).astimezone() if "time" in line else None
    subject = line.get("client_cert_subject")
    claimed = "" if line.get("client_cert_proven") else " (claimed)"
    numbers = [str(line["tls_protocol_version"])] if "tls_protocol_version" in line else []
    if "server" in line:
        numbers.append(f"{line.get('received_bytes', 0):,} B in, {line.get('sent_bytes', 0):,} B out")
    if "connection_time_ms" in line:
        numbers.append(f"{line['connection_time_ms']:,.0f} ms")
    return Text.assemble(
        (f"{moment:%H:%M:%S}  " if moment else "", "dim"),
        (f"{clean(word):<{_WIDTH}}", style),
        f"  {'-> ' + clean(str(line['server'])) if 'server' in line else '':<4}",
        f"  {clean(str(subject)) + claimed if subject else 'no certificate':<22}",
        (f"  {clean(', '.join(numbers))}", "dim"),
    )


def clean(text: str) -> str:
    """Without anything that a terminal obeys: names in certificates are not ours."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _pair(folder: Path, certificate: str) -> list[str]:
    return ["--cert", str(folder / f"{certificate}.crt"), "--key", str(folder / f"{certificate}.key")]


def _nlb() -> list[str]:
    """How this very program is called: by its name where the shell finds it."""
    program = Path(sys.argv[0]).absolute()
    if program.name != "nlb":
        return [sys.executable, "-m", "nlbcli.main"]
    found = shutil.which("nlb")
    return ["nlb" if found is not None and Path(found).absolute() == program else str(program)]
