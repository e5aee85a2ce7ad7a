"""All or nothing: a reload with any mistake changes nothing and leaves nothing behind; command, log and status say why."""

from __future__ import annotations

import datetime as dt
import json
import socket
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, nlb, plain_listener, server_group, tls_listener
from tests.support.certs import now
from tests.support.lists import revocation_list, write_lists
from tests.support.ports import free_port
from tests.support.reloading import Material, changed, descriptors, no_more_than, refused
from tests.support.workers import PlainClient, Visitors, tls_client
from tests.support.workers import refused as nobody_listens

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki
    from tests.support.reloading import Tables

LISTENERS = 2
SPARE_FRONTS = 32


@pytest.fixture(scope="module")
def material(pki: Pki, module_folder: Path) -> Material:
    """That of the listener "web"."""
    return Material(module_folder, pki.server)


@pytest.fixture(scope="module")
def base(pki: Pki, backend: Backend, material: Material) -> Tables:
    """One listener of each kind."""
    return {
        "node": {"workers": 2},
        "listeners": {"web": tls_listener(material, ca=pki.root.path), "plain": plain_listener()},
        "server_groups": {"app": server_group(backend)},
    }


@pytest.fixture(scope="module")
def running(balancer_for: Callable[..., Balancer], base: Tables) -> Balancer:
    return balancer_for(base)


@pytest.fixture
def balancer(
    running: Balancer, base: Tables, context: ssl.SSLContext, pki: Pki, material: Material
) -> Iterator[Balancer]:
    """After the test: who was connected still is, new clients come in as ever, nobody has more open than before; and when the
    mistake is corrected, a reload goes well.
    """
    before = descriptors(running)
    with ExitStack() as stack:
        live = stack.enter_context(closing(tls_client(running.port(), context)))
        live.ping()
        with Visitors(partial(tls_client, running.port(), context), threads=1) as visitors:
            yield running
            running.rewrite(base)
            material.renew(pki.server)
        visitors.all_served(0, 10)
        live.ping(b"still here" * 1000)
    running.reload()
    no_more_than(running, before)


def test_no_toml(balancer: Balancer) -> None:
    """With the place of the mistake."""
    balancer.path.write_text(f"{balancer.path.read_text()}\n[listeners.web\n")
    told = refused(balancer, f"{balancer.path}:{len(balancer.path.read_text().splitlines())}:", "error:")
    assert told["changes"] == []


def test_empty(balancer: Balancer) -> None:
    """A file that somebody has emptied."""
    balancer.path.write_text("")
    refused(balancer)


def test_no_file(balancer: Balancer) -> None:
    """The configuration itself is gone."""
    balancer.path.unlink()
    refused(balancer, str(balancer.path))


def test_several_mistakes(balancer: Balancer, base: Tables) -> None:
    """All are told, and with --json in a form for programs."""
    balancer.rewrite(changed(base, web={"server_group": "nobody", "cps": -1}, plain={"idle_timout": "60s"}))
    refused(balancer, "listeners.web.server_group", "listeners.web.cps", "idle_timeout", "(and 2 more)")
    done = nlb("reload", "--json", "--socket", balancer.control_socket)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["successful"], answer["generation"]) == (1, False, balancer.status()["generation"])
    assert {one["key"] for one in answer["findings"]} >= {"listeners.web.cps", "listeners.web.server_group"}
    assert all(one["severity"] == "error" and one["line"] for one in answer["findings"])


def test_key_of_another_certificate(balancer: Balancer, pki: Pki, material: Material) -> None:
    """A certificate that is renewed before its key is."""
    material.put("server.crt", pki.root.server("www.example.com").path)
    refused(balancer, "listeners.web.certificates", "key")


@pytest.mark.parametrize("name", ["server.crt", "server.key"])
def test_missing_file(balancer: Balancer, material: Material, name: str) -> None:
    """Certificate or key are gone."""
    (material.folder / name).unlink()
    refused(balancer, str(material.folder / name))


