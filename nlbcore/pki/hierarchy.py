"""The two authorities in a folder, root and intermediate: made, renewed with the keys they have, and asked to sign.

A renewed certificate has the same subject, key and name constraints as the old one and other dates, so whatever was
issued under the old one stays good under the new one, and whoever trusts the old root trusts what the new one signs for
as long as the old one is valid. `chain.crt` names the new ones only; the old ones are kept in `old/`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.dn import dn
from nlbcore.pki import constraints, index, issue, keys, names, settings, store
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.index import AUTHORITY, Entry
from nlbcore.pki.issue import Signer
from nlbcore.pki.keys import Passphrases
from nlbcore.pki.names import Subject
from nlbcore.pki.settings import Settings
from nlbcore.pki.store import Output

INTERMEDIATE = "intermediate"
ROOT = "root"
FILES = {
    ROOT: (store.ROOT_CERTIFICATE, store.ROOT_KEY),
    INTERMEDIATE: (store.INTERMEDIATE_CERTIFICATE, store.INTERMEDIATE_KEY),
}


class Hierarchy:
    """Root and intermediate of the authority in a folder; certificates are read once, keys when they are to sign."""

    def __init__(self, folder: Path, passphrases: Passphrases | None) -> None:
        self.folder = folder
        self._passphrases = passphrases

    @cached_property
    def root(self) -> x509.Certificate:
        return load_certificate(self.folder / store.ROOT_CERTIFICATE)

    @cached_property
    def intermediate(self) -> x509.Certificate:
        return load_certificate(self.folder / store.INTERMEDIATE_CERTIFICATE)

    def certificate(self, which: str) -> x509.Certificate:
        return self.root if which == ROOT else self.intermediate

    def signer(self, which: str) -> Signer:
        """The authority with its key.

        Raises:
            PkiError: the key is not there, is another's, or its passphrase cannot be had.
        """
        certificate = self.certificate(which)
        return Signer(certificate, keys.load(self._key_path(which), certificate, self._passphrases))

    def prepare(self, *authorities: str) -> None:
        """Ask for the passphrases of their keys, where they have one: nobody types while the index is locked.

        A key that cannot be had is told by who needs it.
        """
        for which in authorities:
            with contextlib.suppress(PkiError):
                if self.is_encrypted(which):
                    self.signer(which)

    def has_key(self, which: str) -> bool:
        return self._key_path(which).exists()

    def is_encrypted(self, which: str) -> bool:
        return self.has_key(which) and keys.is_encrypted(store.read(self._key_path(which)))

    def _key_path(self, which: str) -> Path:
        return self.folder / FILES[which][1]

    def change_passphrase(self, authorities: Sequence[str], new: Callable[[], bytes] | None) -> list[Path]:
        """Write the keys of these authorities anew, under another passphrase or none; see `Authority`."""
        # A key that is kept elsewhere may be here as a link: it stays there.
        paths = [path.resolve() if path.is_symlink() else path for path in map(self._key_path, authorities)]
        before = [store.read(path) for path in paths]
        opened = [self.signer(which).key for which in authorities]
        passphrase = None if new is None else new()
        outputs = [Output(path, keys.pem(key, passphrase)) for path, key in zip(paths, opened, strict=True)]
        with (
            index.opened(self.folder / store.INDEX, change=True),
            store.staged(outputs, replace=True) as publish,
        ):
            if [store.read(path) for path in paths] != before:
                raise PkiError(f"another command has changed the keys of {self.folder} meanwhile: try again")
            publish()
        return paths

    def renewed(self, root_days: int | None, intermediate_days: int | None) -> tuple[list[Output], dict[str, Entry]]:
        """New certificates for the keys that are there, each if it is given days; nothing is written.

        Returns:
            the files, and the new entries of the index; that of the root is for telling only

        Raises:
            BadValue: so many days are not possible, or the intermediate would outlive the root.
            PkiError: the root's key cannot be used: it signs both.
        """
        now = index.now()
        root, intermediate = self.root, self.intermediate
        signer = self.signer(ROOT)
        outputs: list[Output] = []
        entries: dict[str, Entry] = {}
        if root_days is not None:
            outputs.append(self._old(ROOT))
            root = issue.root(root.subject, signer.key, issue.window(now, root_days, None), constraints.of(root))
            if intermediate_days is None and root.not_valid_after_utc < intermediate.not_valid_after_utc:
                end = index.readable(intermediate.not_valid_after_utc)
                raise BadValue("days", root_days, f"the intermediate would outlive it, until {end}: renew both")
            signer = Signer(root, signer.key)
            outputs.append(Output(self.folder / store.ROOT_CERTIFICATE, pem(root)))
            entries[ROOT] = entry_of(root, ROOT, AUTHORITY, ROOT, [])
        if intermediate_days is not None:
            outputs.append(self._old(INTERMEDIATE))
            try:
                validity = issue.window(now, intermediate_days, root)
            except BadValue as error:
                raise BadValue("intermediate_days", error.value, error.reason) from None
            key = intermediate.public_key()
            assert isinstance(key, keys.PublicKey)
            permitted = constraints.of(intermediate)
            old = intermediate.serial_number
            intermediate = issue.intermediate(intermediate.subject, key, signer, validity, permitted)
            outputs.append(Output(self.folder / store.INTERMEDIATE_CERTIFICATE, pem(intermediate)))
            entries[INTERMEDIATE] = entry_of(intermediate, INTERMEDIATE, AUTHORITY, ROOT, [], renews=old)
        outputs.append(Output(self.folder / store.CHAIN, pem(intermediate, root)))
        return outputs, entries

    def forget(self) -> None:
        """Read the certificates again when they are needed: they have been replaced."""
        for name in (ROOT, INTERMEDIATE):
            self.__dict__.pop(name, None)

    def _old(self, which: str) -> Output:
        certificate = self.certificate(which)
        name = f"{which}-{index.serial_hex(certificate.serial_number)}.crt"
        return Output(self.folder / store.OLD / name, pem(certificate))


def new_files(
    folder: Path,
    made: Settings,
    *,
    subject: Subject,
    key_type: str,
    days: int,
    intermediate_days: int,
    permitted: x509.NameConstraints | None,
    passphrase: bytes | None,
) -> tuple[list[Output], Entry]:
    """The files of a new authority, the one that makes the folder an authority last; and the intermediate's entry."""
    now = index.now()
    root_name = subject.name(made.name, "name")
    name = subject.name(f"{made.name} Intermediate", "name")
    root_key, key = keys.new(key_type), keys.new(key_type)
    root = issue.root(root_name, root_key, issue.window(now, days, None), permitted)
    try:
        validity = issue.window(now, intermediate_days, root)
    except BadValue as error:
        raise BadValue("intermediate_days", error.value, error.reason) from None
    intermediate = issue.intermediate(name, key.public_key(), Signer(root, root_key), validity, permitted)
    contents = {
        store.ROOT_KEY: keys.pem(root_key, passphrase),
        store.ROOT_CERTIFICATE: pem(root),
        store.INTERMEDIATE_KEY: keys.pem(key, passphrase),
        store.INTERMEDIATE_CERTIFICATE: pem(intermediate),
        store.CHAIN: pem(intermediate, root),
        store.SETTINGS: settings.render(made),
    }
    entry = entry_of(intermediate, INTERMEDIATE, AUTHORITY, ROOT, [])
    return [Output(folder / file, data) for file, data in contents.items()], entry


