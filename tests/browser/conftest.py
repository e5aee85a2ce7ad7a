"""A real browser, and pages in it that must not complain."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.programs import need
from tests.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


class Visits:
    """`visit(url)` opens a page; what the browser complains of there is collected, in `allowed` is what may be."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.allowed = ""
        self.complaints: list[str] = []
        self.contexts: list[Any] = []

    def __call__(self, url: str, width: int = 1440, height: int = 900, **context: Any) -> Page:
        self.contexts.append(self.browser.new_context(viewport={"width": width, "height": height}, **context))
        page: Page = self.contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in {"error", "warning"} else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        page.goto(url)
        page.locator("#main:not([hidden])").wait_for()
        return page

    def close(self) -> None:
        """Close the pages and judge."""
        for context in self.contexts:
            context.close()
        bad = [text for text in self.complaints if not (self.allowed and re.search(self.allowed, text))]
        assert not bad, f"the browser complained: {bad}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visits]:
    visits = Visits(browser)
    yield visits
    visits.close()


@pytest.fixture
def artifacts() -> Path:
    """Where pictures are put for people to look at; they stay there until the next run."""
    folder = Path(os.environ.get("NLB_ARTIFACTS") or ROOT / "build/artifacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
