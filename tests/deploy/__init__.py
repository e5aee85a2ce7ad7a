"""The files of deploy/: each is read, and where possible run, by the program that it is for."""

from __future__ import annotations

import click

from nlbcli.main import nlb
from tests.tree import ROOT

DEPLOY = ROOT / "deploy"


def commands(command: click.Command = nlb, *words: str) -> dict[tuple[str, ...], click.Command]:
    """Every command by the words that are typed after `nlb`; nlb itself by none."""
    found = {words: command}
    if isinstance(command, click.Group):
        for name in command.list_commands(context := click.Context(command)):
            below = command.get_command(context, name)
            assert below is not None
            found |= commands(below, *words, name)
    return found


def is_command(text: str) -> bool:
    """Whether the words after `nlb` begin with a command that can be carried out; what follows are its arguments."""
    words = tuple(text.split())
    known = commands()
    longest = next(words[:end] for end in range(len(words), -1, -1) if words[:end] in known)
    return longest == words or not isinstance(known[longest], click.Group)
