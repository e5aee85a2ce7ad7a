"""`nlb` itself: help, versions, exit codes, and what is said when no configuration is found."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from nlbcli.main import nlb as main_group
from tests.support.balancer import NLB, nlb

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_help_names_the_commands_and_the_exit_codes() -> None:
    result = nlb("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for word in ("run", "check", "config", "Exit codes", "69", "75", "77", "78"):
        assert word in result.stdout


@pytest.mark.parametrize(
    "command", [["run"], ["check"], ["config"], ["config", "init"], ["config", "show"], ["config", "schema"]]
)
def test_every_command_has_help(command: list[str]) -> None:
    result = nlb(*command, "-h")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"nlb {' '.join(command)}" in result.stdout


def test_versions() -> None:
    result = nlb("--version")
    assert (result.returncode, result.stderr) == (0, "")
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names == ["nlb", "python", "cryptography", "pyOpenSSL", "OpenSSL"]
    assert f"python {platform.python_version()}\n" in result.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["check", "--nonsense"], ["config", "nonsense"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    result = nlb(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "nonsense" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"), [(["chek"], '(did you mean "check"?)'), (["cert", "isue"], '"issue"?'), (["xyzzy"], "")]
)
def test_a_misspelt_command(arguments: list[str], hint: str) -> None:
    done = nlb(*arguments)
    assert done.returncode == 2
    assert f"No such command '{arguments[-1]}'" in done.stderr
    assert hint in done.stderr
    assert ("did you mean" in done.stderr) == bool(hint)


@pytest.mark.parametrize("command", [["run"], ["check"], ["config", "show"]])
def test_no_configuration(tmp_path: Path, command: list[str]) -> None:
    if Path("/etc/nlb/nlb.toml").exists():
        pytest.skip("this machine has /etc/nlb/nlb.toml")
    result = nlb(*command, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr == (
        "nlb: there is no configuration file: neither ./nlb.toml nor /etc/nlb/nlb.toml. "
        "Name one with -c FILE, or write one: nlb config init\n"
    )


def test_colour_only_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "nlb.toml").write_text("a = 1\n")
    assert "\x1b" not in nlb("check", cwd=tmp_path).stdout
    assert "\x1b" not in nlb("--help").stdout
    assert "\x1b[" in on_terminal(tmp_path, {})
    assert "\x1b[" not in on_terminal(tmp_path, {"NO_COLOR": "1"})


def on_terminal(folder: Path, environment: dict[str, str]) -> str:
    """What `nlb check` prints on a terminal."""
    master, slave = os.openpty()
    try:
        subprocess.run(
            [NLB, "check"],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", **environment},
            check=False,
            timeout=20,
        )
        return os.read(master, 65536).decode()
    finally:
        os.close(master)
        os.close(slave)


def test_a_command_is_imported_when_used() -> None:
    """`nlb config init` needs neither OpenSSL nor the engine, and no command needs the others."""
    code = "import sys, nlbcli.main; print(*sorted(name for name in sys.modules if 'OpenSSL' in name or name.startswith('nlb')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.findall(r"\S+", result.stdout) == ["nlbcli", "nlbcli.main", "nlbcore", "nlbcore.errors"]


def _commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from _commands(command)


def test_a_file_that_may_not_be_read_is_no_wrong_usage() -> None:
    """What reads it says so, with 77 or the command's own code: click would say 2 before."""
    paths = [
        (command.name, parameter.name, parameter.type.readable)
        for command in _commands(main_group)
        for parameter in command.params
        if isinstance(parameter.type, click.Path)
    ]
    assert len(paths) > 20
    assert [path for path in paths if path[2]] == []


def test_what_prints_a_result_prints_it_as_json() -> None:
    """But for what serves until it is stopped, `top`, which is for eyes, and `config schema`, which is JSON anyway."""
    without = {
        command.name
        for command in _commands(main_group)
        if not isinstance(command, click.Group) and not any("--json" in parameter.opts for parameter in command.params)
    }
    assert without == {"run", "backend", "top", "schema"}


@pytest.mark.parametrize("command", [("show",), ("doctor",), ("verify", "--ca-file", "x"), ("bundle", "--out", "x")])
def test_an_error_gives_a_terminal_no_orders(tmp_path: Path, command: tuple[str, ...]) -> None:
    """A stranger's file may be called like one: here one that would change the window's title."""
    result = nlb("cert", *command, "a\x1b]0;b\x07", cwd=tmp_path)
    assert result.stderr == "nlb: cannot read a?]0;b?: no such file or directory\n"
