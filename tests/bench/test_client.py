"""Addresses, names and certificate files: what is right is used, what is wrong is told in one sentence."""

from __future__ import annotations

import resource
import socket
import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from nlbbench.client import LoadError, context, raise_descriptor_limit, resolve, server_name
from nlbbench.spec import Target

if TYPE_CHECKING:
    from tests.support.certs import Pki

LOCAL = resolve("127.0.0.1:443")


def test_addresses() -> None:
    assert LOCAL.packed == struct.pack("=HH4s8x", socket.AF_INET, socket.htons(443), b"\x7f\0\0\1")
    six = resolve("[::1]:443")
    assert six.packed == struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(443), 0, b"\0" * 15 + b"\1", 0)
    assert resolve("unix:/run/app.sock").packed == struct.pack("=H", socket.AF_UNIX) + b"/run/app.sock\0"
    named = resolve("localhost:443")
    assert named.host == "localhost"
    assert named.packed in {LOCAL.packed, six.packed}


@pytest.mark.parametrize("text", ["443", "/run/app.sock", "systemd:web", "nobody.invalid:443", "127.0.0.1:x", ":443"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(LoadError, match=r"\w"):
        resolve(text)


def test_names() -> None:
    assert server_name(Target("127.0.0.1:443"), LOCAL) == (None, "127.0.0.1")
    assert server_name(Target("127.0.0.1:443", server_name="a.example"), LOCAL) == ("a.example", "a.example")
    assert server_name(Target("localhost:443"), resolve("localhost:443")) == ("localhost", "localhost")
    assert server_name(Target("unix:/x"), resolve("unix:/x")) == (None, None)


def test_what_cannot_be_used_is_named(pki: Pki, tmp_path: Path) -> None:
    good = Target("127.0.0.1:443", ca=pki.root.path, certificate=pki.client.path, private_key=pki.client.key_path)
    context(good, LOCAL)
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        pki.client.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    missing = tmp_path / "missing"
    cases = {
        "--ca .*missing: No such file": [replace(good, ca=missing)],
        "--cert .*missing: No such file": [replace(good, certificate=missing)],
        "--key .*missing: No such file": [replace(good, private_key=missing)],
        "--ca .*junk.pem: no certificates in PEM": [replace(good, ca=junk)],
        "--cert .*junk.pem: no certificate in PEM": [replace(good, certificate=junk)],
        "--key .*junk.pem: no private key in PEM": [replace(good, private_key=junk)],
        "--cert .*: holds no private key; name its file with --key": [replace(good, private_key=None)],
        "the key has a password": [replace(good, private_key=locked)],
        "--key .*: not the key of the certificate": [replace(good, private_key=pki.server.key_path)],
        "a key without a certificate; name that with --cert": [replace(good, certificate=None)],
        "no such TLS version: 1.1": [replace(good, version="1.1")],
        "no cipher suite 'TLS_X'": [replace(good, suite="TLS_X")],
        "no cipher suite 'X'": [replace(good, suite="X")],
        "no group 'X'": [replace(good, group="X")],
    }
    for why, targets in cases.items():
        for one in targets:
            with pytest.raises(LoadError, match=why):
                context(one, LOCAL)
    with pytest.raises(LoadError, match=r"a UNIX socket has no name .* --server-name, .* --insecure"):
        context(good, resolve("unix:/x"))
    context(replace(good, verify=False), resolve("unix:/x"))


def test_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        raise_descriptor_limit(50)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 100
        raise_descriptor_limit(200)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 232
        with pytest.raises(LoadError, match=f"need {hard + 33} descriptors, and the limit is {hard}"):
            raise_descriptor_limit(hard + 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
