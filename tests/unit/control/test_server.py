"""The server in a real loop: who is answered, what ends a client, and that nothing ends the others or the loop."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nlbcore.control import server as module
from nlbcore.control.client import call_with_descriptors
from nlbcore.control.protocol import REQUEST_LIMIT, encode, request
from nlbcore.control.server import CLIENTS, HELD, PENDING, ControlServer, Pending, Reply
from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, BusyError, StartError
from tests.support.waiting import stays, wait_until
from tests.unit.control.running import TICK, Loop, Peer, frame


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nlb.sock"


def make(path: Path) -> ControlServer:
    return ControlServer(path, lambda verb, arguments: {}, tuple)


# -- requests ---------------------------------------------------------------------------------------------------------


def test_requests_one_after_another(path: Path) -> None:
    with Loop(path) as loop, Peer(path) as peer:
        for number in range(3):
            assert peer.ask("status", number=number) == {
                "version": 1,
                "ok": True,
                "result": {"verb": "status", "number": number},
            }
        assert loop.seen == [("status", {"number": number}) for number in range(3)]


def test_requests_sent_together_are_answered_in_turn(path: Path) -> None:
    with Loop(path), Peer(path) as peer:
        peer.send(b"".join(encode(request("status", {"number": number})) for number in range(3)))
        answers = [peer.answer() for _ in range(3)]
        assert [answer and answer["result"]["number"] for answer in answers] == [0, 1, 2]


def test_a_request_byte_by_byte(path: Path) -> None:
    with Loop(path), Peer(path) as peer:
        for byte in encode(request("status")):
            peer.send(bytes([byte]))
        assert peer.answer()


def test_a_large_answer_to_a_slow_client(path: Path) -> None:
    """It arrives whole, and the others are served meanwhile."""
    text = "x" * 5_000_000
    answers: dict[str, dict[str, Any]] = {"large": {"text": text}, "small": {}}
    with Loop(path, lambda verb, _: answers[verb]), Peer(path) as slow, Peer(path) as quick:
        slow.send(encode(request("large")))
        for _ in range(3):
            assert quick.ask("small")
        answer = slow.answer()
        assert answer
        assert answer["result"]["text"] == text


def test_an_error_is_an_answer(path: Path) -> None:
    def refuse(verb: str, arguments: dict[str, Any]) -> None:
        raise BusyError("a reload is running")

    with Loop(path, refuse), Peer(path) as peer:
        expected = {"version": 1, "ok": False, "error": "a reload is running", "exit_code": 75}
        assert peer.ask("reload") == expected
        assert peer.ask("reload") == expected, "the client may try again"


@pytest.mark.parametrize("result", [{"a": float("nan")}, {"a": object()}, None], ids=["nan", "object", "raise"])
def test_a_failing_verb_does_not_end_the_loop(path: Path, result: Any) -> None:
    def answer(verb: str, arguments: dict[str, Any]) -> Any:
        return result if result else result["a"]

    with Loop(path, answer), Peer(path) as peer:
        for _ in range(2):
            message = peer.ask("status")
            assert message
            assert (message["ok"], message["exit_code"]) == (False, 1)
            assert message["error"].startswith("status: internal error: ")


# -- clients that misbehave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "too large"),
        (frame(b"x" * 100), "not JSON"),
        (frame(b"[" * REQUEST_LIMIT), "not JSON"),
        (frame(b"[]"), "not a JSON object"),
        (encode({"version": 2, "verb": "status", "arguments": {}}), "protocol version 2"),
        (encode({"version": 1, "arguments": {}}), "no verb"),
    ],
    ids=["http", "text", "nested", "list", "version", "no verb"],
)
def test_rubbish_ends_that_client_only(path: Path, data: bytes, told: str) -> None:
    with Loop(path) as loop, Peer(path) as good, Peer(path) as bad:
        assert good.ask("status")
        bad.send(data)
        message = bad.answer()
        assert message
        assert message["ok"] is False
        assert told in message["error"]
        assert bad.answer() is None
        assert good.ask("status")
        assert len(loop.seen) == 2


def test_half_a_frame_then_the_end(path: Path) -> None:
    with Loop(path) as loop, Peer(path) as good:
        with Peer(path) as bad:
            bad.send(encode(request("status"))[:-1])
        assert good.ask("status")
        wait_until(lambda: len(loop.server._clients) == 1, "the client to be forgotten")
        assert len(loop.seen) == 1


@pytest.mark.parametrize("data", [b"", b"\x00\x00", encode(request("status"))[:-1]], ids=["none", "length", "half"])
def test_silence_has_an_end(path: Path, data: bytes) -> None:
    with Loop(path, patience=0.1), Peer(path) as bad:
        bad.send(data)
        started = time.monotonic()
        assert bad.answer() is None
        assert 0.05 < time.monotonic() - started < 4
        with Peer(path) as good:
            assert good.ask("status")


def test_drops_do_not_extend_the_deadline(path: Path) -> None:
    """A byte now and then is no whole request."""
    with Loop(path, patience=0.15), Peer(path) as bad:
        started = time.monotonic()
        with pytest.raises(BrokenPipeError):
            for byte in encode(request("status", {"text": "x" * 1000})):
                bad.send(bytes([byte]))
                time.sleep(0.01)
        assert time.monotonic() - started < 4


def test_a_client_that_does_not_read_has_an_end(path: Path) -> None:
    with Loop(path, lambda verb, _: {"text": "x" * 5_000_000}, patience=0.2) as loop, Peer(path) as bad:
        bad.send(encode(request("status")))
        wait_until(lambda: loop.seen, "the request")
        wait_until(lambda: not loop.server._clients, "the end of the client")


def test_the_seventeenth_client(path: Path) -> None:
    with Loop(path) as loop:
        peers = [Peer(path) for _ in range(CLIENTS)]
        wait_until(lambda: len(loop.server._clients) == CLIENTS, "all clients")
        with Peer(path) as one_more:
            message = one_more.answer()
            assert message
            assert (message["exit_code"], message["error"]) == (75, "16 commands are talking to the balancer already")
            assert one_more.answer() is None
        for peer in peers:
            assert peer.ask("status")
        peers.pop().sock.close()
        wait_until(lambda: len(loop.server._clients) == CLIENTS - 1, "a place")
        with Peer(path) as another:
            assert another.ask("status")
        for peer in peers:
            peer.sock.close()


def test_held_until_the_end(path: Path) -> None:
    """A held client has no deadline, and the end of the server is its answer."""
    with Loop(path, lambda verb, _: {} if verb == "status" else None, patience=0.05):
        peer = Peer(path)
        peer.send(encode(request("stop")))
        peer.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.answer()
        peer.sock.settimeout(10)
        with Peer(path) as other:
            assert other.ask("status")
    assert peer.answer() is None
    peer.sock.close()


@pytest.mark.parametrize("last", [b"", encode(request("status"))], ids=["goes", "talks"])
def test_a_held_client_that_does_not_wait_is_forgotten(path: Path, last: bytes) -> None:
    with Loop(path, lambda verb, _: None) as loop, Peer(path) as peer:
        peer.send(encode(request("stop")))
        wait_until(lambda: loop.seen, "the request")
        if last:
            peer.send(last)
            assert peer.answer() is None
        else:
            peer.sock.close()
        wait_until(lambda: not loop.server._clients, "the client to be forgotten")
        assert len(loop.seen) == 1


def test_an_idle_server_sleeps(path: Path) -> None:
    with Loop(path) as loop, Peer(path) as peer:
        assert peer.ask("status")
        turns = loop.turns
        stays(lambda: loop.turns <= turns + 6, "a loop without work", 4 * TICK)


def test_no_descriptors_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients wait in the queue; the loop does not spin over them, and goes on when it can."""
    monkeypatch.setattr(module, "BACK_OFF", 0.1)
    broken = threading.Event()
    broken.set()
    accept = socket.socket.accept

    def fail(self: socket.socket) -> Any:
        if broken.is_set():
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", fail)
    with Loop(path) as loop, Peer(path) as peer:
        peer.send(encode(request("status")))
        stays(lambda: loop.turns < 20, "a loop that backs off", 0.25)
        broken.clear()
        assert peer.answer()


