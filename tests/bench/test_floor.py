"""The limit is measured in memory: plausible beside itself, with the suite of the comparison."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from OpenSSL import SSL

from nlbbench import floor
from nlbbench.floor import Pair
from nlbbench.material import Material, provide
from nlbbench.proxies import SUITE
from nlbcore.errors import NlbError


@pytest.fixture(scope="module")
def material(module_folder: Path) -> Material:
    return provide(module_folder / "material")


def test_one_sample(material: Material) -> None:
    found = floor.measure(material, 0.5)
    assert found.library.startswith("OpenSSL ")
    assert 20e-6 < found.resumed < found.full < 50e-3
    assert 0.5e-6 < found.message < 1e-3
    assert 1e-11 < found.download < 1e-7
    assert 1e-11 < found.upload < 1e-7
    assert 10e3 < found.idle < 100e3


def test_what_a_connection_is(material: Material) -> None:
    server = floor.server_context(material, lambda _ssl: False)
    pair = Pair(server, floor.client_context(material))
    pair.shake_hands()
    assert pair.server.get_cipher_name() == SUITE
    assert pair.server.get_protocol_version_name() == "TLSv1.3"
    presented = pair.server.get_peer_certificate(as_cryptography=True)
    assert presented == x509.load_pem_x509_certificate(material.client.read_bytes())
    before = pair.spent
    pair.upload(100)
    pair.download(100)
    assert pair.spent > before


def test_a_client_without_a_certificate_ends_nothing_well(material: Material) -> None:
    client = floor._context(SSL.TLS_CLIENT_METHOD, material)
    pair = Pair(floor.server_context(material, lambda _ssl: True), client)
    with pytest.raises(NlbError, match="the handshake in memory is not over"):
        pair.shake_hands()


def test_what_goes_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(NlbError, match="the floor cannot be measured"):
        floor.measure(Material(tmp_path), 0.1)
