"""A TLS 1.3 client whose last flight is made by hand: its certificate, the proof that it has the key, and Finished, in any order,
left out or changed, all encrypted and summed up as they should be. (RFC 8446 sections 4.4, 5.2 and 7.1.)
"""

from __future__ import annotations

import hashlib
import hmac
import select
import struct
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.support.tls_client import TIMEOUT, TlsClient

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.support.certs import Issued

HANDSHAKE, DATA = 22, 23
CERTIFICATE, CERTIFICATE_VERIFY, FINISHED = 11, 15, 20
ECDSA_P256_SHA256 = b"\x04\x03"


class Keys:
    """One direction of one stage of a connection, by its traffic secret; AES-128-GCM with SHA-256."""

    def __init__(self, secret: bytes) -> None:
        self.finished = self._expand(secret, b"finished", 32)
        self._aead = AESGCM(self._expand(secret, b"key", 16))
        self._iv = int.from_bytes(self._expand(secret, b"iv", 12), "big")
        self._number = 0

    def seal(self, content: bytes, kind: int) -> bytes:
        """A record."""
        header = b"\x17\x03\x03" + struct.pack(">H", len(content) + 17)
        return header + self._aead.encrypt(self._nonce(), content + bytes([kind]), header)

    def open(self, record: bytes) -> bytes:
        """What is in one, without its type."""
        return self._aead.decrypt(self._nonce(), record[5:], record[:5]).rstrip(b"\0")[:-1]

    def _nonce(self) -> bytes:
        self._number += 1
        return (self._iv ^ (self._number - 1)).to_bytes(12, "big")

    @staticmethod
    def _expand(secret: bytes, label: bytes, length: int) -> bytes:
        full = b"tls13 " + label
        info = struct.pack(">H", length) + bytes([len(full)]) + full + b"\0"
        return HKDFExpand(algorithm=hashes.SHA256(), length=length, info=info).derive(secret)


class ForgedFlight(TlsClient):
    """Connected, and at the point where it would send its last flight.

    Args:
        address: see `connect`
        context: of TLS 1.3, logging to `keylog`
        keylog: the file, for this connection alone
    """

    def __init__(self, address: int, context: ssl.SSLContext, keylog: Path) -> None:
        super().__init__(address, context)
        hello = self.first_flight()
        self.send_raw(hello)
        self.held = True
        heard = bytearray()
        while not self._pending:
            assert select.select([self.sock], [], [], TIMEOUT)[0], "no answer to the ClientHello"
            data = self.sock.recv(65536)
            assert data, "refused before the last flight"
            heard += data
            self._in.write(data)
            self.step()
        self._pending.clear()
        self.held = False
        lines = [line.split() for line in keylog.read_text().splitlines() if not line.startswith("#")]
        secrets = {label: bytes.fromhex(secret) for label, _, secret in lines}
        server = Keys(secrets["SERVER_HANDSHAKE_TRAFFIC_SECRET"])
        self._handshake = Keys(secrets["CLIENT_HANDSHAKE_TRAFFIC_SECRET"])
        self._data = Keys(secrets["CLIENT_TRAFFIC_SECRET_0"])
        self._messages = hello[5:]
        for record in _records(bytes(heard)):
            if record[0] == HANDSHAKE:
                self._messages += record[5:]
            elif record[0] == DATA:
                self._messages += server.open(record)

    # messages

    @staticmethod
    def certificate(*chain: Issued, context: bytes = b"") -> bytes:
        """Leaf first."""
        listed = b"".join(len(one.der).to_bytes(3, "big") + one.der + b"\0\0" for one in chain)
        return _message(CERTIFICATE, bytes([len(context)]) + context + len(listed).to_bytes(3, "big") + listed)

    def verify(self, issued: Issued, *before: bytes, role: bytes = b"client") -> bytes:
        """A proof that one has the key of that certificate, with `before` as the messages of this flight before it."""
        assert isinstance(issued.key, ec.EllipticCurvePrivateKey)
        content = b" " * 64 + b"TLS 1.3, " + role + b" CertificateVerify\0" + self._digest(*before)
        signature = issued.key.sign(content, ec.ECDSA(hashes.SHA256()))
        return _message(CERTIFICATE_VERIFY, ECDSA_P256_SHA256 + struct.pack(">H", len(signature)) + signature)

    def finished(self, *before: bytes) -> bytes:
        """The end of the flight."""
        return _message(FINISHED, hmac.digest(self._handshake.finished, self._digest(*before), "sha256"))

    def _digest(self, *before: bytes) -> bytes:
        return hashlib.sha256(self._messages + b"".join(before)).digest()

    # sending

    def fly(self, *messages: bytes) -> None:
        """Send them as they are."""
        self.send_raw(b"".join(self._handshake.seal(one, HANDSHAKE) for one in messages))

    def say(self, content: bytes, kind: int = DATA) -> None:
        """Something under the keys of after the handshake."""
        self.send_raw(self._data.seal(content, kind))


def _message(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(3, "big") + content


def _records(data: bytes) -> list[bytes]:
    found = []
    while data:
        length = 5 + int.from_bytes(data[3:5], "big")
        found.append(data[:length])
        data = data[length:]
    return found
