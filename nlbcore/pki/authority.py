"""A private certificate authority in a folder: a root that signs one intermediate, an intermediate that signs leaves.

    authority = Authority.create(folder, name="Example")
    server = authority.issue(Request("www", "server", dns=["www.example.com"]), out=Path("/etc/nlb"))
    alice = authority.issue(Request("alice", "client"), p12_password="secret")
    authority.revoke("alice", "keyCompromise")

A call that fails has done nothing (`crl` without the root's key apart), also beside other processes at the same
authority. One that is killed has at worst done a part: a certificate is in the index before its files get their names,
and a revocation before the list that tells of it; see `store` for a kill between two names.

The root's key is used for its own list and for the intermediate only, and may be kept elsewhere: to issue, and to
revoke what the intermediate has issued, it need not be there. The root's list stays as it is then, as long as it is
good: `nlb ca crl DIR --days N` with the key makes one for N days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from nlbcore.pki import index, issue, keys, names, pkcs12, revoke, settings, store
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.index import AUTHORITY, Entry, Index
from nlbcore.pki.issue import Request, Signer
from nlbcore.pki.names import Subject
from nlbcore.pki.revoke import Crl, Part
from nlbcore.pki.settings import Settings
from nlbcore.pki.store import Output
from nlbcore.pki.words import (
    DEFAULT_KEY_TYPE,
    DEFAULT_NAME,
    INTERMEDIATE_DAYS,
    ROOT_DAYS,
    UNSPECIFIED,
)

INTERMEDIATE = "intermediate"
ROOT = "root"


@dataclass(frozen=True)
class Issued:
    """A new certificate, its files, and what is worth saying about it."""

    entry: Entry
    certificate: Path
    private_key: Path
    p12: Path | None
    clamped: bool
    """It ends with its issuer, earlier than was asked for."""

    def as_dict(self) -> dict[str, object]:
        files = {"certificate": str(self.certificate), "private_key": str(self.private_key)}
        if self.p12 is not None:
            files["p12"] = str(self.p12)
        return {**self.entry.as_dict(index.now()), "clamped": self.clamped, "files": files}


@dataclass(frozen=True)
class Revoked:
    """Certificates that have been taken back, and the lists that say so."""

    entries: tuple[Entry, ...]
    crl: Crl


class Authority:
    """The authority in a folder; `create` makes it, `open` finds it."""

    def __init__(self, folder: Path, loaded: Settings) -> None:
        self.folder = folder
        self.settings = loaded

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        name: str = DEFAULT_NAME,
        subject: Subject | None = None,
        key_type: str = DEFAULT_KEY_TYPE,
        days: int = ROOT_DAYS,
        intermediate_days: int = INTERMEDIATE_DAYS,
        force: bool = False,
    ) -> Authority:
        """Make an authority: two key pairs, two certificates, the settings and an empty index.

        Args:
            folder: made with mode 0700, or there and empty
            name: the root's common name; the intermediate's is `NAME Intermediate`
            subject: what both subjects say beside
            key_type: of both keys, one of `words.KEY_TYPES`
            days: how long the root is valid
            intermediate_days: how long the intermediate is, at most as long as the root
            force: replace the authority that is there; what it has issued is worthless then

        Raises:
            PkiError: the folder is in use or cannot be written.
            BadValue: an argument makes no certificate.
        """
        _check_folder(folder, force=force)
        made = Settings(name)
        outputs, entry = _new_files(folder, made, subject or Subject(), key_type, days, intermediate_days)
        store.make_folder(folder)
        with index.opened(folder / store.INDEX, change=True, blank=True) as journal:
            _check_folder(folder, force=force)  # again: this time nobody else can get in between
            try:
                folder.chmod(0o700)
                gone = [folder / store.SETTINGS, folder / store.CRL]
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
        return cls(folder, made)

    @classmethod
    def open(cls, folder: Path) -> Authority:
        """The authority in this folder.

        Raises:
            PkiError: there is none, or its settings cannot be used.
        """
        return cls(folder, settings.load(folder / store.SETTINGS))

    @cached_property
    def root(self) -> x509.Certificate:
        return _load_certificate(self.folder / store.ROOT_CERTIFICATE)

    @cached_property
    def intermediate(self) -> x509.Certificate:
        return _load_certificate(self.folder / store.INTERMEDIATE_CERTIFICATE)

    @property
    def chain(self) -> Path:
        """The file that verifiers of this authority's certificates are given: the intermediate and the root."""
        return self.folder / store.CHAIN

    def issue(
        self, request: Request, *, out: Path = Path(), p12_password: str | None = None, force: bool = False
    ) -> Issued:
        """Make a key pair and a certificate for it: `NAME.crt` (with the intermediate behind it) and `NAME.key`.

        Args:
            request: what it is to be
            out: folder for the files, made with mode 0700 if it is not there
            p12_password: write `NAME.p12` too, under this password
            force: overwrite files that are there

        Raises:
            BadValue: the request makes no certificate.
            PkiError: a file of the authority cannot be used, or one cannot be written.
        """
        wanted = request.checked()
        name = request.name
        days = self.settings.days(request.profile) if request.days is None else request.days
        validity = issue.window(index.now(), days, self.intermediate)
        certificate_path, key_path, p12_path = (out / f"{name}.{suffix}" for suffix in ("crt", "key", "p12"))
        if not force:
            store.refuse_existing([certificate_path, key_path, *([p12_path] if p12_password is not None else [])])
        signer = Signer(self.intermediate, keys.load(self.folder / store.INTERMEDIATE_KEY, self.intermediate))
        key = keys.new(request.key_type or self.settings.key_type)
        certificate = issue.leaf(wanted, key.public_key(), signer, validity)
        outputs = [Output(key_path, keys.pem(key)), Output(certificate_path, _pem(certificate, self.intermediate))]
        if p12_password is not None:
            bundle = pkcs12.bundle(name, key, certificate, self.intermediate, p12_password)
            outputs.append(Output(p12_path, bundle))
        entry = _entry(certificate, name, request.profile, INTERMEDIATE, wanted.sans)
        store.make_folder(out)
        with (
            store.staged(outputs, replace=force) as publish,
            index.opened(self.folder / store.INDEX, change=True) as journal,
            journal.undone_on_failure(),
        ):
            if self._own(journal).revoked_at is not None:
                text = f"the intermediate of {self.folder} has been revoked: nothing it signs is accepted"
                raise PkiError(text)
            journal.issued(entry)
            publish()
        made = p12_path if p12_password is not None else None
        return Issued(entry, certificate_path, key_path, made, clamped=validity.clamped)

    def revoke(self, target: str, reason: str = UNSPECIFIED) -> Revoked:
        """Take back what a name, a serial number (hexadecimal) or a certificate file means, and write new lists.

        A name means all certificates of that name that have not been revoked.

        It needs the intermediate's key. The root's is needed to revoke the intermediate itself; for anything else the
        root's list is kept as it is if its key cannot be used, and `Crl.warning` says how long it is good, or that it
        is not.

        Raises:
            BadValue: there is no such reason.
            PkiError: nothing is meant, it is revoked already, or a file of the authority cannot be used.
        """
        revoke.check_reason(reason)
        with index.opened(self.folder / store.INDEX, change=True) as journal:
            now = index.now()
            taken = [replace(entry, revoked_at=now, reason=reason) for entry in revoke.find(journal, target)]
            return Revoked(tuple(taken), self._write_lists(journal, taken, self.settings.crl_days))

    def crl(self, days: int | None = None) -> Crl:
        """Write the lists of revoked certificates, one for each of intermediate and root, into `ca.crl`.

        Args:
            days: until the next ones are due, never past the end of who signs; the authority's setting unless given

        If the root's key cannot be used, its list is kept as it is, and `Crl.warning` says how long it is good.

        Raises:
            PkiError: a file of the authority cannot be used or written; or the root's list is due and its key cannot
                be used: the intermediate's list has been written then.
        """
        with index.opened(self.folder / store.INDEX, change=True) as journal:
            crl = self._write_lists(journal, [], self.settings.crl_days if days is None else days)
        if not crl.complete:
            raise PkiError(crl.warning)
        return crl

    def entries(self) -> list[Entry]:
        """All certificates this authority has issued, in that order; the first is its intermediate."""
        with index.opened(self.folder / store.INDEX, change=False) as journal:
            return list(journal.entries.values())

    def describe(self) -> dict[str, object]:
        """What `nlb ca show` prints."""
        with index.opened(self.folder / store.INDEX, change=False) as journal:
            pass
        now = index.now()
        leaves = [entry.status(now) for entry in journal.entries.values() if entry.profile != AUTHORITY]
        crl = self.folder / store.CRL
        return {
            "folder": str(self.folder),
            "name": self.settings.name,
            "root": self._described(self.root, store.ROOT_KEY),
            "intermediate": self._described(self.intermediate, store.INTERMEDIATE_KEY),
            "certificates": {status: leaves.count(status) for status in ("valid", "expired", "revoked")},
            "crl": {
                "file": str(crl) if crl.exists() else None,
                "number": journal.crl_number or None,
                "next_update": {issuer: index.stamp(moment) for issuer, moment in journal.next_updates.items()},
            },
        }

    def _described(self, certificate: x509.Certificate, key: str) -> dict[str, object]:
        return {
            "subject": certificate.subject.rfc4514_string(),
            "serial": index.serial_hex(certificate.serial_number),
            "key_type": keys.kind_of(certificate),
            "key_present": (self.folder / key).exists(),
            "not_after": index.stamp(certificate.not_valid_after_utc),
            "days_left": (certificate.not_valid_after_utc - index.now()).days,
            "sha256": index.fingerprint(certificate),
        }

    def _own(self, journal: Index) -> Entry:
        """The intermediate's entry: an index without it has been emptied, or the authority replaced meanwhile."""
        entry = journal.entries.get(self.intermediate.serial_number)
        if entry is None:
            text = f"{journal.path} is not the index of {self.folder / store.INTERMEDIATE_CERTIFICATE}"
            raise PkiError(f"{text}: it is damaged or another authority's; restore it from a backup")
        return entry

    def _write_lists(self, journal: Index, taken: list[Entry], days: int) -> Crl:
        """Sign the lists with `taken` on them, note it all in the index, and give the file its name."""
        self._own(journal)
        path = self.folder / store.CRL
        there = revoke.lists(path)
        # A verifier may know a list that is there, even where the index has been lost.
        number = max([journal.crl_number, *map(revoke.number_of, there)]) + 1
        on_list = {entry.serial: entry for entry in journal.entries.values() if entry.revoked_at is not None}
        on_list |= {entry.serial: entry for entry in taken}
        own = {who: [one for one in on_list.values() if one.issuer == who] for who in (INTERMEDIATE, ROOT)}
        now = index.now()
        validity = issue.window(now, days, self.intermediate)
        signer = Signer(self.intermediate, keys.load(self.folder / store.INTERMEDIATE_KEY, self.intermediate))
        parts = {
            INTERMEDIATE: Part(revoke.crl(signer, own[INTERMEDIATE], number, validity), validity.end),
            ROOT: self._root_list(there, own[ROOT], number, days, needed=any(one.issuer == ROOT for one in taken)),
        }
        updates = {issuer: part.next_update for issuer, part in parts.items() if part.next_update is not None}
        data = b"".join(part.pem for part in parts.values())
        with store.staged([Output(path, data)], replace=True) as publish, journal.undone_on_failure():
            journal.revoked(taken, number, updates)
            publish()
        due = min(end for end in updates.values() if end > now)
        return Crl(path, number, due, len(on_list), parts[ROOT].remark, complete=parts[ROOT].current)

    def _root_list(
        self,
        there: list[x509.CertificateRevocationList],
        entries: list[Entry],
        number: int,
        days: int,
        *,
        needed: bool,
    ) -> Part:
        """The root's list: a new one, or without its key the one from before unless a new one is `needed`."""
        try:
            key = keys.load(self.folder / store.ROOT_KEY, self.root)
        except PkiError as error:
            if needed:
                text = f"{error}: only it can put the intermediate on the root's list; nothing has been revoked"
                raise PkiError(text, error.exit_code) from None
            part = revoke.kept(there, self.root, entries, index.now())
            remark = f"{error}: {part.remark}"
            if not part.current:
                remark += (
                    "; the intermediate's has been written, which is not enough for who checks the whole chain:"
                    f" put {store.ROOT_KEY} back and run `nlb ca crl {self.folder}`"
                )
            return replace(part, remark=remark)
        validity = issue.window(index.now(), days, self.root)
        return Part(revoke.crl(Signer(self.root, key), entries, number, validity), validity.end)


