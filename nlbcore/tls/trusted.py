"""What a listener takes from a folder that its `ca` or `crl` names, for who looks at it without a listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from nlbcore.errors import NlbError
from nlbcore.tls import pem
from nlbcore.tls.folders import CERTIFICATES, LISTS, usable_in
from nlbcore.tls.material import MAX_BYTES, MAX_LIST_BYTES, read_file
from nlbcore.tls.pem import BadFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeVar

    Kind = TypeVar("Kind", x509.Certificate, x509.CertificateRevocationList)


def certificates(folder: Path, tell: Callable[[str], None]) -> list[x509.Certificate]:
    """The certificates of a folder; `tell` is given a sentence for each file that is passed over.

    Raises:
        NlbError: there is none, or one is damaged.
    """

    def read(file: Path) -> tuple[list[x509.Certificate], list[BadFile]]:
        return pem.certificates(read_file(file, MAX_BYTES)[0], der=True)

    return _of(folder, CERTIFICATES, LISTS, read, tell)


def revocation_lists(folder: Path, tell: Callable[[str], None]) -> list[x509.CertificateRevocationList]:
    """The revocation lists of a folder; see `certificates`."""

    def read(file: Path) -> tuple[list[x509.CertificateRevocationList], list[BadFile]]:
        encoded = pem.revocation_lists(read_file(file, MAX_LIST_BYTES)[0])
        try:
            return [x509.load_der_x509_crl(der) for der in encoded], []
        except ValueError:
            return [], [BadFile("a revocation list is damaged or of a kind that cannot be read")]

    return _of(folder, LISTS, CERTIFICATES, read, tell)


def _of(
    folder: Path,
    kind: frozenset[str],
    others: frozenset[str],
    read: Callable[[Path], tuple[list[Kind], list[BadFile]]],
    tell: Callable[[str], None],
) -> list[Kind]:
    found: list[Kind] = []
    held: dict[Path, tuple[list[Kind], list[BadFile]]] = {}

    def keep(file: Path) -> None:
        held[file] = read(file)

    at = folder
    try:
        for at in usable_in(folder, kind, others, keep, tell):
            good, bad = held[at] if at in held else read(at)  # which says again what is wrong with it
            if bad:
                raise bad[0]
            found += good
    except BadFile as error:
        raise NlbError(f"{at}: {error}") from None
    return found
