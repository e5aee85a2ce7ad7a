"""What is wrong with one certificate, request or revocation list by itself: a rule a function, in the order of `RULES`.

Each defect says what it is, why it matters and the command that makes it right. Errors are refused somewhere or dangerous;
warnings work until something stricter comes; notes are to be known.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ed448, ed25519
from cryptography.x509.oid import NameOID

from nlbcore.pki import bundle, index, keys, names
from nlbcore.pki.errors import BadValue
from nlbcore.pki.index import readable
from nlbcore.pki.inspect import extension, is_authority, names_of, purposes_of, subject_words
from nlbcore.pki.keys import OLD_DIGESTS
from nlbcore.pki.verify import digest, weaknesses

ERROR, WARNING, NOTE = "error", "warning", "note"

MAX_LEAF_DAYS = 825
"""Apple's limit for server certificates, those of private authorities too (support.apple.com/103769)."""


@dataclass(frozen=True)
class Defect:
    """One finding.

    Args:
        code: its name, for programs
        severity: error, warning or note
        subject: of which certificate, or the file
        what: what is there
        why: what follows from it
        fix: the command that makes it right
    """

    code: str
    severity: str
    subject: str
    what: str
    why: str
    fix: str


def acts_as_authority(certificate: x509.Certificate) -> bool:
    """As it says; without extensions (v1) a self-signed one is an authority, unless it is called like a host."""
    if certificate.version is x509.Version.v1 and Patient(certificate, Path(), index.now()).profile == "server":
        return False
    return is_authority(certificate)


@dataclass(frozen=True)
class Patient:
    """A certificate under examination: where it was found and when."""

    certificate: x509.Certificate
    path: Path
    now: dt.datetime

    @property
    def authority(self) -> bool:
        return acts_as_authority(self.certificate)

    @property
    def subject(self) -> str:
        return subject_words(self.certificate.subject)

    @property
    def common_name(self) -> str:
        found = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(found[-1].value) if found else ""

    @property
    def profile(self) -> str:
        """What it is for: as it says, or as its names let one guess."""
        own = purposes_of(self.certificate)
        for profile in ("server", "client"):
            if own == [profile]:
                return profile
        if names_of(self.certificate):
            hosts = any(name.startswith(("dns:", "ip:")) for name in names_of(self.certificate))
            return "server" if hosts else "client"
        return "server" if "." in self.common_name and is_host(self.common_name) else "client"

    @property
    def serves(self) -> bool:
        """Whether it may be used by a server."""
        own = purposes_of(self.certificate)
        return not own or "server" in own or "any" in own

    def reissue(self) -> str:
        """The command that makes a better one, for a leaf or an authority."""
        if self.authority and self.profile != "server":
            return command("ca", "init", "DIR", "--name", self.common_name or "Private CA")
        name = self.common_name or self.path.stem
        try:
            names.check_file_name(name)
        except BadValue:
            name = self.path.stem if self.path.stem not in {"", "-"} else "NAME"
        words = ["cert", "issue", name, "--ca", "DIR", "--profile", self.profile]
        if name != self.common_name and self.common_name:
            words += ["--cn", self.common_name]
        kinds = ("dns", "ip", "uri", "email")
        for one in names_of(self.certificate):
            kind, _, value = one.partition(":")
            if kind in kinds and value != self.common_name:
                words += [f"--{kind}", value]
        if self.profile == "server" and not names_of(self.certificate) and not is_host(self.common_name):
            words += ["--dns", "HOST"]
        return command(*words)


def command(*words: str) -> str:
    """An nlb command as it is typed."""
    return shlex.join(["nlb", *words])


def is_host(text: str) -> bool:
    """Whether it is a host name or an address."""
    try:
        names.dns(text)
    except BadValue:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return False
    return True


Found = Iterator[tuple[str, str, str, str]]
"""Code, severity, what and why."""


def of_certificate(patient: Patient) -> Iterator[Defect]:
    """All defects of a certificate."""
    for rule in RULES:
        for code, severity, what, why in rule(patient):
            yield Defect(code, severity, patient.subject, what, why, patient.reissue())


def _version(patient: Patient) -> Found:
    if patient.certificate.version is x509.Version.v1:
        why = "it can say neither its names nor what it is for, and nlb does not take it for a client (openssl x509 -req without -extfile)"
        yield "v1", ERROR, "it is of X.509 version 1, which has no extensions at all", why


