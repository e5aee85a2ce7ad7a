"""The state machine as a table: every state is reached, every state can end, nothing comes back from the dead."""

from __future__ import annotations

from nlbcore.engine.session import moves


def reached_from(start: str) -> set[str]:
    found, todo = set(), [start]
    while todo:
        state = todo.pop()
        if state not in found:
            found.add(state)
            todo.extend(moves()[state])
    return found


def test_the_table() -> None:
    assert moves() == {
        "free": ("hello", "connect", "preamble", "closed"),
        "preamble": ("hello", "connect", "closed"),
        "hello": ("handshake", "closed"),
        "handshake": ("connect", "flush", "closed"),
        "connect": ("relay", "flush", "closed"),
        "relay": ("flush", "closed"),
        "flush": ("linger", "closed"),
        "linger": ("closed",),
        "closed": (),
    }


def test_every_state_is_reached_and_ends() -> None:
    assert reached_from("free") == set(moves())
    for state in moves():
        assert "closed" in reached_from(state)


def test_no_state_comes_back() -> None:
    for state, following in moves().items():
        for other in following:
            assert state not in reached_from(other), f"{state} -> {other} -> {state}"


def test_bytes_reach_a_server_only_behind_a_handshake_or_without_tls() -> None:
    before = {state for state, following in moves().items() if "connect" in following}
    assert before == {"free", "preamble", "handshake"}
    assert [state for state, following in moves().items() if "relay" in following] == ["connect"]
