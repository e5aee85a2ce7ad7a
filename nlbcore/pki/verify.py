"""Whether a certificate would be accepted, and why not: chain, dates, purpose, names, strength and revocation, each in words.

OpenSSL judges, as it does in the balancer. It stops at the first thing that is wrong, so it is asked about one thing at a time
(the chain without dates, the purpose without either, ...), and at the end about everything at once: what it refuses is
never called good here.

A certificate of the CA file is trusted as it stands there, also an intermediate one, as by a listener's `ca`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.bindings._rust import _openssl
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import crypto

from nlbcore.pki import contents, inspect, names
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.index import readable
from nlbcore.pki.inspect import is_authority, names_of, purposes_of, subject_words
from nlbcore.pki.keys import OLD_DIGESTS

_lib: Any = _openssl.lib
_PURPOSES = {"client": 1, "server": 2}  # X509_PURPOSE_SSL_CLIENT, X509_PURPOSE_SSL_SERVER
_NO_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME
_PARTIAL = crypto.X509StoreFlags.PARTIAL_CHAIN
_NO_ISSUER = frozenset({2, 20, 21})  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT and its kin

OK, WARNING, CRITICAL = "ok", "warning", "critical"
_RANK = {OK: 0, WARNING: 1, CRITICAL: 2}
MIN_RSA_BITS = 2048
MIN_EC_BITS = 224
"""Weaker keys are refused by the balancer, and by Debian's OpenSSL."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        certificate: the one to judge
        untrusted: what came with it: intermediates
        trusted: of the CA file
        lists: revocation lists; empty if revocation is not asked about
        purpose: "client", "server" or None
        name: a host name, address, URI or mailbox that it must be valid for, or None
        now: the time to judge at
        warn_days: fewer days left are a warning
        warn_crl_days: the same for the next revocation list
    """

    certificate: x509.Certificate
    trusted: Sequence[x509.Certificate]
    now: dt.datetime
    untrusted: Sequence[x509.Certificate] = ()
    lists: Sequence[x509.CertificateRevocationList] = ()
    purpose: str | None = None
    name: str | None = None
    warn_days: int = 7
    warn_crl_days: int = 1


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    about: str
    status: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """All that was looked at; the worst counts."""

    checks: tuple[Check, ...]
    chain: tuple[x509.Certificate, ...]
    """As far as it could be built, the certificate first."""
    days_left: int

    @property
    def status(self) -> str:
        return max((check.status for check in self.checks), key=_RANK.__getitem__)

    @property
    def exit_code(self) -> int:
        """As monitoring plugins have it: 0 OK, 1 WARNING, 2 CRITICAL."""
        return _RANK[self.status]

    @property
    def reason(self) -> str:
        """The first of the worst, in words."""
        return next(check.text for check in self.checks if check.status == self.status)


@dataclass(frozen=True)
class _Refusal:
    """What OpenSSL says."""

    code: int
    message: str
    certificate: x509.Certificate


def verify(question: Question) -> Verdict:
    """The verdict.

    Raises:
        BadValue: the name is none.
        PkiError: OpenSSL cannot read what `cryptography` could.
    """
    with contents.tolerant():
        try:
            return _verify(question)
        except contents.UNREADABLE:
            raise PkiError("one of the certificates or lists is damaged, or of a kind that cannot be read") from None


def _verify(question: Question) -> Verdict:
    chain, refusal, flags = _chain(question)
    checks = [_chain_check(question, chain, refusal)]
    checks += _order_checks(question)
    checks += _date_checks(question, chain)
    checks.append(_purpose_check(question, flags))
    checks.append(_name_check(question))
    checks.append(_strength_check(chain))
    if question.lists:
        checks += _list_checks(question, chain)
    if all(check.status != CRITICAL for check in checks):
        checks += _whole(question, flags)
    left = inspect.days_left(min(one.not_valid_after_utc for one in chain), question.now)
    return Verdict(tuple(checks), tuple(chain), left)


def _ask(
    question: Question,
    flags: int,
    *,
    alone: bool = False,
    prepare: Callable[[Any], None] | None = None,
    lists: bool = False,
) -> tuple[list[x509.Certificate], _Refusal | None]:
    """OpenSSL's answer: the chain, or what is wrong; `alone`: about the certificate itself, as if it were trusted."""
    trusted, untrusted = ([question.certificate], []) if alone else (question.trusted, question.untrusted)
    store = crypto.X509Store()
    try:
        for one in trusted:
            store.add_cert(crypto.X509.from_cryptography(one))
        for made in question.lists if lists else ():
            store.add_crl(made)
        chain = [crypto.X509.from_cryptography(one) for one in untrusted]
        context = crypto.X509StoreContext(store, crypto.X509.from_cryptography(question.certificate), chain)
    except (crypto.Error, ValueError):
        raise PkiError("OpenSSL cannot read one of the certificates or lists") from None
    store.set_time(question.now)
    if prepare is not None:
        prepare(store._store)  # noqa: SLF001 - pyOpenSSL has no purpose and no name of its own
    store.set_flags(flags)
    try:
        return [one.to_cryptography() for one in context.get_verified_chain()], None
    except crypto.X509StoreContextError as error:
        code, _, message = error.errors
        return [], _Refusal(code, message, error.certificate.to_cryptography())


