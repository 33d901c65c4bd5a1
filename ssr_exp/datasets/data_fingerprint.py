"""A fingerprint of what a DataModule of the user's own serves: by it studies are told apart."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
)

from ssr_exp import messages, user_code
from ssr_exp.config import DatasetConf
from ssr_exp.datasets import user_data
from ssr_exp.errors import SsrError

log = logging.getLogger(__name__)

SAMPLES = 64  # of val, whose content is fingerprinted
LONG_S = 5.0  # that reading them takes, from when on it is said
VERSION = "type dataset.version=NAME, and another name whenever the val set changes"


class Content(NamedTuple):
    """What a DataModule serves, as far as it tells studies apart; see `UserData` and `content`."""

    fingerprint: str
    sizes: dict[str, int]  # of train and val, where they are known
    before: str = ""


def fingerprint(conf: DatasetConf) -> Content:
    """Fingerprint what a DataModule serves; see `content`.

    Raises:
        SsrError: if it serves another val set each time it is made.
    """
    seen, drawn = [], []
    for seed in (0, 1):
        torch.manual_seed(seed)
        data = user_data.ready(conf)
        seen.append(content(data, conf.version))
        with user_code.explained(f"{conf.target} gives no data"):
            drawn.append([_indices(one) for one in user_data.flat(data.val_dataloader())])
        if conf.version is not None and not any(drawn[0]):  # nothing of it may be drawn
            break
    if seen[0] != seen[-1] or drawn[0] != drawn[-1]:
        raise SsrError(
            f"{conf.target} serves another val set each time it is made, so no two networks would "
            "be compared by the same: give its random_split a generator, as in "
            "generator=torch.Generator().manual_seed(0)."
        )
    return seen[0]


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
    with user_code.explained(f"{type(data).__name__} gives no data"):
        loaders = {"train": data.train_dataloader(), "val": data.val_dataloader()}
    told, sizes = _told(data, loaders, version)
    if any(
        _picked(one, part) is not None for part in loaders for one in user_data.flat(loaders[part])
    ):
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
    name = type(data).__name__
    if (own := getattr(data, "fingerprint", None)) is not None:
        with user_code.explained(f"{name}.fingerprint() fails"):
            said = f"fingerprint {own() if callable(own) else own}"
    elif version is not None:
        said = f"version {version}"
    else:
        said, again = (_digest(loaders["val"], name, looks=looks) for _ in range(2))
        if said != again:
            raise SsrError(
                f"the val samples of {name} differ each time they are read, as "
                f"random augmentation makes them: take it out of val, or {VERSION}."
            )
    return hashlib.sha256(f"{known} {said}".encode()).hexdigest(), known


def _indices(loader: Any) -> list[list[Any]]:
    """List which samples a loader's data set takes of another one, and that of a third."""
    dataset, taken = getattr(loader, "dataset", None), []
    while isinstance(dataset, Subset):
        taken.append(list(dataset.indices))
        dataset = dataset.dataset
    return taken


def _picked(loader: Any, part: str) -> list[int] | None:
    """List in ascending order which samples a loader's own sampler picks; None: all there are.

    One that draws for training anew in each epoch picks no part of them.
    """
    dataset: Any = getattr(loader, "dataset", None)
    if not isinstance(loader, DataLoader) or isinstance(dataset, IterableDataset):
        return None
    sampler = user_data.sampler(loader)
    if type(sampler) in user_data.SHARED and not _draws_some(sampler):
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
    for one in user_data.flat(loader):
        try:
            picked = _picked(one, part) if looks else None
            sizes.append(len(one.dataset) if picked is None else len(picked))
        except (AttributeError, TypeError, NotImplementedError):
            return None
    return sum(sizes)


def _digest(loader: Any, name: str, *, looks: bool) -> str:
    sha = hashlib.sha256()
    for one in user_data.flat(loader):
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
    with user_code.explained("a val sample cannot be read"):
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
