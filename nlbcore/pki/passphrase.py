"""Where the passphrase of an authority's keys comes from: a file, the environment, systemd, or somebody who is asked.

The first that is there counts:

1. the first line of a file that was named
2. the variable NLB_CA_PASSPHRASE
3. the file `ca-passphrase` in $CREDENTIALS_DIRECTORY, where systemd puts what `LoadCredential=` names (systemd.exec(5))
4. the terminal

A new passphrase for keys that have one already comes from places of its own; see `NewPassphrase`.

Nothing is looked for, and nobody is asked, before a key turns out to need it. What has opened one key is tried on the
next before anybody is asked again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from nlbcore.errors import EXIT_PERMISSION
from nlbcore.pki.errors import PkiError
from nlbcore.pki.pkcs12 import read_password

CREDENTIALS = "CREDENTIALS_DIRECTORY"
LONGEST = 1023
"""Bytes; OpenSSL has no room for more."""

Ask = Callable[[str], str]
"""Puts a question and returns the answer."""


class Passphrase:
    """The passphrases of an authority's keys.

    Args:
        file: whose first line it is
        ask: puts the question to a person; None where there is nobody
    """

    word = "passphrase"
    option = "--passphrase-file"
    variable = "NLB_CA_PASSPHRASE"
    credential = "ca-passphrase"

    def __init__(self, file: Path | None = None, ask: Ask | None = None) -> None:
        self._file = file
        self._ask = ask
        self._answers: list[bytes] = []
        self._asked_for: set[Path] = set()

    def of(self, path: Path) -> Iterator[bytes]:
        """What to try on the key in `path`. Each is asked for once: a wrong answer is no reason to ask again.

        Raises:
            PkiError: there is none; exit code 77.
        """
        given = self.given()
        if given is not None:
            yield given
            return
        yield from self._answers
        if path in self._asked_for:
            return
        if self._ask is not None:
            self._asked_for.add(path)
        yield self._asked(f"Passphrase of {path}", f"{path} is kept under a passphrase")

    def given(self) -> bytes | None:
        """The passphrase that is there without asking."""
        if self._file is not None:
            return _checked(read_password(self._file), str(self._file))
        if self.variable in os.environ:
            return _checked(os.environ[self.variable], self.variable)
        folder = os.environ.get(CREDENTIALS)
        if folder and (path := Path(folder) / self.credential).exists():
            return _checked(read_password(path), str(path))
        return None

    def new(self, folder: Path) -> bytes:
        """The passphrase for new keys in `folder`; `ask` has to have it typed twice.

        Raises:
            PkiError: there is none; exit code 77.
        """
        given = self.given()
        if given is not None:
            return given
        return self._asked(f"{self.word.capitalize()} for the keys of {folder}", f"a {self.word} is needed")

    def _asked(self, question: str, why: str) -> bytes:
        if self._ask is None:
            text = (
                f"{why}, and there is no terminal to ask at: {self.option} FILE, the variable {self.variable} or"
                f" systemd's LoadCredential={self.credential}:FILE gives it"
            )
            raise PkiError(text, EXIT_PERMISSION)
        answer = _checked(self._ask(question), question)
        self._answers.append(answer)
        return answer


class NewPassphrase(Passphrase):
    """The passphrase that is to replace the one of the keys."""

    word = "new passphrase"
    option = "--new-passphrase-file"
    variable = "NLB_CA_NEW_PASSPHRASE"
    credential = "ca-new-passphrase"


def _checked(text: str, where: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if not data:
        raise PkiError(f"{where}: the passphrase is empty", EXIT_PERMISSION)
    if len(data) > LONGEST:
        raise PkiError(f"{where}: the passphrase is longer than {LONGEST} bytes", EXIT_PERMISSION)
    return data
