"""1,000 certificates at one listener are renewed by a reload while 20 connections talk without a pause: nobody waits for
longer than a few steps of a handshake.

An idle machine shows less than 10 ms. On one that is busy with other tests a process may have to wait for its turn, so the
best of a few reloads counts: what is done in one piece would take as long in each. The figures are printed.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import new_key
from tests.support.tls_client import TlsClient
from tests.support.workers import spread, tls_client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki

CERTIFICATES = 1000
CLIENTS = 20
LONGEST = 0.06
"""Seconds that an answer may take; the 1,000 contexts together take ten times as long."""
SHARE = 20
"""On a machine that is slow for other reasons: or this part of what the reload takes there."""
ATTEMPTS = 5


@pytest.fixture(scope="module")
def made(pki: Pki) -> list[list[Issued]]:
    """Two certificates for each name, with one key."""
    key = new_key()
    return [[pki.root.server(f"n{n}.example.com", key=key) for n in range(CERTIFICATES)] for _ in range(2)]


def slowest(clients: list[TlsClient], over: Callable[[], bool]) -> float:
    """Talk on all connections, one after the other, until it is over; the longest wait for an answer."""
    longest = 0.0
    while not over():
        for client in clients:
            longest = max(longest, client.ping(b"0123456789"))
    return longest


@pytest.mark.timeout(180)  # up to five reloads
def test_nobody_waits(
    run: Callable[..., Balancer],
    made: list[list[Issued]],
    backend: Backend,
    context: ssl.SSLContext,
    pki: Pki,
) -> None:
    """From the second time on, since only then the contexts of another reload are freed too."""
    folder: Path = pki.folder
    live = [folder / f"live-{n}.crt" for n in range(CERTIFICATES)]

    def renew(certificates: list[Issued]) -> None:
        for path, issued in zip(live, certificates, strict=True):
            path.unlink(missing_ok=True)
            path.symlink_to(issued.path)

    renew(made[0])
    listener = tls_listener(pki.server, ca=pki.root.path)
    listener["certificates"] = [
        pki.server.entry(),
        *({"certificate": str(path), "private_key": str(made[0][0].key_path)} for path in live),
    ]
    balancer = run(
        {"node": {"workers": 2}, "listeners": {"web": listener}, "server_groups": {"app": server_group(backend)}}
    )
    with ExitStack() as stack:
        held = spread(stack, partial(tls_client, balancer.port(), context), balancer, CLIENTS // 2)
        clients = [*held[0], *held[1]]
        before = slowest(clients, partial(next, iter([False] * 50), True))
        waits: list[float] = []
        for turn in range(ATTEMPTS):
            new = made[(turn + 1) % 2]
            renew(new)
            answers: list[dict[str, object]] = []
            reload = threading.Thread(target=lambda: answers.append(balancer.reload()))  # noqa: B023
            reload.start()
            during = slowest(clients, lambda: not reload.is_alive())  # noqa: B023
            reload.join()
            after = slowest(clients, partial(next, iter([False] * 50), True))
            stalls = [worker["longest_stall_ms"] for worker in balancer.ask("status")["workers"]]
            print(
                f"{CERTIFICATES} certificates reloaded in {answers[0]['seconds']} s: longest wait {before * 1000:.1f} ms "
                f"before, {during * 1000:.1f} ms during, {after * 1000:.1f} ms after; longest stalls {stalls} ms"
            )
            name = f"n{CERTIFICATES - 1}.example.com"
            with TlsClient(balancer.port(), context, server_name=name) as client:
                client.handshake().ping()
                assert client.peer_der() == new[-1].der
            waits.append(max(during, after))
            if turn > 0 and waits[-1] < max(LONGEST, float(str(answers[0]["seconds"])) / SHARE):
                return
    raise AssertionError(f"longest waits: {waits} s")
