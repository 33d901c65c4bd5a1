"""Replay: every arm searches the same pools of really trained networks, and is measured alike.

Where a table knows of trainings that no search sees, each round's answer is held against them.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks import (
    ax_arm,
    optuna_arms,
    published_widths,
    replay_answers,
    replay_arms,
    table_of_networks,
)
from benchmarks.replay_arms import Begin
from benchmarks.table_of_networks import Table
from ssr_exp.config import Acquisition
from ssr_exp.rescaling.plan import Architecture

SHARE = 0.8  # of the networks that are no sentinels: the pool of one repetition

ARMS: dict[str, Begin] = {
    "ehvi": replay_arms.ours(Acquisition.ehvi),
    "smallest": replay_arms.ours(Acquisition.smallest),
    "thompson": replay_arms.ours(Acquisition.thompson),
    "random": replay_arms.ours(Acquisition.random),
    "qlognehvi": replay_arms.ours(Acquisition.qlognehvi),
    "botorch_qlognehvi": replay_arms.botorch,
    "optuna_tpe": optuna_arms.arm(optuna_arms.tpe),
    "optuna_nsga2": optuna_arms.arm(optuna_arms.nsga2),
    "optuna_gp": optuna_arms.arm(optuna_arms.gp),
}
if find_spec("ax"):
    ARMS["ax"] = ax_arm.arm


class Outcome(NamedTuple):
    """What is known of a network after its training."""

    accuracy: float
    log_params: float


@dataclass(frozen=True)
class Size:
    """How much is replayed; `trainings` at most, the sentinels included."""

    repeats: int = 20
    rounds: int = 8
    batch: int = 4
    jobs: int = 2
    trainings: int | None = None


@dataclass(frozen=True)
class Replayed:
    """One search: its measures after 0, 1, ... rounds, and how long its choices took."""

    arm: str
    repetition: int
    measures: dict[str, list[float]]
    evaluated: int
    seconds: float


def load(path: Path) -> Table:
    """Read a table of ours, or the published one."""
    reader = published_widths if published_widths.is_one(path) else table_of_networks
    return reader.load(path)


def pool(table: Table, repetition: int) -> tuple[Architecture, ...]:
    """Draw the networks of a repetition, the same for every arm; the sentinels come first."""
    rng = np.random.default_rng(repetition)
    kept = rng.permutation(len(table.others))[: round(SHARE * len(table.others))]
    return (*table.sentinels, *(table.others[number] for number in np.sort(kept)))


def hypervolume(outcomes: Collection[Outcome], reference: Outcome) -> float:
    """Measure the area that outcomes dominate: points of accuracy times log parameters.

    Higher accuracy and fewer parameters are better; what does not beat the reference in both
    adds nothing.
    """
    area, level = 0.0, reference.accuracy
    for accuracy, log_params in sorted(outcomes, key=lambda o: (o.log_params, -o.accuracy)):
        if log_params < reference.log_params and accuracy > level:
            area += (accuracy - level) * (reference.log_params - log_params)
            level = accuracy
    return area


def smallest(outcomes: Collection[Outcome], *, least: float) -> float:
    """Return the log parameters of the smallest network that reaches an accuracy."""
    return min((o.log_params for o in outcomes if o.accuracy >= least), default=math.inf)


def once(table: Table, begin: Begin, name: str, repetition: int, size: Size) -> Replayed:
    """Search one pool.

    Raises:
        RuntimeError: if the arm chooses what it may not.
    """
    networks = pool(table, repetition)
    known = {a: table.accuracies[a] for a in table.sentinels}
    ask, seconds = begin(table, networks, repetition), 0.0
    history = [list(known)]
    for _ in range(size.rounds):
        left = size.batch if size.trainings is None else size.trainings - len(known)
        if (count := min(size.batch, left)) <= 0:
            break
        start = time.perf_counter()
        chosen = ask(dict(known), count)
        seconds += time.perf_counter() - start
        _check(name, chosen, set(networks) - set(known), count)
        known |= {a: table.accuracies[a] for a in chosen}
        history.append(list(known))
    found = measures(table, networks, history) | replay_answers.measures(table, history)
    return Replayed(name, repetition, found, len(known), seconds)


def _check(
    name: str, chosen: Sequence[Architecture], allowed: set[Architecture], count: int
) -> None:
    if not set(chosen) <= allowed or len(set(chosen)) != len(chosen) or len(chosen) > count:
        raise RuntimeError(f"{name} chose networks that are not in its pool, or were seen before")


def measures(
    table: Table, networks: Sequence[Architecture], history: Sequence[Sequence[Architecture]]
) -> dict[str, list[float]]:
    """Measure what was known after each round against what the whole pool holds."""

    def outcomes(some: Sequence[Architecture]) -> list[Outcome]:
        return [Outcome(table.accuracies[a], table.log_params[a]) for a in some]

    lowest = min(table.accuracies[a] for a in table.sentinels)
    reference = Outcome(lowest, table.log_params[table.baseline])
    least = table.accuracies[table.baseline] - replay_answers.DROP
    whole = outcomes(networks)
    volume, best = hypervolume(whole, reference), smallest(whole, least=least)
    rounds = [outcomes(some) for some in history]
    return {
        "hypervolume": [hypervolume(known, reference) / volume for known in rounds],
        "regret": [smallest(known, least=least) - best for known in rounds],
    }


def run(
    path: Path, size: Size, arms: Sequence[str] = tuple(ARMS), *, keep: Path | None = None
) -> list[Replayed]:
    """Let all arms search the pools of all repetitions.

    What is done is written to the file `keep`, a line for each search, and not done again.
    """
    wanted = [(name, r) for r in range(size.repeats) for name in arms]
    found = {(one.arm, one.repetition): one for one in _kept(keep)}
    tasks = [task for task in wanted if task not in found]
    with _workers(path, size.jobs) as workers:
        for each in workers.map(partial(_task, size), tasks):
            found[each.arm, each.repetition] = each
            if keep is not None:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(each)) + "\n")
            print(
                f"{each.arm} {each.repetition}: {_last(each)} in {each.seconds:.1f} s", flush=True
            )
    return [one for one in found.values() if one.arm in arms]


def _kept(keep: Path | None) -> Iterator[Replayed]:
    if keep is not None and keep.exists():
        for line in keep.read_text(encoding="utf-8").splitlines():
            yield Replayed(**json.loads(line))


def _last(one: Replayed) -> str:
    return ", ".join(f"{name} {values[-1]:.4f}" for name, values in one.measures.items())


_table: Table  # of a worker


def _workers(path: Path, jobs: int) -> Executor:
    spawned = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=spawned, initializer=_prepare, initargs=(path,))


def _prepare(path: Path) -> None:
    global _table
    torch.set_num_threads(1)
    _table = load(path)


def _task(size: Size, task: tuple[str, int]) -> Replayed:
    name, repetition = task
    return once(_table, ARMS[name], name, repetition, size)
