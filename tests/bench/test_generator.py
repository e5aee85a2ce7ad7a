"""Every kind of work is done, compared and counted, through a running balancer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nlbbench.histogram import Latency
from nlbbench.spec import Population, Target, Work
from tests.bench.support import one

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("listener", "work", "fields"),
    [
        ("echo", Work.CONNECT, {"count": 40, "connections": 4}),
        ("echo", Work.CONNECT, {"count": 40, "connections": 4, "size": 1024}),
        ("echo", Work.ECHO, {"count": 500, "connections": 8}),
        ("echo", Work.ECHO, {"count": 20, "connections": 2, "size": 100_001}),
        ("source", Work.DOWNLOAD, {"count": 10, "connections": 2}),
        ("sink", Work.UPLOAD, {"count": 10, "connections": 2}),
        ("echo", Work.DUPLEX, {"count": 10, "connections": 2}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_by_count(target: Callable[..., Target], listener: str, work: Work, fields: dict[str, Any]) -> None:
    found = one(target(listener), work, **fields)
    assert found.failed == {}, found.samples
    assert found.done == found.planned == fields["count"]
    assert Latency.read(found.latency).count == found.done
    assert set(found.negotiated) == {"TLSv1.3 TLS_AES_128_GCM_SHA256 X25519MLKEM768"}, found.negotiated
    size = Population("one", work, **fields).message
    assert found.received == found.done * (16 if work is Work.UPLOAD else size)
    assert found.sent == found.done * {Work.DOWNLOAD: 16, Work.UPLOAD: 16 + size}.get(work, size)
    assert (found.full, found.resumed) == (found.opened, 0)


def test_the_latency_of_a_connection_begins_with_connect(target: Callable[..., Target]) -> None:
    found = one(target("echo"), Work.CONNECT, count=20)
    assert Latency.read(found.latency).shortest > Latency.read(found.handshake).shortest


def test_resumed(target: Callable[..., Target]) -> None:
    found = one(target("echo"), Work.CONNECT, count=40, connections=4, resumed=True)
    assert (found.done, found.resumed, found.full, found.failed) == (40, 40, 0, {}), found.samples


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_what_is_offered_alone_is_negotiated(target: Callable[..., Target], version: str) -> None:
    suite = {"1.2": "ECDHE-ECDSA-AES256-GCM-SHA384", "1.3": "TLS_CHACHA20_POLY1305_SHA256"}[version]
    wanted = target("echo", version=version, suite=suite, group="P-256")
    for resumed in (False, True):
        found = one(wanted, Work.CONNECT, count=4, resumed=resumed)
        assert (found.done, found.failed) == (4, {}), found.samples
        (negotiated,) = found.negotiated
        assert negotiated.split()[:2] == [f"TLSv{version}", suite]
