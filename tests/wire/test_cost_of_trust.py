"""What trust costs: a handshake with a million revoked certificates as with none, with ten thousand identity rules as with
none, with five thousand server names as with one.

Measured in the processor time of the worker, the two in turns; the figures are printed (`-s`) and stand in docs/running.md.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import SERVER, new_key
from tests.support.lists import revocation_list
from tests.support.reloading import changed
from tests.support.tls_client import TLS13, TlsClient, client_context

if TYPE_CHECKING:
    from tests.support.backends import Backend
    from tests.support.certs import Authority, Pki

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

ENTRIES, RULES, NAMES = 1_000_000, 10_000, 5_000
ROUNDS, HANDSHAKES = 6, 100


def tlv(tag: int, *parts: bytes) -> bytes:
    inside = b"".join(parts)
    if len(inside) < 0x80:
        return bytes([tag, len(inside)]) + inside
    octets = len(inside).to_bytes((len(inside).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + inside


def elements(data: bytes) -> list[bytes]:
    """The elements inside a sequence, whole."""
    found, at = [], 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)
    while at < len(data):
        size, head = data[at + 1], 2
        if size & 0x80:
            head += size & 0x7F
            size = int.from_bytes(data[at + 2 : at + head], "big")
        found.append(data[at : at + head + size])
        at += head + size
    return found


def long_list(authority: Authority, count: int) -> bytes:
    """A list with so many entries. (The builder of `cryptography` copies its list with every one.)"""
    tbs, algorithm, _ = elements(revocation_list(authority, 1).public_bytes(Encoding.DER))
    fields = elements(tbs)
    when = tlv(0x17, b"260101000000Z")
    fields[5] = tlv(0x30, *(tlv(0x30, tlv(2, (2**120 + n * 77777).to_bytes(16, "big")), when) for n in range(count)))
    tbs = tlv(0x30, *fields)
    key = authority.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return tlv(0x30, tbs, algorithm, tlv(3, b"\0", key.sign(tbs, ec.ECDSA(hashes.SHA256()))))


def spent(balancer: Balancer) -> float:
    """Seconds of processor time of the worker, to the nanosecond."""
    return int(Path(f"/proc/{balancer.worker.pid}/schedstat").read_text().split()[0]) / 1e9


def own_memory(balancer: Balancer) -> int:
    """Bytes that the worker has written and nobody shares."""
    for line in Path(f"/proc/{balancer.worker.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Private_Dirty")


def cost(balancer: Balancer, listener: str, context: object, name: str) -> float:
    """Of one full handshake, in seconds."""
    before = spent(balancer)
    for _ in range(HANDSHAKES):
        with TlsClient(balancer.port(listener), context, server_name=name) as client:  # type: ignore[arg-type]
            client.handshake().ping()
            assert not client.resumed
    return (spent(balancer) - before) / HANDSHAKES


def compare(balancer: Balancer, pki: Pki, *cases: tuple[str, str], rounds: int = ROUNDS) -> list[float]:
    """The least of several rounds, of (listener, server name) in turns: what disturbs only adds."""
    context = client_context(None, TLS13, pki.client)
    rounds_of = [[cost(balancer, *case[:1], context, case[1]) for case in cases] for _ in range(rounds)]
    return [min(one) for one in zip(*rounds_of, strict=True)]


def test_a_million_revoked(backend: Backend, pki: Pki, tmp_path: Path) -> None:
    """The same processor time for a handshake; and while they are loaded, those who are connected are served."""
    paths = {}
    for name, count in (("few", 1), ("million", ENTRIES)):
        paths[name] = tmp_path / f"{name}.crl"
        paths[name].write_bytes(long_list(pki.root, count))
    listeners = {
        name: tls_listener(pki.server, ca=pki.root.path, client_auth={"crl": str(paths["few"])}) for name in paths
    }
    tables = {"listeners": listeners, "server_groups": {"app": server_group(backend)}}
    with Balancer(tmp_path, tables) as balancer, ThreadPoolExecutor(1) as pool:
        for idle in ("30s", "900s"):  # what any reload costs a worker is not what is asked
            balancer.rewrite(changed(tables, few={"idle_timeout": idle}, million={"idle_timeout": idle}))
            balancer.reload()
            compare(balancer, pki, ("few", "www.example.com"), ("million", "www.example.com"), rounds=1)
        before = own_memory(balancer)
        auth = {"mode": "required", "ca": str(pki.root.path), "crl": str(paths["million"])}
        balancer.rewrite(changed(tables, million={"client_auth": auth}))
        slowest = 0.0
        with TlsClient(balancer.port("few"), client_context(None, TLS13, pki.client)) as client:
            client.handshake()
            asked = time.monotonic()
            reload = pool.submit(balancer.reload)
            while not reload.done():
                slowest = max(slowest, client.ping())
            took = time.monotonic() - asked
        few, million = compare(balancer, pki, ("few", "www.example.com"), ("million", "www.example.com"))
        more = own_memory(balancer) - before
        print(
            f"{ENTRIES} entries: reload {took:.2f} s, slowest echo meanwhile {slowest * 1e3:.1f} ms, "
            f"{more / 1e6:.1f} MB more of the worker's own; handshake {few * 1e6:.0f} us with 1 entry, "
            f"{million * 1e6:.0f} us with all"
        )
        assert million < 1.25 * few
        assert more < 10e6, "the table is shared"
        balancer.measure()


def test_thousands_of_rules(backend: Backend, pki: Pki, tmp_path: Path) -> None:
    """Of all kinds, wildcards among them; the one that matches is the last."""
    kinds = (
        "cn:other-{}",
        "dns:*.n{}.corp.example",
        "uri:spiffe://prod/ns{}/*",
        "email:n{}@corp.example",
        "ou:unit-{}",
    )
    many = [kinds[number % len(kinds)].format(number) for number in range(RULES - 1)]

    def listener(*allow: str) -> dict[str, object]:
        auth = {"allow": [*allow, f"sha256:{pki.client.sha256}"], "deny": ["cn:nobody"]} if allow else {}
        return tls_listener(pki.server, ca=pki.root.path, client_auth=auth)

    listeners = {"none": listener(), "ten": listener(*many[:9]), "many": listener(*many)}
    with Balancer(tmp_path, {"listeners": listeners, "server_groups": {"app": server_group(backend)}}) as balancer:
        none, ten, thousands = compare(balancer, pki, *((name, "www.example.com") for name in listeners))
        print(
            f"handshake {none * 1e6:.0f} us without rules, {ten * 1e6:.0f} us with 10, "
            f"{thousands * 1e6:.0f} us with {RULES}"
        )
        assert thousands < 1.25 * none
        balancer.measure()


def test_thousands_of_names(backend: Backend, pki: Pki, tmp_path: Path) -> None:
    """The last of five thousand certificates costs what the only one does."""
    folder = tmp_path / "many"
    folder.mkdir()
    key = new_key()
    many = [pki.root.issue(f"n{n}.example", names=(f"n{n}.example",), usages=(SERVER,), key=key) for n in range(NAMES)]
    one = tls_listener(pki.server, ca=pki.root.path)
    tables = {"listeners": {"one": one}, "server_groups": {"app": server_group(backend)}}
    with Balancer(tmp_path, tables) as balancer:
        before = own_memory(balancer)
        balancer.rewrite({**tables, "listeners": {"one": one, "many": tls_listener(*many, ca=pki.root.path)}})
        asked = time.monotonic()
        balancer.reload()
        took = time.monotonic() - asked
        more = own_memory(balancer) - before
        last = f"n{NAMES - 1}.example"
        single, thousands = compare(balancer, pki, ("one", "www.example.com"), ("many", last))
        print(
            f"{NAMES} certificates: reload {took:.1f} s, {more / NAMES / 1e3:.1f} KB each; "
            f"handshake {single * 1e6:.0f} us with 1, {thousands * 1e6:.0f} us with all"
        )
        assert thousands < 1.25 * single
        balancer.measure()
