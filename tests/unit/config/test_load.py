"""Loading never raises: each thing that is wrong is a finding at its line and column, all of them in one run."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlbcore.config.load import Loaded, load
from nlbcore.config.model import Config

GOOD = """\
[listeners.web]
bind = "127.0.0.1:443"
server_group = "app"
[[listeners.web.certificates]]
certificate = "server.crt"
private_key = "server.key"
[server_groups.app]
servers = [{ address = "10.0.0.1:80" }]
"""


def load_text(folder: Path, text: str | bytes) -> Loaded:
    path = folder / "nlb.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path)


def lines(loaded: Loaded) -> list[str]:
    """The findings without the name of the file."""
    return [str(finding).removeprefix(f"{loaded.path}:") for finding in loaded.findings]


def test_a_good_file(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, GOOD)
    assert loaded.findings == ()
    assert loaded.config is not None
    assert loaded.config is loaded.partial
    assert loaded.config.listeners["web"].certificates[0].certificate == tmp_path / "server.crt"
    assert loaded.locate(("listeners", "web", "bind")) == (2, 8)
    assert loaded.locate(("listeners", "web", "certificates", 0, "private_key")) == (6, 15)
    assert loaded.locate(("server_groups", "app", "servers", 0, "address")) == (8, 24)
    assert loaded.whole(())


def test_relative_paths_follow_the_file_not_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    load_text(tmp_path / "etc", GOOD)
    monkeypatch.chdir(tmp_path)
    loaded = load(Path("etc/nlb.toml"))
    assert loaded.config is not None
    assert loaded.config.listeners["web"].certificates[0].certificate == tmp_path / "etc/server.crt"
    assert str(loaded.finding((), "error", "x")).startswith("etc/nlb.toml:1:1: ")


def test_every_finding_in_one_run(tmp_path: Path) -> None:
    text = """\
    # é
    title = "x"
    node = { nam = "a", workers = 0, "drain_timeout" = true }
    [log]
    level = "inof"
    [listeners.web]
    bind = ["0.0.0.0:443", "é:44", "systemd:"]
    protcol = "TCP"
    idle_timeout = "5s"
    cps = "many"
    client_auth = { mode = "optoinal", bind = 1 }
    certificates = [{ certificate = "x", private_key = 3 }, { certificat = "é", private_key = "y" }]
    [server_groups.app]
    scheduler = "WLC"
    servers = [{ address = "10.0.0.1:80", weight = 101 }, 5, { address = "app:80" }]
    health_check = { type = "HTTP", url = "/", interval = "0.5s", port = "http", tyme = 1 }
    [server_groups]
    "b c" = {}
    other = 7
    """
    loaded = load_text(tmp_path, textwrap.dedent(text))
    assert lines(loaded) == [
        "2:1: error: title: unknown key",
        '3:10: error: node.nam: unknown key (did you mean "name"?)',
        "3:31: error: node.workers: 0 is out of range: 1 to 256 processes",
        '3:52: error: node.drain_timeout: expected a duration, for example drain_timeout = "300s"; got true',
        '5:9: error: log.level: expected one of "debug", "info", "warning", "error"; got "inof" (did you mean "info"?)',
        '6:12: error: listeners.web.server_group: missing; expected the name of a server group, for example server_group = "app"',
        '7:24: error: listeners.web.bind[1]: "é" is not an IP address; name resolution is not built yet in nlb 0.1.0',
        (
            '7:32: error: listeners.web.bind[2]: "systemd:" needs the name of a socket (FileDescriptorName=), '
            'as in "systemd:web"'
        ),
        '8:1: error: listeners.web.protcol: unknown key (did you mean "protocol"?)',
        "9:16: error: listeners.web.idle_timeout: must be 10s to 900s; got 5s",
        '10:7: error: listeners.web.cps: expected a whole number, for example cps = 0; got the string "many"',
        (
            '11:24: error: listeners.web.client_auth.mode: expected one of "off", "optional", "required", "report"; '
            'got "optoinal" (did you mean "optional"?)'
        ),
        "11:36: error: listeners.web.client_auth.bind: unknown key (it belongs in [listeners.NAME])",
        (
            "12:52: error: listeners.web.certificates[0].private_key: expected a path, "
            'for example private_key = "certs/server.key"; got the number 3'
        ),
        (
            "12:57: error: listeners.web.certificates[1].certificate: missing; expected a path, "
            'for example certificate = "certs/server.crt"'
        ),
        '12:59: error: listeners.web.certificates[1].certificat: unknown key (did you mean "certificate"?)',
        '14:13: error: server_groups.app.scheduler: "wlc" is not built yet in nlb 0.1.0; expected one of "wrr", "rr"',
        "15:48: error: server_groups.app.servers[0].weight: must be 0 to 100; got 101",
        (
            '15:55: error: server_groups.app.servers[1]: expected a table, for example { address = "10.0.0.1:80" }; '
            "got the number 5"
        ),
        (
            '15:70: error: server_groups.app.servers[2].address: "app" is not an IP address; '
            "name resolution is not built yet in nlb 0.1.0"
        ),
        '16:25: error: server_groups.app.health_check.type: "HTTP" is not built yet in nlb 0.1.0; expected one of "TCP"',
        "16:33: error: server_groups.app.health_check.url: not built yet in nlb 0.1.0",
        "16:55: error: server_groups.app.health_check.interval: must be 1s to 50s; got 0.5s",
        (
            "16:70: error: server_groups.app.health_check.port: expected a whole number, for example port = 0; "
            'got the string "http"'
        ),
        '16:78: error: server_groups.app.health_check.tyme: unknown key (did you mean "type"?)',
        (
            '18:1: error: server_groups."b c": a name has 1 to 63 letters, digits, dots, underscores and hyphens, '
            "and begins with a letter or digit"
        ),
        "19:9: error: server_groups.other: expected a table: [server_groups.other]; got the number 7",
    ]
    assert loaded.config is None
    assert loaded.partial is not None
    assert loaded.partial.listeners["web"].bind[0].port == 443
    assert not loaded.whole(("listeners", "web"))
    assert loaded.whole(("listeners", "other"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listeners = 3", "1:13: error: listeners: expected a table: [listeners.NAME]; got the number 3"),
        ("[[listeners]]", "1:3: error: listeners: expected a table: [listeners.NAME]; got an array"),
        ("[[node]]", "1:3: error: node: expected a table: [node]; got an array"),
        ("node.name = 2024-01-01", ('1:13: error: node.name: expected a string, for example name = "nlb-1"; '
         "got the date or time 2024-01-01")),
        ("[log]\nlevel = {}", ('2:9: error: log.level: expected one of "debug", "info", "warning", "error", '
         'for example level = "info"; got a table')),
        ("[log]\nfile = 'stdout'", ('2:8: error: log.file: "stdout" is neither "stderr" nor a path; '
         'for a file of that name write "./stdout"')),
        ("node.drain_timeout = '5 min'", ('1:22: error: node.drain_timeout: "5 min" is no duration: write a number with '
         'ms, s, m, h or d behind it, as in "10s"')),
        ("[server_groups.a.servers]\naddress = 'x'", ("1:18: error: server_groups.a.servers: expected an array of tables: "
         "[[server_groups.a.servers]]; got a table")),
    ],
)  # fmt: skip
def test_wrong_types(tmp_path: Path, text: str, expected: str) -> None:
    assert lines(load_text(tmp_path, text)) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a =", ("1:4: error: syntax error: invalid value at the end of the file "
         "(text stands in quotes; true, false and numbers do not)")),
        ("x = 1\n\na = yes\n", ("3:5: error: syntax error: invalid value "
         "(text stands in quotes; true, false and numbers do not)")),
        ("[node\nname = 'x'", "1:6: error: syntax error: expected ']' at the end of a table declaration"),
        ("listen 443", "1:8: error: syntax error: expected '=' after a key in a key/value pair"),
        ("'é' = 'ü' x", ("1:11: error: syntax error: expected newline or end of document after a statement "
         "(addresses, durations and other text stand in quotes; a line holds one KEY = VALUE)")),
        ("bind = 127.0.0.1:8443", "1:13: error: syntax error: expected newline*"),
        ("'é' = 1\n\n[a]\n[b]\n[a]\n[b]\n", "5:2: error: a: defined twice, first in line 3|6:2: error: b: defined twice, first in line 4"),
        ("[node]\nname = 'a'\nname = 'b'\n", "3:1: error: node.name: defined twice, first in line 2"),
        ("a = [1]\n[[a]]\n", "2:4: error: syntax error: cannot mutate immutable namespace ('a',)"),
        ("\ufeffa = 1", "1:1: error: the file begins with a byte order mark (save it as UTF-8 without BOM)"),
        (b"# ok\nname = '\xe9'\n", "2:9: error: the file is not UTF-8 text (save it as UTF-8)"),
        (b"# \xc3\xa9\xe9\n", "1:4: error: the file is not UTF-8 text (save it as UTF-8)"),
        ("a = " + "[" * 9000, "1:1: error: syntax error: arrays or tables are nested too deeply"),
        ("a = " + "9" * 5000, "1:1: error: syntax error: exceeds the limit*"),
    ],
    ids=range(14),
)  # fmt: skip
def test_syntax_errors(tmp_path: Path, text: str | bytes, expected: str) -> None:
    found = "|".join(lines(load_text(tmp_path, text)))
    assert found.startswith(expected[:-1]) if expected.endswith("*") else found == expected


def test_unreadable_files(tmp_path: Path) -> None:
    assert str(load(tmp_path / "no").findings[0]) == f"{tmp_path}/no: error: cannot read: no such file or directory"
    assert str(load(tmp_path).findings[0]) == f"{tmp_path}: error: cannot read: is a directory"
    huge = tmp_path / "huge"
    with huge.open("wb") as stream:
        os.truncate(stream.fileno(), 17 * 1024 * 1024)
    assert "larger than 16 mb" in str(load(huge).findings[0])


def test_an_empty_file_is_loaded(tmp_path: Path) -> None:
    assert load_text(tmp_path, "").config == Config.model_validate({})


def test_findings_about_stand_ins_are_dropped(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, GOOD.replace('"server.key"', "5"))
    entry = ("listeners", "web", "certificates", 0)
    about_key = loaded.finding((*entry, "private_key"), "error", "no such file")
    about_certificate = loaded.finding((*entry, "certificate"), "error", "no such file")
    assert loaded.real([about_key, about_certificate]) == (about_certificate,)


@pytest.mark.parametrize(("value", "dropped"), [("5", True), ("[5]", True), ("[[]]", True), ('["a.crt", 5]', False)])
def test_findings_about_a_list_are_dropped_with_its_only_entry(tmp_path: Path, value: str, *, dropped: bool) -> None:
    """Of one entry they stand at the list itself."""
    loaded = load_text(tmp_path, f"{GOOD}\n[listeners.web.client_auth]\nca = {value}\n")
    about = loaded.finding(("listeners", "web", "client_auth", "ca"), "error", "no such file")
    assert loaded.real([about]) == (() if dropped else (about,))


ANY = st.recursive(
    st.one_of(
        st.integers(-5, 1000), st.booleans(), st.text(max_size=3), st.sampled_from(["10s", "app", "10.0.0.1:80", "rr"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(
                [
                    "node",
                    "log",
                    "listeners",
                    "server_groups",
                    "web",
                    "app",
                    "bind",
                    "server_group",
                    "certificates",
                    "certificate",
                    "client_auth",
                    "health_check",
                    "workers",
                    "control_socket",
                    "interval",
                    "ca",
                    "mode",
                    "servers",
                    "address",
                    "weight",
                    "name",
                    "cps",
                    "idle_timeout",
                    "[key]",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["node", "log", "listeners", "server_groups", "x"]), ANY))
def test_whatever_stands_in_the_file(tmp_path: Path, document: dict[str, object]) -> None:
    """No document makes it fail; a wrong one has findings within the file, and yet a partial model."""
    from nlbcore.config.option import toml_value
    from nlbcore.config.render import _key

    def inline(value: object) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{_key(key)} = {inline(item)}" for key, item in value.items()) + "}"
        return "[" + ", ".join(map(inline, value)) + "]" if isinstance(value, list) else toml_value(value)

    text = "".join(f"{key} = {inline(value)}\n" for key, value in document.items())
    loaded = load_text(tmp_path, text)
    assert loaded.document == document
    assert loaded.partial is not None
    assert (loaded.config is None) == bool(loaded.findings)
    for finding in loaded.findings:
        line = text.split("\n")[finding.line - 1]
        assert 1 <= finding.column <= len(line)
