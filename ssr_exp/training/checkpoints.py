"""Networks that were trained before: a folder of ours, or a file of weights from anywhere."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import rescale, saved
from ssr_exp.runs import store, studies, trained
from ssr_exp.training import published_weights
from ssr_exp.training.learning import TargetMoments

KINDS = (
    f"a folder with {saved.NETWORK} (such as the best/ of a search), the folder of a finished run, "
    "or a file with the seed network's state dict"
)
ANY_KIND = f"{KINDS}, or torchvision or timm for what they publish"


class Split(BaseModel):
    """Which images of a data set a network was trained on."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    val_fraction: float
    split_seed: int
    train_on_val: bool = False
    content: str | None = None  # a fingerprint of images and split; None: not known

    @property
    def words(self) -> dict[str, Any]:
        """What a command line says of it."""
        return self.model_dump(exclude={"name", "content"})

    def __str__(self) -> str:
        """Say it in the words of a command line."""
        fields = self.words.items()
        return " ".join(f"dataset.{key}={str(value).lower()}" for key, value in fields)


@dataclass(frozen=True, eq=False)
class PretrainedNetwork:
    """A network that was trained before, and what is known of it."""

    network: nn.Module  # in eval mode, on the CPU; not to be changed
    digest: str  # of names, shapes and values of its state dict
    # how it is built, and what its logits mean; None if only weights are known
    about: saved.Description | None = None
    split: Split | None = None  # of the images that it was trained on, if it is known
    target_moments: TargetMoments | None = None  # that outputs are standardised by, if known


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
    return _read(Path(path).expanduser(), changed(path, KINDS), model, seed)


@lru_cache(maxsize=4)
def _read(where: Path, _changed: int, model: str, seed: nn.Module) -> PretrainedNetwork:
    if where.is_file():
        network = copy.deepcopy(seed)
        try:
            rescale.load(network, state_dict(where), source=str(where))
        except SsrError as error:
            raise SsrError(f"{_difference(error)}; a file must hold the seed network's.") from None
        return _source(network, None, split_beside(where), _moments(_beside(where)))
    if not any((where / name).exists() for name in (saved.NETWORK, store.RECORD_FILE)):
        raise SsrError(
            f"{where} holds neither {saved.NETWORK} nor {store.RECORD_FILE}: name {KINDS}."
        )
    remedy = "name a network of this study's model, or one made by a class"
    source = trained.read(where, remedy, trusted_model=model)
    moments = _moments(source.about)
    return _source(source.network, source.about, _split(source.study), moments)


def _split(study: Mapping[str, Any]) -> Split | None:
    """Read on which images a study's networks were trained; None if it does not say it."""
    try:
        return Split.model_validate(study.get("dataset"))
    except ValidationError:
        return None


def split_beside(path: Path, classes: tuple[str, ...] | None = None) -> Split | None:
    """Read on which images a file of weights was trained; None where it lies in no folder of ours.

    Args:
        path: of the file, such as a run's `last.ckpt`.
        classes: of the images that count, as of other classes are other images; None: any.
    """
    home = _home(path)
    if home is None or (classes is not None and saved.read(home).classes != classes):
        return None
    return _split(files.read_or_empty(home / studies.FILE))


def _home(path: Path) -> Path | None:
    """Find the folder that describes the network of a file; None where there is none of ours."""
    folder = path.resolve().parent
    is_run = (folder / store.RECORD_FILE).exists() and not (folder / saved.NETWORK).exists()
    home = folder.parents[1] if is_run else folder
    return home if (home / saved.NETWORK).exists() else None


def _beside(path: Path) -> saved.Description | None:
    """Read what describes the network of a file; None where nothing does, or it is damaged."""
    home = _home(path)
    with suppress(SsrError):
        return None if home is None else saved.read(home)
    return None


def _moments(about: saved.Description | None) -> TargetMoments | None:
    """Say what outputs are standardised by; None where they are no such numbers."""
    if about is None or about.target_mean is None or about.target_std is None:
        return None
    return about.target_mean, about.target_std


def _source(
    network: nn.Module,
    about: saved.Description | None,
    split: Split | None,
    moments: TargetMoments | None,
) -> PretrainedNetwork:
    network.eval().requires_grad_(False)
    return PretrainedNetwork(network, digest(network.state_dict()), about, split, moments)


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


def changed(checkpoint: str, kinds: str = ANY_KIND) -> int:
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
        raise SsrError(f"there is no checkpoint at {where}: name {kinds}.") from None


def _difference(error: SsrError) -> str:
    """Keep what `rescale.load` says of the first difference, without its remedy."""
    return str(error).rpartition("; ")[0] or str(error).rstrip(".")
