"""The last comparison: finalists and arms are trained on train and val, and tested."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ssr_exp.config import (
    Arm,
    Config,
    CostAxis,
    FinalistsConf,
    ModelConf,
    Normalization,
    SearchConfig,
    TaskKind,
)
from ssr_exp.datasets.images import Splits
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, seeds
from ssr_exp.rescaling.cost import Cost
from ssr_exp.runs.record import FINALIST, Record
from ssr_exp.runs.store import LAST_CHECKPOINT, Store
from ssr_exp.training import opened_study, pretrained, study_parts
from ssr_exp.training.opened_study import OpenedStudy
from ssr_exp.training.sweep import ALONE

FINAL = ("trainer.test=true", f"origin={FINALIST}")
ON_VAL = ("dataset.train_on_val=true",)  # where the images are ours to split
ANEW = ("init=fresh", "init.kind=fresh")  # no other network's weights fit a sibling
UNTESTED = ("trainer.test=false",)  # the test set is looked at once, for finalists


def check(whole: SearchConfig, opened: OpenedStudy) -> None:
    """Refuse before anything is trained what the finalists could not be given.

    Raises:
        SsrError: if there is no val, or there are no test images.
    """
    conf = whole.finalists
    if not conf.seeds and conf.arms:
        raise SsrError(
            "finalists.arms are compared with the answer on test, where finalists.seeds=0 tests "
            "nothing: type finalists.seeds=1 or more, or 'finalists.arms=[]'."
        )
    if (highest := whole.seed + conf.seeds) >= 2**32:
        raise SsrError(
            f"finalists are trained with seeds up to {highest}, and the largest one is "
            f"{2**32 - 1}: type a smaller seed."
        )
    _check_siblings(whole)
    if whole.dataset.train_on_val:
        raise SsrError(
            "dataset.train_on_val=true leaves a search no val to compare networks by: take it out; "
            "finalists are trained on val by themselves."
        )
    if conf.seeds and not opened.splits.has_test:
        raise SsrError(
            f"data set {opened.splits.name} has nothing to test finalists with: add a test folder "
            "beside train (of your own modules: test_dataloader and test_step), or type "
            "finalists.seeds=0."
        )
    if conf.seeds:
        last = replace(whole.dataset, train_on_val=learns_val(whole))
        study_parts.try_test(replace(whole, dataset=last))


def learns_val(conf: Config) -> bool:
    """Say whether finalists learn from val, too: data of the user's own is split by them."""
    return conf.dataset.target is None and conf.task.name is not TaskKind.loop


def images(conf: Config, splits: object) -> dict[str, Any]:
    """Say, as plain data, what finalists learned from, and how many images they were tested on.

    Nothing of a loop of the user's own, which alone knows it; a count where the images are ours.
    """
    if conf.task.name is TaskKind.loop:
        return {}
    told: dict[str, Any] = {"learnt": "train and val" if learns_val(conf) else "train"}
    if isinstance(splits, Splits) and splits.test is not None:
        told["test_images"] = len(splits.test)
    return told


def _check_siblings(whole: SearchConfig) -> None:
    """Refuse for a sibling what only the seed network itself can read."""
    if Arm.family not in whole.finalists.arms:
        return
    if whole.dataset.normalize is Normalization.checkpoint:
        raise SsrError(
            "finalists.arms holds family, but dataset.normalize=checkpoint is for networks of "
            f"{whole.model.name} alone: type dataset.normalize=imagenet, or leave family out."
        )
    path = pretrained.teacher_path(whole)
    if path is None:
        return
    if Path(path).expanduser().is_file():
        raise SsrError(
            f"finalists.arms holds family, but the teacher {path} is a file, which only "
            f"{whole.model.name} can read: name a folder, or leave family out."
        )


def overrides(
    whole: SearchConfig, *, network: str | None, model: str | None, seed: int
) -> list[str]:
    """Write what a finalist's command line adds to the search's.

    It is a network of the search, by its code, or the whole of another seed network, `model`.
    """
    conf: FinalistsConf = whole.finalists
    words = [*FINAL, *(ON_VAL if learns_val(whole) else ()), f"seed={seed}", *ALONE]
    if conf.epochs is not None:
        words.append(f"trainer.max_epochs={conf.epochs}")
    if model is not None:
        return [*words, *ANEW, *seeds.words(model), "modifiers.kind=baseline"]
    return [*words, f"modifiers.network={network}"]


def with_earlier(read: Callable[[str], Sequence[Record]], own: Sequence[Record]) -> list[Record]:
    """Add to a finalist's records those of other seeds, which commands or a loop tested before.

    Args:
        read: lists the records of a study.
        own: of one network, with the seeds of the command that runs now.
    """
    if not own:
        return []
    network, seeds_here = own[0].network, {record.seed for record in own}
    return [*own] + [
        record
        for record in read(own[0].study)
        if record.network == network and record.seed not in seeds_here
        if record.origin == FINALIST and record.test_score is not None
    ]


def with_weights(store: Store, records: Sequence[Record]) -> list[Record]:
    """Keep the trainings whose weights are there: a loop of the user's own may have told none."""
    return [
        record
        for record in records
        if (store.folder(record.study, record.network, record.seed) / LAST_CHECKPOINT).exists()
    ]


class Sibling(NamedTuple):
    """A seed network of the same family, whole: its name, its code and its cost."""

    model: str
    code: str
    cost: Cost


def sibling(
    model: ModelConf, axis: CostAxis, answer: Cost, compose: Callable[[Sequence[str]], Config]
) -> Sibling | None:
    """Find the plain family member whose cost is nearest to an answer's; None if there is none.

    Args:
        model: the seed network.
        axis: the cost; where it is latency, parameters stand in for it.
        answer: the cost of the answer.
        compose: composes a configuration with a few more overrides.
    """
    metric = "params" if axis is CostAxis.latency_ms else axis.value

    def whole(member: str) -> Sibling:
        named = [*seeds.words(member), *ANEW]
        plan = opened_study.open(compose([*named, *ALONE, "modifiers.kind=baseline"])).plan
        full = plan.baseline
        return Sibling(member, codes.write(plan, full), cost.count_one(plan, full))

    def distance(one: Sibling) -> float:
        return abs(math.log(getattr(one.cost, metric) / getattr(answer, metric)))

    return min(map(whole, seeds.family(model)), key=distance, default=None)
