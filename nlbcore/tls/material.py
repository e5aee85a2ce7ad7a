"""The certificates and keys that the configuration names, read and checked.

Every file is read once, whole, in one process, before anything is changed: what the workers get later is this, never a
path. Every finding of every file is told, not the first. What cannot serve a client at all is an error; what has been good
and is out of date is a warning, because the last good certificate is better than none.

The bytes of a private key are in one field only, which no repr shows; messages are in our own words, because those of a
parser might quote its input.
"""

from __future__ import annotations

import datetime
import os
import pickle
import shlex
import stat
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from OpenSSL import SSL

from nlbcore.config.finding import Finding, KeyPath, Severity, in_order, key_text
from nlbcore.tls import pem
from nlbcore.tls.custom_policy import policy_named
from nlbcore.tls.folders import CERTIFICATES, LISTS, is_folder, usable_in
from nlbcore.tls.pem import BadFile, DeniedFile
from nlbcore.tls.revocation import InForce, Revocations, Source, compile_lists
from nlbcore.tls.ruletable import Compiled, compile_rules
from nlbcore.tls.x509rules import authority_remarks, chain_remarks, dns_names, key_type, server_remarks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from nlbcore.config.model import CertificatePair, ClientAuth, Config, Listener
    from nlbcore.tls.policy import Policy

    Locate = Callable[[KeyPath], tuple[int, int]]

MAX_BYTES = 16 * 1024 * 1024
"""More than any CA bundle; a wrong path must not fill the memory."""

MAX_LIST_BYTES = 512 * 1024 * 1024
"""Ten million entries in PEM."""


_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """One certificate to serve, with its key.

    Attributes:
        path: the certificate file.
        key_path: the key file.
        chain: DER, the leaf first.
        key: PKCS#8 DER, not encrypted.
        names: the DNS names of subjectAltName in lower case, or the common name where there is no subjectAltName.
        not_after: the last moment of the leaf, UTC.
        key_type: "RSA", "EC", "Ed25519" or "Ed448".
        not_before: the first moment of the leaf, UTC.
    """

    path: Path
    key_path: Path
    chain: tuple[bytes, ...] = field(repr=False)
    key: bytes = field(repr=False)
    names: tuple[str, ...]
    not_after: datetime.datetime
    key_type: str
    not_before: datetime.datetime = _EPOCH


@dataclass(frozen=True, slots=True)
class ListenerMaterial:
    """What one listener is made of.

    Attributes:
        certificates: in the order of the file, the first is the default.
        ca: DER, each once, in the order of the files.
        revocations: the compiled table of the revocation lists (see `engine.revoked`); None without `crl`.
        lists: the revocation lists in it.
        rules: the compiled table of `allow` and `deny` (see `engine.rules`); None without them.
    """

    certificates: tuple[ServerCertificate, ...] = ()
    ca: tuple[bytes, ...] = field(default=(), repr=False)
    revocations: bytes | memoryview | None = field(default=None, repr=False)
    lists: tuple[InForce, ...] = ()
    rules: bytes | memoryview | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[object, ...]:
        """The tables may be pickled out of band (PEP 574), so that processes share them instead of having copies."""
        lists, rules = (None if one is None else pickle.PickleBuffer(one) for one in (self.revocations, self.rules))
        return ListenerMaterial, (self.certificates, self.ca, lists, self.lists, rules)


@dataclass(frozen=True, slots=True)
class Material:
    """By listener name; a listener without TLS has an empty entry."""

    listeners: dict[str, ListenerMaterial]


