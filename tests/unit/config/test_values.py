"""Where commands look for a balancer when nobody says; the other values are tried out with the keys that have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nlbcore.config.values import default_control_socket

ROOT, SOMEBODY = 0, 1000


@pytest.mark.parametrize(
    ("user", "runtime_directory", "user_folder", "expected"),
    [
        (ROOT, "/run/made-by-systemd", "/run/user/0", "/run/made-by-systemd/nlb.sock"),
        (ROOT, "/run/one:/run/two", None, "/run/one/nlb.sock"),
        (ROOT, None, None, "/run/nlb/nlb.sock"),
        (ROOT, "", "/run/user/0", "/run/nlb/nlb.sock"),
        (SOMEBODY, "/run/made-by-systemd", "/run/user/1000", "/run/made-by-systemd/nlb.sock"),
        (SOMEBODY, None, "/run/user/1000", "/run/user/1000/nlb/nlb.sock"),
        (SOMEBODY, None, "", "/run/nlb/nlb.sock"),
        (SOMEBODY, None, None, "/run/nlb/nlb.sock"),
    ],
)
def test_the_default_control_socket(
    monkeypatch: pytest.MonkeyPatch, user: int, runtime_directory: str | None, user_folder: str | None, expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    for name, value in (("RUNTIME_DIRECTORY", runtime_directory), ("XDG_RUNTIME_DIR", user_folder)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert default_control_socket() == Path(expected)