# -- answers that come later, or with descriptors ---------------------------------------------------------------------


class Desk:
    """Answers `status` at once, `stop` never, `conns` with descriptors, and everything else when the test says so."""

    def __init__(self) -> None:
        self.pending: list[Pending] = []
        self.fds: list[int] = []

    def __call__(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any] | Reply | Pending | None:
        if verb == "status":
            return arguments
        if verb == "stop":
            return None
        if verb == "conns":
            self.fds = [memfd(b"one"), memfd(b"two")]
            return Reply(arguments, self.fds)
        self.pending.append(Pending())
        return self.pending[-1]


def memfd(text: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, text)
    return fd


def ask(path: Path, verb: str) -> Peer:
    return Peer(path).send(encode(request(verb)))


def test_an_answer_that_comes_later(path: Path) -> None:
    """It has no deadline, the others are served meanwhile, and only the first answer counts."""
    desk = Desk()
    with Loop(path, desk, patience=0.05) as loop, ask(path, "reload") as peer:
        wait_until(lambda: desk.pending, "the request")
        stays(lambda: not desk.pending[0].gone, "a client that waits", 0.2)
        with Peer(path) as other:
            assert other.ask("status")
        loop.do(lambda: desk.pending[0].resolve({"generation": 2}))
        loop.do(lambda: desk.pending[0].fail(BusyError("too late")))
        loop.do(lambda: desk.pending[0].resolve({}, [memfd(b"closed")]))
        assert peer.answer() == {"version": 1, "ok": True, "result": {"generation": 2}}


