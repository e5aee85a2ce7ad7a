"""What is wrong with files of certificates: each part by itself (`defects`), how they fit, who may read them, what lies beside.

    for defect in doctor.examine(loaded, surroundings, now):
        print(defect.what, defect.why, defect.fix)

Beside a file means in its folder: the documented openssl flow leaves the root's key there, and copies it to clients.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from nlbcore.pki import bundle, contents, keys, store
from nlbcore.pki.contents import STDIN, Bundle, Contents, Damaged, Key
from nlbcore.pki.defects import (
    ERROR,
    NOTE,
    WARNING,
    Defect,
    Patient,
    acts_as_authority,
    command,
    of_certificate,
    of_list,
    of_request,
)
from nlbcore.pki.errors import PkiError
from nlbcore.pki.inspect import extension, spki, subject_words

MAX_BESIDE = 200
"""Files of a folder that are looked at, and the size of each in bytes."""
MAX_BESIDE_SIZE = 256 << 10
MIN_ROUNDS = 1000
"""PKCS#12 files that are locked with fewer rounds fall to guessing (RFC 8018, 4.2)."""


def beside(paths: Iterable[Path]) -> list[Contents]:
    """What lies in the folders of these files, as far as it is of the kind: the files themselves too."""
    found = []
    for folder in dict.fromkeys(path.parent for path in paths if path != STDIN):
        with contextlib.suppress(OSError):
            found += [one for path in sorted(folder.iterdir())[:MAX_BESIDE] if (one := _held(path)) is not None]
    return found


def inside(folder: Path) -> list[Path]:
    """The files of a folder that hold something to examine.

    Raises:
        PkiError: it cannot be read, or there is none.
    """
    try:
        found = [path for path in sorted(folder.iterdir()) if _held(path) is not None]
    except OSError as error:
        raise store.failure("read", folder, error) from None
    if not found:
        raise PkiError(f"{folder} holds no file with a certificate, request, revocation list or key")
    return found


