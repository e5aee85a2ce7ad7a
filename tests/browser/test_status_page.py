"""The status page in a real browser, fed by a balancer by script (`scripted`), under the strictest policy.

Checked: what stands where, rates and what must not disturb them, names that attack, the stream's end and return, a thousand
servers, keyboard and screen reader, dark, phone, paper. No test passes while the browser complains of anything.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

from nlbcore.termination import WORDS
from tests.browser.scripted import (
    PAGE,
    START,
    Answer,
    Load,
    Site,
    answer,
    certificate,
    crl,
    group,
    listener,
    moment,
    policy,
    server,
    worker,
)
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.browser.conftest import Visits

IMG = "<img src=x onerror=alert(1)>"
CONNECTIONS, HANDSHAKES, REFUSALS, BYTES = (
    f"#chart-{name}" for name in ("connections", "handshakes", "refusals", "bytes")
)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(answer())
    yield site
    site.close()


@pytest.fixture
def watch(visit: Visits, site: Site) -> Callable[..., Page]:
    """`watch(first answer)`: the page with an open stream, so that what is published next arrives one by one."""

    def start(status: Answer, **options: Any) -> Page:
        site.publish(status)
        page = visit(site.url, **options)
        wait_until(lambda: site.streams, "the page opens its stream")
        return page

    return start


def later(status: Answer, seconds: float, **counters: Any) -> Answer:
    """So many seconds later, with the first listener's counters raised by `counters`."""
    after = copy.deepcopy(status)
    after["uptime_s"] += seconds
    first = after["listeners"][0]
    for name, more in counters.items():
        if name == "handshakes":
            both = first["handshakes"].setdefault("TLSv1.3", {"full": 0, "resumed": 0})
            both["full"] += more[0]
            both["resumed"] += more[1]
        elif name == "terminations":
            for word, count in more.items():
                first["terminations"][word] = first["terminations"].get(word, 0) + count
        elif name == "connections":
            first["connections"] = after["connections"] = more
        else:
            first[name] += more
    return after


def big(page: Page, chart: str) -> Any:
    """The large number of a chart."""
    return page.locator(f"{chart} .big")


def legend(page: Page, chart: str) -> dict[str, str]:
    """The values of a chart by series."""
    lines = [line.split("\n") for line in page.locator(f"{chart} .legend li").all_inner_texts()]
    return {line[0].strip(): line[-1].strip() for line in lines}


def row(page: Page, section: str, name: str) -> Any:
    """A row of a table by its name."""
    return page.locator(f"#{section} tbody tr:has(> th > span:first-child:text-is('{name}'))")


def test_what_stands_where(site: Site, watch: Callable[..., Page]) -> None:
    load = Load()
    page = watch(load.step())
    site.publish(load.step())
    expect(page.locator("h1")).to_have_text("nlb-1")
    expect(page.locator("#state")).to_have_text("running")
    expect(page).to_have_title("(2) nlb-1 · 1,229 open")
    facts = page.locator("#facts")
    for text in (
        "0.1.0",
        "6 still serving",
        "since 2026-11-22 06:30:00 UTC",
        "7 of 9",
        "4 of 4",
        "by command",
        "2 changes",
    ):
        expect(facts).to_contain_text(text)
    expect(page.locator("#attention")).to_contain_text("Server group api: 1 of 3 servers unhealthy")
    expect(page.locator("#attention")).to_contain_text(
        "Certificate api.example.com of listener partners ends in 9 days"
    )

    expect(row(page, "listeners", "web").get_by_role("cell").nth(0)).to_have_text("0.0.0.0:443, [::]:443")
    expect(row(page, "listeners", "web")).to_contain_text("certificate required")
    expect(row(page, "listeners", "web")).to_contain_text("of 20,000")
    expect(page.locator("#listeners tbody tr")).to_have_count(3)
    ill = row(page, "servers", "api-2")
    for text in ("10.0.4.2:9000", "Unhealthy", "HTTP_CODE_NOT_MATCH", "6 min 42 s", "100"):
        expect(ill).to_contain_text(text)
    expect(row(page, "servers", "api-3")).to_contain_text("drain")
    expect(row(page, "servers", "app-4")).to_contain_text("configured 100")
    expect(page.locator(".group").nth(1)).to_contain_text("1 of 3 servers usable, 1 unhealthy, 1 draining")
    expect(page.locator("#certificates tbody tr").first).to_contain_text("9 days")
    expect(page.locator("#certificates tbody tr").last).to_contain_text("61 days")
    expect(row(page, "crls", "CN=Partner Network Root")).to_contain_text("9 h 36 min")
    expect(row(page, "workers", "2")).to_contain_text("9.3 ms")
    expect(row(page, "attendants", "prober")).to_contain_text("checks the servers")
    expect(row(page, "terminations", "client_close")).to_contain_text("by the client")


