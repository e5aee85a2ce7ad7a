"""The authority as a program uses it: made, found, used by many at once, cut off in the middle, damaged, replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nlbcore.pki import index
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
        ({"name": ""}, 'name "": is empty'),
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
    with pytest.raises(PkiError, match=r"no certificate authority"):
        Authority.open(tmp_path)


def test_describe(tmp_path: Path, authority: Authority) -> None:
    authority.issue(Request("alice", "client"), out=tmp_path)
    authority.issue(Request("bob", "client"), out=tmp_path)
    shown = authority.describe()
    assert shown["certificates"] == {"valid": 2, "expired": 0, "revoked": 0}
    assert shown["crl"] == {"file": None, "number": None, "next_update": {}}
    authority.revoke("bob")
    (authority.folder / "root.key").rename(tmp_path / "root.key")
    shown = authority.describe()
    assert shown["certificates"] == {"valid": 1, "expired": 0, "revoked": 1}
    assert shown["root"]["key_present"] is False
    assert shown["intermediate"]["key_present"] is True
    assert shown["crl"]["number"] == 1
    assert json.dumps(shown)


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


FULL = """
import errno, os, sys
from pathlib import Path
from nlbcore.pki.authority import Authority
from nlbcore.pki.errors import PkiError
from nlbcore.pki.issue import Request
place, folder, out, call = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
authority = Authority.open(folder)
calls = {
    "init": lambda: Authority.create(folder, force=True),
    "issue": lambda: authority.issue(Request("bob", "client"), out=out, p12_password="x", force=True),
    "revoke": lambda: authority.revoke("bob"),
}
steps = 0
def step(event, arguments):
    global steps
    if event in ("os.link", "os.rename"):
        steps += 1
        if steps == place:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
sys.addaudithook(step)
try:
    calls[call]()
except PkiError as error:
    print(error)
"""


@pytest.mark.parametrize(("call", "least"), [("issue", 6), ("init", 10), ("revoke", 2)])
def test_a_full_disk_at_any_name(tmp_path: Path, authority: Authority, call: str, least: int) -> None:
    """All or none over files that are there: key and certificate stay a pair, the index has no entry more."""
    out = tmp_path / "out"
    authority.issue(Request("bob", "client"), out=out, p12_password="x")
    authority.crl()
    for step in range(1, 20):
        before = contents(authority.folder), contents(out)
        command = [sys.executable, "-c", FULL, str(step), str(authority.folder), str(out), call]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        if not done.stdout:
            break
        assert "no space left on device" in done.stdout
        assert (contents(authority.folder), contents(out)) == before
    assert step > least
    assert not [*out.glob(".*"), *authority.folder.glob(".*")]


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
        ("intermediate.crt", "is no PEM certificate, or a damaged one"),
        ("intermediate.key", "is no private key, or a damaged one"),
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
import sys
from pathlib import Path
from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request
folder, out, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
authority = Authority.open(folder)
sys.stdin.readline()
for turn in range(5):
    authority.issue(Request(f"c{number}-{turn}", "client"), out=out)
authority.revoke(f"c{number}-0")
authority.crl()
"""


def test_sixteen_at_once(tmp_path: Path, authority: Authority) -> None:
    """Each issues five and revokes one, all let go at the same moment: every line and every number is there once."""
    command = [sys.executable, "-c", WORK, str(authority.folder), str(tmp_path / "out")]
    workers = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(16)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        _, errors = worker.communicate(timeout=40)
        assert (worker.returncode, errors) == (0, "")
    entries = authority.entries()[1:]
    assert len(entries) == len({entry.serial for entry in entries}) == 80
    assert {entry.name for entry in entries} == {f"c{number}-{turn}" for number in range(16) for turn in range(5)}
    assert sum(entry.revoked_at is not None for entry in entries) == 16
    lines = [json.loads(line) for line in (authority.folder / "index").read_text().splitlines()]
    numbers = [line["number"] for line in lines if line["event"] == "crl"]
    assert numbers == [*range(1, 33)]
    last = authority.crl()
    assert (last.number, last.revoked) == (33, 16)
    assert {path.suffix for path in authority.folder.iterdir()} == {".crt", ".key", ".toml", ".crl", ""}
    assert len(names(tmp_path / "out")) == 160


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


KILLED = """
import os, sys
from pathlib import Path
from nlbcore.pki import store
from nlbcore.pki.authority import Authority
from nlbcore.pki.issue import Request
place, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
authority = Authority.open(folder)
steps = 0
def step(event, arguments):
    global steps
    if event in ("open", "fcntl.flock", "os.link", "os.rename", "os.remove", "os.truncate"):
        steps += 1
        if steps == int(place):
            os._exit(9)
sys.addaudithook(step)
authority.issue(Request("alice", "client"), out=out, p12_password="x")
authority.revoke("alice")
print(steps)
"""


def test_killed_at_any_step(tmp_path: Path) -> None:
    """Stopped dead before each file operation in turn: the authority goes on working, and no half a file has a name."""
    step = 0
    while True:
        step += 2
        folder, out = tmp_path / f"ca{step}", tmp_path / f"out{step}"
        authority = Authority.create(folder)
        command = [sys.executable, "-c", KILLED, str(step), str(folder), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode in {0, 9}, done.stderr
        for path in [] if not out.exists() else [path for path in out.iterdir() if path.suffix != ".tmp"]:
            assert path.stat().st_size > 200
            if path.suffix != ".p12":
                assert path.read_text().rstrip().endswith("-----")
        known = {entry.name for entry in authority.entries()}
        assert "alice" in known or not (out / "alice.crt").exists()
        authority.issue(Request("bob", "client"), out=out)
        authority.revoke("bob")
        run("openssl", "crl", "-in", str(folder / "ca.crl"), "-CAfile", str(authority.chain), "-noout")
        if done.returncode == 0:
            assert step > 20
            break


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
