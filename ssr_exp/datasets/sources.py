"""Where images come from: an embedded set, torchvision's sets, and folders."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from ssr_exp.config import CropFrom, DatasetConf
from ssr_exp.datasets import csv_table, mask_files, masks, scenes
from ssr_exp.datasets.image_folder import folder_images
from ssr_exp.datasets.images import (
    IGNORED,
    Images,
    Indices,
    Pool,
    Target,
    digest,
    hashed,
    resize,
)
from ssr_exp.datasets.preprocessing import BACKGROUNDS, FITS, Preprocessing
from ssr_exp.datasets.reading import ImageOrigin
from ssr_exp.datasets.split import stratified
from ssr_exp.errors import SsrError, cause

log = logging.getLogger(__name__)

CSV, FOLDER, MASKS, SCENES = "csv", "image_folder", "masks", "scenes"
_TEST_SEED = 0  # test images stay the same when `dataset.split_seed` changes
_DAMAGED = (OSError, RuntimeError, ValueError, EOFError, AssertionError, LookupError, TypeError)
# Keys that are of some data sets alone, by these.
_READ_BY = {
    **dict.fromkeys(("file", "image", "group", "split"), (CSV,)),
    "targets": (CSV, MASKS),
    **dict.fromkeys(("stream", "memory", "skip_corrupt", "crop_from"), (FOLDER,)),
}
_TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "fashion_mnist": "FashionMNIST"}


def pool(
    conf: DatasetConf,
    data_dir: Path,
    target: Target = Target.one_class,
    ignored: int | None = IGNORED,
) -> Pool:
    """Read all images of the data set that `conf` names.

    Args:
        conf: which data set, and where it lies.
        data_dir: folder of downloads, and of the cache of decoded images.
        target: what is to be learnt of an image.
        ignored: the number in masks of pixels that count nowhere; None: there is none.

    Raises:
        SsrError: the data set is unknown, absent or damaged, or says something else of its images.
    """
    if conf.name in (MASKS, SCENES) or (conf.name == CSV and target is Target.masks):
        _check_masks(conf, target)
        return (
            _scenes(conf, ignored)
            if conf.name == SCENES
            else masks.pool(conf, data_dir, _asked(conf), ignored)
        )
    if conf.name == CSV:
        _check(conf)
        return csv_table.pool(conf, data_dir, target, _asked(conf))
    sources: dict[str, Callable[[DatasetConf, Path], Pool]] = {
        "digits": _digits,
        FOLDER: lambda conf, data_dir: folder_images.pool(conf, data_dir, _asked(conf)),
        **dict.fromkeys(_TORCHVISION, _torchvision),
    }
    if conf.name not in sources:
        known = ", ".join((*sources, CSV, MASKS, SCENES, "module"))
        raise SsrError(f"unknown data set '{conf.name}': type dataset=NAME with one of {known}")
    if target is not Target.one_class:
        raise SsrError(
            f"dataset={conf.name} says one class of each image, and this task learns "
            f"{target.value}: type {_instead(target)}, or task=classification"
        )
    _check(conf)
    return sources[conf.name](conf, data_dir)


def _instead(target: Target) -> str:
    if target is Target.masks:
        return "dataset=masks dataset.root=DIR with a folder of images and masks, or dataset=scenes"
    return "dataset=csv with a table that has them"


def _check_masks(conf: DatasetConf, target: Target) -> None:
    """Refuse data sets of masks for other tasks, and the other way round."""
    if conf.name == CSV:
        raise SsrError(f"dataset=csv has no masks, which this task learns: type {_instead(target)}")
    if target is not Target.masks:
        raise SsrError(
            f"dataset={conf.name} has a mask for each image, and this task learns {target.value}: "
            "type task=segmentation"
        )
    _check(conf)


def _check(conf: DatasetConf) -> None:
    if conf.root is not None and not conf.root.strip():
        raise SsrError(
            "dataset.root is empty: type dataset.root=DIR, the folder of the images (or . for the "
            "current one)"
        )
    _check_is_read(conf)
    size(conf)
    for key, allowed in (("fit", FITS), ("background", tuple(BACKGROUNDS))):
        if getattr(conf, key) not in allowed:
            words = " or ".join(f"dataset.{key}={word}" for word in allowed)
            raise SsrError(f"dataset.{key}={getattr(conf, key)} is not known: type {words}")
    if conf.resize is None and conf.fit != DatasetConf.fit:
        raise SsrError(
            f"dataset.fit={conf.fit} says how images are brought to a size, and none is asked "
            f"for: type dataset.fit={conf.fit} dataset.resize=32 (or another side), or leave "
            "dataset.fit out"
        )
    if conf.crop_share < 1 and (conf.resize is None or conf.fit != "crop"):
        raise SsrError(
            f"dataset.crop_share={conf.crop_share:g} is of the centre that images are cropped to: "
            "type dataset.resize=224 (or another side) with it, and no other dataset.fit than crop"
        )
    _check_streamed(conf)


def _check_is_read(conf: DatasetConf) -> None:
    """Refuse keys that this data set does not read: images would be split as if nobody had asked.

    Raises:
        SsrError: says which data set reads it, and what to type here.
    """
    for key in unread(conf):
        names, value = _READ_BY[key], getattr(conf, key)
        advice = "leave it out"
        if key in ("group", "split") and conf.name in (FOLDER, MASKS):
            advice += (
                " and put what belongs together into one of train/, val/ and test/ of dataset.root"
            )
        if CSV in names and conf.name == FOLDER:
            advice += ", or type dataset=csv dataset.file=TABLE.csv with a table of the images"
        readers = " and ".join(f"dataset={name}" for name in names)
        raise SsrError(f"dataset.{key}={_typed(value)} is of {readers}: {advice}")


def unread(conf: DatasetConf) -> list[str]:
    """List keys that were set and that this data set does not read."""
    usual = DatasetConf()
    return [
        key
        for key in _READ_BY
        if not is_read(key, conf.name) and getattr(conf, key) != getattr(usual, key)
    ]


def is_read(key: str, name: str) -> bool:
    """Say whether a data set of ours reads a key."""
    return name in _READ_BY.get(key, (name,))


def _typed(value: Any) -> str:
    """Write a value as a command line does."""
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_streamed(conf: DatasetConf) -> None:
    """Refuse crops of files that are not of some size, or without the files."""
    if conf.crop_from is CropFrom.file:
        if conf.crop_scale is None or conf.resize is None:
            raise SsrError(
                "dataset.crop_from=file is of resized crops: type dataset.crop_scale=[0.08,1] and "
                "dataset.resize=224 (or another side) with it"
            )
        if conf.stream is False:
            raise SsrError(
                "dataset.crop_from=file reads the files for each batch, and dataset.stream=false "
                "keeps none of their own pixels: leave one of both out"
            )


def size(conf: DatasetConf) -> tuple[int, int] | None:
    """Return height and width in pixels that images are brought to; None: they keep theirs.

    Raises:
        SsrError: `dataset.resize` is neither a side nor both.
    """
    if conf.resize is None:
        return None
    sides = conf.resize if isinstance(conf.resize, list) else [conf.resize] * 2
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        said = f"[{','.join(map(str, sides))}]" if sides is conf.resize else conf.resize
        raise SsrError(
            f"dataset.resize={said} is not a size: type a number of pixels above 0, such as "
            "dataset.resize=32, or height and width, such as dataset.resize=[32,48]"
        )
    return sides[0], sides[1]


def _digits(conf: DatasetConf, _: Path) -> Pool:
    """Read scikit-learn's 1,797 handwritten digits, 8 x 8 pixels; a fifth becomes test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    images = Images(pixels, labels, tuple("0123456789"))
    index = np.arange(len(images), dtype=np.int64)
    train, test = stratified(images, index, fraction=0.2, seed=_TEST_SEED)
    return _pool(conf, images, train, test, {"test": "20 % of all"})


