"""Latencies of a lattice in one setting: some are measured, a model predicts the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ssr_exp import terminal
from ssr_exp.config import LatencyConf
from ssr_exp.edge.latency import design, model, runtimes, stopwatch, table_file
from ssr_exp.edge.latency.model import LatencyModel
from ssr_exp.edge.latency.runtimes import Runner
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.latency.table_file import LatencyRow, SeedNetwork, Setting, Timings
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, rescale
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.lattice import Lattice
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import store
from ssr_exp.runs.provenance import torch_threads

TOGETHER = 24  # networks that are measured together, once the table is there
SEED = 0  # of what is drawn


@dataclass(frozen=True, eq=False)
class Subject:
    """What is measured."""

    seed: SeedNetwork  # what it is
    network: nn.Module  # the seed network; its weights do not matter
    lattice: Lattice  # of its plan

    def code(self, architecture: Architecture) -> str:
        """Write a network's code."""
        return codes.write(self.lattice.plan, architecture)

    def parse(self, code: str) -> Architecture | None:
        """Read a network's code; None if it is none of this plan, such as where more is frozen."""
        try:
            return codes.parse(self.lattice.plan, code)
        except SsrError:
            return None


@dataclass(frozen=True)
class HeldOutError:
    """How well a latency model predicts networks that it was not shown."""

    model: LatencyModel  # fitted without them
    errors: tuple[float, ...]  # |predicted / measured - 1| of each

    def __str__(self) -> str:
        """Say it in a line."""
        tried = ", ".join(f"{kind} {error:.1%}" for kind, error in self.model.errors.items())
        held = "none was held out"
        if self.errors:
            middle, high = np.quantile(self.errors, (0.5, 0.9))
            held = (
                f"held-out error {middle:.1%} in the median, {high:.1%} at most for nine in ten "
                f"of {len(self.errors)} networks"
            )
        return (
            f"latency model: {self.model.kind}, fitted to {self.model.networks} networks; {held}; "
            f"in cross-validation {tried}"
        )


class LatencyTable:
    """Tells the latency of rescaled networks: measured, or else predicted.

    Args:
        subject: what is measured.
        table: what was measured.
        path: where the table is kept.
        effort: how more is measured.
    """

    @property
    def batch(self) -> int:
        """How many samples each network is given at once."""
        return self.table.setting.batch

    def __init__(self, subject: Subject, table: Timings, path: Path, effort: LatencyConf) -> None:
        self.table = table
        self._subject, self._path, self._effort = subject, path, effort
        self._model: LatencyModel | None = None

    def __str__(self) -> str:
        """Say what the latencies are of."""
        return str(self.table.setting)

    def measured(self) -> dict[Architecture, float]:
        """List the measured networks with their latency in ms."""
        return self._by_architecture(self.table.rows)

    def ms(self, points: Points) -> NDArray[np.float64]:
        """Tell the latency of `n x S` points in ms, `n`: measured if it was, else predicted."""
        known, plan = self.measured(), self._subject.lattice.plan
        if self._model is None:
            self._model = model.fit(plan, known)
        times = self._model.predict(points)
        where, which = _matches(points, cost.encode(plan, list(known)))
        times[where] = np.array(list(known.values()))[which]
        return times

    def check(self) -> HeldOutError:
        """Fit a model to all but the held-out networks, and compare it with these."""
        plan = self._subject.lattice.plan
        learnt, held = (
            self._by_architecture(row for row in self.table.rows if row.fits is fits)
            for fits in (True, False)
        )
        fitted = model.fit(plan, learnt)
        errors = model.relative_errors(fitted, plan, held).tolist() if held else []
        return HeldOutError(fitted, tuple(errors))

    def measure(self, architectures: Iterable[Architecture]) -> bool:
        """Measure networks that were not yet, if this machine is what the table is of.

        The lattice's two ends are measured again with them: where the machine is faster or slower
        than it was, the mean ratio of these two is taken out. What another process added to the
        table meanwhile is kept.

        Returns whether all are measured now.

        Raises:
            SsrError: if the machine is too noisy, or the table cannot be written.
        """
        missing = self._missing(architectures)
        if not missing:
            return True
        if not self._is_here():
            return False
        with store.Store(self._path.parent).claim(self._path.parent, wait=True):
            self._merge(table_file.read(self._path).rows)
            missing = self._missing(missing)
            for first in range(0, len(missing), TOGETHER):
                self._merge(self._rows(missing[first : first + TOGETHER]))
                table_file.write(self._path, self.table)
        return True

    def _missing(self, architectures: Iterable[Architecture]) -> list[Architecture]:
        measured = self.measured()
        return [a for a in dict.fromkeys(architectures) if a not in measured]

    def _rows(self, missing: Sequence[Architecture]) -> list[LatencyRow]:
        """Measure networks beside the lattice's ends, at the pace of the table."""
        measured, plan = self.measured(), self._subject.lattice.plan
        ends = cost.decode(plan, self._subject.lattice.points([0]))
        anchors = [a for a in dict.fromkeys((plan.baseline, *ends)) if a in measured]
        together = dict.fromkeys((*anchors, *missing))
        latencies = _measured(
            self._subject, list(together), self._effort, self.table.setting, quiet=list(together)
        )
        ratios = [measured[a] / latencies[a].ms for a in anchors] or [1.0]
        if max(ratios) / min(ratios) > 1 + self._effort.spread:
            raise SsrError(
                "this machine is too noisy to measure latency on: since the table was measured, "
                f"one network's latency changed {1 / min(ratios):.2f}-fold and another's "
                f"{1 / max(ratios):.2f}-fold; end what else runs on it, or measure anew."
            )
        pace = float(np.exp(np.mean(np.log(ratios))))
        return [_row(self._subject.code(a), latencies[a], pace=pace) for a in missing]

    def _merge(self, rows: Iterable[LatencyRow]) -> None:
        """Add rows of networks that the table does not have."""
        known = {row.network for row in self.table.rows}
        new = tuple(row for row in rows if row.network not in known)
        self.table = self.table.model_copy(update={"rows": (*self.table.rows, *new)})
        self._model = None

    def _by_architecture(self, rows: Iterable[LatencyRow]) -> dict[Architecture, float]:
        return {a: row.ms for row in rows if (a := self._subject.parse(row.network)) is not None}

    def _is_here(self) -> bool:
        mine = self.table.setting
        try:
            return here(mine.runtime, batch=mine.batch, threads=mine.threads) == mine
        except SsrError:
            return False


