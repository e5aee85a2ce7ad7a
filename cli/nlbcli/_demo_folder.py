"""The folder of a demo: an authority, the certificates it has issued, and a configuration that uses them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, BusyError, NlbError, StartError
from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request

SOCKET = "nlb.sock"
SOCKET_PATH_LIMIT = 107
"""Bytes that the kernel takes (unix(7))."""
MARKER = ".nlb-demo"
"""Says that a folder is a demo's; locked while that demo runs."""

SERVER_NAMES = ("localhost", "www.example.com")
SERVER_ADDRESS = "127.0.0.1"
CLIENT = "client-1"
REVOKED = "client-2"
REASON = "keyCompromise"
PASSWORD = "demo"  # noqa: S105 - of a throw-away bundle, and printed
BACKENDS = ("a", "b")

CONFIGURATION = """\
# Made by `nlb demo`.

[node]
name = "demo"
workers = {workers}
control_socket = "{socket}"
drain_timeout = "2s"

[listeners.web]
bind = "{address}:{port}"
server_group = "app"
certificates = [{{ certificate = "server.crt", private_key = "server.key" }}]

[listeners.web.client_auth]
mode = "required"
ca = ["ca/chain.crt"]
crl = ["ca/ca.crl"]

[server_groups.app]
servers = [
{servers}
]

[server_groups.app.health_check]
interval = "1s"
"""


@contextlib.contextmanager
def opened(path: Path | None, *, force: bool) -> Iterator[Path]:
    """A folder for one demo, as an absolute path.

    Args:
        path: of a folder that is kept: new, empty, or with `force` an earlier demo's; None for a new one that is removed
        force: see there

    Raises:
        NlbError: the folder is not empty, cannot be made, or its path is too long
        BusyError: a demo is running in it
    """
    if path is None:
        _refuse_long(Path(tempfile.gettempdir()) / "nlb-demo-12345678", "$TMPDIR")
        made = Path(tempfile.mkdtemp(prefix="nlb-demo-"))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return
    path = path.absolute()
    _refuse_long(path, "--dir")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_foreign(path, force=force)
        marker = (path / MARKER).open("wb")
    except OSError as error:
        code = EXIT_PERMISSION if isinstance(error, PermissionError) else EXIT_FAILED
        raise StartError(f"cannot use the folder {path}: {(error.strerror or 'failed').lower()}", code) from None
    with marker:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"a demo is running in {path}: end it, or name another folder with --dir") from None
        yield path


def furnish(folder: Path, *, port: int, workers: int, backends: Sequence[int]) -> None:
    """Write the authority, the certificates and `nlb.toml`; what is there of an earlier demo is replaced.

    Args:
        folder: of the demo
        port: where the balancer listens
        workers: its processes
        backends: ports of the servers, in the order of `BACKENDS`
    """
    authority = Authority.create(folder / "ca", name="nlb demo", force=True)
    server = Request("server", "server", cn=SERVER_NAMES[0], dns=SERVER_NAMES, ip=[SERVER_ADDRESS])
    authority.issue(server, out=folder, force=True)
    authority.issue(Request("client", "client", cn=CLIENT), out=folder, p12_password=PASSWORD, force=True)
    authority.issue(Request("revoked", "client", cn=REVOKED), out=folder, force=True)
    authority.revoke("revoked", REASON)
    servers = [
        f'  {{ name = "{name}", address = "{SERVER_ADDRESS}:{backend}" }},'
        for name, backend in zip(BACKENDS, backends, strict=True)
    ]
    text = CONFIGURATION.format(
        socket=SOCKET, workers=workers, address=SERVER_ADDRESS, port=port, servers="\n".join(servers)
    )
    (folder / "nlb.toml").write_text(text, encoding="utf-8")


def _refuse_foreign(path: Path, *, force: bool) -> None:
    names = {one.name for one in path.iterdir()}
    if names and MARKER not in names:
        raise NlbError(f"{path} is not empty, and no demo's: name a new folder with --dir")
    if names and not force:
        raise NlbError(f"{path} holds an earlier demo: --force makes it anew, keys and certificates too")


def _refuse_long(path: Path, option: str) -> None:
    if len(os.fsencode(path / SOCKET)) > SOCKET_PATH_LIMIT:
        raise NlbError(f"{path} is too long for the path of a Unix socket in it: name a shorter one with {option}")
