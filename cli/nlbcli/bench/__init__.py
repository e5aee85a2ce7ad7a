"""`nlb bench ...`"""

from __future__ import annotations

from nlbcli.main import LazyGroup


class BenchGroup(LazyGroup):
    """`nlb bench`"""

    lazy = {  # noqa: RUF012 - constant
        "load": "nlbcli.bench.load",
        "backend": "nlbcli.bench.backend",
    }


command = BenchGroup(name="bench", help="Make load on a listener, and count and compare what comes back.")
