"""Certificate signing requests (PKCS#10, RFC 2986): made for an authority elsewhere, and read from who holds the key.

What a request asks for is a wish. Of it a certificate gets the names, each checked as if it had been typed; what it may be
used for is the profile's, and the rest (to be an authority, other purposes, names of other kinds) is left out and told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from nlbcore.dn import dn
from nlbcore.pki import keys, names, store
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.issue import PURPOSES, Request, Wanted, usage
from nlbcore.pki.keys import Passphrases, PrivateKey, PublicKey
from nlbcore.pki.store import Output, read
from nlbcore.pki.words import DEFAULT_KEY_TYPE

# What every leaf has anyway, or what is taken from the request.
_EXPECTED = {
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.KEY_USAGE,
}

_DAMAGE = (
    *(ValueError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


@dataclass(frozen=True)
class Signable:
    """A request that may be signed: what goes into the certificate, whose key it is, and what has been left out of it."""

    wanted: Wanted
    public_key: PublicKey
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """A request of ours in its file, beside its key."""

    subject: str
    sans: tuple[str, ...]
    request: Path
    private_key: Path

    def as_dict(self) -> dict[str, object]:
        return {
            "subject": self.subject,
            "sans": list(self.sans),
            "files": {"request": str(self.request), "private_key": str(self.private_key)},
        }


def write(
    request: Request,
    *,
    out: Path = Path(),
    key_file: Path | None = None,
    passphrases: Passphrases | None = None,
    force: bool = False,
) -> Written:
    """Write `NAME.csr` for a new key, which becomes `NAME.key`, or for the one in `key_file`.

    Args:
        request: what is asked for
        out: folder for the files, made with mode 0700 if it is not there
        key_file: of the key, if there is one
        passphrases: asked if that key is kept under one
        force: overwrite files that are there

    Raises:
        BadValue: the request makes no certificate.
        PkiError: the key cannot be read, or a file cannot be written.
    """
    wanted = request.checked()
    path, key_path = (out / f"{request.name}.{suffix}" for suffix in ("csr", "key"))
    if not force:
        store.refuse_existing([path] if key_file else [path, key_path])
    kind = request.key_type or DEFAULT_KEY_TYPE
    key = keys.new(kind) if key_file is None else keys.read_private(key_file, passphrases)
    outputs = [] if key_file else [Output(key_path, keys.pem(key))]
    store.make_folder(out)
    with store.staged([*outputs, Output(path, make(wanted, key))], replace=force) as publish:
        publish()
    sans = tuple(names.described(one) for one in wanted.sans)
    return Written(dn(wanted.subject), sans, path, key_file or key_path)


def make(wanted: Wanted, key: PrivateKey) -> bytes:
    """A request, PEM, signed with the key that it is for."""
    public_key = key.public_key()
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(wanted.subject)
        .add_extension(usage(wanted.profile, public_key), critical=True)
        .add_extension(x509.ExtendedKeyUsage([PURPOSES[wanted.profile]]), critical=False)
    )
    if wanted.sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(wanted.sans), critical=False)
    return builder.sign(key, keys.digest(key)).public_bytes(Encoding.PEM)


def load(path: Path, profile: str) -> Signable:
    """The request in a file, PEM or DER, as far as the profile allows it.

    Raises:
        PkiError: it is none, its signature is not its key's, its key is weak, or a name in it is none.
    """
    data = read(path)
    try:
        request = x509.load_pem_x509_csr(data) if b"-----BEGIN" in data else x509.load_der_x509_csr(data)
        subject, extensions = request.subject, list(request.extensions)
    except _DAMAGE:
        if b"CERTIFICATE-----" in data:
            raise PkiError(f"{path} is a certificate, not a certificate signing request") from None
        raise PkiError(f"{path} is not a certificate signing request (PKCS#10), or a damaged one") from None
    public_key = _key(path, request)
    left_out: list[str] = []
    try:
        name = _subject(subject, left_out)
        cn = next((str(one.value) for one in name.get_attributes_for_oid(NameOID.COMMON_NAME)), "")
        own, asked = list(names.of_common_name(cn)), list(_alternative_names(extensions, left_out))
        sans = list(dict.fromkeys([*own, *asked]))
    except BadValue as error:
        raise PkiError(f"{path}: {error}") from None
    if profile == "server" and not sans:
        raise PkiError(f"{path} names no host and no address, and clients of a server ask for one")
    if not list(name) and not sans:
        raise PkiError(f"{path} has neither a subject nor alternative names: nobody could tell whose it is")
    left_out += _others(extensions, profile)
    return Signable(Wanted(profile, name, sans, [one for one in own if one not in asked]), public_key, tuple(left_out))


def _key(path: Path, request: x509.CertificateSigningRequest) -> PublicKey:
    try:
        key = request.public_key()
        digest = request.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PkiError(f"{path}: its key or its signature is of a kind that is not known here: {error}") from None
    weak = keys.weakness(key)
    if weak is not None:
        raise PkiError(f"{path} is refused: {weak}")
    if digest is not None and digest.name in keys.OLD_DIGESTS:
        old = keys.OLD_DIGESTS[digest.name]
        raise PkiError(f"{path} is refused: it is signed with {old}, which can be forged; make it again with SHA-256")
    if not keys.signed_by(key, request):
        raise PkiError(f"{path} is refused: its signature is not that of its key, so nobody has shown to hold the key")
    assert isinstance(key, keys.PublicKey)
    return key


def _subject(subject: x509.Name, left_out: list[str]) -> x509.Name:
    """The attributes that a subject of ours may have, in the order of the request."""
    kept: list[x509.NameAttribute[str]] = []
    for attribute in subject:
        field = names.FIELDS.get(attribute.oid)
        if field is None or not isinstance(attribute.value, str):
            left_out.append(f"subject: {attribute.oid.dotted_string if field is None else field}")
            continue
        if field == "cn" and any(one.oid == attribute.oid for one in kept):
            raise BadValue("cn", attribute.value, "is the second common name, and a certificate has one")
        kept.append(names.attribute(field, attribute.value))
    return x509.Name(kept)


def _alternative_names(
    extensions: Sequence[x509.Extension[x509.ExtensionType]], left_out: list[str]
) -> Iterator[x509.GeneralName]:
    for extension in extensions:
        if not isinstance(extension.value, x509.SubjectAlternativeName):
            continue
        for name in extension.value:
            checked = names.checked(name)
            if checked is None:
                left_out.append(f"alternative name: {type(name).__name__}")
            else:
                yield checked


def _others(extensions: Sequence[x509.Extension[x509.ExtensionType]], profile: str) -> Iterator[str]:
    """What the request asks for beside names and does not get."""
    for extension in extensions:
        value = extension.value
        if extension.oid in _EXPECTED:
            if isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
                yield "keyUsage: to sign certificates or lists"
        elif isinstance(value, x509.BasicConstraints):
            if value.ca:
                yield "basicConstraints: to be an authority"
        elif isinstance(value, x509.ExtendedKeyUsage):
            more = [oid for oid in value if oid != PURPOSES[profile]]
            if more:
                yield f"extendedKeyUsage: {', '.join(oid._name for oid in more)}"  # noqa: SLF001 - no other door
        else:
            yield f"extension {extension.oid.dotted_string}"
