"""What a comparison leaves behind: every sample, who was measured, on what machine. One JSON file, which is all that the
tables, charts and pages are made from (`figures` does the sums).

Times are seconds, sizes bytes, rates per second. `SCHEMA` goes up when a field changes its meaning or is dropped; new
fields may come without that.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nlbbench.floor import Floor
from nlbcore.errors import NlbError

SCHEMA = 1
RELAY = "relay"
"""The name of the plain relay of the floor, which is a peer like the others but for TLS; and its kind."""


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    """Processors that the harness, and so everything it started, may use."""
    memory: int
    """Bytes of main memory."""
    system: str
    """The distribution."""
    kernel: str
    python: str
    load: float
    """Load average of the last minute before the start: what else was going on."""
    virtual: bool
    """A virtual machine (its processor says `hypervisor`)."""


@dataclass(frozen=True)
class Contestant:
    """A proxy that was measured."""

    name: str
    """As on the command line: `haproxy`, `nlb-a`, or the name of an address."""
    title: str
    """For people: HAProxy, nlb-a."""
    kind: str
    """nlb, haproxy, nginx, hitch, stunnel; `address` for one that was running, or RELAY."""
    version: str = ""
    library: str = ""
    """The TLS library it runs on."""
    note: str = ""
    """What its figures have to be read with."""


@dataclass(frozen=True)
class LeftOut:
    """What was asked for and is not in it."""

    name: str
    """Of a peer."""
    why: str
    trial: str = ""
    """Only this one; empty: the whole peer."""


@dataclass(frozen=True)
class Sample:
    """One trial of one peer, once."""

    trial: str
    peer: str
    repetition: int
    """From 0."""
    values: dict[str, float]
    """Metric -> value; the metrics of a trial are in `nlbbench.trials`."""
    exchanges: int
    """Done well."""
    failed: dict[str, int] = field(default_factory=dict)
    """Kind of failure -> exchanges, warm-up included."""
    failures: tuple[str, ...] = ()
    """The first of them in words."""
    busy: float | None = None
    """Share of its workers' time that the proxy used; None: it cannot be told."""
    limited: str = ""
    """Why a rate says more about the generator than about the proxy; empty: it does not."""


@dataclass(frozen=True)
class Report:
    """All of it."""

    schema: int
    started: str
    """UTC, ISO 8601."""
    seconds: float
    """How long it took."""
    interrupted: bool
    """Ended by Ctrl-C; what was measured until then is complete."""
    out_of_time: bool
    """Fewer repetitions were made than planned, because the time that the size allows was over."""
    size: str
    """`quick`, `full`, or what else was asked for."""
    repetitions: int
    """That were planned; `Sample.repetition` says which were made."""
    workers: int
    reference: str
    """The peer that ratios are to; it may be missing."""
    nlb: str
    """Version of the harness."""
    tls: str
    """What every client offers, and nothing else."""
    machine: Machine
    peers: tuple[Contestant, ...]
    trials: tuple[str, ...]
    """In the order of the run."""
    samples: tuple[Sample, ...]
    floors: tuple[Floor, ...] = ()
    """OpenSSL in memory, once a repetition."""
    left_out: tuple[LeftOut, ...] = ()

    def to_json(self) -> str:
        return _adapter().dump_json(self, indent=1).decode() + "\n"

    def peer(self, name: str) -> Contestant:
        """Raises KeyError."""
        for one in self.peers:
            if one.name == name:
                return one
        raise KeyError(name)

    @property
    def contestants(self) -> tuple[Contestant, ...]:
        """Those that are compared: without the relay of the floor."""
        return tuple(one for one in self.peers if one.kind != RELAY)


def load(path: Path) -> Report:
    """Read a report.

    Raises:
        NlbError: there is none, or it is none
    """
    try:
        report = _adapter().validate_json(path.read_bytes())
    except OSError as error:
        raise NlbError(f"{path}: {(error.strerror or 'failed').lower()}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise NlbError(f"{path} is no report of nlb bench compare: {where}: {first['msg']}") from None
    if report.schema != SCHEMA:
        raise NlbError(f"{path} has schema {report.schema}; this nlb reads {SCHEMA}")
    return report


def schema() -> dict[str, Any]:
    """JSON Schema of a report."""
    return _adapter().json_schema()


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def machine() -> Machine:
    """This one."""
    processor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = re.search(r"^model name\s*: (.*)$", processor, re.MULTILINE)
    return Machine(
        processor=model[1].strip() if model else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=_system(),
        kernel=platform.release(),
        python=platform.python_version(),
        load=os.getloadavg()[0],
        virtual=re.search(r"^flags\s*:.* hypervisor\b", processor, re.MULTILINE) is not None,
    )


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()
