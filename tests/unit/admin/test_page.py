"""The policy of a page: its own script and style by their hashes, nothing else."""

from __future__ import annotations

import base64
import hashlib

from nlbcore.admin.page import policy
from tests.unit.admin.published import PAGE


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def rules(page: str) -> dict[str, str]:
    return dict(rule.partition(" ")[::2] for rule in policy(page.encode()).split("; "))


def test_what_stands_in_it_by_hash() -> None:
    found = rules(PAGE.decode())
    assert found["default-src"] == found["base-uri"] == found["form-action"] == found["frame-ancestors"] == "'none'"
    assert found["style-src"] == digest("p { color: red }")
    assert found["script-src"] == digest("1 < 2")
    assert found["connect-src"] == "'self'"
    assert "unsafe" not in policy(PAGE)


def test_what_only_looks_like_it() -> None:
    """Comments, text, and what a script says of itself."""
    script = 'document.title = "<style>" + "&amp;"; // ä\n'
    found = rules(f"<!-- <script> and <style> --><p>&lt;script&gt;</p><SCRIPT type=module>{script}</SCRIPT>")
    assert found["script-src"] == digest(script)
    assert "style-src" not in found
