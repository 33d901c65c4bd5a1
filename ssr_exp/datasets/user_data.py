"""Data of the user's own: a LightningDataModule, as it is, and what is known of it."""

from __future__ import annotations

import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from ssr_exp import messages, user_code
from ssr_exp.config import DatasetConf
from ssr_exp.datasets.reading import Reading
from ssr_exp.errors import SsrError, cause

log = logging.getLogger(__name__)

# Whose order all devices know: Lightning shares the first two out itself.
SHARED = (RandomSampler, SequentialSampler, DistributedSampler)
SAMPLES = 64  # of val, whose content is fingerprinted
LONG_S = 5.0  # that reading them takes, from when on it is said
VERSION = "type dataset.version=NAME, and another name whenever the val set changes"


@dataclass(frozen=True, eq=False)
class UserData:
    """What a study knows of a DataModule of the user's own.

    Attributes:
        name: of its class.
        fingerprint: of its sizes and of its val set, see `content`.
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


class Content(NamedTuple):
    """What a DataModule serves, as far as it tells studies apart; see `UserData` and `content`."""

    fingerprint: str
    sizes: dict[str, int]  # of train and val, where they are known
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
    for one in _flat(loaders):
        if not isinstance(one, DataLoader) or isinstance(one.dataset, IterableDataset):
            raise SsrError(
                f"train_dataloader of {name} gives {user_code.article(one)}, whose samples cannot "
                "be shared out to several devices: return a DataLoader of a Dataset with an index, "
                "or type trainer.devices=1."
            )
        own = _sampler(one)
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


def content(data: LightningDataModule, version: str | None) -> Content:
    """Fingerprint a DataModule that is set up for a training; says how large its parts are.

    What it returns as `fingerprint()` counts, where it has that; else the sizes of train and val,
    and 64 samples of val, or what the user calls the version of that.

    Args:
        data: set up.
        version: stands for the samples; None: they are looked at.

    Raises:
        SsrError: if its val samples are not the same twice, or nobody can tell.
    """
    try:
        loaders = {"train": data.train_dataloader(), "val": data.val_dataloader()}
    except (Exception, SystemExit) as error:  # of anyone's code
        user_code.check_exit(error)
        raise SsrError(f"{type(data).__name__} gives no data: {cause(error)}.") from error
    told, sizes = _told(data, loaders, version)
    if any(_picked(one, part) is not None for part in loaders for one in _flat(loaders[part])):
        return Content(told, sizes, _told(data, loaders, version, looks=False)[0])
    return Content(told, sizes)


def _told(
    data: LightningDataModule,
    loaders: Mapping[str, Any],
    version: str | None,
    *,
    looks: bool = True,
) -> tuple[str, dict[str, int]]:
    """Fingerprint what loaders serve, and count it; `looks` at which samples a sampler picks."""
    sizes = {part: _size(loader, part, looks=looks) for part, loader in loaders.items()}
    known = {part: size for part, size in sizes.items() if size is not None}
    if (own := getattr(data, "fingerprint", None)) is not None:
        said = f"fingerprint {_called(own, data) if callable(own) else own}"
    elif version is not None:
        said = f"version {version}"
    else:
        name = type(data).__name__
        said, again = (_digest(loaders["val"], name, looks=looks) for _ in range(2))
        if said != again:
            raise SsrError(
                f"the val samples of {name} differ each time they are read, as "
                f"random augmentation makes them: take it out of val, or {VERSION}."
            )
    return hashlib.sha256(f"{known} {said}".encode()).hexdigest(), known


def _called(fingerprint: Callable[[], Any], data: LightningDataModule) -> Any:
    try:
        return fingerprint()
    except SsrError:
        raise
    except (Exception, SystemExit) as error:  # of anyone's code
        user_code.check_exit(error)
        raise SsrError(f"{type(data).__name__}.fingerprint() fails: {cause(error)}.") from error


def ready(conf: DatasetConf) -> LightningDataModule:
    """Make a DataModule and set it up as for a training.

    Raises:
        SsrError: if it cannot be made, or its code fails.
    """
    data = make(conf)
    try:
        data.prepare_data()
        data.setup("fit")
    except (Exception, SystemExit) as error:  # of anyone's code
        user_code.check_exit(error)
        raise SsrError(f"{conf.target} cannot be set up: {cause(error)}.") from error
    return data


def fingerprint(conf: DatasetConf) -> Content:
    """Fingerprint what a DataModule serves; see `content`.

    Raises:
        SsrError: if it serves another val set each time it is made.
    """
    seen = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        seen.append(content(ready(conf), conf.version))
        if conf.version is not None:
            break
    if seen[0] != seen[-1]:
        raise SsrError(
            f"{conf.target} serves another val set each time it is made, so no two networks would "
            "be compared by the same: give its random_split a generator, as in "
            "generator=torch.Generator().manual_seed(0)."
        )
    return seen[0]


def _flat(loader: Any) -> list[Any]:
    return list(CombinedLoader(loader, "sequential").flattened)


def _sampler(loader: DataLoader[Any]) -> Any:
    """Return what draws the order of a loader: of samples, or of batches of them."""
    batches = loader.batch_sampler
    return batches.sampler if type(batches) is BatchSampler else batches or loader.sampler


def _picked(loader: Any, part: str) -> list[int] | None:
    """List in ascending order which samples a loader's own sampler picks; None: all there are.

    One that draws for training anew in each epoch picks no part of them.
    """
    dataset: Any = getattr(loader, "dataset", None)
    if not isinstance(loader, DataLoader) or isinstance(dataset, IterableDataset):
        return None
    sampler = _sampler(loader)
    if type(sampler) in SHARED and not _draws_some(sampler):
        return None
    if part == "train" and not isinstance(sampler, SubsetRandomSampler):
        return None
    try:
        most: int = len(dataset)
        drawn = (one for each in sampler for one in (each if isinstance(each, list) else [each]))
        indices = sorted(map(int, islice(drawn, most + 1)))
    except (Exception, SystemExit) as error:  # of anyone's code: it says so where it is used
        user_code.check_exit(error)
        return None
    return None if len(indices) > most else indices


def _draws_some(sampler: Any) -> bool:
    """Say whether a sampler of torch's draws other samples than each once."""
    if not isinstance(sampler, RandomSampler):
        return False
    return sampler.replacement or sampler.num_samples != len(sampler.data_source)


