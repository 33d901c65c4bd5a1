"""The last comparison: finalists and arms trained on train and val, and tested once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ssr_exp.config import Config, CostAxis, FinalistsConf, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, seeds
from ssr_exp.rescaling.cost import Cost
from ssr_exp.training import study
from ssr_exp.training.study import Study
from ssr_exp.training.sweep import ALONE

FINAL = ("dataset.train_on_val=true", "trainer.test=true")
UNTESTED = ("trainer.test=false",)  # the test set is looked at once, for finalists


def check(whole: SearchConfig, opened: Study) -> None:
    """Refuse before anything is trained what the finalists could not be given.

    Raises:
        SsrError: if a number makes no sense, or there are no test images.
    """
    conf = whole.finalists
    if whole.dataset.train_on_val:
        raise SsrError(
            "dataset.train_on_val=true leaves a search no val to compare networks by: take it out; "
            "finalists are trained on val by themselves."
        )
    if conf.seeds < 0 or conf.count < 1 or (conf.epochs is not None and conf.epochs < 1):
        raise SsrError(
            f"finalists.seeds={conf.seeds}, finalists.count={conf.count} and finalists.epochs="
            f"{conf.epochs}: seeds must be 0 or more, count and epochs 1 or more."
        )
    if conf.seeds and opened.splits.test is None:
        raise SsrError(
            f"data set {opened.splits.name} has no test images to test finalists with: add a test "
            "folder beside train, or type finalists.seeds=0."
        )


def overrides(
    conf: FinalistsConf, *, network: str | None, model: str | None, seed: int
) -> list[str]:
    """Write what a finalist's command line adds to the search's own.

    Args:
        conf: how finalists are trained.
        network: its code; None for the whole of `model`.
        model: another seed network; None for the search's.
        seed: of this training.
    """
    words = [*FINAL, f"seed={seed}", *ALONE]
    if conf.epochs is not None:
        words.append(f"trainer.max_epochs={conf.epochs}")
    if model is not None:
        return [*words, f"model={model}", f"model.name={model}", "modifiers.kind=baseline"]
    return [*words, f"modifiers.network={network}"]


def sibling(
    name: str, axis: CostAxis, own: Cost, compose: Callable[[Sequence[str]], Config]
) -> str | None:
    """Find the plain family member whose cost is nearest to an answer's; None if there is none.

    Args:
        name: the seed network.
        axis: the cost; where it is latency, parameters stand in for it.
        own: the answer's.
        compose: composes a configuration with a few more overrides.
    """
    metric = "params" if axis is CostAxis.latency_ms else axis.value

    def distance(member: str) -> float:
        named = [f"model={member}", f"model.name={member}"]
        plan = study.open(compose([*named, *ALONE, "modifiers.kind=baseline"])).plan
        full = cost.of(plan, plan.baseline)
        return abs(math.log(getattr(full, metric) / getattr(own, metric)))

    return min(seeds.family(name), key=distance, default=None)
