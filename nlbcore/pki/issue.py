"""What is written into a certificate: the root, the intermediate, and the two kinds of leaf."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from nlbcore.pki import keys, names
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.index import readable
from nlbcore.pki.keys import PrivateKey, PublicKey
from nlbcore.pki.names import Subject
from nlbcore.pki.words import PROFILES

BACKDATE = dt.timedelta(minutes=5)
"""How long ago a new certificate or list begins, for machines whose clock is behind."""
MAX_DAYS = 36500


PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True)
class Wanted:
    """A request whose names have been checked: what goes into the certificate."""

    profile: str
    subject: x509.Name
    sans: Sequence[x509.GeneralName]


@dataclass(frozen=True)
class Request:
    """What a leaf is to be.

    Args:
        name: of its files and in the index; a later certificate may have it too
        profile: what it may be used for: "server" or "client"
        cn: common name, `name` unless given; if it is a host name, an address, a URI or a mailbox, it becomes an
            alternative name too
        subject: what the subject says beside the common name
        dns: alternative names: host names (`*.` may stand for the first label)
        ip: alternative names: addresses
        uri: alternative names: absolute URIs
        email: alternative names: mailboxes
        days: validity, never longer than its issuer's; the authority's setting unless given
        key_type: one of `words.KEY_TYPES`; the authority's setting unless given
    """

    name: str
    profile: str
    cn: str | None = None
    subject: Subject = field(default_factory=Subject)
    dns: Sequence[str] = ()
    ip: Sequence[str] = ()
    uri: Sequence[str] = ()
    email: Sequence[str] = ()
    days: int | None = None
    key_type: str | None = None

    def checked(self) -> Wanted:
        """The names in the form that a certificate has them.

        Raises:
            BadValue: one of them is none.
        """
        if self.profile not in PROFILES:
            raise BadValue("profile", self.profile, f"one of {', '.join(PROFILES)} is meant")
        names.check_file_name(self.name)
        cn = self.name if self.cn is None else self.cn
        subject = self.subject.name(cn)
        sans = names.alternative_names(cn, dns=self.dns, ip=self.ip, uri=self.uri, email=self.email)
        if self.profile == "server" and not sans:
            raise BadValue("cn", cn, "is no host name, and clients ask for one: --dns or --ip gives it")
        return Wanted(self.profile, subject, sans)


@dataclass(frozen=True)
class Signer:
    """A certificate and its key: who signs."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """What whoever is signed says of the signer's key: the signer's own identifier of it."""
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


@dataclass(frozen=True)
class Window:
    """From when to when; `clamped` if it would have been longer than the issuer's."""

    begin: dt.datetime
    end: dt.datetime
    clamped: bool


def window(now: dt.datetime, days: int, issuer: x509.Certificate | None) -> Window:
    """Validity from a little before now for so many days, never longer than the issuer's.

    Raises:
        PkiError: the issuer itself is not valid now.
    """
    if not 1 <= days <= MAX_DAYS:
        raise BadValue("days", days, f"1 to {MAX_DAYS} days are possible")
    begin, end = now - BACKDATE, now + dt.timedelta(days=days)
    if issuer is None:
        return Window(begin, end, clamped=False)
    who = issuer.subject.rfc4514_string()
    first, last = issuer.not_valid_before_utc, issuer.not_valid_after_utc
    if last <= now:
        raise PkiError(f"{who} has expired on {readable(last)}: it can sign nothing any more")
    if first > now:
        raise PkiError(f"{who} is not valid before {readable(first)}: is this machine's clock right?")
    return Window(max(begin, first), min(end, last), clamped=end > last)


def root(name: x509.Name, key: PrivateKey, validity: Window) -> x509.Certificate:
    builder = _builder(name, name, key.public_key(), validity)
    builder = _authority(builder, path_length=None)
    return builder.sign(key, keys.digest(key))


def intermediate(name: x509.Name, public_key: PublicKey, signer: Signer, validity: Window) -> x509.Certificate:
    """An authority that signs leaves and no further authority."""
    builder = _builder(name, signer.certificate.subject, public_key, validity)
    builder = _authority(builder, path_length=0).add_extension(signer.key_identifier, critical=False)
    return builder.sign(signer.key, keys.digest(signer.key))


def leaf(wanted: Wanted, public_key: PublicKey, signer: Signer, validity: Window) -> x509.Certificate:
    is_rsa = isinstance(public_key, rsa.RSAPublicKey)
    builder = (
        _builder(wanted.subject, signer.certificate.subject, public_key, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # The key exchange of TLS 1.2 without forward secrecy encrypts with the server's RSA key; nothing else does.
        .add_extension(
            _usage(digital_signature=True, key_encipherment=is_rsa and wanted.profile == "server"), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([PURPOSES[wanted.profile]]), critical=False)
        .add_extension(signer.key_identifier, critical=False)
    )
    if wanted.sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(wanted.sans), critical=False)
    return builder.sign(signer.key, keys.digest(signer.key))


def _builder(subject: x509.Name, issuer: x509.Name, public_key: PublicKey, validity: Window) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())  # 160 bits, positive
        .not_valid_before(validity.begin)
        .not_valid_after(validity.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority(builder: x509.CertificateBuilder, *, path_length: int | None) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    return builder.add_extension(constraints, critical=True).add_extension(_usage(authority=True), critical=True)


def _usage(
    *, digital_signature: bool = False, key_encipherment: bool = False, authority: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
