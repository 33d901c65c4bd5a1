"""Processes that fetch batches beside the training, and stay over its epochs."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ssr_exp.errors import SsrError

log = logging.getLogger(__name__)

MOST = 4  # processes, where nobody says how many
AHEAD = 4  # batches of each in shared memory: two that wait, one that is made, one that is used
SHARED = Path("/dev/shm")  # the memory that processes share, on Linux
NONE_SHARED = (
    "the processes that read images have too little shared memory: type trainer.workers=0, or give "
    "more of it (in Docker --shm-size=8g)"
)
LOST = (
    "a process that reads images was killed, as happens where memory runs out: type "
    "trainer.workers=1 or another number, or 0 for none"
)
CAN_FORK = sys.platform == "linux"  # workers share the images, and start at once


class Workers:
    """Fetch items of a data set in the order of their tasks.

    Processes start when the first items are asked for, and stay until `close`, so that an epoch
    does not wait for them. How many there are changes no item.

    Args:
        source: whose items are tuples of tensors and plain data.
        count: of processes; 0: this one fetches.
        pins: whether tensors come in pinned memory, from where a GPU copies them by itself.
    """

    def __init__(self, source: Dataset[Any], count: int, *, pins: bool = False) -> None:
        self._source, self._count, self._pins = source, count, pins
        self._tasks = _Tasks()
        self._loader: DataLoader[Any] | None = None

    def serve(self, tasks: Sequence[Any]) -> Iterator[Any]:
        """Yield the item of each task; one pass at a time.

        Raises:
            SsrError: if no process can start or one was lost; says what helps.
        """
        self._tasks.now = tasks
        if self._loader is None:
            self._loader = self._made()
        try:
            yield from self._loader
        except (RuntimeError, OSError, EOFError) as error:
            self.close()
            is_cut_off = isinstance(error, ConnectionError | EOFError)  # while it was listened to
            if self._count and (told := SsrError(LOST) if is_cut_off else explained(error)):
                raise told from error
            raise

    def close(self) -> None:
        """End the processes; the next pass starts others."""
        loader, self._loader = self._loader, None
        served = None if loader is None else loader._iterator
        if served is not None and hasattr(served, "_shutdown_workers"):
            with suppress(RuntimeError):  # torch raises it wherever it hears that one was killed
                served._shutdown_workers()

    def _made(self) -> DataLoader[Any]:
        if self._count and not _shared_bytes():
            raise SsrError(NONE_SHARED)
        return DataLoader(
            self._source,
            batch_size=None,
            sampler=self._tasks,
            num_workers=self._count,
            persistent_workers=self._count > 0,
            collate_fn=_shared,
            pin_memory=self._pins,
            multiprocessing_context="fork" if self._count and CAN_FORK else None,
            worker_init_fn=_leave_signals,
            generator=torch.Generator(),  # else it draws a number from the global one
        )


class _Tasks:
    """What a loader that stays is to fetch in its next pass."""

    now: Sequence[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.now)

    def __len__(self) -> int:
        return len(self.now)


def chosen(device: torch.device, *, is_streamed: bool, batch_bytes: int, world: int = 1) -> int:
    """Choose how many processes fetch: none where the cores train, or where none can start.

    Files are read by some on a CPU, too: decoding takes as long as a small network's training.

    Args:
        device: that trains.
        is_streamed: whether files are read.
        batch_bytes: that a batch takes, of which each process shares `AHEAD` with this one.
        world: processes that train together, and share cores and batches.
    """
    if multiprocessing.current_process().daemon:
        return 0
    if not is_streamed and (device.type != "cuda" or not CAN_FORK):
        return 0
    cores = len(os.sched_getaffinity(0)) if CAN_FORK else os.cpu_count() or 1
    most = min(MOST, max(1, cores // world))
    count = min(most, _shared_bytes() // (AHEAD * batch_bytes))
    if count < most:
        log.warning(
            "there is shared memory for %d of %d processes that read images (in Docker type "
            "--shm-size=8g): training may wait for them.",
            count,
            most,
        )
    return count


def _shared_bytes() -> int:
    """Return how much memory processes can share, or 0 where they cannot even wait for others."""
    try:
        multiprocessing.get_context().Lock()
        return shutil.disk_usage(SHARED).free if CAN_FORK else sys.maxsize
    except OSError:
        return 0


def _shared(item: Any) -> Any:
    """Put the tensors of an item into shared memory.

    On its way between processes that is done in a thread whose errors nobody hears, and the
    training would wait for ever.
    """
    if get_worker_info() is not None:
        for part in item:
            if isinstance(part, torch.Tensor):
                part.share_memory_()
    return item


def explained(error: BaseException) -> SsrError | None:
    """Say what helps where a process was lost, or None if that is not what happened."""
    text = str(error)
    is_workers = "DataLoader worker" in text
    if "hared memory" in text or "unable to mmap" in text or (is_workers and "Bus error" in text):
        return SsrError(NONE_SHARED)
    if is_workers and ("exited unexpectedly" in text or "killed" in text):
        return SsrError(LOST)
    return None


def _leave_signals(_: int) -> None:
    """Let the process that trains decide what a signal means to it and its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
