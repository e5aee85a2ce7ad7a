"""How the commands that talk to a running balancer find its control socket: `--socket`, `-c`, or neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from nlbcli.main import DEFAULT_FILES
from nlbcore.errors import ConfigError


def socket_options(function: Any) -> Any:
    """`-c FILE` and `--socket PATH`; `control_socket()` makes one path of them."""
    for decorate in (
        click.option(
            "--socket",
            "socket",
            metavar="PATH",
            type=click.Path(path_type=Path, readable=False),
            help="Control socket of the balancer.",
        ),
        click.option(
            "-c",
            "--config",
            "path",
            metavar="FILE",
            type=click.Path(path_type=Path, readable=False),
            help="Configuration file that names the socket. [default: ./nlb.toml, then /etc/nlb/nlb.toml]",
        ),
    ):
        function = decorate(function)
    return function


def control_socket(path: Path | None, socket: Path | None) -> Path:
    """The control socket that the options mean; without any configuration file the default one.

    The running balancer may have been started with an earlier, better state of the file: errors in it matter only where
    they hide the socket.

    Raises:
        ConfigError: the file does not tell
    """
    if socket is not None:
        if path is not None:
            raise click.UsageError("--socket and --config both name the balancer: give one of them")
        return socket
    path = path or next((default for default in DEFAULT_FILES if default.exists()), None)
    if path is None:
        from nlbcore.config.values import default_control_socket

        return default_control_socket()
    from nlbcore.config.load import load

    loaded = load(path)
    hidden = loaded.broken & {("node",), ("node", "control_socket")}
    if loaded.partial is None or hidden:
        for finding in loaded.findings:
            click.echo(str(finding), err=True)
        raise ConfigError(f"{path} does not tell the control socket; name it with --socket PATH", loaded.findings)
    return loaded.partial.node.control_socket
