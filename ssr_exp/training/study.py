"""A study: seed network, segmentation, data set and recipe; only its own runs are comparable."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from ssr_exp import config
from ssr_exp.config import Config, DatasetConf, ModelConf, SegmentConf, TaskConf, TaskKind
from ssr_exp.datasets import augmentation, in_memory
from ssr_exp.datasets.images import Splits, Target
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import adapt, codes, planning, rescale, seeds, sets
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.runs import proposal, store, studies
from ssr_exp.runs.score import ACCURACY, Score
from ssr_exp.training import learning, pretrained
from ssr_exp.training.pretrained import Pretrained

log = logging.getLogger(__name__)

Part = TypeVar("Part")
TARGETS = {
    TaskKind.classification: Target.one_class,
    TaskKind.multilabel: Target.labels,
    TaskKind.regression: Target.numbers,
    TaskKind.segmentation: Target.masks,
}
ORIGIN = re.compile(r"[A-Za-z0-9_-]{1,40}")
NOT_COMPARED = ("root", "download", "file")  # where images lie does not change what they are
# Keys that must not rename the studies before them.
LATER = (
    *("train_on_val", "fit", "background", "image", "targets", "group", "split"),
    *("vertical_flip", "crop_scale", "crop_ratio", "rotation", "color_jitter", "auto_augment"),
    *("num_ops", "magnitude", "mixup", "cutmix"),
)


@dataclass(frozen=True, eq=False)
class Study:
    """What all runs of a study share."""

    name: str  # model, data set and a fingerprint of everything that decides a result
    fields: dict[str, Any]  # what the fingerprint is of
    splits: Splits
    seed_network: nn.Module  # as its constructor left it
    plan: Plan
    pretrained: Pretrained = field(default_factory=Pretrained)  # from networks trained before
    score: Score = ACCURACY  # what its networks are judged by

    @property
    def about(self) -> dict[str, Any]:
        """What its file says: its fields, and what was read, which no fingerprint is of."""
        reading = self.splits.reading
        return self.fields | {
            studies.PREPROCESSING: asdict(self.splits.preprocessing),
            studies.READING: reading.fields() | {"text": reading.lines()},
        }

    def expand(self, conf: Config) -> list[Architecture]:
        """List the networks that a configuration's modifiers name.

        Raises:
            SsrError: if they cannot be met, a proposal is missing or of another study, or fresh
                weights would leave most of a network neither learnt nor trained before.
        """
        asked, steps = conf.modifiers, conf.segment.width_steps
        sets.check(asked)
        proposed = self._proposed(conf) if asked.kind == sets.PROPOSED else ()
        architectures = sets.expand(self.plan, asked, width_steps=steps, proposed=proposed)
        if self.pretrained.state is None:
            for architecture in architectures:
                rescale.check_learnt(self.seed_network, self.plan, architecture)
        return architectures

    def _proposed(self, conf: Config) -> tuple[str, ...]:
        """Read the codes that a search proposed for this study."""
        path = proposal.path(store.Store(conf.paths.runs), self.name)
        if conf.modifiers.file is not None:
            path = Path(conf.modifiers.file).expanduser()
        proposed = proposal.read(path)
        if proposed.study != self.name:
            raise SsrError(
                f"{path} proposes networks of study {proposed.study}, but this command is of study "
                f"{self.name}: give model, dataset, recipe and trainer as in that search, or "
                "another modifiers.file=PATH."
            )
        return proposed.networks


@dataclass(frozen=True)
class Job:
    """One network of one study, trained with one seed."""

    study: Study
    architecture: Architecture
    conf: Config

    @property
    def network(self) -> str:
        """The network's code."""
        return codes.write(self.study.plan, self.architecture)

    @property
    def title(self) -> str:
        """The job in words."""
        return f"{self.conf.model.name} {self.network} seed {self.conf.seed}"


