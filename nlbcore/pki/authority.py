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

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from nlbcore.pki import (
    constraints,
    hierarchy,
    index,
    issue,
    keys,
    lists,
    names,
    pkcs12,
    renewal,
    requests,
    revoke,
    settings,
    store,
)
from nlbcore.pki.errors import PkiError
from nlbcore.pki.hierarchy import INTERMEDIATE, ROOT, Hierarchy
from nlbcore.pki.index import AUTHORITY, Entry, Index
from nlbcore.pki.issue import Request, Term, Wanted
from nlbcore.pki.keys import Passphrases, PrivateKey, PublicKey
from nlbcore.pki.lists import Crl
from nlbcore.pki.names import Subject
from nlbcore.pki.outcome import Issued, Revoked
from nlbcore.pki.settings import Settings
from nlbcore.pki.store import Output
from nlbcore.pki.words import (
    DEFAULT_KEY_TYPE,
    DEFAULT_NAME,
    INTERMEDIATE_DAYS,
    P12_TARGETS,
    PROFILES,
    ROOT_DAYS,
    UNSPECIFIED,
)


@dataclass(frozen=True)
class Leaf:
    """What is to be certified.

    Args:
        wanted: what it says
        public_key: whose it is
        name: in the index
        path: of the certificate
        term: how long it is valid
        renews: the certificate that it follows
    """

    wanted: Wanted
    public_key: PublicKey
    name: str
    path: Path
    term: Term
    renews: Entry | None = None


