"""The networks that are measured: those that a study trained, or any codes of a seed network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from torch import nn

from ssr_exp.config import ModelConf, SegmentConf
from ssr_exp.edge.latency.table_file import SeedNetwork
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, planning, rescale, saved, seeds
from ssr_exp.rescaling.cost import Cost
from ssr_exp.rescaling.inputs import Example
from ssr_exp.rescaling.plan import Plan
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import Store


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network and its finished trainings, one for each seed.

    The seed network may have none.
    """

    network: str
    cost: Cost
    records: tuple[Record, ...]

    def score(self, part: str) -> float | None:
        """Average `score` or `test_score` over the trainings that have it."""
        values = [value for r in self.records if (value := getattr(r, part)) is not None]
        return mean(values) if values else None


@dataclass(frozen=True, eq=False)
class MeasuredStudy:
    """A study's networks, the seed network first, then the largest first."""

    name: str  # of the study, or of the seed network
    seed: SeedNetwork  # what is rescaled
    seed_network: nn.Module  # with fresh weights
    plan: Plan  # of it
    networks: tuple[MeasuredNetwork, ...]  # those with finished trainings, and the seed network
    folder: Path | None = None  # of the study; None if nothing was trained

    def only(self, names: Sequence[str]) -> MeasuredStudy:
        """Keep the seed network and the networks of these codes, trained or not.

        Raises:
            SsrError: if one is no network of the seed.
        """
        trained = {each.network: each for each in self.networks}
        kept = {self.networks[0].network: self.networks[0]}
        for architecture in (codes.parse(self.plan, name) for name in names):
            code = codes.write(self.plan, architecture)
            untrained = MeasuredNetwork(code, cost.count_one(self.plan, architecture), ())
            kept.setdefault(code, trained.get(code, untrained))
        return replace(self, networks=tuple(kept.values()))

    def build(self) -> dict[str, nn.Module]:
        """Build all networks with fresh weights, by code."""
        return {
            each.network: rescale.build(
                self.seed_network,
                self.plan,
                codes.parse(self.plan, each.network),
                inherits=True,
            )
            for each in self.networks
        }

    def write(self, measured: Mapping[str, Mapping[str, float]]) -> int:
        """Add latencies to the records of their networks; returns to how many.

        Args:
            measured: by setting, in words, the latency in ms of each network, by code. The first
                one becomes the record's `latency_ms`.

        Raises:
            SsrError: if a record cannot be written.
        """
        if self.folder is None:
            raise SsrError("nothing was trained, so there is no record to write to: name a study.")
        store, written, (first, *_) = Store(self.folder.parent), 0, measured
        for record in (record for each in self.networks for record in each.records):
            folder = store.folder(self.folder.name, record.network, record.seed)
            latencies = {setting: ms[record.network] for setting, ms in measured.items()}
            with store.claim(folder, wait=True):
                newest = store.read(folder) or record
                fields = {
                    "latency_ms": latencies[first],
                    "latency_device": first,
                    "latencies": (newest.latencies or {}) | latencies,
                }
                store.write(folder, newest.model_copy(update=fields))
            written += 1
        return written


def read(folder: Path, *, trust: bool = False) -> MeasuredStudy:
    """Read a study's folder; with `trust`, call the function that makes its seed network, if any.

    Raises:
        SsrError: if it is no study, nothing of it is finished, or its networks cannot be built.
    """
    folder = folder.expanduser().resolve()
    if not (folder / saved.NETWORK).exists():
        studies = sorted(path.parent for path in folder.glob(f"[!.]*/{saved.NETWORK}"))
        one = f"one study, for instance {studies[0]}" if studies else "a study, paths.runs/<study>"
        raise SsrError(f"{folder} holds no {saved.NETWORK}: name the folder of {one}.")
    about = saved.read(folder)
    if not trust:
        saved.check_trust(folder, about, "type --trust if you trust where it comes from")
    if about.part is not None:
        raise SsrError(
            f"the networks of {folder} are rescaled in their part {about.part.path} alone, and a "
            "study does not keep how the whole is called: time study.trained(code) with your own "
            "code."
        )
    seed_network, plan = saved.seed_network(about)
    records = [r for r in Store(folder.parent).records(folder.name) if r.status is Status.finished]
    if not records:
        raise SsrError(f"{folder} holds no finished run: train some of its networks first.")
    seed = SeedNetwork.from_plan(
        about.model.conf(), about.segment.conf(), plan, about.num_classes, seed_network
    )
    networks = tuple(_by_network(plan, records))
    return MeasuredStudy(folder.name, seed, seed_network, plan, networks, folder)


def untrained(
    model: ModelConf,
    split: SegmentConf,
    *,
    num_classes: int | None,
    input_shape: tuple[int, ...],
    inputs: Example | None = None,
) -> MeasuredStudy:
    """Build a seed network of which nothing was trained; it is the only one there.

    Raises:
        SsrError: if it cannot be built or split.
    """
    seed_network, plan = planning.seed_and_plan(
        model, split, num_classes=num_classes, input_shape=input_shape, inputs=inputs
    )
    seed = SeedNetwork.from_plan(model, split, plan, num_classes, seed_network)
    networks = tuple(_by_network(plan, ()))
    return MeasuredStudy(seeds.spell(model), seed, seed_network, plan, networks)


def _by_network(plan: Plan, records: Sequence[Record]) -> Iterator[MeasuredNetwork]:
    by_network: dict[str, list[Record]] = {codes.write(plan, plan.baseline): []}
    for record in sorted(records, key=lambda r: (-r.params, r.network, r.seed)):
        by_network.setdefault(record.network, []).append(record)
    for network, trainings in by_network.items():
        yield MeasuredNetwork(
            network, cost.count_one(plan, codes.parse(plan, network)), tuple(trainings)
        )