@pytest.mark.parametrize("name", ["server.crt", "server.key"])
def test_half_a_file(balancer: Balancer, material: Material, name: str) -> None:
    """Certificate or key are still being written."""
    path = material.folder / name
    path.write_bytes(path.read_bytes()[:200])
    refused(balancer, str(path))


def test_key_that_others_may_read(balancer: Balancer, material: Material) -> None:
    """As at the start."""
    (material.folder / "server.key").chmod(0o644)
    refused(balancer, str(material.folder / "server.key"))


def test_no_ca(balancer: Balancer, base: Tables, tmp_path: Path) -> None:
    """A bundle without any certificate."""
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("\n")
    balancer.rewrite(changed(base, web={"client_auth": {"mode": "required", "ca": str(bundle)}}))
    refused(balancer, "listeners.web.client_auth.ca", str(bundle))


def test_list_of_a_stranger(balancer: Balancer, base: Tables, pki: Pki, tmp_path: Path) -> None:
    """A revocation list that no CA of the listener has signed."""
    crl = write_lists(tmp_path, revocation_list(pki.root, signed_with=pki.other.key))
    balancer.rewrite(
        changed(base, web={"client_auth": {"mode": "required", "ca": str(pki.root.path), "crl": str(crl)}})
    )
    refused(balancer, "listeners.web.client_auth.crl")


def test_port_of_another_process(balancer: Balancer, base: Tables) -> None:
    """Nothing of the same reload comes into force, not even the listener that could be bound."""
    free = plain_listener()
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        taken = plain_listener(bind=f"127.0.0.1:{other.getsockname()[1]}")
        balancer.rewrite(changed(base, free=free, taken=taken, plain={"server_group": "app", "cps": 1}))
        refused(balancer, str(taken["bind"]), "another process listens there")
        port = balancer.port("free")
        assert nobody_listens(port)
        for _ in range(5):  # no limit of one a second
            with closing(PlainClient(balancer.port("plain"))) as client:
                client.ping()
    balancer.reload()
    with closing(PlainClient(port)) as client:
        client.ping()


def test_too_many_listeners(balancer: Balancer, base: Tables) -> None:
    """More than there are front contexts for: a restart is needed, and that is said."""
    port = free_port()
    more = {f"more{n}": plain_listener(bind=f"127.0.0.{n}:{port}") for n in range(2, 3 + SPARE_FRONTS)}
    balancer.rewrite(changed(base, **more))
    refused(balancer, "restart")


def test_log_that_cannot_be_written(balancer: Balancer, base: Tables, tmp_path: Path) -> None:
    """Its folder is missing; or it cannot be opened, which only the supervisor sees."""
    balancer.rewrite({**base, "log": {"access": str(tmp_path / "no" / "access.log")}})
    refused(balancer, "log.access", str(tmp_path / "no"))
    balancer.rewrite({**base, "log": {"file": "/dev/full/events"}})
    refused(balancer, "log.file")


def test_unix_path_of_another_process(balancer: Balancer, base: Tables, tmp_path: Path) -> None:
    """The other one goes on to listen there."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "app.sock"))
        other.listen()
        balancer.rewrite(changed(base, more=plain_listener(bind=f"unix:{tmp_path}/app.sock")))
        refused(balancer, f"{tmp_path}/app.sock")
        PlainClient(tmp_path / "app.sock").close()
    balancer.rewrite(base)


def test_again_and_again(balancer: Balancer, material: Material) -> None:
    """20 in a row: each is refused, and nothing adds up."""
    (material.folder / "server.crt").unlink()
    before = descriptors(balancer)
    for _ in range(20):
        assert balancer.ask("reload")["successful"] is False
    no_more_than(balancer, before)


def test_expired_certificate_is_loaded(running: Balancer, pki: Pki, material: Material) -> None:
    """No mistake: the last good beats none. The command warns."""
    material.renew(pki.root.server("www.example.com", not_after=now() - dt.timedelta(hours=1)))
    done = nlb("reload", "--socket", running.control_socket)
    assert done.returncode == 0
    assert "expired" in done.stderr
    material.renew(pki.server)
    running.reload()