def _held(path: Path) -> Contents | None:
    """What an ordinary file of a sensible size holds, if it is of the kind."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= MAX_BESIDE_SIZE:
            return None
        loaded = contents.load(path)
    except (OSError, PkiError):
        return None
    return loaded if loaded.parts or loaded.bundle else None


def examine(loaded: Contents, surroundings: Sequence[Contents], now: dt.datetime) -> list[Defect]:
    """All defects of a file.

    Args:
        loaded: the file
        surroundings: what lies beside it, and what else is known: other files that were named
        now: the time to judge dates by
    """
    with contents.tolerant():
        try:
            return list(_examine(loaded, surroundings, now))
        except contents.UNREADABLE:
            what, why = "a part of it cannot be read to its end", "programs refuse the whole file, or go on without it"
            return [Defect("damaged", ERROR, str(loaded.path), what, why, command("cert", "show", str(loaded.path)))]


def _examine(loaded: Contents, surroundings: Sequence[Contents], now: dt.datetime) -> Iterator[Defect]:
    path = loaded.path
    for part in loaded.parts:
        if isinstance(part, Damaged):
            why = "programs refuse the whole file, or go on without it"
            yield Defect("damaged", ERROR, str(path), part.what, why, command("cert", "show", str(path)))
        elif isinstance(part, x509.Certificate):
            yield from of_certificate(Patient(part, path, now))
        elif isinstance(part, x509.CertificateSigningRequest):
            yield from of_request(part, path)
        elif isinstance(part, x509.CertificateRevocationList):
            yield from of_list(part, now)
    yield from _line(loaded, surroundings)
    yield from _keys(loaded, surroundings)
    yield from _authority_keys(loaded, surroundings)
    if loaded.bundle is not None:
        yield from _bundle(loaded, loaded.bundle)


# -- order and chain --------------------------------------------------------------------------------------------------


def _line(loaded: Contents, surroundings: Sequence[Contents]) -> Iterator[Defect]:
    """The leaf of a file and what follows it."""
    certificates, path = loaded.certificates, str(loaded.path)
    leaves = [one for one in certificates if not acts_as_authority(one)]
    if not leaves:
        return
    in_order = command("cert", "bundle", path, "--form", "fullchain", "--out", path, "--force")
    first = certificates[0]
    if loaded.bundle is None and first is not leaves[0]:
        what = f"{subject_words(first.subject)}, an authority, stands before {subject_words(leaves[0].subject)}"
        why = "servers and clients show the first certificate: the key does not match it, or nobody asked for it"
        yield Defect("leaf-not-first", ERROR, path, what, why, in_order)
    elif loaded.bundle is None and len(leaves) == 1:
        yield from _order(certificates, path, in_order)
    for leaf in leaves:
        yield from _missing(loaded, leaf, surroundings)


def _order(certificates: Sequence[x509.Certificate], path: str, in_order: str) -> Iterator[Defect]:
    above = bundle.above(certificates[0], certificates)
    for one in certificates[1:]:
        if one not in above:
            what = f"{subject_words(one.subject)} has nothing to do with {subject_words(certificates[0].subject)}"
            why = "it is sent in every handshake, and some programs take it for the chain"
            yield Defect("stranger-in-chain", WARNING, path, what, why, in_order)
    if any(not bundle.issued(issuer, one) for one, issuer in pairwise(certificates)) and set(above) == set(
        certificates[1:]
    ):
        why = "some programs (mbed TLS, old Java) take each certificate for the issuer of the one before and refuse it"
        yield Defect("chain-order", WARNING, path, "the chain is not in order", why, in_order)


def _missing(loaded: Contents, leaf: x509.Certificate, surroundings: Sequence[Contents]) -> Iterator[Defect]:
    """An intermediate that peers need and the file does not have."""
    made = bundle.Line(leaf, bundle.above(leaf, loaded.certificates))
    if not made.missing:
        return
    last = (leaf, *made.above)[-1]
    path = str(loaded.path)
    known = [(one, other.path) for other in surroundings for one in other.certificates if bundle.issued(one, last)]
    needed = [(one, where) for one, where in known if not bundle.self_signed(one)]
    why = "a peer that has only the root cannot build the chain and refuses the certificate"
    if needed:
        where = str(needed[0][1])
        what = f"{made.missing}, the intermediate that has issued {subject_words(last.subject)}, is missing (it is in {where})"
        fix = command("cert", "bundle", path, where, "--form", "fullchain", "--out", path, "--force")
        if loaded.bundle is not None:
            fix = command("cert", "p12", path, where, "--out", path, "--force")
        yield Defect("missing-chain", ERROR, path, what, why, fix)
    elif not known and _issuer_urls(last):
        what = f"{made.missing}, which has issued {subject_words(last.subject)}, is missing; it is at {_issuer_urls(last)[0]}"
        fix = command("cert", "bundle", path, "INTERMEDIATE", "--form", "fullchain", "--out", path, "--force")
        yield Defect("missing-chain", WARNING, path, what, why, fix)


def _issuer_urls(certificate: x509.Certificate) -> list[str]:
    access = extension(certificate, x509.AuthorityInformationAccess)
    wanted = AuthorityInformationAccessOID.CA_ISSUERS
    return [str(one.access_location.value) for one in access or () if one.access_method == wanted]


# -- keys -------------------------------------------------------------------------------------------------------------


def _keys(loaded: Contents, surroundings: Sequence[Contents]) -> Iterator[Defect]:
    """Who may read the file's keys, how they are locked, and whether they fit."""
    path = str(loaded.path)
    loose = loaded.of(Key)
    if loose or (loaded.bundle is not None and (loaded.keys or loaded.bundle.protection.keys)):
        yield from _mode(loaded, locked=loaded.bundle is not None or all(key.encrypted for key in loose))
    if any(key.old_encryption for key in loose):
        what = "its private key is encrypted the old way, with MD5 and one round"
        why = "whoever has the file tries millions of passphrases a second"
        yield Defect("old-encryption", WARNING, path, what, why, f"openssl pkcs8 -topk8 -in {path} -out NEW")
    if len(loaded.keys) > 1:
        what, why = f"it holds {len(loaded.keys)} private keys", "programs take the first, and not all the same one"
        fix = command("cert", "p12", "NAME.crt", "NAME.key") if loaded.bundle else command("cert", "show", path)
        yield Defect("several-keys", WARNING, path, what, why, fix)
    certificates = loaded.certificates
    own = {spki(one.public_key()) for one in certificates}
    for key in loaded.keys if certificates else ():
        if spki(key.public_key()) not in own:
            what = "its private key belongs to none of its certificates"
            why = "programs refuse the file, or the handshake fails"
            yield Defect("key-mismatch", ERROR, path, what, why, command("cert", "show", path))
    yield from _key_file(loaded, surroundings)


def _mode(loaded: Contents, *, locked: bool) -> Iterator[Defect]:
    if loaded.path == STDIN:
        return
    mode = loaded.path.stat().st_mode & 0o777
    if mode & 0o077:
        who = "everybody" if mode & 0o007 else "its group"
        what = f"{who} may read or change it (mode {mode:04o}), and it holds a private key"
        why = "who has read the key can pose as its owner" + ("; here a password stands between" if locked else "")
        severity = WARNING if locked or not mode & 0o007 else ERROR
        yield Defect("key-mode", severity, str(loaded.path), what, why, f"chmod 600 {loaded.path}")


