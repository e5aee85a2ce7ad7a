"""The rehearsal puts everything together: file, meaning, material, policies, limits; it changes nothing."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest

from nlbcore.process.checker import rehearse
from tests.support.certs import Pki


def write(folder: Path, pki: Pki, listener: str = "", rest: str = "", bind: str = '"127.0.0.1:443"') -> Path:
    path = folder / "nlb.toml"
    path.write_text(
        f'[listeners.web]\nbind = {bind}\nserver_group = "app"\n{listener}\n'
        f'[[listeners.web.certificates]]\ncertificate = "{pki.server.path}"\nprivate_key = "{pki.server.key_path}"\n'
        f'[listeners.web.client_auth]\nmode = "required"\nca = "{pki.root.path}"\n'
        f'[server_groups.app]\nservers = [{{ address = "10.0.0.1:80" }}]\n{rest}'
    )
    return path


def found(path: Path) -> list[str]:
    return [str(one).removeprefix(f"{path}:").replace(str(path.parent), "DIR") for one in rehearse(path).findings]


def test_all_is_well(tmp_path: Path, pki: Pki) -> None:
    rehearsal = rehearse(write(tmp_path, pki))
    assert rehearsal.findings == ()
    assert rehearsal.ok
    assert rehearsal.material is not None
    assert rehearsal.loaded.config is not None
    assert rehearsal.material.listeners["web"].certificates[0].path == pki.server.path


def test_no_port_is_bound(tmp_path: Path, pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert rehearse(write(tmp_path, pki, bind=f'"127.0.0.1:{taken.getsockname()[1]}"')).ok


def test_findings_of_every_part_stand_in_the_order_of_the_file(tmp_path: Path, pki: Pki) -> None:
    path = write(tmp_path, pki, 'idle_timout = 5\nsecurity_policy = "tls_cipher_policy_1_2"', "[server_groups.old]\n")
    path.write_text(path.read_text().replace(str(pki.root.path), "none.crt"))
    lines = found(path)
    assert [line.split(": ")[1] for line in lines] == ["error", "warning", "error", "error", "warning"]
    assert "idle_timout" in lines[0]
    assert "3DES" not in lines[1]
    assert lines[1].startswith(
        "5:19: warning: listeners.web.security_policy: the OpenSSL in use lacks 1 cipher suite of"
    )
    assert "DIR/none.crt: no such file or directory" in lines[2]
    assert "server_groups.old: has no servers" in lines[3]
    assert "no listener uses this server group" in lines[4]


def test_an_error_anywhere_means_no_material(tmp_path: Path, pki: Pki) -> None:
    rehearsal = rehearse(write(tmp_path, pki, "cps = -1"))
    assert not rehearsal.ok
    assert rehearsal.material is None
    assert rehearsal.loaded.config is None
    meaning = rehearse(write(tmp_path, pki, rest="[server_groups.b]\n"))
    assert meaning.loaded.config is not None
    assert meaning.material is None
    assert len(meaning.errors) == len(meaning.warnings) == 1


def test_keys_that_are_broken_are_not_reported_as_missing_files(tmp_path: Path, pki: Pki) -> None:
    path = write(tmp_path, pki)
    path.write_text(path.read_text().replace(f'private_key = "{pki.server.key_path}"', "private_key = 5"))
    assert len(found(path)) == 1
    path.write_text(path.read_text().replace('bind = "127.0.0.1:443"', "bind = 5"))
    assert len(found(path)) == 2


def test_warnings_alone_do_not_stop_it(tmp_path: Path, pki: Pki) -> None:
    rehearsal = rehearse(write(tmp_path, pki, 'security_policy = "tls_cipher_policy_1_0"'))
    assert [line.severity for line in rehearsal.findings] == ["warning"]
    assert "DES-CBC3-SHA" in rehearsal.findings[0].message
    assert rehearsal.ok
    assert rehearsal.material is not None


def test_no_key_in_the_repr(tmp_path: Path, pki: Pki) -> None:
    rehearsal = rehearse(write(tmp_path, pki))
    assert rehearsal.material is not None
    assert repr(rehearsal.material.listeners["web"].certificates[0].key)[2:40] not in repr(rehearsal)


def test_too_few_descriptors(tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1064))
    assert found(write(tmp_path, pki, "max_connections = 500")) == []
    assert found(write(tmp_path, pki, "max_connections = 501")) == [
        (
            "4:19: warning: listeners.web.max_connections: the limit of 1064 open files allows about 500 connections, "
            "but 501 are asked for up to here (raise it with LimitNOFILE= or ulimit -n)"
        )
    ]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    assert found(write(tmp_path, pki, "max_connections = 501")) == []


def test_folders_of_logs_and_sockets(tmp_path: Path, pki: Pki) -> None:
    logs = '[log]\nfile = "no/such/nlb.log"\naccess = "./"\n'
    path = write(tmp_path, pki, bind='["unix:gone/web.sock", "127.0.0.1:443"]', rest=logs)
    assert found(path) == [
        "2:9: error: listeners.web.bind[0]: there is no folder DIR/gone (mkdir -p DIR/gone)",
        "14:8: error: log.file: there is no folder DIR/no/such (mkdir -p DIR/no/such)",
        "15:10: error: log.access: DIR is a folder",
    ]
    (tmp_path / "access.log").touch()
    path = write(tmp_path, pki, bind='"unix:web.sock"', rest='[log]\nfile = "/dev/null"\naccess = "access.log"\n')
    assert found(path) == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    rehearsal = rehearse(tmp_path / "nlb.toml")
    assert [str(one) for one in rehearsal.findings] == [
        f"{tmp_path}/nlb.toml: error: cannot read: no such file or directory"
    ]
    assert rehearsal.loaded.config is None