def load_material(
    config: Config, locate: Locate, file: str, at: datetime.datetime | None = None
) -> tuple[Material | None, tuple[Finding, ...]]:
    """Read everything that the TLS listeners name.

    Args:
        config: the model; also a partial one.
        locate: line and column of a key path in the configuration file.
        file: the name of the configuration file, for the findings.
        at: another time than now that CAs are judged by, where lists are about them too.

    Returns:
        The material, or None if there is an error; and the findings in the order of the configuration file.
    """
    reader = _Reader(locate, file, at)
    listeners = {
        name: reader.listener(
            listener, ("listeners", name), policy_named(listener.security_policy, config.security_policies)
        )
        if listener.protocol == "TCPSSL"
        else ListenerMaterial()
        for name, listener in config.listeners.items()
    }
    findings = in_order(reader.findings)
    failed = any(finding.severity == "error" for finding in findings)
    return None if failed else Material(listeners), findings


class _Reader:
    """Collects findings; reads a file once, however often it is named."""

    def __init__(self, locate: Locate, file: str, at: datetime.datetime | None) -> None:
        self._locate = locate
        self._file = file
        self._contents: dict[Path, tuple[bytes, os.stat_result] | BadFile] = {}
        self._tables: dict[tuple[object, ...], Revocations] = {}
        self._compiled: dict[tuple[tuple[str, ...], tuple[str, ...]], Compiled] = {}
        self._now = datetime.datetime.now(datetime.UTC)
        self._at = at
        self.findings: list[Finding] = []

    def listener(self, listener: Listener, path: KeyPath, policy: Policy) -> ListenerMaterial:
        certificates: list[ServerCertificate] = []
        seen: dict[tuple[str, str], int] = {}
        for index, pair in enumerate(listener.certificates):
            made = self._server_certificate(pair, (*path, "certificates", index), policy)
            if made is not None:
                self._overlap(made, index, seen, (*path, "certificates", index, "certificate"))
                certificates.append(made)
        authorities: dict[bytes, None] = {}
        if listener.client_auth.mode != "off":
            several = len(listener.client_auth.ca) > 1
            for index, name in enumerate(listener.client_auth.ca):
                where: KeyPath = (*path, "client_auth", "ca", *((index,) if several else ()))
                for file in self._files(name, where, CERTIFICATES, LISTS, partial(self._certificates_in, der=True)):
                    authorities.update(dict.fromkeys(self._authorities(file, where)))
        lists = self._revocations(listener.client_auth, tuple(authorities), (*path, "client_auth", "crl"))
        rules = self._rules(listener.client_auth, len(authorities), (*path, "client_auth"))
        return ListenerMaterial(tuple(certificates), tuple(authorities), lists.table, lists.in_force, rules)

    def _rules(self, auth: ClientAuth, authorities: int, path: KeyPath) -> bytes | None:
        """A listener's identity rules; compiled once for all listeners with the same ones."""
        if auth.mode == "off":
            return None
        key = (auth.allow or (), auth.deny)
        if key not in self._compiled:
            self._compiled[key] = compile_rules(*key)
        made = self._compiled[key]
        lists = dict(zip(("allow", "deny"), key, strict=True))
        for name, number, severity, text, hint in made.remarks:
            self._add((*path, name, *((number,) if len(lists[name]) > 1 else ())), severity, text, hint)
        if authorities > 1 and any(text.lower().startswith("serial:") for text in key[0]):
            text = "serial numbers are one CA's own: with several CAs, another one's client may have the same"
            self._add((*path, "allow"), "warning", text, "sha256: names one certificate")
        return made.table

    def _revocations(self, auth: ClientAuth, authorities: tuple[bytes, ...], path: KeyPath) -> Revocations:
        """A listener's lists; compiled once for all listeners with the same lists and CAs."""
        if auth.mode == "off" or not auth.crl or not authorities:
            return Revocations(None, ())
        several = len(auth.crl) > 1
        places: list[KeyPath] = []
        files: list[Path] = []
        for index, name in enumerate(auth.crl):
            where = (*path, *((index,) if several else ()))
            found = self._files(name, where, LISTS, CERTIFICATES, self._lists)
            files += found
            places += [where] * len(found)
        key = (tuple(files), auth.on_crl_overdue, auth.crl_scope, authorities)
        if key not in self._tables:
            self._tables[key] = compile_lists(
                [Source(name, partial(self._lists, name)) for name in files],
                [x509.load_der_x509_certificate(der) for der in authorities],
                self._now,
                overdue_accepted=auth.on_crl_overdue == "accept",
                chain=auth.crl_scope == "chain",
                at=self._at,
            )
        made = self._tables[key]
        for number, severity, text, hint in made.remarks:
            self._add(path if number is None else places[number], severity, text, hint)
        return made

    def _files(
        self, name: Path, path: KeyPath, kind: frozenset[str], others: frozenset[str], read: Callable[[Path], object]
    ) -> list[Path]:
        """The file of that name; or the files of a folder, without those that hold something else, which is told."""
        if not is_folder(name):
            return [name]
        try:
            return usable_in(name, kind, others, read, lambda text: self._add(path, "warning", text))
        except BadFile as error:
            self._bad(path, name, error)
            return []

    def _lists(self, name: Path) -> list[bytes]:
        try:
            data, _ = self._read(name, MAX_LIST_BYTES)
        except BadFile as error:
            hint = error.hint or "`nlb ca crl DIR` writes the lists of an authority that `nlb ca init` has made"
            raise type(error)(str(error), hint) from None
        return pem.revocation_lists(data)

    def _server_certificate(self, pair: CertificatePair, path: KeyPath, policy: Policy) -> ServerCertificate | None:
        chain = self._chain(pair.certificate, (*path, "certificate"))
        key = self._key(pair.private_key, (*path, "private_key"))
        if not chain or key is None:
            return None
        matching = [
            number for number, one in enumerate(chain, 1) if _public(one.public_key()) == _public(key.public_key())
        ]
        if matching[:1] != [1]:
            self._mismatch(pair, path, matching)
            return None
        refused = _refused_by_openssl(chain, key, policy)
        if refused:
            text = f"{pair.certificate}: OpenSSL refuses it under {policy.name}: {refused}"
            self._add((*path, "certificate"), "error", text)
        return ServerCertificate(
            path=pair.certificate,
            key_path=pair.private_key,
            chain=tuple(one.public_bytes(Encoding.DER) for one in chain),
            key=key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            names=dns_names(chain[0]),
            not_after=chain[0].not_valid_after_utc,
            key_type=key_type(chain[0]),
            not_before=chain[0].not_valid_before_utc,
        )

    def _mismatch(self, pair: CertificatePair, path: KeyPath, matching: list[int]) -> None:
        if matching:
            where = f"the key belongs to certificate {matching[0]} of {pair.certificate}"
            self._add((*path, "certificate"), "error", where, "the server certificate stands first in its file")
        else:
            text = f"{pair.private_key}: this key does not belong to the certificate in {pair.certificate}"
            self._add((*path, "private_key"), "error", text)

    def _chain(self, name: Path, path: KeyPath) -> list[x509.Certificate]:
        chain = self._certificates(name, path)
        if chain:
            self._remarks(name, path, server_remarks(chain[0], self._now))
            self._remarks(name, path, chain_remarks(chain, self._now))
        return chain

    def _authorities(self, name: Path, path: KeyPath) -> Iterable[bytes]:
        for number, certificate in enumerate(certificates := self._certificates(name, path, der=True), 1):
            label = f"certificate {number} of {name}" if len(certificates) > 1 else str(name)
            self._remarks(label, path, authority_remarks(certificate, self._now))
            yield certificate.public_bytes(Encoding.DER)

    def _certificates_in(self, name: Path, *, der: bool) -> tuple[list[x509.Certificate], list[BadFile]]:
        data, _ = self._read(name)
        return pem.certificates(data, der=der)

    def _certificates(self, name: Path, path: KeyPath, *, der: bool = False) -> list[x509.Certificate]:
        try:
            certificates, bad = self._certificates_in(name, der=der)
        except BadFile as error:
            self._bad(path, name, error)
            return []
        for problem in bad:
            self._bad(path, name, problem)
        return [] if bad else certificates

    def _key(self, name: Path, path: KeyPath) -> PrivateKeyTypes | None:
        try:
            data, status = self._read(name)
        except BadFile as error:
            self._bad(path, name, error)
            return None
        mode = stat.S_IMODE(status.st_mode)
        # Who owns a file as root has given it to the group on purpose (Debian's ssl-cert, a Kubernetes secret).
        if mode & (0o026 if status.st_uid == 0 and os.geteuid() != 0 else 0o066):
            who = "others" if mode & 0o006 else "its group"
            what = "read" if mode & 0o044 else "written"
            text = f"{name}: this private key can be {what} by {who} (mode {mode:04o})"
            self._add(path, "error", text, f"run: chmod {mode & 0o700:o} {shlex.quote(str(name))}")
        try:
            return pem.private_key(data)
        except BadFile as error:
            self._bad(path, name, error)
            return None

    def _read(self, name: Path, limit: int = MAX_BYTES) -> tuple[bytes, os.stat_result]:
        if name not in self._contents:
            try:
                self._contents[name] = read_file(name, limit)
            except BadFile as error:
                self._contents[name] = error
        content = self._contents[name]
        if isinstance(content, BadFile):
            raise content
        return content

    def _overlap(self, made: ServerCertificate, index: int, seen: dict[tuple[str, str], int], path: KeyPath) -> None:
        """Tell of the first certificate of `seen` (by name and kind of key) that shares a name, and enter this one."""
        known = [(name, made.key_type) for name in made.names]
        shared = sorted((seen[one], one[0]) for one in known if one in seen)
        if shared:
            other, name = shared[0]
            text = (
                f"{name} is in certificates[{other}] too, with the same kind of key: that one is used while it is valid"
            )
            self._add(path, "warning", text)
        for one in known:
            seen.setdefault(one, index)

    def _remarks(self, name: Path | str, path: KeyPath, remarks: Iterable[tuple[Severity, str]]) -> None:
        for severity, text in remarks:
            self._add(path, severity, f"{name}: {text}")

    def _bad(self, path: KeyPath, name: Path, error: BadFile) -> None:
        hint = error.hint.replace("FILE", shlex.quote(str(name)))
        self._add(path, "error", f"{name}: {error}", hint, denied=isinstance(error, DeniedFile))

    def _add(self, path: KeyPath, severity: Severity, message: str, hint: str = "", *, denied: bool = False) -> None:
        place = self._locate(path)
        self.findings.append(Finding(self._file, *place, severity, key_text(path), message, hint, denied))


