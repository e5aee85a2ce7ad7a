"""`nlb check`"""

from __future__ import annotations

import json
import os
from pathlib import Path

import rich_click as click

from nlbcli.main import config_option
from nlbcore.config.finding import Finding
from nlbcore.errors import EXIT_CONFIG


@click.command("check")
@config_option
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(ctx: click.Context, path: Path, *, strict: bool, as_json: bool) -> None:
    """Check a configuration and everything it names, without starting anything.

    Tells every finding, one a line: `FILE:LINE:COLUMN: error: KEY: message`. Certificates and keys are read and compared,
    so run it as the user that the balancer runs as. Exits with 0 if `nlb run` would take it, else with 78. Nothing is
    bound: that an address is taken or not this machine's shows at the start only.
    """
    from nlbcore.process.checker import rehearse

    rehearsal = rehearse(path)
    passed = not rehearsal.findings if strict else rehearsal.ok
    if as_json:
        findings = [finding.as_dict() for finding in rehearsal.findings]
        click.echo(json.dumps({"file": str(path), "ok": passed, "findings": findings}, indent=2, ensure_ascii=False))
    else:
        for finding in rehearsal.findings:
            click.echo(_coloured(finding), color=False if os.environ.get("NO_COLOR") else None)
        count = _count(rehearsal.findings)
        verdict = f"OK{count and ', '}{count}" if passed else f"{count}{_why(rehearsal.ok)}"
        click.echo(f"{path}: {verdict}")
    ctx.exit(0 if passed else EXIT_CONFIG)


def _coloured(finding: Finding) -> str:
    """The severity in colour; click takes the colour out where the output is no terminal."""
    word = click.style(f"{finding.severity}:", fg="red" if finding.severity == "error" else "yellow", bold=True)
    return str(finding).replace(f" {finding.severity}:", f" {word}", 1)


def _count(findings: tuple[Finding, ...]) -> str:
    errors = sum(finding.severity == "error" for finding in findings)
    numbers = ((errors, "error"), (len(findings) - errors, "warning"))
    return ", ".join(f"{number} {word}{'' if number == 1 else 's'}" for number, word in numbers if number)


def _why(ok: bool) -> str:
    return " (--strict)" if ok else ""