def _names(patient: Patient) -> Found:
    if patient.authority:
        return
    sans = names_of(patient.certificate)
    if not sans and patient.serves:
        severity = ERROR if patient.profile == "server" else WARNING
        what = f'its name "{patient.common_name}" stands in the common name only: there is no subjectAltName'
        why = "browsers, Go, Python and most clients of today look at alternative names only and refuse such a server"
        yield "no-san", severity, what, why
    if not sans and not patient.common_name and not list(patient.certificate.subject):
        yield (
            "no-name",
            ERROR,
            "it has neither a subject nor alternative names",
            "no rule and no log can tell whose it is",
        )
    cn = patient.common_name
    if sans and patient.profile == "server" and is_host(cn) and not _covered(cn, sans):
        yield (
            "cn-not-in-san",
            WARNING,
            f'"{cn}" is its common name, but none of its alternative names',
            ("clients do not look at common names: for them it is not valid for that name"),
        )


def _covered(cn: str, sans: list[str]) -> bool:
    name = cn.lower().removesuffix(".")
    star = f"dns:*.{name.partition('.')[2]}"
    return any(one.lower() in {f"dns:{name}", f"ip:{name}", star} for one in sans)


def _wildcards(patient: Patient) -> Found:
    for one in names_of(patient.certificate):
        kind, _, value = one.partition(":")
        if kind != "dns":
            continue
        labels = value.removesuffix(".").split(".")
        if "*" in value:
            if labels[0] != "*" or "*" in "".join(labels[1:]):
                why = "a star stands for the whole first label only: clients take this one for no name at all"
                yield "wildcard", ERROR, f'"{value}" is not a wildcard that counts', why
            elif len(labels) < 3:
                why = "it would be valid for every name below a top-level domain: clients refuse it"
                yield "wildcard", ERROR, f'the wildcard "{value}" is too wide', why
            elif patient.profile == "client":
                why = "a client is somebody: a rule for one name does not match it, and nobody can tell who came"
                yield "wildcard", WARNING, f'a client is called "{value}"', why
        elif not is_host(value) or _numeric(value):
            why = "clients compare it with host names, and it is not one (an address belongs into ip:, a URI into uri:)"
            yield "bad-name", ERROR, f'the DNS name "{value}" is not one', why


def _numeric(value: str) -> bool:
    return re.fullmatch(r"[0-9.:]+", value) is not None


def _purpose(patient: Patient) -> Found:
    if patient.authority:
        return
    if not purposes_of(patient.certificate):
        what = "it does not say what it is for: there is no extended key usage"
        why = "a client can pose as the server with it and the reverse, and Apple's clients refuse such a server"
        yield "no-eku", WARNING, what, why
    if extension(patient.certificate, x509.BasicConstraints) is None:
        what = "it does not say that it is not an authority: there are no basicConstraints"
        why = "only the verifier's strictness keeps its owner from signing certificates with it"
        yield "no-basic-constraints", WARNING, what, why
    usage = extension(patient.certificate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        what = "its key usage lacks digitalSignature"
        yield "key-usage", ERROR, what, "TLS 1.3 and every key exchange with forward secrecy sign: peers refuse it"


def _authority(patient: Patient) -> Found:
    if not patient.authority:
        return
    certificate = patient.certificate
    if purposes_of(certificate) or (names_of(certificate) and patient.profile == "server"):
        what = "it is an authority, and made for a server or client too"
        why = "who holds this key can sign certificates for any name (openssl req -x509 makes such ones)"
        yield "authority-as-leaf", ERROR, what, why
    if certificate.version is x509.Version.v1:
        return
    usage = extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        yield (
            "authority-cannot-sign",
            ERROR,
            "its key usage lacks keyCertSign",
            "nothing that it has signed is accepted",
        )
    lacks = []
    if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).critical:
        lacks.append("its basicConstraints are not critical")
    if usage is None:
        lacks.append("it has no key usage")
    if extension(certificate, x509.SubjectKeyIdentifier) is None:
        lacks.append("it has no subject key identifier")
    if lacks:
        why = "strict verifiers (Python 3.13 and newer, openssl -x509_strict) refuse everything below it"
        yield "authority-not-strict", WARNING, " and ".join(lacks), why


def _identifiers(patient: Patient) -> Found:
    certificate = patient.certificate
    if certificate.version is x509.Version.v1 or certificate.issuer == certificate.subject:
        return
    if extension(certificate, x509.AuthorityKeyIdentifier) is None:
        what = "it does not say which key has signed it: there is no authority key identifier"
        yield (
            "no-key-identifier",
            WARNING,
            what,
            "strict verifiers (Python 3.13 and newer, openssl -x509_strict) refuse it",
        )


