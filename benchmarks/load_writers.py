"""Many processes that write records into one store at once; it imports little, they are many."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from ssr_exp.runs.record import Record
from ssr_exp.runs.store import RECORD_FILE, Store, is_done


@dataclass(frozen=True)
class Written:
    """What came of it.

    Args:
        seconds: from the first record to the end of the last writer.
        wanted: different records.
        broken: of these, how many are missing or not read as they were written.
        again: how often a record was written that was there already.
        left: temporary files.
    """

    seconds: float
    wanted: int
    broken: int
    again: int
    left: int


def at_once(root: Path, some: Sequence[Record], *, writers: int, each: int) -> Written:
    """Let processes write `each` records; half of each one's are the same for all of them."""
    shares = _shares(some, writers, each)
    context = multiprocessing.get_context("spawn")
    begin, counts = context.Barrier(writers + 1), context.Queue()
    started = [
        context.Process(target=_write, args=(str(root), share, begin, counts)) for share in shares
    ]
    for process in started:
        process.start()
    begin.wait()
    start = time.perf_counter()
    written = sum(counts.get() for _ in started)
    seconds = time.perf_counter() - start
    for process in started:
        process.join()
    wanted = {(r.network, r.seed): r for share in shares for r in share}
    found = {(r.network, r.seed): r for r in Store(root).records()}
    return Written(
        seconds,
        len(wanted),
        sum(found.get(key) != record for key, record in wanted.items()),
        written - len(wanted),
        sum(1 for _ in root.rglob(f".{RECORD_FILE}.*")),
    )


def _shares(some: Sequence[Record], writers: int, each: int) -> list[list[Record]]:
    """Deal records: first those that all share, then each one's own."""
    shared, own = each // 2, each - each // 2
    starts = range(shared, shared + writers * own, own)
    return [[*some[:shared], *some[start : start + own]] for start in starts]


def _write(root: str, share: Sequence[Record], begin: Barrier, counts: Queue[int]) -> None:
    """Write what is not there yet, as a training does; tell how many that were."""
    store, count = Store(root), 0
    begin.wait()
    for record in share:
        folder = store.folder(record.study, record.network, record.seed)
        with store.claim(folder, wait=True):
            if not is_done(store.read(folder)):
                store.write(folder, record)
                count += 1
    counts.put(count)
