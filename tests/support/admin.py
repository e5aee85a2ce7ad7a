"""The admin process as its clients see it: pages over HTTP, and metrics as Prometheus reads them."""

from __future__ import annotations

import http.client
import json
import re
import threading
from typing import TYPE_CHECKING, Any, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Answer = tuple[int, dict[str, str], bytes]
_PARTS = ("bucket", "count", "sum")
"""Of a histogram."""


def get(port: int, path: str, timeout: float = 15.0, **headers: str) -> Answer:
    """One request on a connection of its own: code, headers (names in lower case), body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def get_json(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """The code and the JSON object of a page."""
    code, headers, body = get(port, path)
    assert headers["content-type"] == "application/json", (path, headers)
    answer: dict[str, Any] = json.loads(body)
    return code, answer


def problems(port: int, path: str) -> list[str]:
    """What `/healthz` or `/readyz` finds wrong; code and answer must agree."""
    code, answer = get_json(port, path)
    found: list[str] = answer["problems"]
    assert (code, answer["healthy" if path == "/healthz" else "ready"]) == ((503, False) if found else (200, True))
    return found


class Scrape:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        """Of every family that is declared, by its name as it is scraped."""
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        """The value of one sample."""
        return self.samples[name, frozenset(labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples with these labels among theirs."""
        wanted = set(labels.items())
        return sum(value for (one, theirs), value in self.samples.items() if one == name and wanted <= theirs)

    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """All samples that may only grow."""
        growing = {name for name, kind in self.types.items() if kind == "counter"}
        growing |= {f"{name}_{end}" for name, kind in self.types.items() if kind == "histogram" for end in _PARTS}
        return {key: value for key, value in self.samples.items() if key[0] in growing}


def scrape(port: int) -> Scrape:
    """The metrics as text."""
    code, headers, body = get(port, "/metrics")
    assert code == 200, body
    assert headers["content-type"].startswith("text/plain; version=0.0.4"), headers
    return Scrape(body.decode())


def wait_scrape(port: int, condition: Callable[[Scrape], bool], what: str, timeout: float = 5.0) -> Scrape:
    """Wait until the metrics say so; an answer may be a second old."""

    def found() -> list[Scrape]:
        return [one] if condition(one := scrape(port)) else []

    return wait_until(found, lambda: f"{what}\n{get(port, '/metrics')[2].decode()}", timeout)[0]


class Caller:
    """Asks for a page again and again, in a thread; what went wrong, and the codes that came, stay."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"Caller {path}", daemon=True)
        self.bodies: list[bytes] = []
        self.codes: list[int] = []
        self.refused = 0
        self.broken = 0

    def _run(self) -> None:
        while not self._over.wait(0.01):
            try:
                code, _, body = get(self._port, self._path)
                self.bodies.append(body)
                self.codes.append(code)
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, http.client.HTTPException):
                self.broken += 1

    def wait_answers(self, more: int = 3) -> None:
        """Wait until it has got so many answers more."""
        wanted = len(self.codes) + more
        wait_until(lambda: len(self.codes) >= wanted, lambda: f"{more} answers to {self._path} more")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(20)
