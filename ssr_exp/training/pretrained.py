"""What a study takes from networks that were trained before: first weights, or a teacher.

Neither is the default. Both are part of a study's fingerprint, by content and not by path, so that
such runs are never compared with plain ones.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from ssr_exp import files
from ssr_exp.config import Config, Init, ModelConf, Normalization
from ssr_exp.datasets.images import Splits
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, rescale, saved, seeds, transfer
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.transfer import Transfer
from ssr_exp.runs import store, trained
from ssr_exp.training import published_weights
from ssr_exp.training.published_weights import PublishedWeights

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"  # as `recipe.distill`: the teacher is the top-level one
KEYS = ("distill", "distill_weight", "distill_temperature")  # of the recipe
KINDS = (
    f"a folder with {saved.NETWORK} (such as the best/ of a search), the folder of a finished run, "
    "or a file with the seed network's state dict"
)
ANY_KIND = f"{KINDS}, or torchvision or timm for what they publish"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of R, G, B
NAMED = 6  # tensors in a line

Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel of the images, in 0..1."""


class Split(BaseModel):
    """Which images of a data set a network was trained on."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    val_fraction: float
    split_seed: int
    train_on_val: bool = False

    def __str__(self) -> str:
        """Say it in the words of a command line."""
        fields = self.model_dump(exclude={"name"}).items()
        return " ".join(f"dataset.{key}={str(value).lower()}" for key, value in fields)


@dataclass(frozen=True, eq=False)
class PretrainedNetwork:
    """A network that was trained before, and what is known of it."""

    network: nn.Module  # in eval mode, on the CPU; not to be changed
    digest: str  # of names, shapes and values of its state dict
    # how it is built, and what its logits mean; None if only weights are known
    about: saved.Description | None = None
    split: Split | None = None  # of the images that it was trained on, if it is known


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What trainings start from and learn from, besides images."""

    # the trained seed network's `state_dict`, less what is drawn anew; None: all is drawn
    state: Mapping[str, Tensor] | None = None
    # in eval mode, on the CPU, and not to be changed; None: there is none
    teacher: nn.Module | None = None
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
        raise SsrError(f"{asked[0]} needs checkpoint=PATH: name {ANY_KIND}.")
    if conf.checkpoint is not None and not asked:
        _warn(conf.checkpoint, " or ".join(list(reads)[:2]))


@lru_cache(maxsize=64)
def _warn(path: str, words: str) -> None:
    """Warn once, not once for each run."""
    log.warning("checkpoint=%s is not read: type %s with it.", path, words)


def open(conf: Config, splits: Splits, seed: nn.Module, plan: Plan) -> Pretrained:
    """Read what `init`, `checkpoint` and `recipe.distill` name; a network once in a process.

    Raises:
        SsrError: if there is nothing to read, or it is of another network or of other classes.
    """
    pretrained, model = Pretrained(moments=_moments(conf, splits, seed)), seeds.spell(conf.model)
    if conf.init.kind is Init.inherit and conf.checkpoint is not None:
        first = _first_weights(
            conf.checkpoint,
            _changed(conf.checkpoint),
            _ConfKey(conf.model),
            seed,
            codes.write(plan, plan.baseline),
            splits.train.classes,
            splits.image_shape,
        )
        _check_split(conf, first.split)
        _offer_preprocessing(conf, first, splits)
        init = {"kind": conf.init.kind.value, "channels": conf.init.channels.value}
        init |= {"checkpoint": first.digest}
        pretrained = replace(pretrained, state=first.state, init=init, about=first.about)
    if (path := teacher_path(conf)) is not None:
        source = read(path, model, seed)
        _check_classes(path, source, splits)
        _check_images(path, source, splits)
        weight, temperature = conf.recipe.distill_weight, conf.recipe.distill_temperature
        distill = {"teacher": source.digest, "weight": weight, "temperature": temperature}
        pretrained = replace(pretrained, teacher=source.network, distill=distill)
    return pretrained


def teacher_path(conf: Config) -> str | None:
    """Say where the teacher lies; None if there is none."""
    named = conf.recipe.distill
    return conf.checkpoint if named == CHECKPOINT else named


def read(path: str, model: str, seed: nn.Module) -> PretrainedNetwork:
    """Read a trained network; once in a process, as long as it is not written anew.

    Args:
        path: a folder that `saved.write` made, a run's folder, or a file with a state dict.
        model: the study's seed network, as `seeds.spell` writes it.
        seed: as its constructor left it; a file must hold its weights.

    Raises:
        SsrError: if there is nothing there, or it is damaged or of another network.
    """
    if published_weights.is_published(path):
        raise SsrError(
            f"{path} tells apart classes of its own, and a teacher must tell apart this data "
            "set's: train the seed network with init=inherit, and name that run."
        )
    return _read(Path(path).expanduser(), _changed(path), model, seed)


