"""What a study is made of: what is learnt from, code of a user's own, the seed network.

Each is read, tried and traced once in a process, however many trainings follow.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from ssr_exp.config import (
    Config,
    DatasetConf,
    Init,
    ModelConf,
    PathsConf,
    SegmentConf,
    TaskConf,
    TaskKind,
)
from ssr_exp.datasets import in_memory, sources, user_data
from ssr_exp.datasets.images import Splits, Target
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import adapt, chosen_values, codes, planning, rescale, user_modules
from ssr_exp.rescaling.inputs import Signature
from ssr_exp.rescaling.plan import Plan
from ssr_exp.training import acceleration, learning, own_data, own_module, preflight
from ssr_exp.training.config_key import ConfigKey
from ssr_exp.training.preflight import Tried

log = logging.getLogger(__name__)

TARGETS = {
    TaskKind.classification: Target.one_class,
    TaskKind.multilabel: Target.labels,
    TaskKind.regression: Target.numbers,
    TaskKind.segmentation: Target.masks,
}


def seed_and_plan(
    conf: Config, splits: Splits | UserData, tried: Tried | None
) -> tuple[nn.Module, Plan]:
    """Make the seed network and trace it; refuse one that cannot learn what there is to learn.

    Raises:
        SsrError: if it cannot be traced, or puts out something else than its task needs.
    """
    is_own = conf.task.name is TaskKind.module
    inputs = ConfigKey(None if tried is None else tried.inputs.stored)
    parts = ConfigKey(conf.model), ConfigKey(conf.segment)
    data = splits.num_classes, splits.image_shape
    try:
        seed_network, plan = _traced(*parts, *data, inputs)
    except SsrError as error:
        if not is_own:
            raise
        raise SsrError(
            f"{error} Where a part of it can be rescaled, type "
            f"task.network={conf.task.network}.PART, such as {conf.task.network}.backbone."
        ) from None
    if not is_own:
        shape = adapt.output_shape(seed_network, splits.image_shape)
        learning.check_output(conf.task, conf.model.name, shape, splits.image_shape[1:])
        is_loop = conf.task.name is TaskKind.loop  # which says so itself
        if conf.init.kind is Init.fresh and not is_loop and chosen_values.is_trained(seed_network):
            log.warning(
                "%s brings trained weights, and every network here starts from fresh ones, the "
                "baseline, too: save its state dict, and type init=inherit checkpoint=FILE to "
                "start each from slices of it.",
                conf.model.name,
            )
        return seed_network, plan
    if conf.job_of is None and conf.modifiers.kind != "baseline":  # else it was, or needs not be
        _try_smallest(ConfigKey(_decides(conf)), *parts, *data, inputs)
    if conf.init.kind is Init.fresh:
        _say_what_is_dropped(ConfigKey(conf.task), splits.num_classes, splits.image_shape[0])
    return seed_network, plan


def data(conf: Config) -> tuple[Splits | UserData, Tried | None]:
    """Learn what there is to learn from, and try code of the user's own on it.

    Returns:
        The data, and what was seen of a module of the user's own, if there is one.
    """
    if conf.task.name is not TaskKind.module and conf.dataset.target is None:
        return images(conf), None
    return _tried(ConfigKey(_decides(conf)))


def _decides(conf: Config) -> Config:
    """Keep what decides how code of the user's own does on two batches."""
    return Config(
        dataset=conf.dataset,
        task=conf.task,
        recipe=conf.recipe,
        trainer=replace(conf.trainer, test=False),
        paths=PathsConf(data=conf.paths.data),
    )


def try_test(conf: Config) -> None:
    """Try how a module of the user's own is tested, before trainings are spent on what is tested.

    Of our tasks only what the user lets Lightning call can fail then.

    Raises:
        SsrError: if it cannot be trained as it will be, or does not log its score on test.
    """
    if conf.task.name is TaskKind.module:
        conf = in_precision(conf, acceleration.of_own_module(conf.trainer))
        shown = replace(conf.dataset, train_on_val=False)
        has_val = not conf.dataset.train_on_val
        _tested(ConfigKey(_decides(replace(conf, dataset=shown))), has_val=has_val)
    elif conf.dataset.train_on_val:
        preflight.check_stops_without_val(conf)


