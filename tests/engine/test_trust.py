"""Who was let in and would not be now: live connections are asked when a reload has changed whom a listener trusts."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nlbcore.observe.access_log import PROVEN, RESUMED
from tests.engine.running import BLOCK, Running
from tests.engine.secure import Client, Web
from tests.support.certs import Issued, Pki, now
from tests.support.lists import revocation_list, write_lists

Start = Callable[..., Running]
HANDSHAKE = 2
HELLO = 1


@pytest.fixture
def web(pki: Pki) -> Web:
    return Web(pki)


@pytest.fixture
def lists(pki: Pki, tmp_path: Path) -> Callable[..., Path]:
    """`lists(REVOKED...)`: a file with the root's list."""

    def make(*revoked: Issued) -> Path:
        return write_lists(tmp_path, revocation_list(pki.root, *revoked))

    return make


@pytest.fixture
def connect(pki: Pki) -> Iterator[Callable[..., Client]]:
    """`connect(RUNNING, CERTIFICATE, ...)`: a client that has come through to the server."""

    def make(running: Running, certificate: Issued | None, *arguments: Any, **keys: Any) -> Client:
        before = BLOCK.servers[0].live
        client = Client(running, pki, certificate, *arguments, **keys).shake()
        running.turn(lambda: BLOCK.servers[0].live > before)
        return client

    yield make


def recheck(running: Running, us: int = 100_000) -> int:
    """Look at all live connections, until it is done: how many were closed."""
    running.engine.recheck()
    deadline = time.monotonic() + 5
    while (closed := running.engine.recheck_slice(us)) is None:
        assert time.monotonic() < deadline
        running.engine.turn()
    return closed


def live(running: Running) -> set[int]:
    """The ports of the clients that are connected to a server."""
    return {one.port for one in running.living() if one.termination == 4}


def port(client: Client) -> int:
    number: int = client.ssl.getsockname()[1]
    return number


