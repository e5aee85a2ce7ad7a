"""What the supervisor does for who asks at the control socket: one function for each verb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlbcore.control.handlers import status
from nlbcore.control.server import Pending
from nlbcore.errors import NlbError
from nlbcore.observe.log import LEVELS
from nlbcore.process import census

if TYPE_CHECKING:
    from collections.abc import Callable

    from nlbcore.process.supervisor import Supervisor


def verbs(supervisor: Supervisor) -> dict[str, Callable[[dict[str, Any]], dict[str, Any] | Pending | None]]:
    """By name; ``control/protocol`` tells what each takes and answers."""

    def look(_arguments: dict[str, Any]) -> dict[str, Any]:
        supervisor.publisher.publish()
        return status(supervisor.publisher.current, supervisor.segment)

    def reload(_arguments: dict[str, Any]) -> Pending:
        pending = Pending()
        supervisor.reloads.ask("command", pending)
        return pending

    def conns(_arguments: dict[str, Any]) -> Pending:
        pending = Pending()
        facts = supervisor.publisher.current

        def finished(slots: list[int], files: list[int]) -> None:
            silent = census.silent(supervisor.fleet, slots)
            answer = {"node": facts["node"], "names": facts["names"], "workers": slots, "silent": silent}
            pending.resolve(answer, files)

        census.connections(supervisor.fleet, finished)
        return pending

    def kill(arguments: dict[str, Any]) -> Pending:
        pending = Pending()

        def finished(killed: int) -> None:
            supervisor.logs.events.event("info", "connections_killed", count=killed)
            pending.resolve({"killed": killed})

        census.kill(supervisor.fleet, arguments.get("connections"), finished)
        return pending

    def server(arguments: dict[str, Any]) -> dict[str, Any]:
        answer = supervisor.places.obey(supervisor.fleet.snapshot, arguments)
        supervisor.logs.events.event(
            "info", "server_ordered", **{key: value for key, value in answer.items() if key != "connections"}
        )
        return answer

    def log(arguments: dict[str, Any]) -> dict[str, Any]:
        """The level, until a restart, or until that of the file is another one."""
        was = supervisor.logs.events.level
        level = arguments.get("level", was)
        if level not in LEVELS:
            raise NlbError(f'"{level}" is no level; there are: {", ".join(LEVELS)}')
        if level != was:
            supervisor.logs.events.event("info", "log_level", level=level, was=was)
            supervisor.logs.events.set_level(level)
            supervisor.household.renew()
        return {"level": level, "was": was}

    def stop(arguments: dict[str, Any]) -> None:
        """Answered by our end."""
        supervisor.stop(now=arguments.get("now") is True)

    return {"status": look, "reload": reload, "conns": conns, "kill": kill, "server": server, "log": log, "stop": stop}