def open(conf: Config) -> Study:
    """Load the images, trace the seed network, read pretrained networks, fingerprint the whole.

    Images, trace and pretrained networks are kept for the next run of the same process.

    Raises:
        SsrError: if a part of the configuration cannot be met.
    """
    config.check(conf)
    _check(conf)
    pretrained.check(conf)
    splits = _splits(
        _Key(conf.dataset), conf.paths.data, TARGETS[conf.task.name], conf.task.ignore_index
    )
    if conf.trainer.test and splits.test is None:
        without = "dataset.train_on_val=false " if conf.dataset.train_on_val else ""
        raise SsrError(
            f"trainer.test=true, but data set {splits.name} has no test images: add a test folder "
            f"beside train (or rows of a table that say test), or type {without}trainer.test=false."
        )
    augmentation.check(conf.dataset, splits, conf.recipe.batch_size)
    seed_network, plan = _traced(
        _Key(conf.model), _Key(conf.segment), splits.num_classes, splits.image_shape
    )
    shape = adapt.output_shape(seed_network, splits.image_shape)
    learning.check_output(conf.task, conf.model.name, shape, splits.image_shape[1:])
    taken = pretrained.open(conf, splits, seed_network, plan)
    fields = _fields(conf, splits, seed_network, plan.multiple, taken)
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    name = f"{seeds.label(conf.model)}-{conf.dataset.name}-{digest[:8]}"
    return Study(name, fields, splits, seed_network, plan, taken, learning.score(conf.task))


def _check(conf: Config) -> None:
    if conf.trainer.devices != 1:
        raise SsrError(
            f"trainer.devices is {conf.trainer.devices}; each network is trained on one device, "
            "and a launcher trains several at once: type trainer.devices=1."
        )
    learning.check(conf.task)
    if conf.dataset.train_on_val and not conf.trainer.test:
        raise SsrError(
            "dataset.train_on_val=true leaves no val to measure: type trainer.test=true with it, "
            "or dataset.train_on_val=false."
        )
    if not conf.paths.runs.strip():
        raise SsrError("paths.runs is empty: type paths.runs=DIR, the folder of the records.")
    if conf.origin is not None and not ORIGIN.fullmatch(conf.origin):
        raise SsrError(
            f"origin={conf.origin} is no name: type up to 40 letters, digits, dashes or "
            "underscores, or leave it out."
        )
    if conf.recipe.warmup_epochs >= conf.trainer.max_epochs:
        log.warning(
            "recipe.warmup_epochs=%g is all of the training (%d epochs): the learning rate never "
            "gets to its full height.",
            conf.recipe.warmup_epochs,
            conf.trainer.max_epochs,
        )


def _fields(
    conf: Config, splits: Splits, seed_network: nn.Module, multiple: int, taken: Pretrained
) -> dict[str, Any]:
    dataset = {k: v for k, v in asdict(conf.dataset).items() if k not in NOT_COMPARED}
    if isinstance(sides := dataset["resize"], list) and sides[0] == sides[1]:
        dataset["resize"] = sides[0]
    for key in LATER:
        if dataset[key] == getattr(DatasetConf(), key):
            del dataset[key]
    recipe = {k: v for k, v in asdict(conf.recipe).items() if k not in pretrained.KEYS}
    patterns = {"patterns": conf.segment.patterns} if conf.segment.patterns else {}
    fields = {
        "model": seeds.identity(conf.model, splits.image_shape, seed_network),
        "segment": {"kind": conf.segment.kind, "multiple": multiple} | patterns,
        "dataset": dataset | {"content": splits.fingerprint},
        "recipe": recipe | ({"distill": taken.distill} if taken.distill else {}),
        "training": {"epochs": conf.trainer.max_epochs, "precision": conf.trainer.precision},
    }
    if (task := replace(conf.task, unit="")) != TaskConf():
        usual = asdict(TaskConf())
        fields["task"] = {
            k: v for k, v in asdict(task).items() if k in ("name", "balance") or v != usual[k]
        }
    return fields | ({"init": taken.init} if taken.init else {})


class _Key(Generic[Part]):
    """A part of the configuration as a key of a cache: equal where all its values are."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._text = repr(part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@lru_cache(maxsize=2)
def _splits(dataset: _Key[DatasetConf], folder: str, target: Target, ignored: int | None) -> Splits:
    return in_memory.load(dataset.part, Path(folder), target, ignored)


@lru_cache(maxsize=8)
def _traced(
    model: _Key[ModelConf], segment: _Key[SegmentConf], num_classes: int, shape: tuple[int, ...]
) -> tuple[nn.Module, Plan]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seed_network, plan = planning.seed_and_plan(
            model.part, segment.part, num_classes=num_classes, input_shape=shape
        )
    for remark in plan.remarks:
        log.warning("%s: %s.", model.part.name, remark)
    return seed_network, plan