def in_precision(conf: Config, precision: str) -> Config:
    """Ask for trainings in a precision."""
    return replace(conf, trainer=replace(conf.trainer, precision=precision))


def images(conf: Config) -> Splits:
    """Load the images of a data set of ours, and what a task learns of them; once in a process."""
    has_masks = conf.dataset.name in (sources.MASKS, sources.SCENES)
    usual = Target.masks if has_masks else Target.one_class
    target = TARGETS.get(conf.task.name, usual)
    return _splits(ConfigKey(conf.dataset), conf.paths.data, target, conf.task.ignore_index)


@lru_cache(maxsize=2)
def _splits(
    dataset: ConfigKey[DatasetConf], folder: str, target: Target, ignored: int | None
) -> Splits:
    return in_memory.load(dataset.part, Path(folder), target, ignored)


@lru_cache(maxsize=4)
def _tried(key: ConfigKey[Config]) -> tuple[Splits | UserData, Tried | None]:
    conf = key.part
    score = learning.score(conf.task)
    if conf.dataset.target is not None:
        return own_data.describe(conf, score)
    splits = images(conf)
    module = own_module.make(conf.task, learning.offered(splits))
    data = learning.data(conf, images(_with_val(conf)))
    return splits, preflight.try_module(conf, module, data, score)


@lru_cache(maxsize=4)
def _tested(key: ConfigKey[Config], *, has_val: bool) -> None:
    conf = key.part
    if conf.dataset.target is not None:
        module, data = own_module.make(conf.task, {}), user_data.make(conf.dataset)
    else:
        splits = images(conf)
        module, data = (
            own_module.make(conf.task, learning.offered(splits)),
            learning.data(conf, splits),
        )
    preflight.try_test(conf, module, data, learning.test_score(conf.task), has_val=has_val)


@lru_cache(maxsize=8)
def _try_smallest(
    key: ConfigKey[Config],
    model: ConfigKey[ModelConf],
    segment: ConfigKey[SegmentConf],
    num_classes: int | None,
    shape: tuple[int, ...],
    inputs: ConfigKey[Signature | None],
) -> None:
    """Train the smallest network on two batches, as its whole was tried: what it lacks is named."""
    conf = key.part
    seed_network, plan = _traced(model, segment, num_classes, shape, inputs)
    try:
        network = rescale.build(seed_network, plan, plan.smallest)
    except SsrError:  # which is said where it is to be trained
        return
    splits, _ = _tried(key)
    shown = images(_with_val(conf)) if isinstance(splits, Splits) else splits
    module = own_module.make(conf.task, learning.offered(splits))
    code = codes.write(plan, plan.smallest)
    preflight.try_smaller(conf, module, learning.data(conf, shown), network, code)


def _with_val(conf: Config) -> Config:
    """Keep val, of which nothing is left where finalists learn from it: they log what others do."""
    return replace(conf, dataset=replace(conf.dataset, train_on_val=False))


@lru_cache(maxsize=8)
def _say_what_is_dropped(task: ConfigKey[TaskConf], num_classes: int | None, channels: int) -> None:
    """Warn where all networks start from fresh weights, and the module's own were trained."""
    if own_module.constructed(task.part, user_modules.offered(num_classes, channels)).is_trained:
        log.warning(
            "%s loads trained weights when it is made, and every network here starts from fresh "
            "ones, the baseline, too: type init=inherit checkpoint=target to start each from "
            "slices of them.",
            task.part.target,
        )


@lru_cache(maxsize=8)
def _traced(
    model: ConfigKey[ModelConf],
    segment: ConfigKey[SegmentConf],
    num_classes: int | None,
    shape: tuple[int, ...],
    inputs: ConfigKey[Signature | None],
) -> tuple[nn.Module, Plan]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seed_network, plan = planning.seed_and_plan(
            model.part,
            segment.part,
            num_classes=num_classes,
            input_shape=shape,
            inputs=inputs.part,
        )
    for remark in plan.remarks:
        log.warning("%s: %s.", model.part.name, remark)
    return seed_network, plan
