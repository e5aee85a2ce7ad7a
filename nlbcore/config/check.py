"""What no single key can say: references between tables, clashes, parts that are missing or have no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlbcore.config.finding import Finding, KeyPath, did_you_mean, in_order
from nlbcore.config.model import Listener
from nlbcore.config.option import options_of
from nlbcore.config.values import POLICIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlbcore.address import Endpoint
    from nlbcore.config.load import Loaded
    from nlbcore.config.model import Config, ServerGroup

_WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound
_MAX_HEADER = Listener.model_fields["proxy_protocol_max_header"].default
_TLS_ONLY = tuple(item.key for item in options_of(Listener) if item.extra.tls_only)


def check(loaded: Loaded) -> tuple[Finding, ...]:
    """Look at the model as a whole, also at a partial one; what is absent because it is broken is not reported again."""
    config = loaded.partial
    if config is None:
        return ()
    parts = (_references, _policies, _binds, _admin, _listeners, _groups)
    return in_order(loaded.real(finding for part in parts for finding in part(loaded, config)))


def _references(loaded: Loaded, config: Config) -> Iterator[Finding]:
    """Names are compared as they stand in the file: a group that is broken is there all the same."""
    groups = _tables(loaded, "server_groups")
    listeners = _tables(loaded, "listeners")
    used = {table.get("server_group") if isinstance(table, dict) else None for table in listeners.values()}
    for name, table in listeners.items():
        group = table.get("server_group") if isinstance(table, dict) else None
        if isinstance(group, str) and group not in groups:
            yield loaded.finding(
                ("listeners", name, "server_group"),
                "error",
                f"there is no [server_groups.{group}]",
                did_you_mean(group, groups),
            )
    if listeners and used <= groups.keys():
        # A reference that leads nowhere may have meant any group.
        for group in config.server_groups:
            if group not in used:
                yield loaded.finding(("server_groups", group), "warning", "no listener uses this server group")
    if not listeners and loaded.whole(("listeners",)):
        yield Finding(str(loaded.path), 0, 0, "error", "", "there is no listener", "`nlb config init` writes a sample")


def _policies(loaded: Loaded, config: Config) -> Iterator[Finding]:
    """Like server groups: by their names in the file. The built-in ones cannot be replaced."""
    written = _tables(loaded, "security_policies")
    listeners = {name: table for name, table in _tables(loaded, "listeners").items() if isinstance(table, dict)}
    used = {name: table.get("security_policy") for name, table in listeners.items()}
    for name, policy in used.items():
        if isinstance(policy, str) and policy not in written and policy not in POLICIES:
            hint = did_you_mean(policy, (*written, *POLICIES))
            text = f"there is no [security_policies.{policy}], and none is built in by that name"
            yield loaded.finding(("listeners", name, "security_policy"), "error", text, hint)
    for name in config.security_policies:
        path: KeyPath = ("security_policies", name)
        if name in POLICIES:
            yield loaded.finding(path, "error", f"{name} is built in: another name is needed")
        elif name not in used.values() and set(used.values()) <= {None, *written, *POLICIES}:
            yield loaded.finding(path, "warning", "no listener uses this security policy")


def _tables(loaded: Loaded, name: str) -> dict[str, Any]:
    """The tables of the file itself, broken or not."""
    tables = loaded.document.get(name)
    return tables if isinstance(tables, dict) else {}


def _binds(loaded: Loaded, config: Config) -> Iterator[Finding]:
    """The same address twice cannot work; a wildcard beside an address of its port works, to some people's surprise."""
    seen: dict[Endpoint, str] = {}
    binds = [
        (name, _item(("listeners", name, "bind"), index, listener.bind), endpoint)
        for name, listener in config.listeners.items()
        for index, endpoint in enumerate(listener.bind)
    ]
    for name, path, endpoint in binds:
        if endpoint in seen:
            where = "already" if seen[endpoint] == name else f"already bound by [listeners.{seen[endpoint]}]"
            yield loaded.finding(path, "error", f"{endpoint} is {where}{' in this list' if where == 'already' else ''}")
        seen.setdefault(endpoint, name)
    for name, path, endpoint in binds:
        for other, owner in seen.items():
            if (
                other.host in _WILDCARDS
                and endpoint.host not in (None, *_WILDCARDS)
                and (other.family, other.port) == (endpoint.family, endpoint.port)
            ):
                whose = "this listener" if owner == name else f"[listeners.{owner}]"
                yield loaded.finding(
                    path, "warning", f"{other} of {whose} covers {endpoint} too; the exact address wins"
                )


def _admin(loaded: Loaded, config: Config) -> Iterator[Finding]:
    """The admin page shares no port with a listener, not even where one of them has a wildcard address."""
    admin = config.node.admin
    for name, listener in config.listeners.items():
        for endpoint in listener.bind:
            if (
                admin is not None
                and endpoint.port == admin.port
                and endpoint.family == admin.family
                and (endpoint.host == admin.host or not _WILDCARDS.isdisjoint((endpoint.host, admin.host)))
            ):
                yield loaded.finding(("node", "admin"), "error", f"{endpoint} is bound by [listeners.{name}]")


def _item(path: KeyPath, index: int, items: tuple[object, ...]) -> KeyPath:
    """The path of an entry; a single value need not be written as a list, so it has no number."""
    return (*path, index) if len(items) > 1 else path


