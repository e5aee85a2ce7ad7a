"""What can go wrong with a certificate authority: each with one sentence that says what to do."""

from __future__ import annotations

from nlbcore.errors import EXIT_FAILED, NlbError

EXIT_USAGE = 2


class PkiError(NlbError):
    """A file of the authority, or one it was to write, cannot be used; exit code 77 where a permission is missing."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BadValue(PkiError):  # noqa: N818 - the value is bad, the program is well
    """What the caller asked for makes no certificate.

    Args:
        field: the argument's name, for example `dns`; the command line makes an option's name of it
        value: what was given
        reason: why it cannot be, and what could: a sentence, or one whose subject is the value (`is ...`, `has ...`)
    """

    def __init__(self, field: str, value: object, reason: str) -> None:
        self.field = field
        self.value = value
        self.reason = reason
        super().__init__(self.about(field), EXIT_USAGE)

    def about(self, called: str) -> str:
        """The message, of an argument that is called so, without anything that a terminal obeys: a stranger may have written it."""
        between = " " if self.reason.startswith(("is ", "has ")) else ": "
        text = f'{called} "{self.value}"{between}{self.reason}'
        return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
