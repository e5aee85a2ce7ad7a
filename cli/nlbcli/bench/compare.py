"""`nlb bench compare`"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from nlbcore.errors import EXIT_FAILED, NlbError

if TYPE_CHECKING:
    from nlbbench.spec import Backend

PEERS = "nlb,haproxy,nginx,hitch,stunnel"
QUICK_PEERS = "nlb,haproxy,nginx,hitch"
MOST_WORKERS = 64


@click.command("compare")
@click.option("--peers", metavar="NAMES", help=f"Who is measured. [default: {PEERS}; with --quick without stunnel]")
@click.option(
    "--scenario", "scenarios", metavar="NAMES", multiple=True, help="Only these; may be given again. [default: all]"
)
@click.option("--quick/--full", default=True, help="Less than three minutes, or about twelve. [default: quick]")
@click.option(
    "--workers",
    metavar="[NAME=]N",
    multiple=True,
    help="Workers of each proxy, or of one of them; may be given again. [default: 1]",
)
@click.option(
    "--binary",
    "binaries",
    metavar="NAME=PATH",
    multiple=True,
    help="Another program: haproxy=/opt/haproxy, nlb-b=/opt/b/bin/nlb.",
)
@click.option(
    "--address",
    "addresses",
    metavar="NAME=HOST:PORT",
    multiple=True,
    help="A proxy that is running, before an echo server.",
)
@click.option("--pid", "pids", metavar="NAME=PID", multiple=True, help="Its main process, for CPU time and memory.")
@click.option(
    "--backend",
    "backends",
    metavar="KIND=HOST:PORT",
    multiple=True,
    help="A running server to put behind, instead of an own one: echo, source, sink.",
)
@click.option(
    "--certificates",
    metavar="DIR",
    type=click.Path(path_type=Path, readable=False, file_okay=False),
    help="root, server and client (.crt and .key); made there if it is empty. [default: made and thrown away]",
)
@click.option("--reference", metavar="NAME", help="Whom ratios are to. [default: haproxy, else the first]")
@click.option(
    "--repetitions", metavar="N", type=click.IntRange(1, 1000), help="Of everything. [default: 3, with --full 5]"
)
@click.option(
    "--floor/--no-floor",
    default=True,
    help="Measure the limit too: OpenSSL in memory, and a plain relay. [default: floor]",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, readable=False, file_okay=False),
    help="Folder for report.json, report.html and report.png.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and no table.")
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 1 if an exchange failed where nothing had happened, or a peer is left out.",
)
@click.pass_context
def command(
    ctx: click.Context,
    *,
    peers: str | None,
    scenarios: tuple[str, ...],
    quick: bool,
    workers: tuple[str, ...],
    binaries: tuple[str, ...],
    addresses: tuple[str, ...],
    pids: tuple[str, ...],
    backends: tuple[str, ...],
    certificates: Path | None,
    reference: str | None,
    repetitions: int | None,
    floor: bool,
    out: Path | None,
    as_json: bool,
    strict: bool,
) -> None:
    """Compare nlb with HAProxy, nginx, Hitch and stunnel on this machine: CPU time, memory, latency of the same work.

    All get the same certificates, suite and servers, and are measured in turn. Ctrl-C keeps what was measured. Two builds of nlb
    in one run: --peers nlb-a,nlb-b --binary nlb-a=A/bin/nlb --binary nlb-b=B/bin/nlb --reference nlb-a.
    """
    from rich.console import Console

    from nlbbench import bar, compare, output, trials
    from nlbbench.figures import Figures
    from nlbcli.bench._written import written

    programs = {name: Path(path) for name, path in (_named(one, "--binary", "PATH") for one in binaries)}
    everybody, single = _workers(workers)
    asked = (QUICK_PEERS if quick else PEERS) if peers is None else peers
    names = [name for name in asked.split(",") if name]
    chosen, missing = compare.choose(names, programs, _running(addresses, pids), single)
    if unknown := set(single) - {one.name for one in chosen} - {one.name for one in missing}:
        raise click.UsageError(f"--workers {', '.join(sorted(unknown))}: there is no peer of that name")
    if not chosen:
        raise NlbError("none of the peers is there: " + "; ".join(one.why for one in missing))
    size = trials.QUICK if quick else trials.FULL
    if repetitions is not None:
        size = replace(size, repetitions=repetitions, events=repetitions, relays=repetitions, budget=inf)
    wish = compare.Wish(
        tuple(chosen),
        tuple(trials.chosen([name for one in scenarios for name in one.split(",")], size)),
        size,
        workers=everybody,
        reference=_reference(reference, [one.name for one in chosen]),
        floor=floor,
        certificates=certificates,
        servers=_servers(backends),
    )
    if out is not None:
        output.prepare(out)
    with bar.shown(Console(stderr=True)) as watch:
        report = compare.Comparison(wish, missing, watch).run()
    written(report, out, as_json=as_json)
    bad = Figures(report).unexpected() or any(not one.trial for one in report.left_out)
    if not report.samples or (strict and bad):
        ctx.exit(EXIT_FAILED)


def _named(value: str, option: str, what: str) -> tuple[str, str]:
    name, found, rest = value.partition("=")
    if not name or not found or not rest:
        raise click.UsageError(f"{option} {value}: NAME={what} is meant")
    return name, rest


def _running(addresses: tuple[str, ...], pids: tuple[str, ...]) -> dict[str, tuple[str, int | None]]:
    """Proxies that are not started here: name -> address and main process."""
    running = dict(_named(one, "--address", "HOST:PORT") for one in addresses)
    processes = {name: _pid(number) for name, number in (_named(one, "--pid", "PID") for one in pids)}
    if unknown := set(processes) - set(running):
        raise click.UsageError(f"--pid {', '.join(sorted(unknown))}: there is no --address of that name")
    return {name: (address, processes.get(name)) for name, address in running.items()}


def _servers(backends: tuple[str, ...]) -> dict[Backend, str]:
    from nlbbench.spec import Backend

    servers = {}
    for kind, address in (_named(one, "--backend", "HOST:PORT") for one in backends):
        if kind not in {"echo", "source", "sink"}:
            raise click.UsageError(f"--backend {kind}: echo, source or sink is meant")
        servers[Backend(kind)] = address
    return servers


def _reference(wanted: str | None, names: list[str]) -> str:
    if wanted is None:
        return "haproxy" if "haproxy" in names else names[0]
    if wanted not in names:
        raise click.UsageError(f"--reference {wanted}: it is none of the peers: {', '.join(names)}")
    return wanted


def _workers(texts: tuple[str, ...]) -> tuple[int, dict[str, int]]:
    """Everybody's, and those of single peers."""
    everybody, single = 1, {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not number.isdigit() or not 1 <= int(number) <= MOST_WORKERS:
            raise click.UsageError(f"--workers {text}: a number from 1 to {MOST_WORKERS} is meant, or NAME=N")
        if name:
            single[name] = int(number)
        else:
            everybody = int(number)
    return everybody, single


def _pid(text: str) -> int:
    if not text.isdigit():
        raise click.UsageError(f"--pid {text}: a number is meant")
    return int(text)
