"""What an authority answers, as JSON: what there is, and nothing that there is not."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from nlbcore.pki.index import Entry
from nlbcore.pki.outcome import Issued

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
ENTRY = Entry(0xABC, "alice", "client", "intermediate", "CN=alice", (), NOW, NOW, "00ff")


def test_as_dict() -> None:
    plain = Issued(ENTRY, Path("alice.crt"), Path("alice.key"), None, clamped=False, new_key=False).as_dict()
    assert plain["files"] == {"certificate": "alice.crt"}
    assert not {"renewed", "left_out", "stale_p12"} & set(plain)
    made = Issued(
        *(ENTRY, Path("alice.crt"), Path("alice.key"), Path("alice.p12")), clamped=True, left_out=("x",), renewed=ENTRY
    ).as_dict()
    assert made["files"] == {"certificate": "alice.crt", "private_key": "alice.key", "p12": "alice.p12"}
    assert (made["left_out"], made["renewed"], made["stale_p12"], made["clamped"]) == (["x"], "0ABC", None, True)
    assert json.dumps(made)