def _listeners(loaded: Loaded, config: Config) -> Iterator[Finding]:
    for name, listener in config.listeners.items():
        path = ("listeners", name)
        peers = listener.accept_proxy_protocol_from
        for index, peer in enumerate(peers):
            if str(peer).endswith("/0"):
                where = _item((*path, "accept_proxy_protocol_from"), index, peers)
                text = f"{peer} is everybody: whoever connects can claim any address"
                yield loaded.finding(where, "warning", text, "name the load balancers in front alone")
        if listener.protocol == "TCP":
            for key in _TLS_ONLY:
                if key == "handshake_timeout" and listener.accept_proxy_protocol_from:
                    continue  # it is the time for a PROXY header
                if key in listener.model_fields_set:
                    yield loaded.finding((*path, key), "error", 'has no meaning with protocol = "TCP"')
            continue
        if not listener.certificates and loaded.whole(path):
            yield loaded.finding(
                path, "error", 'protocol = "TCPSSL" needs a certificate', f"add [[listeners.{name}.certificates]]"
            )
        yield from _client_auth(loaded, listener, (*path, "client_auth"))
        yield from _proxy_protocol(loaded, listener, path)


def _proxy_protocol(loaded: Loaded, listener: Listener, path: KeyPath) -> Iterator[Finding]:
    if listener.proxy_protocol_tls != "off" and listener.proxy_protocol != "v2":
        yield loaded.finding(
            (*path, "proxy_protocol_tls"), "error", "needs version 2 of the header", 'proxy_protocol = "v2"'
        )
    elif listener.proxy_protocol_max_header != _MAX_HEADER and listener.proxy_protocol_tls == "off":
        yield loaded.finding(
            (*path, "proxy_protocol_max_header"), "warning", 'has no effect while proxy_protocol_tls = "off"'
        )


def _client_auth(loaded: Loaded, listener: Listener, path: KeyPath) -> Iterator[Finding]:
    auth = listener.client_auth
    if auth.mode != "off" and not auth.ca and loaded.whole(path):
        yield loaded.finding(
            (*path, "mode"), "error", f'mode = "{auth.mode}" needs `ca`', 'as in ca = ["certs/root.crt"]'
        )
    if auth.mode == "off" and auth.ca and loaded.whole(path):
        yield loaded.finding(
            (*path, "ca"), "warning", 'has no effect while mode = "off"', 'mode = "required" turns it on'
        )
    if auth.mode == "off" and auth.crl and loaded.whole(path):
        yield loaded.finding(
            (*path, "crl"), "warning", 'has no effect while mode = "off"', 'mode = "required" turns it on'
        )
    for key in ("allow", "deny"):
        if auth.mode == "off" and getattr(auth, key) and loaded.whole(path):
            yield loaded.finding(
                (*path, key), "warning", 'has no effect while mode = "off"', 'mode = "required" turns it on'
            )
    if any(rule.partition(":")[0].strip().lower() == "sha256" for rule in auth.deny) and loaded.whole(path):
        yield loaded.finding(
            (*path, "deny"),
            "warning",
            "an ECDSA signature has a twin that is as valid, so the holder of a certificate can change its sha256 fingerprint",
            "deny it by serial: or spki-sha256:, or revoke it",
        )
    for key, default in (("on_crl_overdue", "refuse"), ("crl_scope", "leaf")):
        if getattr(auth, key) != default and not auth.crl and loaded.whole(path):
            yield loaded.finding((*path, key), "warning", "has no effect without `crl`")


def _groups(loaded: Loaded, config: Config) -> Iterator[Finding]:
    for name, group in config.server_groups.items():
        path = ("server_groups", name)
        if not group.servers:
            if loaded.whole(path):
                yield loaded.finding(path, "error", "has no servers", 'as in servers = [{ address = "10.0.0.1:80" }]')
        elif all(server.weight == 0 for server in group.servers):
            yield loaded.finding(
                (*path, "servers"), "warning", "every server has weight 0: no connection can be served"
            )
        if not group.connection_drain and "connection_drain_timeout" in group.model_fields_set:
            yield loaded.finding(
                (*path, "connection_drain_timeout"), "warning", "has no effect while connection_drain = false"
            )
        yield from _servers(loaded, group, path)
        headers = {one.proxy_protocol for one in config.listeners.values() if one.server_group == name}
        if "off" in headers and len(headers) > 1:
            yield loaded.finding(
                path,
                "warning",
                "some of its listeners send a PROXY header and some do not; a server expects one or it does not",
            )


def _servers(loaded: Loaded, group: ServerGroup, path: KeyPath) -> Iterator[Finding]:
    names: dict[str, int] = {}
    addresses: dict[Endpoint, int] = {}
    for index, server in enumerate(group.servers):
        entry = (*path, "servers", index)
        given = "name" in server.model_fields_set
        if server.name in names:
            yield loaded.finding(
                (*entry, "name" if given else "address"),
                "error",
                f"servers[{names[server.name]}] has the name {server.name} too",
                "" if given else "give one of them a `name`",
            )
        elif server.address in addresses:
            yield loaded.finding(
                (*entry, "address"),
                "warning",
                f"{server.address} is servers[{addresses[server.address]}] too; it gets both shares",
            )
        names.setdefault(server.name, index)
        addresses.setdefault(server.address, index)