@lru_cache(maxsize=4)
def _read(where: Path, _changed: int, model: str, seed: nn.Module) -> PretrainedNetwork:
    if where.is_file():
        network = copy.deepcopy(seed)
        try:
            rescale.load(network, state_dict(where), source=str(where))
        except SsrError as error:
            raise SsrError(f"{_difference(error)}; a file must hold the seed network's.") from None
        return _source(network)
    if not any((where / name).exists() for name in (saved.NETWORK, store.RECORD_FILE)):
        raise SsrError(
            f"{where} holds neither {saved.NETWORK} nor {store.RECORD_FILE}: name {KINDS}."
        )
    remedy = "name a network of this study's model, or one made by a class"
    source = trained.read(where, remedy, trusted_model=model)
    try:
        split = Split.model_validate(source.study.get("dataset"))
    except ValidationError:
        split = None
    return _source(source.network, source.about, split)


def _source(
    network: nn.Module, about: saved.Description | None = None, split: Split | None = None
) -> PretrainedNetwork:
    network.eval().requires_grad_(False)
    return PretrainedNetwork(network, digest(network.state_dict()), about, split)


def digest(state: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and values of a state dict on the CPU, in hex."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().contiguous()
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict, as data only: a file of `torch.save`, or a Lightning checkpoint.

    Of a checkpoint's names only those after `network.` are kept, if there are any.

    Raises:
        SsrError: if the file is damaged or holds something else.
    """
    try:
        state = files.read_state_dict(path)
    except (FileNotFoundError, files.Unreadable) as error:
        raise SsrError(f"{path} cannot be read as a checkpoint ({error}): name {KINDS}.") from None
    prefix = "network."
    network = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    return network or state


@dataclass(frozen=True, eq=False)
class _FirstWeights:
    """What `init=inherit` takes from a checkpoint."""

    state: Mapping[str, Tensor]  # of the seed network; what is missing is drawn
    digest: str
    about: Mapping[str, Any]
    split: Split | None = None
    moments: Moments | None = None  # that its images were normalised by, if that is known
    published: PublishedWeights | None = None


class _ConfKey:
    """A seed network's configuration as a key of a cache: equal where all its values are."""

    def __init__(self, conf: ModelConf) -> None:
        self.conf = conf
        self._text = repr(conf)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ConfKey) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@lru_cache(maxsize=4)
def _first_weights(
    checkpoint: str,
    changed: int,
    key: _ConfKey,
    seed: nn.Module,
    baseline: str,
    classes: tuple[str, ...],
    image_shape: tuple[int, ...],
) -> _FirstWeights:
    """Read a checkpoint, and fit it to the seed network; say what is drawn instead."""
    conf, model = key.conf, seeds.spell(key.conf)
    about, split, published, takes_head = None, None, None, True
    weights: Mapping[str, Tensor]
    if published_weights.is_published(checkpoint):
        published = published_weights.describe(checkpoint, conf)
        weights = published_weights.read(checkpoint, conf)
    elif (where := Path(checkpoint).expanduser()).is_file():
        weights = state_dict(where)
    else:
        source = _read(where, changed, model, seed)
        weights, about, split = source.network.state_dict(), source.about, source.split
        takes_head = about is None or about.classes == classes
    try:
        taken = transfer.fit(
            weights, seed, image_shape, takes_head=takes_head, exact=about is not None
        )
    except SsrError as error:
        if about is not None and about.model.name == model and about.network != baseline:
            raise SsrError(
                f"the checkpoint {checkpoint} is network {about.network}, not the baseline "
                f"{baseline}: init=inherit takes the whole seed network's weights."
            ) from None
        raise SsrError(
            f"the checkpoint {checkpoint} is not of this network: {error}; init=inherit takes "
            f"the weights of the seed network, {model}, itself."
        ) from None
    name = published.name if published else checkpoint
    _say(name, model, taken)
    moments = (published.mean, published.std) if published else None
    return _FirstWeights(
        taken.state,
        digest(taken.state),
        {
            "from": published.name if published else "a network trained before",
            "drawn": list(taken.fresh),
            "adapted": list(taken.adapted),
        },
        split,
        (about.mean, about.std) if about else moments,
        published,
    )


def _say(name: str, model: str, taken: Transfer) -> None:
    """Say in a line what of a seed network is not as in a checkpoint."""
    parts = []
    if taken.fresh:
        parts.append(f"drawn anew: {_named(taken.fresh)}")
    if taken.adapted:
        parts.append(f"fitted to the channels of the images: {_named(taken.adapted)}")
    if taken.unused:
        parts.append(f"not used: {_named(taken.unused)}")
    if parts:
        log.info("%s takes its weights from %s; %s.", model, name, "; ".join(parts))


