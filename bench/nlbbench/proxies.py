"""The proxies that are compared: how each is told to do the same work, in its own words.

The same for all: TLS of one version, suite and group; one certificate; a client certificate required and verified;
session tickets as they are by default (on, everywhere); no access log; so many workers; everything else as it comes. What
a proxy cannot do is said here and in the report, not worked around.

A name on the command line is the kind, or the kind with something of one's own after a hyphen: `haproxy-3.4`, `nlb-a`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nlbbench.material import Material
from nlbcore.errors import NlbError

VERSION, SUITE, GROUP = "1.3", "TLS_AES_128_GCM_SHA256", "X25519"
CONNECTIONS = 16384
"""More than any trial opens, for proxies that want to know."""
SBIN = "/usr/sbin:/usr/local/sbin:/sbin"
NGINX_MODULES = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"))


@dataclass(frozen=True)
class Order:
    """What a proxy is to do."""

    folder: Path
    """Its own: for its configuration, sockets, files."""
    port: int
    """On 127.0.0.1."""
    backends: tuple[str, ...]
    """HOST:PORT of the servers behind it."""
    material: Material
    workers: int
    tls: bool = True
    """False: a plain TCP relay (nlb only)."""
    processors: tuple[int, ...] = ()
    """Where it runs; none: anywhere."""

    @property
    def certificate(self) -> Path:
        """The server's chain, in the proxy's folder: a reload finds another one there."""
        return self.folder / "server.crt"

    @property
    def private_key(self) -> Path:
        return self.folder / "server.key"

    def place(self, certificate: Path, private_key: Path) -> None:
        """Put the server's certificate where the proxy reads it; also both in one file, for those that want that."""
        for source, target in ((certificate, self.certificate), (private_key, self.private_key)):
            shutil.copyfile(source, target)
            target.chmod(0o600)
        both = self.folder / "both.pem"
        both.write_bytes(private_key.read_bytes() + certificate.read_bytes())
        both.chmod(0o600)


@dataclass(frozen=True)
class Kind:
    """A proxy: its program, and how it is configured."""

    name: str
    title: str
    """As its makers write it."""
    program: str
    """Name of the executable."""
    configure: Callable[[Order], list[str]]
    """Write the configuration, return the arguments."""
    version_arguments: tuple[str, ...]
    version_pattern: str
    """Finds the version in what it prints."""
    worker: str = ""
    """Pattern of a worker's command line, for killing one; empty: no process of it can be spared."""
    no_worker: str = ""
    """Why not."""
    reload: signal.Signals = signal.SIGHUP
    """Sent to the program: read the certificates again."""
    servers: int = 64
    """How many servers it can have behind it."""
    note: str = ""
    """What its figures have to be read with."""


def _nlb(order: Order) -> list[str]:
    tls = f"""
certificates = [{{ certificate = "server.crt", private_key = "server.key" }}]

[listeners.bench.client_auth]
mode = "required"
ca = ["{order.material.root}"]
"""
    servers = ", ".join(f'{{ address = "{one}" }}' for one in order.backends)
    (order.folder / "nlb.toml").write_text(f"""
[node]
workers = {order.workers}
control_socket = "nlb.sock"
drain_timeout = "1s"

[log]
access = "off"

[server_groups.bench]
servers = [{servers}]
health_check = {{ enabled = false }}

[listeners.bench]
bind = "127.0.0.1:{order.port}"
protocol = "{"TCPSSL" if order.tls else "TCP"}"
server_group = "bench"
{tls if order.tls else ""}""")
    return ["run", "-c", "nlb.toml"]


def _haproxy(order: Order) -> list[str]:
    servers = "\n".join(f"    server s{number} {one}" for number, one in enumerate(order.backends))
    tls = f"ssl-min-ver TLSv{VERSION} ciphersuites {SUITE} curves {GROUP}"
    (order.folder / "haproxy.cfg").write_text(f"""
global
    nbthread {order.workers}
    maxconn {CONNECTIONS // 2}
defaults
    mode tcp
    option redispatch
    timeout connect 5s
    timeout client 15m
    timeout server 15m
frontend bench
    bind 127.0.0.1:{order.port} ssl crt both.pem ca-file {order.material.root} verify required {tls}
    default_backend bench
backend bench
{servers}
""")
    return ["-W", "-f", "haproxy.cfg"]


def _nginx(order: Order) -> list[str]:
    found = (one / "ngx_stream_module.so" for one in NGINX_MODULES)
    module = next((f"load_module {one};" for one in found if one.exists()), "")
    servers = "\n".join(f"        server {one};" for one in order.backends)
    (order.folder / "nginx.conf").write_text(f"""
{module}
daemon off;
worker_processes {order.workers};
worker_rlimit_nofile {CONNECTIONS};
pid nginx.pid;
error_log stderr error;
events {{ worker_connections {CONNECTIONS}; }}
stream {{
    upstream bench {{
{servers}
    }}
    server {{
        listen 127.0.0.1:{order.port} ssl;
        ssl_certificate server.crt;
        ssl_certificate_key server.key;
        ssl_client_certificate {order.material.root};
        ssl_verify_client on;
        ssl_protocols TLSv{VERSION};
        ssl_conf_command Ciphersuites {SUITE};
        ssl_ecdh_curve {GROUP};
        proxy_timeout 15m;
        proxy_pass bench;
    }}
}}
""")
    return ["-e", "stderr", "-p", str(order.folder), "-c", "nginx.conf"]


