"""The options that choose connections: what is no server, no address or no text is told before a balancer is asked."""

from __future__ import annotations

import click
import pytest

from nlbcli._filters import identity, network, server_name
from tests.support.balancer import nlb

OPTION = click.Option(["--option"])
CONTEXT = click.Context(click.Command("nlb"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app/a", ("app", "a")),
        ("app/10.0.0.1:80", ("app", "10.0.0.1:80")),
        ("app/[::1]:80", ("app", "[::1]:80")),
        ("a.b:c/unix:/run/app.sock", ("a.b:c", "unix:/run/app.sock")),
    ],
)
def test_a_server(text: str, expected: tuple[str, str]) -> None:
    assert server_name(CONTEXT, OPTION, text) == expected


@pytest.mark.parametrize("text", ["", "app", "app/", "/a", "/"])
def test_no_server(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not GROUP/SERVER, as in app/10"):
        server_name(CONTEXT, OPTION, text)


def test_addresses() -> None:
    for text, expected in (("10.0.0.1", "10.0.0.1/32"), ("10.0.0.1/8", "10.0.0.0/8"), ("::1", "::1/128")):
        assert str(network(CONTEXT, OPTION, text)) == expected
    for text in ("", "localhost", "10.0.0.1:80", "10.0.0.0/33"):
        with pytest.raises(click.BadParameter, match="is no IP address"):
            network(CONTEXT, OPTION, text)


def test_a_part_of_everything_is_no_identity() -> None:
    assert identity(CONTEXT, OPTION, "a") == "a"
    for text in ("", " "):
        with pytest.raises(click.BadParameter):
            identity(CONTEXT, OPTION, text)


@pytest.mark.parametrize("command", ["conns", "kill"])
def test_wrong_usage(command: str) -> None:
    done = nlb(command, "--server", "app")
    assert (done.returncode, done.stdout) == (2, "")
    assert "GROUP/SERVER" in done.stderr
