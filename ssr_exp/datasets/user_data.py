"""Data of the user's own: a LightningDataModule, as it is, and what is known of it."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from ssr_exp import user_code
from ssr_exp.config import DatasetConf
from ssr_exp.datasets.reading import Reading
from ssr_exp.errors import SsrError

log = logging.getLogger(__name__)

# Whose order all devices know: Lightning shares the first two out itself.
SHARED = (RandomSampler, SequentialSampler, DistributedSampler)


@dataclass(frozen=True, eq=False)
class UserData:
    """What a study knows of a DataModule of the user's own.

    Attributes:
        name: of its class.
        fingerprint: of its sizes and of its val set, see `datasets/data_fingerprint.py`.
        before: the fingerprint that studies were begun with before samplers were looked at; empty:
            the same.
        image_shape: of one input of the network, without the batch.
        num_classes: how many logits networks put out; None: the user's own module decides.
        has_test: whether it has test data.
        reading: what was read, to be said on screen and kept with the study.
    """

    name: str
    fingerprint: str
    image_shape: tuple[int, ...]
    num_classes: int | None
    has_test: bool
    reading: Reading
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    preprocessing: None = None  # of image files: it is the user's own
    before: str = ""


def make(conf: DatasetConf) -> LightningDataModule:
    """Make the DataModule that a configuration names.

    Raises:
        SsrError: if there is none, it cannot be made, or it has nothing for train or val.
    """
    target = str(conf.target)
    made = user_code.call(target, conf.arguments, "dataset.target", {})
    if not isinstance(made, LightningDataModule):
        raise SsrError(
            f"{target} returns {user_code.article(made)}{is_other_lightning(made)}, not a "
            "LightningDataModule: dataset.target must name its class, or a function that makes one."
        )
    for part in ("train", "val"):
        if not is_overridden(f"{part}_dataloader", made, LightningDataModule):
            raise SsrError(
                f"{target} has no {part}_dataloader: networks are trained on train and compared by "
                f"val: add def {part}_dataloader(self) that returns a DataLoader."
            )
    return made


def is_trusted(conf: DatasetConf, folder: Path) -> bool:
    """Say whether a file may name what makes a DataModule: a class of them, called with plain data.

    Args:
        conf: what the file says.
        folder: of the file, which could bring code along.
    """
    target = str(conf.target)
    if user_code.lies_in(target, folder) or user_code.calls(conf.arguments):
        return False
    makes = user_code.find(target, "dataset.target")
    return inspect.isclass(makes) and issubclass(makes, LightningDataModule)


def is_other_lightning(value: object) -> str:
    """Say of an object of the other package of Lightning what to change in its code."""
    kinds = {kind.__module__.partition(".")[0] for kind in type(value).__mro__}
    if "pytorch_lightning" not in kinds:
        return ""
    return (
        " of pytorch_lightning (import it from lightning.pytorch instead, where it is the same: "
        "import lightning.pytorch as pl)"
    )


class Whole:
    """A loader that Lightning shares out to no process: each sees all of it.

    Args:
        loader: of the user's own; whatever it has, this has.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def share_out(data: LightningDataModule) -> None:
    """Let several processes share train, which Lightning sees to, and each see all of val and test.

    So what a module logs there is of the whole set, however it measures; shared, it would be of
    some images twice.
    """
    for part in ("train", "val", "test"):
        change = partial(_shareable, type(data).__name__) if part == "train" else _whole
        where = f"{part}_dataloader"
        if is_overridden(where, data, LightningDataModule):
            setattr(data, where, partial(_changed, getattr(data, where), change))


def _changed(loaders: Callable[[], Any], change: Callable[[Any], Any]) -> Any:
    return change(loaders())


def _whole(loaders: Any) -> Any:
    if isinstance(loaders, DataLoader):
        return Whole(loaders)
    if isinstance(loaders, Mapping):
        return {name: _whole(loader) for name, loader in loaders.items()}
    if isinstance(loaders, Sequence):
        return [_whole(loader) for loader in loaders]
    if isinstance(loaders, CombinedLoader):
        loaders.flattened = [_whole(loader) for loader in loaders.flattened]
    return loaders


def _shareable(name: str, loaders: Any) -> Any:
    """Refuse loaders for training that Lightning would give to each process whole.

    Raises:
        SsrError: says which can be shared.
    """
    for one in flat(loaders):
        if not isinstance(one, DataLoader) or isinstance(one.dataset, IterableDataset):
            raise SsrError(
                f"train_dataloader of {name} gives {user_code.article(one)}, whose samples cannot "
                "be shared out to several devices: return a DataLoader of a Dataset with an index, "
                "or type trainer.devices=1."
            )
        own = sampler(one)
        if type(own) not in SHARED:
            raise SsrError(
                f"train_dataloader of {name} has {user_code.article(own)}, which need not draw the "
                "same order on all devices, so samples would be lost: return a DataLoader with "
                "shuffle=True, or with a DistributedSampler, or type trainer.devices=1."
            )
    return loaders


def has_test(data: LightningDataModule) -> bool:
    """Say whether a DataModule has test data."""
    return is_overridden("test_dataloader", data, LightningDataModule)


def ready(conf: DatasetConf) -> LightningDataModule:
    """Make a DataModule and set it up as for a training.

    Raises:
        SsrError: if it cannot be made, or its code fails.
    """
    data = make(conf)
    data.trainer = _bystander()  # some ask it for the epoch, or for the number of devices
    with user_code.explained(f"{conf.target} cannot be set up"):
        data.prepare_data()
        data.setup("fit")
    return data


def _bystander() -> Trainer:
    """Make a trainer that trains nothing: on one device, in its first epoch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[LightningEnvironment()],
        )


def flat(loader: Any) -> list[Any]:
    """List the loaders of what may be a collection of them."""
    return list(CombinedLoader(loader, "sequential").flattened)


def sampler(loader: DataLoader[Any]) -> Any:
    """Return what draws the order of a loader: of samples, or of batches of them."""
    batches = loader.batch_sampler
    return batches.sampler if type(batches) is BatchSampler else batches or loader.sampler