def _purpose(name: str) -> Callable[[Any], None]:
    return lambda store: _lib.X509_STORE_set_purpose(store, _PURPOSES[name])


# -- chain ------------------------------------------------------------------------------------------------------------


def _chain(question: Question) -> tuple[list[x509.Certificate], _Refusal | None, int]:
    """The chain, whatever its dates; why there is none; and the flags that it was found with.

    First up to a root, so that all of it can be told, then to whatever is trusted.
    """
    for flags in (0, _PARTIAL):
        chain, refusal = _ask(question, flags | _NO_TIME)
        if refusal is None:
            return chain, None, flags
        if refusal.code not in _NO_ISSUER:
            break
    return [question.certificate], refusal, flags


def _chain_check(question: Question, chain: Sequence[x509.Certificate], refusal: _Refusal | None) -> Check:
    if refusal is not None:
        return Check("chain", CRITICAL, _chain_words(question, refusal))
    told = " <- ".join(subject_words(one.subject) for one in chain)
    partial = "" if chain[-1].subject == chain[-1].issuer else ", which is trusted although it is not a root"
    return Check("chain", OK, told + partial)


def _chain_words(question: Question, refusal: _Refusal) -> str:
    who = subject_words(refusal.certificate.subject)
    issuer = subject_words(refusal.certificate.issuer)
    if refusal.code in _NO_ISSUER:
        known = [one for one in (*question.trusted, *question.untrusted) if one.subject == refusal.certificate.issuer]
        if known:
            return f"{who} says that {issuer} has issued it, but the certificate of that name has another key"
        return f"{issuer}, which has issued {who}, is neither in the CA file nor among the certificates that came along"
    texts = {
        18: f"{who} is self-signed and not in the CA file: nobody who is trusted vouches for it",
        19: f"the chain ends with {who}, which is not in the CA file",
        7: f"the signature of {who} is wrong: {issuer} has not made it, or the certificate is damaged",
        24: f"{who} is not an authority, but has issued a certificate of the chain",
        25: f"there are more authorities below {who} than its path length allows",
        34: f"{who} has a critical extension that OpenSSL does not know",
        47: f"{who} has a name outside of what an authority above it may sign (name constraints)",
        48: f"{who} has a name that an authority above it must not sign (name constraints)",
        79: f"{who} is not an authority (its basicConstraints), but has issued a certificate of the chain",
    }
    return texts.get(refusal.code, f"{who}: {refusal.message}")


def _order_checks(question: Question) -> Iterator[Check]:
    """A leaf behind an authority: whoever shows this file shows the wrong certificate."""
    behind = [one for one in question.untrusted if not is_authority(one)]
    if is_authority(question.certificate) and behind:
        own, leaf = subject_words(question.certificate.subject), subject_words(behind[0].subject)
        text = f"{own}, an authority, comes first, and {leaf} behind it: `nlb cert bundle` puts them in order"
        yield Check("order", WARNING, text)