def here(runtime: str, *, batch: int = 1, threads: int = 1) -> Setting:
    """Name a setting of this machine.

    Raises:
        SsrError: if the runtime is unknown or cannot run here, or a number is too small.
    """
    stopwatch.check(batch=batch, threads=threads)
    found = runtimes.find(runtime)
    return Setting(
        runtime=runtime,
        version=found.version(),
        device=found.device(),
        threads=threads,
        batch=batch,
    )


def start(
    subject: Subject,
    setting: Setting,
    path: Path,
    effort: LatencyConf,
    *,
    option: str = "paths.runs=DIR",
) -> LatencyTable:
    """Measure a designed sample of a lattice, and further networks that check the model.

    The table is kept at `path`; `option` chooses another place, where that cannot be written.

    Raises:
        SsrError: if the runtime cannot run a network, or the machine is too noisy.
    """
    stopwatch.check(repeats=effort.repeats)
    store.Store(path.parent, option).check()
    lattice = subject.lattice
    chosen = design.choose(lattice, effort.networks, seed=SEED)
    spare = max(min(lattice.size - len(chosen), effort.held_out), 0)
    drawn = lattice.sample(min(lattice.size, len(chosen) + spare), seed=SEED + 1)
    held = [a for a in drawn if a not in chosen][:spare]
    latencies = _measured(subject, [*chosen, *held], effort, setting)
    rows = [_row(subject.code(a), latency, fits=a not in held) for a, latency in latencies.items()]
    table = Timings(seed=subject.seed, setting=setting, repeats=effort.repeats, rows=tuple(rows))
    table_file.write(path, table, option=option)
    return LatencyTable(subject, table, path, effort)


def resume(subject: Subject, path: Path, effort: LatencyConf) -> LatencyTable:
    """Read a table that was measured before, here or on another device.

    Raises:
        SsrError: if it is missing, damaged, of another network, or too small for a model.
    """
    stopwatch.check(repeats=effort.repeats)
    table = table_file.read(path)
    if difference := subject.seed.differs(table.seed):
        raise SsrError(
            f"{path} is of another network ({difference}): measure this one with ssr latency STUDY "
            "--fit --out FILE."
        )
    least = min(design.FEWEST, subject.lattice.size)
    own = {a for row in table.rows if row.fits and (a := subject.parse(row.network)) is not None}
    if len(own) < least:
        raise SsrError(
            f"{path} holds {len(own)} networks of this lattice, and a latency model takes {least}: "
            "measure more."
        )
    return LatencyTable(subject, table, path, effort)


def _matches(points: Points, known: Points) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find which of `n x S` points are among `k x S` known ones; returns positions in both."""
    draw = np.random.default_rng(0)
    factors = draw.integers(1, 2**63, known.shape[1], dtype=np.uint64)  # keys wrap at 2^64
    keys, others = ((p.astype(np.uint64) * factors).sum(axis=1) for p in (known, points))
    order = np.argsort(keys)
    near = order[np.searchsorted(keys, others, sorter=order).clip(max=len(keys) - 1)]
    where = np.flatnonzero(keys[near] == others)
    where = where[(points[where] == known[near[where]]).all(axis=1)]
    return where, near[where]


def _measured(
    subject: Subject,
    architectures: Sequence[Architecture],
    effort: LatencyConf,
    setting: Setting,
    *,
    quiet: Sequence[Architecture] = (),
) -> dict[Architecture, Latency]:
    """Build networks, and let them take turns; those in `quiet` must each be quiet enough."""
    runtime, plan = runtimes.find(setting.runtime), subject.lattice.plan
    runners: dict[Architecture, Runner] = {}
    with torch_threads(setting.threads):
        for architecture in terminal.progress(architectures, f"preparing for {setting.runtime}"):
            network = rescale.build(subject.network, plan, architecture, inherits=True)
            runners[architecture] = stopwatch.prepare(
                network,
                plan.inputs,
                runtime,
                batch=setting.batch,
                threads=setting.threads,
                all_outputs=subject.seed.num_classes is None,
            )
        return stopwatch.settled(runners, repeats=effort.repeats, spread=effort.spread, quiet=quiet)


def _row(network: str, own: Latency, *, fits: bool = True, pace: float = 1.0) -> LatencyRow:
    low, high = own.quartiles
    return LatencyRow(
        network=network, ms=own.ms * pace, low=low * pace, high=high * pace, fits=fits
    )
