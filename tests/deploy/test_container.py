"""The container file: built from what is here, run as a user, read only; no image is built for this test."""

from __future__ import annotations

import json
import re

from nlbcore.config.model import Node
from tests.deploy import DEPLOY
from tests.support.balancer import NLB
from tests.support.programs import run
from tests.tree import ROOT

TEXT = (DEPLOY / "container/Containerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """Instruction and the rest of its line, continued lines joined."""
    text = re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line]


STEPS = instructions()
FINAL = STEPS[max(number for number, (word, _) in enumerate(STEPS) if word == "FROM") :]
LAST = dict(FINAL)


def test_only_instructions_that_are_wanted() -> None:
    """No ADD: it fetches and unpacks. No EXPOSE and no VOLUME: which ports and folders is for the configuration to say."""
    wanted = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in STEPS} == wanted


def test_images_are_named_without_a_registry() -> None:
    images = [rest.split()[0] for word, rest in STEPS if word == "FROM"]
    assert len(images) == 2
    for image in images:
        assert re.fullmatch(r"[a-z]+:[a-z0-9.-]+", image), image
    assert len(set(images)) == 1, "a venv works only with the Python that it was made with"


def test_what_is_copied_is_there_and_is_all_that_the_build_reads() -> None:
    copied = set()
    for word, rest in STEPS:
        if word == "COPY" and "--from" not in rest:
            *sources, _ = rest.split()
            copied |= set(sources)
    assert all((ROOT / source).exists() for source in copied)
    assert {"pyproject.toml", "setup.py", "MANIFEST.in", "nlbcore", "cli"} <= copied
    (included,) = re.findall(r"^include (.*LICENSE.*)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE)
    assert set(included.split()) <= copied


def test_nothing_runs_as_root() -> None:
    user = LAST["USER"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), "a number: Kubernetes' runAsNonRoot cannot judge a name"
    made = next(rest for word, rest in FINAL if word == "RUN")
    assert f"--uid {user.split(':')[0]}" in made
    order = [word for word, _ in FINAL]
    assert order.index("USER") > max(number for number, word in enumerate(order) if word in {"RUN", "COPY"})


def test_it_is_stopped_and_watched_as_a_service_is() -> None:
    assert LAST["STOPSIGNAL"] == "SIGTERM"
    defaults = Node()
    (seconds,) = re.findall(r"--stop-timeout (\d+)", TEXT)
    assert int(seconds) > defaults.drain_timeout + defaults.shutdown_delay
    assert "--read-only" in TEXT
    (written,) = re.findall(r"--tmpfs (\S+)", TEXT)
    assert f"RUNTIME_DIRECTORY={written}" in LAST["ENV"]


def test_its_commands_are_ours() -> None:
    (check,) = re.findall(r"CMD (\[.*\])$", LAST["HEALTHCHECK"])
    for words in (json.loads(check), json.loads(LAST["ENTRYPOINT"]) + json.loads(LAST["CMD"])):
        assert words[0] == "nlb"
        # All options are read before --help is obeyed, so a wrong one is an error.
        run(str(NLB), *words[1:], "--help")
    assert "--days" in check
