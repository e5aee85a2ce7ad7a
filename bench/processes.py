"""What several workers bring and what a connection weighs: nlb with one worker and with two, on this machine.

1. Full handshakes a second with one worker and with two, in turn. The server's certificate is RSA-4096: signing costs the
   server far more than checking costs the client, so that on two cores the server is the limit and the clients
   are not. Beside it, what a CPU second of the workers does: it should not fall when there are two.
2. How evenly the kernel gives new connections to two workers.
3. Memory of many idle connections over two workers: what a worker weighs empty, and per connection the slope between two
   counts (unique set size of the workers, from the kernel; what the kernel's own sockets take is not in it).

Everything is checked while it is measured, as in first_light.py, whose client and back-end protocol this uses.
Method and figures: bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from first_light import CLIENTS, NAME, TIMEOUT, find, free_port, receive, serve_backend, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTLE = 3.0
"""Seconds after which an idle connection has given its buffers back (the workers' sweep)."""


@dataclass(frozen=True)
class Size:
    """How much one run does."""

    rounds: int
    handshakes: int  # in all client processes together
    idle: tuple[int, int]


QUICK = Size(rounds=3, handshakes=400, idle=(500, 2000))
FULL = Size(rounds=7, handshakes=1600, idle=(2000, 10000))


def certificates(folder: Path) -> None:
    """A CA with nlb's own commands; the server's key is RSA."""
    nlb = find("nlb")
    for words in (
        ["ca", "init", "ca"],
        [
            *("cert", "issue", "server", "--ca", "ca", "--profile", "server"),
            *("--dns", NAME, "--key-type", "rsa-4096", "--out", "."),
        ],
        ["cert", "issue", "client", "--ca", "ca", "--profile", "client", "--out", "."],
    ):
        subprocess.run([nlb, *words], cwd=folder, check=True, capture_output=True, timeout=TIMEOUT)


@contextlib.contextmanager
def balancer(folder: Path, workers: int, backend: int) -> Iterator[Balancer]:
    """`nlb run`, ready."""
    made = Balancer(folder, workers, backend)
    try:
        made.wait()
        yield made
    finally:
        stop(made.process)


class Balancer:
    """One `nlb run` with so many workers."""

    def __init__(self, folder: Path, workers: int, backend: int) -> None:
        self.port = free_port()
        self.events = folder / f"events{self.port}"
        path = folder / f"nlb{self.port}.toml"
        path.write_text(f"""
node = {{ workers = {workers}, control_socket = "nlb{self.port}.sock" }}
log = {{ access = "off", file = "{self.events}" }}
listeners.bench.bind = "127.0.0.1:{self.port}"
listeners.bench.server_group = "backend"
listeners.bench.certificates = [{{ certificate = "server.crt", private_key = "server.key" }}]
listeners.bench.client_auth = {{ mode = "required", ca = "ca/chain.crt" }}
server_groups.backend.servers = [{{ address = "127.0.0.1:{backend}" }}]
server_groups.backend.health_check.enabled = false
""")
        self.process = subprocess.Popen([find("nlb"), "run", "-c", str(path)], stdin=subprocess.DEVNULL)

    def wait(self) -> None:
        for _ in range(200):
            if self.events.exists() and " ready " in self.events.read_text():
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"nlb did not come up: {self.events.read_text() if self.events.exists() else 'no log'}")

    def workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [one for one in children if one.cmdline()[0].startswith("nlb: worker")]

    def cpu(self) -> list[float]:
        """CPU seconds of each worker so far."""
        return [times.user + times.system for times in (one.cpu_times() for one in self.workers())]

    def memory(self) -> int:
        """Bytes that are the workers' alone."""
        return sum(one.memory_full_info().uss for one in self.workers())

    def accepted(self) -> list[int]:
        """Connections that each worker has accepted, as its numbers tell: the status says it."""
        done = subprocess.run(
            [find("nlb"), "status", "--json", "--socket", str(self.events.parent / f"nlb{self.port}.sock")],
            check=True,
            capture_output=True,
            timeout=TIMEOUT,
        )
        return [worker["connections_total"] for worker in json.loads(done.stdout)["workers"]]


# ---------------------------------------------------------------- clients


def client_context(folder: Path) -> ssl.SSLContext:
    client = ssl.create_default_context(cafile=str(folder / "ca" / "root.crt"))
    client.load_cert_chain(folder / "client.crt", folder / "client.key")
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    client.set_ecdh_curve("prime256v1")
    return client


