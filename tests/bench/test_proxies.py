"""What is known of each proxy: its name, its program, its version, and what it is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nlbbench import proxies
from nlbcore import __version__
from nlbcore.errors import NlbError
from tests.support.programs import need


@pytest.mark.parametrize(
    ("name", "kind"), [("haproxy", "haproxy"), ("haproxy-3.4", "haproxy"), ("nlb-a", "nlb"), ("nginx-quic_1", "nginx")]
)
def test_a_name_tells_the_kind(name: str, kind: str) -> None:
    assert proxies.kind_of(name).name == kind


@pytest.mark.parametrize("name", ["envoy", "", "haproxy3", "nlb-/etc", "-nlb", "nlb a"])
def test_a_name_that_tells_nothing(name: str) -> None:
    with pytest.raises(NlbError, match=r"no proxy that is known here; a name is one of nlb, haproxy, nginx"):
        proxies.kind_of(name)


def test_this_environments_nlb_is_found_first() -> None:
    assert proxies.find("nlb") == Path(sys.executable).parent / "nlb"
    assert proxies.find("no-such-program") is None


@pytest.mark.parametrize("name", proxies.KINDS)
def test_version_and_library(name: str) -> None:
    kind = proxies.KINDS[name]
    found = proxies.build(kind, Path(need(kind.program)) if name != "nlb" else Path(sys.executable).parent / "nlb")
    assert found.version[0].isdigit()
    assert found.library.startswith("OpenSSL ")
    if name == "nlb":
        assert found.version == __version__


def test_another_program() -> None:
    with pytest.raises(NlbError, match=r"openssl is no HAProxy: it says"):
        proxies.build(proxies.KINDS["haproxy"], Path(need("openssl")))


def test_a_program_that_does_not_run(tmp_path: Path) -> None:
    broken = tmp_path / "haproxy"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(NlbError, match="No such file"):
        proxies.build(proxies.KINDS["haproxy"], broken)