def test_rates_of_successive_answers(site: Site, watch: Callable[..., Page]) -> None:
    first = answer()
    page = watch(first)
    expect(big(page, HANDSHAKES)).to_have_text("–")  # one answer makes no rate
    second = later(
        first, 2, handshakes=(10, 30), connections=53, connections_total=50, received_bytes=4_000_000, sent_bytes=600_000,
        terminations={"revoked": 4, "not_tls": 1, "client_close": 9},
    )  # fmt: skip
    site.publish(second)
    expect(big(page, HANDSHAKES)).to_have_text("20")
    assert legend(page, HANDSHAKES) == {"full": "5.0", "resumed": "15"}
    assert legend(page, CONNECTIONS) == {"open": "53", "new per second": "25"}
    expect(big(page, BYTES)).to_have_text("2.3 MB/s")
    assert legend(page, BYTES) == {"in": "2 MB/s", "out": "300 kB/s"}
    expect(big(page, REFUSALS)).to_have_text("2.5")
    assert legend(page, REFUSALS) == {"revoked": "2.0", "not_tls": "0.5"}
    expect(row(page, "terminations", "revoked").get_by_role("cell")).to_have_text(["2.0", "4", "4"])
    site.publish(later(second, 1), later(second, 1))
    expect(big(page, HANDSHAKES)).to_have_text("0")
    assert legend(page, REFUSALS) == {"revoked": "0", "not_tls": "0"}
    page.locator("#of").select_option("web")
    expect(page.locator("#terminations-about")).to_have_text("of listener web")
    assert legend(page, CONNECTIONS)["open"] == "53"


def test_counters_that_are_set_back(site: Site, watch: Callable[..., Page]) -> None:
    """Neither a new row under an old name, nor a restart of the balancer, nor a long silence makes a rate that never was."""
    base = later(
        answer(), 0, connections_total=10**9, handshakes=(10**9, 0), sent_bytes=10**15, terminations={"revoked": 10**6}
    )
    page = watch(base)
    back = answer(uptime_s=101.0)
    back["listeners"].append(
        listener("new", connections_total=10**9, sent_bytes=10**15, terminations={"revoked": 10**6})
    )
    site.publish(back)
    for chart in (HANDSHAKES, REFUSALS):
        expect(big(page, chart)).to_have_text("0")
    expect(big(page, BYTES)).to_have_text("0 B/s")
    assert legend(page, CONNECTIONS)["new per second"] == "0"
    again = later(
        answer(started=moment(START + 500), pid=5000, uptime_s=2.0), 0, handshakes=(10**9, 0), sent_bytes=10**15
    )
    site.publish(again)
    expect(big(page, HANDSHAKES)).to_have_text("–")
    expect(page.locator(f"{HANDSHAKES} svg text", has_text="restart")).to_have_count(1)
    site.publish(later(again, 60, handshakes=(120, 0)))
    expect(big(page, HANDSHAKES)).to_have_text("2.0")
    tops = page.locator(f"{HANDSHAKES} svg text").all_text_contents()
    assert {"1.0", "2.0"} <= set(tops), tops


def test_every_reason_has_a_meaning(site: Site, watch: Callable[..., Page]) -> None:
    words = [word for word in WORDS if word != "open"]
    first = answer()
    page = watch(first)
    site.publish(later(first, 1, terminations={word: 2 + number for number, word in enumerate(words)}))
    expect(page.locator("#terminations tbody tr:not(.class)")).to_have_count(len(words))
    for word in words:
        assert row(page, "terminations", word).get_by_role("rowheader").locator(".sub").inner_text(), word
    shown = legend(page, REFUSALS)
    assert len(shown) == 7
    assert list(shown)[-1].startswith("other (")


