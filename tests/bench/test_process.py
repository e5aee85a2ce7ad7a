"""A process of the generator takes its orders from stdin, and is nothing that lives on its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from nlbbench.backends import serve
from nlbbench.board import Board
from nlbbench.client import resolve
from nlbbench.load import run
from nlbbench.process import LOW, order
from nlbbench.shares import plan
from nlbbench.spec import Backend, Load, Population, Target, Work
from tests.support.waiting import wait_until

ECHO = Population("echo", Work.ECHO)


def test_orders_are_whole() -> None:
    load = Load(Target("127.0.0.1:443", ca=Path("/root.crt"), server_name="a"), (ECHO,), timeout=2.0)
    said = json.loads(order(load, resolve("127.0.0.1:443"), [plan(ECHO, 1, 0)], 1, low=False))
    assert said["target"]["ca"] == "/root.crt"
    assert bytes.fromhex(said["address"]["packed"]) == resolve("127.0.0.1:443").packed
    assert (said["timeout"], said["prime"], len(said["plans"])) == (2_000_000_000, True, 1)


def test_a_parent_that_is_killed_takes_it_along() -> None:
    program = (
        "import sys\n"
        "from nlbbench.load import run\n"
        "from nlbbench.spec import Load, Population, Target, Work\n"
        "target = Target(sys.argv[1], tls=False)\n"
        "run(Load(target, (Population('echo', Work.ECHO),), duration=60), begin=lambda: print('begun', flush=True))\n"
    )
    with serve(Backend.ECHO) as server:
        parent = subprocess.Popen(
            [sys.executable, "-c", program, server.address], stdout=subprocess.PIPE, cwd="/", text=True
        )
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        (child,) = psutil.Process(parent.pid).children()
        child.send_signal(signal.SIGINT)  # is the parent's business
        assert child.is_running()
        parent.kill()
        parent.wait()
        parent.stdout.close()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "it has ended")


def test_orders_that_cannot_be_done_end_it() -> None:
    descriptor = os.memfd_create("board")
    Board(descriptor, 1, 1, create=True)
    load = Load(Target("127.0.0.1:443", ca=Path("/no/such/file")), (ECHO,))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "nlbbench.process", str(descriptor), "0"],
        input=order(load, resolve("127.0.0.1:443"), [plan(ECHO, 1, 0)], 1, low=False),
        capture_output=True,
        text=True,
        pass_fds=(descriptor,),
        check=False,
    )
    os.close(descriptor)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith("LoadError: --ca /no/such/file: No such file or directory")


def test_those_beside_others_have_a_low_priority() -> None:
    found: list[int] = []
    with serve(Backend.ECHO) as server:
        beside = Population("beside", Work.ECHO, beside=True)
        load = Load(Target(server.address, tls=False), (ECHO, beside), duration=0.2)
        mine = psutil.Process()
        before = {one.pid for one in mine.children()}
        outcome = run(
            load,
            begin=lambda: found.extend(one.nice() for one in mine.children() if one.pid not in before),
        )
    assert sorted(found) == [mine.nice(), mine.nice() + LOW]
    assert outcome.failures == 0