def _key_file(loaded: Contents, surroundings: Sequence[Contents]) -> Iterator[Defect]:
    """NAME.crt and NAME.key are taken for a pair."""
    leaves = [one for one in loaded.certificates if not acts_as_authority(one)]
    if not leaves or loaded.bundle is not None or loaded.of(Key) or loaded.path == STDIN:
        return
    for other in surroundings:
        same = other.path.stem == loaded.path.stem and other.path.parent == loaded.path.parent
        if not same or other.bundle is not None or other.certificates or not other.keys:
            continue
        if all(spki(key.public_key()) != spki(leaves[0].public_key()) for key in other.keys):
            what = f"{other.path}, which is called like it, is the key of another certificate"
            why = "programs that are given the two refuse to start"
            fix = command("cert", "show", str(loaded.path), str(other.path))
            yield Defect("key-mismatch", ERROR, str(loaded.path), what, why, fix)
            return


def _authority_keys(loaded: Contents, surroundings: Sequence[Contents]) -> Iterator[Defect]:
    """An authority's private key in the file, or beside it where no authority lives."""
    why = "whoever has this file can make certificates for anybody; if clients had it, only a new authority helps"
    fix = command("ca", "init", "DIR")
    certificates = loaded.certificates
    for key in loaded.keys:
        signed = [one for one in certificates if keys.signed_by(key.public_key(), one)]
        if signed and loaded.certificates != [signed[0]]:
            what = f"it holds the private key of the authority {subject_words(signed[0].issuer)}"
            yield Defect("ca-key-inside", ERROR, str(loaded.path), what, why, fix)
            break
    else:
        for other in surroundings:
            if other.path == loaded.path or (other.path.parent / store.SETTINGS).exists():
                continue
            signed = [one for key in other.keys for one in certificates if keys.signed_by(key.public_key(), one)]
            if signed and not _own_pair(signed[0], certificates):
                what = (
                    f"the private key of the authority {subject_words(signed[0].issuer)} lies beside it: {other.path}"
                )
                yield Defect("ca-key-beside", ERROR, str(loaded.path), what, why, fix)
                return


def _own_pair(signed: x509.Certificate, certificates: Sequence[x509.Certificate]) -> bool:
    """A self-signed leaf beside its own key: that is no authority."""
    return not acts_as_authority(signed) and bundle.self_signed(signed) and certificates[0] == signed


# -- PKCS#12 ----------------------------------------------------------------------------------------------------------


def _bundle(loaded: Contents, held: Bundle) -> Iterator[Defect]:
    path, locked = str(loaded.path), held.protection
    again = command("cert", "p12", path, "--out", path, "--force")
    if locked.legacy:
        why = "OpenSSL 3 opens it with -legacy only, and it falls to guessing sooner; older Windows, macOS and Android need it so"
        yield Defect(
            "p12-legacy", WARNING, path, f"it is locked the old way: {locked}", why, f"{again} --target modern"
        )
    elif locked.mac == "PBMAC1" or locked.mac in {"SHA-384", "SHA-512"}:
        why = "keychains of today do not know it yet"
        yield Defect("p12-too-modern", WARNING, path, f"it is locked in a way that is very new: {locked}", why, again)
    else:
        why = "older Windows, macOS and Android refuse the right password; they need the legacy way"
        yield Defect(
            "p12-modern", NOTE, path, f"it is locked the modern way: {locked}", why, f"{again} --target legacy"
        )
    if not locked.mac:
        yield Defect(
            "p12-no-mac",
            WARNING,
            path,
            "nothing tells whether it is whole (no MAC)",
            "Windows and Java refuse it",
            again,
        )
    if locked.iterations < MIN_ROUNDS:
        what = f"its password is put through {locked.iterations} rounds only"
        yield Defect("p12-few-rounds", WARNING, path, what, "whoever has the file tries passwords quickly", again)
    if held.empty_password:
        why = "whoever has the file has the key; macOS and iOS do not import it"
        yield Defect("p12-no-password", ERROR, path, "its password is empty", why, again)
    if held.opened and not held.keys:
        why = "a browser can show the certificate, but not prove that it is its owner"
        fix = command("cert", "p12", "NAME.crt", "NAME.key")
        yield Defect("p12-no-key", ERROR, path, "there is no private key in it", why, fix)
    authorities = {spki(one.public_key()): one for one in loaded.certificates if acts_as_authority(one)}
    for key in held.keys:
        own = authorities.get(spki(key.public_key()))
        if own is not None:
            what = f"it holds the private key of the authority {subject_words(own.subject)}"
            why = "whoever has this file can make certificates for anybody; only a new authority helps"
            yield Defect("p12-ca-key", ERROR, path, what, why, command("ca", "init", "DIR"))
    if not held.opened:
        why = "what is in it, the chain and whose key it is, could not be looked at"
        fix = command("cert", "doctor", path, "--password-file", "FILE")
        yield Defect("p12-closed", NOTE, path, "it was not opened: there was no password", why, fix)