class Authority:
    """The authority in a folder; `create` makes it, `open` finds it."""

    def __init__(self, folder: Path, loaded: Settings, passphrases: Passphrases | None = None) -> None:
        self.folder = folder
        self.settings = loaded
        self._hierarchy = Hierarchy(folder, passphrases)

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
        permit_dns: Sequence[str] = (),
        permit_ip: Sequence[str] = (),
        passphrase: bytes | None = None,
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
            permit_dns: the only host names, with all below them, that it can certify
            permit_ip: the only networks whose addresses it can certify
            passphrase: both keys are kept under it
            force: replace the authority that is there; what it has issued is worthless then

        Raises:
            PkiError: the folder is in use or cannot be written.
            BadValue: an argument makes no certificate.
        """
        hierarchy.check_folder(folder, force=force)
        made = Settings(name)
        outputs, entry = hierarchy.new_files(
            folder,
            made,
            subject=subject or Subject(),
            key_type=key_type,
            days=days,
            intermediate_days=intermediate_days,
            permitted=constraints.parse(permit_dns, permit_ip),
            passphrase=passphrase,
        )
        hierarchy.make(folder, outputs, entry, force=force)
        return cls(folder, made)

    @staticmethod
    def refuse(folder: Path, *, force: bool) -> None:
        """Say whether `create` would find the folder in use, before a person is asked anything."""
        hierarchy.check_folder(folder, force=force)

    @classmethod
    def open(cls, folder: Path, passphrases: Passphrases | None = None) -> Authority:
        """The authority in this folder.

        Args:
            folder: where it is
            passphrases: asked if a key that is needed is kept under one

        Raises:
            PkiError: there is none, or its settings cannot be used.
        """
        return cls(folder, settings.load(folder / store.SETTINGS), passphrases)

    @property
    def root(self) -> x509.Certificate:
        return self._hierarchy.root

    @property
    def intermediate(self) -> x509.Certificate:
        return self._hierarchy.intermediate

    @property
    def chain(self) -> Path:
        """The file that verifiers of this authority's certificates are given: the intermediate and the root."""
        return self.folder / store.CHAIN

    # -- certificates ------------------------------------------------------------------------------------------------

    def issue(
        self,
        request: Request,
        *,
        out: Path = Path(),
        p12_password: str | None = None,
        p12_target: str = P12_TARGETS[0],
        force: bool = False,
    ) -> Issued:
        """Make a key pair and a certificate for it: `NAME.crt` (with the intermediate behind it) and `NAME.key`.

        Args:
            request: what it is to be
            out: folder for the files, made with mode 0700 if it is not there
            p12_password: write `NAME.p12` too, under this password
            p12_target: who is to import that, one of `words.P12_TARGETS`
            force: overwrite files that are there

        Raises:
            BadValue: the request makes no certificate.
            PkiError: a file of the authority cannot be used, or one cannot be written.
        """
        wanted = request.checked()
        name = request.name
        certificate_path, key_path, p12_path = (out / f"{name}.{suffix}" for suffix in ("crt", "key", "p12"))
        key = keys.new(request.key_type or self.settings.key_type)
        leaf = Leaf(wanted, key.public_key(), name, certificate_path, request.term)
        p12 = None if p12_password is None else pkcs12.Wish(p12_path, p12_password, p12_target)
        return self._issue(leaf, key=(key_path, key), p12=p12, replace=force)

    def sign(
        self,
        csr: Path,
        profile: str,
        *,
        name: str,
        term: Term | None = None,
        out: Path = Path(),
        force: bool = False,
    ) -> Issued:
        """Certify the key in a request: `NAME.crt`, with the intermediate behind it.

        Args:
            csr: the file with the request, PEM or DER
            profile: what the certificate may be used for, whatever the request asks for
            name: of the file and in the index
            term: how long it is valid
            out: folder for the file, made with mode 0700 if it is not there
            force: overwrite a file that is there

        Raises:
            BadValue: the name or the term cannot be.
            PkiError: the request cannot be signed; see `requests.load`.
        """
        names.check_file_name(name)
        signable = requests.load(csr, profile)
        leaf = Leaf(signable.wanted, signable.public_key, name, out / f"{name}.crt", term or Term())
        return self._issue(leaf, left_out=signable.left_out, replace=force)

    def renew(
        self,
        target: str,
        *,
        rekey: bool = False,
        key_type: str | None = None,
        term: Term | None = None,
        out: Path | None = None,
        force: bool = False,
        later: bool = False,
    ) -> Issued:
        """Issue a certificate anew, with the same names and purpose, in place of the old one, which stays good until its end.

        Args:
            target: a name (its newest certificate is meant), a serial number (hexadecimal) or a certificate file
            rekey: for a new key; else the certificate is for the key that the old one is for
            key_type: of the new key, the same as that of the old one unless given
            term: how long it is valid; as long as the old one was asked to be unless given
            out: folder for the new files, instead of replacing the old ones
            force: overwrite files in `out`
            later: only if the new one can end later than the old one, which its authority's end may prevent

        Raises:
            BadValue: the term cannot be, or a name that the authority may not certify any more.
            PkiError: nothing is meant, it has been revoked, its file is not there or another's.
        """
        with index.opened(self.folder / store.INDEX, change=False) as journal:
            entry = renewal.newest(revoke.find(journal, target), target, renewal.followed(journal.entries.values()))
        if later:
            renewal.refuse_no_later(entry, self.intermediate, self.folder)
        path = renewal.file_of(entry, target)
        old = renewal.load(entry, path)
        wanted, public_key = renewal.taken_over(entry, old)
        has_key = renewal.check_key(path.with_suffix(".key"), old, replaced=rekey)
        new = path if out is None else out / f"{entry.name}.crt"
        key = None
        if rekey:
            if not has_key:
                text = f"{path.with_suffix('.key')} is not there: who has the key makes a request for a new one (nlb cert csr)"
                raise PkiError(f"{text}, and `nlb cert sign` signs it")
            made = keys.new(key_type or keys.kind_of(old))
            key, public_key = (new.with_suffix(".key"), made), made.public_key()
        leaf = Leaf(wanted, public_key, entry.name, new, term or Term(days=entry.days), renews=entry)
        return self._issue(leaf, key=key, replace=force or out is None)

    def check_live(self) -> None:
        """Whether it can issue at all.

        Raises:
            PkiError: its intermediate has been revoked, or the index is damaged.
        """
        with index.opened(self.folder / store.INDEX, change=False) as journal:
            self._live(journal)

    def due(self, before: dt.timedelta, profiles: Sequence[str] = PROFILES) -> list[Entry]:
        """The certificates to be renewed that end within `before`; see `renewal.due`."""
        return renewal.due(self.entries(), index.now(), before, profiles)

    def _issue(
        self,
        leaf: Leaf,
        *,
        replace: bool,
        key: tuple[Path, PrivateKey] | None = None,
        p12: pkcs12.Wish | None = None,
        left_out: tuple[str, ...] = (),
    ) -> Issued:
        """Sign the leaf, note it in the index and write its files: all or nothing."""
        wanted = constraints.without_words(self.intermediate, leaf.wanted)
        constraints.check(self.intermediate, wanted.sans)
        validity = issue.window(index.now(), self.settings.days(wanted.profile), self.intermediate, leaf.term)
        if not replace:
            store.refuse_existing([leaf.path, *([key[0]] if key else []), *([p12.path] if p12 else [])])
        certificate = issue.leaf(wanted, leaf.public_key, self._hierarchy.signer(INTERMEDIATE), validity)
        outputs = [] if key is None else [Output(key[0], keys.pem(key[1]))]
        outputs.append(Output(leaf.path, hierarchy.pem(certificate, self.intermediate)))
        if p12 is not None and key is not None:
            outputs.append(Output(p12.path, p12.bundle(leaf.name, key[1], certificate, self.intermediate)))
        entry = hierarchy.entry_of(
            certificate,
            leaf.name,
            wanted.profile,
            INTERMEDIATE,
            wanted.sans,
            file=leaf.path,
            days=leaf.term.days,
            renews=None if leaf.renews is None else leaf.renews.serial,
        )
        store.make_folder(leaf.path.parent)
        with (
            store.staged(outputs, replace=replace) as publish,
            index.opened(self.folder / store.INDEX, change=True) as journal,
            journal.undone_on_failure(),
        ):
            self._live(journal)
            if leaf.renews is not None and journal.entries[leaf.renews.serial].revoked_at is not None:
                raise PkiError(f"{leaf.name} has been revoked meanwhile: it is not renewed")
            journal.issued(entry)
            publish()
        stale = leaf.path.with_suffix(".p12")
        return Issued(
            entry,
            leaf.path,
            leaf.path.with_suffix(".key"),
            p12.path if p12 else None,
            clamped=validity.clamped,
            late=validity.late,
            new_key=key is not None,
            left_out=left_out,
            renewed=leaf.renews,
            stale_p12=stale if leaf.renews is not None and stale.exists() else None,
        )

    # -- the authority itself ------------------------------------------------------------------------------------------

    def renew_authority(
        self, *, root_days: int | None = None, intermediate_days: int | None = None
    ) -> dict[str, tuple[Entry, bool]]:
        """New certificates for the keys of root and intermediate, each if it is given days; see `hierarchy`.

        Returns:
            for each the new certificate, and whether it ends with the root, earlier than was asked for

        Raises:
            BadValue: so many days are not possible, or something would outlive its issuer.
            PkiError: the root's key cannot be used, or the intermediate has been revoked.
        """
        self._hierarchy.prepare(ROOT)
        with index.opened(self.folder / store.INDEX, change=True) as journal:
            self._hierarchy.forget()  # somebody else may have renewed them meanwhile
            if self._own(journal).revoked_at is not None:
                text = f"the intermediate of {self.folder} has been revoked, and with it its key: make a new authority"
                raise PkiError(text)
            outputs, entries = self._hierarchy.renewed(root_days, intermediate_days)
            renewal.refuse_outliving(journal.entries.values(), entries, root_days, intermediate_days)
            store.make_folder(self.folder / store.OLD)
            with store.staged(outputs, replace=True) as publish, journal.undone_on_failure():
                if INTERMEDIATE in entries:
                    journal.issued(entries[INTERMEDIATE])
                publish()
        self._hierarchy.forget()
        asked = {ROOT: root_days, INTERMEDIATE: intermediate_days}
        made = {}
        for which, entry in entries.items():
            days = asked[which]
            assert days is not None
            made[which] = (entry, entry.not_after - entry.not_before < dt.timedelta(days=days))
        return made

    def change_passphrase(self, authorities: Sequence[str], new: Callable[[], bytes] | None) -> list[Path]:
        """Keep the keys of these, of `words.AUTHORITIES`, under another passphrase: all or none. Returns their files.

        `new` is called once the old passphrase has opened them; without it they are kept under none.

        Raises:
            PkiError: a key is not there, cannot be written, or a passphrase is missing or wrong (exit code 77).
        """
        return self._hierarchy.change_passphrase(authorities, new)

    # -- revocation ----------------------------------------------------------------------------------------------------

    def revoke(self, target: str, reason: str = UNSPECIFIED) -> Revoked:
        """Take back what a name, a serial number (hexadecimal) or a certificate file means, and write new lists.

        A name means all certificates of that name that have not been revoked. What is on hold may be revoked for good.

        It needs the intermediate's key. The root's is needed to revoke the intermediate itself; for anything else the
        root's list is kept as it is if its key cannot be used, and `Crl.warning` says how long it is good, or that it
        is not.

        Raises:
            BadValue: there is no such reason.
            PkiError: nothing is meant, it is revoked already, or a file of the authority cannot be used.
        """
        self._hierarchy.prepare(INTERMEDIATE, ROOT)
        with index.opened(self.folder / store.INDEX, change=True) as journal:
            taken = revoke.revoked(revoke.find(journal, target), target, reason, index.now())
            crl = self._write_lists(journal, taken, self.settings.crl_days)
            return Revoked(tuple(journal.standing(taken)), crl)

    def release(self, target: str) -> Revoked:
        """Give back what has been revoked with the reason certificateHold, and write new lists; see `revoke`.

        Raises:
            PkiError: nothing is meant, or it is not on hold.
        """
        self._hierarchy.prepare(INTERMEDIATE, ROOT)
        with index.opened(self.folder / store.INDEX, change=True) as journal:
            given = revoke.released(revoke.find(journal, target), target)
            crl = self._write_lists(journal, given, self.settings.crl_days)
            return Revoked(tuple(journal.standing(given)), crl)

    def crl(self, days: int | None = None, *, if_older: dt.timedelta | None = None) -> Crl:
        """Write the lists of revoked certificates, one for each of intermediate and root, into `ca.crl`.

        Args:
            days: until the next ones are due, never past the end of who signs; the authority's setting unless given
            if_older: only if those that are there are as old as this, or due within it

        If the root's key cannot be used, its list is kept as it is, and `Crl.warning` says how long it is good.

        Raises:
            PkiError: a file of the authority cannot be used or written; or the root's list is due and its key cannot
                be used: the intermediate's list has been written then.
        """
        if if_older is not None:
            with index.opened(self.folder / store.INDEX, change=False) as journal:
                there = lists.fresh(self._hierarchy, journal, if_older)
            if there is not None:
                return there
        self._hierarchy.prepare(INTERMEDIATE, ROOT)
        with index.opened(self.folder / store.INDEX, change=True) as journal:
            crl = self._write_lists(journal, [], self.settings.crl_days if days is None else days)
        if not crl.complete:
            raise PkiError(crl.warning)
        return crl

    def _write_lists(self, journal: Index, changed: list[Entry], days: int) -> Crl:
        self._own(journal)
        return lists.write(self._hierarchy, journal, changed, days)

    # -- what there is -------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All certificates this authority has issued, in that order; the first is its intermediate."""
        with index.opened(self.folder / store.INDEX, change=False) as journal:
            self._own(journal)
            return journal.standing(journal.entries.values())

    def describe(self) -> dict[str, Any]:
        """What `nlb ca show` prints."""
        with index.opened(self.folder / store.INDEX, change=False) as journal:
            pass
        now = index.now()
        own = journal.entries.get(self.intermediate.serial_number)
        entries = journal.standing(journal.entries.values())
        leaves = [entry.status(now) for entry in entries if entry.profile != AUTHORITY]
        crl = self.folder / store.CRL
        return {
            "folder": str(self.folder),
            "name": self.settings.name,
            ROOT: self._described(ROOT),
            INTERMEDIATE: {**self._described(INTERMEDIATE), "status": own.status(now) if own else "not in the index"},
            "certificates": {status: leaves.count(status) for status in index.STATUSES},
            "crl": {
                "file": str(crl) if crl.exists() else None,
                "number": journal.crl_number or None,
                "next_update": {issuer: index.stamp(moment) for issuer, moment in journal.next_updates.items()},
            },
        }

    def _described(self, which: str) -> dict[str, object]:
        return {
            **hierarchy.described(self._hierarchy.certificate(which)),
            "key_present": self._hierarchy.has_key(which),
            "key_encrypted": self._hierarchy.is_encrypted(which),
        }

    def _live(self, journal: Index) -> None:
        if self._own(journal).revoked_at is not None:
            raise PkiError(f"the intermediate of {self.folder} has been revoked: nothing it signs is accepted")

    def _own(self, journal: Index) -> Entry:
        """The intermediate's entry: an index without it has been emptied, or the authority replaced meanwhile."""
        entry = journal.entries.get(self.intermediate.serial_number)
        if entry is None:
            text = f"{journal.path} is not the index of {self.folder / store.INTERMEDIATE_CERTIFICATE}"
            raise PkiError(f"{text}: it is damaged or another authority's; restore it from a backup")
        return entry
