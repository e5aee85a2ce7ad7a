"""Connections that do not come about say why: nobody there, the wrong certificate on either side, no TLS at all."""

from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING

from nlbbench.spec import Failure, Target, Work
from tests.bench.support import one

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.certs import Pki


def test_certificates_that_are_refused(target: Callable[..., Target], pki: Pki) -> None:
    cases = {
        Failure.CERTIFICATE: [
            (target("echo", ca=pki.other.path), "issuer"),
            (target("echo", server_name="wrong.example.com"), "ostname mismatch"),
        ],
        Failure.ALERT: [
            (target("echo", certificate=None, private_key=None), "certificate_required (116)"),
            (_with(target("echo"), pki, "unknown_ca"), "unknown_ca (48)"),
            (_with(target("echo"), pki, "expired"), "certificate_expired (45)"),
        ],
    }
    for failure, pairs in cases.items():
        for wanted, text in pairs:
            found = one(wanted, Work.CONNECT, count=2)
            assert found.failed == {failure: 2}, found.samples
            assert text in found.samples[0].text


def _with(target: Target, pki: Pki, kind: str) -> Target:
    bad = pki.bad_client(kind)
    return dataclasses.replace(target, certificate=bad.path, private_key=bad.key_path)


def test_nobody_listens(target: Callable[..., Target]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = one(dataclasses.replace(target("echo"), address=address), Work.CONNECT, count=3)
    assert found.failed == {Failure.REFUSED: 3}
    assert found.samples[0].text == "connect: Connection refused"
