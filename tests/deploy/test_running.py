"""docs/running.md tells the truth: its commands, keys, files and links are there, and its deploy hook does what it says."""

from __future__ import annotations

import os
import re
import ssl
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from nlbcore.config.model import Config
from nlbcore.config.option import all_options
from nlbcore.termination import WORDS
from tests.deploy import DEPLOY, is_command
from tests.deploy.test_logrotate import USER
from tests.support.backends import Backend, greet
from tests.support.balancer import NLB, Balancer, server_group, tls_listener
from tests.support.certs import Pki
from tests.support.tls_client import TlsClient, client_context
from tests.tree import ROOT

PAGE = (ROOT / "docs/running.md").read_text()
KEYS = {option.path for option in all_options(Config)}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def leaves(table: dict[str, Any], *path: str) -> Iterator[str]:
    """`listeners.NAME.bind` for every value of a document."""
    for key, value in table.items():
        name = "NAME" if path in {("listeners",), ("server_groups",)} else key
        if isinstance(value, dict):
            yield from leaves(value, *path, name)
        elif isinstance(value, list) and isinstance(value[0], dict):
            yield from leaves(value[0], *path, name)
        else:
            yield ".".join((*path, name))


def test_every_key_is_one_of_ours() -> None:
    for block in blocks("toml"):
        assert set(leaves(tomllib.loads(block))) <= KEYS
    last = {key.rpartition(".")[2] for key in KEYS}
    assert {key for key, _ in re.findall(r"`([a-z_]+) = (\S+)`", PAGE)} <= last
    metrics = r"nlb_\w+"
    named = {word for word in re.findall(r"`([a-z]+_[a-z_]+)`", PAGE) if not re.fullmatch(metrics, word)}
    assert named <= last | {*WORDS} | written("nlbcore/observe/access_log.py") | written("bench/nlbbench/spec.py")


def written(source: str) -> set[str]:
    """The words that a source file has in quotes: fields of the access log, kinds of failures."""
    return set(re.findall(r'"([a-z_]+)"', (ROOT / source).read_text()))


def test_every_command_is_there() -> None:
    words = set(re.findall(r"(?:`|^|-- )nlb ((?:[a-z]+ ?)+)", PAGE, re.MULTILINE))
    assert len(words) >= 6
    assert [one for one in words if not is_command(one)] == []


def test_every_signal_is_in_the_table() -> None:
    table = re.findall(r"^\| ([A-Z0-9, ]+) \|", PAGE, re.MULTILINE)
    named = {f"SIG{name}" for row in table for name in row.split(", ")}
    assert named == {"SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGINT", "SIGQUIT", "SIGTTIN", "SIGTTOU"}


def test_every_file_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
    for name in re.findall(r"(?<![/\w])deploy/\S+\w", PAGE):
        assert (ROOT / name).exists(), name
    for unit in re.findall(r"\bnlb(?:-crl|-renew)?\.(?:service|socket|timer)\b", PAGE):
        assert (DEPLOY / "systemd" / unit).exists(), unit
    for target in re.findall(r"`?make ([a-z]+)`", PAGE):
        assert f"\n{target}: " in (ROOT / "Makefile").read_text()


def test_the_scripts_are_shell() -> None:
    for block in blocks("sh"):
        subprocess.run(["sh", "-n"], input=block, text=True, check=True)


def test_the_deploy_hook_brings_the_renewed_certificate(pki: Pki, tmp_path: Path) -> None:
    """With the folder and the user of this test; certbot's folder holds another certificate than the balancer began with."""
    (hook,) = re.findall(r"<!-- certbot -->\n```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    user, group = USER.split()
    hook = hook.replace("/etc/nlb", str(tmp_path)).replace("-o nlb -g nlb", f"-o {user} -g {group}")
    (tmp_path / "web.crt").write_bytes(pki.server.path.read_bytes())
    (tmp_path / "web.key").write_bytes(pki.server.key_path.read_bytes())
    (tmp_path / "web.key").chmod(0o400)
    renewed = pki.root.server("renewed.example.com", "www.example.com")
    lineage = tmp_path / "lineage"
    lineage.mkdir()
    (lineage / "fullchain.pem").write_bytes(renewed.path.read_bytes())
    (lineage / "privkey.pem").write_bytes(renewed.key_path.read_bytes())
    listener = tls_listener(ca=pki.root.path)
    listener["certificates"] = [{"certificate": "web.crt", "private_key": "web.key"}]
    context = client_context(pki.root.path, None, pki.client)
    environment = {"RENEWED_LINEAGE": str(lineage), "PATH": f"{NLB.parent}:{os.environ['PATH']}"}
    with ExitStack() as stack:
        server = Backend(greet(b"hello"))
        stack.callback(server.close)
        tables = {"listeners": {"web": listener}, "server_groups": {"app": server_group(server)}}
        balancer = stack.enter_context(Balancer(tmp_path, tables))
        assert served(balancer, context) == pki.server.der
        subprocess.run(["sh", "-ec", hook], env={**os.environ, **environment}, timeout=20, check=True)
        assert served(balancer, context) == renewed.der
    assert stat.S_IMODE((tmp_path / "web.key").stat().st_mode) == 0o400


def served(balancer: Balancer, context: ssl.SSLContext) -> bytes:
    with TlsClient(balancer.port(), context) as client:
        assert client.handshake().recv_exactly(5) == b"hello"
        return client.peer_der()
