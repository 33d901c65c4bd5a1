"""What a study borrows from networks trained before: the first weights, or a teacher.

Neither is the default. Both are part of a study's fingerprint, by content and not by path, so that
such runs are never compared with plain ones.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from ssr_exp.config import Config, Init, RecipeConf
from ssr_exp.datasets.images import Splits
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, rescale, seeds
from ssr_exp.rescaling.plan import Plan
from ssr_exp.training import pretrained
from ssr_exp.training.pretrained import Own, Pretrained, Split

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"  # as `recipe.distill`: the teacher is the top-level one
KEYS = ("distill", "distill_weight", "distill_temperature")  # of the recipe


@dataclass(frozen=True, eq=False)
class Borrowed:
    """What trainings start from and learn from, besides images.

    Args:
        state: the trained seed network's `state_dict`; None: weights are drawn.
        teacher: in eval mode, on the CPU, and not to be changed; None: there is none.
        init: what the fingerprint says of the weights; empty: nothing.
        distill: what it says of the teacher.
    """

    state: Mapping[str, Tensor] | None = None
    teacher: nn.Module | None = None
    init: Mapping[str, str] = field(default_factory=dict)
    distill: Mapping[str, Any] = field(default_factory=dict)


def check(conf: Config) -> None:
    """Refuse what needs a checkpoint and names none; warn of one that nothing reads.

    Raises:
        SsrError: if a checkpoint is missing.
    """
    reads = {
        "init=inherit": conf.init.kind is Init.inherit,
        f"recipe.distill={CHECKPOINT}": conf.recipe.distill == CHECKPOINT,
    }
    asked = [word for word, holds in reads.items() if holds]
    if asked and conf.checkpoint is None:
        raise SsrError(f"{asked[0]} needs checkpoint=PATH: name {pretrained.KINDS}.")
    if conf.checkpoint is not None and not asked:
        _warn(conf.checkpoint, " or ".join(reads))


@lru_cache(maxsize=64)
def _warn(path: str, words: str) -> None:
    """Warn once, not once for each run."""
    log.warning("checkpoint=%s is not read: type %s with it.", path, words)


def read(conf: Config, splits: Splits, seed: nn.Module, plan: Plan) -> Borrowed:
    """Read what a configuration names; a network is read once in a process.

    Args:
        conf: `init`, `checkpoint` and `recipe.distill`.
        splits: the study's images.
        seed: its seed network.
        plan: the seed network's.

    Raises:
        SsrError: if there is nothing to read, or it is of another network or of other classes.
    """
    taken = Borrowed()
    own = Own(seeds.spell(conf.model), seed, splits.num_classes, splits.image_shape)
    if conf.init.kind is Init.inherit and conf.checkpoint is not None:
        found = _trained(conf.checkpoint, splits, own)
        _check_split(conf, found)
        said = {"kind": conf.init.kind.value, "channels": conf.init.channels.value}
        said |= {"checkpoint": found.digest}
        taken = replace(taken, state=_whole(conf, found, seed, plan), init=said)
    if (path := teacher_path(conf)) is not None:
        found = _trained(path, splits, own)
        _check_images(path, found, splits)
        taken = replace(taken, teacher=found.network, distill=_taught(conf.recipe, found))
    return taken


def teacher_path(conf: Config) -> str | None:
    """Say where the teacher lies; None if there is none."""
    named = conf.recipe.distill
    return conf.checkpoint if named == CHECKPOINT else named


def _trained(path: str, splits: Splits, own: Own) -> Pretrained:
    found = pretrained.read(path, own)
    _check_classes(path, found.classes, splits.train.classes)
    return found


def _check_split(conf: Config, found: Pretrained) -> None:
    """Refuse first weights that were learned from the images which measure this study's networks.

    Raises:
        SsrError: if they were.
    """
    ours = Split.model_validate(asdict(conf.dataset))
    if ours.train_on_val or found.split in (None, ours) or found.split.name != ours.name:
        return
    raise SsrError(
        f"the network in {conf.checkpoint} was trained on images that are val here (with "
        f"{_spelled(found.split)}, and this study has {_spelled(ours)}), so val would flatter what "
        "inherits from it: name a run of the same split, such as this study's modifiers=baseline "
        "with init=fresh."
    )


def _spelled(split: Split) -> str:
    return " ".join(
        f"dataset.{key}={str(value).lower()}"
        for key, value in split.model_dump().items()
        if key != "name"
    )


def _taught(recipe: RecipeConf, found: Pretrained) -> dict[str, Any]:
    return {
        "teacher": found.digest,
        "weight": recipe.distill_weight,
        "temperature": recipe.distill_temperature,
    }


def _whole(conf: Config, found: Pretrained, seed: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """Return the state dict of the whole seed network."""
    state: dict[str, Tensor] = found.network.state_dict()
    baseline = codes.write(plan, plan.baseline)
    try:
        rescale.load(copy.deepcopy(seed), state, source=str(conf.checkpoint))
    except SsrError as error:
        if found.model == seeds.spell(conf.model) and found.code not in (None, baseline):
            raise SsrError(
                f"the checkpoint {conf.checkpoint} is network {found.code}, not the baseline "
                f"{baseline}: init=inherit takes the whole seed network's weights."
            ) from None
        raise SsrError(
            f"{pretrained.difference(error)}; init=inherit takes the weights of the seed network, "
            f"{seeds.spell(conf.model)}, itself."
        ) from None
    return state


def _check_classes(path: str, theirs: Sequence[str] | None, ours: Sequence[str]) -> None:
    if theirs is None or list(theirs) == list(ours):
        return
    if len(theirs) != len(ours):
        said = f"{len(theirs)} classes, and this data set has {len(ours)}"
    else:
        pairs = zip(theirs, ours, strict=True)
        one, other = next(pair for pair in pairs if pair[0] != pair[1])
        said = f"other classes than this data set: {one!r} where it has {other!r}"
    raise SsrError(f"the network in {path} tells apart {said}; name one of the same classes.")


def _check_images(path: str, found: Pretrained, splits: Splits) -> None:
    if found.image_shape not in (None, splits.image_shape):
        theirs, ours = ("x".join(map(str, s)) for s in (found.image_shape, splits.image_shape))
        raise SsrError(
            f"the teacher in {path} takes images of {theirs} (channels x height x width), and this "
            f"data set's are {ours}: name a teacher of such images, or type recipe.distill=null."
        )