def _named(tensors: Sequence[str]) -> str:
    more = len(tensors) - NAMED
    return ", ".join(tensors[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _changed(checkpoint: str) -> int:
    """Say when a checkpoint was written; 0 for published weights.

    Raises:
        SsrError: if there is none.
    """
    if published_weights.is_published(checkpoint):
        return 0
    where = Path(checkpoint).expanduser()
    try:
        return where.stat().st_mtime_ns
    except OSError:
        raise SsrError(f"there is no checkpoint at {where}: name {ANY_KIND}.") from None


def _moments(conf: Config, splits: Splits, seed: nn.Module) -> Moments | None:
    """Say what images are normalised by; None: by the study's own statistics.

    Raises:
        SsrError: if the checkpoint does not say it, or says it of other channels.
    """
    if conf.dataset.normalize is Normalization.own:
        return None
    if conf.dataset.normalize is Normalization.imagenet:
        return _of_channels(IMAGENET, splits)
    checkpoint = conf.checkpoint
    assert checkpoint is not None  # see `check`
    if published_weights.is_published(checkpoint):
        published = published_weights.describe(checkpoint, conf.model)
        return _of_channels((published.mean, published.std), splits)
    changed, where = _changed(checkpoint), Path(checkpoint).expanduser()
    about = None
    if not where.is_file():
        about = _read(where, changed, seeds.spell(conf.model), seed).about
    if about is None:
        raise SsrError(
            f"the file {checkpoint} does not say how its images were normalised: type "
            "dataset.normalize=imagenet if it was learned from images normalised as those of "
            "ImageNet, or dataset.normalize=own."
        )
    return _of_channels((about.mean, about.std), splits)


def _of_channels(moments: Moments, splits: Splits) -> Moments:
    """Give as many as the images have channels: for grey ones of RGB the means of the three."""
    count = splits.image_shape[0]
    if len(moments[0]) == count:
        return moments
    mean, std = (sum(values) / len(values) for values in moments)
    return (mean,) * count, (std,) * count


def _offer_preprocessing(conf: Config, first: _FirstWeights, splits: Splits) -> None:
    """Say how the images of weights were prepared, where the study's are not."""
    if first.moments is None or conf.dataset.normalize is not Normalization.own:
        return
    theirs, ours = _of_channels(first.moments, splits), (splits.mean, splits.std)
    if theirs == ours:
        return
    size = ""
    if first.published is not None:
        sides = "x".join(map(str, first.published.size))
        size = f" at {sides} pixels ({first.published.interpolation})"
    _remark(
        f"{first.about['from']} learned from images{size} normalised with mean "
        f"{_numbers(theirs[0])} and std {_numbers(theirs[1])}; this study uses those of its own "
        f"images, mean {_numbers(ours[0])} and std {_numbers(ours[1])}: type "
        "dataset.normalize=checkpoint to use the weights'."
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


@lru_cache(maxsize=64)
def _remark(text: str) -> None:
    """Say once, not once for each run."""
    log.info("%s", text)


def _difference(error: SsrError) -> str:
    """Keep what `rescale.load` says of the first difference, without its remedy."""
    return str(error).rpartition("; ")[0] or str(error).rstrip(".")


def _check_split(conf: Config, theirs: Split | None) -> None:
    """Refuse first weights that were learned from the images which measure this study's networks.

    Raises:
        SsrError: if they were.
    """
    ours = Split.model_validate(asdict(conf.dataset))
    if ours.train_on_val or theirs in (None, ours) or theirs.name != ours.name:
        return
    raise SsrError(
        f"the network in {conf.checkpoint} was trained on images that are val here (with "
        f"{theirs}, and this study has {ours}), so val would flatter what inherits from it: name a "
        "run of the same split, such as this study's modifiers=baseline with init=fresh."
    )


def _check_classes(path: str, source: PretrainedNetwork, splits: Splits) -> None:
    ours: Sequence[str] = splits.train.classes
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


def _check_images(path: str, source: PretrainedNetwork, splits: Splits) -> None:
    if source.about is not None and source.about.input_shape != splits.image_shape:
        shapes = source.about.input_shape, splits.image_shape
        theirs, ours = ("x".join(map(str, shape)) for shape in shapes)
        raise SsrError(
            f"the teacher in {path} takes images of {theirs} (channels x height x width), and this "
            f"data set's are {ours}: name a teacher of such images, or type recipe.distill=null."
        )