def _hitch(order: Order) -> list[str]:
    host, _, port = order.backends[0].rpartition(":")
    (order.folder / "hitch.conf").write_text(f"""
frontend = "[127.0.0.1]:{order.port}"
backend = "[{host}]:{port}"
pem-file = "{order.folder}/both.pem"
tls-protos = TLSv{VERSION}
ciphersuites = "{SUITE}"
ecdh-curve = "{GROUP}"
client-verify = required
client-verify-ca = "{order.material.root}"
workers = {order.workers}
backlog = 4096
daemon = off
quiet = on
syslog = off
{'user = "nobody"' if os.geteuid() == 0 else ""}
""")  # it refuses to have workers that are root
    return ["--config", "hitch.conf"]


def _stunnel(order: Order) -> list[str]:
    servers = "\n".join(f"connect = {one}" for one in order.backends)
    (order.folder / "stunnel.conf").write_text(f"""
foreground = quiet
pid =
debug = 3
syslog = no
[bench]
accept = 127.0.0.1:{order.port}
{servers}
failover = rr
cert = {order.certificate}
key = {order.private_key}
CAfile = {order.material.root}
verifyChain = yes
requireCert = yes
sslVersion = TLSv{VERSION}
ciphersuites = {SUITE}
curves = {GROUP}
TIMEOUTidle = 900
TIMEOUTclose = 1
""")
    return ["stunnel.conf"]


KINDS = {
    kind.name: kind
    for kind in (
        Kind("nlb", "nlb", "nlb", _nlb, ("--version",), r"nlb (\S+)", worker=r"nlb: worker"),
        Kind(
            "haproxy",
            "HAProxy",
            "haproxy",
            _haproxy,
            ("-vv",),
            r"HAProxy version (\S+)",
            no_worker="its workers are threads of one process: there is none that can be lost alone",
            reload=signal.SIGUSR2,
        ),
        Kind("nginx", "nginx", "nginx", _nginx, ("-V",), r"nginx/(\S+)", worker=r"nginx: worker process *$"),
        Kind("hitch", "Hitch", "hitch", _hitch, ("--version",), r"hitch (\S+)", worker=r"hitch", servers=1),
        Kind(
            "stunnel",
            "stunnel",
            "stunnel",
            _stunnel,
            ("-version",),
            r"stunnel (\d\S*)",
            no_worker="its workers are threads of one process: there is none that can be lost alone",
            note="a thread per connection: not bound to the number of workers",
        ),
    )
}


def kind_of(name: str) -> Kind:
    """The kind of a peer's name: `haproxy`, `haproxy-3.4`, `nlb-a`.

    Raises:
        NlbError: there is no such kind
    """
    kind = KINDS.get(name.split("-", maxsplit=1)[0])
    if kind is None or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise NlbError(
            f"{name}: no proxy that is known here; a name is one of {', '.join(KINDS)}, "
            f"or one of them with more after a hyphen (haproxy-3.4, nlb-a)"
        )
    return kind


def find(program: str) -> Path | None:
    """The program's path: beside this Python first (an environment's nlb), then PATH, then where daemons live."""
    for where in (str(Path(sys.executable).parent), None, SBIN):
        if path := shutil.which(program, path=where):
            return Path(path)
    return None


@dataclass(frozen=True)
class Build:
    """What a program says of itself."""

    version: str
    library: str
    """Its TLS library with version; empty if it cannot be told."""


def build(kind: Kind, binary: Path) -> Build:
    """Ask the program for its version, and the library that it is linked with for its own.

    Raises:
        NlbError: it does not run, or is another program
    """
    try:
        done = subprocess.run(
            [binary, *kind.version_arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NlbError(f"{binary}: {error}") from None
    said = (done.stdout + done.stderr).decode(errors="replace")
    version = re.search(kind.version_pattern, said)
    if version is None:
        raise NlbError(f"{binary} is no {kind.title}: it says {said.strip()[:100]!r}")
    return Build(version[1], _library(said) or _library_of(binary))


_LIBRARY = r"(?:OpenSSL|AWS-LC|LibreSSL|BoringSSL|wolfSSL|quictls)[ -]v?\d[\w.+-]*"


def _library(text: str) -> str:
    """The last one that is named: programs say what they were built with before what they run with."""
    found: Sequence[str] = re.findall(_LIBRARY, text)
    return found[-1] if found else ""


def _library_of(binary: Path) -> str:
    """Of the shared library that the loader would take, from the text that is in it."""
    linked = subprocess.run(
        ["ldd", binary], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    ).stdout
    path = re.search(r"libcrypto\S* => (\S+)", linked)
    if path is None:
        return ""
    named = re.search(rb"OpenSSL \d[\w.]* +\d{1,2} [A-Z][a-z]{2} \d{4}", Path(path[1]).read_bytes())
    return " ".join(named[0].decode().split()[:2]) if named else ""
