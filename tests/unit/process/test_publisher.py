"""What is published is what a reader of the facts finds, and it is published when something has changed."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nlbcore import __version__
from nlbcore.facts import Facts
from nlbcore.observe.log import EventLog
from nlbcore.process import prober
from nlbcore.process.attendant import Attendant
from nlbcore.process.publisher import Publisher
from nlbcore.process.slot import State
from nlbcore.tls.material import ListenerMaterial, Material, ServerCertificate
from nlbcore.tls.revocation import InForce
from tests.unit.process.generations import config, generation
from tests.unit.process.played import Played

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbcore.process.snapshot import Snapshot

END = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
GROUPS = {"app": {"a": 100, "b": 50}, "other": {"a": 1}}
MATERIAL = Material(
    {
        "web": ListenerMaterial(
            certificates=(
                ServerCertificate(
                    Path("/a.crt"), Path("/a.key"), (b"secret",), b"secret", ("a.test", "*.test"), END, "EC"
                ),
            ),
            lists=(InForce("CN=Root", END), InForce("CN=Other", None)),
        ),
        "plain": ListenerMaterial(),
    }
)


def first() -> Snapshot:
    listeners = {"web": "app", "plain": "other"}
    node = {"name": "n1", "admin": "127.0.0.1:9180", "control_socket": "/run/x.sock"}
    return generation(1, config(GROUPS, listeners, node=node, app={"scheduler": "rr"}), material=MATERIAL)


class Published:
    """A publisher, and a reader of what it publishes."""

    def __init__(self, workers: Played) -> None:
        self.workers = workers
        self._written = Facts.create()
        self.facts = Facts(self._written.fd)
        self.state = "starting"
        self.reloads: dict[str, Any] = {"reload": None, "reloads": {"successful": 0, "failed": 0}}
        orders = prober.Orders(-1, -1, -1, -1, "error", "text")
        never = Attendant("prober", lambda _: orders, EventLog(2, "error"), workers.selector, lambda: 0, lambda _: None)
        self.attendants = {"prober": never}
        self.publisher = Publisher(
            self._written, 77, workers.fleet, self.attendants, lambda: self.state, lambda: self.reloads
        )

    def read(self) -> dict[str, Any]:
        self.publisher.publish()
        return self.facts.read()


@contextmanager
def published(folder: Path, snapshot: Snapshot, count: int = 2) -> Iterator[Published]:
    with Played(count, snapshot, folder) as workers:
        one = Published(workers)
        yield one
        os.close(one._written.fd)
        del one.facts, one.publisher, one._written, one.workers  # their mappings have descriptors of their own


def test_a_generation(tmp_path: Path) -> None:
    """In the order of the file, with the rows that the counters have, and nothing secret."""
    before = time.time()
    with published(tmp_path, first()) as one:
        facts = one.read()
        assert {key: facts[key] for key in ("node", "version", "pid", "state", "generation", "generations")} == {
            "node": "n1",
            "version": __version__,
            "pid": 77,
            "state": "starting",
            "generation": 1,
            "generations": [1],
        }
        assert before <= facts["started"] <= time.time()
        assert (facts["admin"], facts["control_socket"]) == ("127.0.0.1:9180", "/run/x.sock")
        assert facts["names"] == {
            "listeners": {"0": "web", "1": "plain"},
            "groups": {"0": "app", "1": "other"},
            "servers": {"0": "a", "1": "b", "2": "a"},
        }
        listener = {"protocol": "TCP", "client_auth": "off", "max_connections": 0}
        assert facts["listeners"] == [
            {**listener, "name": "web", "row": 0, "bind": ["127.0.0.1:443"], "server_group": "app"},
            {**listener, "name": "plain", "row": 1, "bind": ["127.0.0.1:444"], "server_group": "other"},
        ]
        assert [(one["name"], one["row"], one["scheduler"]) for one in facts["server_groups"]] == [
            ("app", 0, "rr"),
            ("other", 1, "wrr"),
        ]
        assert facts["server_groups"][0]["servers"] == [
            {"name": "a", "row": 0, "address": "10.0.0.1:80", "configured_weight": 100},
            {"name": "b", "row": 1, "address": "10.0.0.2:80", "configured_weight": 50},
        ]
        assert facts["certificates"] == [
            {"listener": "web", "path": "/a.crt", "names": ["a.test", "*.test"], "not_after": END.timestamp()}
        ]
        assert facts["crls"] == [
            {"listener": "web", "issuer": "CN=Root", "next_update": END.timestamp()},
            {"listener": "web", "issuer": "CN=Other", "next_update": None},
        ]
        assert "secret" not in str(facts)


def test_a_generation_without_an_admin_process(tmp_path: Path) -> None:
    with published(tmp_path, generation(1, config({}))) as one:
        facts = one.read()
        assert (facts["admin"], facts["listeners"], facts["certificates"]) == (None, [], [])


def test_names_of_all_living_generations(tmp_path: Path) -> None:
    """A connection of a listener that is no more is somebody's; whoever has a row last has its name."""
    old = first()
    with published(tmp_path, old) as one:
        one.read()
        fleet = one.workers.fleet
        new = generation(2, config({"app": {"b": 50, "c": 1}}, {"web": "app"}), [old.rows])
        fleet.enforce(new, -1)
        facts = one.read()
        assert (facts["generation"], facts["generations"]) == (2, [1, 2])
        assert [listener["name"] for listener in facts["listeners"]] == ["web"]
        assert facts["names"] == {
            "listeners": {"0": "web", "1": "plain"},
            "groups": {"0": "app", "1": "other"},
            "servers": {"0": "a", "1": "b", "2": "a", "3": "c"},
        }
        for number in range(2):
            fleet.slots[number].living.add(2)
            one.workers.say(number, "FREED", 1)
        facts = one.read()
        assert facts["generations"] == [2]
        assert facts["names"] == {"listeners": {"0": "web"}, "groups": {"0": "app"}, "servers": {"1": "b", "3": "c"}}