def _scenes(conf: DatasetConf, ignored: int | None) -> Pool:
    """Draw scenes of digits with their masks, in parts that share no digit."""
    images, sizes = scenes.scenes()
    if ignored is not None and ignored < len(images.classes):
        raise SsrError(
            f"task.ignore_index={ignored} is class '{images.classes[ignored]}' of dataset=scenes, "
            "all of whose pixels count: leave it out"
        )
    index = np.arange(len(images), dtype=np.int64)
    train, val, test = np.split(index, np.cumsum(list(sizes.values()))[:-1])
    return replace(_pool(conf, images, train, test, dict.fromkeys(sizes, "drawn")), val=val)


def _torchvision(conf: DatasetConf, data_dir: Path) -> Pool:
    """Read one of torchvision's sets, with the test images that it came with."""
    root = Path(conf.root).expanduser() if conf.root is not None else data_dir
    train, test = (_fetched(conf, root, train=train) for train in (True, False))
    images = Images(
        torch.cat([_channels_first(part.data) for part in (train, test)]),
        torch.cat([torch.as_tensor(part.targets) for part in (train, test)]),
        tuple(train.classes),
    )
    index = np.arange(len(images), dtype=np.int64)
    published = {"train": "as published", "test": "as published"}
    return _pool(conf, images, index[: len(train)], index[len(train) :], published)