def test_nothing_has_changed(start: Start, web: Web, pki: Pki, connect: Callable[..., Client]) -> None:
    running = start(**web.plan())
    clients = [connect(running, pki.client, version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
    running.reload(2, **web.plan(lost_trust=True))
    assert recheck(running) == 0
    assert live(running) == {port(client) for client in clients}
    assert recheck(running) == 0, "what was found good is remembered"


def test_nobody_is_connected(start: Start, web: Web) -> None:
    running = start(**web.plan())
    running.reload(2, **web.plan(lost_trust=True))
    assert recheck(running) == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_a_ca_is_trusted_no_more(
    start: Start, web: Web, pki: Pki, connect: Callable[..., Client], version: ssl.TLSVersion
) -> None:
    """Its clients are cut, whichever intermediates they have sent; those of the others stay."""
    running = start(**web.plan(pki.root, pki.other))
    good = [connect(running, one, version) for one in (pki.client, pki.intermediate.client("below"))]
    bad = connect(running, pki.other.client("stranger"), version)
    running.reload(2, **web.plan(pki.root, lost_trust=True))
    assert recheck(running) == 1
    (ended,) = running.ended()
    assert (ended.port, ended.generation) == (port(bad), 1)
    assert ended.verify_error == 20, "unable to get local issuer certificate"
    assert live(running) == {port(client) for client in good}
    assert bad.read() == b""


def test_words(start: Start, web: Web, pki: Pki, connect: Callable[..., Client], lists: Callable[..., Path]) -> None:
    """Revoked; and refused for anything else."""
    running = start(**web.plan(lists=[lists()]))
    other = pki.root.client("another")
    keeps, loses = connect(running, other), connect(running, pki.client)
    running.reload(2, **web.plan(lists=[lists(pki.client)]))
    assert recheck(running) == 1
    assert running.words() == ["became_revoked"]
    assert loses.read() == b""
    assert live(running) == {port(keeps)}
    running.reload(3, **web.plan(pki.other, lost_trust=True))
    assert recheck(running) == 1
    assert running.words() == ["became_refused"]


def test_an_expired_certificate(start: Start, web: Web, pki: Pki, connect: Callable[..., Client]) -> None:
    """Its dates count at every re-check, also when nothing else has changed."""
    end = now() + dt.timedelta(seconds=1)
    running = start(**web.plan())
    connect(running, pki.root.client("short", not_after=end))
    running.reload(2, **web.plan())
    assert recheck(running) == 0
    running.turn(lambda: now() > end)
    running.reload(3, **web.plan())
    assert recheck(running) == 1
    assert running.words() == ["became_expired"]


def test_live_connections_may_be_kept(
    start: Start, web: Web, pki: Pki, connect: Callable[..., Client], lists: Callable[..., Path]
) -> None:
    """`on_revoked = "keep"`: whoever is in stays in."""
    running = start(**web.plan(lists=[lists()]))
    client = connect(running, pki.client)
    running.reload(2, **web.plan(lists=[lists(pki.client)], keep_live=True))
    assert recheck(running) == 0
    assert live(running) == {port(client)}
    running.reload(3, **web.plan(lists=[lists(pki.client)]))
    assert recheck(running) == 1, "and is asked when that has changed"


def test_a_certificate_is_required_now(start: Start, web: Web, pki: Pki, connect: Callable[..., Client]) -> None:
    """Nobody was asked before: who has one is as unknown as who has none."""
    running = start(**web.plan(mode="off"))
    for certificate in (None, pki.client):
        connect(running, certificate)
    running.reload(2, **web.plan())
    assert recheck(running) == 2
    assert running.words(2) == ["became_refused"] * 2
    assert BLOCK.servers[0].live == 0


def test_none_is_required_any_more(start: Start, web: Web, pki: Pki, connect: Callable[..., Client]) -> None:
    running = start(**web.plan(pki.other))
    connect(running, pki.other.client("stranger"))
    running.reload(2, **web.plan(mode="off"))
    assert recheck(running) == 0


def test_plain_connections_of_a_listener_that_asks_for_certificates_now(start: Start, web: Web) -> None:
    running = start()
    running.connect()
    running.turn(lambda: BLOCK.servers[0].live)
    running.reload(2, **web.plan())
    assert recheck(running) == 1
    assert running.words() == ["became_refused"]


def test_fewer_intermediates(start: Start, web: Web, pki: Pki, connect: Callable[..., Client]) -> None:
    """The client's certificate and the CA do not count."""
    running = start(**web.plan(depth=2))
    clients = [connect(running, pki.deep_client(f"d{depth}", depth)) for depth in range(3)]
    running.reload(2, **web.plan(depth=1, lost_trust=True))
    assert recheck(running) == 1
    assert live(running) == {port(client) for client in clients[:2]}
    running.reload(3, **web.plan(depth=0, lost_trust=True))
    assert recheck(running) == 1
    assert live(running) == {port(clients[0])}
    assert {ended.verify_error for ended in running.ended(2)} == {22}, "certificate chain too long"


def test_resumed_connections(
    start: Start, server: socket.socket, web: Web, pki: Pki, connect: Callable[..., Client]
) -> None:
    """They have sent no intermediates: the CAs of the listener must do, else a full handshake is asked for."""
    tls12 = ssl.TLSVersion.TLSv1_2
    below = pki.intermediate.client("below")
    running = start(**web.plan(pki.root, pki.other))
    resumed = []
    for certificate in (pki.client, below):
        full = connect(running, certificate, tls12)
        resumed.append(connect(running, certificate, tls12, context=full.context, session=full.ssl.session))
        full.ssl.close()
        server.accept()[0].close()
        running.ended()
        running.clients.append(server.accept()[0])
    running.turn(lambda: [one.flags & RESUMED for one in running.living()] == [RESUMED] * 2)
    running.reload(2, **web.plan(pki.root, lost_trust=True))
    assert recheck(running) == 1
    assert [ended.port for ended in running.ended()] == [port(resumed[1])]
    again = connect(running, below, tls12, context=resumed[1].context, session=resumed[1].ssl.session)
    assert not again.ssl.session_reused, "the listener trusts others now"
    assert recheck(running) == 0


def test_a_listener_that_is_no_more(start: Start, web: Web, pki: Pki, connect: Callable[..., Client]) -> None:
    """Its connections are drained, by the rules that let them in."""
    running = start(**web.plan())
    connect(running, pki.client)
    running.engine.remove_acceptor(running.acceptor)
    running.engine.retire(running.number)
    assert recheck(running) == 0


def test_in_slices(start: Start, web: Web, pki: Pki, connect: Callable[..., Client]) -> None:
    """A step between two rounds of the loop; whoever connects meanwhile has been looked at already."""
    running = start(**web.plan(pki.root, pki.other))
    for number in range(4):
        connect(running, pki.other.client(f"stranger-{number}"))
    running.reload(2, **web.plan(lost_trust=True))
    running.engine.recheck()
    assert running.engine.recheck_slice(0) is None, "no time, no answer"
    late = connect(running, pki.client)
    slices = 0
    while (closed := running.engine.recheck_slice(1)) is None:
        slices += 1
        running.engine.turn()
    assert closed == 4
    assert slices >= 3, "one verification a microsecond at most"
    assert live(running) == {port(late)}


# -- handshakes that a reload overtakes ----------------------------------------------------------------------------------


def begun(running: Running, pki: Pki, certificate: Issued | None) -> Client:
    """A client that has got the server's first answer, and has yet to send its certificate."""
    client = Client(running, pki, certificate)
    assert not client.step()
    running.turn(lambda: (port(client), HANDSHAKE) in {(one.port, one.termination) for one in running.living()})
    running.engine.run(0.02)
    return client


def test_a_handshake_in_the_middle(start: Start, web: Web, pki: Pki, lists: Callable[..., Path]) -> None:
    """It ends by the rules of the generation in force, whatever it began with; nobody reaches a server who may not."""
    cases: list[tuple[dict[str, Any], dict[str, Any], Issued | None, str]] = [
        ({}, {}, pki.client, ""),
        ({"lists": [lists()]}, {"lists": [lists(pki.client)]}, pki.client, "revoked"),
        ({"mode": "off"}, {}, pki.client, "no_certificate"),
        ({"mode": "off"}, {}, None, "no_certificate"),
        ({"depth": 1}, {"depth": 0, "lost_trust": True}, pki.intermediate.client("below"), "chain_too_long"),
        ({"lists": [lists()]}, {"lists": [lists(pki.client)], "keep_live": True}, pki.client, "revoked"),
    ]
    running = start(**web.plan())
    for number, (before, after, certificate, word) in enumerate(cases, 1):
        running.reload(2 * number, **web.plan(**before))
        live_before = BLOCK.servers[0].live
        client = begun(running, pki, certificate)
        running.reload(2 * number + 1, **web.plan(**after))
        client.shake()
        if word:
            (ended,) = running.ended()
            assert (running.word(ended), ended.generation) == (word, 2 * number)
            assert ended.server_row == 0xFFFF
            assert BLOCK.servers[0].live == live_before
        else:
            running.turn(lambda: BLOCK.servers[0].live == live_before + 1)  # noqa: B023 - called here


def test_a_ca_that_is_gone_before_its_client_has_shown_himself(start: Start, web: Web, pki: Pki) -> None:
    running = start(**web.plan(pki.root, pki.other))
    client = begun(running, pki, pki.other.client("stranger"))
    running.reload(2, **web.plan(lost_trust=True))
    client.shake()
    assert running.words() == ["unknown_ca"]
    assert BLOCK.listeners[0].live == 0 or client.read() == b""


def test_who_has_said_nothing_yet_is_of_the_generation_in_force(start: Start, web: Web, pki: Pki) -> None:
    """Its settings, its limits, its log; and the old one is not needed for it."""
    running = start(**web.plan())
    client = Client(running, pki, pki.other.client("stranger"))
    running.turn(lambda: [one.termination for one in running.living()] == [HELLO])
    running.reload(2, **web.plan(pki.other))
    client.shake()
    running.turn(lambda: BLOCK.servers[0].live)
    (one,) = running.living()
    assert (one.generation, one.flags & PROVEN) == (2, PROVEN)
    assert [plan.generation for plan in running.engine.reap()] == [1]


def test_ready_connections_carry_no_settings_over_a_reload(start: Start, web: Web, pki: Pki) -> None:
    """They were made on the front context as it was: those that are left are thrown away."""
    running = start(**web.plan())
    first = Client(running, pki, pki.client).shake()
    running.turn(lambda: BLOCK.servers[0].live)
    at_once = web.made
    assert at_once > 1, "or none would be left"
    waits = Client(running, pki, pki.client)
    running.turn(lambda: len(running.living()) == 2)
    running.reload(2)  # TLS no more: who has come for it is served by what there was
    waits.shake()
    running.turn(lambda: BLOCK.servers[0].live == 2)
    assert web.made == 2 * at_once
    assert {one.generation for one in running.living()} == {1}
    first.ssl.close()
