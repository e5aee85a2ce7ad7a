"""The kinds of values in the configuration file: how each is read, what it may be, how it is written out again.

A value that cannot be used is refused with a sentence about it; one of another TOML type is told which was expected, by the
`Kind` that stands in the annotation of its type.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from nlbcore.address import Endpoint
from nlbcore.config.option import Kind

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
WORKERS = 256
"""Worker processes at most."""
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


def wrong_type() -> PydanticCustomError:
    """The value is of another TOML type; `explain` says which was expected, from the option's description."""
    return PydanticCustomError("wrong_type", "")


def bad_value(sentence: str) -> PydanticCustomError:
    """The value has the right type and cannot be used; `sentence` says why."""
    return PydanticCustomError("bad_value", "{sentence}", {"sentence": sentence})


def format_seconds(seconds: float) -> str:
    return f"{seconds:.15g}s"


def _duration(value: object) -> float:
    if isinstance(value, str):
        found = _DURATION.fullmatch(value)
        if found is None:
            raise bad_value(f'"{value}" is no duration: write a number with ms, s, m, h or d behind it, as in "10s"')
        return float(found[1]) * _SECONDS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type()
    if not math.isfinite(value) or value < 0:
        raise bad_value(f"{value} is no duration")
    return float(value)


def _base(info: ValidationInfo) -> Path:
    return (info.context or {}).get("base") or Path.cwd()


def _path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise wrong_type()
    if not value or "\0" in value:
        raise bad_value("a path cannot be empty" if not value else "a path cannot hold a zero byte")
    return _base(info) / value


def _target(*words: str) -> Any:
    """A validator for `file` and `access`: one of a few words, or a path.

    A bare word is never taken as a path: a misspelt "stdout" would silently become a file.
    """

    def validate(value: object, info: ValidationInfo) -> str | Path:
        if isinstance(value, str) and value in words:
            return value
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z]+", value):
            known = " or ".join(f'"{word}"' for word in words)
            raise bad_value(f'"{value}" is neither {known} nor a path; for a file of that name write "./{value}"')
        return _path(value, info)

    return validate


def _bind(value: object, info: ValidationInfo) -> Endpoint:
    if isinstance(value, Endpoint):
        return value
    if not isinstance(value, str):
        raise wrong_type()
    try:
        endpoint = Endpoint.parse(value)
        if endpoint.path is not None:
            endpoint = Endpoint.parse(f"unix:{_base(info) / endpoint.path}")
    except ValueError as error:
        raise bad_value(str(error)) from None
    if endpoint.port == 0:
        raise bad_value(f'"{value}": the port must be a number from 1 to 65535')
    return endpoint


def _server(value: object, info: ValidationInfo) -> Endpoint:
    endpoint = _bind(value, info)
    if endpoint.systemd is not None:
        raise bad_value(f'"{endpoint}" is a socket to listen on, with no address that could be dialled')
    return endpoint


def _admin(value: object, info: ValidationInfo) -> Endpoint:
    endpoint = _bind(value, info)
    if endpoint.host is None:
        raise bad_value(f'"{endpoint}": the admin page has an IP address and a port, as in "127.0.0.1:9180"')
    return endpoint


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
UNIX = "unix"
"""Whoever connects over a UNIX socket: no network has them."""


def _peer(value: object) -> Network | str:
    if isinstance(value, Network):
        return value
    if not isinstance(value, str):
        raise wrong_type()
    if value == UNIX:
        return value
    try:
        interface = ipaddress.ip_interface(value)
    except ValueError:
        raise bad_value(f'"{value}" is no network: write it as in "10.0.0.0/8", or "unix" for UNIX sockets') from None
    network: Network = interface.network
    if interface.ip != network.network_address:
        raise bad_value(
            f'"{value}" is an address within a network: write "{network}", or "{interface.ip}" for it alone'
        )
    return network


def _workers(value: object) -> str | int:
    if value == "auto":
        return "auto"
    if isinstance(value, str):
        raise bad_value(f'"{value}" is neither "auto" nor a number')
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type()
    if not 1 <= value <= WORKERS:
        raise bad_value(f"{value} is out of range: 1 to {WORKERS} processes")
    return value


