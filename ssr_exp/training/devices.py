"""One network on several devices: a process for each of them, started and watched by this one.

This process holds the run's claim and writes its record. Lightning would start the others by
repeating the command, which is a sweep. So they are started here, each by `training.worker`, with
an environment that says nothing of any other job, and they end with this process, however it ends.
They meet through a file: no port can be in use.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ssr_exp import files
from ssr_exp.config import Config
from ssr_exp.errors import SsrError
from ssr_exp.runs import provenance
from ssr_exp.tasks.supervised import Diverged
from ssr_exp.training import trainers
from ssr_exp.training.opened_study import Job
from ssr_exp.training.rank_messages import Inbox
from ssr_exp.training.scoring import Fields

log = logging.getLogger(__name__)

JOB, RESULT = "job.json", "result.ckpt"  # in the folder where they meet
LOOK_S = 0.1
GRACE_S = 5.0  # for the others to say what they ended of, and for a signal to reach this process
SETTLE_S = 1.0  # likewise, where all have ended
FOREIGN = ("SLURM", "TORCHELASTIC", "MASTER", "PMI", "PMIX", "OMPI", "LSB", "JSM", "PL", "ROLE")
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
SIZES = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE")
LOOPBACK = {"linux": "lo", "darwin": "lo0"}
COLLATERAL = (signal.SIGABRT,)  # what a process may do to itself when another one is gone


class RankFailed(SsrError):
    """One of the processes ended before the training did."""


@dataclass(frozen=True)
class RankExit:
    """How one of the processes ended.

    Attributes:
        rank: its number.
        code: its exit code; negative: the signal that killed it.
        said: what it wrote before, if anything.
    """

    rank: int
    code: int
    said: Mapping[str, Any]

    @property
    def is_killed(self) -> bool:
        """Say whether somebody killed it."""
        return self.code < 0 and -self.code not in COLLATERAL

    @property
    def order(self) -> tuple[bool, float]:
        """What comes first is the cause: who was killed, then who failed first."""
        return not self.is_killed, self.said.get("at", float("inf"))


def _check_keys(part: Any) -> None:
    """Refuse what JSON would hand to the processes as something else.

    Raises:
        SsrError: names a key that is no text.
    """
    for key, value in part.items() if isinstance(part, Mapping) else enumerate(()):
        if not isinstance(key, str):
            raise SsrError(
                f"the key {key!r} of a mapping in task.arguments or dataset.arguments is no text, "
                "which several devices cannot be told: make it text, or type trainer.devices=1."
            )
        _check_keys(value)
    for value in part if isinstance(part, list | tuple) else ():
        _check_keys(value)


def check(conf: Config) -> None:
    """Refuse what the devices that this process sees cannot do.

    Raises:
        SsrError: says what there is.
    """
    count, on_gpu = conf.trainer.devices, provenance.is_on_gpu(conf.trainer.accelerator)
    if count == 1:
        return
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks.isdigit() and int(tasks) > 1:
        raise SsrError(
            f"this is one of {tasks} tasks of a Slurm step, and trainer.devices={count} starts its "
            f"processes itself: type --ntasks=1 --gpus-per-task={count}."
        )
    if conf.trainer.accelerator == "mps" or (
        conf.trainer.accelerator == "auto" and torch.backends.mps.is_available()
    ):
        raise SsrError(f"trainer.devices={count}, and mps is one device: type trainer.devices=1.")
    there = torch.cuda.device_count() if on_gpu else _cores()
    if count > there:
        name = "PyTorch sees {} GPU{}" if on_gpu else "this process may use {} core{}"
        said = name.format(there, "" if there == 1 else "s")
        raise SsrError(f"trainer.devices={count}, but {said}: type trainer.devices={there}.")
    names = sorted({torch.cuda.get_device_name(n) for n in range(count)} if on_gpu else ())
    if len(names) > 1:
        raise SsrError(
            f"trainer.devices={count} are not alike ({', '.join(names)}), and would draw other "
            "numbers: name GPUs of one kind by CUDA_VISIBLE_DEVICES, or type trainer.devices=1."
        )
    if conf.trainer.sync_batch_norm and not on_gpu:
        raise SsrError(
            "trainer.sync_batch_norm=true is for GPUs, because PyTorch does so there alone: type "
            "trainer.sync_batch_norm=false."
        )


def train(job: Job, folder: Path, wandb_run: Any) -> Fields:
    """Train a network as `fit.train` does, in as many processes as there are devices.

    Args:
        job: what to train.
        folder: where its checkpoints go, and may be from before.
        wandb_run: an open W&B run that the curves go to, or None.

    Raises:
        Diverged: if the loss or the outputs are no longer finite.
        RankFailed: if a process ended before the training; says which, and why.
        SsrError: as each of them says.
        OSError: if the disk is full.
    """
    if job.conf.dataset.target is not None:
        log.info("each of %d devices takes batches of its own", job.conf.trainer.devices)
    curves = None if wandb_run is None else trainers.Curves(wandb_run)
    with tempfile.TemporaryDirectory(prefix="ssr_exp-") as name:
        place = Path(name)
        described = {"conf": asdict(job.conf), "folder": str(folder.absolute())}
        described |= {"study": job.study.name, "network": job.network}
        _check_keys(described["conf"])
        files.write(place / JOB, provenance.to_json(described).encode())
        count = job.conf.trainer.devices
        inbox = Inbox([messages_of(place, rank) for rank in range(count)], curves)
        with _started(place, count) as ranks:
            try:
                _watch(ranks, inbox)
            finally:
                inbox.pass_on()
            if not (place / RESULT).exists():
                _raise(place, [process.poll() for process in ranks])
        fields: Fields = files.read_checkpoint(place / RESULT)
        return fields


@contextmanager
def _started(place: Path, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the processes, each in a session of its own, and kill what is left of them.

    Nothing of theirs has to be put in order: their files are there whole or not at all.
    """
    ranks: list[subprocess.Popen[bytes]] = []
    command = [sys.executable, "-m", "ssr_exp.training.worker", str(place), str(os.getpid())]
    environment = clean_environment(os.environ, count)
    try:
        for rank in range(count):
            with _output(place, rank).open("wb") as output:
                ranks.append(
                    subprocess.Popen(
                        [*command, str(rank), str(count)],
                        env=environment | {"LOCAL_RANK": str(rank)},
                        stdin=subprocess.DEVNULL,
                        stdout=output if rank else None,
                        stderr=output,
                        start_new_session=True,
                    )
                )
        yield ranks
    finally:
        for process in ranks:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in ranks:
            process.wait()


