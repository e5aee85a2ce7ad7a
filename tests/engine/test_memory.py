"""Connections that were busy and have fallen silent cost their worker what silent ones cost: the memory goes back to the
system.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import psutil

from tests.support.backends import Backend
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import TLS13, TlsClient, client_context
from tests.support.waiting import wait_until
from tests.support.workers import by_slot

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.certs import Pki

WARM, CONNECTIONS = 20, 150
BURST = bytes(65536)
EACH = 27_000
"""Bytes that a silent connection may cost: it is 22,000, with the pages between its neighbours kept 30,000 to 35,000, and with
buffers 113,000."""


def test_a_burst_leaves_nothing_behind(tmp_path: Path, pki: Pki) -> None:
    """One connection after the other is made and busy, so that the small things of the next lie behind the buffers of each."""
    tables = {"listeners": {"web": tls_listener(pki.server, ca=pki.root.path)}}
    context = client_context(pki.root.path, TLS13, pki.client)
    with (
        Backend() as backend,
        Balancer(tmp_path, {**tables, "server_groups": {"app": server_group(backend)}}) as balancer,
        ExitStack() as stack,
    ):
        worker = psutil.Process(by_slot(balancer)[0].pid)

        def own() -> int:
            return int(worker.memory_full_info().uss)

        def open_and_busy(count: int) -> None:
            for _ in range(count):
                client = stack.enter_context(TlsClient(balancer.port(), context))
                client.handshake().ping(BURST)

        open_and_busy(WARM)
        before = own()
        open_and_busy(CONNECTIONS)
        wait_until(
            lambda: own() - before < CONNECTIONS * EACH,
            lambda: f"the memory goes back: {(own() - before) / CONNECTIONS:.0f} bytes for each connection",
            timeout=15,
        )
