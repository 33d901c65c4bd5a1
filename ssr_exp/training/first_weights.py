"""The weights that trainings start from with `init=inherit`; how their images were normalised."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssr_exp import messages, terminal
from ssr_exp.config import Config, ModelConf, Normalization, Stem, TaskConf
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, saved, seeds, transfer, user_modules
from ssr_exp.rescaling.inputs import Signature
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.transfer import Transfer
from ssr_exp.training import checkpoints, own_module, published_weights
from ssr_exp.training.checkpoints import Split
from ssr_exp.training.config_key import ConfigKey

log = logging.getLogger(__name__)

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of R, G, B
FAR = 0.02  # between two means or standard deviations of pixels in 0..1
MOST_NAMED = 6  # tensors in a line
TARGET = "target"  # as a checkpoint: what a module of the user's own loads when it is made
OWN = "a network trained before"  # where a folder or a file would be named

Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel of the images, in 0..1."""


@dataclass(frozen=True, eq=False)
class FirstWeights:
    """What `init=inherit` takes from a checkpoint.

    Attributes:
        state: a part of the seed network's state dict, or all of it; what is missing is drawn.
        digest: of names, shapes and values of it.
        about: whose weights they are and what of them is drawn, for people; names no folder.
        split: of the images that they were trained on, if these may be the study's.
        moments: that these were normalised by, if it is known.
        prepared: how else these were prepared, in words.
    """

    state: Mapping[str, Tensor]
    digest: str
    about: Mapping[str, Any]
    split: Split | None = None
    moments: Moments | None = None
    prepared: str = ""


def read(conf: Config, splits: Splits | UserData, seed: nn.Module, plan: Plan) -> FirstWeights:
    """Read the checkpoint, and fit it to the seed network; once in a process.

    Says what is drawn instead, and how the images of the weights were normalised if the study's
    are not.

    Raises:
        SsrError: if there is nothing to read, or it is of another network.
    """
    assert conf.checkpoint is not None  # see `pretrained.check`
    if conf.checkpoint == TARGET:
        classes, channels = splits.num_classes, splits.image_shape[0]
        return _constructed(ConfigKey(conf.model), ConfigKey(conf.task), seed, classes, channels)
    first = _read(
        conf.checkpoint,
        checkpoints.changed(conf.checkpoint),
        ConfigKey(conf.model),
        seed,
        codes.write(plan, plan.baseline),
        splits.classes,
        splits.image_shape,
        ConfigKey(plan.inputs),
    )
    is_own = conf.dataset.normalize is Normalization.own and not conf.dataset.train_on_val
    if is_own and isinstance(splits, Splits):
        _offer_normalization(conf.checkpoint, first, splits)
    return first


@lru_cache(maxsize=4)
def _constructed(
    model: ConfigKey[ModelConf],
    task: ConfigKey[TaskConf],
    seed: nn.Module,
    num_classes: int | None,
    channels: int,
) -> FirstWeights:
    """Take the weights that the constructor of a module of the user's own gives its network.

    Those that it draws anew each time are drawn; says which.

    Raises:
        SsrError: if the network is none of such a module, or all of its weights are drawn.
    """
    if not seeds.is_part(model.part):
        raise SsrError(
            "checkpoint=target takes what the constructor of your own module loads: type "
            "task=module, or checkpoint=PATH."
        )
    name = f"the constructor of {task.part.target}"
    found = own_module.constructed(task.part, user_modules.offered(num_classes, channels))
    if not found.share:
        raise SsrError(
            f"checkpoint=target starts networks from what {name} loads, and it draws all weights "
            "anew each time: load trained ones there, or type init=fresh checkpoint=null."
        )
    if found.drawn:
        log.info("%s starts from %s; drawn anew: %s.", model.part.name, name, named(found.drawn))
    state = copy.deepcopy({n: t for n, t in seed.state_dict().items() if n in found.same})
    about = {"from": name, "drawn": [*found.drawn], "adapted": []}
    return FirstWeights(state, checkpoints.digest(state), about)


@lru_cache(maxsize=4)
def _read(
    checkpoint: str,
    _changed: int,
    key: ConfigKey[ModelConf],
    seed: nn.Module,
    baseline: str,
    classes: tuple[str, ...],
    image_shape: tuple[int, ...],
    inputs: ConfigKey[Signature],
) -> FirstWeights:
    weights: Mapping[str, Tensor]
    conf, about, split, moments, prepared = key.part, None, None, None, ""
    name, takes_head = OWN, True
    if published_weights.is_published(checkpoint):
        published = published_weights.describe(checkpoint, conf)
        weights, name = published_weights.read(checkpoint, conf), published.name
        moments = published.mean, published.std
        sides = "x".join(map(str, published.size))
        prepared = f" of {sides} pixels (scaled by {published.interpolation} interpolation)"
    elif Path(checkpoint).expanduser().is_file():
        path = Path(checkpoint).expanduser()
        weights = published_weights.named_as_today(checkpoints.state_dict(path))
        split = checkpoints.split_beside(path, classes)
    else:
        source = checkpoints.read(checkpoint, seeds.spell(conf), seed)
        weights, about = source.network.state_dict(), source.about
        assert about is not None  # of a folder
        takes_head, moments = about.classes == classes, about.moments
        split = source.split if takes_head else None  # other classes are of other images
    try:
        taken = transfer.fit(
            weights, seed, inputs.part, takes_head=takes_head, exact=about is not None
        )
    except SsrError as error:
        raise _refused(checkpoint, about, conf, baseline, str(error)) from None
    _say(checkpoint if name == OWN else name, conf, image_shape, taken)
    said = {"from": name, "drawn": list(taken.fresh), "adapted": list(taken.adapted)}
    digest = checkpoints.digest(taken.state)
    return FirstWeights(taken.state, digest, said, split, moments, prepared)