def _size(loader: Any, part: str, *, looks: bool) -> int | None:
    """Count the samples of what may be several loaders; None where one does not know."""
    sizes = []
    for one in _flat(loader):
        try:
            picked = _picked(one, part) if looks else None
            sizes.append(len(one.dataset) if picked is None else len(picked))
        except (AttributeError, TypeError, NotImplementedError):
            return None
    return sum(sizes)


def _digest(loader: Any, name: str, *, looks: bool) -> str:
    sha = hashlib.sha256()
    for one in _flat(loader):
        picked = _picked(one, "val") if looks else None
        if picked is not None:
            sha.update(repr(picked).encode())
        for sample in _samples(one, picked):
            try:
                for piece in _pieces(sample):
                    sha.update(piece)
            except TypeError as error:
                raise SsrError(
                    f"a val sample of {name} holds {error}, whose content cannot be fingerprinted: "
                    f"{VERSION}."
                ) from None
    return sha.hexdigest()


def _samples(loader: Any, picked: Sequence[int] | None) -> Iterator[Any]:
    """Take some samples of a loader's data set, or its first batches where it has no index.

    One by one: each may be a whole volume.
    """
    dataset: Any = getattr(loader, "dataset", None)
    count = _size(loader, "val", looks=False) if picked is None else len(picked)
    try:
        has_index = hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset)
        if count is None or not has_index:
            yield from islice(loader, 2)
            return
        where = np.linspace(0, count - 1, min(count, SAMPLES)).astype(int).tolist()
        begun, what = time.monotonic(), f"reading {len(where)} of {count} val samples"
        for number, at in enumerate(where):
            sample = dataset[at if picked is None else picked[at]]
            is_long = (time.monotonic() - begun) * len(where) > LONG_S
            if number == 0 and is_long and messages.is_first(what):
                said = "%s, several times, to know this val set again: to skip that, %s"
                log.info(said, what, VERSION)
            yield sample
            del sample
    except (Exception, SystemExit) as error:  # of anyone's code
        user_code.check_exit(error)
        raise SsrError(f"a val sample cannot be read: {cause(error)}.") from error


def _pieces(value: Any) -> Iterator[bytes]:
    """Write what a sample holds.

    Raises:
        TypeError: names what cannot be written.
    """
    if isinstance(value, Tensor):
        tensor = value.detach().cpu().contiguous()
        yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    elif isinstance(value, np.ndarray | np.generic):
        yield f"{value.dtype} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, str | bytes | int | float | bool | None):
        yield repr(value).encode()
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield repr(key).encode()
            yield from _pieces(part)
    elif isinstance(value, Sequence):
        yield str(len(value)).encode()
        for part in value:
            yield from _pieces(part)
    elif hasattr(value, "__array_interface__"):  # an image of Pillow
        yield from _pieces(np.asarray(value))
    elif getattr(value, "__dict__", None) and not callable(value):
        yield from _pieces(vars(value))
    else:
        raise TypeError(user_code.article(value))
