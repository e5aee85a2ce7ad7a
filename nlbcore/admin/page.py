"""The status page: one file, and the policy under which a browser shows it - its own script and style, nothing else."""

from __future__ import annotations

import base64
import hashlib
from html.parser import HTMLParser
from pathlib import Path

PAGE = Path(__file__).with_name("page.html")


class _Inline(HTMLParser):
    """Hashes what stands in `<script>` and `<style>`."""

    def __init__(self) -> None:
        super().__init__()
        self.hashes: dict[str, list[str]] = {"script": [], "style": []}
        self._text = ""

    def handle_starttag(self, _tag: str, _attributes: list[tuple[str, str | None]]) -> None:
        self._text = ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag in self.hashes:
            digest = base64.b64encode(hashlib.sha256(self._text.encode()).digest()).decode()
            self.hashes[tag].append(f"'sha256-{digest}'")


def policy(page: bytes) -> str:
    """The Content-Security-Policy for it: what stands in it may run, known by its hash; what gets into it may not."""
    inline = _Inline()
    inline.feed(page.decode())
    inline.close()
    rules = [
        "default-src 'none'",
        *(f"{kind}-src {' '.join(known)}" for kind, known in inline.hashes.items() if known),
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return "; ".join(rules)
