"""The gate of the admin process: which requests are let in, and the headers that every answer has.

There is no password, so a web page that somebody behind this address looks at must not be able to read what stands here:
no header lets other origins in, and a request for a host name that is not ours is refused - a page whose name is made to
lead to our address (DNS rebinding) is of our origin otherwise. An address in place of a name cannot be made to.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from nlbcore.address import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD")
_LOCAL = ("localhost", "localhost.localdomain", "ip6-localhost")
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Where the answer itself does not say otherwise."""


class Guard:
    """Lets requests in that only read, and that are meant for us.

    Args:
        app: what it guards
        bind: the address that we listen at
        names: host names that are ours, beside this machine's
    """

    def __init__(self, app: ASGIApp, bind: Endpoint, names: Iterable[str]) -> None:
        self._app = app
        self._address = ipaddress.ip_address(bind.host.partition("%")[0]) if bind.host else None
        self._names = {name.lower() for name in (*_LOCAL, socket.gethostname(), *names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._judged(scope)(scope, receive, with_headers)

    def _judged(self, scope: Scope) -> ASGIApp:
        if scope["method"] not in METHODS:
            return PlainTextResponse("read only: GET and HEAD\n", 405, {"allow": ", ".join(METHODS)})
        host = Headers(scope=scope).get("host", "")
        if host and not self.is_ours(host):
            return PlainTextResponse(
                "this host name is not ours: use the address that [node] admin names, the node's name, or localhost\n",
                421,
            )
        return self._app

    def is_ours(self, host: str) -> bool:
        """Whether a Host header means us; the port does not matter."""
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        name = name.removesuffix(".")
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self._names or name.endswith(".localhost")
        return address.is_loopback or self._address is None or self._address == address or self._address.is_unspecified
