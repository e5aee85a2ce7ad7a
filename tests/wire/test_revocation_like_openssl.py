"""The same certificates and lists given to a listener and to `openssl verify -crl_check`: both say the same; and with
`crl_scope = "chain"` to `-crl_check_all`.

The cases are the product of lists (what is in them, how they are encoded, who signed them, in which state) and clients.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.balancer import Balancer, server_group, tls_listener
from tests.support.certs import Authority, Issued, pem
from tests.support.lists import entry, overdue, revocation_list, write_lists
from tests.support.programs import need, run
from tests.support.tls_client import TLS13, TlsClient, client_context, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.certs import Pki

WORDS = {3: "crl_missing", 12: "crl_overdue", 23: "revoked"}
FLAGS = x509.ReasonFlags
SERIALS = (1, 127, 128, 255, 256, 2**64, 2**152 - 1, 2**152, 2**159 - 1)

Lists = tuple[x509.CertificateRevocationList, ...]


def cases(pki: Pki, below: Authority) -> dict[str, Lists]:
    reasons = (FLAGS.key_compromise, FLAGS.certificate_hold, FLAGS.unspecified, FLAGS.superseded)
    with_reasons = [
        entry(serial, (x509.CRLReason(reasons[index % 4]), False)) for index, serial in enumerate(SERIALS[::2])
    ]
    return {
        "empty": (revocation_list(pki.root), revocation_list(below)),
        "all": (revocation_list(pki.root, *SERIALS), revocation_list(below, *SERIALS)),
        "backwards": (revocation_list(pki.root, *SERIALS[::-2]), revocation_list(below, *SERIALS[1:4])),
        "reasons": (revocation_list(pki.root, *with_reasons), revocation_list(below)),
        "version1": (revocation_list(pki.root, *SERIALS[:3], number=None),),
        "only_root": (revocation_list(pki.root, *SERIALS[::3]),),
        "only_below": (revocation_list(below, *SERIALS[::3]),),
        "overdue": (overdue(pki.root, *SERIALS[::2]), overdue(below)),
        "one_overdue": (overdue(pki.root), revocation_list(below, *SERIALS[::2])),
    }


@pytest.fixture(scope="module")
def listed(pki: Pki) -> dict[str, Lists]:
    return cases(pki, pki.intermediate)


@pytest.fixture(scope="module")
def clients(pki: Pki) -> list[Issued]:
    ours = [pki.root.client(f"root-{serial}", serial=serial) for serial in SERIALS]
    below = [pki.intermediate.client(f"below-{serial}", serial=serial) for serial in SERIALS[::2]]
    return [*ours, *below, pki.root.client("plain", says_whose_key=False, serial=SERIALS[0])]


@pytest.fixture(scope="module")
def balancer(
    balancer_for: Callable[..., Balancer], backend: Backend, pki: Pki, listed: dict[str, Lists], module_folder: Path
) -> Balancer:
    listeners = {}
    for number, (name, lists) in enumerate(listed.items()):
        if number % 2:
            files = [write_lists(module_folder, one, encoding=Encoding.DER) for one in lists]
        else:
            files = [write_lists(module_folder, *lists)]
        listeners[name] = tls_listener(
            pki.server,
            ca=[pki.root.path, pki.intermediate.path],
            client_auth={"crl": [str(one) for one in files]},
        )
    return balancer_for({"listeners": listeners, "server_groups": {"app": server_group(backend)}})


def openssl_says(
    folder: Path, authorities_in: Iterable[Authority], lists: Lists, clients: list[Issued], *options: str
) -> dict[str, set[str]]:
    """For each client certificate's file the words of what OpenSSL has against it."""
    authorities = folder / "authorities.pem"
    authorities.write_bytes(b"".join(pem(one.certificate) for one in authorities_in))
    leaves = []
    for client in clients:
        leaves.append(folder / f"leaf-{client.path.name}")
        leaves[-1].write_bytes(pem(client.certificate))
    command = [need("openssl"), "verify", "-crl_check", *options, "-purpose", "sslclient"]
    command += ["-CAfile", str(authorities), "-CRLfile", str(write_lists(folder, *lists))]
    done = run(*command, *map(str, leaves), check=False)
    said: dict[str, set[str]] = {client.path.name: set() for client in clients}
    good = {line.removesuffix(": OK").rpartition("leaf-")[2] for line in done.stdout.decode().splitlines()}
    pending: set[str] = set()
    for line in done.stderr.decode().splitlines():
        if found := re.match(r"error (\d+) at \d depth", line):
            pending.add(WORDS[int(found[1])])
        elif found := re.match(r"error .*leaf-(.*): verification failed", line):
            said[found[1]], pending = pending, set()
    assert all(bool(words) is (name not in good) for name, words in said.items()), done.stderr.decode()
    return said