def make(folder: Path, outputs: Sequence[Output], entry: Entry, *, force: bool) -> None:
    """Write the files of a new authority and its index, all or nothing; with `force` over one that is there."""
    store.make_folder(folder)
    with index.opened(folder / store.INDEX, change=True, blank=True) as journal:
        check_folder(folder, force=force)  # again: this time nobody else can get in between
        try:
            folder.chmod(0o700)
            gone = [folder / name for name in (store.SETTINGS, *store.LISTS)]
            with (
                store.kept(gone),
                store.staged(outputs, replace=force) as publish,
                journal.undone_on_failure(),
            ):
                # Without its settings the folder is no authority: it stays so until all the rest is there.
                for path in gone:
                    path.unlink(missing_ok=True)
                journal.clear()
                journal.issued(entry)
                publish()
        except OSError as error:
            raise store.failure("write", folder, error) from None


def check_folder(folder: Path, *, force: bool) -> None:
    """Whether an authority may be made in the folder: a new or empty one, or with `force` one that is an authority.

    What an earlier attempt has left that did not get as far as a key is nothing: temporary files, and an index that
    has at most its first line.
    """
    try:
        there = {path.name for path in folder.iterdir() if path.suffix != ".tmp"}
        if there == {store.INDEX} and index.is_beginning(folder / store.INDEX):
            return
    except FileNotFoundError:
        return
    except OSError as error:
        raise store.failure("make an authority in", folder, error) from None
    if not there:
        return
    if store.SETTINGS not in there and not there <= {*store.FILES, store.OLD}:
        raise PkiError(f"{folder} is not empty: an authority needs a folder of its own")
    if not force:
        text = f"{folder} is an authority already; --force replaces it, and what it has issued is worthless then"
        raise PkiError(text)


def load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(store.read(path))
    except ValueError:
        raise PkiError(f"{path} is not a PEM certificate, or a damaged one: restore it from a backup") from None


def entry_of(
    certificate: x509.Certificate,
    name: str,
    profile: str,
    issuer: str,
    sans: Sequence[x509.GeneralName],
    *,
    file: Path | None = None,
    days: int | None = None,
    renews: int | None = None,
) -> Entry:
    """A certificate as the index has it."""
    return Entry(
        serial=certificate.serial_number,
        name=name,
        profile=profile,
        issuer=issuer,
        subject=dn(certificate.subject),
        sans=tuple(names.described(one) for one in sans),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=index.fingerprint(certificate),
        file="" if file is None else str(file.absolute()),
        days=days,
        renews=renews,
    )


def described(certificate: x509.Certificate) -> dict[str, object]:
    """What there is to say about an authority's certificate."""
    permitted = constraints.of(certificate)
    return {
        "subject": dn(certificate.subject),
        "serial": index.serial_hex(certificate.serial_number),
        "key_type": keys.kind_of(certificate),
        "not_before": index.stamp(certificate.not_valid_before_utc),
        "not_after": index.stamp(certificate.not_valid_after_utc),
        "days_left": (certificate.not_valid_after_utc - index.now()) // dt.timedelta(days=1),
        "sha256": index.fingerprint(certificate),
        "permitted": constraints.described(permitted) if permitted else [],
    }


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
