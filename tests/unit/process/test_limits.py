"""What the machine allows: sockets of a worker, open files."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from nlbcore.config.load import load
from nlbcore.engine.engine import acceptors
from nlbcore.errors import StartError
from nlbcore.process.limits import count_sockets, raise_descriptors


def test_more_sockets_than_a_worker_can_watch(tmp_path: Path) -> None:
    binds = ", ".join(f'"127.0.0.1:{port}"' for port in range(1001, 1101))
    (tmp_path / "nlb.toml").write_text(
        f'[listeners.web]\nbind = [{binds}]\nprotocol = "TCP"\nserver_group = "app"\n'
        '[server_groups.app]\nservers = [{ address = "127.0.0.1:9" }]\n'
    )
    config = load(tmp_path / "nlb.toml").config
    assert config is not None
    count_sockets(config, acceptors() // 100)
    with pytest.raises(StartError, match=r"100 addresses for \d+ workers are \d+ listening sockets, more than"):
        count_sockets(config, acceptors() // 100 + 1)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
        raise_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
