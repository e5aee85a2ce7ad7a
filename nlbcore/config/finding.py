"""One remark about the configuration file, printed the way compilers print, so that editors and CI find the place."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Severity = Literal["error", "warning"]

KeyPath = tuple[str | int, ...]
"""A key in the file: table and key names, and indices of arrays from 0."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """`line` and `column` count characters from 1; 0 where the remark is about the file as a whole. `denied`: for lack of
    a permission.
    """

    file: str
    line: int
    column: int
    severity: Severity
    key: str
    message: str
    hint: str = ""
    denied: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}: {self.severity}: {key}{self.message}{hint}"

    def as_dict(self) -> dict[str, str | int]:
        """For `nlb check --json`."""
        fields = asdict(self)
        del fields["denied"]
        return fields


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort by position, drop what was found twice."""
    return tuple(dict.fromkeys(sorted(findings, key=lambda f: (f.line, f.column, f.severity, f.key, f.message))))


def key_text(path: KeyPath) -> str:
    """`listeners.web.certificates[0].private_key`; a name that is no bare TOML key is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (
                part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            )
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint naming the known word nearest to `word`, or nothing."""
    lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f'did you mean "{lower[close[0]]}"?' if close else ""
