"""What an authority answers when it has issued or revoked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nlbcore.pki import index
from nlbcore.pki.index import Entry
from nlbcore.pki.lists import Crl


@dataclass(frozen=True)
class Issued:
    """A new certificate, its files, and what is worth saying about it."""

    entry: Entry
    certificate: Path
    private_key: Path
    """Where its key is, if it is here at all: that of a request is with whoever has sent it."""
    p12: Path | None
    clamped: bool
    """It ends with its issuer, earlier than was asked for."""
    late: bool = False
    """It begins with its issuer, later than was asked for."""
    new_key: bool = True
    """The key has been made and written with the certificate."""
    left_out: tuple[str, ...] = ()
    """What the request asked for and the profile does not allow."""
    renewed: Entry | None = None
    """The certificate that it follows, which stays good until its end."""
    stale_p12: Path | None = None
    """A bundle beside it that has the certificate before."""

    def as_dict(self) -> dict[str, object]:
        key = self.private_key if self.new_key else None
        files = {"certificate": self.certificate, "private_key": key, "p12": self.p12}
        made: dict[str, object] = {
            **self.entry.as_dict(index.now()),
            "clamped": self.clamped,
            "late": self.late,
            "files": {kind: str(path) for kind, path in files.items() if path is not None},
        }
        if self.left_out:
            made["left_out"] = list(self.left_out)
        if self.renewed is not None:
            made["renewed"] = self.renewed.serial_hex
            made["stale_p12"] = str(self.stale_p12) if self.stale_p12 else None
        return made


@dataclass(frozen=True)
class Revoked:
    """Certificates that have been taken back or given back, and the lists that say so."""

    entries: tuple[Entry, ...]
    crl: Crl
