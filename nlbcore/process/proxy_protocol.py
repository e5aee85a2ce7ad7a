"""What the engine needs to know of a listener's PROXY protocol, in its form."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from nlbcore.config.model import Listener
    from nlbcore.config.values import Network


class ProxyProtocol(TypedDict):
    """Those fields of `ListenerPlan`."""

    announce: str
    announce_limit: int
    node: bytes
    fronts: bytes


def proxy_protocol(listener: Listener, node: str) -> ProxyProtocol:
    """The fields for a listener of the node of that name."""
    told = listener.proxy_protocol_tls
    return {
        "announce": listener.proxy_protocol if told == "off" else told,
        "announce_limit": listener.proxy_protocol_max_header,
        "node": node.encode(),
        "fronts": b"".join(_entry(one) for one in listener.accept_proxy_protocol_from),
    }


def _entry(peer: Network | str) -> bytes:
    """Family (4, 6; 0 for UNIX sockets), bits of the prefix, address in 16 bytes."""
    if isinstance(peer, str):
        return bytes(18)
    return bytes((peer.version, peer.prefixlen)) + peer.network_address.packed.ljust(16, b"\0")
