"""Networks that were trained before, wherever their weights lie: a folder, a run, or a file.

A folder that `saved.write` made says all of its network, and so does the study's that a run's
folder lies in; of an older study, images and classes are taken to be like this one's. A file holds
a state dict and nothing else, so it must be the seed network's own.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ssr_exp import files
from ssr_exp.config import ModelConf, SegmentConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, rescale, saved, seed_segments, seeds
from ssr_exp.runs import store, studies
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import LAST_CHECKPOINT

KINDS = (
    f"a folder with {saved.NETWORK} (such as the best/ of a search), the folder of a finished run, "
    "or a file with the seed network's state dict"
)


class Split(BaseModel):
    """Which images of a data set a network was trained on."""

    model_config = ConfigDict(frozen=True)

    name: str
    val_fraction: float
    split_seed: int
    train_on_val: bool = False


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A network that was trained before, and what is known of it.

    Args:
        network: in eval mode, on the CPU; not to be changed.
        digest: of names, shapes and values of its state dict.
        model: its seed network, as `seeds.spell` writes it; None if only weights are known.
        code: of the network, likewise.
        classes: the names of the logits, if they are known.
        image_shape: channels, height and width of its images in pixels, if they are known.
        split: of the images that it was trained on, if it is known.
    """

    network: nn.Module
    digest: str
    model: str | None = None
    code: str | None = None
    classes: tuple[str, ...] | None = None
    image_shape: tuple[int, int, int] | None = None
    split: Split | None = None


class _Study(BaseModel):
    """What decides the results of a study, as far as it is read here."""

    dataset: Split


class _Asked(BaseModel):
    """What a run's network is, of all that it was asked to do."""

    model: ModelConf
    segment: SegmentConf


@dataclass(frozen=True)
class Own:
    """What the study itself is, where a checkpoint does not say.

    Args:
        model: its seed network, as `seeds.spell` writes it.
        seed: as its constructor left it; a file must hold its weights.
        num_classes: how many classes there are.
        image_shape: channels, height and width of the images, in pixels.
    """

    model: str
    seed: nn.Module
    num_classes: int
    image_shape: tuple[int, int, int]


def read(path: str, own: Own) -> Pretrained:
    """Read a trained network; once in a process, as long as it is not written anew.

    Args:
        path: a folder that `saved.write` made, a run's folder, or a file with a state dict.
        own: the study's own network.

    Raises:
        SsrError: if there is nothing there, or it is damaged or of another network.
    """
    where = Path(path).expanduser()
    try:
        changed = where.stat().st_mtime_ns
    except OSError:
        raise SsrError(f"there is no checkpoint at {where}: name {KINDS}.") from None
    return _read(where, changed, own)


@lru_cache(maxsize=4)
def _read(where: Path, _changed: int, own: Own) -> Pretrained:
    if where.is_file():
        return _of_file(where, own.seed)
    if (where / saved.NETWORK).exists():
        return _of_folder(where, own)
    if (where / store.RECORD_FILE).exists():
        return _of_run(where, own)
    raise SsrError(f"{where} holds neither {saved.NETWORK} nor {store.RECORD_FILE}: name {KINDS}.")


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


def _of_file(path: Path, seed: nn.Module) -> Pretrained:
    network = copy.deepcopy(seed)
    try:
        rescale.load(network, state_dict(path), source=str(path))
    except SsrError as error:
        raise SsrError(f"{difference(error)}; a file must hold the seed network's.") from None
    return _trained(network)


def _of_folder(folder: Path, own: Own) -> Pretrained:
    about = saved.read(folder)
    _check_code(folder, about.model, own)
    return _trained(
        saved.load(folder, trust=True),
        model=about.model.name,
        code=about.network,
        classes=about.classes,
        image_shape=about.input_shape,
        split=_split(folder),
    )


def _of_run(folder: Path, own: Own) -> Pretrained:
    record = store.Store(folder).read(folder)
    if record is None or record.status is not Status.finished:
        ended = "cannot be read" if record is None else record.status.value
        raise SsrError(f"the run in {folder} {ended}: name the folder of one that finished.")
    try:
        asked = files.read(folder / store.CONFIG_FILE, _Asked, version=1)
    except (FileNotFoundError, files.Unreadable) as error:
        raise SsrError(
            f"{folder / store.CONFIG_FILE} cannot be used ({error}): name {KINDS}."
        ) from None
    name = seeds.spell(asked.model)
    _check_code(folder, saved.Model(name=name), own)
    study = folder.resolve().parents[1]
    about = saved.read(study) if (study / saved.NETWORK).exists() else None
    if about is not None:
        own = replace(own, num_classes=about.num_classes, image_shape=about.input_shape)
    network, path = _built(folder, asked, record.network, own), folder / LAST_CHECKPOINT
    try:
        rescale.load(network, state_dict(path), source=str(path))
    except SsrError as error:
        raise SsrError(
            f"{difference(error)}; name a run with as many classes, and images of this size."
        ) from None
    return _trained(
        network,
        model=name,
        code=record.network,
        classes=about and about.classes,
        image_shape=about and about.input_shape,
        split=_split(study),
    )


def _split(folder: Path) -> Split | None:
    try:
        return files.read(folder / studies.FILE, _Study, version=1).dataset
    except (FileNotFoundError, files.Unreadable):
        return None


def _check_code(folder: Path, model: saved.Model, own: Own) -> None:
    """Call no function of a checkpoint's choice: it may do anything. Classes need no trust."""
    if model.name != own.model and model.calls_code(folder):
        raise SsrError(
            f"the network in {folder} is made by the function {model.name}, which is not called "
            "because a file says so: name a network of this study's model, or one made by a class."
        )


def _built(folder: Path, asked: _Asked, code: str, own: Own) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):
            seed, plan = seed_segments.build(
                asked.model,
                asked.segment,
                num_classes=own.num_classes,
                input_shape=own.image_shape,
            )
            return rescale.build(seed, plan, codes.parse(plan, code), inherits=True)
    except SsrError as error:
        raise SsrError(f"the network of the run in {folder} cannot be built: {error}") from None


def _trained(network: nn.Module, **known: Any) -> Pretrained:
    network.eval().requires_grad_(False)
    return Pretrained(network, digest(network.state_dict()), **known)


def difference(error: SsrError) -> str:
    """Keep what `rescale.load` says of the first difference, without its remedy."""
    return str(error).rpartition("; ")[0] or str(error).rstrip(".")
