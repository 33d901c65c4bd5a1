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
from ssr_exp.config import Config, Init
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, rescale, saved, seeds
from ssr_exp.rescaling.plan import Plan
from ssr_exp.runs import store, trained

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint"  # as `recipe.distill`: the teacher is the top-level one
KEYS = ("distill", "distill_weight", "distill_temperature")  # of the recipe
KINDS = (
    f"a folder with {saved.NETWORK} (such as the best/ of a search), the folder of a finished run, "
    "or a file with the seed network's state dict"
)


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

    # the trained seed network's `state_dict`; None: weights are drawn
    state: Mapping[str, Tensor] | None = None
    # in eval mode, on the CPU, and not to be changed; None: there is none
    teacher: nn.Module | None = None
    # what the fingerprint says of the weights; empty: nothing
    init: Mapping[str, str] = field(default_factory=dict)
    distill: Mapping[str, Any] = field(default_factory=dict)  # what it says of the teacher


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
        raise SsrError(f"{asked[0]} needs checkpoint=PATH: name {KINDS}.")
    if conf.checkpoint is not None and not asked:
        _warn(conf.checkpoint, " or ".join(reads))


@lru_cache(maxsize=64)
def _warn(path: str, words: str) -> None:
    """Warn once, not once for each run."""
    log.warning("checkpoint=%s is not read: type %s with it.", path, words)


def open(conf: Config, splits: Splits | UserData, seed: nn.Module, plan: Plan) -> Pretrained:
    """Read what `init`, `checkpoint` and `recipe.distill` name; a network once in a process.

    Raises:
        SsrError: if there is nothing to read, or it is of another network or of other classes.
    """
    pretrained, model = Pretrained(), seeds.spell(conf.model)
    if conf.init.kind is Init.inherit and conf.checkpoint is not None:
        source = read(conf.checkpoint, model, seed)
        _check_classes(conf.checkpoint, source, splits)
        _check_split(conf, source)
        init = {"kind": conf.init.kind.value, "channels": conf.init.channels.value}
        init |= {"checkpoint": source.digest}
        pretrained = replace(pretrained, state=_whole(conf, source, seed, plan), init=init)
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
    where = Path(path).expanduser()
    try:
        changed = where.stat().st_mtime_ns
    except OSError:
        raise SsrError(f"there is no checkpoint at {where}: name {KINDS}.") from None
    return _read(where, changed, model, seed)


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


def _whole(
    conf: Config, source: PretrainedNetwork, seed: nn.Module, plan: Plan
) -> dict[str, Tensor]:
    """Return the state dict of the whole seed network."""
    state: dict[str, Tensor] = source.network.state_dict()
    model, baseline, about = seeds.spell(conf.model), codes.write(plan, plan.baseline), source.about
    try:
        rescale.load(copy.deepcopy(seed), state, source=str(conf.checkpoint))
    except SsrError as error:
        if about is not None and about.model.name == model and about.network != baseline:
            raise SsrError(
                f"the checkpoint {conf.checkpoint} is network {about.network}, not the baseline "
                f"{baseline}: init=inherit takes the whole seed network's weights."
            ) from None
        raise SsrError(
            f"{_difference(error)}; init=inherit takes the weights of the seed network, {model}, "
            "itself."
        ) from None
    return state


def _difference(error: SsrError) -> str:
    """Keep what `rescale.load` says of the first difference, without its remedy."""
    return str(error).rpartition("; ")[0] or str(error).rstrip(".")


def _check_split(conf: Config, source: PretrainedNetwork) -> None:
    """Refuse first weights that were learned from the images which measure this study's networks.

    Raises:
        SsrError: if they were.
    """
    theirs, ours = source.split, Split.model_validate(asdict(conf.dataset))
    if ours.train_on_val or theirs in (None, ours) or theirs.name != ours.name:
        return
    raise SsrError(
        f"the network in {conf.checkpoint} was trained on images that are val here (with "
        f"{theirs}, and this study has {ours}), so val would flatter what inherits from it: name a "
        "run of the same split, such as this study's modifiers=baseline with init=fresh."
    )


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
