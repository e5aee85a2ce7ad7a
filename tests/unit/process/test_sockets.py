"""Listening sockets: options, slots, what is in use, and which files are replaced."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nlbcore.address import Endpoint
from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, StartError
from nlbcore.process.sockets import listen
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def opened() -> Iterator[Callable[..., list[socket.socket]]]:
    """`opened(ENDPOINT, SLOTS)`: listen, and close it all after the test."""
    made: list[socket.socket] = []

    def make(text: str, slots: int = 1) -> list[socket.socket]:
        made.extend(ones := listen(Endpoint.parse(text), slots))
        return ones

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


def option(one: socket.socket, level: int, name: int) -> int:
    return one.getsockopt(level, name)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_options_of_tcp(opened: Callable[..., list[socket.socket]], port: int, host: str) -> None:
    slots = opened(f"{host}:{port}", 3)
    assert len({one.fileno() for one in slots}) == 3
    for one in slots:
        assert one.getsockname()[1] == port
        assert not one.getblocking()
        assert not one.get_inheritable()
        assert option(one, socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert option(one, socket.SOL_SOCKET, socket.SO_REUSEPORT)
        assert option(one, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert option(one, socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if one.family == socket.AF_INET6:
            assert option(one, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_accepted_sockets_inherit_the_options(opened: Callable[..., list[socket.socket]], port: int) -> None:
    (one,) = opened(f"127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", port)):
        accepted, _ = one.accept()
        with accepted:
            assert option(accepted, socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert option(accepted, socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_both_families_have_the_port(opened: Callable[..., list[socket.socket]], port: int) -> None:
    opened(f"0.0.0.0:{port}")
    opened(f"[::]:{port}")


def test_a_port_in_use_is_not_shared(opened: Callable[..., list[socket.socket]], port: int) -> None:
    """The kernel would let a second balancer of the same user share it."""
    opened(f"127.0.0.1:{port}", 2)
    for text in (f"127.0.0.1:{port}", f"0.0.0.0:{port}"):
        with pytest.raises(StartError) as caught:
            opened(text)
        assert str(caught.value) == f"cannot listen on {text}: another process listens there"
        assert caught.value.exit_code == EXIT_FAILED


def test_a_port_is_free_again_at_once(opened: Callable[..., list[socket.socket]], port: int) -> None:
    (one,) = opened(f"127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = one.accept()
        accepted.close()  # our side closes first: TIME_WAIT is here
        assert client.recv(1) == b""
    one.close()
    opened(f"127.0.0.1:{port}")


def test_an_address_of_another_machine(opened: Callable[..., list[socket.socket]]) -> None:
    with pytest.raises(StartError) as caught:
        opened("192.0.2.1:443")
    assert str(caught.value) == "cannot listen on 192.0.2.1:443: this machine has no such address"


def test_an_interface_that_is_not_there(opened: Callable[..., list[socket.socket]]) -> None:
    with pytest.raises(StartError, match=r"cannot listen on \[fe80::1%nowhere\]:443: "):
        opened("[fe80::1%nowhere]:443")


def test_a_permission_is_missing(opened: Callable[..., list[socket.socket]], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "setsockopt", refuse)
    with pytest.raises(StartError) as caught:
        opened("127.0.0.1:443")
    assert caught.value.exit_code == EXIT_PERMISSION
    assert "ports below 1024 need root or CAP_NET_BIND_SERVICE" in str(caught.value)


def test_one_unix_socket_for_all_slots(opened: Callable[..., list[socket.socket]], tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    slots = opened(f"unix:{path}", 2)
    assert len(slots) == 2
    assert slots[0] is slots[1]
    assert not slots[0].get_inheritable()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_a_dead_process_left_is_replaced(
    opened: Callable[..., list[socket.socket]], tmp_path: Path
) -> None:
    path = tmp_path / "web.sock"
    opened(f"unix:{path}")[0].close()
    assert stat.S_ISSOCK(path.stat().st_mode)
    opened(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_is_served_is_not(opened: Callable[..., list[socket.socket]], tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    (one,) = opened(f"unix:{path}")
    with pytest.raises(StartError, match="another process listens there"):
        opened(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        one.accept()[0].close()  # the question whether it is served
        one.accept()[0].close()


@pytest.mark.timeout(5)
def test_a_socket_whose_queue_is_full_is_served(opened: Callable[..., list[socket.socket]], tmp_path: Path) -> None:
    """Its process hangs: that is no reason to hang too, and none to take its place."""
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as hung, socket.socket(socket.AF_UNIX) as waiting:
        hung.bind(str(path))
        hung.listen(0)
        waiting.connect(str(path))
        with pytest.raises(StartError, match="another process listens there"):
            opened(f"unix:{path}")


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_not_removed(
    opened: Callable[..., list[socket.socket]], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "web.sock"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    before = path.lstat()
    with pytest.raises(StartError, match=f"cannot listen on unix:{path}: "):
        opened(f"unix:{path}")
    assert os.path.samestat(path.lstat(), before)


def test_a_plain_file_is_not_called_a_process(opened: Callable[..., list[socket.socket]], tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    path.write_text("mine")
    with pytest.raises(StartError) as caught:
        opened(f"unix:{path}")
    assert "process" not in str(caught.value)


def test_a_folder_that_is_not_there(opened: Callable[..., list[socket.socket]], tmp_path: Path) -> None:
    with pytest.raises(StartError, match="the folder does not exist"):
        opened(f"unix:{tmp_path}/no/web.sock")


def test_nothing_stays_open_after_a_failure(opened: Callable[..., list[socket.socket]], port: int) -> None:
    """Some slots can be had and the last one not: the fixture for leaked descriptors looks at what is left."""
    with socket.create_server(("127.0.0.1", port), reuse_port=True), pytest.raises(StartError):
        opened(f"127.0.0.1:{port}", 2)