def test_a_later_answer_that_is_there_already_and_one_that_says_no(path: Path) -> None:
    made = [Pending(), Pending(), Pending()]
    made[0].resolve({"a": 1})
    made[1].fail(BusyError("not now"))
    made[2].resolve({"a": float("nan")}, [memfd(b"closed")])
    with Loop(path, lambda verb, _: made.pop(0)), Peer(path) as peer:
        assert peer.ask("reload") == {"version": 1, "ok": True, "result": {"a": 1}}
        assert peer.ask("reload") == {"version": 1, "ok": False, "error": "not now", "exit_code": 75}
        answer = peer.ask("reload")
        assert answer
        assert answer["error"].startswith("reload: internal error: ")


@pytest.mark.parametrize("manner", ["goes", "talks", "is ended"])
def test_a_client_that_does_not_wait_for_its_answer(path: Path, manner: str) -> None:
    """The answer may be given all the same, and its descriptors do not stay open."""
    desk = Desk()
    with Loop(path, desk) as loop, ask(path, "reload") as peer:
        wait_until(lambda: desk.pending, "the request")
        if manner == "is ended":
            loop.do(loop.server.close)
            assert peer.answer() is None
        elif manner == "talks":
            assert peer.send(encode(request("status"))).answer() is None
        else:
            peer.sock.close()
        wait_until(lambda: desk.pending[0].gone, "the server to notice")
        assert not loop.server._clients
        loop.do(lambda: desk.pending[0].resolve({}, [memfd(b"closed")]))


def test_descriptors(path: Path) -> None:
    """They arrive open, not to be inherited, and the server keeps none; a client that wants none gets the answer."""
    desk = Desk()
    with Loop(path, desk):
        result, fds = call_with_descriptors(path, "conns", {"text": "x" * 50_000})
        assert len(result["text"]) == 50_000
        assert [os.pread(fd, 9, 0) for fd in fds] == [b"one", b"two"]
        assert not any(os.get_inheritable(fd) for fd in fds)
        for fd in fds:
            os.close(fd)
        with Peer(path) as peer:
            for _ in range(3):
                assert peer.ask("conns") == {"version": 1, "ok": True, "result": {}, "descriptors": 2}
            assert peer.ask("status")


def test_descriptors_that_are_not_sent_are_closed(path: Path) -> None:
    """Too many of them, and a client that goes while they wait; the check after each test finds what stays open."""
    pending = Pending()
    answers: list[Any] = [Reply({}, [memfd(b"") for _ in range(251)]), pending]
    with Loop(path, lambda verb, _: answers.pop(0)) as loop, Peer(path) as peer:
        answer = peer.ask("conns")
        assert answer
        assert "251 descriptors are too many" in answer["error"]
        peer.send(encode(request("conns")))
        wait_until(lambda: not answers, "the request")

        def resolve_and_close() -> None:
            """In one turn: not a byte of the answer is sent."""
            pending.resolve({}, [memfd(b"closed")])
            loop.server.close()

        loop.do(resolve_and_close)
        assert peer.answer() is None


def test_who_waits_does_not_lock_out_who_asks(path: Path) -> None:
    desk = Desk()
    with Loop(path, desk) as loop:
        waiting = [ask(path, "reload") for _ in range(PENDING)]
        wait_until(lambda: len(desk.pending) == PENDING, "all requests")
        with Peer(path) as one_more:
            answer = one_more.ask("reload")
            assert answer
            assert (answer["exit_code"], answer["error"]) == (
                75,
                "8 commands wait for the balancer's answer already; try again",
            )
        stopping: list[Peer] = []
        for _ in range(2 * CLIENTS):
            stopping.append(ask(path, "stop"))
            wait_until(lambda: loop.seen.count(("stop", {})) == len(stopping), "it is carried out")
        assert [peer.answer() for peer in stopping[:-HELD]] == [None] * (2 * CLIENTS - HELD), "the others wait on"
        with Peer(path) as other:
            assert other.ask("status")
        wait_until(lambda: len(loop.server._clients) == PENDING + HELD, "those who wait")
        for one in desk.pending:
            loop.do(partial(one.resolve, {}))
        assert all(peer.answer() for peer in waiting)
        with ask(path, "reload"):
            wait_until(lambda: len(desk.pending) == PENDING + 1, "a place")
        for peer in (*waiting, *stopping):
            peer.sock.close()


