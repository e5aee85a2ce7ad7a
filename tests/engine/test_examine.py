"""The handshake in memory that ends at the client's certificate: what is sent by hand is what OpenSSL reads."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.engine.examine import Examined, examine
from nlbcore.pool.schedulers import Group
from tests.engine.running import plan
from tests.engine.secure import Web
from tests.support.certs import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.certs import Pki

    Ask = Callable[[list[bytes]], Examined]


@pytest.fixture
def ask(pki: Pki) -> Ask:
    """`ask(CHAIN)`: the answer of a listener that trusts the root."""
    web = Web(pki)
    asked = plan(Group([], "rr"), **web.plan())
    return lambda chain: examine(asked, chain)


def test_accepted_and_refused(ask: Ask, pki: Pki) -> None:
    """Asked again, it says the same."""
    for _ in range(3):
        assert ask([pki.client.der]) == ("open", "", 0, 0, b"")
        assert ask([pki.other.client("x").der]).word == "unknown_ca"
        refused = ask([pki.bad_client("expired").der])
        assert (refused.word, refused.verify_error, refused.verify_depth) == ("expired", 10, 0)
        assert refused.authority == b""
        late = pki.root.intermediate("Late", not_after=now() - dt.timedelta(hours=1))
        refused = ask([late.client("below").der, late.certificate.public_bytes(Encoding.DER)])
        assert (refused.word, refused.verify_depth, refused.authority) == ("expired", 1, late.name.public_bytes())


def test_what_is_no_certificate(ask: Ask) -> None:
    assert ask([b"\x30\x03abc"]).word == "bad_certificate"


def test_a_message_of_several_records(ask: Ask, pki: Pki) -> None:
    deep = pki.deep_client("very-deep", 3)
    chain = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(deep.path.read_bytes())]
    filling = [pki.other.certificate.public_bytes(Encoding.DER)] * 60
    assert ask([*chain, *filling]).word == "open"
    assert ask([chain[0], *filling]).word == "unknown_ca"
