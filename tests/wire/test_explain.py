"""`nlb explain` says what the listener says: the same word as wire, log and metrics, for every case of the table."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from nlbcli.explain import command
from tests.support.balancer import Balancer, server_group
from tests.support.tls_client import TlsClient, client_context, refusal
from tests.support.verdicts import CASES, listeners

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Issued, Pki


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, module_folder: Path) -> Balancer:
    return balancer_for({"listeners": listeners(pki, module_folder), "server_groups": {"app": server_group(backend)}})


def terminations(balancer: Balancer, listener: str, word: str) -> int:
    (found,) = (one for one in balancer.status()["listeners"] if one["name"] == listener)
    return int(found["terminations"].get(word, 0))


@pytest.fixture(scope="module")
def asked(balancer: Balancer, pki: Pki) -> Callable[[str], tuple[Issued, int, dict[str, Any]]]:
    """`asked(CASE)`: its certificate, and exit code and answer of `nlb explain`; each once."""

    @cache
    def ask(case: str) -> tuple[Issued, int, dict[str, Any]]:
        listener, _, make = CASES[case]
        certificate = make(pki)
        arguments = [str(certificate.path), "-c", str(balancer.path), "--listener", listener, "--json"]
        done = CliRunner().invoke(command, arguments)
        return certificate, done.exit_code, json.loads(done.stdout)

    return ask


@pytest.mark.parametrize("case", CASES)
def test_the_same_word(
    balancer: Balancer, asked: Callable[[str], tuple[Issued, int, dict[str, Any]]], version: ssl.TLSVersion, case: str
) -> None:
    listener, word, _ = CASES[case]
    certificate, code, told = asked(case)
    assert told["word"] == word
    let_in = word == "accepted" or listener == "report"
    assert (told["accepted"], code) == (let_in, 0 if let_in else 1)
    mark = balancer.access.mark()
    before = terminations(balancer, listener, word)
    client = TlsClient(balancer.port(listener), client_context(None, version, certificate))
    if let_in:
        with client:
            client.handshake().ping()
        line = balancer.access.wait_for(since=mark, client_port=client.port)
        if listener == "report":
            assert line["client_cert_verdict"] == word
        return
    refusal(client)
    line = balancer.access.wait_for(since=mark, client_port=client.port)
    assert line["termination"] == word
    detail = line["termination_detail"]
    assert told["detail"] in detail or "not found" in detail
    assert terminations(balancer, listener, word) == before + 1
