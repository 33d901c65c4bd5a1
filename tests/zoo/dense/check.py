"""Check one network of the zoo's other half: rescale it by all kinds of segments, and run it."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, planning
from ssr_exp.rescaling.plan import Architecture, Plan
from tests.support import verdict
from tests.zoo.check import SEED, drawn, located
from tests.zoo.dense import members
from tests.zoo.rows import DenseRow, Split

ALL = ("full", "depth", "width", "joint", "smallest")
KINDS: Mapping[str, tuple[str, ...]] = {  # of segments: which architectures are checked
    "stage": ALL,
    "block": ("joint", "smallest"),
    "superblock": ("joint", "smallest"),
    "whole": ("joint", "smallest"),
}
REFUSABLE = "has no segment"  # what a kind may say of a network, if it is not `stage`


def check(name: str) -> DenseRow:
    """Check one network; whatever goes wrong stands in the row."""
    row = DenseRow(name)
    start = time.perf_counter()
    try:
        torch.manual_seed(SEED)
        network, row.shape = members.build(name), list(members.MEMBERS[name].shape)
        row.params = sum(parameter.numel() for parameter in network.parameters())
        expected = verdict.Expected(network, row.shape)
        learnt = {name for name, p in network.named_parameters() if p.requires_grad}
        row.idle = sorted(learnt - expected.trained)
    except Exception as error:
        row.problems.append(f"construction: {located(error)}")
    else:
        for kind in KINDS:
            row.problems += (f"{kind}, {each}" for each in Checked(network, expected, row, kind))
    row.wall_s = round(time.perf_counter() - start, 1)
    return row


@dataclass
class Checked:
    """A network that is split into segments of one kind; iterating names what is wrong."""

    network: nn.Module
    expected: verdict.Expected
    row: DenseRow
    kind: str

    def __iter__(self) -> Iterator[str]:
        split = self.row.splits[self.kind] = Split()
        try:
            plan = self._planned(split)
        except Exception as error:
            if isinstance(error, SsrError) and self.kind != "stage" and REFUSABLE in str(error):
                split.refused = str(error)
            else:
                yield f"plan: {located(error)}"
            return
        rng = random.Random(f"{SEED}/{self.row.name}/{self.kind}")
        for size, architecture in drawn(plan, rng).items():
            if size in KINDS[self.kind]:
                yield from (f"{size}: {each}" for each in self._problems(plan, architecture))

    def _planned(self, split: Split) -> Plan:
        start = time.process_time()
        plan = planning.trace(self.network, self.row.shape, kind=self.kind)
        split.plan_s = round(time.process_time() - start, 2)
        split.blocks = [len(segment.blocks) for segment in plan.segments]
        split.removable = sum(len(segment.blocks) - segment.fewest for segment in plan.segments)
        split.changeable = round(verdict.can_change(plan), 4)
        split.changeable_of_used = round(verdict.can_change(self._used(plan)), 4)
        split.frozen = dict(plan.frozen)
        small, full = (cost.count_one(plan, a).params for a in (plan.smallest, plan.baseline))
        split.smallest = round(small / full, 6)
        return plan

    def _used(self, plan: Plan) -> Plan:
        """Leave out the parameters that the seed network never trains."""
        leaves = {name: leaf for name, leaf in plan.leaves.items() if name not in self.row.idle}
        return dataclasses.replace(plan, leaves=leaves)

    def _problems(self, plan: Plan, architecture: Architecture) -> Iterator[str]:
        try:
            yield from self.expected.problems(plan, architecture)
        except Exception as error:
            yield located(error)
