"""First figures: what a full mutual-TLS handshake and a byte cost in CPU time, for nlb beside HAProxy and nginx.

All servers run at once on loopback with the same certificates and the same back end, one worker or thread each, and
are measured in turn (A B C, B C A, ...), so that a slow moment of the machine meets all of them. The figure is what
one CPU second of the server's processes does, not how fast the client is: the client is Python and shares the cores.

Everything is checked while it is measured: the bytes, that each handshake was a full one, and that all servers chose
the same version, suite and (by the client's only offer) group. Method and figures: bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import platform
import random
import re
import shutil
import socket
import socketserver
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION, SUITE, GROUP = "TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519"
NAME = "www.example.com"
CLIENTS = 4  # processes that make connections; the server is kept busy, not flooded
TIMEOUT = 30.0  # of every single step
TICK = 0.01  # seconds; the kernel counts CPU time no finer
MODULES = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"))

# ---------------------------------------------------------------- what the client asks of the back end

# A request: what to do, and how many bytes.
REQUEST = struct.Struct(">c7xQ")
ECHO, DOWNLOAD, UPLOAD = b"E", b"D", b"U"
BLOCK = random.Random(7).randbytes(1 << 20)
CHUNK = 1 << 16


class Backend(socketserver.BaseRequestHandler):
    """Answer one request: the request itself, so many bytes, or the digest of so many bytes."""

    def handle(self) -> None:
        self.request.settimeout(TIMEOUT)
        header = receive(self.request, REQUEST.size)
        if len(header) < REQUEST.size:
            return  # somebody looked whether the port is open
        what, size = REQUEST.unpack(header)
        if what == ECHO:
            self.request.sendall(header)
        elif what == DOWNLOAD:
            for _ in range(size // len(BLOCK)):
                self.request.sendall(BLOCK)
        else:
            digest = hashlib.sha256()
            while size:
                data = self.request.recv(min(CHUNK, size))
                if not data:
                    return
                digest.update(data)
                size -= len(data)
            self.request.sendall(digest.digest())


class BackendServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 1024


def receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes, fewer at the end of the stream."""
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data


def serve_backend(ready: Any) -> None:
    with BackendServer(("127.0.0.1", 0), Backend) as server:
        ready.send(server.server_address[1])
        server.serve_forever()


# ---------------------------------------------------------------- the client


def context(folder: Path) -> ssl.SSLContext:
    client = ssl.create_default_context(cafile=str(folder / "root.crt"))
    client.load_cert_chain(folder / "client.crt", folder / "client.key")
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    client.set_ecdh_curve(GROUP)  # the only group on offer, hybrids included
    return client


@contextlib.contextmanager
def connect(client: ssl.SSLContext, port: int) -> Iterator[ssl.SSLSocket]:
    """A connection with a full handshake of the expected kind."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client.wrap_socket(raw, server_hostname=NAME) as connection:
            cipher = connection.cipher()
            assert not connection.session_reused
            assert (connection.version(), cipher and cipher[0]) == (VERSION, SUITE), (connection.version(), cipher)
            yield connection


def handshakes(folder: Path, port: int, count: int) -> int:
    """Connections one after the other, each with a full handshake and one request: only an answer shows that the
    client was accepted, since in TLS 1.3 it believes so before the server has looked at its certificate.
    """
    client = context(folder)
    for number in range(count):
        request = REQUEST.pack(ECHO, number)
        with connect(client, port) as connection:
            connection.sendall(request)
            answer = receive(connection, len(request))
            assert answer == request, answer
    return count


def download(folder: Path, port: int, size: int) -> int:
    """One connection, bytes to the client, each compared."""
    with connect(context(folder), port) as connection:
        connection.sendall(REQUEST.pack(DOWNLOAD, size))
        expected = memoryview(BLOCK + BLOCK[:CHUNK])
        buffer = memoryview(bytearray(CHUNK))
        done = 0
        while done < size:
            count = connection.recv_into(buffer)
            assert count, f"{done} bytes of {size}"
            offset = done % len(BLOCK)
            assert buffer[:count] == expected[offset : offset + count], f"wrong bytes after {done}"
            done += count
    return size


def upload(folder: Path, port: int, size: int) -> int:
    """One connection, bytes to the server, compared by digest."""
    digest = hashlib.sha256()
    with connect(context(folder), port) as connection:
        connection.sendall(REQUEST.pack(UPLOAD, size))
        for _ in range(size // len(BLOCK)):
            connection.sendall(BLOCK)
            digest.update(BLOCK)
        assert receive(connection, digest.digest_size) == digest.digest()
    return size


# ---------------------------------------------------------------- the servers


@dataclass
class Peer:
    """A server under measurement."""

    name: str
    version: str
    port: int
    process: subprocess.Popen[bytes]
    samples: dict[str, list[float]] = field(default_factory=dict)

    def cpu(self) -> float:
        """CPU seconds of all its processes so far."""
        root = psutil.Process(self.process.pid)
        times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
        return sum(one.user + one.system for one in times)


def nlb_command(folder: Path, port: int, backend: int) -> list[str]:
    (folder / "nlb.toml").write_text(f"""
