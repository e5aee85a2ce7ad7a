"""Where a comparison takes place: proxies that stay, proxies that are new each time, servers that can be lost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from nlbbench.material import provide
from nlbbench.proxies import KINDS
from nlbbench.results import RELAY
from nlbbench.spec import Backend
from nlbbench.stage import Candidate, Stage
from nlbcore.errors import NlbError
from tests.support.programs import need

NLB = Path(sys.executable).parent / "nlb"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    before = psutil.Process().children(recursive=True)
    with Stage(tmp_path, provide(tmp_path / "certificates"), 1, {Backend.SINK: "192.0.2.1:9"}) as stage:
        yield stage
    assert psutil.Process().children(recursive=True) == before


@pytest.fixture
def nginx() -> Candidate:
    return Candidate("nginx-x", KINDS["nginx"], Path(need("nginx")))


def test_one_that_stays_and_one_that_is_new(stage: Stage, nginx: Candidate) -> None:
    standing = stage.standing(nginx, Backend.ECHO)
    assert stage.standing(nginx, Backend.ECHO) is standing
    with stage.fresh(nginx, Backend.ECHO, workers=2) as fresh:
        assert fresh.address != standing.address
        assert len(fresh.processes()) == 1 + 2
    assert fresh.processes() == []
    assert standing.processes()


def test_one_with_more_workers_than_the_others(stage: Stage, nginx: Candidate) -> None:
    two = replace(nginx, name="nginx-two", workers=2)
    assert len(stage.standing(two, Backend.ECHO).processes()) == 1 + 2
    assert (stage.workers_of(two), stage.workers_of(nginx)) == (2, 1)
    assert two.introduce().note == "2 workers"


def test_a_server_of_somebody_else(stage: Stage) -> None:
    assert stage.server(Backend.SINK) == "192.0.2.1:9"
    assert stage.server(Backend.ECHO) == stage.server(Backend.ECHO)


def test_a_server_that_is_lost(stage: Stage, nginx: Candidate) -> None:
    with stage.before_two(nginx, Backend.ECHO) as (peer, lose):
        assert peer.order is not None
        assert len(set(peer.order.backends)) == 2
        count = len(psutil.Process().children())
        lose()
        assert len(psutil.Process().children()) == count - 1


def test_a_proxy_with_one_server_only(stage: Stage) -> None:
    hitch = Candidate("hitch", KINDS["hitch"], Path("/not/asked"))
    with pytest.raises(NlbError, match="it can have one server only"), stage.before_two(hitch, Backend.ECHO):
        pass


def test_one_that_is_running_already(stage: Stage, nginx: Candidate) -> None:
    running = stage.standing(nginx, Backend.ECHO)
    candidate = Candidate("mine", address=running.address, pid=running.roots[0])
    peer = stage.standing(candidate, Backend.ECHO)
    assert peer.roots == running.roots
    with pytest.raises(NlbError, match="it has an echo behind it, and nothing else"):
        stage.standing(candidate, Backend.SOURCE)
    peer.stop()
    assert running.processes()


def test_introductions(nginx: Candidate) -> None:
    found = nginx.introduce()
    assert (found.name, found.title, found.kind) == ("nginx-x", "nginx-x", "nginx")
    assert found.version[0].isdigit()
    mine = Candidate("mine", address="192.0.2.1:443").introduce()
    assert (mine.title, mine.kind) == ("mine (192.0.2.1:443)", "address")
    relay = Candidate(RELAY, KINDS["nlb"], NLB, tls=False).introduce()
    assert relay.kind == RELAY
    with pytest.raises(NlbError):
        Candidate("nginx", KINDS["nginx"], NLB).introduce()
