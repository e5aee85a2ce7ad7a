"""The reference flow as its last step has it: a browser with the client's PKCS#12 file, through the balancer to both servers.

Chromium with a home of its own: the root and `client.p12`, both made by `nlb`, are in its NSS store, and a policy picks the certificate
where a person would click. One visit is answered by the first server, one in a new profile by the second; without the
certificate, and with a revoked one, the browser shows its own error. Pictures of all are kept.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Error, Page, Playwright, sync_playwright

from tests.support.backends import Backend, answer_then_close
from tests.support.balancer import Balancer, nlb, server_group, tls_listener
from tests.support.ports import free_port
from tests.support.programs import need, run
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLICIES = Path("/etc/chromium/policies/managed")
PASSWORD = "a password of mine"


class Files:
    """A server's certificate as `tls_listener` wants it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.certificate, self.key = folder / f"{name}.crt", folder / f"{name}.key"

    def entry(self) -> dict[str, str]:
        return {"certificate": str(self.certificate), "private_key": str(self.key)}


@pytest.fixture(scope="module")
def pki(module_folder: Path) -> Path:
    """What a person makes with `nlb`: the README's steps, with a bundle for each target and a revoked client."""
    (module_folder / "password").write_text(f"{PASSWORD}\n")

    def made(*arguments: str) -> None:
        done = nlb(*arguments, cwd=module_folder)
        assert done.returncode == 0, done.stderr

    made("ca", "init", "ca", "--name", "Browser Test")
    made("cert", "issue", "server", "--ca", "ca", "--profile", "server", "--cn", "www.example.com")
    for name in ("client", "former"):
        made("cert", "issue", name, "--ca", "ca", "--profile", "client", "--cn", f"{name}-1")
    made("cert", "revoke", "former", "--ca", "ca", "--reason", "keyCompromise")
    for name, target in (("client", "modern"), ("client", "legacy"), ("former", "modern")):
        files = (f"{name}.crt", f"{name}.key", "--out", f"{name}-{target}.p12")
        made("cert", "p12", *files, "--target", target, "--password-file", "password")
    return module_folder


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def balancer(pki: Path, port: int, use: Callable[[Any], Any], balancer_for: Callable[[Any], Balancer]) -> Balancer:
    """One worker before two servers, in turn."""
    servers = [use(Backend(answer_then_close(_page(name)))) for name in "ab"]
    auth = {"crl": str(pki / "ca/ca.crl")}
    web = tls_listener(Files(pki, "server"), ca=pki / "ca/chain.crt", client_auth=auth, bind=f"127.0.0.1:{port}")
    group = server_group(*servers, scheduler="rr")
    return balancer_for({"node": {"workers": 1}, "listeners": {"web": web}, "server_groups": {"app": group}})


def _page(name: str) -> bytes:
    body = (
        f"<!doctype html><title>Server {name}</title><link rel=icon href=data:,><h1>This is server {name}</h1>".encode()
    )
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@pytest.fixture(scope="module")
def address(balancer: Balancer, port: int) -> str:
    """Where the browser goes; its name resolves to this machine by an option."""
    return f"https://www.example.com:{port}/"


@pytest.fixture(scope="module")
def policy(address: str) -> Iterator[None]:
    """Chromium's policy to present a certificate of our authority there; it reads one folder only, which is root's."""
    need("chromium")
    path = POLICIES / f"nlb-test-{os.getpid()}.json"
    made = [folder for folder in (POLICIES.parent, POLICIES) if not folder.exists()]
    rule = {"pattern": address.rstrip("/"), "filter": {"ISSUER": {"CN": "Browser Test Intermediate"}}}
    try:
        POLICIES.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"AutoSelectCertificateForUrls": [json.dumps(rule)]}))
    except PermissionError:
        if os.environ.get("NLB_TESTS_NO_SKIP") == "1":
            raise
        pytest.skip(f"only root may write to {POLICIES}")
    try:
        yield
    finally:
        path.unlink()
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # another test process has its policy there
                folder.rmdir()


@pytest.fixture
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture
def profile(
    pki: Path, address: str, policy: None, playwright: Playwright, tmp_path: Path, artifacts: Path
) -> Iterator[Callable[..., str]]:
    """`profile(picture, p12)`: the text that a browser with a new profile shows; without `p12` it has no certificate."""
    with contextlib.ExitStack() as stack:

        def visit(picture: str, p12: str | None = None, until: str = "") -> str:
            home = tmp_path / picture
            store = home / ".pki/nssdb"
            store.mkdir(parents=True)
            database = f"sql:{store}"
            run("certutil", "-N", "-d", database, "--empty-password")
            run("certutil", "-A", "-d", database, "-n", "root", "-t", "C,,", "-i", str(pki / "ca/root.crt"))
            if p12 is not None:
                run("pk12util", "-i", str(pki / p12), "-d", database, "-w", str(pki / "password"), "-K", "")
            context = playwright.chromium.launch_persistent_context(
                home / "profile",
                executable_path=need("chromium"),
                args=["--no-sandbox", "--host-resolver-rules=MAP www.example.com 127.0.0.1"],
                env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")},
            )
            stack.callback(context.close)
            page = context.pages[0]
            page.set_default_timeout(10_000)
            text = wait_until(lambda: shown(page, until), f"the browser shows {until}")
            path = artifacts / f"client-certificate-{picture}.png"
            page.screenshot(path=path)
            print(f"picture: {path}")
            return text

        def shown(page: Page, until: str) -> str:
            with contextlib.suppress(Error):  # what a browser shows instead of a page is an error to playwright
                page.goto(address)
            page.wait_for_load_state()
            text = page.locator("body").inner_text()
            return text if until in text else ""

        yield visit


def test_both_servers_are_seen(balancer: Balancer, profile: Callable[..., str]) -> None:
    """The first one, and in a new profile, with a bundle for another target, the other; both know who came.

    Chromium may open a connection more than it uses, and that has its turn too: then a third profile sees the other.
    """
    mark = balancer.access.mark()
    first = profile("first", "client-modern.p12", until="This is server")
    others = (profile(f"next-{number}", "client-legacy.p12", until="This is server") for number in range(4))
    second = next(text for text in others if text != first)
    assert {first, second} == {"This is server a", "This is server b"}
    known: dict[str, Any] = {
        "client_cert_subject": "CN=client-1",
        "client_cert_proven": True,
        "domain_name": "www.example.com",
    }
    wait_until(
        lambda: len({line.get("server") for line in balancer.access.find(since=mark, **known)} - {None}) == 2,
        lambda: f"both servers know who came: {balancer.access.tail()}",
    )


# A browser that has ended its TLS 1.3 handshake may meet the end of the connection before it reads the alert; it then says
# ERR_SOCKET_NOT_CONNECTED, and the right thing when the page is loaded again.
REFUSED = "ERR_BAD_SSL_CLIENT_AUTH_CERT"


def test_without_a_certificate_the_browser_says_so(balancer: Balancer, profile: Callable[..., str]) -> None:
    mark = balancer.access.mark()
    assert "www.example.com" in profile("none", until=REFUSED)
    balancer.access.wait_for(since=mark, termination="no_certificate")
    assert not balancer.access.find(since=mark, termination="server_close")


def test_a_revoked_certificate_is_refused(balancer: Balancer, profile: Callable[..., str]) -> None:
    mark = balancer.access.mark()
    assert "www.example.com" in profile("revoked", "former-modern.p12", until=REFUSED)
    line = balancer.access.wait_for(since=mark, termination="revoked")
    assert (line["client_cert_subject"], line["client_cert_proven"]) == ("CN=former-1", False)
