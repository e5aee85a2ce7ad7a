"""PEM files for other programs: the certificates of a leaf put in order, whatever order and files they come in.

| form | holds | for |
|---|---|---|
| fullchain | leaf, then the intermediates | nginx, nlb, most servers |
| chain | the intermediates | Apache before 2.4.8, programs that take leaf and chain apart |
| leaf | the leaf | |
| haproxy | leaf, intermediates, private key | HAProxy's `crt`, hitch, lighttpd |

The root is left out: a verifier has its own, and takes no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.pki import contents, keys
from nlbcore.pki.contents import Damaged, Key
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.inspect import is_authority, spki, subject_words
from nlbcore.pki.words import BUNDLE_FORMS


@dataclass(frozen=True)
class Line:
    """A leaf and who is above it, as far as the certificates are there."""

    leaf: x509.Certificate
    above: tuple[x509.Certificate, ...]
    """Each has issued the one before; a root may be the last."""

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        return tuple(one for one in self.above if not self_signed(one))

    @property
    def missing(self) -> str:
        """Who should come next and is not there; empty if the line ends with a root."""
        last = (self.leaf, *self.above)[-1]
        return "" if self_signed(last) else subject_words(last.issuer)


def collect(paths: Sequence[Path], password: Callable[[Path], Callable[[], str]]) -> tuple[list[x509.Certificate], Any]:
    """All certificates of some files, and the private key in them, or None.

    Args:
        paths: the files, of any form
        password: gives for a file how to ask for its password, which is done where a key or a bundle has one

    Raises:
        PkiError: a file cannot be read, or there is more than one private key.
    """
    certificates: list[x509.Certificate] = []
    found: dict[bytes, Any] = {}
    for path in paths:
        loaded = contents.load(path, password(path))
        for damaged in loaded.of(Damaged):
            raise PkiError(f"{path}: {damaged.what}")
        certificates += loaded.certificates
        opened = [contents.unlock(path, key, password(path)) for key in loaded.of(Key) if key.encrypted]
        for key in [*loaded.keys, *opened]:
            if not isinstance(key, keys.PrivateKey):
                raise PkiError(f"{path}: its private key is of a kind that is no use for TLS")
            found[spki(key.public_key())] = key
    if len(found) > 1:
        raise PkiError(f"there are {len(found)} different private keys in {_listed(paths)}: give one")
    return certificates, next(iter(found.values()), None)


def issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether that key has signed this certificate, and the names say so too."""
    return certificate.issuer == issuer.subject and keys.signed_by(issuer.public_key(), certificate)


def self_signed(certificate: x509.Certificate) -> bool:
    return issued(certificate, certificate)


def unique(certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Each once, in their order."""
    return list(dict.fromkeys(certificates))


def above(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Who has issued it, who has issued that one, and so on; of two with the same key the one that ends last."""
    found: list[x509.Certificate] = []
    last = leaf
    while not self_signed(last):
        issuers = [one for one in others if one not in (leaf, *found) and issued(one, last)]
        if not issuers:
            break
        last = max(issuers, key=lambda one: one.not_valid_after_utc)
        found.append(last)
    return tuple(found)


def refuse_loss(out: Path, form: str) -> None:
    """Whether a file that is to be replaced holds a private key, which no file of this form would have.

    Args:
        out: the file; it need not be there
        form: one of `words.BUNDLE_FORMS`
    """
    try:
        there = contents.load(out)
    except PkiError:
        return
    if form != "haproxy" and (there.of(Key) or there.bundle is not None):
        raise PkiError(f"{out} holds a private key, which would be lost: choose another file for the certificates")


def line(certificates: Sequence[x509.Certificate], key: Any, paths: Sequence[Path]) -> Line:
    """The leaf among the certificates, and who is above it.

    Args:
        certificates: in any order; those that have nothing to do with the leaf are left out
        key: the leaf's private key, which tells which one is meant, or None
        paths: the files that they are from, for messages

    Raises:
        PkiError: there is no leaf, there are several, or none has this key.
    """
    every = unique(certificates)
    if not every:
        raise PkiError(f"there is no certificate in {_listed(paths)}: give its file too")
    if key is not None:
        own = [one for one in every if spki(one.public_key()) == spki(key.public_key())]
        if not own:
            raise PkiError(f"the private key belongs to none of the certificates in {_listed(paths)}")
    else:
        own = [one for one in every if not is_authority(one)] or ([every[0]] if len(every) == 1 else [])
        if not own:
            text = f"the certificates in {_listed(paths)} are all of authorities: there is no leaf among them"
            raise PkiError(text)
        if len(own) > 1:
            named = ", ".join(subject_words(one.subject) for one in own[:3])
            text = f"there are {len(own)} leaf certificates in {_listed(paths)} ({named}): give the files of one, or its key"
            raise PkiError(text)
    leaf = max(own, key=lambda one: one.not_valid_after_utc)
    return Line(leaf, above(leaf, every))


def refuse_authority(leaf: x509.Certificate) -> None:
    """An authority's key is packed for nobody: who has it can make any certificate."""
    if is_authority(leaf):
        text = f"{subject_words(leaf.subject)} is an authority, and an authority's key is packed for nobody"
        raise PkiError(f"{text}: who has it can make any certificate")


def pem(made: Line, form: str, key: Any = None) -> bytes:
    """The file's content.

    Args:
        made: what `line` has found
        form: one of `words.BUNDLE_FORMS`
        key: the leaf's private key, for the form `haproxy`

    Raises:
        BadValue: there is no such form.
        PkiError: there would be nothing in it, the key is missing, or it is an authority's.
    """
    if form not in BUNDLE_FORMS:
        raise BadValue("form", form, f"one of {', '.join(BUNDLE_FORMS)} is meant")
    parts = [] if form == "chain" else [made.leaf]
    if form != "leaf":
        parts += made.intermediates
    if not parts:
        raise PkiError(f"there is no intermediate: {subject_words(made.leaf.issuer)} has issued it; give its file too")
    data = b"".join(one.public_bytes(Encoding.PEM) for one in parts)
    if form == "haproxy":
        if key is None:
            raise PkiError("the form haproxy holds the private key too: give its file")
        refuse_authority(made.leaf)
        data += keys.pem(key)
    return data


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
