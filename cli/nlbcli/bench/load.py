"""`nlb bench load`"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from nlbcli._number import Bytes, Seconds

if TYPE_CHECKING:
    from nlbbench.spec import Load, Outcome, Sample, Target, Work

_FILE = click.Path(path_type=Path, readable=False, dir_okay=False)


def _marks(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[float, str]]:
    """Each SECONDS:COMMAND."""
    found = []
    for value in values:
        seconds, _, text = value.partition(":")
        try:
            at = float(seconds)
        except ValueError:
            at = -1.0
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: {error}") from None
        if at < 0 or not words:
            raise click.BadParameter(f"{value!r}: write it as SECONDS:COMMAND, as in 3:'nlb reload'")
        found.append((at, text))
    return found


@click.command("load")
@click.argument("address")
@click.option(
    "-s",
    "--scenario",
    type=click.Choice(["handshakes", "resumed", "churn", "echo", "download", "upload", "both", "storm", "idle"]),
    default="handshakes",
    show_default=True,
    metavar="NAME",
    help="What to do; see above.",
)
@click.option("-n", "--connections", type=click.IntRange(1), metavar="N", help="How many at a time.")
@click.option(
    "-r",
    "--rate",
    type=click.FloatRange(0, min_open=True),
    metavar="PER_SECOND",
    help="Exchanges a second, on a fixed schedule: latency counts from the planned start. [default: flat out]",
)
@click.option("--size", type=Bytes(1), metavar="BYTES", help="Of a message each way, or of a piece.")
@click.option(
    "-d",
    "--duration",
    type=Seconds(0, min_open=True),
    metavar="SECONDS",
    help="How long to measure. [default: 10, or until --count is made]",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="Stop after so many exchanges.")
@click.option(
    "--warmup",
    type=Seconds(0),
    default=0.5,
    show_default=True,
    metavar="SECONDS",
    help="Before the measurement.",
)
@click.option(
    "--timeout",
    type=Seconds(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="An exchange that takes longer has failed.",
)
@click.option(
    "-p",
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes of the generator.",
)
@click.option("--burst", type=Bytes(0), metavar="BYTES", help="idle: moved once by each connection, there and back.")
@click.option("--storm", type=click.IntRange(1), metavar="N", help="storm: connections that do handshakes.")
@click.option(
    "--at",
    "marks",
    callback=_marks,
    multiple=True,
    metavar="SECONDS:COMMAND",
    help="Run a command in the middle (a reload, a kill); may be given several times.",
)
@click.option("--server-name", metavar="NAME", help="For SNI and for the certificate. [default: the host of ADDRESS]")
@click.option("--ca", type=_FILE, metavar="FILE", help="Roots of the server's certificate. [default: the system's]")
@click.option("--cert", type=_FILE, metavar="FILE", help="The client's certificate and chain, PEM.")
@click.option("--key", type=_FILE, metavar="FILE", help="Its key, PEM. [default: in --cert]")
@click.option("--insecure", is_flag=True, help="Take any server certificate.")
@click.option("--plain", is_flag=True, help="No TLS.")
@click.option("--tls-version", type=click.Choice(["1.2", "1.3"]), help="Offer only this one.")
@click.option("--suite", metavar="NAME", help="Offer only this cipher suite.")
@click.option("--group", metavar="NAME", help="Offer only this key exchange, such as X25519.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Load a TLS listener and say how it did: rates, latencies to the 99.99th percentile, and every exchange that failed.

    ADDRESS is HOST:PORT or unix:PATH. Behind the listener must stand what the scenario needs: `nlb bench backend echo` (or
    another echo), for download `nlb bench backend source`, for upload `nlb bench backend sink`. Every byte that comes back is
    compared.

    \b
    handshakes  connect, full handshake, 16 bytes and their answer, close
    resumed     the same, resumed; a handshake that was full has failed
    churn       connect, full handshake, 1 KB each way, close
    echo        messages of 128 bytes on 64 connections
    download    bytes from a source, flat out
    upload      bytes to a sink, flat out
    both        bytes to an echo and back at once
    storm       echo at 500/s beside 64 clients that do full handshakes flat out
    idle        1000 silent connections

    \b
    nlb bench load lb.example.com:443 --ca root.crt --cert client.crt --key client.key
    nlb bench load 127.0.0.1:8443 --server-name www.example.com ... -s storm --rate 1000 -d 30
    nlb bench load 127.0.0.1:8443 --server-name www.example.com ... -s echo --at 3:'nlb reload'

    Ctrl-C ends the measurement, and shows what was measured. Exits with 1 when an exchange failed.
    """  # noqa: D301 - \b is click's word for "as it stands"
    from nlbbench.load import run
    from nlbcli.bench._progress import shown

    load = _load(options)
    _try_once(load)
    hooks = {text: _runner(text) for _, text in options["marks"]}
    with shown(load, quiet=options["as_json"]) as progress:
        outcome = run(load, hooks=hooks, progress=progress)
    if options["as_json"]:
        click.echo(_json(outcome))
    else:
        from nlbcli.bench._table import show

        show(outcome)
    ctx.exit(1 if outcome.failures else 0)


