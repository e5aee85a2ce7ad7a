"""What is written into a certificate: the root, the intermediate, and the two kinds of leaf."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nlbcore.dn import dn
from nlbcore.pki import keys, names
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.index import readable, stamp
from nlbcore.pki.keys import PrivateKey, PublicKey
from nlbcore.pki.names import Subject
from nlbcore.pki.words import PROFILES

BACKDATE = dt.timedelta(minutes=5)
"""How long ago a new certificate or list begins, for machines whose clock is behind."""
MAX_DAYS = 36500


PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True)
class Term:
    """How long a certificate is to be valid.

    Args:
        days: from `not_before`; the authority's setting unless given
        not_before: when it begins, now unless given
        not_after: when it ends, instead of `days`
    """

    days: int | None = None
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None


@dataclass(frozen=True)
class Wanted:
    """A request whose names have been checked: what goes into the certificate."""

    profile: str
    subject: x509.Name
    sans: Sequence[x509.GeneralName]
    implied: Sequence[x509.GeneralName] = ()
    """Those of the alternative names that nobody has asked for: they are the common name."""


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
        key_type: one of `words.KEY_TYPES`; the authority's setting unless given
        term: how long it is valid, never longer than its issuer; the authority's setting unless given
    """

    name: str
    profile: str
    cn: str | None = None
    subject: Subject = field(default_factory=Subject)
    dns: Sequence[str] = ()
    ip: Sequence[str] = ()
    uri: Sequence[str] = ()
    email: Sequence[str] = ()
    key_type: str | None = None
    term: Term = field(default_factory=Term)

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
        asked = names.alternative_names(dns=self.dns, ip=self.ip, uri=self.uri, email=self.email)
        own = list(names.of_common_name(cn))
        sans = list(dict.fromkeys([*own, *asked]))
        if self.profile == "server" and not sans:
            raise BadValue("cn", cn, "is not a host name, and clients ask for one: --dns or --ip gives it")
        return Wanted(self.profile, subject, sans, [name for name in own if name not in asked])


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
    """From when to when.

    Args:
        begin: the first second
        end: the last second
        clamped: it would have ended after its issuer
        late: it was to begin before its issuer
    """

    begin: dt.datetime
    end: dt.datetime
    clamped: bool
    late: bool = False


def window(now: dt.datetime, days: int, issuer: x509.Certificate | None, term: Term | None = None) -> Window:
    """Validity from a little before now for so many days, never longer than the issuer's.

    Args:
        now: the time
        days: how long, unless `term` says
        issuer: whose validity is the limit; None for a root
        term: what is asked for instead

    Raises:
        BadValue: there is no such time.
        PkiError: the issuer itself is not valid now.
    """
    term = term or Term()
    begin, end = _asked(now, days if term.days is None else term.days, term)
    if issuer is None:
        return Window(begin, end, clamped=False)
    who = dn(issuer.subject)
    first, last = issuer.not_valid_before_utc, issuer.not_valid_after_utc
    if last <= now:
        raise PkiError(f"{who} has expired on {readable(last)}: it can sign nothing any more until it is renewed")
    if first > now:
        raise PkiError(f"{who} is not valid before {readable(first)}: is this machine's clock right?")
    if begin >= last:
        raise BadValue("not_before", stamp(begin), f"its authority ends before, on {readable(last)}")
    if end <= first:
        raise BadValue("not_after", stamp(end), f"its authority begins after, on {readable(first)}")
    # An ordinary begin, minutes before now, is not worth a word in the first minutes of an authority.
    late = term.not_before is not None and begin < first
    return Window(max(begin, first), min(end, last), clamped=end > last, late=late)


def _asked(now: dt.datetime, days: int, term: Term) -> tuple[dt.datetime, dt.datetime]:
    begin = now - BACKDATE if term.not_before is None else term.not_before
    if term.not_after is None:
        if not 1 <= days <= MAX_DAYS:
            raise BadValue("days", days, f"1 to {MAX_DAYS} days are possible")
        return begin, (term.not_before or now) + dt.timedelta(days=days)
    if term.days is not None:
        raise BadValue("days", term.days, "how long, or until when (--not-after): one of the two")
    if term.not_after <= begin:
        raise BadValue("not_after", stamp(term.not_after), f"it would end before it begins, on {readable(begin)}")
    if term.not_after - begin > dt.timedelta(days=MAX_DAYS) + BACKDATE:
        raise BadValue("not_after", stamp(term.not_after), f"1 to {MAX_DAYS} days are possible")
    return begin, term.not_after


def root(
    name: x509.Name, key: PrivateKey, validity: Window, permitted: x509.NameConstraints | None = None
) -> x509.Certificate:
    builder = _builder(name, name, key.public_key(), validity)
    builder = _authority(builder, name, permitted, path_length=None)
    return builder.sign(key, keys.digest(key))


def intermediate(
    name: x509.Name,
    public_key: PublicKey,
    signer: Signer,
    validity: Window,
    permitted: x509.NameConstraints | None = None,
) -> x509.Certificate:
    """An authority that signs leaves and no further authority."""
    builder = _builder(name, signer.certificate.subject, public_key, validity)
    builder = _authority(builder, name, permitted, path_length=0).add_extension(signer.key_identifier, critical=False)
    return builder.sign(signer.key, keys.digest(signer.key))


def leaf(wanted: Wanted, public_key: PublicKey, signer: Signer, validity: Window) -> x509.Certificate:
    builder = (
        _builder(wanted.subject, signer.certificate.subject, public_key, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(wanted.profile, public_key), critical=True)
        .add_extension(x509.ExtendedKeyUsage([PURPOSES[wanted.profile]]), critical=False)
        .add_extension(signer.key_identifier, critical=False)
    )
    if wanted.sans:
        # RFC 5280, 4.2.1.6: critical where they are all the names that there are.
        nameless = not list(wanted.subject)
        builder = builder.add_extension(x509.SubjectAlternativeName(wanted.sans), critical=nameless)
    return builder.sign(signer.key, keys.digest(signer.key))


def usage(profile: str, public_key: PublicKey) -> x509.KeyUsage:
    """What a leaf's key is for: it signs handshakes.

    The key exchange of TLS 1.2 without forward secrecy encrypts with the server's RSA key; nothing else does.
    """
    return _usage(
        digital_signature=True, key_encipherment=profile == "server" and isinstance(public_key, rsa.RSAPublicKey)
    )


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


def _authority(
    builder: x509.CertificateBuilder,
    name: x509.Name,
    permitted: x509.NameConstraints | None,
    *,
    path_length: int | None,
) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    builder = builder.add_extension(constraints, critical=True).add_extension(_usage(authority=True), critical=True)
    # RFC 5280, 4.1.2.6: a mailbox in the subject stands in the alternative names too.
    mailboxes = [x509.RFC822Name(str(one.value)) for one in name.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)]
    if mailboxes:
        builder = builder.add_extension(x509.SubjectAlternativeName(mailboxes), critical=False)
    return builder if permitted is None else builder.add_extension(permitted, critical=True)


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
