"""`ca.toml`: what an authority does unless it is told otherwise. Written once, for the owner to change."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from nlbcore.pki.errors import PkiError
from nlbcore.pki.issue import MAX_DAYS
from nlbcore.pki.store import failure
from nlbcore.pki.words import CLIENT_DAYS, CRL_DAYS, DEFAULT_KEY_TYPE, KEY_TYPES, SERVER_DAYS

FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """The defaults of an authority."""

    name: str
    key_type: str = DEFAULT_KEY_TYPE
    server_days: int = SERVER_DAYS
    client_days: int = CLIENT_DAYS
    crl_days: int = CRL_DAYS

    def days(self, profile: str) -> int:
        return self.server_days if profile == "server" else self.client_days


def render(settings: Settings) -> bytes:
    """The file's text; a JSON string is a TOML string."""
    return f"""\
# A certificate authority, made by `nlb ca init`. Change what you like but `format`.
format = {FORMAT}
name = {json.dumps(settings.name, ensure_ascii=False)}
key_type = "{settings.key_type}"  # of new certificates: {", ".join(KEY_TYPES)}
server_days = {settings.server_days}
client_days = {settings.client_days}
crl_days = {settings.crl_days}  # until the next list of revoked certificates is due
""".encode()


def load(path: Path) -> Settings:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        text = f"{path.parent} is not a certificate authority: it has no {path.name}. `nlb ca init {path.parent}` makes one"
        raise PkiError(text) from None
    except OSError as error:
        raise failure("read", path, error) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PkiError(f"{path} is not a TOML file: {error}") from None
    if table.pop("format", None) != FORMAT:
        raise PkiError(f"{path}: format: {FORMAT} is the only one known; was this written by a newer nlb?")
    kinds = {"name": str, "key_type": str, "server_days": int, "client_days": int, "crl_days": int}
    for key, value in table.items():
        if key not in kinds:
            raise PkiError(f"{path}: {key}: unknown key; known are {', '.join(kinds)}")
        if type(value) is not kinds[key]:
            raise PkiError(f"{path}: {key}: {'a number' if kinds[key] is int else 'a string'} is expected")
        if isinstance(value, int) and not 1 <= value <= MAX_DAYS:
            raise PkiError(f"{path}: {key}: 1 to {MAX_DAYS} days are possible")
    if "name" not in table:
        raise PkiError(f"{path}: name: missing")
    if table.get("key_type", DEFAULT_KEY_TYPE) not in KEY_TYPES:
        raise PkiError(f"{path}: key_type: one of {', '.join(KEY_TYPES)} is expected")
    return Settings(**table)
