"""Killed at every other step, or out of disk at each, of each command: what has a name is whole, and the authority goes on working.

One process forks a child for each step, which it stops there; what the child has left behind is looked at afterwards.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nlbcore.pki import index, lists
from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request
from tests.support.programs import run

SCRIPT = """
import errno, json, os, shutil, signal, sys
from itertools import count
from pathlib import Path
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import PkiError
from nlbcore.pki.issue import Request

how, call, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
CALLS = {
    "init": lambda at: Authority.create(at / "ca", force=True),
    "issue": lambda at: Authority.open(at / "ca").issue(
        Request("bob", "client"), out=at / "out", p12_password="x", force=True),
    "rekey": lambda at: Authority.open(at / "ca").renew(str(at / "out/bob.crt"), rekey=True),
    "revoke": lambda at: Authority.open(at / "ca").revoke("bob", "keyCompromise"),
    "crl": lambda at: Authority.open(at / "ca").crl(),
    "renew": lambda at: Authority.open(at / "ca").renew_authority(root_days=5000, intermediate_days=2500),
}
EVENTS = {
    "killed": ("open", "fcntl.flock", "os.link", "os.rename", "os.remove", "os.truncate"),
    "full": ("os.link", "os.rename"),
}[how]

def stop(place):
    steps = 0
    def step(event, arguments):
        nonlocal steps
        if event in EVENTS and str(folder) in str(arguments) or event in ("fcntl.flock", "os.truncate"):
            steps += 1
            if steps == place:
                if how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sys.addaudithook(step)

said = []
for place in count(1, {"killed": 2, "full": 1}[how]):
    at = folder / f"{place}"
    shutil.copytree(folder / "base", at)
    child = os.fork()
    if not child:
        stop(place)
        try:
            CALLS[call](at)
        except PkiError as error:
            (at / "error").write_text(str(error))
            os._exit(1)
        except BaseException as error:
            (at / "error").write_text(repr(error))
            os._exit(3)
        os._exit(0)
    said.append((place, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    if said[-1][1] == 0:
        break
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def base(module_folder: Path) -> Path:
    """An authority that has issued and has lists, as each step finds it."""
    authority = Authority.create(module_folder / "base/ca", name="Example")
    authority.issue(Request("bob", "client"), out=module_folder / "base/out", p12_password="x")
    for number in range(5):  # so many that the index is larger than any other file
        authority.issue(Request(f"c{number}", "client"), out=module_folder / "base/out")
    authority.crl()
    return module_folder


def steps(base: Path, tmp_path: Path, how: str, call: str) -> list[tuple[Path, int]]:
    """The folder and the exit code of each step; the last one got through."""
    (tmp_path / "base").symlink_to(base / "base")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how, call, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [(tmp_path / str(place), code) for place, code in json.loads(done.stdout)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def whole(folder: Path) -> None:
    """Every file that has its name is one."""
    for path in folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".crt":
            assert x509.load_pem_x509_certificates(data)
        elif path.suffix == ".key":
            load_pem_private_key(data, None)
        elif path.name == "ca.crl":
            assert len(lists.lists(path)) == data.count(b"BEGIN") == 2
        elif path.suffix == ".crl":
            x509.load_der_x509_crl(data)


@pytest.mark.parametrize(
    ("call", "least"), [("issue", 7), ("rekey", 7), ("revoke", 7), ("crl", 7), ("renew", 10), ("init", 12)]
)
def test_killed(base: Path, tmp_path: Path, call: str, least: int) -> None:
    tried = steps(base, tmp_path, "killed", call)
    assert len(tried) > least
    for at, code in tried:
        assert code in {0, -9}, (at / "error").read_text()
        whole(at)
        if call == "init" and not (at / "ca/ca.toml").exists():
            Authority.create(at / "ca", force=True)
        authority = Authority.open(at / "ca")
        known = {entry.sha256 for entry in authority.entries()}
        if call != "init":
            for path in (at / "out").glob("*.crt"):
                assert index.fingerprint(x509.load_pem_x509_certificate(path.read_bytes())) in known
        dave = authority.issue(Request("dave", "client"), out=at / "out")
        revoked = authority.revoke(dave.entry.serial_hex)
        assert revoked.crl.complete
    at = tried[-1][0]
    for name in ("intermediate", "root"):
        trust = ("-CAfile", str(at / "ca/chain.crt"), "-noout")
        assert b"verify OK" in run("openssl", "crl", "-inform", "DER", "-in", str(at / f"ca/{name}.crl"), *trust).stderr


@pytest.mark.parametrize(
    ("call", "least"), [("issue", 6), ("rekey", 4), ("revoke", 6), ("crl", 6), ("renew", 6), ("init", 15)]
)
def test_the_disk_is_full(base: Path, tmp_path: Path, call: str, least: int) -> None:
    """At any name: all or none over files that are there. Key and certificate stay a pair, the index has no entry more."""
    before = contents(base / "base")
    tried = steps(base, tmp_path, "full", call)
    assert len(tried) > least
    for at, code in tried[:-1]:
        assert code == 1, (at / "error").read_text()
        assert (at / "error").read_text().endswith(": no space left on device")
        (at / "error").unlink()
        assert contents(at) == before, at
    assert not [path for path in tried[-1][0].rglob(".*") if path.is_file()]


LIMITED = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    CALLS[call](folder)
except PkiError as error:
    print(error)
"""


@pytest.mark.parametrize("file", ["out/.bob.key", "out/.bob.crt", "ca/index"])
def test_the_disk_is_full_within_a_file(base: Path, tmp_path: Path, file: str) -> None:
    """A limit on the size of files stands for the full disk: the write comes up short in the same way."""
    at = tmp_path / "at"
    run("cp", "-r", str(base / "base"), str(at))
    before = contents(at)
    limit = {"out/.bob.key": 100, "out/.bob.crt": 1000, "ca/index": (at / "ca/index").stat().st_size + 100}[file]
    code = SCRIPT.partition("EVENTS =")[0] + LIMITED
    command = [sys.executable, "-c", code, "limited", "issue", str(at), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"cannot write {at}/{file.replace('.', '', 1)}: ")
    assert done.stdout.endswith((": file too large\n", ": no space left on device\n"))
    assert contents(at) == before
