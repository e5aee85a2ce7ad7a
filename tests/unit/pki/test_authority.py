"""The authority as a program uses it: made, found, used by many at once, damaged, replaced; test_crashes stops it halfway."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from nlbcore.pki import index, keys
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import BadValue, PkiError
from nlbcore.pki.issue import Request
from nlbcore.pki.names import Subject
from tests.support.programs import run

FILES = {"root.crt", "root.key", "intermediate.crt", "intermediate.key", "chain.crt", "ca.toml", "index"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- made and found ---------------------------------------------------------------------------------------------------


def test_create(tmp_path: Path) -> None:
    folder = tmp_path / "deep/ca"
    made = Authority.create(folder, name="Example", subject=Subject(country="de"))
    assert names(folder) == FILES
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert made.root.subject.rfc4514_string() == "CN=Example,C=DE"
    chain = (folder / "chain.crt").read_bytes()
    assert chain == (folder / "intermediate.crt").read_bytes() + (folder / "root.crt").read_bytes()
    for name in ("root", "intermediate"):
        certificate, key = str(folder / f"{name}.crt"), str(folder / f"{name}.key")
        assert run("openssl", "x509", "-in", certificate, "-noout", "-pubkey").stdout == (
            run("openssl", "pkey", "-in", key, "-pubout").stdout
        )
    found = Authority.open(folder)
    assert found.settings == made.settings
    assert found.intermediate == made.intermediate
    (entry,) = found.entries()
    assert (entry.name, entry.profile, entry.issuer) == ("intermediate", "ca", "root")
    assert entry.serial == made.intermediate.serial_number


def test_an_empty_folder_is_taken_and_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Authority.create(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("force", [False, True])
def test_the_folder_of_others_is_left_alone(tmp_path: Path, force: bool) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "index").write_text("my own")
    (tmp_path / "photo.jpg").write_text("precious")
    with pytest.raises(PkiError, match=r"is not empty: an authority needs a folder of its own"):
        Authority.create(tmp_path, force=force)
    assert contents(tmp_path) == {"index": b"my own", "photo.jpg": b"precious"}
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_replaced_with_force_only(tmp_path: Path, authority: Authority) -> None:
    authority.issue(Request("alice", "client"), out=authority.folder)
    authority.revoke("alice")
    before = contents(authority.folder)
    with pytest.raises(PkiError, match=r"is an authority already; --force replaces it"):
        Authority.create(authority.folder)
    assert contents(authority.folder) == before
    new = Authority.create(authority.folder, force=True)
    after = contents(authority.folder)
    assert all(after[name] != before[name] for name in FILES)
    assert "ca.crl" not in after
    assert [entry.name for entry in new.entries()] == ["intermediate"]
    new.issue(Request("bob", "client"), out=tmp_path)
    # Who still has the old one in memory issues nothing that the new index would not know.
    with pytest.raises(PkiError, match=r"intermediate.key is not the key of .*intermediate.crt"):
        authority.issue(Request("carol", "client"), out=tmp_path)


def test_replacing_a_damaged_one(authority: Authority) -> None:
    (authority.folder / "index").write_text("garbage\n")
    (authority.folder / "ca.toml").unlink()
    (authority.folder / ".root.key.abc.tmp").write_text("of a crash")
    with pytest.raises(PkiError, match=r"--force replaces it"):
        Authority.create(authority.folder)
    Authority.create(authority.folder, force=True)
    assert Authority.open(authority.folder).entries()


def test_an_attempt_that_got_nowhere_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(b"")
    (tmp_path / ".root.key.abc.tmp").write_bytes(b"half a k")
    Authority.create(tmp_path)
    assert names(tmp_path) == {*FILES, ".root.key.abc.tmp"}


KILLED_INIT = """
import os, sys
from pathlib import Path
from nlbcore.pki.authority import Authority
def step(event, arguments):
    if event == "os.link" and Path(arguments[1]).name == "root.key":
        os._exit(9)
