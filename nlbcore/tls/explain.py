"""Would this client certificate be accepted by that listener now, and why not? Asked of the listener itself, without a network.

The listener's own settings, trust store, revocation table and rules go on a context that is thrown away, and the certificate
is shown to it in a handshake in memory (``engine/examine``). Only versions, suites and groups are others there: the handshake
is one of TLS 1.2, in which a certificate is looked at before its key is. The security level stays that of the policy.
"""

from __future__ import annotations

import datetime
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography import x509
from OpenSSL import crypto

from nlbcore.dn import dn
from nlbcore.engine.examine import Examined, examine
from nlbcore.engine.hooks import ListenerPlan
from nlbcore.engine.revoked import Table
from nlbcore.engine.rules import Rules
from nlbcore.tls.context import (
    Front,
    Settings,
    apply,
    blank,
    certificate_contexts,
    context_address,
    settings,
    store_address,
)
from nlbcore.tls.identity import describe, name_text, reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nlbcore.config.model import Listener, SecurityPolicy
    from nlbcore.tls.material import ListenerMaterial

ACCEPTED = "accepted"
TOO_LONG = "chain_too_long"

STAGES = (
    ("certificate", "whether it can be read", ("bad_certificate",)),
    ("chain", "whether it leads to a CA of `ca`, within `depth`", ("unknown_ca", "chain_too_long")),
    ("purpose", "whether it is a client's, under CAs that may issue it", ("wrong_purpose",)),
    ("strength", "whether keys and signatures are strong enough", ("weak_key",)),
    ("signatures", "whether each is its issuer's", ("bad_signature",)),
    ("dates", "whether all are in date", ("expired", "not_yet_valid")),
    (
        "revocation",
        "whether no list revokes it, and none that is needed is missing or refused as overdue",
        ("revoked", "crl_overdue", "crl_missing"),
    ),
    ("rules", "whether `deny` has no entry for it, and `allow` has one", ("denied", "not_allowed")),
)
"""What is looked at: name, what is asked, and the words if it does not. OpenSSL tells the first that fails."""

ADVICE = {
    "unknown_ca": "let the client send its intermediates, or add the CA that has issued it to `ca`",
    "expired": "renew the certificate it is about",
    "not_yet_valid": "wait, or look at the clocks of the CA and of this machine",
    "revoked": "issue a new certificate, if its owner is still welcome",
    "crl_overdue": 'fetch the CA\'s current list, then `nlb reload`; on_crl_overdue = "accept" goes on with the old one',
    "crl_missing": "add the list of the CA that has issued it to `crl`, and that CA's certificate to `ca`",
    "wrong_purpose": "issue it as a client certificate: extended key usage clientAuth, key usage digitalSignature and not "
    "keyCertSign, no CA, X.509 v3",
    "bad_signature": "it is damaged, or another CA of that name has issued it",
    "chain_too_long": "raise `depth`, or add a nearer CA to `ca`",
    "weak_key": "issue it anew: RSA of 2048 bits or more, elliptic curves of 224 or more, no SHA-1",
    "bad_certificate": "have it issued anew by software that keeps to RFC 5280",
    "not_allowed": "add an entry for it to `allow`",
    "denied": "take the entry out of `deny`, if its owner is welcome",
}

ADVICE_ABOUT_ITS_CA = (
    "have it issued by a CA that may issue client certificates: basicConstraints CA:TRUE, key usage keyCertSign, no extended "
    "key usage or one with clientAuth"
)
"""What is advised for the wrong purpose of a certificate above the client's."""

NAME_CONSTRAINTS = (47, 48)  # X509_V_ERR_PERMITTED_VIOLATION, X509_V_ERR_EXCLUDED_VIOLATION
ADVICE_ABOUT_ITS_NAMES = (
    "a CA above it may not vouch for its names: have it issued with names that the CA may vouch for, or by another CA"
)
"""What is advised where a name constraint is broken."""

DEEPEST = 100
"""What `depth` may be at most."""

NO_USE = "a greater `depth` does not help"
"""What is advised instead of one where the listener refuses the certificate all the same."""

ADVICE_ABOUT_CHAINS = {
    "revoked": "; if `nlb check` says that its CA is the one revoked, from another CA",
    "crl_overdue": "; `nlb check` names it",
    "crl_missing": "; so for each CA above it, `nlb check` names them",
}
"""What is added with ``crl_scope = "chain"``, where the word may be about a CA."""

UNTESTED = (
    "whether the client holds the private key",
    "whether the client sends these intermediates",
    "versions, cipher suites and groups that client and listener share; in TLS 1.2 the curve of its key is one of the groups",
    "connection limits, and whether a server answers",
)
"""What cannot be found out without the client."""


@dataclass(frozen=True)
class Explanation:
    """What the listener says.

    Attributes:
        mode: of its client authentication
        accepted: whether the client is let in
        word: ACCEPTED, or the word that would stand in the log - in `report` as the verdict
        detail: what the log says beside it
        depth: of the certificate in the chain that it is about, as the log and OpenSSL count: 0 is the client's
        verify_ca_subject: the subject of the CA certificate that it is about, as in the log; empty if it is the client's
        stages: name, "passed", "failed", "not reached" or "not configured", and what it is about
        chain: subjects by depth, the client's first, up to a CA of the listener if one is found
        with_more_depth: the word if `depth` were as great as can be; empty unless the chain is too long
        advice: what to do
        allowed: the entry of `allow` that matches, in words
    """

    mode: str
    accepted: bool
    word: str
    detail: str
    depth: int
    verify_ca_subject: str
    stages: tuple[tuple[str, str, str], ...]
    chain: tuple[str, ...]
    with_more_depth: str
    advice: str
    allowed: str


