"""The status page of a running balancer, served by its own admin process: what happens to clients, servers and the
configuration is seen within seconds, and the browser has nothing to complain of.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_status_page import BYTES, CONNECTIONS, HANDSHAKES, REFUSALS, big, legend, luminance, row
from tests.support.admin import get
from tests.support.backends import Backend
from tests.support.balancer import Balancer, nlb, plain_listener, server_group, tls_listener
from tests.support.lists import revocation_list, write_lists
from tests.support.ports import free_port
from tests.support.reloading import changed, refused
from tests.support.tls_client import TlsClient, client_context, refusal
from tests.support.waiting import wait_until
from tests.support.workers import tls_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.conftest import Visits
    from tests.support.certs import Pki

Tables = dict[str, Any]


@pytest.fixture
def tables(pki: Pki, tmp_path: Path) -> Iterator[Tables]:
    """Two workers, a listener with client certificates and a plain one, two servers of which one is checked and down."""
    crl = write_lists(tmp_path, revocation_list(pki.root, pki.root.client("gone")))
    with closing(Backend()) as backend:
        check = {"interval": "1s", "connect_timeout": "1s"}
        down = {"name": "b", "address": f"127.0.0.1:{free_port()}"}
        yield {
            "node": {"name": "lb-1", "workers": 2, "admin": f"127.0.0.1:{free_port()}"},
            "listeners": {
                "web": tls_listener(pki.server, ca=pki.root.path, client_auth={"crl": str(crl)}),
                "plain": plain_listener(),
            },
            "server_groups": {"app": server_group(backend.entry(name="a"), down, health_check=check)},
        }


@pytest.fixture
def balancer(tables: Tables, tmp_path: Path) -> Iterator[Balancer]:
    with Balancer(tmp_path, tables) as running:
        yield running


def test_what_happens_is_seen(tables: Tables, balancer: Balancer, visit: Visits, artifacts: Path, pki: Pki) -> None:
    port = int(tables["node"]["admin"].rpartition(":")[2])
    code, headers, _ = get(port, "/")
    assert (code, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    page = visit(f"http://localhost:{port}/")
    expect(page.locator("h1")).to_have_text("lb-1")
    expect(page.locator("#live")).to_have_text("live")
    expect(row(page, "listeners", "web")).to_contain_text("certificate required")
    expect(row(page, "servers", "b")).to_contain_text("CONNECT_FAILED", timeout=10_000)
    expect(page.locator("#attention")).to_contain_text("Server group app: 1 of 2 servers unhealthy")
    expect(page.locator("#workers tbody tr")).to_have_count(2)
    expect(row(page, "attendants", "admin")).to_contain_text("running")
    expect(page.locator("#certificates tbody tr")).to_contain_text("www.example.com")
    expect(row(page, "crls", "CN=Test Root")).to_contain_text("days")

    context = client_context(pki.root.path, None, pki.client)
    with ExitStack() as stack:
        clients = [stack.enter_context(tls_client(balancer.port(), context)) for _ in range(3)]
        for client in clients:
            client.ping(b"x" * 100_000)
        for bad in (None, pki.bad_client("expired"), pki.bad_client("expired")):
            with TlsClient(balancer.port(), client_context(pki.root.path, None, bad)) as stranger:
                refusal(stranger)
        expect(big(page, CONNECTIONS)).to_have_text("3")
        expect(row(page, "terminations", "expired").get_by_role("cell").nth(1)).to_have_text("2")
        expect(row(page, "terminations", "no_certificate").get_by_role("cell").nth(1)).to_have_text("1")
        wait_until(lambda: {"expired", "no_certificate"} <= set(legend(page, REFUSALS)), "both in the chart")
        expect(row(page, "servers", "a").get_by_role("cell")).to_contain_text(["3"])
        balancer.rewrite(changed(tables, plain=None))
        balancer.reload()
        expect(page.locator("#facts")).to_contain_text("by command")
        expect(row(page, "listeners", "plain")).to_have_count(0)
        pictures(page, artifacts)
        balancer.rewrite(changed(tables, web={"server_group": "nobody"}))
        told = refused(balancer)
        expect(page.locator("#refused-reason")).to_have_text(told["reason"])
        done = nlb("server", "drain", "app/a", "--socket", balancer.control_socket)
        assert done.returncode == 0, done.stderr
        expect(row(page, "servers", "a")).to_contain_text("Draining")
        for client in clients:
            client.ping()
    expect(big(page, CONNECTIONS)).to_have_text("0")
    expect(page.locator(f"{BYTES} svg")).to_be_visible()
    expect(page.locator(f"{HANDSHAKES} svg")).to_be_visible()


def pictures(page: Page, artifacts: Path) -> None:
    """For people to look at."""
    (artifacts / "status-page-live-light.png").write_bytes(page.screenshot(full_page=True))
    page.emulate_media(color_scheme="dark")
    assert luminance(page) < 0.15
    (artifacts / "status-page-live-dark.png").write_bytes(page.screenshot(full_page=True))
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    (artifacts / "status-page-live-phone.png").write_bytes(page.screenshot(full_page=True))
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1440, "height": 900})