def _pool(
    conf: DatasetConf, images: Images, train: Indices, test: Indices, sources: dict[str, str]
) -> Pool:
    """Fit images that are in memory to the size that is asked for, as files of them would be."""
    pixels = images.pixels[:]
    c, h, w = pixels.shape[1:]
    how = replace(_asked(conf), channels=c)
    if how.fit is None:
        how = replace(how, size=(h, w))
    else:
        pixels = resize(pixels, how)
        images = replace(images, pixels=pixels)
        if images.target is Target.masks:
            fitted = [
                mask_files.fitted_mask(mask, how, beside=IGNORED) for mask in images.labels.numpy()
            ]
            images = replace(images, labels=torch.from_numpy(np.stack(fitted)))
    hashes = np.array([hashed(image) for image in pixels.numpy()], dtype=np.int64)
    origin = ImageOrigin(sources)
    return Pool(images, digest(pixels), train, None, test, how, hashes, origin)


def _fetched(conf: DatasetConf, root: Path, *, train: bool) -> Any:
    """Open a torchvision set in `root`; download it there if it is absent and that is allowed."""
    from torchvision import datasets

    dataset = getattr(datasets, _TORCHVISION[conf.name])
    try:
        return dataset(root, train=train, download=False)
    except _DAMAGED as error:
        absent = cause(error)
    if not conf.download:
        raise _absent(conf.name, root, f"{absent}; dataset.download=false")
    log.info("downloading %s into %s", conf.name, root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{conf.name}.lock"):
            return dataset(root, train=train, download=True)
    except _DAMAGED as error:
        raise _absent(conf.name, root, f"the download failed: {cause(error)}") from error


def _absent(name: str, root: Path, why: str) -> SsrError:
    reason = " ".join(why.split())
    return SsrError(
        f"no usable {name} in {root.resolve()} ({reason}): type dataset.root=DIR where "
        "torchvision's files of it lie, or dataset.download=true with a network, or "
        "dataset=image_folder dataset.root=DIR for a folder of class folders"
    )


def _channels_first(pixels: Any) -> torch.Tensor:
    """Turn torchvision's `n x h x w` or `n x h x w x c` into `n x c x h x w`."""
    tensor = torch.as_tensor(pixels)
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()


def _asked(conf: DatasetConf) -> Preprocessing:
    """Say what is asked for, before an image was seen: its size counts where it has a fit."""
    return Preprocessing(
        channels=3,
        size=size(conf) or (0, 0),
        fit=None if conf.resize is None else conf.fit,
        background=BACKGROUNDS[conf.background],
        crop_share=conf.crop_share,
    )