def clean_environment(given: Mapping[str, str], count: int) -> dict[str, str]:
    """Make the environment of processes: nothing that others said of ranks, and this one's modules.

    Args:
        given: of this process.
        count: of the processes, which share its threads.
    """
    left = {
        name: value
        for name, value in given.items()
        if name.partition("_")[0] not in FOREIGN and name not in (*RANKS, *SIZES)
    }
    left["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))
    left["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // count))
    if (loopback := LOOPBACK.get(sys.platform)) is not None:
        left.setdefault("GLOO_SOCKET_IFNAME", loopback)
    return left


def _watch(ranks: Sequence[subprocess.Popen[bytes]], inbox: Inbox) -> None:
    """Pass on what is said until the first process has ended, or another one has wrongly.

    The others then have a moment to end, too, and this one to hear of a signal that ended them.
    """
    while ranks[0].poll() != 0 and not any(process.poll() for process in ranks):
        inbox.pass_on()
        time.sleep(LOOK_S)
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until and any(process.poll() is None for process in ranks):
        time.sleep(LOOK_S)
    if any(process.poll() for process in ranks):
        time.sleep(SETTLE_S)


def _raise(place: Path, codes: Sequence[int | None]) -> None:
    """Raise what the training ended of: what the first process to fail said.

    Args:
        place: where they met.
        codes: with which they ended; None: one has not.

    Raises:
        Diverged: see `train`, as all others.
    """
    exits = [
        RankExit(rank, code, files.read_or_empty(failure(place, rank)))
        for rank, code in enumerate(codes)
        if code
    ]
    if not exits:
        raise RankFailed("the processes ended without a result: repeat the command.")
    first = min(exits, key=lambda ended: ended.order)
    kind, text = first.said.get("kind"), str(first.said.get("text"))
    if kind == "diverged":
        raise Diverged(text)
    if kind == "refused":
        raise SsrError(text)
    if kind == "full":
        where = RuntimeError(first.said.get("traceback", ""))
        raise OSError(first.said["errno"], text, first.said.get("path")) from where
    output = _output(place, first.rank).read_text(encoding="utf-8", errors="replace")
    said = f": {text}" if kind == "failed" else f" {_ending(first, output)}"
    raise RankFailed(f"rank {first.rank} of {len(codes)}{said}") from RuntimeError(
        f"{first.said.get('traceback', '')}\n{output}"
    )


def _ending(ended: RankExit, output: str) -> str:
    """Say how a process ended that wrote nothing of it: with the last line that it printed."""
    if ended.code > 0:
        last = output.strip().rpartition("\n")[2]
        return f"ended with exit code {ended.code}{last and f' ({last})'}"
    name = signal.Signals(-ended.code).name
    hint = ", as by a machine that is out of memory" if name == "SIGKILL" else ""
    return f"was killed ({name}{hint})"


def messages_of(place: Path, rank: int) -> Path:
    """Name the file in which a process says what is to be heard."""
    return place / f"messages-{rank}.jsonl"


def failure(place: Path, rank: int) -> Path:
    """Name the file in which a process says what it ended of."""
    return place / f"failure-{rank}.json"


def _output(place: Path, rank: int) -> Path:
    return place / f"output-{rank}.txt"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