def _new_files(
    folder: Path, made: Settings, subject: Subject, key_type: str, days: int, intermediate_days: int
) -> tuple[list[Output], Entry]:
    """The files of a new authority, the one that makes the folder an authority last; and the intermediate's entry."""
    now = index.now()
    root_name = subject.name(made.name, "name")
    name = subject.name(f"{made.name} Intermediate", "name")
    root_key, key = keys.new(key_type), keys.new(key_type)
    root = issue.root(root_name, root_key, issue.window(now, days, None))
    try:
        validity = issue.window(now, intermediate_days, root)
    except BadValue as error:
        raise BadValue("intermediate_days", error.value, error.reason) from None
    intermediate = issue.intermediate(name, key.public_key(), Signer(root, root_key), validity)
    contents = {
        store.ROOT_KEY: keys.pem(root_key),
        store.ROOT_CERTIFICATE: _pem(root),
        store.INTERMEDIATE_KEY: keys.pem(key),
        store.INTERMEDIATE_CERTIFICATE: _pem(intermediate),
        store.CHAIN: _pem(intermediate, root),
        store.SETTINGS: settings.render(made),
    }
    entry = _entry(intermediate, INTERMEDIATE, AUTHORITY, ROOT, [])
    return [Output(folder / file, data) for file, data in contents.items()], entry


def _check_folder(folder: Path, *, force: bool) -> None:
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
    if store.SETTINGS not in there and not there <= set(store.FILES):
        raise PkiError(f"{folder} is not empty: an authority needs a folder of its own")
    if not force:
        text = f"{folder} is an authority already; --force replaces it, and what it has issued is worthless then"
        raise PkiError(text)


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(store.read(path))
    except ValueError:
        raise PkiError(f"{path} is no PEM certificate, or a damaged one: restore it from a backup") from None


def _entry(
    certificate: x509.Certificate, name: str, profile: str, issuer: str, sans: Sequence[x509.GeneralName]
) -> Entry:
    return Entry(
        serial=certificate.serial_number,
        name=name,
        profile=profile,
        issuer=issuer,
        subject=certificate.subject.rfc4514_string(),
        sans=tuple(names.described(one) for one in sans),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=index.fingerprint(certificate),
    )


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)
