"""The named kinds of load: each gives the populations of a `Load`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nlbbench.spec import Backend, Population, Work


@dataclass(frozen=True)
class Scenario:
    """A kind of load that has a name."""

    name: str
    """What it is called on the command line and in reports."""
    help: str
    """One sentence for a reader."""
    populations: tuple[Population, ...]
    """With the usual sizes; the first one is what is looked at."""

    @property
    def backend(self) -> Backend:
        """What has to stand behind."""
        return self.populations[0].work.backend

    def with_(
        self,
        *,
        connections: int | None = None,
        rate: float | None = None,
        size: int | None = None,
        count: int | None = None,
        burst: int | None = None,
        storm: int | None = None,
    ) -> tuple[Population, ...]:
        """The populations with other figures: those of the first one, and `storm` connections of the one beside it."""
        first = self.populations[0]
        first = replace(
            first,
            connections=first.connections if connections is None else connections,
            rate=first.rate if rate is None else rate,
            size=first.size if size is None else size,
            count=first.count if count is None else count,
            burst=first.burst if burst is None else burst,
        )
        beside = tuple(one if storm is None else replace(one, connections=storm) for one in self.populations[1:])
        return (first, *beside)


def _scenario(name: str, text: str, *populations: Population) -> tuple[str, Scenario]:
    return name, Scenario(name, text, populations)


SCENARIOS: dict[str, Scenario] = dict(
    (
        _scenario(
            "handshakes",
            "Connect, full handshake, 16 bytes and their answer, close.",
            Population("handshakes", Work.CONNECT, connections=16),
        ),
        _scenario(
            "resumed",
            "The same with resumed handshakes; one that was full has failed.",
            Population("resumed", Work.CONNECT, connections=16, resumed=True),
        ),
        _scenario(
            "churn",
            "Connect, full handshake, 1 KB each way, close.",
            Population("churn", Work.CONNECT, connections=16, size=1024),
        ),
        _scenario(
            "echo",
            "Messages of 128 bytes and their answers on connections that stay open.",
            Population("echo", Work.ECHO, connections=64),
        ),
        _scenario(
            "download",
            "Bytes from a source as fast as they come.",
            Population("download", Work.DOWNLOAD),
        ),
        _scenario(
            "upload",
            "Bytes to a sink as fast as they go.",
            Population("upload", Work.UPLOAD),
        ),
        _scenario(
            "both",
            "Bytes to an echo and back, both directions at once.",
            Population("both", Work.DUPLEX),
        ),
        _scenario(
            "storm",
            "Messages of 128 bytes at a rate, beside clients that do full handshakes flat out.",
            Population("echo", Work.ECHO, connections=16, rate=500.0),
            Population("storm", Work.CONNECT, connections=64, beside=True),
        ),
        _scenario(
            "idle",
            "Connections that have moved bytes once, and then are silent.",
            Population("idle", Work.IDLE, connections=1000),
        ),
    )
)
"""By name."""