def test_names_that_attack_stay_text(watch: Callable[..., Page]) -> None:
    bidi = "good\u202egnp.exe"
    status = answer(
        node=IMG,
        listeners=[listener(IMG, terminations={IMG: 3}, protocol=IMG, handshakes={IMG: {"full": 1, "resumed": 0}})],
        server_groups=[group(IMG, [server(IMG, address=IMG, state=IMG, reason=IMG), server("__proto__"), server(bidi)])],
        certificates=[certificate(IMG, [IMG, bidi], -2)],
        crls=[crl(IMG, f"CN={bidi}", -1)],
        reload={
            "time": moment(START), "successful": False, "generation": 3, "trigger": IMG, "changes": [IMG, bidi], "reason": IMG,
        },
    )  # fmt: skip
    page = watch(status)
    expect(page.locator("h1")).to_have_text(IMG)
    expect(page.locator("#refused-reason")).to_have_text(IMG)
    for section in ("listeners", "servers", "terminations", "certificates"):
        expect(page.locator(f"#{section}")).to_contain_text(IMG)
    expect(page.locator("#servers")).to_contain_text("good\\u202egnp.exe")
    expect(page.locator("#certificates")).to_contain_text("good\\u202egnp.exe")
    expect(page.locator("#servers")).to_contain_text("__proto__")
    assert page.locator("img").count() == 0
    assert "\u202e" not in page.locator("body").inner_text()


def test_what_needs_attention(site: Site, watch: Callable[..., Page]) -> None:
    page = watch(answer())
    expect(page.locator("#attention")).to_contain_text("All is well")
    expect(page.locator("#refused")).to_be_hidden()
    reason = "/etc/nlb/nlb.toml:41:15: error: private_key: does not belong to the certificate"
    ill = [server(name, state="Unhealthy", reason="CONNECT_FAILED") for name in "ab"]
    site.publish(
        answer(
            uptime_s=101.0,
            state="draining",
            reload={
                "time": moment(START + 41), "successful": False, "generation": 3, "trigger": "signal", "changes": [], "reason": reason,
            },
            reloads={"successful": 0, "failed": 1},
            server_groups=[group("app", ill)],
            workers=[worker(0), worker(1, state="stuck", longest_stall_ms=4200.0)],
            certificates=[certificate("web", ["www.example.com"], -1.5)],
            crls=[crl("web", "CN=Example Root", -0.5), crl("web", "CN=Quiet", None)],
        )
    )  # fmt: skip
    expect(page.locator("#refused-reason")).to_have_text(reason)
    expect(page.locator("#refused-about")).to_contain_text("1 min ago")
    expect(page.locator("#refused-about")).to_contain_text("Generation 3 stays in force")
    expect(page.locator("#problems li")).to_have_text(
        [
            "Server group app: no server is usable: new connections go to all of them (fail-open)",
            "Worker 1 is stuck",
            "Certificate www.example.com of listener web expired 1 d 12 h ago",
            "The revocation list of CN=Example Root at listener web is overdue by 12 h",
            "The balancer is draining",
        ]
    )
    expect(page.locator(".group .open")).to_have_text(
        "No server is usable: new connections go to all of them (fail-open)"
    )
    expect(row(page, "crls", "CN=Quiet")).to_contain_text("no end stated")
    expect(page.get_by_role("status")).to_contain_text("New: ")  # told to a screen reader, once
    expect(page).to_have_title("(6) nlb-1 · 0 open")
    site.publish(answer(uptime_s=102.0))
    expect(page.locator("#attention")).to_contain_text("All is well")
    expect(page.locator("#refused")).to_be_hidden()


def test_the_stream_breaks_and_comes_back(site: Site, visit: Visits, watch: Callable[..., Page]) -> None:
    visit.allowed = "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE"
    first = answer()
    page = watch(first)
    expect(page.locator("#live")).to_have_text("live")
    site.close()
    expect(page.locator("#lost")).to_contain_text("no data since ", timeout=6000)
    expect(page.locator("#live")).to_have_text("no data")
    expect(page).to_have_title("no data · nlb-1 · 0 open")
    site.publish(later(first, 20, handshakes=(100, 0)))
    site.open()
    expect(page.locator("#lost")).to_be_hidden(timeout=8000)
    expect(page.locator("#live")).to_have_text("live")
    expect(big(page, HANDSHAKES)).to_have_text("5.0")  # the mean of the time that was not seen
    wait_until(lambda: site.streams, "the page opens its stream again")


