"""The certificates of a comparison: one root, a server, a client, all P-256, the leaves directly under the root.

One level, so that the work of a handshake is the smallest that mutual TLS has: one signature and one certificate to
check on each side. Whatever needs another chain gives a folder of its own.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from nlbcore.errors import NlbError
from nlbcore.pki import issue, keys

NAME = "www.example.com"
DAYS = 30
FILES = ("root.crt", "root.key", "server.crt", "server.key", "client.crt", "client.key")


@dataclass(frozen=True)
class Material:
    """Where the certificates are; the server's is for `NAME`."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root.crt"

    @property
    def server(self) -> Path:
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        return self.folder / "server.key"

    @property
    def client(self) -> Path:
        return self.folder / "client.crt"

    @property
    def client_key(self) -> Path:
        return self.folder / "client.key"


def provide(folder: Path) -> Material:
    """The material in a folder: what is there, or made anew in an empty or new one.

    Raises:
        NlbError: some of the files are there and others are not
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = [name for name in FILES if (folder / name).exists()]
    if not there:
        _make(folder)
    elif missing := [name for name in FILES if name not in there and name != "root.key"]:
        raise NlbError(f"{folder} has {', '.join(there)}, but not {', '.join(missing)}: an empty folder is filled")
    return Material(folder)


def renew_server(material: Material, folder: Path) -> tuple[Path, Path]:
    """A new certificate for the server with a new key, from the same root, in another folder: what a reload brings.

    Raises:
        NlbError: the folder of the material has no root.key
    """
    try:
        certificate = x509.load_pem_x509_certificate(material.root.read_bytes())
        key = load_pem_private_key((material.folder / "root.key").read_bytes(), None)
    except FileNotFoundError as error:
        raise NlbError(f"a certificate cannot be renewed without {error.filename}") from None
    _leaf(folder, "server", issue.Signer(certificate, key))  # type: ignore[arg-type]
    return folder / "server.crt", folder / "server.key"


def _make(folder: Path) -> None:
    key = keys.new("ec-p256")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nlb bench")])
    certificate = issue.root(name, key, issue.window(dt.datetime.now(dt.UTC), DAYS, None))
    _write(folder / "root.crt", certificate.public_bytes(Encoding.PEM))
    _write(folder / "root.key", keys.pem(key))
    signer = issue.Signer(certificate, key)
    _leaf(folder, "server", signer)
    _leaf(folder, "client", signer)


def _leaf(folder: Path, profile: str, signer: issue.Signer) -> None:
    request = issue.Request(profile, profile, cn=NAME if profile == "server" else None)
    key = keys.new("ec-p256")
    validity = issue.window(dt.datetime.now(dt.UTC), DAYS, signer.certificate)
    certificate = issue.leaf(request.checked(), key.public_key(), signer, validity)
    _write(folder / f"{profile}.crt", certificate.public_bytes(Encoding.PEM))
    _write(folder / f"{profile}.key", keys.pem(key))


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
