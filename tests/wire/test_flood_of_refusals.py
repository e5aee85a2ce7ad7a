"""A flood of refusals is no flood of lines: of those that are alike some are told, the others counted in one line a second, and no
count is lost. Who is different is told all the same, and so is every connection that was let in.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.support.admin import scrape
from tests.support.balancer import Balancer, plain_listener, server_group, tls_listener
from tests.support.ports import free_port
from tests.support.tls_client import TLS13, TlsClient, client_context, connect, refusal
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki

TOLD = 3
"""Lines a second."""
FLOOD = 40


@pytest.fixture(scope="module")
def admin() -> int:
    return free_port()


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, admin: int) -> Balancer:
    return balancer_for(
        {
            "node": {"admin": f"127.0.0.1:{admin}"},
            "log": {"refusals_per_second": TOLD},
            "listeners": {
                "web": tls_listener(pki.server, ca=pki.root.path),
                "slow": plain_listener(cps=1),
                "all": tls_listener(pki.server, ca=pki.root.path),
            },
            "server_groups": {"app": server_group(backend)},
        }
    )


def told(balancer: Balancer, listener: str, word: str, mark: int, count: int) -> tuple[int, int]:
    """Wait until so many have been told or counted: lines of their own, and lines that count."""

    def lines() -> tuple[int, int, int]:
        found = balancer.access.find(since=mark, listener=listener, termination=word)
        counted = [line["suppressed"] for line in found if "suppressed" in line]
        return len(found) - len(counted), len(counted), sum(counted)

    wait_until(lambda: lines()[0] + lines()[2] == count, lambda: f"{count} told: {lines()}")
    return lines()[:2]


def terminations(balancer: Balancer, listener: str, word: str) -> int:
    (status,) = [one for one in balancer.status()["listeners"] if one["name"] == listener]
    count: int = status["terminations"].get(word, 0)
    return count


def test_no_tls(balancer: Balancer, admin: int) -> None:
    """Without any certificate."""
    mark, before = balancer.access.mark(), terminations(balancer, "web", "not_tls")
    for _ in range(FLOOD):
        with connect(balancer.port()) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    own, sums = told(balancer, "web", "not_tls", mark, FLOOD)
    assert TOLD <= own < FLOOD
    assert 1 <= sums <= own // TOLD + 1
    assert terminations(balancer, "web", "not_tls") == before + FLOOD
    wait_until(
        lambda: scrape(admin)("nlb_access_log_suppressed_total", listener="web") == FLOOD - own, "it is a metric too"
    )
    (line, *_) = balancer.access.find(lambda line: "suppressed" in line, since=mark)
    assert set(line) == {"time", "node", "worker", "generation", "listener", "termination", "suppressed"}


def test_one_certificate(balancer: Balancer, pki: Pki) -> None:
    """The sum names it; another one of the same kind is told in the midst of it."""
    mark = balancer.access.mark()
    flood, other = pki.bad_client("unknown_ca"), pki.other.client("another")
    context = client_context(pki.root.path, TLS13, flood)
    for number in range(FLOOD):
        refusal(TlsClient(balancer.port(), context))
        if number == FLOOD // 2:
            once = TlsClient(balancer.port(), client_context(pki.root.path, TLS13, other))
            refusal(once)
            assert balancer.line(once)["client_cert_sha256"] == other.sha256
    own, sums = told(balancer, "web", "unknown_ca", mark, FLOOD + 1)
    assert TOLD < own < FLOOD
    assert sums >= 1
    for line in balancer.access.find(lambda line: "suppressed" in line, since=mark):
        assert line["client_cert_sha256"] == flood.sha256
        assert "client_cert_subject" not in line, "it was not parsed for that"


def test_a_limit_of_connections(balancer: Balancer) -> None:
    """`cps_limit` is as easy to bring about; connections that were let in have lines of their own."""
    mark = balancer.access.mark()
    for _ in range(FLOOD):
        with suppress(ConnectionResetError):  # it has come to that before the client could say a word
            connect(balancer.port("slow")).close()
    wait_until(lambda: len(balancer.access.find(since=mark, termination="client_close")) >= 1, "one was let in")
    ended = wait_until(
        lambda: (count := terminations(balancer, "slow", "cps_limit")) >= FLOOD // 2 and count, "most were refused"
    )
    own, _ = told(balancer, "slow", "cps_limit", mark, ended)
    assert own < FLOOD // 2
    assert not balancer.access.find(lambda line: "suppressed" in line, since=mark, termination="client_close")


def test_who_is_let_in_is_told(balancer: Balancer, pki: Pki) -> None:
    context = client_context(pki.root.path, TLS13, pki.client)
    mark = balancer.access.mark()
    for _ in range(3 * TOLD):
        with TlsClient(balancer.port("all"), context) as client:
            client.handshake().ping()
    wait_until(lambda: len(balancer.access.find(since=mark, listener="all")) == 3 * TOLD, "all of them")


def test_the_last_ones_are_counted_too(tmp_path: Path, backend: Backend, pki: Pki) -> None:
    """When it ends in the middle of a flood."""
    tables = {
        "log": {"refusals_per_second": 1},
        "listeners": {"web": tls_listener(pki.server, ca=pki.root.path)},
        "server_groups": {"app": server_group(backend)},
    }
    with Balancer(tmp_path, tables) as balancer:
        for _ in range(FLOOD):
            with connect(balancer.port()) as client:
                client.sendall(b"no TLS")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
    told(balancer, "web", "not_tls", 0, FLOOD)
