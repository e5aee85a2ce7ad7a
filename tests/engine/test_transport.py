"""The interface of both transports is one: the suite of `transports` runs on each."""

from __future__ import annotations

import inspect

from tests.engine import test_plain, test_tls
from tests.engine.transports import Conformance


def test_both_are_held_to_the_same_rules() -> None:
    rules = {name for name, _ in inspect.getmembers(Conformance, inspect.isfunction) if name.startswith("test_")}
    assert len(rules) >= 9
    for suite in (test_plain.TestPlain, test_tls.TestTls):
        assert issubclass(suite, Conformance)
        assert {name for name in rules if getattr(suite, name) is not getattr(Conformance, name)} == set()