sys.addaudithook(step)
Authority.create(Path(sys.argv[1]))
"""


def test_an_attempt_that_was_killed_before_the_first_name_is_repeated(tmp_path: Path) -> None:
    """It has got as far as the index, which is written first."""
    folder = tmp_path / "ca"
    done = subprocess.run([sys.executable, "-c", KILLED_INIT, str(folder)], timeout=30, check=False)
    assert done.returncode == 9
    assert {name for name in names(folder) if not name.endswith(".tmp")} == {"index"}
    assert (folder / "index").stat().st_size > 0
    made = Authority.create(folder)
    assert [entry.serial for entry in made.entries()] == [made.intermediate.serial_number]


def test_an_index_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("my own")
    with pytest.raises(PkiError, match=r"--force replaces it"):
        Authority.create(tmp_path)
    assert contents(tmp_path) == {"index": b"my own"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, 'name "" is empty'),
        ({"name": "n" * 60}, "has 73 characters; X.509 has room for 64"),
        ({"days": 0}, 'days "0": 1 to 36500 days are possible'),
        ({"intermediate_days": 0}, 'intermediate_days "0": 1 to 36500'),
        ({"key_type": "dsa"}, 'key_type "dsa"'),
        ({"subject": Subject(email="x")}, 'email "x"'),
    ],
)
def test_bad_arguments_make_nothing(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(BadValue) as caught:
        Authority.create(tmp_path / "ca", **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert names(tmp_path) == set()


def test_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PkiError, match=r"cannot make an authority in .*: not a directory"):
        Authority.create(tmp_path / "file")
    with pytest.raises(PkiError, match=r"not a certificate authority"):
        Authority.open(tmp_path)


def test_describe(tmp_path: Path, authority: Authority) -> None:
    authority.issue(Request("alice", "client"), out=tmp_path)
    authority.issue(Request("bob", "client"), out=tmp_path)
    shown = authority.describe()
    assert shown["certificates"] == {"valid": 2, "expired": 0, "revoked": 0, "issuer revoked": 0}
    assert shown["crl"] == {"file": None, "number": None, "next_update": {}}
    authority.revoke("bob")
    (authority.folder / "root.key").rename(tmp_path / "root.key")
    shown = authority.describe()
    assert shown["certificates"] == {"valid": 1, "expired": 0, "revoked": 1, "issuer revoked": 0}
    assert shown["root"]["key_present"] is False
    assert shown["intermediate"]["key_present"] is True
    assert shown["crl"]["number"] == 1
    assert json.dumps(shown)


def test_describe_tells_that_the_intermediate_is_revoked(authority: Authority) -> None:
    assert authority.describe()["intermediate"]["status"] == "valid"
    authority.revoke(str(authority.folder / "intermediate.crt"))
    assert authority.describe()["intermediate"]["status"] == "revoked"


# -- issue ------------------------------------------------------------------------------------------------------------


def test_issue(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(Request("alice", "client"), out=tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    assert names(tmp_path / "out") == {"alice.crt", "alice.key"}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o600}
    assert issued.certificate.read_bytes().endswith((authority.folder / "intermediate.crt").read_bytes())
    assert authority.entries()[1] == issued.entry
    assert issued.as_dict()["files"] == {
        "certificate": str(tmp_path / "out/alice.crt"),
        "private_key": str(tmp_path / "out/alice.key"),
    }


def test_the_settings_are_followed(tmp_path: Path, authority: Authority) -> None:
    path = authority.folder / "ca.toml"
    path.write_text('format = 1\nname = "x"\nkey_type = "ed25519"\nclient_days = 3\ncrl_days = 2\n')
    authority = Authority.open(authority.folder)
    entry = authority.issue(Request("alice", "client"), out=tmp_path).entry
    assert (entry.not_after - entry.not_before).days == 3
    assert b"ED25519" in run("openssl", "pkey", "-in", str(tmp_path / "alice.key"), "-noout", "-text").stdout
    assert (authority.crl().next_update - index.now()).days in {1, 2}


@pytest.mark.parametrize("suffix", ["crt", "key", "p12"])
def test_nothing_is_overwritten_without_force(tmp_path: Path, authority: Authority, suffix: str) -> None:
    (tmp_path / f"alice.{suffix}").write_text("precious")
    request = Request("alice", "client")
    with pytest.raises(PkiError) as caught:
        authority.issue(request, out=tmp_path, p12_password="x")
    assert str(caught.value) == f"{tmp_path}/alice.{suffix} is there already; --force overwrites it"
    assert (tmp_path / f"alice.{suffix}").read_text() == "precious"
    assert len(authority.entries()) == 1
    authority.issue(request, out=tmp_path, p12_password="x", force=True)
    assert (tmp_path / f"alice.{suffix}").read_bytes() != b"precious"


def test_without_the_root_key(tmp_path: Path, authority: Authority) -> None:
    """Kept elsewhere, it is needed for its own list only; nothing is half done without it."""
    (authority.folder / "root.key").rename(tmp_path / "root.key")
    authority.issue(Request("alice", "client"), out=tmp_path)
    before = contents(authority.folder)
    with pytest.raises(PkiError, match=r"cannot read .*root.key: no such file.*: only it can .* nothing has been done"):
        authority.revoke("intermediate")
    assert contents(authority.folder) == before
    assert "there is no list of the root;" in authority.revoke("alice").crl.warning


def test_a_failed_issue_leaves_no_trace(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PkiError, match=r"cannot make the folder"):
        authority.issue(Request("alice", "client"), out=tmp_path / "file")
    (authority.folder / "index").rename(tmp_path / "index")
    with pytest.raises(PkiError, match=r"index is missing"):
        authority.issue(Request("alice", "client"), out=tmp_path / "out")
    assert names(tmp_path / "out") == set()
    (authority.folder / "index").write_bytes(b"")
    for call in (lambda: authority.issue(Request("alice", "client"), out=tmp_path / "out"), authority.crl):
        with pytest.raises(PkiError, match=r"damaged or another authority's; restore it from a backup"):
            call()
    assert names(tmp_path / "out") == set()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("intermediate.crt", "is not a PEM certificate, or a damaged one"),
        ("intermediate.key", "is not a private key, or a damaged one"),
        ("index", "index:1: the index is damaged"),
    ],
)
def test_damage_is_told_by_its_file(tmp_path: Path, authority: Authority, file: str, message: str) -> None:
    (authority.folder / file).write_text("garbage\n")
    with pytest.raises(PkiError, match=message) as caught:
        Authority.open(authority.folder).issue(Request("alice", "client"), out=tmp_path / "out")
    assert str(authority.folder / file) in str(caught.value)
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == set()


# -- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\xff", '{"event": "issued", '])
def test_an_index_that_has_lost_its_lines_is_no_empty_list(authority: Authority, text: str) -> None:
    """What is left may be a line that a crash cut off: a monitor is not told that nothing expires."""
    (authority.folder / "index").write_text(text)
    for call in (authority.entries, lambda: authority.due(dt.timedelta(days=30))):
        with pytest.raises(PkiError, match=r"index is not the index of .*intermediate.crt: it is damaged or another"):
            call()


def test_numbers_go_up_without_the_index(tmp_path: Path, authority: Authority) -> None:
    """A verifier that has seen list 3 must not be given a list 1 because an old index was restored."""
    old = (authority.folder / "index").read_bytes()
    assert [authority.crl().number for _ in range(3)] == [1, 2, 3]
    (authority.folder / "index").write_bytes(old)
    assert authority.crl().number == 4
    (authority.folder / "ca.crl").write_text("garbage")
    assert authority.crl().number == 5


def test_a_revocation_that_was_cut_off_before_its_list(tmp_path: Path, authority: Authority) -> None:
    """The index knows first: the next list has it."""
    authority.issue(Request("alice", "client"), out=tmp_path)
    authority.crl()
    crl = (authority.folder / "ca.crl").read_bytes()
    authority.revoke("alice")
    (authority.folder / "ca.crl").write_bytes(crl)
    assert authority.crl().revoked == 1


# -- many at once -----------------------------------------------------------------------------------------------------

WORK = """
import os, sys
from pathlib import Path
from nlbcore.pki import index
from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request
index.LOCK_TIMEOUT = 120.0  # on a busy machine
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
ready, go = os.pipe()
children = []
for number in range(200):
    child = os.fork()
    if not child:
        os.close(go)
        os.read(ready, 1)  # the end of the file, for all of them at the same moment
        try:
            authority = Authority.open(folder)
            authority.issue(Request(f"c{number}", "client"), out=out)
            if number % 10 == 0:
                authority.revoke(f"c{number}")
            if number % 10 == 1:
                authority.crl()
            if number % 10 == 2:
                authority.renew(f"c{number}", rekey=True)
            if number == 50:
                authority.renew_authority(intermediate_days=1000)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
