"""What several workers bring and what a connection weighs: nlb with one worker and with two, on this machine.

1. Full handshakes a second with one worker and with two, in turn. On two cores the clients must be cheap beside the server,
   or they are the limit: so the server's key is RSA-8192 (it signs, the client only checks), and the clients are `openssl
   s_time`, in TLS 1.2, whose handshake ends with a word of the server. The rates are low for that key, and only their
   ratio means something. Counted is what the balancer has accepted. Beside it, what a CPU second of the workers does: it
   should not fall when there are two.
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
import re
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from first_light import CLIENTS, NAME, TIMEOUT, find, free_port, receive, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = 8192
"""Bits of the server's RSA key."""
SETTLE = 3.0
"""Seconds after which an idle connection has given its buffers back (the workers' sweep)."""


@dataclass(frozen=True)
class Size:
    """How much one run does."""

    rounds: int
    seconds: int  # of one burst of handshakes
    idle: tuple[int, int]


QUICK = Size(rounds=3, seconds=2, idle=(500, 2000))
FULL = Size(rounds=7, seconds=4, idle=(2000, 10000))


def certificates(folder: Path) -> None:
    """A CA and a client with nlb's own commands; the server's certificate with openssl, for its unusually long key."""
    new = ["openssl", "req", "-x509", "-newkey", f"rsa:{KEY}", "-noenc", "-days", "7", "-subj", f"/CN={NAME}"]
    sign = ["-CA", "ca/root.crt", "-CAkey", "ca/root.key", "-keyout", "server.key", "-out", "server.crt"]
    extensions = ["-addext", "basicConstraints=CA:FALSE", "-addext", f"subjectAltName=DNS:{NAME}"]
    for command in (
        [find("nlb"), "ca", "init", "ca"],
        [find("nlb"), "cert", "issue", "client", "--ca", "ca", "--profile", "client", "--out", "."],
        [*new, *sign, *extensions],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=10 * TIMEOUT)


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

    def status(self) -> dict[str, Any]:
        done = subprocess.run(
            [find("nlb"), "status", "--json", "--socket", str(self.events.parent / f"nlb{self.port}.sock")],
            check=True,
            capture_output=True,
            timeout=TIMEOUT,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def handshakes(self) -> int:
        """Full handshakes that were accepted so far."""
        return sum(one["full"] for one in self.status()["listeners"][0]["handshakes"].values())


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
                data = b""
                with contextlib.suppress(ConnectionError):
                    data = one.recv(4096)
                    one.sendall(data)
                if not data:
                    selector.unregister(one)
                    one.close()


# ---------------------------------------------------------------- the measurement


def burst(folder: Path, one: Balancer, seconds: int) -> tuple[float, float]:
    """Full handshakes a second, and a CPU second of the workers, under as many as the clients can make."""
    command = [
        *(find("openssl"), "s_time", "-new", "-tls1_2", "-time", str(seconds), "-connect", f"127.0.0.1:{one.port}"),
        *("-cert", str(folder / "client.crt"), "-key", str(folder / "client.key")),
        *("-CAfile", str(folder / "ca" / "root.crt")),
    ]
    count, cpu, begun = one.handshakes(), sum(one.cpu()), time.monotonic()
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(CLIENTS)]
    said = [client.communicate(timeout=TIMEOUT)[0] for client in clients]
    elapsed, cpu, count = time.monotonic() - begun, sum(one.cpu()) - cpu, one.handshakes() - count
    claimed = sum(int(number) for text in said for number in re.findall(r"^(\d+) connections in \d+ real", text, re.M))
    assert all(client.returncode == 0 for client in clients), said
    assert abs(count - claimed) <= CLIENTS, (count, claimed, said)
    return count / elapsed, count / cpu


def scaling(folder: Path, size: Size, backend: int) -> dict[str, Any]:
    """Handshakes a second, and a CPU second, with one worker and with two, in turn."""
    counts = (1, 2)
    rates: dict[int, list[float]] = {count: [] for count in counts}
    per_cpu: dict[int, list[float]] = {count: [] for count in counts}
    with contextlib.ExitStack() as stack:
        running = {count: stack.enter_context(balancer(folder, count, backend)) for count in counts}
        for one in running.values():
            burst(folder, one, 1)
        for number in range(size.rounds):
            for count in counts if number % 2 else counts[::-1]:
                rate, cost = burst(folder, running[count], size.seconds)
                rates[count].append(rate)
                per_cpu[count].append(cost)
        accepted = [worker["connections_total"] for worker in running[2].status()["workers"]]
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
        ours, theirs = fork.Pipe()
        backend = fork.Process(target=serve_echo, args=(theirs,), daemon=True)
        backend.start()
        stack.callback(backend.join)
        stack.callback(backend.terminate)
        port = ours.recv()
        return {**scaling(folder, size, port), **memory(folder, size, port)}


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
    print("| workers | full handshakes / s (RSA-8192) | handshakes / CPU s of the workers |")
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