def default_control_socket() -> Path:
    """Where the control socket is when nobody says: in the folder that systemd has made for the service, else where
    root or this user keeps such things. Commands look for it in the same place.
    """
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if folder:
        return Path(folder) / "nlb.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() != 0 and runtime:
        return Path(runtime) / "nlb" / "nlb.sock"
    return Path("/run/nlb/nlb.sock")


def as_tuple(value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, tuple):
        raise wrong_type()
    return value


def one_or_more(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if value == []:
        raise bad_value("the list is empty: at least one is needed")
    return as_tuple(value)


def one_or_none(value: object) -> object:
    return None if value is None else one_or_more(value)


def any_number(value: object) -> object:
    return () if value == [] else one_or_more(value)


def lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _label(value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type()
    if not 1 <= len(value) <= 128 or not value.isprintable() or re.search(r'[\s"=]', value):
        raise bad_value("a name has 1 to 128 characters, no spaces, no quotes and no equals sign")
    return value


def _table_name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise PydanticCustomError(
            "bad_name",
            "a name has 1 to 63 letters, digits, dots, underscores and hyphens, and begins with a letter or digit",
        )
    return value


def one_or_list(schema: dict[str, Any], least: int = 1) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [schema, {"type": "array", "items": schema, "minItems": least}]})


TEXT_SCHEMA = {"type": "string", "minLength": 1}
_TCP = r"[0-9.]+:[0-9]{1,5}|\[[^\]]+\]:[0-9]{1,5}"
TCP_SCHEMA = {"type": "string", "pattern": f"^({_TCP})$"}
ENDPOINT_SCHEMA = {"type": "string", "pattern": f"^({_TCP}|unix:.+)$"}
BIND_SCHEMA = {"type": "string", "pattern": f"^({_TCP}|unix:.+|systemd:[!-9;-~]+)$"}

Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(format_seconds, when_used="json"),
    WithJsonSchema({"type": ["string", "number"], "pattern": f"^{_DURATION.pattern}$"}),
    Kind("a duration", '"10s"'),
]
File = Annotated[Path, BeforeValidator(_path), WithJsonSchema(TEXT_SCHEMA), Kind("a path", '"certs/server.crt"')]
EventLog = Annotated[
    Literal["stderr"] | Path,
    PlainValidator(_target("stderr")),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema(TEXT_SCHEMA),
    Kind('"stderr" or a path', '"stderr"'),
]
AccessLog = Annotated[
    Literal["stdout", "off"] | Path,
    PlainValidator(_target("stdout", "off")),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema(TEXT_SCHEMA),
    Kind('"stdout", "off" or a path', '"stdout"'),
]
BindAddress = Annotated[
    Endpoint, PlainValidator(_bind), PlainSerializer(str, when_used="json"), WithJsonSchema(BIND_SCHEMA)
]
ServerAddress = Annotated[
    Endpoint,
    PlainValidator(_server),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema(ENDPOINT_SCHEMA),
    Kind("an address", '"10.0.0.1:80"'),
]
Peer = Annotated[
    Network | Literal["unix"],
    PlainValidator(_peer),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema(TEXT_SCHEMA),
]
AdminAddress = Annotated[
    Endpoint, PlainValidator(_admin), PlainSerializer(str, when_used="json"), WithJsonSchema(TCP_SCHEMA)
]
Workers = Annotated[
    Literal["auto"] | int,
    PlainValidator(_workers),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": WORKERS}]}),
    Kind('"auto" or a number of processes', '"auto"'),
]
Label = Annotated[str, BeforeValidator(_label)]
TableName = Annotated[str, BeforeValidator(_table_name)]
Protocol = Literal["TCPSSL", "TCP"]
POLICIES = (
    "tls_cipher_policy_1_0",
    "tls_cipher_policy_1_1",
    "tls_cipher_policy_1_2",
    "tls_cipher_policy_1_2_strict",
    "tls_cipher_policy_1_2_strict_with_1_3",
)
"""The built-in security policies."""

PolicyName = Annotated[str, Kind("the name of a security policy", f'"{POLICIES[-1]}"')]
TlsVersion = Literal["TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
AlpnPolicy = Literal["HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred"]