def connect(client: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client.wrap_socket(raw, server_hostname=NAME)


def echo(connection: ssl.SSLSocket, number: int) -> None:
    """16 bytes there and back: only an answer shows that the client was accepted."""
    request = b"E" + bytes(7) + number.to_bytes(8, "big")
    connection.sendall(request)
    answer = receive(connection, len(request))
    assert answer == request, answer


def handshakes(folder: Path, port: int, count: int) -> int:
    """Connections one after the other, each with a full handshake and one request."""
    client = client_context(folder)
    for number in range(count):
        with connect(client, port) as connection:
            assert not connection.session_reused
            echo(connection, number)
    return count


def hold(folder: Path, port: int, pipe: Any) -> None:
    """Open as many connections as asked, say so, keep them; the end of the pipe ends it. Each has moved bytes once."""
    client = client_context(folder)
    held: list[ssl.SSLSocket] = []
    with contextlib.suppress(EOFError):
        while wanted := pipe.recv():
            while len(held) < wanted:
                held.append(connect(client, port))
                echo(held[-1], len(held))
            pipe.send(len(held))
    for connection in held:
        connection.close()


def serve_echo(ready: Any) -> None:
    """A back end that holds any number of connections: whatever comes goes back."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening, selectors.DefaultSelector() as selector:
        ready.send(listening.getsockname()[1])
        selector.register(listening, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listening:
                    selector.register(listening.accept()[0], selectors.EVENT_READ)
                    continue
                one = key.fileobj
                assert isinstance(one, socket.socket)
                data = one.recv(4096)
                if data:
                    one.sendall(data)
                else:
                    selector.unregister(one)
                    one.close()


# ---------------------------------------------------------------- the measurement


def scaling(folder: Path, size: Size, backend: int, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """Handshakes a second, and a CPU second, with one worker and with two, in turn."""
    counts = (1, 2)
    rates: dict[int, list[float]] = {count: [] for count in counts}
    per_cpu: dict[int, list[float]] = {count: [] for count in counts}
    with contextlib.ExitStack() as stack:
        running = {count: stack.enter_context(balancer(folder, count, backend)) for count in counts}
        for one in running.values():
            list(pool.map(handshakes, [folder] * CLIENTS, [one.port] * CLIENTS, [4] * CLIENTS))
        for number in range(size.rounds):
            for count in counts if number % 2 else counts[::-1]:
                one = running[count]
                cpu, begun = sum(one.cpu()), time.monotonic()
                share = size.handshakes // CLIENTS
                done = sum(pool.map(handshakes, [folder] * CLIENTS, [one.port] * CLIENTS, [share] * CLIENTS))
                rates[count].append(done / (time.monotonic() - begun))
                per_cpu[count].append(done / (sum(one.cpu()) - cpu))
        accepted = running[2].accepted()
    return {"rates": rates, "per_cpu": per_cpu, "accepted": accepted}


def memory(folder: Path, size: Size, backend: int) -> dict[str, Any]:
    """Unique bytes of two workers: empty, and with so many idle connections."""
    fork = multiprocessing.get_context("fork")
    with balancer(folder, 2, backend) as one, contextlib.ExitStack() as stack:
        empty = one.memory()
        pipes = []
        for _ in range(CLIENTS):
            ours, theirs = fork.Pipe()
            process = fork.Process(target=hold, args=(folder, one.port, theirs), daemon=True)
            process.start()
            theirs.close()
            stack.callback(process.join)
            stack.callback(ours.close)
            pipes.append(ours)
        points = {0: empty}
        for count in size.idle:
            for pipe in pipes:
                pipe.send(count // CLIENTS)
            assert sum(pipe.recv() for pipe in pipes) == count
            time.sleep(SETTLE)
            points[count] = one.memory()
        for pipe in pipes:
            pipe.send(0)
    few, many = size.idle
    return {"points": points, "worker": empty / 2, "connection": (points[many] - points[few]) / (many - few)}


def spread(samples: list[float]) -> str:
    return f"{statistics.median(samples):.0f} ({min(samples):.0f}-{max(samples):.0f})"


def run(size: Size) -> dict[str, Any]:
    fork = multiprocessing.get_context("fork")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificates(folder)
        ports = []
        for target in (serve_backend, serve_echo):
            ours, theirs = fork.Pipe()
            backend = fork.Process(target=target, args=(theirs,), daemon=True)
            backend.start()
            stack.callback(backend.join)
            stack.callback(backend.terminate)
            ports.append(ours.recv())
        with ProcessPoolExecutor(CLIENTS, mp_context=fork) as pool:
            scaled = scaling(folder, size, ports[0], pool)
        return {**scaled, **memory(folder, size, ports[1])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 idle connections instead of 10,000, fewer rounds")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).parent / "results" / "processes.json", help="where the samples go"
    )
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    result = run(size)
    one, two = (statistics.median(result["rates"][count]) for count in (1, 2))
    print("| workers | full handshakes / s (RSA-4096) | handshakes / CPU s of the workers |")
    print("|---|---|---|")
    for count in (1, 2):
        ratio = f", {two / one:.2f} x" if count == 2 else ""
        print(f"| {count} | {spread(result['rates'][count])}{ratio} | {spread(result['per_cpu'][count])} |")
    print(f"\naccepted by the two workers: {' and '.join(map(str, result['accepted']))}")
    print(f"a worker without connections: {result['worker'] / 1e6:.1f} MB of its own")
    print(
        f"an idle connection ({size.idle[0]} to {size.idle[1]} over two workers): {result['connection'] / 1e3:.1f} kB"
    )
    document = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"system": platform.platform(), "processors": os.cpu_count()},
        "size": asdict(size),
        **result,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