# -- dates, purpose, names, strength ------------------------------------------------------------------------------------


def _date_checks(question: Question, chain: Sequence[x509.Certificate]) -> Iterator[Check]:
    """One for the certificate, and one for each above it that is not good for as long as is asked for."""
    for number, one in enumerate(chain):
        who = "" if number == 0 else f"{subject_words(one.subject)} "
        begin, end = one.not_valid_before_utc, one.not_valid_after_utc
        left = inspect.days_left(end, question.now)
        if end <= question.now:
            yield Check("dates", CRITICAL, f"{who}expired on {readable(end)}")
        elif begin > question.now:
            yield Check("dates", CRITICAL, f"{who}is not valid before {readable(begin)}")
        elif left < question.warn_days:
            yield Check("dates", WARNING, f"{who}expires on {readable(end)}: {inspect.left_words(left)}")
        elif number == 0:
            yield Check("dates", OK, f"valid until {readable(end)}: {inspect.left_words(left)}")


def _purpose_check(question: Question, flags: int) -> Check:
    own = purposes_of(question.certificate)
    silent = "signing certificates" if is_authority(question.certificate) else "anything: it does not say"
    told = ", ".join(own) or silent
    wanted = question.purpose
    if wanted is None:
        return Check("purpose", OK, f"it is for {told}")
    if wanted == "client" and is_authority(question.certificate):
        return Check("purpose", CRITICAL, "it is an authority's certificate, which nlb does not take for a client")
    if wanted == "client" and question.certificate.version is x509.Version.v1:
        return Check("purpose", CRITICAL, "it is of X.509 version 1, which nlb does not take for a client")
    _, refusal = _ask(question, _PARTIAL | _NO_TIME, alone=True, prepare=_purpose(wanted))
    if refusal is None:
        _, refusal = _ask(question, flags | _NO_TIME, prepare=_purpose(wanted))
        if refusal is None or refusal.code != 26:
            return Check("purpose", OK, f"good for a {wanted}" + ("" if own else ", as for anything: it does not say"))
        who = f"{subject_words(refusal.certificate.subject)} above it is"
        return Check("purpose", CRITICAL, f"{who} for {', '.join(purposes_of(refusal.certificate)) or 'other things'}")
    if own and wanted not in own and "any" not in own:
        text = f"it is for {told}, not for a {wanted} (extended key usage)"
    else:
        text = f"its key usage does not allow what a {wanted} does"
    return Check("purpose", CRITICAL, text)


def _name_check(question: Question) -> Check:
    own = names_of(question.certificate)
    listed = ", ".join(own) or "no alternative names"
    if question.name is None:
        if question.purpose == "server" and not any(name.startswith(("dns:", "ip:")) for name in own):
            return Check("names", WARNING, f"{listed}: browsers and most clients refuse such a server")
        return Check("names", OK, listed)
    if _named(question, question.name):
        return Check("names", OK, f"valid for {question.name} ({listed})")
    return Check("names", CRITICAL, f"not valid for {question.name}, but for: {listed}")


def _named(question: Question, name: str) -> bool:
    """Whether the certificate is valid for the name: OpenSSL's rules for hosts and addresses, without common names."""
    try:
        if "://" in name:
            return f"uri:{names.uri(name)}" in names_of(question.certificate)
        if "@" in name:
            return f"email:{names.email(name)}" in names_of(question.certificate)
        address = _address(name)
        name = name if address else names.dns(name)
    except BadValue as error:
        raise BadValue("name", error.value, error.reason) from None

    def prepare(store: Any) -> None:
        param = _openssl.ffi.gc(_lib.X509_VERIFY_PARAM_new(), _lib.X509_VERIFY_PARAM_free)
        if address:
            _lib.X509_VERIFY_PARAM_set1_ip(param, address, len(address))
        else:
            rules = _lib.X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | _lib.X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS
            _lib.X509_VERIFY_PARAM_set_hostflags(param, rules)
            _lib.X509_VERIFY_PARAM_set1_host(param, name.encode(), 0)
        _lib.X509_STORE_set1_param(store, param)

    _, refusal = _ask(question, _PARTIAL | _NO_TIME, alone=True, prepare=prepare)
    return refusal is None


