"""A real HAProxy with the sections that a test gives."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING

from tests.support.programs import need
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

DEFAULTS = """\
global
  log stdout format raw local0
defaults
  mode tcp
  log global
  timeout connect 5s
  timeout client 20s
  timeout server 20s
"""


class Haproxy:
    """One HAProxy in the foreground.

    Args:
        folder: for its configuration and its output.
        sections: frontends and backends.
        ports: that answer when it is ready.
    """

    def __init__(self, folder: Path, sections: str, *ports: int) -> None:
        program = need("haproxy")
        folder.mkdir(parents=True)
        self.address = f"127.0.0.1:{ports[0]}"
        configuration = folder / "haproxy.cfg"
        configuration.write_text(DEFAULTS + sections)
        self._path = folder / "output"
        self._ready = 0
        self._looks: set[str] = set()  # where ours came from, when we looked whether it answers
        self._output = self._path.open("wb")
        self._process = subprocess.Popen(
            [program, "-db", "-f", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )
        try:
            for port in ports:
                wait_until(lambda port=port: self._answers(port), lambda: f"haproxy answers: {self.output()}")  # type: ignore[misc]
        except AssertionError:
            self.close()
            raise
        self._ready = len(self._path.read_text())

    def output(self) -> str:
        """What it has printed since it was ready, its log included; nothing of our own looks, which it may log later."""
        lines = self._path.read_text()[self._ready :].splitlines(keepends=True)
        return "".join(line for line in lines if line.partition(" ")[0] not in self._looks)

    def close(self) -> None:
        """Stop it, by its own process."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def _answers(self, port: int) -> bool:
        assert self._process.poll() is None, f"haproxy ended: {self.output()}"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as look:
                self._looks.add("{}:{}".format(*look.getsockname()))
        except OSError:
            return False
        return True