os.close(go)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


@pytest.mark.timeout(150)
def test_two_hundred_at_once(tmp_path: Path, authority: Authority) -> None:
    """All let go at the same moment: every certificate and every list is there once, each with a number of its own."""
    command = [sys.executable, "-c", WORK, str(authority.folder), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=140, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    entries = authority.entries()
    assert len({entry.serial for entry in entries}) == len(entries) == 1 + 200 + 20 + 1
    leaves = [entry for entry in entries if entry.profile == "client"]
    assert {entry.name for entry in leaves} == {f"c{number}" for number in range(200)}
    assert {entry.name for entry in leaves if entry.revoked_at} == {f"c{number}" for number in range(0, 200, 10)}
    newest = {entry.name: entry for entry in leaves}
    for name, entry in newest.items():
        certificate = x509.load_pem_x509_certificate((tmp_path / f"out/{name}.crt").read_bytes())
        assert index.fingerprint(certificate) == entry.sha256
        keys.load(tmp_path / f"out/{name}.key", certificate)
    lines = [json.loads(line) for line in (authority.folder / "index").read_text().splitlines()]
    numbers = [line["number"] for line in lines if line["event"] == "crl"]
    assert numbers == [*range(1, 41)]
    last = authority.crl()
    assert (last.number, last.revoked) == (41, 20)
    assert {path.suffix for path in authority.folder.iterdir()} == {".crt", ".key", ".toml", ".crl", ""}
    assert len(names(tmp_path / "out")) == 400


INIT = """
import sys
from pathlib import Path
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import PkiError
sys.stdin.readline()
try:
    Authority.create(Path(sys.argv[1]))
except PkiError as error:
    print(error)
else:
    print("made")
"""


def test_two_make_an_authority_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INIT, str(tmp_path / "ca")]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = sorted(worker.communicate("\n", timeout=40)[0] for worker in workers)
    refused = f"{tmp_path}/ca is an authority already; --force replaces it, and what it has issued is worthless then\n"
    assert answers == sorted(["made\n", *[refused] * 3])
    Authority.open(tmp_path / "ca").issue(Request("alice", "client"), out=tmp_path)


STRANGER = """
import os, sys
from pathlib import Path
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import PkiError
os.setuid(65534)
for call in (Authority.open, Authority.create):
    try:
        call(Path(sys.argv[1]))
    except PkiError as error:
        print(error, error.exit_code)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user(authority: Authority) -> None:
    """A permission that is missing is told as such, with exit code 77."""
    folder = authority.folder
    done = subprocess.run([sys.executable, "-c", STRANGER, str(folder)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        f"cannot read {folder}/ca.toml: permission denied 77",
        f"cannot make an authority in {folder}: permission denied 77",
    ]
