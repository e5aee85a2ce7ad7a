"""TLS listeners, and clients, for an engine that a test drives by hand."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from nlbcore.config.model import Config
from nlbcore.engine.revoked import Table
from nlbcore.tls.context import (
    Front,
    apply,
    blank,
    certificate_contexts,
    context_address,
    settings,
    store_address,
)
from nlbcore.tls.material import load_material
from tests.support.steps import result
from tests.support.tls_client import client_context

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.engine.running import Running
    from tests.support.certs import Authority, Issued, Pki


class Web:
    """A TLS listener over its generations: its front context outlives them all; `made` counts the connections on it."""

    def __init__(self, pki: Pki) -> None:
        self.pki = pki
        self.context = blank()
        self.made = 0

    def connections(self, count: int) -> list[tuple[int, int, int]]:
        found = Front(self.context).connections(count)
        self.made += len(found)
        return found

    def plan(
        self,
        *authorities: Authority,
        lists: Sequence[Path] = (),
        mode: str = "required",
        depth: int = 5,
        auth: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        """What a listener's plan says of TLS, put on the front context as at COMMIT.

        Args:
            authorities: whose clients are let in; default: those of the root
            lists: files with revocation lists
            mode: of the client's authentication
            depth: intermediates allowed
            auth: more of `client_auth`
            changes: more of the plan
        """
        made = Config.model_validate(
            {
                "listeners": {
                    "web": {
                        "bind": "127.0.0.1:443",
                        "server_group": "app",
                        "certificates": [self.pki.server.entry()],
                        "client_auth": {
                            "mode": mode,
                            "ca": [str(one.path) for one in authorities or (self.pki.root,)],
                            "crl": [str(one) for one in lists],
                            "depth": depth,
                            **(auth or {}),
                        }
                        if mode != "off"
                        else {"mode": "off"},
                    }
                },
                "server_groups": {"app": {}},
            }
        )
        found, findings = load_material(made, lambda _: (1, 1), "x.toml")
        assert found is not None, findings
        listener, material = made.listeners["web"], found.listeners["web"]
        wanted = settings("web", listener, material)
        apply(self.context, wanted)
        served = result(certificate_contexts(wanted, material.certificates))
        return {
            "front": self,
            "verify": wanted.verify,
            "optional": mode == "optional",
            "report": mode == "report",
            "tickets": True,
            "fallback": context_address(served.first),
            "names": {name: context_address(context) for name, context in served.by_name.items()},
            "store": store_address(wanted.live_store),
            "depth": depth,
            "revocations": None if material.revocations is None else Table(material.revocations),
            "keep_expired": listener.client_auth.on_expired == "keep",
            "keep": (wanted, served),
            **changes,
        }


class Client:
    """A client that needs the engine to take turns with it; closed with it."""

    def __init__(
        self,
        running: Running,
        pki: Pki,
        certificate: Issued | None,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.running = running
        self.context = context or client_context(pki.root.path, version, certificate)
        self._certificate = certificate
        sock = running.connect()
        sock.setblocking(False)
        self.ssl = self.context.wrap_socket(
            sock, server_hostname="www.example.com", do_handshake_on_connect=False, session=session
        )
        running.clients[-1] = self.ssl

    def step(self) -> bool:
        """Go on with the handshake: whether it is over, as far as the client knows."""
        try:
            self.ssl.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def shake(self) -> Client:
        self.running.turn(self.step)
        return self

    def read(self, size: int = 1) -> bytes:
        """So many bytes, or none at the end, whatever its form."""
        found: list[bytes] = []

        def came() -> bool:
            try:
                found.append(self.ssl.recv(size))
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            except (ssl.SSLError, ConnectionResetError):
                found.append(b"")
            return True

        self.running.turn(came)
        return found[0]
