"""The reference flow, step by step with the documented openssl commands (features.md, section 0).

A root made with openssl, an RSA-4096 server certificate signed by it, a client certificate and its PKCS#12 file, a TCPSSL
listener with mutual authentication before two nginx servers: curl with the certificate is answered by both in turn, curl
without it is refused and nothing reaches a server. Client certificates get an extension file, because an X.509 v1
certificate (what `openssl x509 -req` makes without one) is never a client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.balancer import Balancer, nlb
from tests.support.nginx import Nginx
from tests.support.ports import free_port
from tests.support.programs import run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

CONFIGURATION = """\
[node]
workers = 1
drain_timeout = "5s"

[log]
file = "event.log"
access = "access.log"

[listeners.web]
bind = "127.0.0.1:{port}"
protocol = "TCPSSL"
server_group = "app"
security_policy = "tls_cipher_policy_1_2_strict_with_1_3"

[[listeners.web.certificates]]
certificate = "server.crt"
private_key = "server.key"

[listeners.web.client_auth]
mode = "required"
ca = ["root.crt"]

[server_groups.app]
scheduler = "wrr"
servers = [
  {{ name = "a", address = "{a}", weight = 100 }},
  {{ name = "b", address = "{b}", weight = 100 }},
]
"""

STEPS = """\
openssl genrsa -out root.key 4096
openssl req -x509 -new -key root.key -days 3650 -subj /CN=Reference-Root -out root.crt
openssl genrsa -out server.key 4096
openssl req -new -key server.key -subj /CN=www.example.com -out server.csr
openssl x509 -req -in server.csr -out server.crt -CA root.crt -CAkey root.key -CAcreateserial -days 3650
openssl genrsa -out client.key 4096
openssl req -new -key client.key -subj /CN=client-1 -out client.csr
openssl x509 -req -in client.csr -out client.crt -CA root.crt -CAkey root.key -CAcreateserial -days 30 -extfile client.ext
openssl pkcs12 -export -clcerts -in client.crt -inkey client.key -out client.p12 -passout pass:secret
"""


@pytest.fixture(scope="module")
def folder(module_folder: Path) -> Path:
    """The certificates as the reference makes them."""
    (module_folder / "client.ext").write_text("basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n")
    for step in STEPS.splitlines():
        run(*step.split(), cwd=module_folder)
    for key in module_folder.glob("*.key"):
        key.chmod(0o600)
    return module_folder


@pytest.fixture(scope="module")
def servers(folder: Path, use: Callable[[Any], Any]) -> tuple[Nginx, Nginx]:
    """Two nginx with different bodies."""
    return use(Nginx(folder / "nginx-a", "this is a")), use(Nginx(folder / "nginx-b", "this is b"))


@pytest.fixture(scope="module")
def flow(
    folder: Path, servers: tuple[Nginx, Nginx], request: pytest.FixtureRequest
) -> tuple[Balancer, Callable[..., subprocess.CompletedProcess[bytes]]]:
    """The balancer, and curl as the reference calls it."""
    port = free_port()
    a, b = servers
    balancer = Balancer(folder, CONFIGURATION.format(port=port, a=a.address, b=b.address)).start()
    request.addfinalizer(balancer.stop)

    def curl(*options: str) -> subprocess.CompletedProcess[bytes]:
        resolve = f"www.example.com:{port}:127.0.0.1"
        command = ["curl", "--silent", "--show-error", "--resolve", resolve, "--cacert", "root.crt", *options]
        return run(*command, f"https://www.example.com:{port}/", cwd=folder, check=False)

    return balancer, curl


def test_check_finds_nothing(folder: Path, flow: Any) -> None:
    """`nlb check` accepts the configuration of the reference."""
    checked = nlb("check", "-c", folder / "nlb.toml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("version", ["--tls-max=1.2", "--tlsv1.3"])
def test_both_servers_answer_in_turn(flow: Any, servers: tuple[Nginx, Nginx], version: str) -> None:
    """Four requests, two for each server, alternating; the log has the client's identity."""
    balancer, curl = flow
    mark = balancer.access.mark()
    bodies = []
    for _ in range(4):
        done = curl("--cert", "client.crt", "--key", "client.key", *version.split("="))
        assert done.returncode == 0, done.stderr
        bodies.append(done.stdout.decode().strip())
    assert sorted(bodies) == sorted([server.body for server in servers] * 2)
    assert bodies[0] == bodies[2] != bodies[1] == bodies[3]
    lines = balancer.access.wait_count(4, since=mark, listener="web")
    assert [f"this is {line['server']}" for line in lines] == bodies
    assert all("client-1" in line["client_cert_subject"] and line["client_cert_proven"] is True for line in lines)


def test_pkcs12_file(flow: Any) -> None:
    """The PKCS#12 file carries the same identity."""
    _, curl = flow
    done = curl("--cert-type", "P12", "--cert", "client.p12:secret")
    assert (done.returncode, done.stdout.decode()[:7]) == (0, "this is"), done.stderr


@pytest.mark.parametrize("version", ["--tls-max=1.2", "--tlsv1.3"])
def test_no_certificate_is_refused(flow: Any, servers: tuple[Nginx, Nginx], version: str) -> None:
    """Without the certificate: curl fails, no server has a request, the log says `no_certificate`."""
    balancer, curl = flow
    before = [server.requests() for server in servers]
    mark = balancer.access.mark()
    done = curl(*version.split("="))
    assert done.returncode in {35, 56}, (done.returncode, done.stderr)
    assert done.stdout == b""
    assert balancer.access.wait_for(since=mark)["termination"] == "no_certificate"
    assert [server.requests() for server in servers] == before


def test_openssl_client(flow: Any, folder: Path) -> None:
    """`openssl s_client` verifies the server and is let in with the certificate."""
    balancer, _ = flow
    address = next(
        line.split('"')[1] for line in (folder / "nlb.toml").read_text().splitlines() if line.startswith("bind")
    )
    command = "openssl s_client -CAfile root.crt -verify_return_error -servername www.example.com -quiet -no_ign_eof"
    done = run(
        *command.split(), "-connect", address, "-cert", "client.crt", "-key", "client.key",
        cwd=folder, data=b"GET / HTTP/1.0\r\n\r\n", check=False,
    )  # fmt: skip
    line = balancer.access.wait_for(lambda line: line["termination"] in {"client_close", "server_close"})
    assert line["tls_protocol_version"] == "TLSv1.3"
    assert b"verify error" not in done.stderr, done.stderr
