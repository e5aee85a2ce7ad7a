"""The exceptions of the balancer: few, each with its data and with the exit code that the command line ends with."""

from __future__ import annotations

from collections.abc import Iterable

EXIT_FAILED = 1
EXIT_NOT_RUNNING = 69
EXIT_BUSY = 75
EXIT_PERMISSION = 77
EXIT_CONFIG = 78


class NlbError(Exception):
    """What a user is told in one line, without a traceback."""

    exit_code: int = EXIT_FAILED


class ConfigError(NlbError):
    """The configuration cannot be used. Who raises it has printed the findings; they are kept for whoever catches it.

    `findings` are `nlbcore.config.finding.Finding` objects in the order of the file; each prints itself as one line.
    They are typed as plain objects because this module is below `nlbcore.config`. The exit code is 77 where nothing but
    permissions is missing.
    """

    exit_code = EXIT_CONFIG

    def __init__(self, message: str, findings: Iterable[object] = (), exit_code: int = EXIT_CONFIG) -> None:
        super().__init__(message)
        self.findings: tuple[object, ...] = tuple(findings)
        self.exit_code = exit_code


class StartError(NlbError):
    """The configuration is good but the balancer cannot start: 77 where a permission is missing, else 1."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NotRunningError(NlbError):
    """Nobody answers at the control socket."""

    exit_code = EXIT_NOT_RUNNING


class BusyError(NlbError):
    """The balancer is there and cannot do it now; try again."""

    exit_code = EXIT_BUSY


class DeniedError(NlbError):
    """This user or process may not ask for it."""

    exit_code = EXIT_PERMISSION


class RefusedError(NlbError):
    """The running balancer has answered no; the exit code is in its answer."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
