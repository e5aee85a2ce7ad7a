"""`nlb bench backend`"""

from __future__ import annotations

import rich_click as click

from nlbcli._number import Bytes, Seconds


@click.command("backend")
@click.argument("kind", metavar="KIND", type=click.Choice(["echo", "source", "sink", "slow"]))
@click.option(
    "--listen",
    metavar="ADDRESS",
    default="127.0.0.1:0",
    show_default=True,
    help="Where to listen: ADDRESS:PORT or unix:PATH; port 0 takes a free one.",
)
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="How many share the socket."
)
@click.option("--delay", type=Seconds(0), default=0.0, metavar="SECONDS", help="slow: wait so long before each read.")
@click.option("--chunk", type=Bytes(0), default=0, metavar="BYTES", help="slow: read at most so many at a time.")
def command(*, kind: str, listen: str, processes: int, delay: float, chunk: int) -> None:
    """Run a server for a load test, behind the listener that is loaded.

    KIND is echo, source, sink or slow. echo sends back what it gets, for most scenarios of `nlb bench load`; source and sink
    are for `download` and `upload`; slow is an echo that takes its time. Prints the address and serves until Ctrl-C.
    """
    import signal

    from nlbbench.backends import serve
    from nlbbench.spec import Backend

    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with serve(Backend(kind), listen, processes=processes, delay=delay, chunk=chunk) as server:
        click.echo(server.address)
        signal.sigwait(ends)
