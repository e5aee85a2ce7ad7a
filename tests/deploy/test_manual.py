"""Manual pages and completion: one page for each command and one for the file, clean troff; the shells complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from nlbcore.config.model import Config
from nlbcore.config.option import all_options
from tests.deploy import commands
from tests.support.balancer import NLB
from tests.support.programs import need, run
from tests.tree import ROOT


def make(what: str, folder: Path) -> dict[str, str]:
    subprocess.run([sys.executable, ROOT / "ci/manual.py", what, folder], check=True, timeout=30)
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def folder(module_folder: Path) -> Path:
    make("man", module_folder / "man")
    make("completion", module_folder / "completion")
    return module_folder


def rendered(page: Path) -> str:
    """The page as `man` shows it, without what a terminal makes bold of."""
    done = run("groff", "-man", "-K", "utf8", "-T", "utf8", "-P", "-cbou", "-rLL=200n", str(page))
    return re.sub(r"[\u2010\u2212]", "-", done.stdout.decode())


def test_every_command_has_a_page_with_all_of_it(folder: Path) -> None:
    everything = {"-".join(("nlb", *words)): command for words, command in commands().items()}
    pages = {path.stem for path in (folder / "man").glob("*.1")}
    assert pages == set(everything)
    for name, command in everything.items():
        text = rendered(folder / "man" / f"{name}.1")
        assert re.search(rf"^NAME\n +{name} - \S.+", text, re.MULTILINE), text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(f" {option}" in text for option in parameter.opts), parameter.name
        plugin = getattr(command, "exit_codes", ())  # ends as monitoring plugins do
        codes = {int(code) for code in re.findall(r"^ +(\d+) +[A-Z]", text[text.index("EXIT STATUS") :], re.MULTILINE)}
        assert codes == ({0, 1, 2, 3} if plugin else {0, 1, 2, 69, 75, 77, 78}), name


def test_the_page_of_the_file_has_every_key(folder: Path) -> None:
    text = rendered(folder / "man" / "nlb.toml.5")
    for option in all_options(Config):
        assert re.search(rf"^ +{option.key}( |$)", text, re.MULTILINE), option.path


def test_troff_has_nothing_to_say(folder: Path) -> None:
    pages = map(str, sorted((folder / "man").iterdir()))
    done = run("groff", "-man", "-ww", "-z", "-K", "utf8", "-T", "utf8", *pages)
    assert done.stderr == b""


def test_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    for what in ("man", "completion"):
        assert make(what, tmp_path / what) == {path.name: path.read_text() for path in (folder / what).iterdir()}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_reads_it(folder: Path, shell: str) -> None:
    run(shell, "-n", str(folder / "completion" / f"nlb.{shell}"))


BASH = """
source nlb.bash
COMP_WORDS=({words}) COMP_CWORD={last}
_nlb_completion nlb
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def complete(folder: Path, shell: str, line: str) -> set[str]:
    """What the shell offers for the last word of the line."""
    words = line.split(" ")
    script = (
        f'source nlb.fish; complete --do-complete "{line}"'
        if shell == "fish"
        else BASH.format(words=" ".join(word or "''" for word in words), last=len(words) - 1)
    )
    done = subprocess.run(
        [need(shell), "-c", script],
        cwd=folder / "completion",
        env={**os.environ, "PATH": f"{NLB.parent}:{os.environ['PATH']}", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stderr == ""
    return {offered.partition("\t")[0] for offered in done.stdout.splitlines()}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_it_completes(folder: Path, shell: str) -> None:
    """Commands, commands of a group, options, and the words that an option takes."""
    assert complete(folder, shell, "nlb ser") == {"server"}
    assert {"drain", "maint", "ready", "weight"} <= complete(folder, shell, "nlb server ")
    assert {"issue", "list", "revoke"} <= complete(folder, shell, "nlb cert ")
    assert "--profile" in complete(folder, shell, "nlb cert issue --pro")
    assert {"server", "client"} <= complete(folder, shell, "nlb cert issue x --profile ")