def _address(name: str) -> bytes:
    """The bytes of an IP address, none if it is another name."""
    try:
        return ipaddress.ip_address(name).packed
    except ValueError:
        return b""


def weaknesses(
    certificate: x509.Certificate | x509.CertificateSigningRequest, *, signature: bool = True
) -> Iterator[str]:
    """What is too weak about it; `signature`: its signature counts too, as it does for all but trusted certificates."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        yield f"its RSA key has {key.key_size} bits only"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < MIN_EC_BITS:
        yield f"its EC key has {key.key_size} bits only"
    signed = digest(certificate) if signature else ""
    if signed in OLD_DIGESTS:
        yield f"it is signed with {OLD_DIGESTS[signed]}, which can be forged"


def digest(of: x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList) -> str:
    """The digest that was signed, for example sha256; empty if its kind of signature has none, or is not known."""
    try:
        algorithm = of.signature_hash_algorithm
    except UnsupportedAlgorithm:  # newer than `cryptography`
        return ""
    return algorithm.name if algorithm is not None else ""


def _strength_check(chain: Sequence[x509.Certificate]) -> Check:
    for number, one in enumerate(chain):
        trusted = number == len(chain) - 1 and number > 0
        for text in weaknesses(one, signature=not trusted):
            return Check("strength", CRITICAL, f"{subject_words(one.subject)}: {text}: refused as weak_key")
    return Check("strength", OK, ", ".join(dict.fromkeys(inspect.key_words(one.public_key()) for one in chain)))


# -- revocation -------------------------------------------------------------------------------------------------------


def _list_checks(question: Question, chain: Sequence[x509.Certificate]) -> Iterator[Check]:
    """Revocation of the certificate, which must be known, and of those above it, as far as there are lists."""
    if len(chain) == 1:
        yield Check("revocation", CRITICAL, "cannot be looked up: there is no chain to who would revoke it")
        return
    for number, (one, issuer) in enumerate(pairwise(chain)):
        who, by = subject_words(one.subject), subject_words(issuer.subject)
        own = [made for made in question.lists if made.issuer == issuer.subject and _signed(made, issuer)]
        if not own:
            if number == 0:
                yield Check("revocation", CRITICAL, f"there is no list of {by} in the CRL file, so it is not known")
            else:
                yield Check("revocation", OK, f"{who}: not looked up, there is no list of {by}")
            continue
        newest = max(own, key=lambda made: made.last_update_utc)
        yield _revocation(question, one, newest, leaf=number == 0)


def _revocation(
    question: Question, one: x509.Certificate, made: x509.CertificateRevocationList, *, leaf: bool
) -> Check:
    who = "" if leaf else f"{subject_words(one.subject)}: "
    entry = made.get_revoked_certificate_by_serial_number(one.serial_number)
    if entry is not None:
        when = readable(entry.revocation_date_utc)
        return Check("revocation", CRITICAL, f"{who}revoked on {when} ({inspect.reason_of(entry)})")
    by, due = subject_words(made.issuer), made.next_update_utc
    if due is None:
        return Check("revocation", OK, f"{who}not on the list of {by}")
    if due <= question.now:
        status = CRITICAL if leaf else WARNING
        return Check("revocation", status, f"{who}the list of {by} is overdue since {readable(due)}")
    left = inspect.days_left(due, question.now)
    if left < question.warn_crl_days:
        return Check("revocation", WARNING, f"{who}the next list of {by} is due on {readable(due)}, and not there yet")
    return Check("revocation", OK, f"{who}not on the list of {by}, which is good until {readable(due)}")


def _signed(made: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return made.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _whole(question: Question, flags: int) -> Iterator[Check]:
    """What OpenSSL finds when it is asked about everything at once, and nothing above has told."""
    prepare = _purpose(question.purpose) if question.purpose else None
    if question.lists:
        flags |= crypto.X509StoreFlags.CRL_CHECK
    _, refusal = _ask(question, flags, prepare=prepare, lists=True)
    if refusal is not None:
        yield Check("openssl", CRITICAL, f"{subject_words(refusal.certificate.subject)}: {refusal.message}")