def test_a_thousand_servers(site: Site, watch: Callable[..., Page]) -> None:
    def status(second: int) -> Answer:
        servers = [server(f"node-{n:04}", connections_total=second * n, connections=n) for n in range(1000)]
        servers[7] |= {"state": "Unhealthy", "reason": "CONNECT_TIMEOUT"}
        return answer(uptime_s=100.0 + second, server_groups=[group("big", servers), group("app", [server("a")])])

    page = watch(status(0))
    rows = page.locator(".group").first.locator("tbody tr")
    expect(rows).to_have_count(1)  # only what needs attention
    expect(rows).to_contain_text("CONNECT_TIMEOUT")
    page.get_by_role("button", name="Show all 1,000").click()
    expect(rows).to_have_count(1000)
    page.evaluate("document.querySelector('.group tbody').children[500].mine = true")
    took = page.evaluate("performance.now()")
    site.publish(*(status(second) for second in range(1, 6)))
    expect(rows.nth(500)).to_contain_text("2,500")
    assert page.evaluate("performance.now()") - took < 4000
    assert page.evaluate("document.querySelector('.group tbody').children[500].mine"), "the row was built anew"
    page.keyboard.press("/")
    page.keyboard.type("NODE-099 available")
    expect(rows).to_have_count(10)
    expect(page.locator(".group")).to_have_count(1)
    expect(page.locator("#found")).to_have_text("10 of 1,004 rows")
    page.keyboard.press("Escape")
    expect(page.locator(".group")).to_have_count(2)


def test_values_by_mouse_and_keyboard(site: Site, watch: Callable[..., Page]) -> None:
    first = answer()
    page = watch(first)
    site.publish(later(first, 1, connections=10), later(first, 2, connections=20), later(first, 3, connections=30))
    expect(big(page, CONNECTIONS)).to_have_text("30")
    plot = page.get_by_role("slider", name="Connections")
    plot.focus()
    expect(plot).to_have_attribute("aria-valuetext", "now: 30; open 30, new per second 0")
    page.keyboard.press("ArrowLeft")
    expect(plot).to_have_attribute("aria-valuetext", "1 second ago: 20; open 20, new per second 0")
    expect(big(page, CONNECTIONS)).to_have_text("20")
    expect(page.locator(f"{BYTES} svg .at")).to_have_text("06:31:42 UTC")  # all charts are read at one moment
    page.keyboard.press("Escape")
    expect(big(page, CONNECTIONS)).to_have_text("30")
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * (1 - 2 / 300), box["y"] + 40)
    expect(big(page, CONNECTIONS)).to_have_text("10")
    page.mouse.move(0, 0)
    expect(big(page, CONNECTIONS)).to_have_text("30")


def test_tables_for_screen_readers(watch: Callable[..., Page]) -> None:
    for width in (1440, 360):
        page = watch(Load().step(), width=width)
        for name in ("Listeners", "Servers of app", "Terminations", "Workers"):
            table = page.get_by_role("table", name=name, exact=True)
            expect(table).to_have_count(1)
            cells = table.get_by_role("row").last.get_by_role("cell").count() + 1
            assert table.get_by_role("columnheader").count() == cells, name


def luminance(page: Page) -> float:
    colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return sum(float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")[:3]) / 765


def test_a_phone(watch: Callable[..., Page], site: Site, artifacts: Path) -> None:
    page = watch(answer(), width=360, height=740, device_scale_factor=2)
    long = "x" * 300
    site.publish(
        answer(
            uptime_s=101.0, node=long, listeners=[listener(long, bind=[long])], server_groups=[group(long, [server(long)])],
            certificates=[certificate(long, [long], 1)], crls=[crl(long, long, 1)],
        )
    )  # fmt: skip
    expect(page.locator("h1")).to_have_text(long)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    load = Load()
    site.publish(*(load.step() for _ in range(311)))
    expect(page.locator("h1")).to_have_text("nlb-1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(big(page, CONNECTIONS)).to_have_text("1,719")
    (artifacts / "status-page-phone.png").write_bytes(page.screenshot(full_page=True))


def test_light_dark_still_and_on_paper(watch: Callable[..., Page], site: Site, artifacts: Path) -> None:
    load = Load()
    page = watch(load.step(), reduced_motion="reduce")
    site.publish(*(load.step() for _ in range(310)))
    expect(big(page, CONNECTIONS)).to_have_text("1,719")
    assert luminance(page) > 0.9
    (artifacts / "status-page-light.png").write_bytes(page.screenshot(full_page=True))
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert luminance(page) < 0.15
    (artifacts / "status-page-dark.png").write_bytes(page.screenshot(full_page=True))
    assert page.evaluate("document.getAnimations().length") == 0
    page.emulate_media(media="print", color_scheme="dark")
    assert luminance(page) > 0.9  # ink is dear
    expect(page.locator("#filter")).to_be_hidden()
    assert page.pdf().startswith(b"%PDF")


def test_one_file_without_assets() -> None:
    text = PAGE.read_text()
    assert policy(text)  # exactly one style and one script
    for word in ("http://", "https://", "//cdn", "innerHTML", "eval(", "document.write", " style=", " onclick="):
        assert word not in text.replace('"http://www.w3.org/2000/svg"', ""), word