@pytest.mark.parametrize(
    "case", ["empty", "all", "backwards", "reasons", "version1", "only_root", "only_below", "overdue", "one_overdue"]
)
def test_the_same_verdict(
    balancer: Balancer, pki: Pki, listed: dict[str, Lists], clients: list[Issued], tmp_path: Path, case: str
) -> None:
    expected = openssl_says(tmp_path, (pki.root, pki.intermediate), listed[case], clients, "-partial_chain")
    agree(balancer, case, clients, expected)


def agree(balancer: Balancer, listener: str, clients: list[Issued], expected: dict[str, set[str]]) -> None:
    """The listener says of each client what was expected."""
    for certificate in clients:
        words = expected[certificate.path.name]
        client = TlsClient(balancer.port(listener), client_context(None, TLS13, certificate))
        if words:
            refusal(client)
            line = balancer.line(client)
            assert line["termination"] in words, certificate.common_name
        else:
            with client:
                client.handshake().ping()


# -- the whole chain ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(pki: Pki) -> dict[str, Authority]:
    """A root and two levels below it."""
    upper = pki.root.intermediate("Upper")
    return {"root": pki.root, "upper": upper, "lower": upper.intermediate("Lower")}


def chain_cases(tree: dict[str, Authority]) -> dict[str, Lists]:
    upper, lower = (tree[name].certificate.serial_number for name in ("upper", "lower"))
    root = tree["root"].certificate.serial_number
    good = {name: revocation_list(one, 5) for name, one in tree.items()}
    late = {name: overdue(one, 5) for name, one in tree.items()}
    bad = {"root": revocation_list(tree["root"], upper), "upper": revocation_list(tree["upper"], lower)}
    return {
        "chain_good": tuple(good.values()),
        "chain_upper_revoked": (bad["root"], good["upper"], good["lower"]),
        "chain_lower_revoked": (good["root"], bad["upper"], good["lower"]),
        "chain_root_revoked": (revocation_list(tree["root"], root), good["upper"], good["lower"]),
        "chain_no_root_list": (good["upper"], good["lower"]),
        "chain_no_upper_list": (good["root"], good["lower"]),
        "chain_no_lower_list": (good["root"], good["upper"]),
        "chain_root_overdue": (late["root"], good["upper"], good["lower"]),
        "chain_upper_overdue": (good["root"], late["upper"], good["lower"]),
        "chain_overdue_and_revoked": (late["root"], bad["upper"], good["lower"]),
    }


@pytest.fixture(scope="module")
def chain_listed(tree: dict[str, Authority]) -> dict[str, Lists]:
    return chain_cases(tree)


@pytest.fixture(scope="module")
def chain_clients(tree: dict[str, Authority]) -> list[Issued]:
    return [one.client(f"{name}-{serial}", serial=serial) for name, one in tree.items() for serial in (5, 6)]


@pytest.fixture(scope="module")
def chain_balancer(
    balancer_for: Callable[..., Balancer],
    backend: Backend,
    pki: Pki,
    tree: dict[str, Authority],
    chain_listed: dict[str, Lists],
    module_folder: Path,
) -> Balancer:
    ca = [one.path for one in tree.values()]
    listeners = {
        name: tls_listener(
            pki.server, ca=ca, client_auth={"crl": str(write_lists(module_folder, *lists)), "crl_scope": "chain"}
        )
        for name, lists in chain_listed.items()
    }
    return balancer_for({"listeners": listeners, "server_groups": {"app": server_group(backend)}})


@pytest.mark.parametrize("case", [f"chain_{name}" for name in (
    "good", "upper_revoked", "lower_revoked", "root_revoked", "no_root_list", "no_upper_list", "no_lower_list",
    "root_overdue", "upper_overdue", "overdue_and_revoked",
)])  # fmt: skip
def test_the_same_verdict_of_the_chain(
    chain_balancer: Balancer,
    tree: dict[str, Authority],
    chain_listed: dict[str, Lists],
    chain_clients: list[Issued],
    tmp_path: Path,
    case: str,
) -> None:
    """A revoked CA that stands in `ca` itself is refused all the same: OpenSSL says so of the chain up to the root."""
    expected = openssl_says(tmp_path, tree.values(), chain_listed[case], chain_clients, "-crl_check_all")
    assert case == "chain_good" or any(expected.values())
    agree(chain_balancer, case, chain_clients, expected)
