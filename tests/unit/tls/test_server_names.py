"""Which certificate has a name when: never an expired one where there is a valid one, and the first of each kind of key."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nlbcore.tls.material import ServerCertificate
from nlbcore.tls.server_names import EVER, ServerNames, Window

NOW = 1000


def one(*names: str, kind: str = "EC", since: int = 0, until: int = 10_000) -> ServerCertificate:
    """Valid from `since` to `until`, both included."""
    moments = [dt.datetime.fromtimestamp(second, dt.UTC) for second in (until, since)]
    return ServerCertificate(Path("c"), Path("k"), (b"",), b"", names, moments[0], kind, moments[1])


def named(*certificates: ServerCertificate, now: int = NOW) -> ServerNames:
    names = ServerNames(certificates, now)
    names.add(range(len(certificates)))
    return names


def test_one_is_for_ever() -> None:
    """Even when it has expired: the last good beats none."""
    for made in (one("a"), one("a", until=5), one("a", since=5000)):
        assert named(made).windows("a") == [Window(-EVER, EVER, (0,))]
        assert named(made).fallback() == [Window(-EVER, EVER, (0,))]


def test_two_kinds_of_key() -> None:
    names = named(one("a"), one("a", "b", kind="RSA"), one("a"))
    assert [window.certificates for window in names.windows("a")] == [(0, 1)]
    assert [window.certificates for window in names.windows("b")] == [(1,)]
    assert [window.certificates for window in names.fallback()] == [(0, 1)]


def test_an_expired_one_is_not_preferred() -> None:
    """Neither of its own kind of key nor of another."""
    for kind in ("EC", "RSA"):
        names = named(one("a", until=500), one("a", kind=kind))
        assert next(window.certificates for window in names.windows("a")) == (1,)
        names = named(one("a", since=5000, until=20_000), one("a", kind=kind))
        assert next(window.certificates for window in names.windows("a")) == (1,)


def test_as_time_passes() -> None:
    names = named(one("a", until=2000), one("a", since=1500, until=3000), one("a", kind="RSA", since=2500, until=2600))
    assert (
        names.windows("a")
        == names.fallback()
        == [
            Window(-EVER, 2001, (0,)),
            Window(2001, 2500, (1,)),
            Window(2500, 2601, (1, 2)),
            Window(2601, 3001, (1,)),
            Window(3001, EVER, (0, 2)),
        ]
    )


def test_a_wildcard_stands_in() -> None:
    """For an exact name while none of its own is valid; not for a name one label deeper, nor the other way round."""
    names = named(one("a.x", until=2000), one("*.x", kind="RSA"), one("b.a.x", until=500))
    assert names.windows("a.x")[:2] == [Window(-EVER, 2001, (0,)), Window(2001, 10_001, (1,))]
    assert [window.certificates for window in names.windows("b.a.x")] == [(2,)]
    names = named(one("*.x", until=500), one("a.x"))
    assert names.windows("*.x") == [Window(-EVER, EVER, (0,))]


def test_the_default() -> None:
    """The first in the file, and who shares a name with it; not whoever is valid."""
    names = named(one("a", until=500), one("b"))
    assert names.fallback() == [Window(-EVER, EVER, (0,))]
    names = named(one("a", "c", until=500), one("b"), one("c"))
    assert names.fallback()[0].certificates == (2,)
    assert named(one(), one("b")).fallback() == [Window(-EVER, EVER, (0,))]


LIFE = st.tuples(st.integers(900, 1100), st.integers(0, 200), st.sampled_from(["EC", "RSA"]))


@given(st.lists(LIFE, min_size=1, max_size=5), st.integers(NOW, 1400))
def test_against_the_rule(lives: list[tuple[int, int, str]], moment: int) -> None:
    """At any moment from now on: the first valid one of each kind, else the first of each kind."""
    certificates = [one("a", kind=kind, since=since, until=since + length) for since, length, kind in lives]
    windows = named(*certificates).windows("a")
    assert [window.until for window in windows[:-1]] == [window.since for window in windows[1:]]
    assert (windows[0].since, windows[-1].until) == (-EVER, EVER)
    (shown,) = [window.certificates for window in windows if window.since <= moment < window.until]
    valid = [n for n, (since, length, _) in enumerate(lives) if since <= moment <= since + length] or range(len(lives))
    expected = {kind: n for n in reversed(list(valid)) for kind in [lives[n][2]]}
    assert set(shown) == set(expected.values())
