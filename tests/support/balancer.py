"""The balancer under test: the installed `nlb run` as a subprocess, with its logs read and its processes watched."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from nlbcore.control.client import call
from tests.support.ports import free_port
from tests.support.tls_client import Connected, tcp_peer_port
from tests.support.toml import to_toml
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

NLB = Path(sys.executable).parent / "nlb"
START_TIMEOUT = 15.0
STOP_TIMEOUT = 15.0

Line = dict[str, Any]
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


class Served(Protocol):
    """A certificate with its key, wherever they are."""

    def entry(self) -> dict[str, str]: ...


def nlb(*arguments: str | Path, cwd: Path | None = None, timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run a short `nlb` command to its end, with what it printed."""
    return subprocess.run(
        [NLB, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def tls_listener(
    *certificates: Served,
    ca: Path | list[Path] | None = None,
    group: str = "app",
    client_auth: Mapping[str, object] | None = None,
    **keys: object,
) -> dict[str, object]:
    """A TCPSSL listener on a free port of 127.0.0.1; with `ca`, client certificates are required. `bind` in `keys` replaces the address."""
    listener: dict[str, object] = {
        "bind": f"127.0.0.1:{free_port()}",
        "protocol": "TCPSSL",
        "server_group": group,
        **keys,
        "certificates": [one.entry() for one in certificates],
    }
    if ca is not None:
        paths = [str(one) for one in ca] if isinstance(ca, list) else str(ca)
        listener["client_auth"] = {"mode": "required", "ca": paths, **(client_auth or {})}
    return listener


def plain_listener(*, group: str = "app", **keys: object) -> dict[str, object]:
    """A plain TCP listener on a free port of 127.0.0.1."""
    return {"bind": f"127.0.0.1:{free_port()}", "protocol": "TCP", "server_group": group, **keys}


def server_group(*servers: Any, **keys: object) -> dict[str, object]:
    """A server group of backends (or of ready entries), without health checks unless asked for: backends count."""
    return {
        "health_check": {"enabled": False},
        **keys,
        "servers": [one if isinstance(one, dict) else one.entry() for one in servers],
    }


class AccessLog:
    """The access log as it grows: lines as dictionaries."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[Line] = []
        self._offset = 0

    def lines(self) -> list[Line]:
        """All complete lines written so far; a line that is not one JSON object fails."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
            text = text[: text.rfind(b"\n") + 1]
            self._offset += len(text)
            for line in text.splitlines():
                entry = json.loads(line)
                assert isinstance(entry, dict), line
                self._lines.append(entry)
        return self._lines

    def mark(self) -> int:
        """The place up to which lines are there now, for `since`."""
        return len(self.lines())

    def find(self, predicate: Callable[[Line], object] | None = None, *, since: int = 0, **fields: Any) -> list[Line]:
        """Lines for which `predicate` holds and whose fields are equal to those given."""
        return [
            line
            for line in self.lines()[since:]
            if all(line.get(key) == value for key, value in fields.items()) and (predicate is None or predicate(line))
        ]

    def wait_for(
        self,
        predicate: Callable[[Line], object] | None = None,
        timeout: float = 5.0,
        *,
        since: int = 0,
        **fields: object,
    ) -> Line:
        """Wait for a line (see `find`) and return the newest such."""
        return wait_until(
            lambda: self.find(predicate, since=since, **fields),
            lambda: f"a line with {fields or predicate} in the access log, which ends\n{self.tail()}",
            timeout,
        )[-1]

    def wait_count(self, count: int, timeout: float = 5.0, *, since: int = 0, **fields: Any) -> list[Line]:
        """Wait for exactly or more than `count` such lines."""
        return wait_until(
            lambda: found if len(found := self.find(None, since=since, **fields)) >= count else [],
            lambda: f"{count} lines with {fields}, got {len(self.find(None, since=since, **fields))}",
            timeout,
        )

    def tail(self, count: int = 10) -> str:
        """The last lines, for messages."""
        return "\n".join(json.dumps(line) for line in self.lines()[-count:])


class Balancer:
    """`nlb run` with a configuration.

    Args:
        folder: for the configuration, the logs and the captured output; must exist.
        configuration: the tables of nlb.toml. Where absent, `[log]` is set to files and `[node] control_socket` to a socket
            in `folder`, `[node] drain_timeout` to 5 s and `workers` to 1.
        prefix: a command to run `nlb` under.

    Every started one is in `Balancer.running`, for the check after each test.
    """

    running: list[Balancer] = []

    def __init__(self, folder: Path, configuration: Mapping[str, Any] | str, *, prefix: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.path = folder / "nlb.toml"
        self.event_log = folder / "event.log"
        self.access = AccessLog(folder / "access.log")
        self.control_socket = folder / "nlb.sock"
        self.stderr_path = folder / "stderr"
        self.stdout_path = folder / "stdout"
        self._listeners: Mapping[str, Any] = {}
        if isinstance(configuration, str):
            self.path.write_text(configuration)
        else:
            self.rewrite(configuration)
        self._prefix = prefix
        self.program = NLB
        self.environment: dict[str, str] = {}
        """Beside that of the test."""
        self._process: subprocess.Popen[bytes] | None = None
        self.restarts_expected = False
        """Set by a test that ends workers, the log writer or the prober: then another of the same title is the same one."""
        self._earlier_events = 0
        self._family: list[psutil.Process] = []
        self._descriptors: dict[str, int] = {}
        self.expected_stderr: Callable[[str], bool] = lambda text: text == ""

    def rewrite(self, configuration: Mapping[str, Any]) -> None:
        """Put another configuration into its file, which is replaced whole; a reload brings it into force."""
        tables = dict(configuration)
        node = {"name": "under-test", "workers": 1, "drain_timeout": "5s"}
        tables["node"] = {**node, "control_socket": str(self.control_socket), **tables.get("node", {})}
        tables["log"] = {"file": str(self.event_log), "access": str(self.access.path), **tables.get("log", {})}
        self._listeners = tables.get("listeners", {})
        beside = self.path.with_suffix(".new")
        beside.write_text(to_toml(tables))
        beside.replace(self.path)

    # start and stop

    def launch(self) -> Balancer:
        """Start the program without waiting for it to be ready."""
        self._family, self._earlier_events = [], len(self.events())
        with self.stdout_path.open("wb") as stdout, self.stderr_path.open("wb") as stderr:
            self._process = subprocess.Popen(
                [*self._prefix, self.program, "run", "-c", self.path],
                cwd=self.folder,
                env={**os.environ, "RUNTIME_DIRECTORY": str(self.folder), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        Balancer.running.append(self)
        return self

    def start(self) -> Balancer:
        """Start the program and wait until its event log says that every listener accepts."""
        self.launch()
        try:
            wait_until(self._is_ready, lambda: f"`ready` in the event log\n{self.describe()}", START_TIMEOUT)
            wait_until(self.workers, lambda: f"a process titled `nlb: worker N` in {self._titles()}", START_TIMEOUT)
        except AssertionError:
            self.kill()
            raise
        self.measure()
        return self

    def measure(self) -> None:
        """What it has now - processes and descriptors - is what it is to have after the test."""
        self._family = self.processes()
        self._descriptors = {title(process): process.num_fds() for process in self._family}

    def stop(self, expected: int = 0, timeout: float = STOP_TIMEOUT) -> None:
        """TERM, wait for the end; the exit code, an empty stderr and the end of every process are checked. Again: nothing."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        self.wait_exit(expected, timeout)

    def wait_exit(self, expected: int = 0, timeout: float = STOP_TIMEOUT) -> None:
        """Wait for the program to end by itself, with the same checks as `stop`."""
        assert self._process is not None
        family = self._family = list({*self._family, *self.processes()})
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"nlb does not end within {timeout:g} s\n{self.describe()}") from None
        try:
            assert code == expected, f"nlb ended with {code}, not {expected}\n{self.describe()}"
            self.check_stderr()
            wait_until(
                lambda: not any(alive(process) for process in family), f"the end of every process of {family}", 5.0
            )
        finally:
            self.kill()

    def kill(self) -> None:
        """End whatever is left of it, by the ids of its own processes."""
        if self in Balancer.running:
            Balancer.running.remove(self)
        process, self._process = self._process, None
        if process is None:
            return
        family = self._family
        with contextlib.suppress(psutil.Error):
            family = [*family, *psutil.Process(process.pid).children(recursive=True)]
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.kill()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def __enter__(self) -> Balancer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    # what it is doing

    def port(self, listener: str = "web") -> int:
        """The TCP port of a listener (of its first address)."""
        bind = self._listeners[listener]["bind"]
        return int((bind if isinstance(bind, str) else bind[0]).rpartition(":")[2])

    def line(self, client: Connected | socket.socket, timeout: float = 5.0) -> Line:
        """The access log's line of a client's connection, known by the ports of both ends and by its time (the kernel gives
        a client's port again, to one of another listener at once), whatever a PROXY header says; call it before a plain
        socket is closed.
        """
        if isinstance(client, socket.socket):
            port, peer_port, since = client.getsockname()[1], tcp_peer_port(client), ""
        else:
            port, peer_port, since = client.port, client.peer_port, client.since
        names = self._listeners_at(peer_port)
        return self.access.wait_for(
            lambda line: (
                (not names or line["listener"] in names)
                and line["time"] >= since
                and line.get("proxy_port", line.get("client_port")) == port
            ),
            timeout,
        )

    def _listeners_at(self, port: int) -> set[str]:
        """The names of the listeners at a TCP port; none for 0."""
        binds = {name: [str(bind) for bind in _several(table["bind"])] for name, table in self._listeners.items()}
        return {name for name, some in binds.items() if port and any(bind.endswith(f":{port}") for bind in some)}

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(self.pid)
            return [supervisor, *supervisor.children(recursive=True)]
        return []

    def workers(self) -> list[psutil.Process]:
        """The worker processes, found by their titles."""
        return self.titled("nlb: worker")

    def titled(self, start: str) -> list[psutil.Process]:
        """The processes whose titles start so ("nlb: prober")."""
        return [process for process in self.processes() if title(process).startswith(start)]

    @property
    def worker(self) -> psutil.Process:
        """The only worker."""
        (worker,) = self.workers()
        return worker

    def worker_memory(self) -> int:
        """Resident bytes of the worker that are its own."""
        return int(self.worker.memory_info().rss)

    def events(self) -> list[str]:
        """The lines of the event log."""
        return self.event_log.read_text().splitlines() if self.event_log.exists() else []

    def find_events(self, name: str, *, since: int = 0, **fields: object) -> list[Line]:
        """Events of one name and with these fields, as dictionaries of text; `since`: a number of earlier lines."""
        found = []
        for line in self.events()[since:]:
            time, level, rest = line.split(" ", 2)
            if rest.split(" ", 1)[0] == name:
                values = {key: json.loads(text) if text[:1] == '"' else text for key, text in _FIELD.findall(rest)}
                if all(values.get(key) == str(value) for key, value in fields.items()):
                    found.append({"time": time, "level": level, **values})
        return found

    def wait_event(self, name: str, timeout: float = 5.0, *, since: int = 0, **fields: object) -> Line:
        """Wait for such an event (see `find_events`) and return the newest."""
        return wait_until(
            lambda: self.find_events(name, since=since, **fields),
            lambda: f"an event {name} {fields}\n{self.describe()}",
            timeout,
        )[-1]

    def status(self) -> dict[str, Any]:
        """What `nlb status --json` says."""
        done = nlb("status", "--json", "--socket", self.control_socket)
        assert done.returncode == 0, f"nlb status: exit {done.returncode}\n{done.stderr}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def ask(self, verb: str, **arguments: object) -> dict[str, Any]:
        """What it answers to a verb on the control socket."""
        return call(self.control_socket, verb, arguments, timeout=60)

    def reload(self) -> dict[str, Any]:
        """Reload, wait for the end, and check that it is in force; the answer."""
        answer = self.ask("reload")
        assert answer["successful"], f"{answer}\n{self.describe()}"
        return answer

    def stderr(self) -> str:
        """What was printed to stderr so far."""
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    def check_stderr(self) -> None:
        """Fail if stderr is not what is expected: empty, unless a test says otherwise."""
        text = self.stderr()
        assert self.expected_stderr(text), f"unexpected stderr:\n{text}"

    def check_leaks(self, timeout: float = 5.0) -> None:
        """Wait until no process has more descriptors than when it was ready; the processes and their threads must be the same."""
        if self.exit_code is not None or not self._family:
            return
        if self.restarts_expected:
            wait_until(
                lambda: sorted(self._titles()) == sorted(self._descriptors),
                lambda: f"the processes of {sorted(self._descriptors)}: {self._titles()}\n{self.describe()}",
                timeout,
            )
        else:
            assert {one.pid for one in self.processes()} == {one.pid for one in self._family}, (
                f"other processes than at the start: {self._titles()}\n{self.describe()}"
            )
        wait_until(
            lambda: not self._more_descriptors(), lambda: f"descriptors leak: {self._more_descriptors()}", timeout
        )
        threads = {title(one): one.num_threads() for one in [psutil.Process(self.pid), *self.workers()]}
        assert all(count == 1 for count in threads.values()), f"one thread each: {threads}"

    def describe(self) -> str:
        """Its state and the ends of its logs, for messages."""
        tails = {"stderr": self.stderr(), "stdout": self.stdout_path.read_text(errors="replace")}
        tails["event log"] = "\n".join(self.events())
        text = "\n".join(f"-- {name}:\n{tail[-3000:]}" for name, tail in tails.items() if tail)
        return f"exit code {self._process.poll() if self._process else None}\n{text}\n-- access log:\n{self.access.tail(5)}"

    def _is_ready(self) -> bool:
        assert self.exit_code is None, f"nlb ended before it was ready\n{self.describe()}"
        return any(" ready " in f"{line} " for line in self.events()[self._earlier_events :])

    def _titles(self) -> list[str]:
        return [title(process) for process in self.processes()]

    def _more_descriptors(self) -> dict[str, tuple[int, int]]:
        more: dict[str, tuple[int, int]] = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                name, count = title(process), process.num_fds()
                if count > self._descriptors.get(name, count):
                    more[f"{name} {open_descriptors(process.pid)}"] = (self._descriptors[name], count)
        return more


def title(process: psutil.Process) -> str:
    """What `ps` shows for it."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).strip() or process.name()
    return ""


def alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and waits for its parent does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def open_descriptors(pid: int) -> list[str]:
    """What a process has open, as NUMBER=TARGET."""
    targets = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
            with contextlib.suppress(OSError):
                targets.append(f"{name}={os.readlink(f'/proc/{pid}/fd/{name}')}")
    return targets


def _several(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