# -- who is answered --------------------------------------------------------------------------------------------------

ASK = """
import os, sys
from nlbcore.control.client import call
from nlbcore.errors import NlbError
if user := int(sys.stdin.readline()):
    os.setuid(user)
try:
    call(sys.argv[1], "status")
except NlbError as error:
    print(error, error.exit_code)
else:
    print("answered")
"""


def asker(path: Path) -> subprocess.Popen[str]:
    """A process that asks as a user when it is told which (0: this one)."""
    command = [sys.executable, "-c", ASK, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_our_own_children_are_refused(path: Path) -> None:
    with Loop(path) as loop:
        child, other = asker(path), asker(path)
        loop.kin.add(child.pid)
        assert other.communicate("0", 20)[0] == "answered\n"
        refusal = f"process {child.pid} is a part of the balancer itself, and not answered 77\n"
        assert child.communicate("0", 20)[0] == refusal
        assert len(loop.seen) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")
def test_another_user_is_refused_even_where_the_mode_lets_it_in() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "nlb.sock")
        path.parent.chmod(0o755)
        with Loop(path) as loop:
            told = asker(path).communicate("65534", 20)[0]
            assert told == f"{path}: permission denied; only the balancer's own user and root may talk to it 77\n"
            path.chmod(0o666)
            told = asker(path).communicate("65534", 20)[0]
            assert told == "only the user that the balancer runs as and root are answered, not uid 65534 77\n"
            assert loop.seen == []


# -- the path ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_mode_and_folder(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "run" / "nlb.sock"
    if umask == 0o777:
        path.parent.mkdir()
    before = os.umask(umask)
    try:
        server = make(path)
        assert os.umask(umask) == umask, "the process's umask is as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert not server._socket.get_inheritable()
    assert not os.get_inheritable(server._lock)
    server.close()
    assert list(path.parent.iterdir()) == []


def test_a_second_server_on_the_same_path(path: Path) -> None:
    with Loop(path), Peer(path) as peer:
        with pytest.raises(StartError) as caught:
            make(path)
        assert str(caught.value).startswith(
            f"another nlb is running (pid {os.getpid()}), it answers at {path}: stop it"
        )
        assert caught.value.exit_code == EXIT_FAILED
        assert peer.ask("status"), "the first one is not disturbed"
    server = make(path)
    server.close()


def test_a_socket_that_a_dead_process_left_is_replaced(path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from nlbcore.control.server import ControlServer; "
    code += "server = ControlServer(Path(sys.argv[1]), lambda *_: {}, tuple); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.is_socket()
    with Loop(path), Peer(path) as peer:
        assert peer.ask("status")


def test_served_by_another_program(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(StartError, match="another program listens there"):
            make(path)
    assert [one.name for one in path.parent.iterdir()] == [path.name], "no lock file is left"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_not_removed(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.parent / "nowhere")
    before = path.lstat()
    with pytest.raises(StartError, match="something else has that name, and it is not removed"):
        make(path)
    assert os.path.samestat(path.lstat(), before)


def test_a_lock_file_that_is_a_link_is_not_followed(path: Path) -> None:
    target = path.parent / "target"
    target.write_text("mine")
    path.with_name("nlb.sock.lock").symlink_to(target)
    with pytest.raises(StartError, match="the lock file is a symbolic link"):
        make(path)
    assert target.read_text() == "mine"


def test_only_the_last_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="the folder does not exist"):
        make(tmp_path / "a" / "b" / "nlb.sock")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot listen for commands on .*too long"):
        make(tmp_path / ("x" * 108))


def test_a_permission_is_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(StartError, match=r"permission denied; set \[node\] control_socket") as caught:
        make(path)
    assert caught.value.exit_code == EXIT_PERMISSION
    assert list(path.parent.iterdir()) == []


def test_what_is_not_ours_any_more_is_not_removed(path: Path) -> None:
    server = make(path)
    path.unlink()
    path.write_text("another's")
    lock = path.with_name("nlb.sock.lock")
    lock.unlink()
    lock.write_text("another's")
    server.close()
    server.close()
    assert path.read_text() == lock.read_text() == "another's"
