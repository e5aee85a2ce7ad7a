"""`nlb cert verify`"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from nlbcli.cert._paper import PluginCommand, coloured, opener, password_file_option, tell, unknown_on_failure
from nlbcli.main import tell_error
from nlbcore.pki.words import PROFILES

if TYPE_CHECKING:
    from nlbcore.pki.verify import Verdict


@click.command("verify", cls=PluginCommand)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, readable=False))
@click.option(
    "--ca-file",
    "ca_files",
    metavar="F",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, readable=False),
    help="Who is trusted: a file or a folder, as a listener's `ca` names it. Repeatable.",
)
@click.option(
    "--crl",
    "crl_files",
    metavar="F",
    multiple=True,
    type=click.Path(path_type=Path, readable=False),
    help="Revocation lists: a file or a folder, as a listener's `crl` names it. Repeatable.",
)
@click.option("--purpose", metavar="client|server", type=click.Choice(PROFILES), help="What it has to be good for.")
@click.option("--name", metavar="N", help="A host name, address, URI or mailbox that it has to be valid for.")
@click.option(
    "--chain",
    "chain_files",
    metavar="F",
    multiple=True,
    type=click.Path(path_type=Path, readable=False),
    help="Intermediates, beside those that stand behind the certificate in FILE. Repeatable.",
)
@click.option(
    "--warn-days",
    metavar="N",
    type=click.IntRange(0),
    default=7,
    show_default=True,
    help="Fewer days left are a warning.",
)
@click.option(
    "--warn-crl-days",
    metavar="N",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="The same until the next revocation list is due.",
)
@password_file_option("FILE, if that is PKCS#12,")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    *,
    ca_files: tuple[Path, ...],
    crl_files: tuple[Path, ...],
    purpose: str | None,
    name: str | None,
    chain_files: tuple[Path, ...],
    warn_days: int,
    warn_crl_days: int,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Verify the first certificate of FILE and explain: chain, dates, purpose, names, strength, revocation.

    Ends as monitoring plugins do: 0 it is good; 1 a warning, it or what is above it ends within --warn-days, or the next
    revocation list is late; 2 it would be refused; 3 that could not be found out (wrong usage, a file that cannot be read).
    The first line has the verdict and its reason.

    Who is in --ca-file is trusted as it stands there. Of a folder the same files count as in a listener's `ca` or `crl`; one
    that is passed over is told. Without --crl, revocation is not looked at. Common names are no names.
    """
    from nlbcore.pki.index import now
    from nlbcore.pki.verify import Question, verify

    with unknown_on_failure():
        certificate, *behind = _certificates(file, password_file)
        untrusted = [*behind, *_all(chain_files, "certificate")]
        trusted, lists = _all(ca_files, "certificate"), _all(crl_files, "revocation list")
        verdict = verify(
            Question(certificate, trusted, now(), untrusted, lists, purpose, name, warn_days, warn_crl_days)
        )
    _tell(file, verdict, as_json=as_json)
    ctx.exit(verdict.exit_code)


def _tell(file: Path, verdict: Verdict, *, as_json: bool) -> None:
    from nlbcore.pki.index import now
    from nlbcore.pki.inspect import describe, left_words, subject_words

    if as_json:
        shown = {
            "file": str(file),
            "status": verdict.status,
            "reason": verdict.reason,
            "days_left": verdict.days_left,
            "checks": [vars(check) for check in verdict.checks],
            "chain": [describe(one, now()) for one in verdict.chain],
        }
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    good = f"{subject_words(verdict.chain[0].subject)} is good, {left_words(verdict.days_left)}"
    tell(f"{file}: {verdict.status.upper()}: {good if verdict.status == 'ok' else verdict.reason}")
    for check in verdict.checks:
        tell(f"{check.about:10}  {check.text}", before=f"  {coloured(check.status, 8)}  ")


def _certificates(file: Path, password_file: Path | None) -> list[Any]:
    """The certificate to judge, and what came with it."""
    from nlbcore.pki import contents
    from nlbcore.pki.errors import PkiError

    loaded = contents.load(file, opener(file, password_file))
    if loaded.bundle is not None and not loaded.bundle.opened:
        raise PkiError(f"{file} is closed: give --password-file FILE")
    if not loaded.certificates:
        raise PkiError(f"{file} holds no certificate")
    return loaded.certificates


def _all(files: Iterable[Path], what: str) -> list[Any]:
    """The certificates or revocation lists of files, each of which has to hold one and nothing damaged, and of folders."""
    from cryptography import x509

    from nlbcore.pki import contents
    from nlbcore.pki.errors import PkiError

    kind = x509.Certificate if what == "certificate" else x509.CertificateRevocationList
    found: list[Any] = []
    for path in files:
        if os.path.isdir(path):  # noqa: PTH112 - says no where one may not look
            found += _folder(path, what)
            continue
        loaded = contents.load(path)
        for damaged in loaded.of(contents.Damaged):
            raise PkiError(f"{path}: {damaged.what}")
        if not loaded.of(kind):
            raise PkiError(f"{path} holds no {what}")
        found += loaded.of(kind)
    return found


def _folder(path: Path, what: str) -> list[Any]:
    """What a listener would take from a folder."""
    from nlbcore.tls import trusted

    def tell(text: str) -> None:
        tell_error(f"warning: {text}")

    return trusted.certificates(path, tell) if what == "certificate" else trusted.revocation_lists(path, tell)
