"""A study: seed network, segmentation, data set and recipe; only its own runs are comparable."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from ssr_exp import config
from ssr_exp.config import Config, TaskKind
from ssr_exp.datasets import augmentation, share
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, rescale, seeds, sets
from ssr_exp.rescaling.network_parts import Part
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.runs import proposal, store, studies
from ssr_exp.runs.score import ACCURACY, Score
from ssr_exp.training import (
    acceleration,
    batch_norm,
    fingerprint,
    learning,
    own_names,
    pretrained,
    study_parts,
)
from ssr_exp.training.pretrained import Pretrained

log = logging.getLogger(__name__)

AnyConf = TypeVar("AnyConf", bound=Config)
ORIGIN = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True, eq=False)
class OpenedStudy:
    """What all runs of a study share."""

    name: str  # model, data set and a fingerprint of everything that decides a result
    fields: dict[str, Any]  # what the fingerprint is of
    splits: Splits | UserData
    seed_network: nn.Module  # as its constructor left it
    plan: Plan
    pretrained: Pretrained = field(default_factory=Pretrained)  # from networks trained before
    score: Score = ACCURACY  # what its networks are judged by
    changed: Mapping[str, Any] = field(default_factory=dict)  # what describes it besides
    # the attribute of a module of the user's own whose weights are scored; empty: it is our task
    scored: str = ""
    # the whole that the seed network is a part of, as its constructor left it; None: it is itself
    whole: nn.Module | None = None
    part: Part | None = None

    @property
    def made(self) -> nn.Module:
        """What the constructor of its networks makes: the whole, or the seed network itself."""
        return self.seed_network if self.whole is None else self.whole

    @property
    def about(self) -> dict[str, Any]:
        """What its file says: its fields, and what was read, which no fingerprint is of."""
        reading = self.splits.reading
        how = self.splits.preprocessing
        return (
            self.fields
            | {
                studies.PREPROCESSING: None if how is None else asdict(how),
                studies.READING: reading.fields() | {"text": reading.lines()},
            }
            | ({studies.FIRST_WEIGHTS: self.pretrained.about} if self.pretrained.about else {})
            | dict(self.changed)
        )

    @property
    def precision(self) -> str:
        """What all its networks are trained in; a loop of the user's own decides that itself."""
        precision: str = self.fields.get("training", {}).get("precision", acceleration.FULL)
        return precision

    def settled(self, conf: AnyConf) -> AnyConf:
        """Fill in how networks are trained, where their configuration leaves that open."""
        is_own = conf.task.name is TaskKind.module
        trainer = acceleration.settled(
            conf.trainer, self.seed_network, self.precision, is_own_module=is_own
        )
        return replace(conf, trainer=trainer)

    def expand(self, conf: Config, *, few: bool = False) -> list[Architecture]:
        """List the networks that a configuration's modifiers name; `few` to begin a search with.

        Raises:
            SsrError: if they cannot be met, a proposal is missing or of another study, or fresh
                weights would leave most of a network neither learnt nor trained before.
        """
        asked, steps = conf.modifiers, conf.segment.width_steps
        sets.check(asked)
        proposed = self._proposed(conf) if asked.kind == sets.PROPOSED else ()
        architectures = sets.expand(self.plan, asked, width_steps=steps, proposed=proposed, few=few)
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

    study: OpenedStudy
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


