"""What `nlb conns` and `nlb kill` have in common: the options that choose connections, and asking for those."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    from nlbcore.observe.connections import Connections


def server_name(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, str] | None:
    """`GROUP/SERVER` as a pair; the name of a server is its address by default, and may hold dots, colons and slashes."""
    if value is None:
        return None
    group, slash, server = value.partition("/")
    if not (group and slash and server):
        raise click.BadParameter(f'"{value}" is not GROUP/SERVER, as in app/10.0.0.1:80; `nlb status` shows the names')
    return group, server


def network(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> IPv4Network | IPv6Network | None:
    """An address, or a network of addresses."""
    try:
        return None if value is None else ip_network(value, strict=False)
    except ValueError:
        raise click.BadParameter(f'"{value}" is no IP address, and no network as 10.0.0.0/8') from None


def identity(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """A text that is not empty: that would be a part of everything."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty")
    return value


def filter_options(function: Any) -> Any:
    """The options that are the fields of `nlbcore.observe.connections.Filter`."""
    for decorate in (
        click.option("--server", metavar="GROUP/SERVER", callback=server_name, help="Of this server."),
        click.option(
            "--identity",
            metavar="TEXT",
            callback=identity,
            help="Whose client certificate has TEXT in its subject or in an alternative name, or a SHA-256 that begins "
            "with it (8 digits or more).",
        ),
        click.option("--client", metavar="IP", callback=network, help="From this address, or a network as 10.0.0.0/8."),
        click.option("--listener", metavar="NAME", help="Of this listener."),
    ):
        function = decorate(function)
    return function


@contextlib.contextmanager
def connections(where: Path, filters: dict[str, Any]) -> Iterator[Connections]:
    """The live connections that the options choose, read while they are iterated.

    Raises:
        NlbError: as `nlbcore.control.client.call()`; a filter names what there is not
    """
    from nlbcore.control.client import call_with_descriptors
    from nlbcore.observe.connections import Connections, Filter

    answer, fds = call_with_descriptors(where, "conns")
    try:
        yield Connections(answer, fds, Filter(**filters))
    finally:
        for fd in fds:
            os.close(fd)


def tell_unreadable(found: Connections) -> None:
    """Say on stderr what was left out."""
    for worker in found.unreadable:
        click.echo(
            f"nlb: the connections of worker {worker} are left out: it does not answer, or its list cannot be read",
            err=True,
        )
