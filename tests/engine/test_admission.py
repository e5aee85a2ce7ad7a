"""Who is let in by each mode of client authentication, and how many with one certificate."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable

import pytest

from nlbcore.observe.access_log import PROVEN, REPORTED
from nlbcore.termination import Termination
from tests.engine.running import BLOCK, Running
from tests.engine.secure import Client, Web
from tests.support.certs import Pki

Start = Callable[..., Running]


@pytest.fixture
def web(pki: Pki) -> Web:
    return Web(pki)


def served(running: Running, count: int) -> None:
    running.turn(lambda: BLOCK.servers[0].live == count)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_optional(start: Start, web: Web, pki: Pki, version: ssl.TLSVersion) -> None:
    running = start(**web.plan(mode="optional"))
    for number, certificate in enumerate((None, pki.client), 1):
        Client(running, pki, certificate, version).shake()
        served(running, number)
    assert sorted(one.flags & PROVEN for one in running.living()) == [0, PROVEN]
    with contextlib.suppress(ssl.SSLError):  # TLS 1.3 believes that all is well
        Client(running, pki, pki.bad_client("unknown_ca"), version).shake()
    assert running.words() == ["unknown_ca"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_report(start: Start, web: Web, pki: Pki, version: ssl.TLSVersion) -> None:
    """The first error is the verdict, though OpenSSL finds another one after it."""
    running = start(**web.plan(mode="report"))
    before = list(BLOCK.listeners[0].verdicts)
    for number, certificate in enumerate((None, pki.client, pki.bad_client("unknown_ca")), 1):
        Client(running, pki, certificate, version).shake()
        served(running, number)
    living = {one.verdict: one for one in running.living()}
    assert set(living) == {0, Termination.NO_CERTIFICATE, Termination.UNKNOWN_CA}
    assert all(one.flags & REPORTED for one in living.values())
    assert living[Termination.UNKNOWN_CA].verify_error == 20
    after = BLOCK.listeners[0].verdicts
    assert {number for number, count in enumerate(before) if after[number] == count + 1} == set(living)


def test_the_limit(start: Start, web: Web, pki: Pki) -> None:
    """Of one certificate; whoever comes after one has left is let in, and others are not concerned."""
    running = start(**web.plan(max_connections_per_certificate=2))
    clients = [Client(running, pki, pki.client).shake() for _ in range(2)]
    served(running, 2)
    for _ in range(3):
        refused = Client(running, pki, pki.client).shake()
        (ended,) = running.ended()
        assert (running.word(ended), ended.server_row) == ("connection_limit", 0xFFFF)
        assert refused.read() == b""
    Client(running, pki, pki.root.client("another")).shake()
    served(running, 3)
    gone = clients[0].ssl.getsockname()[1]
    running.engine.kill_slice({one.id for one in running.living() if one.port == gone}, 0)
    running.ended()
    served(running, 2)
    Client(running, pki, pki.client).shake()
    served(running, 3)


def test_a_limit_that_a_reload_brings(start: Start, web: Web, pki: Pki) -> None:
    """Who was there before counts."""
    running = start(**web.plan())
    Client(running, pki, pki.client).shake()
    served(running, 1)
    running.reload(2, **web.plan(max_connections_per_certificate=1))
    Client(running, pki, pki.client).shake()
    assert running.words() == ["connection_limit"]