def open(conf: Config) -> OpenedStudy:
    """Load the images, trace the seed network, read pretrained networks, fingerprint the whole.

    Images, trace and pretrained networks are kept for the next run of the same process.

    Raises:
        SsrError: if a part of the configuration cannot be met.
    """
    config.check(conf)
    if conf.trainer.devices > 1:
        _check_several_devices(conf)
    if conf.study is not None:
        from ssr_exp.training import loop_study  # which makes an `OpenedStudy`

        own_names.check(conf)
        return loop_study.reopen(conf)
    _check(conf)
    own_names.check(conf)
    pretrained.check(conf)
    if conf.task.name is TaskKind.module:  # tried before its network is known
        conf = study_parts.in_precision(conf, acceleration.of_own_module(conf.trainer))
    score = learning.score(conf.task)
    splits, tried = study_parts.data(conf)
    _check_test(conf, splits)
    if isinstance(splits, Splits):
        augmentation.check(conf.dataset, splits, conf.recipe.batch_size)
        share.check(conf.recipe.batch_size, len(splits.train), conf.trainer.devices)
    seed_network, plan = study_parts.seed_and_plan(conf, splits, tried)
    batch_norm.check(conf, seed_network)
    taken = pretrained.open(conf, splits, seed_network, plan)
    if taken.moments is not None and isinstance(splits, Splits):
        splits = splits.normalised_by(*taken.moments)
    fields, changed = _fields(conf, splits, seed_network, plan, taken)
    fingerprint.say_which_has_other_content(conf, fields)
    name = _name(conf, fields)
    scored = "" if tried is None else tried.scored
    return OpenedStudy(name, fields, splits, seed_network, plan, taken, score, changed, scored)


def check_same(study: OpenedStudy, name: str) -> None:
    """Refuse a study that another process is to go on with, if it became another one.

    Raises:
        SsrError: says so.
    """
    if study.name != name:
        raise SsrError(
            f"study {name} became {study.name} meanwhile, because its data, code or a preset was "
            "changed: repeat the command. If that does not help, a file of yours is imported only "
            "where a network is tested: import it at the top of the module that imports it."
        )


def _check_test(conf: Config, splits: Splits | UserData) -> None:
    """Refuse to test where that cannot be, before trainings are spent on what is tested.

    Raises:
        SsrError: says what is missing.
    """
    if not conf.trainer.test:
        return
    if not splits.has_test:
        without = "dataset.train_on_val=false " if conf.dataset.train_on_val else ""
        raise SsrError(
            f"trainer.test=true, but data set {splits.name} has no test images: add a test folder "
            f"beside train (or rows of a table that say test), or type {without}trainer.test=false."
        )
    study_parts.try_test(conf)


def _fields(
    conf: Config,
    splits: Splits | UserData,
    seed_network: nn.Module,
    plan: Plan,
    taken: Pretrained,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """List what decides results, as the study that was begun with it has it, if there is one.

    Returns:
        What its name is made of, and what describes it besides.
    """
    runs = store.Store(conf.paths.runs)

    def is_begun(fields: dict[str, Any]) -> bool:
        return runs.study_folder(_name(conf, fields)).is_dir()

    def fields_in(precision: str) -> dict[str, Any]:
        asked = study_parts.in_precision(conf, precision)
        return fingerprint.fields(asked, splits, seed_network, plan.multiple, taken)

    precision = acceleration.precision(
        conf.trainer, seed_network, begun=lambda one: is_begun(fields_in(one))
    )
    fields = fields_in(precision)
    if isinstance(splits, UserData) and splits.before:
        older = fields | {"dataset": fields["dataset"] | {"content": splits.before}}
        fields = older if is_begun(older) else fields
    if conf.task.name is TaskKind.module:
        return fingerprint.same_code(conf, fields)
    return fields, {}


def _name(conf: Config, fields: dict[str, Any]) -> str:
    """Name a study by what it is of, and by all that decides its results."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return f"{seeds.label(conf.model)}-{conf.dataset.name}-{digest[:8]}"


def _check_several_devices(conf: Config) -> None:
    if conf.task.name is TaskKind.loop:
        raise SsrError(
            f"trainer.devices={conf.trainer.devices} is for trainings of ours, and your function "
            f"trains the networks of {conf.study}: let it use several devices, and type "
            "trainer.devices=1."
        )


def _check(conf: Config) -> None:
    learning.check(conf)
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
    is_read = conf.task.name is not TaskKind.module
    if is_read and conf.recipe.warmup_epochs >= conf.trainer.max_epochs:
        log.warning(
            "a warm-up of %g epochs (recipe.warmup_epochs, the preset's where you typed none) is "
            "all of the training (%d), so the learning rate never gets to its full height: type "
            "recipe.warmup_epochs=%d.",
            conf.recipe.warmup_epochs,
            conf.trainer.max_epochs,
            conf.trainer.max_epochs // 5,
        )
