"""The tables and the header as lines: all of it where there is room, the most important where there is none."""

from __future__ import annotations

import datetime as dt

from rich.text import Text

from nlbcli._top_rates import Frame, Sample, frame
from nlbcli._top_tables import ago, count, duration, header, lines, rate, tables, volume
from tests.support.status import Status, later, status

NOW = dt.datetime(2026, 1, 2, 3, 4, 47, tzinfo=dt.UTC)


WIDE = """\
Listeners
 name   bind                   protocol  client auth    conns   new/s  full/s  resumed/s  refused/s      in/s     out/s
 web    0.0.0.0:443, [::]:443  TCPSSL    required       1,234      10     6.0          0        4.0   10.0 kB   50.0 kB
 plain  127.0.0.1:8080         TCP                          7       0       0          0          0       0 B       0 B

Servers
 group  name  address      state                        weight    conns   new/s  errors/s  errors
 app    a     10.0.0.1:80  Available                       100      617     6.0         0       0
!app    b     10.0.0.2:80  Unhealthy CONNECT_FAILED        100      617       0         0       0
*app    c     10.0.0.3:80  Draining (drain)          20 of 100      617       0         0       0

Ends of connections
 reason               kind           total    per s  listeners
*no_certificate       client            24      4.0  web
 client_close         ended         40,005        0  web, plain
 unknown_ca           client            30        0  web

Certificates and CRLs
 days left  what         listener  subject                       ends                  file
!     -0.5  CRL          web       CN=Issuing                    2026-01-02T00:00:00Z
*      2.5  certificate  web       old.example.com               2026-01-05T00:00:00Z  /etc/nlb/old.crt
      29.9  certificate  web       www.example.com, example.com  2026-02-01T00:00:00Z  /etc/nlb/server.crt
     never  CRL          web       CN=Root                       -

Workers
 slot        pid  state       conns   new/s  restarts  heartbeat  longest stall
 0          4711  running     1,200      10         0      40 ms         1.3 ms
!1             -  down           41       0         2      40 ms         1.3 ms
!prober     4713  silent                            1
"""


def shown(answer: Status | None = None) -> Frame:
    return frame(Sample(100.0, status()), Sample(101.0, answer or later(status(), refused=4)))


def text(found: list[Text]) -> str:
    return "\n".join(line.plain for line in found)


def test_wide() -> None:
    assert "\n\n".join(f"{one.title}\n{text(lines(one, 200))}" for one in tables(shown())) + "\n" == WIDE


def test_narrow() -> None:
    listeners, servers, *_ = tables(shown())
    assert text(lines(listeners, 60)).splitlines()[1] == " web      1,234      10        4.0   10.0 kB   50.0 kB"
    assert text(lines(servers, 40)).splitlines()[2] == "!b     Unhealthy CONNECT_FAILED      617"
    assert text(lines(servers, 20)).splitlines()[2] == "!b     Unhealthy CO…"


def test_nothing_is_wider_than_there_is_room() -> None:
    frame = shown()
    for width in range(130):
        found = [line for table in tables(frame) for line in lines(table, width)] + header(frame.head, NOW, width)
        assert max(line.cell_len for line in found) <= width


def test_the_header() -> None:
    assert text(header(shown().head, NOW, 200)) == (
        "nlb-1  running  generation 3 (+1 older)  reloaded 42 s ago (command), 1 change  up 2 d 3 h  nlb 0.1.0  pid 4710\n"
        "1,241 connections  handshakes 6.0/s  refused 4.0/s  in 10.0 kB/s  out 50.0 kB/s  new 10/s"
    )
    assert text(header(shown().head, NOW, 20)) == "nlb-1  running\n1,241 connections"


def test_a_refused_reload_stands_out() -> None:
    answer = status()
    answer["reload"] |= {"successful": False, "reason": "nlb.toml:3: no such server group", "trigger": "signal"}
    who, _ = header(shown(answer).head, NOW, 200)
    assert "reload REFUSED 42 s ago (signal)" in who.plain
    assert any("nlb.toml:3: no such server group" in problem for problem in shown(answer).problems)
    answer |= {"reload": None}
    assert "never reloaded" in header(shown(answer).head, NOW, 200)[0].plain
    answer = status() | {"reloads": {"successful": 3, "failed": 2}}
    assert "2 refused before" in header(shown(answer).head, NOW, 200)[0].plain


def test_a_filter_finds_what_a_row_shows() -> None:
    servers = tables(shown())[1]
    assert [row.cells[1].plain for row in servers.matching("unHEALTHY").rows] == ["b"]
    assert [row.cells[1].plain for row in servers.matching("10.0.0.").rows] == ["a", "b", "c"]
    assert (servers.matching("nothing").rows, servers.matching("nothing").total) == ((), 3)


def test_names_of_others_are_not_obeyed() -> None:
    answer = status()
    answer["certificates"][0]["names"] = ["evil\x1b[2J\n.example"]
    assert "evil?[2J?.example" in text(lines(tables(shown(answer))[3], 200))


def test_numbers() -> None:
    rates = (None, 0, 0.01, 0.05, 9.94, 9.96, 12345.6)
    assert [rate(value).plain for value in rates] == ["-", "0", "<0.1", "0.1", "9.9", "10", "12,346"]
    volumes = (None, 0, 999, 999.9, 999_960, 2.5e9)
    assert [volume(value).plain for value in volumes] == ["-", "0 B", "999 B", "1.0 kB", "1.0 MB", "2.5 GB"]
    assert [count(value).plain for value in (None, 0, 1241)] == ["-", "0", "1,241"]


def test_durations() -> None:
    assert [duration(seconds) for seconds in (-1, 0.4, 59, 61, 3600, 90_061)] == [
        "0 s",
        "0 s",
        "59 s",
        "1 min 1 s",
        "1 h",
        "1 d 1 h",
    ]
    moments = ("2026-01-02T03:04:47Z", "2026-01-02T03:04:05Z", "2026-01-01T00:00:00Z", "yesterday\x1b")
    assert [ago(moment, NOW) for moment in moments] == ["just now", "42 s ago", "1 d ago", "yesterday?"]
