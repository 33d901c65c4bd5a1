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
from numpy.typing import NDArray

from ssr_exp.config import DatasetConf
from ssr_exp.datasets.image_folder import listing
from ssr_exp.datasets.image_folder.cache import cached
from ssr_exp.datasets.image_folder.decoding import decode
from ssr_exp.datasets.image_folder.layout import ALL
from ssr_exp.datasets.image_folder.listing import Listing
from ssr_exp.datasets.images import Images, Indices, Pool, digest, hashed, resize
from ssr_exp.datasets.preprocessing import BACKGROUNDS, FITS, Preprocessing
from ssr_exp.datasets.reading import ImageOrigin
from ssr_exp.datasets.split import check_enough, stratified
from ssr_exp.errors import SsrError, cause

log = logging.getLogger(__name__)

_TEST_SEED = 0  # test images stay the same when `dataset.split_seed` changes
_DAMAGED = (OSError, RuntimeError, ValueError, EOFError, AssertionError, LookupError, TypeError)
_TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "fashion_mnist": "FashionMNIST"}


def pool(conf: DatasetConf, data_dir: Path) -> Pool:
    """Read all images of the data set that `conf` names.

    Args:
        conf: which data set, and where it lies.
        data_dir: folder of downloads, and of the cache of decoded folders.

    Raises:
        SsrError: the data set is unknown, absent or damaged.
    """
    sources: dict[str, Callable[[DatasetConf, Path], Pool]] = {
        "digits": _digits,
        "image_folder": _image_folder,
        **dict.fromkeys(_TORCHVISION, _torchvision),
    }
    if conf.name not in sources:
        raise SsrError(
            f"unknown data set '{conf.name}': type dataset=NAME with one of {', '.join(sources)}"
        )
    _check(conf)
    return sources[conf.name](conf, data_dir)


def _check(conf: DatasetConf) -> None:
    if conf.root is not None and not conf.root.strip():
        raise SsrError(
            "dataset.root is empty: type dataset.root=DIR, the folder of the images (or . for the "
            "current one)"
        )
    if conf.resize is not None and conf.resize < 1:
        raise SsrError(
            f"dataset.resize={conf.resize} is not a size: type a number of pixels above 0, "
            "such as dataset.resize=32"
        )
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


def _digits(conf: DatasetConf, _: Path) -> Pool:
    """Read scikit-learn's 1,797 handwritten digits, 8 x 8 pixels; a fifth becomes test."""
    from sklearn.datasets import load_digits

    held = load_digits()
    pixels = torch.from_numpy(np.rint(held.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(held.target.astype(np.int64))
    images, how = _resized(Images(pixels, labels, tuple("0123456789")), conf)
    index = np.arange(len(images), dtype=np.int64)
    train, test = stratified(images, index, fraction=0.2, seed=_TEST_SEED)
    origin = ImageOrigin({"test": "20 % of all"})
    hashes = _hashes(images)
    return Pool(images, digest(images.pixels), train, None, test, how, hashes, origin)


def _image_folder(conf: DatasetConf, data_dir: Path) -> Pool:
    """Decode a folder of class folders, or read what was decoded before."""
    if conf.root is None:
        raise SsrError("image_folder needs to know the folder: type dataset.root=DIR")
    found = listing.scan(Path(conf.root).expanduser())
    asked = _asked(conf)
    decoded, key = cached(
        data_dir / "cache" / f"{found.key(asked)}.pt",
        lambda: decode(found.root, found.files, asked),
    )
    files = tuple(found.root / file for file in found.files)
    images = Images(decoded.pixels, torch.tensor(found.labels), found.classes, files)
    parts, sources = _parts(found, images, conf)
    return Pool(
        images,
        key,
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        preprocessing=decoded.preprocessing,
        hashes=decoded.hashes.numpy(),
        origin=ImageOrigin(
            sources,
            found.root,
            found.left_out,
            found.notes,
            found.warnings,
            decoded.contents,
        ),
    )


def _parts(
    found: Listing, images: Images, conf: DatasetConf
) -> tuple[dict[str, Indices], dict[str, str]]:
    """Take the parts that a folder came with, or split off a tenth of it as test.

    Returns:
        Positions and source, in words, of train, of val if it came with one, and of test.

    Raises:
        SsrError: a class has too few images.
    """
    ends = np.cumsum(list(found.parts.values()))
    index: dict[str, Indices] = {
        name: np.arange(end - count, end, dtype=np.int64)
        for (name, count), end in zip(found.parts.items(), ends, strict=True)
    }
    needed = {"train": True, "val": not conf.train_on_val, "test": True}
    if ALL not in index:
        needed = {"train": True, "val": "val" not in index and not conf.train_on_val}
        check_enough(images, index["train"], [name for name in needed if needed[name]])
        return index, {name: path.rstrip("/") for name, path in found.sources.items()}
    check_enough(images, index[ALL], [name for name in needed if needed[name]])
    train, test = stratified(images, index[ALL], fraction=0.1, seed=_TEST_SEED)
    return {"train": train, "test": test}, {"test": "10 % of all"}


def _torchvision(conf: DatasetConf, data_dir: Path) -> Pool:
    """Read one of torchvision's sets, with the test images that it came with."""
    root = Path(conf.root).expanduser() if conf.root is not None else data_dir
    train, test = (_fetched(conf, root, train=train) for train in (True, False))
    images = Images(
        torch.cat([_channels_first(part.data) for part in (train, test)]),
        torch.cat([torch.as_tensor(part.targets) for part in (train, test)]),
        tuple(train.classes),
    )
    images, how = _resized(images, conf)
    index = np.arange(len(images), dtype=np.int64)
    return Pool(
        images,
        digest(images.pixels),
        train=index[: len(train)],
        val=None,
        test=index[len(train) :],
        preprocessing=how,
        hashes=_hashes(images),
        origin=ImageOrigin({"train": "as published", "test": "as published"}),
    )


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


def _resized(images: Images, conf: DatasetConf) -> tuple[Images, Preprocessing]:
    """Fit images to the size that is asked for, and say how files like them are brought there."""
    c, h, w = images.pixels.shape[1:]
    how = replace(_asked(conf), channels=c)
    if how.fit is None:
        return images, replace(how, size=(h, w))
    return replace(images, pixels=resize(images.pixels, how)), how


def _asked(conf: DatasetConf) -> Preprocessing:
    """Say what is asked for, before an image was seen: its size counts where it has a fit."""
    return Preprocessing(
        channels=3,
        size=(conf.resize or 0, conf.resize or 0),
        fit=None if conf.resize is None else conf.fit,
        background=BACKGROUNDS[conf.background],
    )


def _hashes(images: Images) -> NDArray[np.int64]:
    return np.array([hashed(image) for image in images.pixels.numpy()], dtype=np.int64)
