"""A listener's PROXY protocol in the engine's form."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from nlbcore.config.model import Listener
from nlbcore.process.proxy_protocol import proxy_protocol


def made(**keys: Any) -> Listener:
    return Listener.model_validate({"bind": "127.0.0.1:443", "server_group": "app", **keys})


@pytest.mark.parametrize(
    ("keys", "announce"),
    [
        ({}, "off"),
        ({"proxy_protocol": "v1"}, "v1"),
        ({"proxy_protocol": "v2"}, "v2"),
        ({"proxy_protocol": "v2", "proxy_protocol_tls": "tls"}, "tls"),
        ({"proxy_protocol": "v2", "proxy_protocol_tls": "full"}, "full"),
    ],
)
def test_what_servers_are_told(keys: dict[str, Any], announce: str) -> None:
    found = proxy_protocol(made(**keys), "n\u00f61")
    assert (found["announce"], found["announce_limit"], found["node"]) == (announce, 4096, "n\u00f61".encode())


def test_who_is_believed() -> None:
    listener = made(accept_proxy_protocol_from=["10.0.0.0/8", "2001:db8::/33", "192.0.2.1", "unix"])
    assert proxy_protocol(listener, "n")["fronts"] == (
        b"\4\x08" + bytes([10]) + bytes(15)
        + b"\6\x21" + socket.inet_pton(socket.AF_INET6, "2001:db8::")
        + b"\4\x20" + socket.inet_aton("192.0.2.1") + bytes(12)
        + bytes(18)
    )  # fmt: skip
