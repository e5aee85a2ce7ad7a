"""Wildcard names of a client against the names that the CAs above it must not vouch for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509

from tests.engine.running import BLOCK, Running
from tests.engine.secure import Client, Web
from tests.support.certs import Authority, Pki

Start = Callable[..., Running]
EXCLUDED = 48


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


@pytest.mark.parametrize(
    ("constraints", "name", "error"),
    [
        ((None, dns("secret.example")), "*.example", EXCLUDED),
        ((None, dns("SECRET.Example")), "*.eXample", EXCLUDED),
        ((None, dns("other.org", "secret.example")), "*.example", EXCLUDED),
        ((None, dns("example")), "*.example", EXCLUDED),
        ((dns("example"), dns("secret.example")), "*.example", EXCLUDED),
        ((None, [x509.RFC822Name("example.org"), *dns("a.b.example")]), "*.b.example", EXCLUDED),
        ((None, dns("a.b.example")), "*.example", 0),
        ((None, dns("secret.example")), "*.secret.org", 0),
        ((None, dns("xexample")), "*.example", 0),
        ((None, dns("secret.example")), "public.example", 0),
        ((dns("example"), None), "*.example", 0),
    ],
    ids=str,
)
def test_wildcards(start: Start, pki: Pki, constraints: tuple[Any, Any], name: str, error: int) -> None:
    """Refused where one of the names that it stands for is excluded; OpenSSL finds the others itself."""
    running = start(**Web(pki).plan())
    below = pki.root.intermediate("Constrained", extensions=[x509.NameConstraints(*constraints)])
    Client(running, pki, below.client("x", names=[name])).shake()
    if error:
        (ended,) = running.ended()
        assert (running.word(ended), ended.verify_error) == ("bad_certificate", error)
    else:
        running.turn(lambda: BLOCK.servers[0].live == 1)


def test_a_re_check_sees_them_too(start: Start, pki: Pki) -> None:
    """A CA that is trusted now and has constraints, where another certificate of the same key had none."""
    free = pki.root.intermediate("Twice")
    bound = Authority(
        pki.folder, "Twice", issuer=pki.root, key=free.key, extensions=[x509.NameConstraints(None, dns("a.example"))]
    )
    web = Web(pki)
    running = start(**web.plan(free))
    client = Client(running, pki, free.client("x", names=["*.example"], chain=())).shake()
    running.turn(lambda: BLOCK.servers[0].live == 1)
    running.reload(2, **web.plan(bound, lost_trust=True))
    running.engine.recheck()
    running.turn(lambda: running.engine.recheck_slice(10_000) is not None)
    (ended,) = running.ended()
    assert (running.word(ended), ended.verify_error) == ("became_refused", EXCLUDED)
    assert client.read() == b""
