"""The tables and keys of the configuration file, frozen once read.

Attribute names are the keys of the file. Durations are seconds, addresses are `Endpoint`, paths are absolute: relative
ones are taken from the folder of the file, which `load` passes as the validation context. The vocabulary, the ranges and
the defaults are those of Alibaba Cloud NLB where it has the option; where this page differs it is the safer way.

A key whose feature this version does not have is no field here, but stands in `not_built` and is refused by name: a key
that is accepted works.

Long because it is the description of every key, in the order of the file.
"""

from __future__ import annotations

import socket
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from nlbcore.config.option import REQUIRED, Kind, option
from nlbcore.config.values import (
    BIND_SCHEMA,
    TEXT_SCHEMA,
    AccessLog,
    AdminAddress,
    AlpnPolicy,
    BindAddress,
    Duration,
    EventLog,
    File,
    Label,
    Peer,
    PolicyName,
    Protocol,
    ServerAddress,
    TableName,
    TlsVersion,
    Workers,
    any_number,
    as_tuple,
    default_control_socket,
    lower,
    one_or_list,
    one_or_more,
    one_or_none,
)


class Table(BaseModel):
    """What all tables share: nothing is converted silently, nothing unknown is let through, defaults are validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)
    not_built: ClassVar[frozenset[str]] = frozenset()


class Node(Table):
    """`[node]`"""

    not_built: ClassVar[frozenset[str]] = frozenset({"user"})

    name: Label = option(
        None,
        "The name of this node in the logs.",
        factory=socket.gethostname,
        default_text="the host name",
        example='"nlb-1"',
    )
    workers: Workers = option(
        "auto",
        "Worker processes; auto: as many as there are processors that this process may use.",
        unit="processes",
    )
    busy_poll: bool = option(
        True,
        "After a single message a worker looks for the next one for up to 50 us before it sleeps, as long as the last ones "
        "came as soon: it is spared being woken, which takes longer than that, and its processor looks busier than it is. "
        "Not by a worker that starts when there are more of them than processors, or under a processor quota (cgroup "
        "version 2), which it would use up.",
    )
    control_socket: File = option(
        None,
        "The Unix socket of `nlb status`, `nlb stop` and the other commands that talk to a running balancer; "
        "only its owner and root may use it.",
        factory=lambda: str(default_control_socket()),
        default_text="nlb.sock in $RUNTIME_DIRECTORY, else in /run/nlb (root) or $XDG_RUNTIME_DIR/nlb",
        example='"/run/nlb/nlb.sock"',
    )
    admin: Annotated[AdminAddress | None, Kind("an address", '"127.0.0.1:9180"')] = option(
        None,
        "Where metrics, the status page and JSON are served over plain HTTP. Who reaches this address reads them all: "
        "there is no password.",
        default_text="absent: off",
    )
    pid_file: Annotated[File | None, Kind("a path", '"/run/nlb/nlb.pid"')] = option(
        None, "A file with the supervisor's process id, for as long as it runs.", default_text="absent: none"
    )
    watch: bool = option(
        False,
        "Reload by itself when the configuration or a file that it names has changed.",
    )
    shutdown_delay: Duration = option(
        "0s",
        "How long the listeners stay open after the order to stop, so that whoever sends clients here can notice.",
        low=0,
        high=3600,
    )
    drain_timeout: Duration = option(
        "300s",
        "How long connections may finish after the listeners have closed; what is left then is cut.",
        low=0,
        high=86400,
    )
    upgrade_timeout: Duration = option(
        "60s",
        "How long the new program may take to start in an upgrade (`SIGUSR2`); "
        "after that it is ended, and the old one goes on.",
        low=1,
        high=600,
    )


class Log(Table):
    """`[log]`"""

    level: Literal["debug", "info", "warning", "error"] = option("info", "The least severe event that is logged.")
    file: EventLog = option("stderr", 'Where events go: "stderr" or the path of a file.')
    format: Literal["text", "json"] = option(
        "text", "How events are written: text, with fields as key=value, or json, one object a line."
    )
    access: AccessLog = option(
        "stdout",
        "Where the access log goes, one JSON object a line for each connection and each refusal: "
        '"stdout", "off" or the path of a file.',
    )
    refusals_per_second: int = option(
        20,
        "Lines a second, of each worker, about refusals that are alike: the same listener, word and client certificate; of "
        "one listener and word, whatever the certificates, ten times as many. One line more says how many others there were "
        "(`suppressed`). 0: a line for each.",
        unit="lines",
        low=0,
        high=1_000_000,
    )


class CertificatePair(Table):
    """`[[listeners.NAME.certificates]]`"""

    certificate: File = option(REQUIRED, "PEM file with the server certificate first; its chain may follow.")
    private_key: File = option(
        REQUIRED,
        "PEM file with the private key, not encrypted, readable by its owner only.",
        example='"certs/server.key"',
    )


class ClientAuth(Table):
    """`[listeners.NAME.client_auth]`"""

    mode: Literal["off", "optional", "required", "report"] = option(
        "off",
        "off: clients are not asked for a certificate. "
        "required: a client without a certificate that one of the CAs in `ca` vouches for is refused. "
        "optional: a client without one is let in, one with a bad one is refused. "
        "report: everybody is let in, and what would become of each under `required` is logged and counted.",
    )
    ca: Annotated[
        tuple[File, ...],
        BeforeValidator(one_or_more),
        one_or_list(TEXT_SCHEMA),
        Kind("a path or a list of paths", '["certs/root.crt"]'),
    ] = option(
        (),
        "Files with the CA certificates that client certificates are checked against, PEM or DER (several in one "
        "file), or folders of such files. What stands there is trusted as it is, an intermediate alone too. "
        "CAs of one name are told apart by their key identifiers.",
    )
    crl: Annotated[
        tuple[File, ...],
        BeforeValidator(any_number),
        one_or_list(TEXT_SCHEMA, least=0),
        Kind("a path or a list of paths", '["certs/root.crl"]'),
    ] = option(
        (),
        "Files with the revocation lists of CAs in `ca`, PEM or DER (several in one file), or folders of such files. "
        "Once there is one, a client of "
        "a CA without a list is refused: each CA that issues clients needs its certificate in `ca` and its list here.",
        default_text="absent: nobody is revoked",
    )
    crl_scope: Literal["leaf", "chain"] = option(
        "leaf",
        "leaf: the client certificate itself is looked up. "
        "chain: the CAs above it too, as far up as they stand in `ca`; each of those that issues CAs needs its list.",
    )
    on_crl_overdue: Literal["refuse", "accept"] = option(
        "refuse",
        "What happens to the clients of a CA whose list is past its nextUpdate. "
        "refuse: they are refused until a newer list is there. accept: only those that it lists.",
    )
    on_revoked: Literal["close", "keep"] = option(
        "close",
        "What happens to live connections that a reload (a revocation list, `allow` and `deny`, a changed CA) would refuse now.",
    )
    on_expired: Literal["close", "keep"] = option(
        "close",
        "What happens to live connections when their client certificate expires; new ones are refused in any case. "
        "The certificates above it do not count.",
    )
    depth: int = option(
        3,
        "Intermediate certificates allowed between the client certificate and a CA of `ca`; 0: directly issued by it.",
        unit="certificates",
        low=0,
        high=100,
    )
    max_connections_per_certificate: int = option(
        0,
        "Connections at the same time with one client certificate, over all workers; more are closed after their handshake "
        "(`connection_limit`), in mode report too. A certificate with another signature on the same contents is the same one; "
        "a renewed certificate is another one. 0: unlimited.",
        unit="connections",
        low=0,
        high=100_000_000,
    )
    strict: bool = option(
        False,
        "RFC 5280 to the letter (OpenSSL's X509_STRICT): refuse also chains in which a CA certificate lacks its key "
        "identifier, a critical basicConstraints or a key usage, or any certificate the identifier of its issuer's key. "
        "Without it a CA certificate, one for signing certificates, an X.509 v1 certificate and one with malformed or no "
        "names is never a client either.",
    )
    allow: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(one_or_none),
        one_or_list(TEXT_SCHEMA),
        Kind("a rule or a list of rules", '["cn:client-*", "dns:*.corp.example", "uri:spiffe://prod/*"]'),
    ] = option(
        None,
        "Which client certificates are let in, of those that `ca` vouches for: at least one entry must match. "
        "`cn:`, `o:` and `ou:` are compared with the subject, `dns:`, `uri:`, `email:` and `ip:` (one or a network) with "
        "subjectAltName, never one with the other; `serial:` is hexadecimal, `sha256:` is the fingerprint of the "
        "certificate, `spki-sha256:` that of its public key (also in base64). "
        "`*` stands for any characters within a label of a host name, a segment of a path, the part before an at sign, or a "
        "cn, o, ou; alone it stands for one that is not empty. `**` stands for one or more, as the first label of a `dns:` or "
        "the last segment of a `uri:` rule. "
        "Case of ASCII letters does not count, but behind the host of a URI and before the at sign; a name in other letters "
        "is compared as xn--. A certificate with several common names is allowed by none of them; one with several other "
        "names by any. A name that could be read in two ways (with a NUL byte, of a bad encoding) is allowed by no entry.",
        default_text="absent: all",
    )
    deny: Annotated[
        tuple[str, ...],
        BeforeValidator(any_number),
        one_or_list(TEXT_SCHEMA, least=0),
        Kind("a rule or a list of rules", '["cn:mallory", "serial:0x1f:a0"]'),
    ] = option(
        (),
        "Which client certificates are refused, whatever `allow` says: one entry that matches is enough, by any name of the "
        "certificate. The forms are those of `allow`; before the at sign, case does not count here. A name that could be read "
        "in two ways is denied as soon as there is an entry of its kind. To shut out one certificate, a serial number or "
        "`spki-sha256:` is surer than a name, and a revocation list surer than both. `sha256:` is not: whoever has a "
        "certificate that is signed with ECDSA can make another of the same contents and key, with another fingerprint. All "
        "other forms, and a revocation list, hold for both.",
        default_text="absent: nobody",
    )
    advertise_ca_names: bool = option(
        True,
        "Send the names of the CAs to clients, so that browsers offer only certificates that fit.",
    )


class Listener(Table):
    """`[listeners.NAME]`"""

    not_built: ClassVar[frozenset[str]] = frozenset({"max_connection_age"})

    bind: Annotated[
        tuple[BindAddress, ...],
        BeforeValidator(one_or_more),
        one_or_list(BIND_SCHEMA),
        Kind("an address or a list of addresses", '["0.0.0.0:443", "[::]:443"]'),
    ] = option(
        REQUIRED,
        'Where to listen: "ADDRESS:PORT", "[IPV6]:PORT", "unix:PATH" or "systemd:NAME", a socket that systemd has opened '
        "(FileDescriptorName= of its .socket unit); one or a list.",
    )
    protocol: Protocol = option("TCPSSL", "TCPSSL: TLS ends here. TCP: bytes are relayed as they are.")
    server_group: Annotated[str, Kind("the name of a server group", '"app"')] = option(
        REQUIRED, "The table under `[server_groups]` that connections go to."
    )
    idle_timeout: Duration = option(
        "900s", "A connection without a byte in either direction for so long is closed.", low=10, high=900
    )
    half_close_timeout: Duration = option(
        "300s", "How long one direction may go on after the other has ended.", low=1, high=86400
    )
    cps: int = option(
        0,
        "New connections a second; more are closed at once. 0: unlimited.",
        unit="connections a second",
        low=0,
        high=1_000_000,
    )
    max_connections: int = option(
        0,
        "Connections at the same time; more are closed at once. 0: unlimited.",
        unit="connections",
        low=0,
        high=100_000_000,
    )
    proxy_protocol: Literal["off", "v1", "v2"] = option(
        "off",
        "Tell the servers who the client is, by the PROXY protocol, version 1 or 2: the first bytes of every connection to "
        "them. They must expect it. Health checks send a header too, without addresses (v1: UNKNOWN, v2: LOCAL), but for "
        "those of another `port`.",
    )
    proxy_protocol_tls: Literal["off", "tls", "full"] = option(
        "off",
        'Tell them what TLS knows, with proxy_protocol = "v2". tls: version, cipher suite, ALPN, server name, a unique id '
        "(node/connection, as in the access log), the server certificate's algorithms, the client certificate's common "
        "name, and whether it has been verified. full: the client certificate itself too (0x28, DER).",
        tls_only=True,
    )
    proxy_protocol_max_header: int = option(
        4096,
        "A longer PROXY header is never sent: what has no room is left out, the client certificate first, and counted "
        "(`nlb_proxy_protocol_certificates_left_out_total`). 4096 is what nginx reads at most.",
        unit="bytes",
        low=1024,
        high=65535,
        tls_only=True,
    )
    accept_proxy_protocol_from: Annotated[
        tuple[Peer, ...],
        BeforeValidator(any_number),
        one_or_list(TEXT_SCHEMA, least=0),
        Kind("a network or a list of networks", '["10.0.0.0/8", "2001:db8::/32"]'),
    ] = option(
        (),
        "Load balancers in front of this one, as networks or addresses (CIDR), or unix for whoever connects over a UNIX "
        "socket. They must begin every connection with a PROXY header, version 1 or 2, and what it says is believed: the "
        "client's address in logs, in the choice of the server and in the header to it. Without a good header they are "
        "closed (bad_proxy_header). From anybody else it is taken for the client's own bytes: never believed, and no TLS.",
        default_text="absent: nobody's is believed",
    )
    security_policy: PolicyName = option(
        "tls_cipher_policy_1_2_strict_with_1_3",
        "TLS versions and cipher suites, by name: tls_cipher_policy_1_0, tls_cipher_policy_1_1, tls_cipher_policy_1_2, "
        "tls_cipher_policy_1_2_strict, tls_cipher_policy_1_2_strict_with_1_3, or a table under `[security_policies]`. "
        "TLS_AES_128_CCM_8_SHA256 stands in the last of the five and is never agreed on: OpenSSL's security level forbids "
        "its short tag.",
        tls_only=True,
    )
    alpn_policy: AlpnPolicy | None = option(
        None,
        "What is agreed on with clients that offer protocols by ALPN: HTTP1Only (1.1, then 1.0), HTTP2Only, HTTP2Optional "
        "(1.1, then 1.0, then 2), HTTP2Preferred (2, then 1.1, then 1.0).",
        default_text="absent: ALPN is not answered",
        tls_only=True,
    )
    handshake_timeout: Duration = option(
        "10s",
        "A client that has not completed its TLS handshake, and its PROXY header before, by then is closed.",
        low=1,
        high=300,
        tls_only=True,
    )
    max_handshakes: int = option(
        4096,
        "TLS handshakes in progress at the same time, in each worker; more clients are closed at once.",
        unit="handshakes",
        low=1,
        high=1_000_000,
        tls_only=True,
    )
    session_tickets: bool = option(
        True,
        "Let returning clients resume their TLS session. An address of which 64 full handshakes in a row were not followed "
        "by a resumed one gets tickets in every 16th only, until one comes back.",
        tls_only=True,
    )
    session_ticket_lifetime: Duration = option(
        "300s", "How long a TLS session can be resumed; whole seconds.", low=1, high=86400, tls_only=True
    )
    on_truncated: Literal["close", "reset"] = option(
        "close",
        "What the server sees when a client ends without TLS close_notify, as many do. "
        "close: an ordinary end of its bytes. reset: what has arrived, then a reset.",
        tls_only=True,
    )
    strict_sni: bool = option(
        False,
        "Refuse clients that ask for a name which no certificate covers; else they get the first certificate.",
        tls_only=True,
    )
    certificates: Annotated[
        tuple[CertificatePair, ...],
        BeforeValidator(as_tuple),
        Kind("an array of tables", '[{ certificate = "certs/server.crt", private_key = "certs/server.key" }]'),
    ] = option(
        (),
        "The server certificates. The first is the default one, the others are chosen by the name the client asks for; "
        "an RSA and an ECDSA certificate for one name may both be given. Of several for one name those that are valid are "
        "shown; without a valid one, the wildcard's.",
        tls_only=True,
    )
    client_auth: ClientAuth = option({}, "Client certificates.", tls_only=True)


class Server(Table):
    """An entry of `servers`"""

    not_built: ClassVar[frozenset[str]] = frozenset({"max_connections", "backup"})

    address: ServerAddress = option(REQUIRED, 'Where the server listens: "ADDRESS:PORT", "[IPV6]:PORT" or "unix:PATH".')
    name: Label = option(
        None,
        "The name of the server in logs and metrics; different for each server of a group.",
        factory=lambda data: str(data.get("address", "server")),
        default_text="the address",
        example='"a"',
    )
    weight: int = option(
        100, "The share of new connections, relative to the other servers. 0: no new connections.", low=0, high=100
    )


class HealthCheck(Table):
    """`[server_groups.NAME.health_check]`"""

    not_built: ClassVar[frozenset[str]] = frozenset({"domain", "url", "method", "http_code", "http_version"})

    enabled: bool = option(
        True,
        "Ask the servers whether they live. A server that does not answer gets no new connections; "
        "when none answers, all get them. Without checks every server counts as usable.",
    )
    type: Literal["TCP"] = option("TCP", "TCP: a connection is opened and reset.", later=("HTTP",))
    interval: Duration = option("5s", "Time between two checks of a server.", low=1, high=50)
    connect_timeout: Duration = option(
        "5s", "A server that has not accepted the check's connection by then has failed it.", low=1, high=300
    )
    healthy_threshold: int = option(
        2, "Successful checks in a row that make an unhealthy server available again.", unit="checks", low=2, high=10
    )
    unhealthy_threshold: int = option(
        2, "Failed checks in a row that make a server unhealthy.", unit="checks", low=2, high=10
    )
    port: int = option(0, "The port that is checked; 0: the server's own.", low=0, high=65535)


class ServerGroup(Table):
    """`[server_groups.NAME]`"""

    scheduler: Annotated[Literal["wrr", "rr"], BeforeValidator(lower)] = option(
        "wrr",
        "How a server is chosen: wrr (round robin by weight) or rr (round robin); case is ignored.",
        later=("wlc", "sch", "tch", "maglev", "p2c"),
    )
    connect_timeout: Duration = option(
        "5s",
        "A server that has not accepted the connection by then is given up, and another one is tried.",
        low=0.1,
        high=300,
    )
    connection_drain: bool = option(
        True,
        "End the connections to a server that is taken out after `connection_drain_timeout`; "
        "false: they may go on for ever.",
    )
    connection_drain_timeout: Duration = option(
        "300s",
        "How long connections to a server that is taken out (by a reload, `nlb server drain`) may go on before they are "
        "closed.",
        low=0,
        high=900,
    )
    servers: Annotated[
        tuple[Server, ...],
        BeforeValidator(as_tuple),
        Kind("an array of tables", '[{ address = "10.0.0.1:80" }]'),
    ] = option((), "The servers of the group.")
    health_check: HealthCheck = option({}, "Active health checks of the servers.")


class SecurityPolicy(Table):
    """`[security_policies.NAME]`"""

    tls_versions: Annotated[
        tuple[TlsVersion, ...],
        BeforeValidator(one_or_more),
        Kind("a list of TLS versions", '["TLSv1.2", "TLSv1.3"]'),
    ] = option(
        ["TLSv1.2", "TLSv1.3"],
        "The TLS versions that are spoken: TLSv1.0, TLSv1.1, TLSv1.2, TLSv1.3, without a gap. With TLSv1.0 or TLSv1.1 "
        "OpenSSL's security level is lifted, as those need it.",
    )
    ciphers: Annotated[
        tuple[str, ...],
        BeforeValidator(one_or_more),
        one_or_list(TEXT_SCHEMA),
        Kind("a list of cipher suites", '["ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"]'),
    ] = option(
        REQUIRED,
        "The cipher suites by OpenSSL's names, in order of preference; at least one for each version.",
    )
    groups: Annotated[
        tuple[str, ...],
        BeforeValidator(one_or_more),
        one_or_list(TEXT_SCHEMA),
        Kind("a list of groups", '["X25519MLKEM768", "X25519", "P-256"]'),
    ] = option(
        ["X25519MLKEM768", "X25519", "P-256", "P-384", "P-521"],
        "Key agreement, in order of preference. X25519MLKEM768 is hybrid: safe if either of its halves is, also against a "
        "quantum computer. A client of TLS 1.2 whose certificate has an elliptic-curve key is let in only if its curve is "
        "one of these.",
    )


class Config(Table):
    """The whole file."""

    node: Node = option({}, "The process as a whole.")
    log: Log = option({}, "The event log and the access log.")
    listeners: dict[TableName, Listener] = option({}, "Where clients connect.")
    server_groups: dict[TableName, ServerGroup] = option({}, "Where their bytes go.")
    security_policies: dict[TableName, SecurityPolicy] = option(
        {}, "TLS versions, cipher suites and groups, for `security_policy`."
    )
