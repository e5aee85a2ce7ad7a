"""Numbers with a unit as they are typed: what is none is told in words, not in click's `float range`."""

from __future__ import annotations

import click
import pytest

from nlbcli._number import Bytes, Seconds
from tests.support.balancer import nlb


def test_numbers() -> None:
    assert Seconds(0.1)("0.5") == 0.5
    assert Bytes(1)("4096") == 4096
    with pytest.raises(click.BadParameter, match="0 is not in the range x>=1"):
        Bytes(1)("0")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("reload", "--timeout", "5s"), "'5s' is not a valid number of seconds, as in 10 or 0.5."),
        (("top", "--interval", "2s"), "'2s' is not a valid number of seconds, as in 10 or 0.5."),
        (("bench", "load", "127.0.0.1:1", "-d", "10s"), "'10s' is not a valid number of seconds, as in 10 or 0.5."),
        (("bench", "load", "127.0.0.1:1", "--size", "4k"), "'4k' is not a valid number of bytes, as in 4096."),
        (("bench", "backend", "slow", "--chunk", "4k"), "'4k' is not a valid number of bytes, as in 4096."),
    ],
)
def test_a_number_with_its_unit_is_told_so(words: tuple[str, ...], message: str) -> None:
    done = nlb(*words)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
