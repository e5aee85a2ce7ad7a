"""The sockets of an address: options, slots, who may connect when, what is in use, and which files are replaced."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nlbcore.address import Endpoint
from nlbcore.errors import EXIT_FAILED, EXIT_PERMISSION, StartError
from nlbcore.process.channel import ANY
from nlbcore.process.sockets import Address
from tests.support.ports import free_port

Opened = Callable[..., Address]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """`opened(ENDPOINT, SLOTS)`: bind, and close it all after the test."""
    made: list[Address] = []

    def make(text: str, slots: int = 1, activated: dict[str, list[socket.socket]] | None = None) -> Address:
        made.append(one := Address.bind(Endpoint.parse(text), slots, activated))
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


def option(one: socket.socket, level: int, name: int) -> int:
    return one.getsockopt(level, name)


def connects(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_nobody_connects_before_they_listen(opened: Opened, port: int) -> None:
    """A new address belongs to nobody until the generation that wants it is in force."""
    address = opened(f"127.0.0.1:{port}", 2)
    assert not connects(port)
    address.listen([7])
    assert not connects(port), "no such slot"
    address.listen([1])
    listening = [bool(option(one, socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) for one in address.sockets.values()]
    assert listening == [False, True]
    for _ in range(4):
        assert connects(port)
        address.sockets[1].accept()[0].close()
    address.listen()
    address.listen()
    assert all(option(one, socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for one in address.sockets.values())


def test_a_slot_that_is_added(opened: Opened, port: int) -> None:
    """It shares the port with the others, and gets connections when it listens, not before."""
    address = opened(f"127.0.0.1:{port}", 1)
    address.listen()
    made = address.add(1)
    assert made is not None
    assert address.sockets[1] is made
    assert made.getsockname()[1] == port
    assert not made.getblocking()
    assert option(made, socket.IPPROTO_TCP, socket.TCP_NODELAY)
    for _ in range(8):
        assert connects(port)
        address.sockets[0].accept()[0].close()
    address.listen([1])
    address.sockets[0].setblocking(False)
    accepted = [0, 0]
    while not all(accepted):
        assert connects(port)
        for slot in (0, 1):
            try:
                address.sockets[slot].accept()[0].close()
            except BlockingIOError:
                continue
            accepted[slot] += 1
    assert address.add(1) is None, "it is there"


def test_a_slot_that_is_added_needs_no_socket_where_all_share_one(opened: Opened, tmp_path: Path) -> None:
    address = opened(f"unix:{tmp_path}/web.sock", 1)
    assert address.add(1) is None
    assert list(address.sockets) == [ANY]


def test_a_slot_cannot_be_added(opened: Opened, port: int) -> None:
    address = opened(f"127.0.0.1:{port}", 1)
    address.sockets[0].close()
    with socket.create_server(("127.0.0.1", port)):  # somebody else has the port by now
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: another process listens there"):
            address.add(1)
        assert list(address.sockets) == [0]


def test_what_systemd_has_opened(opened: Opened, port: int, tmp_path: Path) -> None:
    """One queue for all slots, though there may be several of a name; the options are ours, and the name of a Unix socket
    stays systemd's.
    """
    path = tmp_path / "web.sock"
    tcp, local = socket.create_server(("127.0.0.1", port)), socket.socket(socket.AF_UNIX)
    local.bind(str(path))
    local.listen()
    address = opened("systemd:web", 5, {"web": [tcp, local], "other": []})
    assert address.sockets == {ANY: tcp, ANY + 1: local}
    assert address.shared
    assert option(tcp, socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert option(tcp, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert address.add(5) is None
    address.listen()
    address.close()
    assert tcp.fileno() == local.fileno() == -1
    assert path.is_socket()


def copies(address: Address) -> dict[int, socket.socket]:
    """Its sockets as another process has them."""
    return {slot: one.dup() for slot, one in address.sockets.items()}


def test_the_sockets_of_a_predecessor(opened: Opened, port: int) -> None:
    """They go on to listen, those of slots that are no more too; what it has not had is bound beside them."""
    old = opened(f"127.0.0.1:{port}", 2)
    old.listen()
    inherited = copies(old)
    new = Address.inherit(old.endpoint, inherited, 3)
    try:
        assert list(new.sockets) == [0, 1, 2]
        assert all(new.sockets[slot] is one for slot, one in inherited.items())
        assert all(option(one, socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for one in new.sockets.values())
        old.close()
        assert connects(port)
        fewer = Address.inherit(old.endpoint, copies(new), 1)
        assert list(fewer.sockets) == [0, 1, 2]
        fewer.close()
        assert connects(port)
    finally:
        new.close()
    assert not connects(port)


def test_the_name_of_a_unix_socket_goes_to_the_successor(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    old = opened(f"unix:{path}")
    new = Address.inherit(old.endpoint, copies(old), 3)
    assert list(new.sockets) == [ANY]
    old.disown()
    old.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    new.close()
    assert path.exists(), "not its own before it has taken over"
    new.own()
    new.close()
    assert not path.exists()


@pytest.mark.parametrize("activated", [None, {}, {"web": []}])
def test_what_systemd_has_not_opened(opened: Opened, activated: dict[str, list[socket.socket]] | None) -> None:
    with pytest.raises(
        StartError, match=r"cannot listen on systemd:web: systemd has handed over no socket of that name"
    ):
        opened("systemd:web", 1, activated)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_options_of_tcp(opened: Opened, port: int, host: str) -> None:
    address = opened(f"{host}:{port}", 3)
    address.listen()
    assert list(address.sockets) == [0, 1, 2]
    assert not address.shared
    for one in address.sockets.values():
        assert one.getsockname()[1] == port
        assert not one.getblocking()
        assert not one.get_inheritable()
        assert option(one, socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert option(one, socket.SOL_SOCKET, socket.SO_REUSEPORT)
        assert option(one, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert option(one, socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if one.family == socket.AF_INET6:
            assert option(one, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_accepted_sockets_inherit_the_options(opened: Opened, port: int) -> None:
    address = opened(f"127.0.0.1:{port}")
    address.listen()
    with socket.create_connection(("127.0.0.1", port)):
        accepted, _ = address.sockets[0].accept()
        with accepted:
            assert option(accepted, socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert option(accepted, socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_both_families_have_the_port(opened: Opened, port: int) -> None:
    opened(f"0.0.0.0:{port}")
    opened(f"[::]:{port}")


def test_a_port_in_use_is_not_shared(opened: Opened, port: int) -> None:
    """The kernel would let a second balancer of the same user share it."""
    opened(f"127.0.0.1:{port}", 2).listen()
    for text in (f"127.0.0.1:{port}", f"0.0.0.0:{port}"):
        with pytest.raises(StartError) as caught:
            opened(text)
        assert str(caught.value) == f"cannot listen on {text}: another process listens there"
        assert caught.value.exit_code == EXIT_FAILED


def test_of_two_that_are_bound_in_the_same_moment_one_listens(opened: Opened, port: int) -> None:
    """Sockets that do not listen yet hide from each other."""
    one, two = (opened(f"127.0.0.1:{port}", 2) for _ in range(2))
    one.listen([0])
    with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: another process listens there"):
        two.listen()
    one.listen()
    one.listen([1])


def test_a_port_is_free_again_at_once(opened: Opened, port: int) -> None:
    address = opened(f"127.0.0.1:{port}")
    address.listen()
    with socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = address.sockets[0].accept()
        accepted.close()  # our side closes first: TIME_WAIT is here
        assert client.recv(1) == b""
    address.close()
    opened(f"127.0.0.1:{port}").listen()


def test_an_address_of_another_machine(opened: Opened) -> None:
    with pytest.raises(StartError) as caught:
        opened("192.0.2.1:443")
    assert str(caught.value) == "cannot listen on 192.0.2.1:443: this machine has no such address"


def test_an_interface_that_is_not_there(opened: Opened) -> None:
    with pytest.raises(StartError, match=r"cannot listen on \[fe80::1%nowhere\]:443: "):
        opened("[fe80::1%nowhere]:443")


def test_a_permission_is_missing(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "setsockopt", refuse)
    with pytest.raises(StartError) as caught:
        opened("127.0.0.1:443")
    assert caught.value.exit_code == EXIT_PERMISSION
    assert "ports below 1024 need root or CAP_NET_BIND_SERVICE" in str(caught.value)


def test_one_unix_socket_for_all_slots(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    address = opened(f"unix:{path}", 2)
    assert list(address.sockets) == [ANY]
    assert address.shared
    assert not address.sockets[ANY].get_inheritable()
    assert not address.sockets[ANY].getblocking()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_a_dead_process_left_is_replaced(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    opened(f"unix:{path}").sockets[ANY].close()
    assert stat.S_ISSOCK(path.stat().st_mode)
    opened(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_is_served_is_not(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    one = opened(f"unix:{path}").sockets[ANY]
    with pytest.raises(StartError, match="another process listens there"):
        opened(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        one.accept()[0].close()  # the question whether it is served
        one.accept()[0].close()


@pytest.mark.timeout(5)
def test_a_socket_whose_queue_is_full_is_served(opened: Opened, tmp_path: Path) -> None:
    """Its process hangs: that is no reason to hang too, and none to take its place."""
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as hung, socket.socket(socket.AF_UNIX) as waiting:
        hung.bind(str(path))
        hung.listen(0)
        waiting.connect(str(path))
        with pytest.raises(StartError, match="another process listens there"):
            opened(f"unix:{path}")


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_not_removed(opened: Opened, tmp_path: Path, kind: str) -> None:
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


def test_a_plain_file_is_not_called_a_process(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    path.write_text("mine")
    with pytest.raises(StartError) as caught:
        opened(f"unix:{path}")
    assert "process" not in str(caught.value)


def test_a_folder_that_is_not_there(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="the folder does not exist"):
        opened(f"unix:{tmp_path}/no/web.sock")


def test_nothing_stays_open_after_a_failure(opened: Opened, port: int) -> None:
    """Some slots can be had and the last one not: the fixture for leaked descriptors looks at what is left."""
    with socket.create_server(("127.0.0.1", port), reuse_port=True), pytest.raises(StartError):
        opened(f"127.0.0.1:{port}", 2)


def test_a_unix_socket_loses_its_name_when_it_is_closed(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    opened(f"unix:{path}").close()
    assert not path.exists()


def test_a_name_that_is_another_one_s_by_now_stays(opened: Opened, tmp_path: Path) -> None:
    """A balancer that was started while this one drains."""
    path = tmp_path / "web.sock"
    one = opened(f"unix:{path}")
    path.unlink()
    opened(f"unix:{path}")
    one.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
