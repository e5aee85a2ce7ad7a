"""Private keys are in the memory of the supervisor and the workers, and of nobody else: /proc/PID/mem of each is searched.

Log writer and prober parse what strangers send. They are searched for the key as OpenSSL computes with it (the secret number in
either byte order), as DER and as PEM. That all of this would be found is shown by the worker, where some of it must be.
"""

from __future__ import annotations

import base64
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.balancer import Balancer
from tests.support.tls_client import TlsClient
from tests.support.workers import end, successor

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    import psutil

    from tests.support.certs import Issued, Pki


@pytest.fixture(autouse=True)
def permitted(pki: Pki) -> None:
    """Some systems let only root read the memory of others."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            open(f"/proc/{process.pid}/mem", "rb").close()
        except PermissionError:
            pytest.skip("reading another process's memory is not permitted here: be root")
        finally:
            process.kill()


@pytest.fixture(scope="module")
def balancer(balancer_for: Callable[..., Balancer], tables: Callable[..., dict[str, Any]]) -> Balancer:
    """Two workers, all with a handshake behind them or not."""
    balancer = balancer_for(tables())
    balancer.restarts_expected = True
    return balancer


def shapes(issued: Issued) -> dict[str, bytes]:
    """What a private key may look like in memory."""
    key = issued.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value.to_bytes(32, "big")
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        "number": number,
        "number, little-endian": number[::-1],
        "DER": der,
        "PEM": base64.b64encode(der)[64:128],  # its second line
    }


def found(process: psutil.Process, wanted: dict[str, bytes]) -> set[str]:
    """The shapes that are anywhere in the memory of a process."""
    seen = set()
    with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as memory, open(f"/proc/{process.pid}/maps") as maps:
        for line in maps:
            span, permissions, *_ = line.split()
            first, last = (int(part, 16) for part in span.split("-"))
            if permissions[0] != "r" or "[v" in line:
                continue
            try:
                memory.seek(first)
                data = memory.read(last - first)
            except OSError:  # a mapping beyond the end of its file
                continue
            seen |= {name for name, shape in wanted.items() if shape in data}
    return seen


def test_where_it_must_be(balancer: Balancer, pki: Pki, context: ssl.SSLContext) -> None:
    """A worker cannot work without it. (The search finds keys.)"""
    with TlsClient(balancer.port(), context) as client:
        client.handshake().ping()
    for worker in balancer.workers():
        assert found(worker, shapes(pki.server))


@pytest.mark.parametrize("name", ["nlb: log writer", "nlb: prober"])
def test_where_it_must_not_be(balancer: Balancer, pki: Pki, context: ssl.SSLContext, name: str) -> None:
    """Neither as they were started, nor after they were replaced, when the supervisor had the key for long."""
    with TlsClient(balancer.port(), context) as client:
        client.handshake().ping()
    (process,) = balancer.titled(name)
    assert not found(process, shapes(pki.server))
    end(process, signal.SIGKILL)
    assert not found(successor(balancer, name, process), shapes(pki.server))
