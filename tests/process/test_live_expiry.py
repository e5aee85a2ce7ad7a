"""Live connections end with their client's certificate: `became_expired` within a second or two, without a reload, also of
thousands at once; and not where `on_expired` or the mode says otherwise.
"""

from __future__ import annotations

import datetime as dt
import time
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.process.test_reload_trust import Crowd
from tests.process.test_ten_thousand import descriptors, echo
from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import now
from tests.support.reloading import changed
from tests.support.tls_client import TLS12, TLS13, TlsClient, client_context, refusal
from tests.support.waiting import wait_until
from tests.support.workers import tls_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki
    from tests.support.reloading import Tables

__all__ = ["descriptors", "echo"]

MODES = {
    "required": {},
    "optional": {"mode": "optional"},
    "keep": {"on_expired": "keep"},
    "report": {"mode": "report"},
}
CLOSE = ("required", "optional")


@pytest.fixture(scope="module")
def base(pki: Pki, backend: Backend) -> Tables:
    """A listener for each way to deal with it."""
    return {
        "node": {"workers": 1},
        "listeners": {
            name: tls_listener(pki.server, ca=pki.root.path, client_auth=auth) for name, auth in MODES.items()
        },
        "server_groups": {"app": server_group(backend)},
    }


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], base: Tables) -> Balancer:
    return balancer_for(base)


@pytest.fixture
def short(pki: Pki) -> Issued:
    """Good for a few seconds more."""
    return pki.root.client("short", not_after=now() + dt.timedelta(seconds=5))


def until(certificate: Issued) -> float:
    """Seconds that it is good for; the last one counts."""
    return certificate.certificate.not_valid_after_utc.timestamp() + 1 - time.time()


def test_at_the_end(balancer: Balancer, base: Tables, pki: Pki, short: Issued) -> None:
    """Full and resumed ones, of both TLS versions, at all listeners; a neighbour stays."""
    with ExitStack() as stack:
        held: dict[str, list[TlsClient]] = {name: [] for name in MODES}
        stays = stack.enter_context(
            closing(tls_client(balancer.port("required"), client_context(pki.root.path, None, pki.client)))
        )
        for name in MODES:
            for version in (TLS12, TLS13):
                context = client_context(pki.root.path, version, short)
                session = None
                for _ in range(2):
                    client = stack.enter_context(closing(tls_client(balancer.port(name), context, session)))
                    client.ping()
                    session = client.session
                    held[name].append(client)
                assert client.resumed
        assert until(short) > 0, "this machine is too slow"
        for name in CLOSE:
            for client in held[name]:
                assert client.read_to_end(until(short) + 3)[0] == b""
                assert until(short) < 0.1
                line = balancer.line(client)
                assert (line["termination"], line["client_cert_proven"]) == ("became_expired", True)
                assert line["termination_detail"] == "certificate has expired"
        for client in (*held["keep"], *held["report"], stays):
            client.ping(b"still here" * 1000)
        assert refusal(TlsClient(balancer.port("keep"), client_context(pki.root.path, None, short))) == (
            "SSLV3_ALERT_CERTIFICATE_EXPIRED"
        ), "new ones need a good one"
        assert balancer.reload().get("closed", 0) == 0, "nor does a reload close them"
        balancer.rewrite(changed(base, keep={"idle_timeout": "899s"}, report={"idle_timeout": "899s"}))
        assert balancer.reload()["closed"] == 0
        balancer.rewrite(
            changed(
                base,
                keep={
                    "client_auth": {
                        "mode": "required",
                        "ca": [str(pki.root.path), str(pki.other.path)],
                        "on_expired": "keep",
                    }
                },
            )
        )
        assert balancer.reload()["closed"] == 0
        balancer.rewrite(
            changed(base, keep={"client_auth": {"mode": "required", "ca": str(pki.root.path), "on_expired": "keep"}})
        )
        assert balancer.reload()["closed"] == 0, "a CA that is gone is another reason, and has not been theirs"
        for client in (*held["keep"], *held["report"], stays):
            client.ping(b"still here" * 1000)
        balancer.rewrite(
            changed(base, keep=base["listeners"]["required"] | {"bind": base["listeners"]["keep"]["bind"]})
        )
        balancer.reload()
        for client in held["keep"]:
            assert client.read_to_end(3)[0] == b""
            assert balancer.line(client)["termination"] == "became_expired"


def in_time(stack: ExitStack, balancer: Balancer, pki: Pki, count: int) -> tuple[Crowd, Issued]:
    """So many connections with one certificate, which ends as soon after the last of them as this machine can do it."""
    for seconds in (count // 100, count // 25, count // 10):
        short = pki.root.client("short", not_after=now() + dt.timedelta(seconds=seconds))
        with ExitStack() as mine, suppress(OSError, AssertionError):
            crowd = Crowd(mine, balancer.port(), client_context(pki.root.path, None, short), count)
            if until(short) > 1:
                stack.push(mine.pop_all())
                return crowd, short
    pytest.fail("this machine is too slow")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [300, pytest.param(9000, marks=pytest.mark.soak)])
def test_many(run: Callable[..., Balancer], base: Tables, echo: str, descriptors: None, pki: Pki, count: int) -> None:
    """All with one certificate: they are gone within a second, while others talk on, and no round of a worker is long."""
    listener = {"web": tls_listener(pki.server, ca=pki.root.path)}
    groups = {"app": server_group({"address": echo})}
    with ExitStack() as stack:
        balancer = run({"node": {"workers": 2}, "listeners": listener, "server_groups": groups})
        others = Crowd(stack, balancer.port(), client_context(pki.root.path, None, pki.client), count // 10)
        crowd, short = in_time(stack, balancer, pki, count)
        before = balancer.ask("status")["listeners"][0]["terminations"].get("became_expired", 0)
        worked = [sum(worker.cpu_times()[:2]) for worker in balancer.workers()]
        ends = crowd.ends(until(short) + 20)
        worked = [
            sum(worker.cpu_times()[:2]) - before for worker, before in zip(balancer.workers(), worked, strict=True)
        ]
        late = max(ends) - time.monotonic() - until(short)
        stalls = [one["longest_stall_ms"] for one in balancer.ask("status")["workers"]]
        print(
            f"{count} expired: {max(ends) - min(ends):.3f} s from first to last, which was {late:.3f} s after the end; "
            f"workers: {worked} s, longest rounds {stalls} ms"
        )
        others.ping()
        assert max(worked) < 2
        assert max(ends) - min(ends) < 4, late
        wait_until(
            lambda: balancer.ask("status")["listeners"][0]["terminations"].get("became_expired") == before + count,
            "counted",
        )
    wait_until(lambda: balancer.ask("status")["connections"] == 0, "all have left", 30)
