"""What only the whole file can tell: references, clashes, what is missing, what has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlbcore.config.check import check
from nlbcore.config.load import load

PAIR = 'certificates = [{ certificate = "c", private_key = "k" }]'
LISTENER = f'[listeners.web]\nbind = "127.0.0.1:443"\nserver_group = "app"\n{PAIR}\n'
GROUP = '[server_groups.app]\nservers = [{ address = "10.0.0.1:80" }]\n'


def checked(folder: Path, text: str) -> list[str]:
    path = folder / "nlb.toml"
    path.write_text(text)
    return [str(finding).removeprefix(f"{path}:").strip() for finding in check(load(path))]


def test_nothing_to_say(tmp_path: Path) -> None:
    assert checked(tmp_path, LISTENER + GROUP) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["error: there is no listener (`nlb config init` writes a sample)"]),
        (
            LISTENER + GROUP.replace("app", "api"),
            ['3:16: error: listeners.web.server_group: there is no [server_groups.app] (did you mean "api"?)'],
        ),
        (LISTENER, ["3:16: error: listeners.web.server_group: there is no [server_groups.app]"]),
        (
            LISTENER + GROUP + '[server_groups.old]\nservers = [{ address = "10.0.0.2:80" }]\n',
            ["7:16: warning: server_groups.old: no listener uses this server group"],
        ),
        (
            f'{LISTENER}security_policy = "modem"\n{GROUP}[security_policies.modern]\nciphers = ["X"]\n',
            [
                (
                    "5:19: error: listeners.web.security_policy: there is no [security_policies.modem], "
                    'and none is built in by that name (did you mean "modern"?)'
                ),
            ],
        ),
        (
            f"{LISTENER}{GROUP}[security_policies.modern]\nciphers = 5\n[security_policies.tls_cipher_policy_1_2]\n",
            [
                "7:20: warning: security_policies.modern: no listener uses this security policy",
                "9:20: error: security_policies.tls_cipher_policy_1_2: tls_cipher_policy_1_2 is built in: another name is needed",
            ],
        ),
        (
            f'{LISTENER}security_policy = "modern"\n{GROUP}[security_policies.modern]\nciphers = "X"\n',
            [],
        ),
        (
            LISTENER.replace(PAIR, "") + GROUP,
            [
                (
                    '1:12: error: listeners.web: protocol = "TCPSSL" needs a certificate '
                    "(add [[listeners.web.certificates]])"
                )
            ],
        ),
        (
            LISTENER.replace(PAIR, 'protocol = "TCP"\nsession_tickets = true\nclient_auth = {}\nidle_timeout = 60')
            + GROUP,
            [
                '5:19: error: listeners.web.session_tickets: has no meaning with protocol = "TCP"',
                '6:15: error: listeners.web.client_auth: has no meaning with protocol = "TCP"',
            ],
        ),
        (
            LISTENER + 'client_auth = { mode = "required" }\n' + GROUP,
            [
                '5:24: error: listeners.web.client_auth.mode: mode = "required" needs `ca` (as in ca = ["certs/root.crt"])'
            ],
        ),
        (
            LISTENER + '[listeners.web.client_auth]\nca = "root.crt"\n' + GROUP,
            [
                (
                    '6:6: warning: listeners.web.client_auth.ca: has no effect while mode = "off" '
                    '(mode = "required" turns it on)'
                )
            ],
        ),
        (
            LISTENER
            + '[listeners.web.client_auth]\nca = "root.crt"\ncrl = "root.crl"\nmode = "off"\non_crl_overdue = "accept"\n'
            + GROUP,
            [
                (
                    '6:6: warning: listeners.web.client_auth.ca: has no effect while mode = "off" '
                    '(mode = "required" turns it on)'
                ),
                (
                    '7:7: warning: listeners.web.client_auth.crl: has no effect while mode = "off" '
                    '(mode = "required" turns it on)'
                ),
            ],
        ),
        (
            LISTENER + 'client_auth = { mode = "required", ca = "root.crt", on_crl_overdue = "accept" }\n' + GROUP,
            ["5:70: warning: listeners.web.client_auth.on_crl_overdue: has no effect without `crl`"],
        ),
        (
            LISTENER + 'client_auth = { mode = "required", ca = "root.crt", deny = ["cn:x", "SHA256:00"] }\n' + GROUP,
            [
                (
                    "5:60: warning: listeners.web.client_auth.deny: an ECDSA signature has a twin that is as valid, so the "
                    "holder of a certificate can change its sha256 fingerprint (deny it by serial: or spki-sha256:, or revoke it)"
                ),
            ],
        ),
        (
            LISTENER + "[server_groups.app]\nservers = []\n",
            ['5:16: error: server_groups.app: has no servers (as in servers = [{ address = "10.0.0.1:80" }])'],
        ),
        (
            LISTENER + GROUP.replace(" }", ", weight = 0 }"),
            ["6:11: warning: server_groups.app.servers: every server has weight 0: no connection can be served"],
        ),
        (
            LISTENER + GROUP + 'connection_drain = false\nconnection_drain_timeout = "10s"\n',
            ["8:28: warning: server_groups.app.connection_drain_timeout: has no effect while connection_drain = false"],
        ),
        (
            LISTENER
            + '[server_groups.app]\nservers = [\n { address = "10.0.0.1:80" },\n { address = "10.0.0.1:80" },\n'
            ' { address = "10.0.0.1:80", name = "b" },\n { address = "10.0.0.2:80", name = "b" },\n]\n',
            [
                (
                    "8:14: error: server_groups.app.servers[1].address: servers[0] has the name 10.0.0.1:80 too "
                    "(give one of them a `name`)"
                ),
                "9:14: warning: server_groups.app.servers[2].address: 10.0.0.1:80 is servers[0] too; it gets both shares",
                "10:36: error: server_groups.app.servers[3].name: servers[2] has the name b too",
            ],
        ),
    ],
    ids=range(18),
)
def test_findings(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert checked(tmp_path, text) == expected


PROXY_PROTOCOL = [
    (
        LISTENER.replace(PAIR, 'protocol = "TCP"\nproxy_protocol = "v2"\nproxy_protocol_tls = "tls"') + GROUP,
        ['6:22: error: listeners.web.proxy_protocol_tls: has no meaning with protocol = "TCP"'],
    ),
    (
        LISTENER + 'proxy_protocol = "v1"\nproxy_protocol_tls = "full"\n' + GROUP,
        ['6:22: error: listeners.web.proxy_protocol_tls: needs version 2 of the header (proxy_protocol = "v2")'],
    ),
    (
        LISTENER + 'proxy_protocol = "v2"\nproxy_protocol_max_header = 2048\n' + GROUP,
        ['6:29: warning: listeners.web.proxy_protocol_max_header: has no effect while proxy_protocol_tls = "off"'],
    ),
    (
        LISTENER + 'proxy_protocol = "v2"\n' + LISTENER.replace("web", "bare").replace(":443", ":444") + GROUP,
        [
            (
                "10:16: warning: server_groups.app: some of its listeners send a PROXY header and some do not; "
                "a server expects one or it does not"
            )
        ],
    ),
    (
        LISTENER.replace(PAIR, 'protocol = "TCP"\nhandshake_timeout = 5') + GROUP,
        ['5:21: error: listeners.web.handshake_timeout: has no meaning with protocol = "TCP"'],
    ),
    (
        LISTENER.replace(PAIR, 'protocol = "TCP"\nhandshake_timeout = 5\naccept_proxy_protocol_from = "unix"') + GROUP,
        [],
    ),
    (
        LISTENER.replace(PAIR, 'protocol = "TCP"\naccept_proxy_protocol_from = ["10.0.0.0/8", "::/0"]') + GROUP,
        [
            (
                "5:45: warning: listeners.web.accept_proxy_protocol_from[1]: ::/0 is everybody: whoever connects can claim "
                "any address (name the load balancers in front alone)"
            )
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), PROXY_PROTOCOL, ids=range(len(PROXY_PROTOCOL)))
def test_proxy_protocol(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert checked(tmp_path, text) == expected


def binds(folder: Path, first: str, second: str) -> list[str]:
    other = LISTENER.replace("listeners.web", "listeners.two").replace('"127.0.0.1:443"', second)
    return checked(folder, LISTENER.replace('"127.0.0.1:443"', first) + other + GROUP)


@pytest.mark.parametrize("address", ["127.0.0.1:443", "[::1]:443", "unix:/run/x", "systemd:x"])
def test_one_address_cannot_be_bound_twice(tmp_path: Path, address: str) -> None:
    assert binds(tmp_path, f'"{address}"', f'["10.0.0.1:1", "{address}"]') == [
        f"6:23: error: listeners.two.bind[1]: {address} is already bound by [listeners.web]"
    ]
    assert binds(tmp_path, f'["{address}", "{address}"]', '"10.0.0.1:1"') == [
        f"2:{13 + len(address)}: error: listeners.web.bind[1]: {address} is already in this list"
    ]


def test_the_same_address_in_another_spelling(tmp_path: Path) -> None:
    assert len(binds(tmp_path, '"[::1]:443"', '"[0:0::1]:443"')) == 1
    assert len(binds(tmp_path, '"unix:run"', f'"unix:{tmp_path}/run"')) == 1


def test_a_wildcard_covers_other_addresses_of_its_port(tmp_path: Path) -> None:
    assert binds(tmp_path, '"0.0.0.0:443"', '"127.0.0.1:443"') == [
        "6:8: warning: listeners.two.bind: 0.0.0.0:443 of [listeners.web] covers 127.0.0.1:443 too; the exact address wins"
    ]
    assert binds(tmp_path, '"0.0.0.0:443"', '"127.0.0.1:444"') == []
    assert binds(tmp_path, '["0.0.0.0:443", "[::]:443"]', '"[::1]:444"') == []
    assert binds(tmp_path, '"0.0.0.0:443"', '["unix:x", "systemd:x"]') == []
    assert binds(tmp_path, '"0.0.0.0:443"', '"[::1]:443"') == []


@pytest.mark.parametrize(
    ("admin", "bind", "clash"),
    [
        ("127.0.0.1:443", "127.0.0.1:443", True),
        ("0.0.0.0:443", "127.0.0.1:443", True),
        ("127.0.0.1:443", "0.0.0.0:443", True),
        ("127.0.0.1:443", "127.0.0.2:443", False),
        ("127.0.0.1:444", "0.0.0.0:443", False),
        ("[::1]:443", "0.0.0.0:443", False),
        ("127.0.0.1:443", "unix:x", False),
        ("127.0.0.1:443", "systemd:x", False),
    ],
)
def test_the_admin_page_has_a_port_of_its_own(tmp_path: Path, admin: str, bind: str, clash: bool) -> None:
    text = f'node.admin = "{admin}"\n' + LISTENER.replace("127.0.0.1:443", bind) + GROUP
    expected = [f"1:14: error: node.admin: {bind} is bound by [listeners.web]"]
    assert checked(tmp_path, text) == (expected if clash else [])


@pytest.mark.parametrize(
    "text",
    [
        LISTENER.replace("certificates", "certificate") + GROUP,  # the misspelt key explains the missing certificate
        LISTENER + 'client_auth = { mode = "required", cas = "x" }\n' + GROUP,
        LISTENER + GROUP.replace("servers =", "serves ="),
        LISTENER + GROUP + "[server_groups.old]\nservers = 5\n[listeners.x]\nserver_group = 5\nbind = 5\n" + PAIR,
        'listeners = "x"\n',
    ],
)
def test_what_is_broken_is_not_reported_as_missing_too(tmp_path: Path, text: str) -> None:
    assert checked(tmp_path, text) == []


def test_the_rest_of_a_broken_file_is_checked(tmp_path: Path) -> None:
    text = LISTENER.replace('"127.0.0.1:443"', "443").replace('"app"', '"ap"') + GROUP + "title = 1\n"
    assert checked(tmp_path, text) == [
        '3:16: error: listeners.web.server_group: there is no [server_groups.ap] (did you mean "app"?)'
    ]


def test_no_model_no_findings(tmp_path: Path) -> None:
    assert checked(tmp_path, "a =") == []