def read_file(name: Path, limit: int) -> tuple[bytes, os.stat_result]:
    """Content and status of one and the same file, also if it is being replaced; never waits (a FIFO, a device).

    Raises:
        DeniedFile: this user may not read it
        BadFile: it cannot be read, is empty, or larger than `limit` bytes
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        raise DeniedFile("may not be read", "run as the user that nlb runs as") from None
    except OSError as error:
        raise BadFile((error.strerror or "cannot be read").lower()) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadFile("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
        with open(descriptor, "rb", closefd=False) as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise BadFile((error.strerror or "cannot be read").lower()) from None
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise BadFile(f"is larger than {limit // 1024 // 1024} MB")
    if not data.strip():
        raise BadFile("is empty")
    return data, status


def _public(key: object) -> bytes:
    made: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return made


def _refused_by_openssl(chain: list[x509.Certificate], key: PrivateKeyTypes, policy: Policy) -> str:
    """Load a certificate the way the listener will, into a context that is thrown away; the reason if OpenSSL says no.

    What is too weak depends on the security level of the policy and on the release of OpenSSL: so it is asked.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(f"ALL:{policy.level}".encode())
    try:
        context.use_certificate(chain[0])
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(key)  # type: ignore[arg-type]
    except SSL.Error as error:
        reasons = error.args[0] if error.args else []
        return reasons[-1][-1] if reasons else "no reason given"
    except TypeError:
        return f"keys of this type ({key_type(chain[0])}) cannot serve TLS"
    return ""