node = {{ workers = 1, control_socket = "nlb.sock" }}
log.access = "off"
listeners.bench.bind = "127.0.0.1:{port}"
listeners.bench.server_group = "backend"
listeners.bench.certificates = [{{ certificate = "server.crt", private_key = "server.key" }}]
listeners.bench.client_auth = {{ mode = "required", ca = "root.crt" }}
server_groups.backend.servers = [{{ address = "127.0.0.1:{backend}" }}]
""")
    return [find("nlb"), "run", "-c", str(folder / "nlb.toml")]


def haproxy_command(folder: Path, port: int, backend: int) -> list[str]:
    (folder / "both.pem").write_text((folder / "server.crt").read_text() + (folder / "server.key").read_text())
    tls = f"ssl-min-ver {VERSION} ciphersuites {SUITE} curves {GROUP}"
    (folder / "haproxy.cfg").write_text(f"""
global
    nbthread 1
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend bench
    bind 127.0.0.1:{port} ssl crt {folder}/both.pem ca-file {folder}/root.crt verify required {tls}
    default_backend backend
backend backend
    server one 127.0.0.1:{backend}
""")
    return [find("haproxy"), "-db", "-q", "-f", str(folder / "haproxy.cfg")]


def nginx_command(folder: Path, port: int, backend: int) -> list[str]:
    module = next(
        (f"load_module {one}/ngx_stream_module.so;" for one in MODULES if (one / "ngx_stream_module.so").exists()), ""
    )
    (folder / "nginx.conf").write_text(f"""
{module}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
stream {{
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/server.crt;
        ssl_certificate_key {folder}/server.key;
        ssl_client_certificate {folder}/root.crt;
        ssl_verify_client on;
        ssl_protocols {VERSION};
        ssl_conf_command Ciphersuites {SUITE};
        ssl_ecdh_curve {GROUP};
        proxy_pass 127.0.0.1:{backend};
    }}
}}
""")
    return [find("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


PEERS: dict[str, tuple[Callable[[Path, int, int], list[str]], tuple[str, ...]]] = {
    "nlb": (nlb_command, ("--version",)),
    "HAProxy": (haproxy_command, ("-vv",)),
    "nginx": (nginx_command, ("-V",)),
}


def find(program: str) -> str:
    """The program's path: beside this Python first (an environment's nlb), then PATH, then where daemons live."""
    for where in (str(Path(sys.executable).parent), None, "/usr/sbin:/usr/local/sbin"):
        if path := shutil.which(program, path=where):
            return path
    raise FileNotFoundError(program)


def version(command: list[str]) -> str:
    """The server's own first line, and the OpenSSL it runs on."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    said = (done.stdout + done.stderr).strip()
    libraries = re.findall(r"OpenSSL \d[\w.]*", said)
    return ", ".join([said.split("\n")[0].split(" - ")[0], *libraries[-1:]])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def start(name: str, folder: Path, backend: int) -> Peer:
    """Start a server and wait until its port answers.

    Raises:
        FileNotFoundError: the program is not installed.
        RuntimeError: it does not come up; with what it said.
    """
    command_of, version_words = PEERS[name]
    folder.mkdir()
    for file in ("root.crt", "server.crt", "server.key"):
        shutil.copy(folder.parent / file, folder / file)
    port = free_port()
    command = command_of(folder, port, backend)
    said = version([command[0], *version_words])
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return Peer(name, said, port, process)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    stop(process)
    raise RuntimeError(f"did not come up: {(folder / 'output').read_text().strip()[-500:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def certificates(folder: Path) -> None:
    """The README's certificates: a root, a server, a client, all P-256."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "7"]
    leaf = ["-CA", "root.crt", "-CAkey", "root.key", "-addext", "basicConstraints=CA:FALSE", "-addext"]
    for name, rest in (
        ("root", ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]),
        ("server", [*leaf, "extendedKeyUsage=serverAuth", "-addext", f"subjectAltName=DNS:{NAME}"]),
        ("client", [*leaf, "extendedKeyUsage=clientAuth"]),
    ):
        command = [
            *new,
            "-subj",
            f"/CN={NAME if name == 'server' else name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.crt",
            *rest,
        ]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=TIMEOUT)


# ---------------------------------------------------------------- the measurement


@dataclass(frozen=True)
class Size:
    """How much one run does."""

    rounds: int
    handshakes: int  # in all client processes together
    megabytes: int
    seconds: float  # no new round after that


QUICK = Size(rounds=5, handshakes=480, megabytes=512, seconds=40)
FULL = Size(rounds=11, handshakes=1600, megabytes=2048, seconds=360)

MEASURES = {
    "handshakes": "full handshakes / CPU s",
    "download": "MB to client / CPU s",
    "upload": "MB to server / CPU s",
}


def measure(peer: Peer, pool: ProcessPoolExecutor, folder: Path, size: Size) -> None:
    """One sample of everything for one server."""
    amount = size.megabytes << 20
    jobs: dict[str, list[tuple[Callable[[Path, int, int], int], int]]] = {
        "handshakes": [(handshakes, size.handshakes // CLIENTS)] * CLIENTS,
        "download": [(download, amount)],
        "upload": [(upload, amount)],
    }
    for what, calls in jobs.items():
        before = peer.cpu()
        done = sum(future.result() for future in [pool.submit(job, folder, peer.port, count) for job, count in calls])
        spent = max(peer.cpu() - before, TICK)
        peer.samples.setdefault(what, []).append((done if what == "handshakes" else done / 1e6) / spent)


def run(size: Size, names: list[str]) -> tuple[list[Peer], dict[str, str]]:
    """Start what is there, measure it in turn, stop everything."""
    peers: list[Peer] = []
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificates(folder)
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe()
        backend = fork.Process(target=serve_backend, args=(theirs,), daemon=True)
        backend.start()
        stack.callback(backend.join)
        stack.callback(backend.terminate)
        pool = stack.enter_context(ProcessPoolExecutor(CLIENTS, mp_context=fork))
        port = ours.recv()
        for name in names:
            try:
                peer = start(name, folder / name, port)
            except (FileNotFoundError, RuntimeError) as error:
                missing[name] = str(error)
                continue
            peers.append(peer)
            stack.callback(stop, peer.process)
        for peer in peers:  # once unmeasured: caches, lazy loading, the clients' own start
            measure(peer, pool, folder, Size(1, CLIENTS * 4, 8, 0))
            peer.samples.clear()
        begun = time.monotonic()
        for number in range(size.rounds):
            if time.monotonic() - begun > size.seconds:
                break
            for place in range(len(peers)):
                measure(peers[(number + place) % len(peers)], pool, folder, size)
    return peers, missing


def table(peers: list[Peer], missing: dict[str, str]) -> str:
    """The figures for a reader: median (lowest-highest), and the ratio to the first peer that is not nlb."""
    base = next((peer for peer in peers if peer.name != "nlb"), None)
    medians = {what: statistics.median(base.samples[what]) for what in MEASURES} if base else {}
    lines = ["| server | " + " | ".join(MEASURES.values()) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    for peer in peers:
        cells = []
        for what in MEASURES:
            samples = peer.samples[what]
            middle = statistics.median(samples)
            ratio = "" if base in (None, peer) else f", {middle / medians[what]:.2f} x"
            cells.append(f"{middle:.0f} ({min(samples):.0f}-{max(samples):.0f}{ratio})")
        lines.append(f"| {peer.name} | " + " | ".join(cells) + " |")
    lines += [f"{name}: left out, {why}" for name, why in missing.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about half a minute instead of about six")
    parser.add_argument("--peers", default=",".join(PEERS), help="which servers, in this order (default: %(default)s)")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).parent / "results" / "first_light.json", help="where the samples go"
    )
    arguments = parser.parse_args()
    names = arguments.peers.split(",")
    if unknown := set(names) - set(PEERS):
        parser.error(f"no such server: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    size = QUICK if arguments.quick else FULL
    begun = time.monotonic()
    peers, missing = run(size, names)
    if not peers:
        print(table([], missing))
        return 1
    print(table(peers, missing))
    print(
        f"\n{VERSION}, {SUITE}, {GROUP}, P-256 certificates on both sides; {len(next(iter(peers[0].samples.values())))} rounds, ",
        end="",
    )
    print(f"{size.handshakes} handshakes and {size.megabytes} MB each way a round; {time.monotonic() - begun:.0f} s")
    for peer in peers:
        print(f"{peer.name}: {peer.version}")
    result = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"system": platform.platform(), "processors": os.cpu_count()},
        "size": asdict(size),
        "peers": [{"name": one.name, "version": one.version, "samples": one.samples} for one in peers],
        "missing": missing,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
