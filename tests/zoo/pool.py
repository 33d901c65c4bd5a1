"""Checks of many networks, each in a process of its own, which a time limit ends."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from tests.zoo import check
from tests.zoo.dense import check as dense_check
from tests.zoo.dense.members import MEMBERS as DENSE
from tests.zoo.rows import DenseRow, Row


@dataclass
class Running:
    """A process that checks one network, and when it must be over."""

    name: str
    process: BaseProcess
    deadline: float


def checked(names: Sequence[str], jobs: int, limit: float) -> Iterator[Row | DenseRow]:
    """Check networks, so many at a time, each for so many seconds."""
    # What the server imported, its processes need not import again.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    left, running = list(reversed(names)), dict[Connection, Running]()
    while left or running:
        while left and len(running) < jobs:
            name = left.pop()
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(name, writer), daemon=True)
            process.start()
            writer.close()
            running[reader] = Running(name, process, time.monotonic() + limit)
        soonest = min(one.deadline for one in running.values())
        ready = wait(list(running), timeout=max(0.0, soonest - time.monotonic()))
        for reader, one in list(running.items()):
            if reader in ready or time.monotonic() >= one.deadline:
                yield _ended(reader, running.pop(reader), limit)


def _ended(reader: Connection, one: Running, limit: float) -> Row | DenseRow:
    """Take a row from its process, or say why there is none."""
    try:
        row = reader.recv() if reader.poll() else _failed(one.name, f"over {limit:g} s")
    except EOFError:
        one.process.join()
        row = _failed(one.name, f"its process ended with code {one.process.exitcode}")
    one.process.kill()
    one.process.join()
    reader.close()
    return row


def _failed(name: str, problem: str) -> Row | DenseRow:
    return (DenseRow if name in DENSE else Row)(name, problems=[problem])


def _work(name: str, writer: Connection) -> None:
    writer.send((dense_check if name in DENSE else check).check(name))