def test_workers_and_attendants(tmp_path: Path) -> None:
    with published(tmp_path, first(), 3) as one:
        slots = one.workers.fleet.slots
        now = time.monotonic()
        slots[0].pid = 100
        slots[0].enter(State.STUCK, now - 60)
        slots[1].restarts = 4
        slots[1].enter(State.DOWN, now)
        slots[2].enter(State.RETIRED, now - 1)
        facts = one.read()
        slots[0].pid = 0
        since = [worker.pop("since") for worker in facts["workers"]]
        assert [round(time.time()) - moment for moment in since] == pytest.approx([60, 0, 1], abs=2)
        assert facts["workers"] == [
            {"slot": 0, "pid": 100, "state": "stuck", "restarts": 0},
            {"slot": 1, "pid": 0, "state": "down", "restarts": 4},
            {"slot": 2, "pid": 0, "state": "retired", "restarts": 0},
        ]
        assert facts["attendants"] == [{"name": "prober", "pid": 0, "state": "down", "restarts": 0}]


def test_only_what_has_changed_is_published(tmp_path: Path) -> None:
    """Readers look at the sequence; the heart beats in any case."""
    with published(tmp_path, first()) as one:
        one.publisher.tick()
        sequence, beat = one.facts.sequence, one.facts.heartbeat
        assert sequence > 0
        assert abs(time.monotonic() * 1000 - beat) < 1000
        for _ in range(5):
            one.publisher.tick()
        assert one.facts.sequence == sequence
        assert one.facts.heartbeat >= beat
        one.state = "running"
        one.publisher.tick()
        assert one.facts.sequence > sequence
        assert one.facts.read()["state"] == "running"
        one.reloads = {"reload": {"time": 1.5, "reason": "no"}, "reloads": {"successful": 0, "failed": 1}}
        one.publisher.tick()
        assert one.facts.read()["reload"] == {"time": 1.5, "reason": "no"}
        assert one.publisher.current == one.facts.read()
