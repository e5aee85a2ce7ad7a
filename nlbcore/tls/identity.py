"""What the log says of a client certificate. Claimed, not proven, on a refused line."""

from __future__ import annotations

import hashlib
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509

from nlbcore.dn import dn

if TYPE_CHECKING:
    from collections.abc import Callable


NO_ISSUER = 20  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
_KINDS: dict[str, type[x509.GeneralName]] = {
    "dns": x509.DNSName,
    "ip": x509.IPAddress,
    "uri": x509.UniformResourceIdentifier,
    "email": x509.RFC822Name,
}


@lru_cache(maxsize=512)
def describe(der: bytes) -> dict[str, object]:
    """The access log's ``client_cert_*`` fields of a DER certificate.

    Subject and issuer are RFC 4514 strings, the serial number is hexadecimal as openssl prints it, the fingerprint
    lower-case hexadecimal. What cannot be read is left out: a hostile certificate must not cost its log line.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd in a stranger's certificate is not ours to warn about
        return _describe(der)


def reason(text: str, verify_error: int, verify_depth: int, issuer: object) -> str:
    """What is said beside the word of a verdict about a client certificate, by the log and by `nlb explain`.

    Args:
        text: what the engine says
        verify_error: OpenSSL's result, or the engine's own; 0: it is not about a certificate
        verify_depth: of the certificate in the chain that it is about; 0 is the client's
        issuer: of the client's certificate, as ``describe`` has it; None if it cannot be read, empty if it has no name
    """
    if verify_error == NO_ISSUER and verify_depth == 0:
        return f"issuer {issuer or 'unknown'} not found"
    return f"{text}, certificate at depth {verify_depth}" if verify_error and verify_depth else text


@lru_cache(maxsize=512)
def name_text(der: bytes) -> str | None:
    """A subject alone, DER, as the other fields have it; None for none and for one that cannot be read.

    It is put into a revocation list that is empty otherwise: `cryptography` reads no Name that stands alone.
    """
    if not der:
        return None
    algorithm = _sequence(bytes.fromhex("06032b6570"))
    date = bytes.fromhex("170d") + b"700101000000Z"
    made = _sequence(_sequence(algorithm, der, date), algorithm, bytes.fromhex("030100"))
    fields: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _put(fields, "name", lambda: dn(x509.load_der_x509_crl(made).issuer))
    return str(fields["name"]) if fields.get("name") else None


def _sequence(*contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 128:
        return bytes([0x30, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x30, 0x80 | len(octets)]) + octets + content


def _describe(der: bytes) -> dict[str, object]:
    fields: dict[str, object] = {}
    try:
        certificate = x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):
        return {"client_cert_sha256": hashlib.sha256(der).hexdigest()}
    _put(fields, "client_cert_subject", lambda: dn(certificate.subject))
    _put(fields, "client_cert_issuer", lambda: dn(certificate.issuer))
    _put(fields, "client_cert_serial", lambda: _hex(certificate.serial_number))
    fields["client_cert_sha256"] = hashlib.sha256(der).hexdigest()
    _put(fields, "client_cert_not_after", lambda: certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"))
    _put(fields, "client_cert_sans", lambda: _sans(certificate))
    return fields


def _put(fields: dict[str, object], key: str, read: Callable[[], object]) -> None:
    try:
        value = read()
    except Exception:  # noqa: BLE001 - the parsers raise several kinds for what a client may send
        return
    if value is not None:
        fields[key] = value


def _sans(certificate: x509.Certificate) -> list[str] | None:
    """Alternative names as ``dns:``, ``ip:``, ``uri:``, ``email:`` - the forms of the identity rules."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return [f"{kind}:{name.value}" for name in names for kind in _KINDS if isinstance(name, _KINDS[kind])]


def _hex(number: int) -> str:
    """Whole bytes, as openssl prints a serial number."""
    text = f"{number:X}"
    return text.rjust(len(text) + len(text) % 2, "0")
