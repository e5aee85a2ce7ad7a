"""When no server of a group is usable, all get new connections: a health check that is wrong must not stop the traffic.

As in test_health_checks, the servers serve all the time; only the ports that are checked are switched off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.balancer import Balancer, plain_listener, server_group
from tests.support.switched import Patients, wait_event
from tests.wire.test_health_checks import visits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def patients() -> Iterator[Patients]:
    made = Patients("abc")
    yield made
    made.close()


def run(folder: Path, patients: Patients, **weights: int) -> Balancer:
    """One group of all patients behind one listener."""
    groups = {"app": server_group(*patients.entries(**weights), health_check=patients.check())}
    return Balancer(folder, {"listeners": {"web": plain_listener()}, "server_groups": groups})


def test_all_are_used_when_all_are_unhealthy(tmp_path: Path, patients: Patients) -> None:
    """Said once for the group, as an error; the first that answers gets everything, and that is said too."""
    with run(tmp_path, patients) as balancer:
        for name in "abc":
            wait_event(balancer, "server_available", server=name)
        for name in "abc":
            patients.health[name].down()
        line = wait_event(balancer, "group_fail_open", group="app")
        assert line.split(" ", 1)[1] == "error group_fail_open group=app"
        assert sum("server_unhealthy" in one for one in balancer.events()) == 3
        assert visits(balancer, "web", 30) == {"a", "b", "c"}

        patients.health["b"].up()
        assert wait_event(balancer, "group_recovered", group="app").split()[1] == "info"
        assert visits(balancer, "web") == {"b"}
        assert sum("group_" in one for one in balancer.events()) == 2


def test_at_the_start_nobody_waits_for_the_checks(tmp_path: Path, patients: Patients) -> None:
    """No server has answered yet, and none will: connections are served before that is known and after."""
    for name in "abc":
        patients.health[name].down()
    with run(tmp_path, patients) as balancer:
        assert visits(balancer, "web", 3) <= {"a", "b", "c"}
        wait_event(balancer, "group_fail_open", group="app")
        assert visits(balancer, "web", 30) == {"a", "b", "c"}


def test_weight_0_stays_weight_0(tmp_path: Path, patients: Patients) -> None:
    """A server that shall get no new connections gets none, and does not keep the group from failing open."""
    for name in "ab":
        patients.health[name].down()
    with run(tmp_path, patients, c=0) as balancer:
        wait_event(balancer, "server_available", server="c")
        wait_event(balancer, "group_fail_open", group="app")
        assert visits(balancer, "web", 30) == {"a", "b"}