def _strength(patient: Patient) -> Found:
    certificate = patient.certificate
    own = bundle.self_signed(certificate)
    for text in weaknesses(certificate, signature=not (own and patient.authority)):
        code = "weak-signature" if "signed" in text else "weak-key"
        yield (
            code,
            ERROR,
            text,
            "nlb refuses it under every policy (weak_key), and so do browsers and OpenSSL's defaults",
        )
    key = certificate.public_key()
    if isinstance(key, dsa.DSAPublicKey):
        yield "weak-key", ERROR, "it has a DSA key", "TLS 1.3 and the policies of nlb know no DSA"
    edwards = isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
    if edwards and patient.serves and not patient.authority and patient.profile == "server":
        why = "browsers know no such server certificates"
        yield "ed25519-server", WARNING, "a server with a key of an Edwards curve", why


def _dates(patient: Patient) -> Found:
    certificate = patient.certificate
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end <= patient.now:
        yield "expired", ERROR, f"it has expired on {readable(end)}", "it is refused everywhere"
    if begin > patient.now:
        yield "not-yet-valid", ERROR, f"it is not valid before {readable(begin)}", "it is refused until then"
    days = (end - begin).days
    if not patient.authority and days > MAX_LEAF_DAYS:
        server = patient.profile == "server"
        why = f"Apple's clients refuse servers of more than {MAX_LEAF_DAYS} days, browsers public ones of more than 398"
        if not server:
            why = "a key that is lost stays good for so long wherever no revocation list is read"
        yield "long-life", ERROR if server else WARNING, f"it is valid for {days} days", why


def _serial(patient: Patient) -> Found:
    number = patient.certificate.serial_number
    if number <= 0 or number.bit_length() > 159:
        what = "its serial number is " + (
            "not positive" if number <= 0 else f"{number.bit_length() // 8 + 1} bytes long"
        )
        yield "bad-serial", WARNING, what, "RFC 5280 allows positive ones of 20 bytes; strict verifiers refuse it"


def _self_signed(patient: Patient) -> Found:
    if not patient.authority and bundle.self_signed(patient.certificate):
        what = "it is self-signed: nobody vouches for it but itself (openssl x509 -signkey makes such ones)"
        yield "self-signed", ERROR, what, "everybody would have to trust this one by hand, and it cannot be revoked"


RULES: tuple[Callable[[Patient], Found], ...] = (
    *(_version, _names, _wildcards, _purpose, _authority, _self_signed, _strength, _dates, _serial, _identifiers),
)


def of_request(request: x509.CertificateSigningRequest, path: Path) -> Iterator[Defect]:
    """All defects of a request (CSR)."""
    subject = subject_words(request.subject)
    again = command("cert", "csr", path.stem if path.stem not in {"", "-"} else "NAME")
    if not keys.signed_by(request.public_key(), request):
        why = "it is damaged, or who made it does not have the key: no authority signs it"
        yield Defect("bad-signature", ERROR, subject, "its signature is wrong", why, again)
    if not names_of(request):
        why = "an authority that adds none makes a certificate that browsers and most clients refuse as a server"
        yield Defect("no-san", WARNING, subject, "it asks for no alternative names", why, again)
    for text in weaknesses(request):
        code = "weak-signature" if "signed" in text else "weak-key"
        yield Defect(code, ERROR, subject, text, "authorities refuse it", again)


def of_list(made: x509.CertificateRevocationList, now: dt.datetime) -> Iterator[Defect]:
    """All defects of a revocation list by itself."""
    subject = f"list of {subject_words(made.issuer)}"
    again = command("ca", "crl", "DIR")
    due = made.next_update_utc
    if due is None:
        why = "nobody notices when no new ones come; a verifier would believe it for ever"
        yield Defect("no-next-update", WARNING, subject, "it is never due again", why, again)
    elif due <= now:
        why = "verifiers refuse every certificate of this authority until a new one is there"
        yield Defect("overdue", ERROR, subject, f"it is overdue since {readable(due)}", why, again)
    if extension(made, x509.CRLNumber) is None:
        why = "RFC 5280 wants one: with it a verifier tells an old list from a new one"
        yield Defect("no-crl-number", WARNING, subject, "it has no number", why, again)
    if digest(made) in OLD_DIGESTS:
        what = f"it is signed with {OLD_DIGESTS[digest(made)]}"
        yield Defect("weak-signature", ERROR, subject, what, "it can be forged, and strict verifiers refuse it", again)
