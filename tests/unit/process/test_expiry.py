"""Warnings before something ends: each once, at the right moment, whatever reloads come between."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nlbcore.process.expiry import DAY, STEPS, Expiry

END = 1_800_000_000  # 2027-01-15 08:00:00 UTC
NOT_AFTER = "2027-01-15T08:00:00.000Z"


def certificate(path: str = "/a.crt", end: float = END, listener: str = "web") -> dict[str, Any]:
    return {"listener": listener, "path": path, "names": ["a.test"], "not_after": end}


def crl(issuer: str = "CN=ca", end: float | None = END) -> dict[str, Any]:
    return {"listener": "web", "issuer": issuer, "next_update": end}


def watching(*certificates: dict[str, Any], crls: tuple[dict[str, Any], ...] = ()) -> Expiry:
    expiry = Expiry()
    expiry.watch(certificates, crls)
    return expiry


def test_a_certificate_from_its_first_day_to_its_end() -> None:
    """Asked every hour for 40 days: five events, each within the hour of its threshold."""
    expiry = watching(certificate())
    said = [(now, one) for now in range(END - 35 * DAY, END + 5 * DAY, 3600) for one in expiry.due(now)]
    fields = {"listener": "web", "path": "/a.crt"}
    assert said == [
        (END - days * DAY, (level, "certificate_expires", {**fields, "days_left": days, "not_after": NOT_AFTER}))
        for days, level in [(30, "info"), (14, "warning"), (7, "warning"), (1, "error")]
    ] + [(END + 3600, ("error", "certificate_expired", {**fields, "not_after": NOT_AFTER}))]


def test_a_list() -> None:
    expiry = watching(crls=(crl(), crl("CN=never", None)))
    said = [(now, one) for now in range(END - 35 * DAY, END + 5 * DAY, 3600) for one in expiry.due(now)]
    fields = {"listener": "web", "issuer": "CN=ca"}
    assert said == [
        (END - DAY, ("warning", "crl_expires", {**fields, "days_left": 1, "next_update": NOT_AFTER})),
        (END + 3600, ("error", "crl_overdue", {**fields, "next_update": NOT_AFTER})),
    ]


def test_what_is_late_already_is_told_once_at_the_nearest_threshold() -> None:
    expiry = watching(certificate(), certificate("/b.crt", END + 5 * DAY), certificate("/c.crt", END - 9 * DAY))
    now = END - 6.5 * DAY
    assert [(level, event, fields["path"], fields.get("days_left")) for level, event, fields in expiry.due(now)] == [
        ("warning", "certificate_expires", "/a.crt", 6),
        ("warning", "certificate_expires", "/b.crt", 11),
        ("error", "certificate_expired", "/c.crt", None),
    ]
    assert expiry.due(now) == []


def test_a_reload_repeats_nothing() -> None:
    """What is renewed begins anew; what has gone is forgotten."""
    expiry = watching(certificate(), certificate("/b.crt"), crls=(crl(),))
    now = END - DAY / 2
    assert len(expiry.due(now)) == 3
    expiry.watch([certificate("/b.crt", END + 90 * DAY), certificate()], [crl()])
    assert expiry.due(now) == []
    expiry.watch([certificate(listener="other"), certificate()], [crl(end=END + 10 * DAY)])
    assert [fields["listener"] for _, _, fields in expiry.due(now)] == ["other"]
    assert [event for _, event, _ in expiry.due(END + 9.5 * DAY)] == ["certificate_expired"] * 2 + ["crl_expires"]
    expiry.watch([], [])
    assert expiry.due(END + 900 * DAY) == []


def test_a_clock_that_is_set_back() -> None:
    expiry = watching(certificate())
    assert len(expiry.due(END - 13 * DAY)) == 1
    assert expiry.due(END - 40 * DAY) == []
    assert expiry.due(END - 13 * DAY) == []
    assert len(expiry.due(END - 7 * DAY)) == 1


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 50 * DAY)), max_size=30),
    st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True),
)
def test_never_twice(history: list[float | None], ends: list[int]) -> None:
    """However often it is asked, at whatever time, and however often reloaded (None)."""
    expiry, told, wanted = Expiry(), [], [certificate(f"/{days}.crt", END + days * DAY) for days in ends]
    expiry.watch(wanted, [])
    for after in history:
        if after is None:
            expiry.watch(reversed(wanted), [])
        else:
            told += [(event, fields["path"], level) for level, event, fields in expiry.due(END + after)]
    for days in ends:
        assert sum(path == f"/{days}.crt" for _, path, _ in told) <= len(STEPS["certificate"]) + 1
    assert sum(event == "certificate_expired" for event, _, _ in told) <= len(ends)
