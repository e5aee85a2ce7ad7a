"""A process of the generator: `python -m nlbbench.process DESCRIPTOR NUMBER`, its orders on stdin (see load.py).

What it imports is what a run has to wait for: little.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from socket import AddressFamily
from typing import Any

from nlbbench import client
from nlbbench.board import Board
from nlbbench.generator import generate
from nlbbench.spec import Load, Target

LOW = 10
"""The nice value of those beside others: a tenth of another process's time while both want the processor. Nobody needs a right
for it; at a lower priority, a busy machine would leave them none, and their exchanges would fail."""
PATHS = ("ca", "certificate", "private_key")


def order(load: Load, address: client.Address, plans: list[dict[str, Any]], processes: int, *, low: bool) -> str:
    """What one of so many processes is told, as `main` reads it; with `low` its priority is."""
    return json.dumps(
        {
            "target": {
                key: str(value) if isinstance(value, Path) else value for key, value in vars(load.target).items()
            },
            "address": {**vars(address), "packed": address.packed.hex()},
            "processes": processes,
            "plans": plans,
            "timeout": int(load.timeout * 1e9),
            "grace": int(load.grace * 1e9),
            "prime": load.warmup > 0,
            "nice": LOW if low else 0,
            "parent": os.getpid(),
        }
    )


def main(descriptor: int, number: int) -> None:
    """Do what stdin says until the board says that it is over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    said = json.load(sys.stdin)
    os.nice(said["nice"])
    fields: dict[str, Any] = {
        key: Path(value) if key in PATHS and value else value for key, value in said["target"].items()
    }
    target = Target(**fields)
    where = said["address"]
    address = client.Address(
        AddressFamily(where["family"]), bytes.fromhex(where["packed"]), where["host"], where["text"]
    )
    client.raise_descriptor_limit(sum(one["connections"] for one in said["plans"]))
    tls = client.context(target, address) if target.tls else client.Tls(0, 0, ())
    name, _ = client.server_name(target, address)
    if os.getppid() != said["parent"]:  # it has died before this process could ask to be told of it
        os._exit(1)
    generate(
        Board(descriptor, said["processes"], len(said["plans"])),
        number,
        address=address.packed,
        family=int(address.family),
        context=tls.context,
        store=tls.store,
        name=(name or "").encode(),
        plans=said["plans"],
        timeout=said["timeout"],
        grace=said["grace"],
        prime=said["prime"],
    )
    os._exit(0)  # nothing is left to be done, and taking an interpreter apart costs the caller time


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
