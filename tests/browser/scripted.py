"""A balancer by script: invented answers to `status`, and a real HTTP server that hands them to the status page.

The server stands behind a path prefix and sends the strictest Content-Security-Policy that the page must live with.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import json
import math
import queue
import re
import select
import socket
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.tree import ROOT

PAGE = ROOT / "nlbcore/admin/page.html"
PREFIX = "/ops/nlb-1/"
START = datetime(2026, 11, 22, 6, 30, tzinfo=UTC).timestamp()
Answer = dict[str, Any]


def policy(page: str) -> str:
    """The policy that allows the page's one style and one script and nothing else."""

    def digest(tag: str) -> str:
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

    return (
        f"default-src 'none'; script-src 'sha256-{digest('script')}'; style-src 'sha256-{digest('style')}'; "
        "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
    )


def moment(seconds: float) -> str:
    """Unix seconds as the status says them."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def listener(name: str, **more: Any) -> Answer:
    """A listener that nothing has happened to."""
    return {
        "name": name,
        "bind": ["0.0.0.0:443"],
        "protocol": "TCPSSL",
        "server_group": "app",
        "client_auth": "required",
        "max_connections": 0,
        "connections": 0,
        "connections_total": 0,
        "received_bytes": 0,
        "sent_bytes": 0,
        "handshakes": {},
        "terminations": {},
    } | more


def server(name: str, **more: Any) -> Answer:
    """A server in good health."""
    return {
        "name": name,
        "address": f"10.0.0.{len(name)}:8080",
        "weight": 100,
        "configured_weight": 100,
        "admin": "ready",
        "state": "Available",
        "reason": "",
        "since": moment(START + 5),
        "connections": 0,
        "connections_total": 0,
        "connect_failed": 0,
        "connect_timeout": 0,
    } | more


def group(name: str, servers: list[Answer], **more: Any) -> Answer:
    """A group with what the balancer says of its servers as a whole."""
    usable = sum(one["weight"] > 0 and one["state"] not in {"Unhealthy", "Draining"} for one in servers)
    return {
        "name": name,
        "scheduler": "wrr",
        "health_check": True,
        "usable": usable,
        "fail_open": bool(servers) and not usable,
        "servers": servers,
    } | more


def answer(**more: Any) -> Answer:
    """A balancer of one listener and two servers where all is well."""
    return {
        "node": "nlb-1",
        "version": "0.1.0",
        "pid": 4711,
        "generation": 3,
        "generations": [3],
        "state": "running",
        "admin": "127.0.0.1:9180",
        "started": moment(START),
        "uptime_s": 100.0,
        "connections": 0,
        "reload": None,
        "reloads": {"successful": 0, "failed": 0},
        "listeners": [listener("web")],
        "server_groups": [group("app", [server("a"), server("bb")])],
        "certificates": [certificate("web", ["www.example.com"], 61.4)],
        "crls": [crl("web", "CN=Example Root", 5.2)],
        "workers": [worker(slot) for slot in range(2)],
        "attendants": [attendant(name, 4720 + n) for n, name in enumerate(("log_writer", "prober", "admin"))],
    } | more


def certificate(listener: str, names: list[str], days: float) -> Answer:
    """A server certificate with so many days left."""
    return {
        "listener": listener,
        "path": f"/etc/nlb/certs/{listener}.crt",
        "names": names,
        "not_after": moment(START + days * 86400),
        "days_left": days,
    }


def crl(listener: str, issuer: str, days: float | None) -> Answer:
    """A revocation list with so many days left."""
    return {
        "listener": listener,
        "issuer": issuer,
        "next_update": None if days is None else moment(START + days * 86400),
        "days_left": days,
    }


def worker(slot: int, **more: Any) -> Answer:
    """A worker that serves."""
    return {
        "slot": slot,
        "pid": 4712 + slot,
        "state": "running",
        "restarts": 0,
        "since": moment(START + 1),
        "connections": 0,
        "connections_total": 0,
        "heartbeat_age_ms": 120,
        "longest_stall_ms": 4.2,
    } | more


def attendant(name: str, pid: int, state: str = "running") -> Answer:
    """A process beside the workers."""
    return {"name": name, "pid": pid, "state": state, "restarts": 0}


class Load:
    """A balancer under a working day's load: each `step` is a second later."""

    def __init__(self) -> None:
        self.second = 0
        web = listener("web", bind=["0.0.0.0:443", "[::]:443"], max_connections=20000)
        partners = listener("partners", bind=["192.0.2.10:8443"], server_group="api")
        relay = listener("ldap", bind=["10.1.0.4:636"], protocol="TCP", server_group="directory", client_auth="off")
        api = [server(f"api-{n}", address=f"10.0.4.{n}:9000") for n in range(1, 4)]
        api[1] |= {"state": "Unhealthy", "reason": "HTTP_CODE_NOT_MATCH", "since": moment(START + 9000)}
        api[2] |= {"state": "Draining", "admin": "drain", "since": moment(START + 9300)}
        app = [server(f"app-{n}", address=f"10.0.3.{n}:8080", connect_failed=n % 3) for n in range(1, 6)]
        app[3] |= {"weight": 20}
        self.status = answer(
            generation=7,
            generations=[6, 7],
            reload={
                "time": moment(START + 9200),
                "successful": True,
                "generation": 7,
                "trigger": "command",
                "changes": ["listeners.web.certificates: renewed", "server_groups.app: server app-5 added"],
                "reason": "",
            },
            reloads={"successful": 6, "failed": 0},
            listeners=[web, partners, relay],
            server_groups=[
                group("app", app),
                group("api", api, scheduler="wlc"),
                group(
                    "directory",
                    [server("ldap-1", address="unix:/run/slapd.sock", state="Unavailable")],
                    health_check=False,
                ),
            ],
            certificates=[
                certificate("web", ["www.example.com", "example.com", "shop.example.com"], 61.4),
                certificate("partners", ["api.example.com"], 9.3),
            ],
            crls=[crl("web", "CN=Example Clients CA 2", 5.2), crl("partners", "CN=Partner Network Root", 0.4)],
            workers=[worker(slot, restarts=int(slot == 2), longest_stall_ms=3.1 * (slot + 1)) for slot in range(4)],
            attendants=[
                attendant(name, 4720 + n) for n, name in enumerate(("log_writer", "prober", "admin", "watcher"))
            ],
        )

    def step(self) -> Answer:
        """The answer one second later."""
        self.second += 1
        second, status = self.second, self.status
        status["uptime_s"] = 9400.0 + second
        wave = 1 + 0.35 * math.sin(second / 40) + 0.12 * math.sin(second / 7) + 0.06 * math.sin(second * 1.7)
        for one, size in zip(status["listeners"], (1.0, 0.3, 0.05), strict=True):
            self._load(one, wave * size)
        refused = status["listeners"][0]["terminations"]
        for word, period, burst in (("revoked", 61, 6), ("unknown_ca", 17, 3), ("not_tls", 23, 2), ("expired", 90, 9)):
            if second % period < 4:
                refused[word] = refused.get(word, 0) + burst
        for members in status["server_groups"]:
            for n, one in enumerate(members["servers"]):
                if one["state"] != "Unhealthy":
                    one["connections"] = int(90 * wave * (1 + n % 3) * one["weight"] / 100 * (one["admin"] == "ready"))
                    one["connections_total"] += int(8 * wave * one["weight"] / 100 * (one["admin"] == "ready"))
        status["connections"] = sum(one["connections"] for one in status["listeners"])
        for n, one in enumerate(status["workers"]):
            one["connections"] = status["connections"] // 4 + n
        return copy.deepcopy(status)

    def _load(self, one: Answer, size: float) -> None:
        opened = int(42 * size)
        one["connections"] = int(880 * size)
        one["connections_total"] += opened
        one["received_bytes"] += int(2_300_000 * size)
        one["sent_bytes"] += int(9_700_000 * size * (1.2 + math.sin(self.second / 25)))
        for word, share in (("client_close", 0.8), ("idle_timeout", 0.1), ("client_reset", 0.05)):
            one["terminations"][word] = one["terminations"].get(word, 0) + int(opened * share)
        if one["protocol"] == "TCPSSL":
            for version, share in (("TLSv1.3", 0.9), ("TLSv1.2", 0.1)):
                both = one["handshakes"].setdefault(version, {"full": 0, "resumed": 0})
                both["full"] += int(opened * share * 0.4)
                both["resumed"] += int(opened * share * 0.6)


