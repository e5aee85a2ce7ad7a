"""What is written out can be read in again, and agrees with what is read in."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nlbcore.config.check import check
from nlbcore.config.load import load
from nlbcore.config.model import Config
from nlbcore.config.option import all_options
from nlbcore.config.render import as_toml, effective, reference, sample, schema
from nlbcore.config.values import POLICIES

ROOT = Path(__file__).resolve().parents[3]


def loaded_config(folder: Path, text: str) -> Config:
    path = folder / "nlb.toml"
    path.write_text(text)
    loaded = load(path)
    assert [*map(str, (*loaded.findings, *check(loaded)))] == []
    assert loaded.config is not None
    return loaded.config


def test_the_sample_is_a_good_configuration_with_mutual_tls(tmp_path: Path) -> None:
    config = loaded_config(tmp_path, sample())
    assert config.listeners["web"].client_auth.mode == "required"


def test_the_sample_shows_every_option_with_its_default(tmp_path: Path) -> None:
    text = sample()
    everything = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in text.split("\n")
    )
    everything = everything.replace(f'\nsecurity_policy = "{POLICIES[-1]}"', '\nsecurity_policy = "modern"')
    config = loaded_config(tmp_path, everything)
    assert list(config.security_policies) == ["modern"]
    plain = loaded_config(tmp_path, text)
    for item in all_options(Config):
        assert f"\n{item.key} = " in everything
    given = {"name", "alpn_policy", "control_socket", "admin", "pid_file"}
    listener, default = config.listeners["web"], plain.listeners["web"]
    auth = listener.client_auth.model_copy(update={"crl": (), "allow": None, "deny": ()})
    shown: dict[str, object] = {"alpn_policy": None, "client_auth": auth, "accept_proxy_protocol_from": ()}
    shown["security_policy"] = POLICIES[-1]
    assert listener.model_copy(update=shown) == default
    assert config.log == plain.log
    assert config.server_groups["app"].health_check == plain.server_groups["app"].health_check
    assert "\n[node]\n" in everything
    assert "\n[server_groups.app.health_check]\n" in everything
    assert config.node.model_dump(exclude=given) == plain.node.model_dump(exclude=given)


def test_the_effective_configuration_reads_back_the_same(tmp_path: Path) -> None:
    config = loaded_config(tmp_path, sample())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert loaded_config(elsewhere, as_toml(effective(config))) == config
    assert json.loads(json.dumps(effective(config)))["listeners"]["web"]["idle_timeout"] == "900s"


def test_names_that_need_quotes() -> None:
    document = {"a b": {"é.x": 1, "c": {"d": ["x"]}}, "e": {}}
    assert tomllib.loads(as_toml(document)) == {"a b": {"é.x": 1, "c": {"d": ["x"]}}}


def validate(document: Any) -> str:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    errors = list(jsonschema.Draft202012Validator(schema()).iter_errors(document))
    return errors[0].json_path if errors else ""


def test_the_schema_accepts_what_the_model_accepts() -> None:
    document = tomllib.loads(sample())
    assert validate(document) == ""
    document["listeners"]["web"].update(bind=["unix:x", "systemd:x"], idle_timeout=60, handshake_timeout="1.5s")
    assert validate(document) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bind", []),
        ("bind", "x"),
        ("idle_timeout", "x"),
        ("idle_timeout", 901),
        ("cps", -1),
        ("protocol", "UDP"),
        ("nothing", 1),
    ],
)
def test_the_schema_refuses_what_the_model_refuses(key: str, value: object) -> None:
    document = tomllib.loads(sample())
    document["listeners"]["web"][key] = value
    assert validate(document).startswith("$.listeners.web")


@pytest.mark.parametrize(
    ("place", "good", "bad"),
    [
        (("node", "workers"), (1, 256, "auto"), (0, 257, "many", 1.5)),
        (("node", "control_socket"), ("run/nlb.sock",), ("", 1)),
        (("listeners", "web", "bind"), ("systemd:web",), ("systemd:", "systemd:a:b")),
        (("node", "admin"), ("127.0.0.1:9180", "[::1]:9180"), ("", "unix:x", 9180)),
        (("log", "format"), ("text", "json"), ("xml",)),
        (("server_groups", "app", "health_check", "interval"), ("1s", 50), (0, 51, "x")),
        (("server_groups", "app", "health_check", "healthy_threshold"), (2, 10), (1, 11, "2")),
        (("server_groups", "app", "health_check", "port"), (0, 65535), (-1, 65536)),
        (("server_groups", "app", "health_check", "type"), ("TCP",), ("HTTP",)),
        (("server_groups", "app", "health_check", "url"), (), ("/",)),
    ],
    ids=["workers", "control_socket", "bind", "admin", "format", "interval", "threshold", "port", "type", "url"],
)
def test_the_schema_of_processes_and_health_checks(
    place: tuple[str, ...], good: tuple[object, ...], bad: tuple[object, ...]
) -> None:
    for values, expected in ((good, ""), (bad, "$." + ".".join(place[:-1]))):
        for value in values:
            document = tomllib.loads(sample())
            table = document
            for part in place[:-1]:
                table = table.setdefault(part, {})
            table[place[-1]] = value
            found = validate(document)
            assert found.startswith(expected) if expected else found == "", value


def test_every_option_has_its_help_in_the_schema() -> None:
    definitions = schema()["$defs"]
    assert all(one["description"] for table in definitions.values() for one in table["properties"].values())
    assert definitions["Listener"]["properties"]["cps"]["x-unit"] == "connections a second"
    assert definitions["Listener"]["properties"]["cps"]["maximum"] == 1_000_000


def test_the_reference_has_every_option_and_is_up_to_date() -> None:
    text = reference()
    for item in all_options(Config):
        assert f"\n### `{item.key}`\n" in text
    result = subprocess.run(
        [sys.executable, ROOT / "ci/options.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