def explain(
    name: str,
    listener: Listener,
    material: ListenerMaterial,
    chain: Sequence[bytes],
    policies: Mapping[str, SecurityPolicy] | None = None,
    at: datetime.datetime | None = None,
) -> Explanation:
    """Ask the listener `name` about a certificate.

    Args:
        name: of the listener
        listener: its table; of protocol TCPSSL
        material: its material
        chain: DER, the client's certificate first, then what the client sends with it
        policies: `[security_policies]`
        at: another time than now that all dates are compared with; the material is loaded for it
    """
    auth = listener.client_auth
    if auth.mode == "off":
        return Explanation("off", True, ACCEPTED, "clients are not asked for a certificate", 0, "", (), (), "", "", "")
    wanted = _by_hand(settings(name, listener, material, policies))
    if at is not None:
        wanted.store.set_time(at.astimezone(datetime.UTC))
    rules = Rules(material.rules) if material.rules is not None else None
    found = _examined(listener, material, wanted, rules, chain, at)
    word = _word(found)
    deeper = None
    if word == TOO_LONG:
        deeper = _examined(listener, material, replace(wanted, depth=DEEPEST), rules, chain, at)
    matching = rules.look(chain[0]).allowed if rules is not None and word == ACCEPTED else None
    return Explanation(
        mode=auth.mode,
        accepted=word == ACCEPTED or auth.mode == "report",
        word=word,
        detail=reason(
            found.detail, found.verify_error, found.verify_depth, describe(chain[0]).get("client_cert_issuer")
        ),
        depth=found.verify_depth,
        verify_ca_subject=name_text(found.authority) or "",
        stages=_stages(word, lists=material.revocations is not None, rules=rules is not None),
        chain=_chain(wanted.store, chain),
        with_more_depth="" if deeper is None else _word(deeper),
        advice=_advice(found, deeper, chain=auth.crl_scope == "chain"),
        allowed=f"allow[{matching}] {(auth.allow or ())[matching]}" if matching is not None else "",
    )


def _word(found: Examined) -> str:
    return ACCEPTED if found.word == "open" else found.word


def _advice(found: Examined, deeper: Examined | None, *, chain: bool) -> str:
    """For a chain that is too long it depends on what would be said of it with more depth."""
    word = _word(found)
    if deeper is not None and _word(deeper) == TOO_LONG:
        return f"{NO_USE}, a CA above it limits the length of the path: have it issued by one nearer to that, or add a nearer CA to `ca`"
    if deeper is not None and _word(deeper) != ACCEPTED:
        return f"{NO_USE}, it would then be refused as {_word(deeper)}: {_advice(deeper, None, chain=chain)}"
    if word == "wrong_purpose" and found.verify_depth:
        return ADVICE_ABOUT_ITS_CA
    if found.verify_error in NAME_CONSTRAINTS:
        return ADVICE_ABOUT_ITS_NAMES
    return ADVICE.get(word, "") + (ADVICE_ABOUT_CHAINS.get(word, "") if chain else "")


def _by_hand(wanted: Settings) -> Settings:
    """With versions, suites and groups that the handshake by hand can do."""
    policy = replace(
        wanted.policy,
        min_version="TLSv1.2",
        max_version="TLSv1.2",
        suites=("ECDHE+AESGCM", "ECDHE"),
        groups=("X25519", "P-256", "P-384"),
    )
    return replace(wanted, policy=policy)


def _examined(
    listener: Listener,
    material: ListenerMaterial,
    wanted: Settings,
    rules: Rules | None,
    chain: Sequence[bytes],
    at: datetime.datetime | None,
) -> Examined:
    """Long because a plan has many fields; what is not about client certificates is nothing here."""
    auth = listener.client_auth
    front = blank()
    apply(front, wanted)
    steps, made = certificate_contexts(wanted, material.certificates[:1]), []
    while True:
        try:
            made.append(next(steps))
        except StopIteration as end:
            first = end.value.first
            break
    plan = ListenerPlan(
        generation=0,
        row=0,
        group_row=0,
        front=Front(front),
        verify=True,
        optional=auth.mode == "optional",
        report=auth.mode == "report",
        tickets=False,
        strict_sni=False,
        reset_truncated=False,
        handshake_timeout=0,
        connect_timeout=0,
        idle_timeout=0,
        half_close_timeout=0,
        max_handshakes=0,
        max_connections=0,
        cps=0,
        route=0,
        group=0,
        alpn=b"",
        fallback=context_address(first),
        names={},
        revocations=Table(material.revocations) if material.revocations is not None else None,
        rules=rules,
        overdue_accepted=auth.on_crl_overdue == "accept",
        store=store_address(wanted.store),
        depth=wanted.depth,
    )
    return examine(plan, chain, None if at is None else int(at.timestamp()))


def _stages(word: str, *, lists: bool, rules: bool) -> tuple[tuple[str, str, str], ...]:
    absent = {"revocation": not lists, "rules": not rules}
    made = []
    state = "passed"
    for name, about, words in STAGES:
        if word in words:
            made.append((name, "failed", about))
            state = "not reached"
        else:
            made.append((name, "not configured" if absent.get(name) else state, about))
    return tuple(made)


def _chain(store: crypto.X509Store, chain: Sequence[bytes]) -> tuple[str, ...]:
    """Up to the listener's CA where OpenSSL finds a way, else what was given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            given = [crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in chain]
        except crypto.Error:
            return ()
        try:
            found = crypto.X509StoreContext(store, given[0], given[1:]).get_verified_chain()
        except crypto.X509StoreContextError:
            found = given
        return tuple(_subject(one.to_cryptography()) for one in found)


def _subject(certificate: x509.Certificate) -> str:
    try:
        return dn(certificate.subject) or "without a subject"
    except ValueError:
        return "with a subject that cannot be read"
