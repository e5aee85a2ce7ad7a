#!/usr/bin/env python3
"""Write the manual pages (one for `nlb`, one for each command, one for the file) and the completion scripts.

    ci/manual.py man DIR            DIR/nlb.1, DIR/nlb-run.1 ... and DIR/nlb.toml.5
    ci/manual.py completion DIR     DIR/nlb.bash, DIR/nlb.zsh, DIR/nlb.fish

Both come from the installed commands and the model of the configuration, so they are made when a package is made, and
not kept. click-man was looked at: it knows neither sections beside click's own nor a page for a file.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click import shell_completion
from pydantic import BaseModel

from nlbcli.main import EXIT_CODES, nlb
from nlbcore import __version__
from nlbcore.config.model import Config
from nlbcore.config.option import Option, all_options, child_header, options_of
from nlbcore.config.render import default_text

SIGNALS = (
    ("HUP", "Reload: configuration, certificates, authorities and revocation lists, all or nothing."),
    ("USR1", "Open the log files again, after they have been rotated."),
    ("USR2", "Start the program again, as it is installed now, and hand everything over to it (binary upgrade)."),
    ("TERM, INT, QUIT", "Accept no more, let connections finish, end. TERM or INT a second time: end at once."),
    ("TTIN, TTOU", "One worker more, one less."),
)
ENVIRONMENT = (
    ("NO_COLOR", "No colours, even on a terminal."),
    ("RUNTIME_DIRECTORY", "Where the control socket is, unless `node.control_socket` says; set by systemd."),
    ("XDG_RUNTIME_DIR", "The same for a user other than root, in its folder nlb."),
    ("NLB_CA_PASSPHRASE", "The passphrase of the authority's keys, unless --passphrase-file says."),
    (
        "CREDENTIALS_DIRECTORY",
        "Where the passphrase is looked for after that, in the file ca-passphrase; set by systemd.",
    ),
    ("NLB_CA_NEW_PASSPHRASE", "What `nlb ca passphrase` changes it to; after that the file ca-new-passphrase there."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS, LISTEN_FDNAMES", "What systemd gives a service; see sd_notify(3)."),
)
FILES = (
    ("./nlb.toml, /etc/nlb/nlb.toml", "The configuration, where -c does not name it; the first that is there."),
    ("/run/nlb/nlb.sock", "The control socket of a balancer that root or systemd has started."),
)


def pages() -> Iterator[tuple[str, str]]:
    """File name and text of every page."""
    context = click.Context(nlb, info_name="nlb", **nlb.context_settings)
    yield "nlb.1", command_page(context)
    for below in subcommands(context):
        yield f"{dashed(below)}.1", command_page(below)
    yield "nlb.toml.5", file_page()


def subcommands(context: click.Context) -> Iterator[click.Context]:
    """The commands below a group, and those below them."""
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            below = click.Context(command, info_name=name, parent=context)
            yield below
            yield from subcommands(below)


def dashed(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def command_page(context: click.Context) -> str:
    command = context.command
    options = [one for one in command.get_params(context) if isinstance(one, click.Option) and not one.hidden]
    text = inspect.cleandoc(command.help or "").partition("\f")[0]
    summary = text.partition("\n\n")[0].replace("\n", " ").partition(". ")[0].rstrip(".")
    lines = [
        head(dashed(context), 1),
        ".SH NAME",
        f"{escaped(dashed(context))} \\- {prose(summary)}",
        ".SH SYNOPSIS",
        f".B {escaped(context.command_path)}",
        escaped(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *paragraphs(text),
    ]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        lines += entries(
            (f"{dashed(one)}(1)", one.command.get_short_help_str(200))
            for one in subcommands(context)
            if one.parent is context
        )
    lines += [".SH OPTIONS", *(line for option in options for line in option_entry(option, context))]
    if dashed(context) in {"nlb", "nlb-run"}:
        lines += [".SH SIGNALS", "To the supervisor, the process that was started:", *entries(SIGNALS)]
        lines += [".SH ENVIRONMENT", *entries(ENVIRONMENT), ".SH FILES", *entries(FILES)]
    codes = getattr(command, "exit_codes", EXIT_CODES)
    lines += [".SH EXIT STATUS", *entries((str(code), meaning.capitalize() + ".") for code, meaning in codes)]
    lines += [".SH SEE ALSO", *see_also(context)]
    return "\n".join(lines) + "\n"


def option_entry(option: click.Option, context: click.Context) -> Iterator[str]:
    record = option.get_help_record(context)
    assert record is not None
    names, text = record
    yield ".TP"
    yield f".B {escaped(names)}"
    yield prose(text)


def see_also(context: click.Context) -> Iterator[str]:
    group = context if isinstance(context.command, click.Group) else context.parent
    assert group is not None
    near = [group, *(one for one in subcommands(group) if one.parent is group)]
    names = {f"{dashed(one)}(1)" for one in near if one.command is not context.command}
    yield ",\n".join(f"\\fB{escaped(name[:-3])}\\fR{name[-3:]}" for name in [*sorted(names), "nlb.toml(5)"])


def file_page() -> str:
    """nlb.toml(5): every option, from the model."""
    lines = [
        head("nlb.toml", 5),
        ".SH NAME",
        "nlb.toml \\- configuration of the nlb load balancer",
        ".SH DESCRIPTION",
        prose(
            "TOML. Relative paths are relative to the file. A duration is a number with its unit (`ms`, `s`, `m`, `h`, "
            '`d`), as in "10s", or a number of seconds. `nlb check` tells everything that is wrong with a file; '
            "`nlb config init` writes a sample with every option."
        ),
    ]
    arrays = set(array_headers(Config))
    table = None
    for option in all_options(Config):
        if option.table != table:
            table = option.table
            lines.append(f".SH {escaped(f'[[{table}]]' if table in arrays else f'[{table}]')}")
        lines += [".TP", f".B {escaped(option.key)}", prose(f"{option.text} {values(option)}")]
    lines += [".SH SEE ALSO", "\\fBnlb\\fR(1),", "\\fBnlb\\-check\\fR(1),", "\\fBnlb\\-config\\fR(1)"]
    return "\n".join(lines) + "\n"


def array_headers(model: type[BaseModel], table: str = "") -> Iterator[str]:
    """The tables of which there may be several: those with two brackets."""
    for option in options_of(model, table):
        if option.children is not None:
            if option.is_array:
                yield child_header(option)
            yield from array_headers(option.children, child_header(option))


def values(option: Option) -> str:
    said = [option.kind.expected]
    if option.range_text:
        said.append(option.range_text)
    said.append("required" if option.required else f"default: {default_text(option)}")
    if option.extra.tls_only:
        said.append('only with protocol = "TCPSSL"')
    return f"({'; '.join(said)})"


def head(name: str, section: int) -> str:
    """The first lines: no date, so that the same sources make the same page; neither hyphens nor a right margin."""
    return f'.TH "{escaped(name.upper() if section == 1 else name)}" {section} "" "nlb {__version__}" "nlb manual"\n.nh\n.ad l'


def entries(pairs: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in pairs:
        yield from (".TP", f".B {escaped(term)}", prose(text))


def paragraphs(text: str) -> Iterator[str]:
    r"""Paragraphs as click reads them: one that begins with \b keeps its lines."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        kept = paragraph.removeprefix("\b\n")
        yield from (".nf", prose(kept), ".fi") if kept != paragraph else (prose(paragraph.replace("\n", " ")),)


def prose(text: str) -> str:
    """Text with `words` in bold."""
    return re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped(text))


def escaped(text: str) -> str:
    """What troff would take for its own is made text."""
    text = text.replace("\\", "\\e")
    for character, name in (("-", "\\-"), ("~", "\\(ti"), ("^", "\\(ha")):
        text = text.replace(character, name)
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


class BashComplete(shell_completion.ShellComplete):
    """click's own class starts bash to look at its version before it writes the script."""

    name = "bash"
    source_template = shell_completion.BashComplete.source_template


def completions() -> Iterator[tuple[str, str]]:
    for shell in (BashComplete, shell_completion.ZshComplete, shell_completion.FishComplete):
        yield f"nlb.{shell.name}", shell(nlb, {}, "nlb", "_NLB_COMPLETE").source()


def main(arguments: list[str]) -> int:
    makers = {"man": pages, "completion": completions}
    if len(arguments) != 2 or arguments[0] not in makers:
        print("usage: ci/manual.py man|completion DIR", file=sys.stderr)
        return 2
    folder = Path(arguments[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in makers[arguments[0]]():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
