"""Processes that fetch change nothing, stay over epochs, and say what helps where they cannot."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssr_exp.config import AutoAugment, CropFrom
from ssr_exp.datasets import workers
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.batches import Fetched
from ssr_exp.datasets.image_folder.decoding import decode
from ssr_exp.datasets.image_folder.file_index import FileIndex
from ssr_exp.datasets.image_folder.file_pixels import FilePixels
from ssr_exp.datasets.images import Images
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.datasets.workers import Workers, chosen
from ssr_exp.errors import SsrError
from tests.datasets.pictures import noise

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Pids(Dataset[tuple[Tensor, int]]):
    """Tell who fetches; a negative task kills who does."""

    def __getitem__(self, task: int) -> tuple[Tensor, int]:
        if task < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor([task]), os.getpid()


def pids(served: Iterator[tuple[Tensor, int]], count: int) -> set[int]:
    items = list(served)
    assert [int(task) for task, _ in items] == list(range(count))
    return {pid for _, pid in items}


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("count", [0, 2])
def test_workers_stay_over_epochs_and_end_when_closed(count: int) -> None:
    served = Workers(Pids(), count)
    first = pids(served.serve(range(9)), 9)
    assert first == pids(served.serve(range(5)), 5)
    assert len(first) == max(count, 1)
    served.close()
    assert first == {os.getpid()} if not count else not any(map(is_running, first))
    second = pids(served.serve(range(3)), 3)
    assert second.isdisjoint(first) or not count
    served.close()


def test_an_epoch_that_was_left_in_the_middle_is_begun_anew() -> None:
    served = Workers(Pids(), 2)
    half = served.serve(range(9))
    assert [int(next(half)[0]) for _ in range(3)] == [0, 1, 2]
    assert len(pids(served.serve(range(7)), 7)) == 2
    served.close()


# PyTorch opens files to see whether it can, and leaves them to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed file <_io.FileIO:ResourceWarning")
def test_a_worker_that_is_killed_ends_the_epoch_with_what_helps() -> None:
    served = Workers(Pids(), 1)
    with pytest.raises(SsrError, match=r"was killed.*type trainer\.workers=1"):
        list(served.serve([0, 1, -1, 2]))


def test_no_room_in_shared_memory_ends_the_epoch_and_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space")

    monkeypatch.setattr(Tensor, "share_memory_", full)
    with pytest.raises(SsrError, match=r"too little shared memory: type trainer\.workers=0"):
        list(Workers(Pids(), 2).serve(range(4)))
    assert pids(Workers(Pids(), 0).serve(range(4)), 4) == {os.getpid()}


def test_without_shared_memory_no_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr(multiprocessing.get_context(), "Lock", absent)
    with pytest.raises(SsrError, match=r"too little shared memory: type trainer\.workers=0"):
        list(Workers(Pids(), 2).serve(range(4)))
    assert pids(Workers(Pids(), 0).serve(range(4)), 4) == {os.getpid()}
    assert chosen(CPU, is_streamed=True, batch_bytes=1) == 0


def test_the_number_of_workers_is_chosen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6))
    assert chosen(CPU, is_streamed=False, batch_bytes=1) == 0
    assert chosen(CUDA, is_streamed=False, batch_bytes=1) == 4
    assert chosen(CPU, is_streamed=True, batch_bytes=1) == 4
    assert not caplog.records
    monkeypatch.setattr(workers, "_shared_bytes", lambda: 64 * 2**20)  # Docker's
    assert chosen(CUDA, is_streamed=True, batch_bytes=7 * 2**20) == 2
    assert "for 2 of 4 processes" in caplog.text and "--shm-size" in caplog.text
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1))
    assert chosen(CPU, is_streamed=True, batch_bytes=1) == 1


def test_a_process_that_may_have_no_children_fetches_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert chosen(CUDA, is_streamed=True, batch_bytes=1) == 0


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. ", "shared memory"),
        ("unable to mmap 8 bytes from file </x>: No space left on device", "shared memory"),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", "was killed"),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "was killed"),
        ("CUDA error: out of memory", None),
    ],
)
def test_what_torch_says_of_lost_workers_is_explained(said: str, expected: str | None) -> None:
    told = workers.explained(RuntimeError(said))
    assert told is None if expected is None else expected in str(told)


@pytest.fixture
def fetched(root: Any) -> Fetched:
    noise(root, size=(11, 9), cat=6, dog=6)
    files = [str(path.relative_to(root)) for path in sorted(root.rglob("*.png"))]
    decoded = decode(root, files, Preprocessing(channels=3, size=(6, 8), fit="crop"))
    labels, index = torch.arange(12) // 6, FileIndex.of(root, files)
    images = Images(FilePixels(index, labels, decoded.preprocessing), labels, ("cat", "dog"), index)
    wanted = Augmentation(
        flip=True,
        crop_scale=(0.2, 1.0),
        crop_from=CropFrom.file,
        rotation=10.0,
        color_jitter=(0.2, 0.2),
        auto_augment=AutoAugment.rand_augment,
    )
    return Fetched(images, wanted)


def tasks() -> list[Any]:
    return [(torch.arange(i, i + 4).numpy(), 5 + i) for i in range(8)]


def test_what_fetches_can_go_to_a_process_that_is_spawned(fetched: Fetched) -> None:
    again = pickle.loads(pickle.dumps(fetched))
    for task in tasks():
        assert torch.equal(again[task][0], fetched[task][0])


@pytest.mark.slow
def test_spawned_workers_fetch_the_same(fetched: Fetched) -> None:
    loader = DataLoader(
        fetched,
        batch_size=None,
        sampler=tasks(),
        num_workers=2,
        multiprocessing_context="spawn",
        collate_fn=workers._shared,
        worker_init_fn=workers._leave_signals,
    )
    for (x, y, _), task in zip(loader, tasks(), strict=True):
        assert torch.equal(x, fetched[task][0]) and torch.equal(y, fetched[task][1])
