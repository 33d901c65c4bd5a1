"""What a study takes from networks that were trained before: first weights, or a teacher.

Neither is the default. Both are part of a study's fingerprint, by content and not by path, so that
such runs are never compared with plain ones.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any

from torch import Tensor, nn

from ssr_exp import messages
from ssr_exp.config import Config, Init, Normalization
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import seeds
from ssr_exp.rescaling.plan import Plan
from ssr_exp.training import checkpoints, first_weights
from ssr_exp.training.checkpoints import PretrainedNetwork, Split
from ssr_exp.training.first_weights import Moments
from ssr_exp.training.learning import TargetMoments, target_moments

log = logging.getLogger(__name__)

ALIKE = 1e-6  # of the deviation of what is learnt

CHECKPOINT = "checkpoint"  # as `recipe.distill`: the teacher is the top-level one
KEYS = ("distill", "distill_weight", "distill_temperature")  # of the recipe


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What trainings start from and learn from, besides images."""

    # the trained seed network's `state_dict`, less what is drawn anew; None: all is drawn
    state: Mapping[str, Tensor] | None = None
    # in eval mode, on the CPU, and not to be changed; None: there is none
    teacher: nn.Module | None = None
    teacher_moments: TargetMoments | None = None  # of what it learned; None: not known
    # what the fingerprint says of the weights; empty: nothing
    init: Mapping[str, str] = field(default_factory=dict)
    distill: Mapping[str, Any] = field(default_factory=dict)  # what it says of the teacher
    moments: Moments | None = None  # that images are normalised by; None: the study's own
    # whose weights they are, and what of them is drawn; no fingerprint is of it
    about: Mapping[str, Any] = field(default_factory=dict)


def check(conf: Config) -> None:
    """Refuse what needs a checkpoint and names none; warn of one that nothing reads.

    Raises:
        SsrError: if a checkpoint is missing.
    """
    reads = {
        "init=inherit": conf.init.kind is Init.inherit,
        f"recipe.distill={CHECKPOINT}": conf.recipe.distill == CHECKPOINT,
        "dataset.normalize=checkpoint": conf.dataset.normalize is Normalization.checkpoint,
    }
    asked = [word for word, holds in reads.items() if holds]
    if asked and conf.checkpoint is None:
        is_teacher = asked[0].startswith("recipe")
        kinds = checkpoints.KINDS if is_teacher else checkpoints.ANY_KIND
        raise SsrError(f"{asked[0]} needs checkpoint=PATH: name {kinds}.")
    if conf.checkpoint is not None and not asked:
        words = " or ".join(list(reads)[:2])
        messages.say_once(log, f"checkpoint={conf.checkpoint} is not read: type {words} with it.")


def open(conf: Config, splits: Splits | UserData, seed: nn.Module, plan: Plan) -> Pretrained:
    """Read what `init`, `checkpoint` and `recipe.distill` name; a network once in a process.

    Raises:
        SsrError: if there is nothing to read, or it is of another network or of other classes.
    """
    moments = first_weights.moments(conf, splits, seed)
    pretrained = Pretrained(moments=moments)
    if conf.init.kind is Init.inherit:
        first = first_weights.read(conf, splits, seed, plan)
        _check_split(conf, splits.fingerprint, first.split)
        init = {"kind": conf.init.kind.value, "channels": conf.init.channels.value}
        init |= {"checkpoint": first.digest}
        pretrained = replace(pretrained, state=first.state, init=init, about=first.about)
    if (path := teacher_path(conf)) is not None:
        source = checkpoints.read(path, seeds.spell(conf.model), seed)
        _check_classes(path, source, splits)
        _check_images(path, source, splits)
        _check_teachers_split(conf, path, splits.fingerprint, source.split)
        if isinstance(splits, Splits):
            _check_normalization(path, source, moments or (splits.mean, splits.std))
        weight, temperature = conf.recipe.distill_weight, conf.recipe.distill_temperature
        distill = {"teacher": source.digest, "weight": weight, "temperature": temperature}
        pretrained = replace(
            pretrained,
            teacher=source.network,
            teacher_moments=source.target_moments,
            distill=distill | _other_moments(path, source.target_moments, splits),
        )
    return pretrained


