"""Whose turn it is: messages of established connections do not wait for the end of a handshake step.

Ten intermediates of P-384 are above the client: to verify them takes milliseconds, in the middle of which another thread
does something. Whether it was served in the same round is seen when the round is over.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.engine.running import BLOCK, Running
from tests.engine.secure import Client, Web
from tests.support.tls_client import Forger, client_context

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.certs import Issued, Pki
    from tests.support.tls_client import TlsClient

DEPTH = 10
LONG = 0.001
"""Seconds; a round that takes longer is in the middle of a step."""
TRIES = 5
"""A round can be long for other reasons on a busy machine: then nothing was to be seen."""


class Meanwhile:
    """A thread that does something once, in the middle of a long round."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._begun = 0.0
        self._action: Callable[[], object] | None = None
        self._over = False
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over:
            action = self._action
            if action is not None and self._begun and time.monotonic() - self._begun > LONG:
                action()
                self._action = None
            time.sleep(0.0001)  # which lets the other thread go on

    def turns(self, action: Callable[[], object], ready: Callable[[], Any]) -> None:
        """Let the engine work until the action has been done in the middle of a round, after `ready`, and that round is
        over.
        """
        self._action = action
        deadline = time.monotonic() + 5
        while self._action is not None:
            assert time.monotonic() < deadline
            self._begun = time.monotonic() if ready() else 0.0
            self._running.engine.turn()
            self._begun = 0.0

    def close(self) -> None:
        self._over = True
        self._thread.join()


@pytest.fixture(scope="module")
def deep(pki: Pki) -> Issued:
    """A client's certificate that takes long to verify."""
    authority = pki.root
    for number in range(DEPTH):
        authority = authority.intermediate(f"Intermediate {number}", key="ec-p384")
    return authority.client("deep")


@pytest.fixture
def running(start: Callable[..., Running], pki: Pki) -> Running:
    return start(**Web(pki).plan(depth=DEPTH))


@pytest.fixture
def meanwhile(running: Running) -> Iterator[Meanwhile]:
    made = Meanwhile(running)
    yield made
    made.close()


def established(
    running: Running, pki: Pki, server: socket.socket, context: ssl.SSLContext | None = None
) -> tuple[Client, socket.socket]:
    """A client, and its server's end of the connection."""
    live = BLOCK.servers[0].live
    client = Client(running, pki, pki.client, context=context).shake()
    running.turn(lambda: BLOCK.servers[0].live == live + 1)
    return client, server.accept()[0]


def came(end: socket.socket) -> bytes:
    end.setblocking(False)
    try:
        return end.recv(16)
    except BlockingIOError:
        return b""


def test_a_message_is_moved_in_the_middle_of_a_step(
    running: Running, pki: Pki, deep: Issued, server: socket.socket, meanwhile: Meanwhile
) -> None:
    client, end = established(running, pki, server)
    with end:
        seen = []
        for _ in range(TRIES):
            other = Client(running, pki, deep)
            meanwhile.turns(lambda: client.ssl.send(b"now"), other.step)
            seen.append(came(end))
            other.shake()
            if seen[-1]:
                break
            assert running.received(end, 3) == b"now"
        assert seen[-1] == b"now", seen


def test_an_error_of_another_connection_is_not_the_handshakes(
    running: Running, pki: Pki, deep: Issued, server: socket.socket, meanwhile: Meanwhile
) -> None:
    """OpenSSL has one queue of errors for all of them."""
    for _ in range(TRIES):
        client, end = established(running, pki, server)
        with end:
            broken = socket.socket(fileno=os.dup(client.ssl.fileno()))
            running.clients.append(broken)
            other = Client(running, pki, deep)
            meanwhile.turns(lambda: broken.send(b"\x17\x03\x03\x00\x20" + bytes(32)), other.step)  # noqa: B023
            other.shake()
            assert running.words() == ["protocol_error"]


def test_something_happens_to_the_client_whose_step_it_is(
    running: Running, pki: Pki, deep: Issued, server: socket.socket, meanwhile: Meanwhile
) -> None:
    """It is seen afterwards, as what it is: here what a client has sent that does not wait."""
    for _ in range(TRIES):
        client = Client(running, pki, deep)
        raw = socket.socket(fileno=os.dup(client.ssl.fileno()))
        running.clients.append(raw)
        meanwhile.turns(lambda: raw.send(b"\x17\x03\x03\x00\x20" + bytes(32)), client.step)  # noqa: B023
        assert running.words() == ["protocol_error"]


class Rekeying:
    """Two established clients, of which the first forges its records; each with its server's end."""

    def __init__(self, running: Running, pki: Pki, server: socket.socket, keylog: Path) -> None:
        context = client_context(pki.root.path, ssl.TLSVersion.TLSv1_3, pki.client, keylog=keylog)
        self.running = running
        self.first, self.first_end = established(running, pki, server, context)
        self.forger = Forger(cast("TlsClient", SimpleNamespace(tls=self.first.ssl)), keylog)
        context.keylog_filename = None  # type: ignore[assignment]  # closes the file
        self.raw = socket.socket(fileno=os.dup(self.first.ssl.fileno()))
        self.second, self.second_end = established(running, pki, server)
        running.clients += [self.first_end, self.second_end, self.raw]


@pytest.fixture
def rekeying(running: Running, pki: Pki, server: socket.socket, tmp_path: Path) -> Rekeying:
    return Rekeying(running, pki, server, tmp_path / "keys")


def test_a_key_update_in_the_middle_of_anothers_step(
    rekeying: Rekeying, pki: Pki, deep: Issued, meanwhile: Meanwhile
) -> None:
    """OpenSSL calls back for it too, with bytes of its connection on the way: they stay what they are."""
    running, forger = rekeying.running, rekeying.forger

    def send() -> None:
        rekeying.raw.send(forger.record(b"first") + forger.key_update() + forger.record(b" once more"))
        rekeying.second.ssl.send(b"second")

    for _ in range(TRIES):
        other = Client(running, pki, deep)
        meanwhile.turns(send, other.step)
        assert running.received(rekeying.first_end, 15) == b"first once more"
        assert running.received(rekeying.second_end, 6) == b"second"
        other.shake()


def test_an_answer_behind_a_key_update_in_the_middle_of_anothers_step(
    rekeying: Rekeying, pki: Pki, deep: Issued, meanwhile: Meanwhile
) -> None:
    """Our own KeyUpdate, which the client has asked for, goes before it."""
    running, forger = rekeying.running, rekeying.forger

    def send() -> None:
        rekeying.first_end.send(b"answer")
        rekeying.second.ssl.send(b"second")

    for _ in range(TRIES):
        rekeying.raw.send(forger.key_update(request=True) + forger.record(b"?"))
        assert running.received(rekeying.first_end, 1) == b"?"
        other = Client(running, pki, deep)
        meanwhile.turns(send, other.step)
        assert rekeying.first.read(6) == b"answer"
        assert running.received(rekeying.second_end, 6) == b"second"
        other.shake()
