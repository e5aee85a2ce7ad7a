"""Real nginx servers with different bodies."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING

from tests.support.ports import free_port
from tests.support.programs import need
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port}{listen};
    location / {{ default_type text/plain; return 200 "{body}\\n"; }}
  }}
}}
"""


class Nginx:
    """One nginx that answers every request with `body`; `requests()` counts them. `listen`: more words for its socket."""

    def __init__(self, folder: Path, body: str, *, listen: str = "") -> None:
        program = need("nginx")
        folder.mkdir(parents=True)
        self.folder = folder
        self.body = body
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        configuration = folder / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(folder=folder, port=self.port, body=body, listen=f" {listen}" if listen else "")
        )
        self._output = (folder / "output").open("wb")
        self._process = subprocess.Popen(
            [program, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )
        try:
            wait_until(self._answers, lambda: f"nginx answers: {(folder / 'output').read_text()}")
        except AssertionError:
            self.close()
            raise

    def requests(self) -> int:
        """How many requests it has logged."""
        log = self.folder / "access.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def close(self) -> None:
        """Stop it, by its own process."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"nginx ended: {(self.folder / 'output').read_text()}"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True
