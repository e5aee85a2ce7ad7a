"""Endpoint: where to listen or whom to dial, as it is written in the configuration and in the log.

Four forms: `192.0.2.1:443`, `[2001:db8::1]:443` (with `%eth0` or `%2` for link-local addresses), `unix:/run/app.sock` and
`systemd:web`, for listening only: a socket that systemd has opened, by its name. Host names are not endpoints: they would
have to be resolved first.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
from dataclasses import dataclass

MAX_PATH_BYTES = 107
"""sun_path has 108 bytes, the last of which is the terminating zero (unix(7))."""

_DESCRIPTOR_NAME = re.compile(r"[!-9;-~]{1,255}")
"""FileDescriptorName= of systemd.socket(5), without the space: printable ASCII without the colon that separates names."""
_ZONE = re.compile(r"[A-Za-z0-9._-]{1,15}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Either `host` (a canonical IP address, no brackets) with `port`, or `path`, of a UNIX socket, or `systemd`, the name
    of a socket that is open already, wherever it listens.
    """

    host: str | None = None
    port: int | None = None
    path: str | None = None
    systemd: str | None = None

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read one of the four forms.

        Raises:
            ValueError: with a sentence for the operator, which says what to write instead where that can be guessed.
        """
        if text.startswith("unix:"):
            return cls(path=_parse_path(text.removeprefix("unix:")))
        if text.startswith("systemd:"):
            return cls(systemd=_parse_descriptor_name(text.removeprefix("systemd:")))
        if text.startswith("/"):
            raise ValueError(f'{_quote(text)} is a path: write "unix:{text}" for a UNIX socket')
        if text.startswith("["):
            host, found, port = text[1:].rpartition("]:")
            if not found:
                raise ValueError(_no_port(text))
            return cls(host=_parse_ipv6(host), port=_parse_port(port, text))
        host, found, port = text.rpartition(":")
        if not found:
            raise ValueError(_no_port(text))
        if ":" in host:
            raise ValueError(f'{_quote(text)}: an IPv6 address stands in brackets, as in "[2001:db8::1]:443"')
        if host in {"", "*"}:
            raise ValueError(f'{_quote(text)} has no address: write "0.0.0.0:{port}" or "[::]:{port}" for all of them')
        return cls(host=_parse_ipv4(host), port=_parse_port(port, text))

    @property
    def family(self) -> socket.AddressFamily:
        """Of the socket that is to be made for it.

        Raises:
            ValueError: systemd has made it
        """
        if self.systemd is not None:
            raise ValueError(f"{self} names a socket, not an address")
        if self.host is None:
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def sockaddr(self) -> tuple[str, int] | tuple[str, int, int, int] | str:
        """The address as `socket.bind()` and `socket.connect()` take it.

        Raises:
            OSError: the interface of a link-local address does not exist.
            ValueError: systemd has bound it
        """
        if self.systemd is not None:
            raise ValueError(f"{self} names a socket, not an address")
        if self.host is None or self.port is None:
            return self.path or ""
        if ":" not in self.host:
            return (self.host, self.port)
        address, _, zone = self.host.partition("%")
        scope = 0 if not zone else int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
        return (address, self.port, 0, scope)

    def __str__(self) -> str:
        if self.systemd is not None:
            return f"systemd:{self.systemd}"
        if self.host is None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _parse_path(path: str) -> str:
    if not path:
        raise ValueError('"unix:" needs a path, as in "unix:/run/app.sock"')
    if path.startswith("@"):
        raise ValueError(
            f'"unix:{path}": abstract sockets are not supported; for a file of that name write "unix:./{path}"'
        )
    if "\0" in path:
        raise ValueError("a socket path cannot hold a zero byte")
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise ValueError(f"the socket path is {length} bytes long; the kernel allows {MAX_PATH_BYTES}")
    return path


def _parse_descriptor_name(name: str) -> str:
    if not name:
        raise ValueError('"systemd:" needs the name of a socket (FileDescriptorName=), as in "systemd:web"')
    if not _DESCRIPTOR_NAME.fullmatch(name):
        raise ValueError(
            f"{_quote(name)} is no name of a socket: 1 to 255 printable ASCII characters, no space, no colon"
        )
    return name


def _parse_port(port: str, text: str) -> int:
    if port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535:
        return int(port)
    raise ValueError(f"{_quote(text)}: the port must be a number from 0 to 65535")


def _parse_ipv4(host: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        pass
    if host.isascii() and host.replace(".", "").isdigit():
        raise ValueError(f"{_quote(host)} is not an IPv4 address")
    raise ValueError(f"{_quote(host)} is not an IP address; host names are not resolved")


def _parse_ipv6(host: str) -> str:
    address, percent, zone = host.partition("%")
    try:
        canonical = str(ipaddress.IPv6Address(address))
    except ValueError:
        raise ValueError(f"{_quote(host)} is not an IPv6 address") from None
    if percent and not _ZONE.fullmatch(zone):
        raise ValueError(f"{_quote(host)}: after % stands the name or the number of an interface")
    return canonical + percent + zone


def _no_port(text: str) -> str:
    if not text:
        return 'empty; write "127.0.0.1:443" or the like'
    if text.isascii() and text.isdigit():
        return f'{_quote(text)} has no address: write "0.0.0.0:{text}" or "[::]:{text}" for all of them'
    if text.startswith("[") and not text.endswith("]"):
        return f'{_quote(text)} is no address; write "[::1]:443" or the like'
    example = text if text.startswith("[") or text[:1].isdigit() else "127.0.0.1"
    return f"{_quote(text)} has no port, as in {_quote(example + ':443')}"