def _other_moments(
    path: str, theirs: TargetMoments | None, splits: Splits | UserData
) -> dict[str, Any]:
    """Say what a teacher's numbers are standardised by, where that is not this study's own.

    Where it is not known, this study's own is taken, and that is said.
    """
    ours = target_moments(splits.train) if isinstance(splits, Splits) else None
    if ours is None:
        return {}
    if theirs is None:
        messages.say_once(
            log,
            f"{path} does not say by which mean and deviation its teacher's numbers are "
            "standardised: those of this data set are taken. Name the folder of its run, if there "
            "is one.",
        )
        return {}
    if all(map(_is_close, chain(*theirs), chain(*ours), chain(ours[1], ours[1]))):
        return {}
    mean, std = map(list, theirs)  # as a study's file has them
    return {"target_mean": mean, "target_std": std}


def _is_close(one: float, other: float, deviation: float) -> bool:
    """Say whether two moments differ by rounding alone, as of another device."""
    return abs(one - other) <= ALIKE * deviation


def teacher_path(conf: Config) -> str | None:
    """Say where the teacher lies; None if there is none."""
    named = conf.recipe.distill
    return conf.checkpoint if named == CHECKPOINT else named


def _check_split(conf: Config, content: str, theirs: Split | None) -> None:
    """Refuse first weights that were learned from the images which measure this study's networks.

    Of the same keys, and other images or another split, that cannot be known, and is said.

    Raises:
        SsrError: if they were.
    """
    ours = Split.model_validate(asdict(conf.dataset) | {"content": content})
    if theirs is None or _is_harmless(theirs, ours):
        return
    if theirs.words == ours.words:
        if theirs.content is not None:
            messages.say_once(
                log,
                f"the network in {conf.checkpoint} was trained on other images, or on another "
                "split of them: if it has seen images of val or test here, they flatter what "
                "inherits from it.",
            )
        return
    raise SsrError(
        f"the network in {conf.checkpoint} was trained on images that are val here (with "
        f"{theirs}, and this study has {ours}), so val would flatter what inherits from it: name a "
        "run of the same split, such as this study's modifiers=baseline with init=fresh."
    )


def _check_teachers_split(conf: Config, path: str, content: str, theirs: Split | None) -> None:
    """Say if a teacher has seen images of val: what it says of those of train may show it."""
    ours = Split.model_validate(asdict(conf.dataset) | {"content": content})
    if theirs is None or _is_harmless(theirs, ours):
        return
    if theirs.words != ours.words:
        messages.say_once(
            log,
            f"the teacher in {path} was trained on images that are val here (with {theirs}, and "
            f"this study has {ours}), so val may flatter what learns from it.",
        )
    elif theirs.content is not None:
        messages.say_once(
            log,
            f"the teacher in {path} was trained on other images, or on another split of them: if "
            "it has seen images of val or test here, they flatter what learns from it.",
        )


def _is_harmless(theirs: Split, ours: Split) -> bool:
    """Say whether there is no val, or a split of other images or the very same one was learned."""
    return ours.train_on_val or theirs.name != ours.name or theirs.content == ours.content


def _check_classes(path: str, source: PretrainedNetwork, splits: Splits | UserData) -> None:
    ours: Sequence[str] = splits.classes
    theirs = ours if source.about is None else source.about.classes
    if list(theirs) == list(ours):
        return
    if len(theirs) != len(ours):
        said = f"{len(theirs)} classes, and this data set has {len(ours)}"
    else:
        pairs = zip(theirs, ours, strict=True)
        one, other = next(pair for pair in pairs if pair[0] != pair[1])
        said = f"other classes than this data set: {one!r} where it has {other!r}"
    raise SsrError(f"the network in {path} tells apart {said}; name one of the same classes.")


def _check_images(path: str, source: PretrainedNetwork, splits: Splits | UserData) -> None:
    if source.about is not None and source.about.input_shape != splits.image_shape:
        shapes = source.about.input_shape, splits.image_shape
        theirs, ours = ("x".join(map(str, shape)) for shape in shapes)
        raise SsrError(
            f"the teacher in {path} takes images of {theirs} (channels x height x width), and this "
            f"data set's are {ours}: name a teacher of such images, or type recipe.distill=null."
        )


def _check_normalization(path: str, source: PretrainedNetwork, ours: Moments) -> None:
    """Say if a teacher is shown other images than it learned from."""
    theirs = None if source.about is None else source.about.moments
    if theirs is None:
        return
    if first_weights.are_far(theirs, ours):
        messages.say_once(
            log,
            f"the teacher in {path} learned from images normalised with "
            f"{first_weights.said(theirs)}, and here they are normalised with "
            f"{first_weights.said(ours)}: what it says of them may be worth little.",
        )