def _refused(
    checkpoint: str, about: saved.Description | None, conf: ModelConf, baseline: str, why: str
) -> SsrError:
    model = seeds.spell(conf)
    if about is not None and about.model.name == model and about.network != baseline:
        return SsrError(
            f"the checkpoint {checkpoint} is network {about.network}, not the baseline "
            f"{baseline}: init=inherit takes the whole seed network's weights."
        )
    return SsrError(
        f"the checkpoint {checkpoint} does not fit this network: {why}; init=inherit takes the "
        f"weights of the seed network, {model}, itself."
    )


def _say(name: str, conf: ModelConf, image_shape: tuple[int, ...], taken: Transfer) -> None:
    """Say in a line what of a seed network is not as in a checkpoint."""
    is_small = conf.stem is Stem.auto and seeds.publisher(conf) is not None
    is_small = is_small and seeds.stem(conf, image_shape) is Stem.cifar
    stem = set(taken.stem) & set(taken.fresh) if is_small else ()
    parts = {
        "drawn anew": taken.fresh,
        "fitted to the channels of the images": taken.adapted,
        "not used": taken.unused,
        "kept with model.stem=imagenet": sorted(stem),
    }
    words = "; ".join(f"{what}: {named(names)}" for what, names in parts.items() if names)
    if words:
        log.info("%s starts from %s; %s.", seeds.spell(conf), name, words)


def named(tensors: Sequence[str]) -> str:
    """Name the first of some tensors, and say how many more there are."""
    return terminal.first_of(tensors, MOST_NAMED)


def moments(conf: Config, splits: Splits | UserData, seed: nn.Module) -> Moments | None:
    """Say what `dataset.normalize` normalises images by; None: the study's own statistics.

    For grey images it is the mean over the channels of colour. No file of weights is read.

    Raises:
        SsrError: if the checkpoint does not say how its images were normalised, or the data set
            is the user's own.
    """
    if conf.dataset.normalize is Normalization.own:
        return None
    if not isinstance(splits, Splits):
        raise SsrError(
            f"dataset.normalize={conf.dataset.normalize.value} is not for dataset=module: your "
            "DataModule normalises by itself; leave it out."
        )
    if conf.dataset.normalize is Normalization.imagenet:
        return _of_channels(IMAGENET, splits)
    assert conf.checkpoint is not None  # see `pretrained.check`
    if published_weights.is_published(conf.checkpoint):
        published = published_weights.describe(conf.checkpoint, conf.model)
        return _of_channels((published.mean, published.std), splits)
    if Path(conf.checkpoint).expanduser().is_file():
        raise SsrError(
            f"the file {conf.checkpoint} does not say how its images were normalised: type "
            "dataset.normalize=imagenet if as those of ImageNet usually are, else "
            "dataset.normalize=own."
        )
    about = checkpoints.read(conf.checkpoint, seeds.spell(conf.model), seed).about
    assert about is not None  # of a folder
    if (known := about.moments) is None:
        raise SsrError(
            f"the network in {conf.checkpoint} learned from data of a project's own, which does "
            "not say how it was normalised: type dataset.normalize=own or imagenet."
        )
    return _of_channels(known, splits)


def _of_channels(given: Moments, splits: Splits) -> Moments:
    """Give as many as the images have channels."""
    count = splits.image_shape[0]
    if len(given[0]) == count:
        return given
    mean, std = (sum(values) / len(values) for values in given)
    return (mean,) * count, (std,) * count


def _offer_normalization(checkpoint: str, first: FirstWeights, splits: Splits) -> None:
    """Say how the images of weights were prepared, where the study's are not."""
    if first.moments is None:
        return
    theirs, ours = _of_channels(first.moments, splits), (splits.mean, splits.std)
    if are_far(theirs, ours):
        name = first.about["from"]
        messages.say_once(
            log,
            f"the weights of {checkpoint if name == OWN else name} were learned from images"
            f"{first.prepared} normalised with {said(theirs)}, and this study normalises with "
            f"{said(ours)}: type dataset.normalize=checkpoint to do as they did.",
            logging.INFO,
        )


def are_far(one: Moments, other: Moments) -> bool:
    """Say whether two normalisations are not those of different parts of the same images."""
    pairs = zip(one[0] + one[1], other[0] + other[1], strict=True)
    return any(abs(a - b) > FAR for a, b in pairs)


def said(given: Moments) -> str:
    """Say a mean and a standard deviation of each channel."""
    mean, std = ([f"{value:.3g}" for value in values] for values in given)
    return f"mean {', '.join(mean)} and std {', '.join(std)}"
