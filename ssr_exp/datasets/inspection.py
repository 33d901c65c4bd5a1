"""Look at what was read of a data set: doubles, labels that contradict, pictures with nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssr_exp.config import DatasetConf
from ssr_exp.datasets.images import IGNORED, Images, Indices, Pool, Target
from ssr_exp.datasets.reading import Reading, describe_pixels
from ssr_exp.datasets.split import share_in_words
from ssr_exp.errors import SsrError, one_line

DARK = 63  # of 255: 14 bits in files of 16 are no brighter
NARROW = 16  # values of 256: images whose pixels lie within so many are near to constant
FEW = 16  # different values of 256
LEAST = 3  # images of a class; fewer in a part say next to nothing of it
MOST = 0.75  # of val in one class, beyond which accuracy says little
BULK = 0.999  # of the pixels, whose values count: a few odd ones hide nothing


def inspect(
    conf: DatasetConf, pool: Pool, train: Indices, val: Indices | None, counts: Tensor
) -> Reading:
    """Say what was read, and warn of what may be wrong with it.

    `train` and `val` are positions of images; `counts` is the `histogram` of the pixels of train.

    Raises:
        SsrError: if all images are the same picture.
    """
    named = {"train": train, "val": val, "test": pool.test}
    parts = {name: index for name, index in named.items() if index is not None}
    _check_alike(pool)
    is_mask = pool.images.target is Target.masks
    names, is_class = pool.images.classes, pool.images.target is Target.one_class
    origin, shares = pool.origin, _shares(pool.images, parts)
    warnings = [
        *origin.warnings,
        *(_uneven(names, shares) if is_class else _absent(pool.images, shares)),
        *_scales(pool.images, train),
        *_doubles(pool, parts),
        *(_contradictions(pool) if is_class else ()),
        *(_ignored(pool, parts) if is_mask else ()),
        *_alike(pool, parts),
        *_odd(pool, "plain", "image", "{} of one colour and nothing else ({})"),
        *_narrow(counts),
    ]
    return Reading(
        name=conf.name,
        parts={part: dict(zip(names, map(int, n), strict=True)) for part, n in shares.items()},
        sizes={} if is_class else {part: len(index) for part, index in parts.items()},
        targets="" if is_class else _described(pool.images),
        sources=_sources(conf, pool, val),
        pixels=describe_pixels(origin.contents, pool.preprocessing),
        left_out=origin.left_out,
        notes=tuple(map(one_line, (*origin.notes, *_notes(conf, pool, train)))),
        warnings=tuple(map(one_line, warnings)),
        folder=str(origin.root) if pool.images.files else "",
    )


def _shares(images: Images, parts: Mapping[str, Indices]) -> dict[str, NDArray[np.int64]]:
    """Count for each part the images of each class, or that each label holds of; of numbers all.

    Of masks it counts the pixels of each class.
    """
    if images.target is Target.masks:
        return {name: _pixels(images, i) for name, i in parts.items()}
    labels, count = images.labels.numpy(), len(images.classes)
    if images.target is Target.one_class:
        return {name: np.bincount(labels[i], minlength=count) for name, i in parts.items()}
    if images.target is Target.labels:
        return {name: labels[i].sum(0).astype(np.int64) for name, i in parts.items()}
    return {name: np.full(count, len(i)) for name, i in parts.items()}


def _pixels(images: Images, index: Indices) -> NDArray[np.int64]:
    """Count the pixels of each class in masks, those that count nowhere left out."""
    counts = np.zeros(256, np.int64)
    masks = images.labels.numpy()
    for number in index:  # one by one: all of them would be copied
        counts += np.bincount(masks[number].ravel(), minlength=256)
    return counts[: len(images.classes)]


def _described(images: Images) -> str:
    """Say in words what is learnt of images, where it is no class."""
    if images.target is Target.masks:
        counts = _pixels(images, np.arange(len(images)))
        total, every = int(counts.sum()), images.labels.numel()
        words = [
            f"{n} {100 * c / total:.2g} %" for n, c in zip(images.classes, counts, strict=True)
        ]
        left = f"; {100 * (1 - total / every):.2g} % count nowhere" if total < every else ""
        return (
            f"{len(images):,} images with masks of {len(words)} classes: {', '.join(words)} of the "
            f"pixels{left}"
        )
    labels, rows = images.labels.numpy().astype(np.float64), len(images)
    if images.target is Target.labels:
        named = (f"{n} {int(c):,}" for n, c in zip(images.classes, labels.sum(0), strict=True))
        return f"{rows:,} images with any of {len(images.classes)} labels: {', '.join(named)}"
    columns = zip(images.classes, labels.T, strict=True)
    named = (f"{n} {v.min():g} to {v.max():g} (mean {v.mean():.4g})" for n, v in columns)
    return f"{rows:,} images with {_counted(len(images.classes), 'number')}: {', '.join(named)}"


def _sources(conf: DatasetConf, pool: Pool, val: Indices | None) -> dict[str, str]:
    sources = dict(pool.origin.sources)
    if conf.train_on_val:
        sources.pop("val", None)
        return sources | {"train": "with val"}
    if pool.val is None and val is not None:
        held = share_in_words(len(val), len(pool.train), asked=conf.val_fraction)
        sources["val"] = f"{held} of train, drawn with dataset.split_seed={conf.split_seed}"
    return sources


def _check_alike(pool: Pool) -> None:
    if len(pool.hashes) < 2 or (pool.hashes != pool.hashes[0]).any():
        return
    contents = pool.origin.contents
    advice = "look at the files"
    if contents is not None and contents.transparent:
        other = "black" if pool.preprocessing.background else "white"
        advice = f"they are transparent: type dataset.background={other}"
    raise SsrError(
        f"all {len(pool.hashes):,} images are the same picture once they are read, so nothing can "
        f"be learnt from them: {advice}"
    )


def _doubles(pool: Pool, parts: Mapping[str, Indices]) -> Iterator[str]:
    """Count the images of one part that stand in another, too."""
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if one not in parts or other not in parts:
            continue
        here, there = pool.hashes[parts[one]], pool.hashes[parts[other]]
        if len(again := parts[other][np.isin(there, here)]):
            first = int(again[0])
            twin = int(parts[one][here == pool.hashes[first]][0])
            yield (
                f"{len(again):,} of the {len(there):,} {other} images stand in {one}, too "
                f"({_pair(pool, first, twin)}): what {other} measures was partly learnt by heart, "
                "so remove one of each two"
            )


def _contradictions(pool: Pool) -> Iterator[str]:
    """Name an image that stands under two labels."""
    labels = pool.images.labels.numpy()
    order = np.lexsort((labels, pool.hashes))
    same = pool.hashes[order][1:] == pool.hashes[order][:-1]
    (at,) = np.nonzero(same & (labels[order][1:] != labels[order][:-1]))
    if len(at):
        count = len(np.unique(pool.hashes[order][at]))
        pair = _pair(pool, int(order[at[0]]), int(order[at[0] + 1]))
        yield (
            f"{_counted(count, 'image')} under two labels ({pair}): keep each under the right one"
        )


def _uneven(names: Sequence[str], shares: Mapping[str, NDArray[np.int64]]) -> Iterator[str]:
    """Warn of classes that a part can say little of, and of one that is nearly all of val."""
    for part in ("val", "test"):
        few = [] if part not in shares else [i for i, n in enumerate(shares[part]) if n < LEAST]
        if few and len(few) < len(names):
            held = _counted(int(shares[part][few[0]]), "image")
            more = f" (and as few of {len(few) - 1} others)" if len(few) > 1 else ""
            yield (
                f"{part} has {held} of class '{names[few[0]]}'{more}, which say next to nothing of "
                "it: add images"
            )
    val = shares.get("val")
    if val is not None and len(names) > 1 and (share := val.max() / max(val.sum(), 1)) > MOST:
        yield (
            f"{100 * share:.1f} % of val is of class '{names[int(val.argmax())]}': a network that "
            "always names it scores that"
        )


def _absent(images: Images, shares: Mapping[str, NDArray[np.int64]]) -> Iterator[str]:
    """Warn of labels and classes that a part has nothing of, so that none is learnt or measured."""
    words = {Target.labels: "image of label", Target.masks: "pixel of class"}
    zeros = {
        Target.labels: ", which counts as 0 in its mAP",
        Target.masks: ", which counts as 0 in its mIoU as soon as one pixel is taken for it",
    }
    for part, counts in shares.items() if images.target in words else ():
        if absent := [name for name, n in zip(images.classes, counts, strict=True) if not n]:
            more = f" (and of {len(absent) - 1} others)" if len(absent) > 1 else ""
            what = words[images.target]
            zero = "" if part == "train" else zeros[images.target]
            yield f"{part} has no {what} '{absent[0]}'{more}{zero}: add some, or leave it out"


def _scales(images: Images, train: Indices) -> Iterator[str]:
    """Warn of numbers that an error in the unit of all of them hardly depends on."""
    if images.target is not Target.numbers:
        return
    spreads = images.labels.numpy()[train].astype(np.float64).std(0)
    most = int(spreads.argmax())
    is_small = (spreads > 0) & (spreads < spreads[most] / 10)
    small = [images.classes[at] for at in np.flatnonzero(is_small)]
    if small:
        more = f" (and {len(small) - 1} more)" if len(small) > 1 else ""
        yield (
            f"an RMSE of all targets hardly depends on '{small[0]}'{more}, which varies less than "
            f"a tenth as much as '{images.classes[most]}': scale the columns alike, or learn one "
            "alone"
        )


def _ignored(pool: Pool, parts: Mapping[str, Indices]) -> Iterator[str]:
    """Warn of masks of which no pixel counts.

    Raises:
        SsrError: if none of a part's does: nothing could be scored there.
    """
    for part, index in parts.items():
        empty = [i for i in index if bool((pool.images.labels[int(i)] == IGNORED).all())]
        if len(empty) == len(index):
            raise SsrError(
                f"no pixel of {part} counts: task.ignore_index leaves out all of its "
                f"{_counted(len(index), 'mask')}, as where benchmarks keep the true ones back: "
                "leave that folder out"
            )
        if empty:
            yield (
                f"{_counted(len(empty), 'mask')} of {part} count nowhere (the first is that of "
                f"{_name(pool, int(empty[0]))}): task.ignore_index leaves out all their pixels"
            )


def _alike(pool: Pool, parts: Mapping[str, Indices]) -> Iterator[str]:
    """Name parts, and classes of train, that are one picture many times."""
    labels, train = pool.images.labels.numpy(), parts["train"]
    groups = {f"{name} images": parts[name] for name in ("val", "test") if name in parts}
    named = enumerate(pool.images.classes) if pool.images.target is Target.one_class else ()
    for label, name in named:
        groups[f"train images of class '{name}'"] = train[labels[train] == label]
    for what, index in groups.items():
        if len(index) > 1 and (pool.hashes[index] == pool.hashes[index[0]]).all():
            yield f"all {len(index):,} {what} are the same picture"


def _narrow(counts: Tensor) -> Iterator[str]:
    """Warn of pixels that use few of the 256 values."""
    total = counts.sum(0).double().numpy()
    below = np.cumsum(total) / total.sum()
    low, high = (int(np.searchsorted(below, share)) for share in (1 - BULK, BULK))
    used = int((total > 0).sum())
    if high - low < NARROW:
        yield (
            f"nearly all pixels lie between {low} and {high} of 255, so the images are near to "
            "constant: if their files are wider than their numbers, scale them up"
        )
    elif (brightest := int(np.flatnonzero(total)[-1])) <= DARK:
        yield (
            f"no pixel is brighter than {brightest} of 255: if the files are wider than their "
            "numbers, such as 14 bits in files of 16, scale them up"
        )
    elif used < FEW:
        yield f"the pixels have {used} of 256 values: were they cut, or are they drawings?"


def _notes(conf: DatasetConf, pool: Pool, train: Indices) -> Iterator[str]:
    copies = len(train) - len(np.unique(pool.hashes[train]))
    if copies:
        yield f"train holds {_counted(copies, 'copy', 'copies')} of other images of it"
    shows = f"dataset.background={conf.background} shows"
    yield from _odd(pool, "transparent", "transparent image", f"{{}} ({{}}): {shows}")
    yield from _odd(
        pool, "animated", "file", "{} of several frames or pages ({}): the first is read"
    )
    moved = [key for key in ("flip", "vertical_flip", "rotation") if getattr(conf, key)]
    if moved and pool.images.target is Target.numbers:
        yield (
            f"dataset.{' and dataset.'.join(moved)} turn images in training, and leave their "
            "numbers: where these say a side, a place or an angle, type "
            + " ".join(f"dataset.{key}={'0' if key == 'rotation' else 'false'}" for key in moved)
        )


def _odd(pool: Pool, kind: str, noun: str, text: str) -> Iterator[str]:
    """Say how many files are of an odd kind, and name the first."""
    contents = pool.origin.contents
    if contents is not None and (count := getattr(contents, kind)):
        yield text.format(_counted(count, noun), _file(pool, contents.examples[kind]))


def _counted(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _file(pool: Pool, number: int) -> str:
    file, root = pool.images.files[number], pool.origin.root
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


def _pair(pool: Pool, one: int, other: int) -> str:
    """Name two images, by their files where they have some."""
    return f"{_name(pool, one)} is {_name(pool, other)}"


def _name(pool: Pool, number: int) -> str:
    images = pool.images
    if images.files:
        return _file(pool, number)
    if images.target is Target.one_class:
        return f"{images.classes[int(images.labels[number])]} number {number}"
    return f"image {number}"
