"""`nlb bench ...`"""

from __future__ import annotations

from nlbcli.main import LazyGroup


class BenchGroup(LazyGroup):
    """`nlb bench`"""

    lazy = {  # noqa: RUF012 - constant
        "compare": "nlbcli.bench.compare",
        "load": "nlbcli.bench.load",
        "backend": "nlbcli.bench.backend",
        "report": "nlbcli.bench.report",
    }


command = BenchGroup(
    name="bench",
    help="Compare proxies on this machine; make load on a listener, and count and compare what comes back.",
)