class Site:
    """The page, api/v1/status and events on 127.0.0.1; `publish` sends an answer to all who listen."""

    def __init__(self, status: Answer) -> None:
        self.status = status
        self.streams: list[queue.SimpleQueue[Answer]] = []
        self.lock = threading.Lock()
        self.port = 0
        self.http: ThreadingHTTPServer | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    def open(self) -> None:
        """Serve, after `close` at the same address."""
        handler = type("BoundHandler", (_Handler,), {"site": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.http.daemon_threads = False
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def publish(self, *answers: Answer) -> None:
        """Send them one after the other; the last one is what the next question gets."""
        with self.lock:
            for status in answers:
                self.status = copy.deepcopy(status)
                for stream in self.streams:
                    stream.put(self.status)

    def close(self) -> None:
        """Be gone, with all streams."""
        if self.http is None:
            return
        http, self.http = self.http, None
        http.shutdown()
        self.thread.join()
        http.server_close()


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        path = self.path.removeprefix(PREFIX)
        if path == "":
            page = PAGE.read_text()
            self.answer(page.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": policy(page)})
        elif path == "api/v1/status":
            self.answer(json.dumps(self.site.status).encode(), "application/json")
        elif path == "events":
            self.stream()
        else:
            self.send_error(404)

    def answer(self, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        """Until the reader or the site has gone."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        mine: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        with self.site.lock:
            self.site.streams.append(mine)
            mine.put(self.site.status)
        try:
            while self.site.http is not None and not self.gone():
                with contextlib.suppress(queue.Empty):
                    self.wfile.write(f"data: {json.dumps(mine.get(timeout=0.02))}\n\n".encode())
        except ConnectionError:
            pass
        finally:
            with self.site.lock:
                self.site.streams.remove(mine)
            self.close_connection = True

    def gone(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

    def log_message(self, *_: object) -> None:
        """Silent."""
