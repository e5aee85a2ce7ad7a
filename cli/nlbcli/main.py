"""The command group: what commands there are, where the configuration is looked for, how errors end the program."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import rich_click as click

from nlbcore import __version__
from nlbcore.errors import ConfigError, NlbError

DEFAULT_FILES = (Path("nlb.toml"), Path("/etc/nlb/nlb.toml"))

EXIT_CODES = (
    (0, "done"),
    (1, "failed"),
    (2, "wrong usage"),
    (69, "no running balancer at that socket"),
    (75, "busy"),
    (77, "a permission is missing (bind, key file)"),
    (78, "the configuration cannot be used"),
)


def tell_error(text: object) -> None:
    """A message to stderr, without what a terminal obeys but line ends: names of files and in certificates are not ours."""
    click.echo("nlb: " + "".join(one if one.isprintable() or one == "\n" else "?" for one in str(text)), err=True)


class LazyGroup(click.RichGroup):
    """A group that knows its commands by name and help, and imports the one that is called.

    So `nlb check` does not load what `nlb run` needs, and a part that cannot be loaded takes no other command with it.
    """

    lazy: dict[str, str]
    """Command name -> module with a click command `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in self.lazy:
            return None
        command: click.Command = importlib.import_module(self.lazy[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a misspelt one is told with the one that was meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from nlbcore.config.finding import did_you_mean

            hint = did_you_mean(args[0], self.lazy)
            if not hint:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')} ({hint}).", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours is a message and an exit code, never a traceback."""
        try:
            return super().invoke(ctx)
        except NlbError as error:
            tell_error(error)
            ctx.exit(error.exit_code)


class MainGroup(LazyGroup):
    """`nlb`"""

    lazy = {  # noqa: RUF012 - constant
        "run": "nlbcli.run",
        "check": "nlbcli.check",
        "explain": "nlbcli.explain",
        "config": "nlbcli.config",
        "status": "nlbcli.status",
        "top": "nlbcli.top",
        "conns": "nlbcli.conns",
        "kill": "nlbcli.kill",
        "server": "nlbcli.server",
        "log": "nlbcli.log",
        "reload": "nlbcli.reload",
        "stop": "nlbcli.stop",
        "ca": "nlbcli.ca",
        "cert": "nlbcli.cert",
        "demo": "nlbcli.demo",
        "bench": "nlbcli.bench",
    }

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of exit codes, in the look of the other panels."""
        from rich.panel import Panel
        from rich.table import Table

        del ctx
        assert isinstance(formatter, click.RichHelpFormatter)
        table = Table.grid(padding=(0, 2))
        for code, meaning in EXIT_CODES:
            table.add_row(str(code), meaning)
        formatter.write(Panel(table, title="Exit codes", title_align="left", border_style="dim"))


def config_option(function: Any) -> Any:
    """`-c FILE`, the same for every command that needs the configuration."""
    return click.option(
        "-c",
        "--config",
        "path",
        metavar="FILE",
        type=click.Path(path_type=Path, readable=False),
        callback=_default_file,
        help="Configuration file. [default: ./nlb.toml, then /etc/nlb/nlb.toml]",
    )(function)


def _default_file(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None or ctx.resilient_parsing:
        return path
    for default in DEFAULT_FILES:
        if default.exists():
            return default
    raise ConfigError(
        "there is no configuration file: neither ./nlb.toml nor /etc/nlb/nlb.toml. "
        "Name one with -c FILE, or write one: nlb config init"
    )


def _print_versions(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    from OpenSSL import SSL

    openssl = SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()
    click.echo(f"nlb {__version__}")
    click.echo(f"python {sys.version.split()[0]}")
    click.echo(f"cryptography {version('cryptography')}")
    click.echo(f"pyOpenSSL {version('pyOpenSSL')}")
    click.echo(openssl)
    ctx.exit()


@click.group(cls=MainGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions of nlb and of what it runs on.",
)
def nlb() -> None:
    """A network load balancer that ends mutual TLS: client certificates verified, plain TCP to the servers."""


def main() -> None:
    nlb(prog_name="nlb")


if __name__ == "__main__":
    main()
