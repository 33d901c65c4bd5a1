"""The trained networks of a study: what they cost, what they score, and how to build them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, rescale, saved
from ssr_exp.rescaling.cost import Cost
from ssr_exp.rescaling.plan import Plan
from ssr_exp.runs import local, studies
from ssr_exp.runs.record import Record, Status


@dataclass(frozen=True)
class Trained:
    """A network and its finished trainings, one for each seed.

    The seed network may have none.
    """

    network: str
    cost: Cost
    records: tuple[Record, ...]

    def accuracy(self, part: str) -> float | None:
        """Average `val_acc` or `test_acc` over the trainings that have it, in percent."""
        known = [value for r in self.records if (value := getattr(r, part)) is not None]
        return mean(known) if known else None


@dataclass(frozen=True, eq=False)
class Study:
    """A study's networks, the seed network first, then the largest first.

    Args:
        folder: of the study.
        seed_network: with fresh weights.
        plan: of it.
        input_shape: channels, height and width of the images, in pixels.
        networks: those with finished trainings, and the seed network.
    """

    folder: Path
    seed_network: nn.Module
    plan: Plan
    input_shape: tuple[int, int, int]
    networks: tuple[Trained, ...]

    def build(self) -> dict[str, nn.Module]:
        """Build all networks with fresh weights, by code."""
        return {
            each.network: rescale.build(
                self.seed_network, self.plan, codes.parse(self.plan, each.network)
            )
            for each in self.networks
        }

    def write(self, latencies: dict[str, float], device: str) -> int:
        """Write latencies in ms into the records of their networks; returns how many.

        Raises:
            SsrError: if a record cannot be written.
        """
        store, written = local.Store(self.folder.parent), 0
        for record in (record for each in self.networks for record in each.records):
            folder = store.folder(self.folder.name, record.network, record.seed)
            measured = {"latency_ms": latencies[record.network], "latency_device": device}
            with store.claim(folder, wait=True):
                newest = store.read(folder) or record
                store.write(folder, newest.model_copy(update=measured))
            written += 1
        return written


def read(folder: Path, *, trust: bool = False) -> Study:
    """Read a study's folder.

    Args:
        folder: `paths.runs/<study>`.
        trust: call the function that makes the seed network, if a function does.

    Raises:
        SsrError: if it is no study, nothing of it is finished, or its networks cannot be built.
    """
    folder = folder.expanduser().resolve()
    about = _description(folder)
    if not trust and about.model.calls_code():
        raise SsrError(
            f"{folder} is of networks that the function {about.model.name} makes: type --trust if "
            "you trust where the folder comes from."
        )
    seed_network, plan = saved.seed_network(about)
    records = [r for r in local.Store(folder.parent).records(folder.name) if _counts(r)]
    if not records:
        raise SsrError(f"{folder} holds no finished run: train some of its networks first.")
    networks = tuple(_trained(plan, records))
    return Study(folder, seed_network, plan, about.input_shape, networks)


def _counts(record: Record) -> bool:
    return record.status is Status.finished


def _trained(plan: Plan, records: Sequence[Record]) -> Iterator[Trained]:
    full = codes.write(plan, plan.baseline)
    found: dict[str, list[Record]] = {full: []}
    for record in sorted(records, key=lambda r: (-r.params, r.network, r.seed)):
        found.setdefault(record.network, []).append(record)
    for network, own in found.items():
        architecture = codes.parse(plan, network)
        yield Trained(network, cost.of(plan, architecture), tuple(own))


def _description(folder: Path) -> saved.Description:
    if not (folder / saved.NETWORK).exists():
        raise SsrError(f"{folder} holds no {saved.NETWORK}: {_remedy(folder)}.")
    return saved.read(folder)


def _remedy(folder: Path) -> str:
    """Say which folder to name instead."""
    below = sorted(p.parent.name for p in folder.glob(f"*/{saved.NETWORK}"))
    if below:
        return f"name the folder of one study, for instance {folder / below[0]}"
    if (folder / studies.FILE).exists():
        return "an earlier version trained it; train one more network of it, or seed, and repeat"
    return "name the folder of a study, paths.runs/<study>"
