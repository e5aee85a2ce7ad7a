"""Lists of rules become a table, or findings with the place of each entry."""

from __future__ import annotations

from pathlib import Path

from nlbcore.config.load import load
from nlbcore.engine.rules import Rules
from nlbcore.tls.material import load_material
from nlbcore.tls.ruletable import compile_rules
from tests.support.certs import Authority
from tests.support.forge import UTF8, certificate


def test_mistakes_make_no_table() -> None:
    made = compile_rules(["cn:a", "cn:"], ["ip:x", "cn:*"])
    assert made.table is None
    assert [remark[:3] for remark in made.remarks] == [
        ("allow", 1, "error"),
        ("deny", 0, "error"),
        ("deny", 1, "warning"),
    ]


def test_entries_that_let_nobody_in() -> None:
    made = compile_rules(["cn:a", "cn:b", "dns:x.example"], ["cn:A", "dns:*.example"])
    assert made.table is not None
    assert [(name, number, text) for name, number, _, text, _ in made.remarks] == [
        ("allow", 0, '"cn:a" allows nobody: deny[0] "cn:A" covers it'),
        ("allow", 2, '"dns:x.example" allows nobody: deny[1] "dns:*.example" covers it'),
    ]


def test_the_same_twice() -> None:
    made = compile_rules([], ["cn:a", "cn:b", "CN:A"])
    assert [(number, text) for _, number, _, text, _ in made.remarks] == [(2, '"CN:A" says the same as deny[0]')]
    assert Rules(made.table or b"").look(certificate([("cn", UTF8, b"a")])).denied == 0


def test_none_at_all() -> None:
    assert compile_rules((), ()).table is None
    assert compile_rules((), ()).remarks == ()


def test_the_log_shows_long_entries_shortened() -> None:
    """Within its room, and no letter cut in two."""
    for length in range(80, 100):
        made = compile_rules([], ["cn:" + "ü" * length])
        assert made.table is not None
        start = made.table.index(b"deny[0] ")
        text = made.table[start : made.table.index(b"\0", start)]
        assert len(text) < 96
        assert text.decode().endswith("...")


# -- in the configuration ----------------------------------------------------------------------------------------------


def findings(folder: Path, auth: str) -> list[str]:
    """What `nlb check` says of a listener with this table, but for the file's name."""
    path = folder / "nlb.toml"
    ca = Authority(folder)
    server = ca.server("localhost")
    path.write_text(
        '[server_groups.app]\nservers = [{ address = "127.0.0.1:1" }]\n'
        '[listeners.web]\nbind = "127.0.0.1:443"\nserver_group = "app"\n'
        f'certificates = [{{ certificate = "{server.path}", private_key = "{server.key_path}" }}]\n'
        f'[listeners.web.client_auth]\nmode = "required"\nca = "{ca.path}"\n{auth}'
    )
    loaded = load(path)
    found = list(loaded.findings)
    if loaded.partial is not None:
        found += load_material(loaded.partial, loaded.locate, str(path))[1]
    return [str(one).removeprefix(f"{path}:") for one in found]


def test_findings_name_the_entry(tmp_path: Path) -> None:
    """With line and column of the entry itself."""
    rules = 'allow = ["cn:a",\n  "emial:b@c"]\ndeny = "serial:1000"\n'
    assert findings(tmp_path, rules) == [
        '11:3: error: listeners.web.client_auth.allow[1]: "emial:b@c": there are no rules about "emial" (did you mean "email"?)',
        "12:8: warning: listeners.web.client_auth.deny: 1000 is read as hexadecimal (4096) (serial:0x1000 says so)",
    ]


def test_an_empty_list_lets_nobody_in_and_is_refused(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, "allow = []\n")
    assert "allow: the list is empty" in found
    assert findings(tmp_path, "deny = []\n") == []


def test_a_serial_number_with_several_authorities(tmp_path: Path) -> None:
    other = Authority(tmp_path, "Other Root")
    path = tmp_path / "both.crt"
    path.write_bytes(other.path.read_bytes() + Authority(tmp_path, "Third").path.read_bytes())
    ca = f"""
allow = ["serial:0x1f"]
[listeners.other]
bind = "127.0.0.1:444"
server_group = "app"
client_auth = {{ mode = "required", ca = "{path}", allow = ["serial:0x1f", "cn:a"] }}
"""
    found = [one for one in findings(tmp_path, ca) if "one CA's own" in one]
    assert len(found) == 1
    assert "listeners.other.client_auth.allow" in found[0]
