"""10,000 TLS connections with client certificates, open and idle over two workers; then one worker dies with its half.
(1,000 where the long form is not asked for.)

Client (this process), server (a program of its own) and each worker have at most 20,000 descriptors.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.tls_client import connect
from tests.support.waiting import wait_until
from tests.support.workers import by_slot, end

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from tests.support.certs import Pki

CONNECTIONS = 10_000
BYTES_EACH = 50_000
"""Most that an idle connection may cost its worker."""

ECHO = """
import resource, selectors, socket
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
server = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(server.getsockname()[1], flush=True)
selector = selectors.DefaultSelector()
selector.register(server, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if key.fileobj is server:
            selector.register(server.accept()[0], selectors.EVENT_READ)
            continue
        try:
            data = key.fileobj.recv(65536)
            key.fileobj.sendall(data)
        except OSError:
            data = b""
        if not data:
            selector.unregister(key.fileobj)
            key.fileobj.close()
"""


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of an echo server for thousands."""
    with subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.fixture
def descriptors() -> Iterator[None]:
    """As many as there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 1000:
        pytest.skip(f"{hard} descriptors are too few for {CONNECTIONS} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ping(client: ssl.SSLSocket) -> None:
    """`TlsClient` waits with select(), which ends at descriptor 1,023."""
    client.sendall(b"ping")
    assert client.recv(10) == b"ping"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("connections", [1000, pytest.param(CONNECTIONS, marks=pytest.mark.soak)])
def test_open_and_idle(
    run: Callable[..., Balancer],
    echo: str,
    descriptors: None,
    pki: Pki,
    context: ssl.SSLContext,
    connections: int,
) -> None:
    """All are counted, spread evenly and cheap; the survivors of a death all live, and the gauges tell exactly them."""
    balancer = run(
        {
            "node": {"workers": 2},
            "listeners": {"web": tls_listener(pki.server, ca=pki.root.path, idle_timeout="600s")},
            "server_groups": {"app": server_group({"address": echo})},
        }
    )
    before = {slot: worker.memory_info().rss for slot, worker in by_slot(balancer).items()}
    with ExitStack() as stack:
        clients = []
        for _ in range(connections):
            client = context.wrap_socket(connect(balancer.port()), server_hostname="www.example.com")
            clients.append(stack.enter_context(client))
            ping(client)
        status = balancer.status()
        assert status["connections"] == connections
        shares = [worker["connections"] for worker in status["workers"]]
        assert sum(shares) == connections
        assert all(0.4 < share / connections < 0.6 for share in shares), shares
        for slot, worker in by_slot(balancer).items():
            each = (worker.memory_info().rss - before[slot]) / shares[slot]
            print(f"worker {slot}: {shares[slot]} connections, {each:.0f} bytes each")
            assert each < BYTES_EACH
        for client in clients[::50]:
            ping(client)
        end(by_slot(balancer)[0], signal.SIGKILL)
        balancer.wait_event("worker_started", worker=0)
        wait_until(lambda: balancer.status()["connections"] == shares[1], "only the other worker's are counted")
        alive = 0
        for client in clients:
            try:
                ping(client)
                alive += 1
            except (OSError, AssertionError):
                continue
        assert alive == shares[1]
    wait_until(lambda: balancer.status()["connections"] == 0, "all have left", 30)
