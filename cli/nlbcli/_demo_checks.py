"""What a demo shows: real clients, made of Python's `ssl` and the OpenSSL of this machine, at the running balancer.

Each check tells what the client saw and what the balancer logged about that very connection, and says what did not go as
it should. In TLS 1.3 a client believes it is connected before its certificate has been looked at, so a refusal comes with
the first read; it is read for before anything is sent, which could cross the alert.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlbcli._demo_folder import BACKENDS, CLIENT, REVOKED, SERVER_ADDRESS, SERVER_NAMES

PATIENCE = 3.0
"""Seconds for an answer, and for a line in the log."""
REQUESTS = 6
"""At least so many; each worker goes round the servers by itself, so it may take more until both have answered."""
_PAUSE = 0.01

Line = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One thing that was shown.

    Attributes:
        title: what is so if all went well
        facts: what was seen, each with a name
        problem: what went otherwise, "" for nothing
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    problem: str = ""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "title": self.title,
            "ok": not self.problem,
            "facts": dict(self.facts),
            "problem": self.problem or None,
        }


class AccessLog:
    """The access log as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def new(self) -> list[Line]:
        """The complete lines since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._at += len(text)
        return [json.loads(line) for line in text.splitlines()]

    def of(self, client_port: int) -> Line:
        """The line about the connection from that port; empty if none comes in time."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in self.new():
                if line.get("client_port") == client_port:
                    return line
            time.sleep(_PAUSE)
        return {}


@dataclass
class Visit:
    """What a client saw of one connection."""

    port: int = 0
    version: str = ""
    answer: str = ""
    alert: str = ""
    """Of the balancer, or another reason why the connection did not come to an orderly end."""


class Clients:
    """The three clients of a demo: with a certificate, without one, with one that has been revoked."""

    def __init__(self, folder: Path, port: int, log: AccessLog) -> None:
        self._folder = folder
        self._port = port
        self._log = log

    def spread(self, workers: int) -> Check:
        """Requests with a good certificate reach all servers."""
        title = f"requests of {CLIENT} are spread over both servers"
        answers: Counter[str] = Counter()
        visit, line = Visit(), Line()
        for number in range(REQUESTS + 4 * workers):
            if number >= REQUESTS and len(answers) == len(BACKENDS):
                break
            visit = self._visit("client", "GET / HTTP/1.0\r\n\r\n")
            if visit.alert:
                return Check(
                    title, (("the client saw", visit.alert),), "a client with a good certificate was not let in"
                )
            line = self._log.of(visit.port)
            answers[visit.answer] += 1
        seen = ", ".join(f"{answer} {count}" for answer, count in sorted(answers.items()))
        facts = (
            ("answered by", f"{seen} ({visit.version})"),
            ("the log says", f"{_word(line)}, {line.get('client_cert_subject', 'no name')}, {_proof(line)}"),
        )
        if set(answers) != {f"server {name}" for name in BACKENDS}:
            return Check(title, facts, "not both servers have answered")
        if not line.get("client_cert_proven"):
            return Check(title, facts, "the log does not have the client's identity")
        return Check(title, facts)

    def refused(self, title: str, certificate: str | None, alert: str, word: str, subject: str | None) -> Check:
        """A client is refused, with the alert, the word in the log and the claimed subject that are due."""
        visit = self._visit(certificate)
        line = self._log.of(visit.port) if visit.alert else Line()
        claimed = line.get("client_cert_subject")
        logged = _word(line) if claimed is None else f"{_word(line)}, {claimed}, {_proof(line)}"
        facts = (("the client saw", f'alert "{visit.alert}"' if visit.alert else "no alert"), ("the log says", logged))
        if visit.alert != alert:
            return Check(title, facts, f'the alert "{alert}" was due')
        if line.get("termination") != word or claimed != subject or line.get("client_cert_proven"):
            return Check(title, facts, f"{word}{f' and {subject}, claimed,' if subject else ''} was due in the log")
        return Check(title, facts)

    def without(self) -> Check:
        """No certificate."""
        title = "a client without a certificate is refused"
        return self.refused(title, None, "certificate required", "no_certificate", None)

    def revoked(self) -> Check:
        """A revoked certificate."""
        title = f"{REVOKED}, whose certificate is revoked, is refused"
        return self.refused(title, "revoked", "certificate revoked", "revoked", f"CN={REVOKED}")

    def _visit(self, certificate: str | None, request: str = "") -> Visit:
        """Connect, send the request if there is one, and read to the end."""
        context = ssl.create_default_context(cafile=self._folder / "ca" / "root.crt")
        if certificate is not None:
            context.load_cert_chain(self._folder / f"{certificate}.crt", self._folder / f"{certificate}.key")
        visit = Visit()
        try:
            with socket.create_connection((SERVER_ADDRESS, self._port), PATIENCE) as plain:
                visit.port = plain.getsockname()[1]
                with context.wrap_socket(plain, server_hostname=SERVER_NAMES[1]) as tls:
                    visit.version = tls.version() or ""
                    tls.sendall(request.encode())
                    head, _, body = b"".join(iter(lambda: tls.recv(65536), b"")).partition(b"\r\n\r\n")
                    visit.answer = body.decode(errors="replace").strip() or head.decode(errors="replace")
        except TimeoutError:  # without a request there is none to wait for: the client has been let in
            visit.alert = "no answer" if request else ""
        except ssl.SSLError as error:
            visit.alert = _alert(error)
        except OSError as error:
            visit.alert = (error.strerror or str(error)).lower()
        return visit


def _alert(error: ssl.SSLError) -> str:
    """The alert's name in RFC 8446, with spaces: TLSV13_ALERT_CERTIFICATE_REQUIRED is "certificate required"."""
    reason = error.reason or str(error)
    return reason.partition("_ALERT_")[2].replace("_", " ").lower() or reason


def _word(line: Line) -> str:
    return str(line.get("termination", "nothing about it"))


def _proof(line: Line) -> str:
    return "proven" if line.get("client_cert_proven") else "claimed"