def _load(options: dict[str, Any]) -> Load:
    from nlbbench.scenarios import SCENARIOS
    from nlbbench.spec import Load, Mark

    given = ("connections", "rate", "size", "count", "burst", "storm")
    duration = options["duration"]
    if duration is None and options["count"] is None:
        duration = 10.0
    return Load(
        _target(options),
        SCENARIOS[options["scenario"]].with_(**{key: options[key] for key in given}),
        duration=duration,
        warmup=options["warmup"],
        processes=options["processes"],
        timeout=options["timeout"],
        marks=tuple(Mark(at, text) for at, text in options["marks"]),
    )


def _target(options: dict[str, Any]) -> Target:
    from nlbbench.spec import Target

    return Target(
        options["address"],
        tls=not options["plain"],
        server_name=options["server_name"],
        ca=options["ca"],
        verify=not options["insecure"],
        certificate=options["cert"],
        private_key=options["key"],
        version=options["tls_version"],
        suite=options["suite"],
        group=options["group"],
    )


def _try_once(load: Load) -> None:
    """One exchange before all others: what would fail for all is told in one line.

    Raises:
        LoadError: it failed
    """
    from nlbbench.load import LoadError, run
    from nlbbench.spec import Population, Work

    work = load.populations[0].work
    probe = Population("probe", work if work in {Work.DOWNLOAD, Work.UPLOAD} else Work.CONNECT, size=16, count=1)
    outcome = run(replace(load, populations=(probe,), duration=None, warmup=0.0, processes=1, marks=()))
    if outcome.interrupted:
        raise click.Abort
    for sample in outcome.populations[0].samples:
        hint = _hint(load.target, sample, work)
        raise LoadError(f"{load.target.address}: {sample.text}{hint and f'; {hint}'}")


def _hint(target: Target, sample: Sample, work: Work) -> str:
    """What to do about a first exchange that failed: the option that is missing or wrong; empty where nothing is known."""
    from nlbbench.spec import Failure

    if sample.failure is Failure.CERTIFICATE:
        if "mismatch" in sample.text:
            return "give the name that the certificate is for with --server-name"
        return f"is its root in {target.ca} (--ca)?" if target.ca else "name a file with its root: --ca"
    if sample.failure is Failure.ALERT:
        about = (
            ("certif", "handshake_failure") if target.certificate is None else ("certif", "unknown_ca", "access_denied")
        )
        if not any(word in sample.text for word in about):
            return ""
        if target.certificate is None:
            return "show a client certificate with --cert and --key"
        return f"`nlb explain {target.certificate}` and the access log say why"
    if sample.failure is Failure.HANDSHAKE:
        if "no protocols available" in sample.text:
            return "--tls-version and --suite do not fit together"
        return "if no TLS is spoken there: --plain"
    if sample.failure in {Failure.TIMEOUT, Failure.CORRUPT, Failure.TRUNCATED, Failure.SURPLUS, Failure.RESET}:
        tls = "" if target.tls else " If it speaks TLS, leave out --plain"
        return f"is there `nlb bench backend {work.backend}` behind it?{tls}"
    return ""


def _runner(text: str) -> Callable[[], None]:
    """A hook that runs a command."""

    def call() -> None:
        done = subprocess.run(shlex.split(text), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-200:]}")

    return call


def _json(outcome: Outcome) -> str:
    """The outcome with the percentiles that its encoded histograms hold."""
    from nlbbench.histogram import PERCENTILES, Latency

    table = json.loads(outcome.to_json())
    for entry, one in zip(table["populations"], outcome.populations, strict=True):
        for name in ("latency", "service", "handshake"):
            found = Latency.read(getattr(one, name))
            figures = {f"p{percent:g}": found.percentile(percent) for percent in PERCENTILES}
            entry[f"{name}_seconds"] = {**figures, "longest": found.longest, "mean": found.mean}
        entry["rate"] = one.rate
    return json.dumps(table, indent=2, ensure_ascii=False)
