"""`nlb explain`"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from nlbcli.cert._paper import opener, password_file_option, tell
from nlbcli.main import config_option
from nlbcore.errors import EXIT_FAILED, ConfigError, NlbError

if TYPE_CHECKING:
    from nlbcore.config.model import Config
    from nlbcore.tls.explain import Explanation

UNIX_SECONDS = re.compile("[0-9]{9,11}")
"""Fewer digits are a date, as in 20270131."""
_COLOURS = {} if os.environ.get("NO_COLOR") else {"passed": "green", "failed": "red"}


@click.command("explain")
@click.argument("file", metavar="CERT", type=click.Path(path_type=Path, readable=False))
@config_option
@click.option("--listener", "name", metavar="L", help="The listener to ask. [default: the only one with TLS]")
@click.option(
    "--chain",
    "chain_files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path, readable=False),
    help="Intermediates that the client sends, beside those that stand behind its certificate in CERT. Repeatable.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="Ask about another time: a date or a time of RFC 3339, UTC unless it says otherwise, or Unix seconds. Revocation lists "
    "are those that are there now. [default: now]",
)
@password_file_option("CERT, if that is PKCS#12,")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    path: Path,
    *,
    name: str | None,
    chain_files: tuple[Path, ...],
    at: str | None,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Would the client certificate CERT be accepted by a listener of the configuration now, and why not?

    CERT is PEM, DER or PKCS#12, `-` the standard input. The listener's own code decides, with its CAs, revocation lists and
    rules; the word is the one that the access log and the metrics would have. What cannot be known without the client
    is named. Exits with 0 if it would be accepted, 1 if not, 78 if the configuration cannot be used.
    """
    from nlbcore.process.checker import rehearse
    from nlbcore.tls.explain import explain

    given = [*_certificates(file, password_file), *(der for one in chain_files for der in _certificates(one, None))]
    moment = None if at is None else _moment(at)
    rehearsal = rehearse(path, at=moment)
    config, material = rehearsal.loaded.config, rehearsal.material
    if config is None or material is None:
        for finding in rehearsal.errors:
            click.echo(str(finding), err=True)
        raise ConfigError(f"{path} cannot be used; `nlb check` says more")
    name = _chosen(config, name)
    found = explain(name, config.listeners[name], material.listeners[name], given, config.security_policies, moment)
    if as_json:
        _print_json(name, file, found, moment)
    else:
        _print(name, file, found, moment)
    ctx.exit(0 if found.accepted else EXIT_FAILED)


def _chosen(config: Config, name: str | None) -> str:
    tls = [one for one, listener in config.listeners.items() if listener.protocol == "TCPSSL"]
    known = ", ".join(tls)
    if not tls:
        raise NlbError("no listener of the configuration has TLS, so none asks for client certificates")
    if name is None:
        if len(tls) != 1:
            raise NlbError(f"which listener? Name one with --listener; those with TLS are: {known}")
        return tls[0]
    if name not in tls:
        raise NlbError(f"there is no listener {name} with TLS; there are: {known}")
    return name


def _moment(value: str) -> dt.datetime:
    from nlbcore.pki import dates

    if UNIX_SECONDS.fullmatch(value):
        value = dt.datetime.fromtimestamp(int(value), dt.UTC).isoformat()
    return dates.moment(value, "--at")


def _certificates(file: Path, password_file: Path | None) -> list[bytes]:
    from cryptography.hazmat.primitives.serialization import Encoding

    from nlbcore.pki import contents
    from nlbcore.pki.errors import PkiError

    loaded = contents.load(file, opener(file, password_file))
    if loaded.bundle is not None and not loaded.bundle.opened:
        raise PkiError(f"{file} is closed: give --password-file FILE")
    for damaged in loaded.of(contents.Damaged):  # or what comes behind it would be taken for the client's
        raise PkiError(f"{file}: {damaged.what}")
    if not loaded.certificates:
        raise PkiError(f"{file} holds no certificate")
    return [one.public_bytes(Encoding.DER) for one in loaded.certificates]


def _print_json(name: str, file: Path, found: Explanation, moment: dt.datetime | None) -> None:
    from nlbcore.tls.explain import UNTESTED

    shown = {"file": str(file), "listener": name, **_at(moment), **asdict(found), "not_tested": UNTESTED}
    shown["stages"] = [dict(zip(("name", "result", "about"), stage, strict=True)) for stage in found.stages]
    click.echo(json.dumps(shown, indent=2))


def _at(moment: dt.datetime | None) -> dict[str, str]:
    return {} if moment is None else {"at": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _print(name: str, file: Path, found: Explanation, moment: dt.datetime | None) -> None:
    from nlbcore.tls.explain import UNTESTED

    verdict = "accepted" if found.accepted else "refused"
    word = "" if found.word == "accepted" else f": {found.word}"
    when = "".join(f" at {text}" for text in _at(moment).values())
    tell(f"{file}: {verdict} by {name}{when}{word}")
    if found.mode == "report" and word:
        tell("  mode = report: it is let in all the same, and this is logged and counted")
    if found.detail:
        subject = f": {found.verify_ca_subject}" if found.verify_ca_subject else ""
        tell(f"  {found.detail}{subject}")
    if found.allowed:
        tell(f"  {found.allowed}")
    for depth, subject in enumerate(found.chain):
        tell(f"    {depth:2} {subject}")
    for stage, result, about in found.stages:
        tell(f"{stage:12} {about}", before=f"  {click.style(f'{result:15}', fg=_COLOURS.get(result))} ")
    if found.advice:
        tell(f"  What to do: {found.advice}.")
    if found.mode != "off":
        tell("  Not tested here:")
        for text in UNTESTED:
            tell(f"    {text}")
