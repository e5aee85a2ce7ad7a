"""Connections that do not come about say why: nobody there, the wrong certificate on either side, no TLS at all."""

from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING, Any

import pytest

from nlbbench.load import run
from nlbbench.spec import Failure, Load, Mark, Population, Target, Work
from tests.bench.support import one
from tests.support.balancer import server_group, tls_listener
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.balancer import Balancer
    from tests.support.certs import Pki

NAME = "www.example.com"


def test_certificates_that_are_refused(target: Callable[..., Target], pki: Pki) -> None:
    cases = {
        Failure.CERTIFICATE: [
            (target("echo", ca=pki.other.path), "issuer"),
            (target("echo", server_name="wrong.example.com"), "ostname mismatch"),
        ],
        Failure.ALERT: [
            (target("echo", certificate=None, private_key=None), "certificate_required (116)"),
            (_with(target("echo"), pki, "unknown_ca"), "unknown_ca (48)"),
            (_with(target("echo"), pki, "expired"), "certificate_expired (45)"),
        ],
    }
    for failure, pairs in cases.items():
        for wanted, text in pairs:
            found = one(wanted, Work.CONNECT, count=2)
            assert found.failed == {failure: 2}, found.samples
            assert text in found.samples[0].text


def _with(target: Target, pki: Pki, kind: str) -> Target:
    bad = pki.bad_client(kind)
    return dataclasses.replace(target, certificate=bad.path, private_key=bad.key_path)


def test_nobody_listens(target: Callable[..., Target]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = one(dataclasses.replace(target("echo"), address=address), Work.CONNECT, count=3)
    assert found.failed == {Failure.REFUSED: 3}
    assert found.samples[0].text == "connect: Connection refused"


@pytest.fixture(scope="module")
def changing(
    balancer_for: Callable[[Any], Balancer], servers: dict[str, str], pki: Pki
) -> tuple[str, Callable[[int], Callable[[], None]]]:
    """An address, and `show(n)`: a hook that lets the listener there show a renewed certificate (1) or one of an unknown authority (2)."""
    bind = f"127.0.0.1:{free_port()}"
    shown = [pki.root.server(NAME), pki.root.server(NAME), pki.other.server(NAME)]

    def configuration(number: int) -> dict[str, Any]:
        return {
            "listeners": {"web": tls_listener(shown[number], ca=pki.root.path, bind=bind)},
            "server_groups": {"app": server_group({"address": servers["echo"]})},
        }

    balancer = balancer_for(configuration(0))

    def hook(number: int) -> Callable[[], None]:
        def change() -> None:
            balancer.rewrite(configuration(number))
            balancer.reload()

        return change

    return bind, hook


def test_a_certificate_is_judged_again_when_it_changes(
    target: Callable[..., Target], changing: tuple[str, Callable[[int], Callable[[], None]]]
) -> None:
    """One that was found good is known from then on; another one, after a reload in the middle of a run, is not."""
    address, show = changing
    handshakes = (Population("one", Work.CONNECT, connections=2),)
    load = Load(target("echo", address=address), handshakes, duration=0.5, warmup=0.0, marks=(Mark(0.1, "change"),))
    renewed = run(load, hooks={"change": show(1)})
    assert (renewed.failures, renewed.marks[0].error) == (0, "")
    (found,) = run(load, hooks={"change": show(2)}).populations
    assert found.done > 0
    assert set(found.failed) == {Failure.CERTIFICATE}, found.samples
