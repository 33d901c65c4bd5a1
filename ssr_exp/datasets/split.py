"""Hold images out of a set, the same share of every class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ssr_exp.datasets.images import Images, Indices, Target
from ssr_exp.errors import SsrError

# Of data that do not say what is test; it stays the same when `dataset.split_seed` changes.
TEST_SHARE, TEST_SEED = 0.1, 0
_NAMED = 5  # classes in an error
_NEAR = 0.05  # of a share, which nobody tells from the share that was asked for


def stratified(
    images: Images, index: Indices, *, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Split `index` into what stays and what is held out, at least one image of each class in both.

    The draw is numpy's `RandomState`, whose stream is frozen for good (NEP 19): the same seed
    gives the same split on every machine and with every version.

    Args:
        images: the images that `index` points into.
        index: positions to split.
        fraction: share to hold out of each class, rounded to whole images.
        seed: 0 to 2^32 - 1.

    Returns:
        Positions that stay and positions held out, both ascending.

    Raises:
        SsrError: a class has fewer than two images.
    """
    draw = np.random.RandomState(seed)
    labels = images.labels.numpy()[index]
    held_out: list[Indices] = []
    for label, name in enumerate(images.classes):
        members = index[labels == label]
        if len(members) < 2:
            raise SsrError(
                f"class '{name}' has {len(members)} image left to split, but each class needs at "
                "least one to train on and one to hold out: add images of it or remove the class"
            )
        count = min(max(1, math.floor(len(members) * fraction + 0.5)), len(members) - 1)
        held_out.append(draw.permutation(members)[:count])
    out = np.sort(np.concatenate(held_out))
    return np.setdiff1d(index, out, assume_unique=True), out


def drawn(
    index: Indices, *, fraction: float, seed: int, groups: Indices | None = None
) -> tuple[Indices, Indices]:
    """Split `index` by chance into what stays and what is held out, groups whole.

    Args:
        index: positions to split.
        fraction: share of images to hold out; of whole groups as many as come near to it.
        seed: 0 to 2^32 - 1; the draw is as in `stratified`.
        groups: of each image that there is, equal where they stay together; None: each alone.

    Returns:
        Positions that stay and positions held out, both ascending.

    Raises:
        SsrError: there are fewer than two images, or groups.
    """
    keys = index if groups is None else groups[index]
    names, sizes = np.unique(keys, return_counts=True)
    if len(names) < 2:
        what = "images" if groups is None else "groups of dataset.group"
        raise SsrError(f"{len(names)} {what} cannot be split into two: add images, or bring a val")
    order = np.random.RandomState(seed).permutation(len(names))
    held, room = list[int](), max(1, math.floor(fraction * len(index) + 0.5))
    for at in order:
        if sizes[at] <= room:
            held.append(int(at))
            room -= int(sizes[at])
    is_out = np.isin(keys, names[held or [int(sizes.argmin())]])
    return index[~is_out], index[is_out]


def share_in_words(held_out: int, whole: int, *, asked: float) -> str:
    """Say how much was held out, in percent: as it was asked for, if it is that up to rounding.

    Each class gives at least one image, and groups stay whole, so it may be far more or less.
    """
    wanted = asked * whole
    is_near = abs(held_out - wanted) <= max(0.5 + 1e-9, _NEAR * wanted)
    return f"{100 * asked:g} %" if is_near else f"{100 * held_out / whole:.3g} %"


def check_enough(
    classes: Sequence[str], labels: Indices, parts: Sequence[str], unread: Mapping[str, str]
) -> None:
    """Refuse classes that have less than one image for each part.

    Args:
        classes: their names.
        labels: of each image that is split the position of its class.
        parts: what they are split into, such as train and val.
        unread: by the class, in words, what of it is not read.
    """
    counts = np.bincount(labels, minlength=len(classes))
    few = [(name, int(n)) for name, n in zip(classes, counts, strict=True) if n < len(parts)]
    if not few:
        return
    more_of = {name: f" ({words})" for name, words in unread.items()}
    named = ", ".join(
        f"class '{name}' has {n} image{'s' * (n != 1)}{more_of.get(name, '')}"
        for name, n in few[:_NAMED]
    )
    more = f", and {len(few) - _NAMED} other classes have too few" if len(few) > _NAMED else ""
    removal = ", or remove its folder" if len(few) == 1 else ", or remove their folders"
    rest = len(classes) - len(few)
    raise SsrError(
        f"{named}{more}; {len(parts)} are needed, one each for {' and '.join(parts)}: add images"
        f"{removal if rest >= 2 else ''}"
    )


def _check_classes(images: Images, index: Indices, train: Indices) -> None:
    """Refuse to hold out all images of a class, which then could not be learnt."""
    labels, count = images.labels.numpy(), len(images.classes)
    before, after = (np.bincount(labels[part], minlength=count) for part in (index, train))
    lost = np.flatnonzero((before > 0) & (after == 0))
    if len(lost):
        names = ", ".join(f"'{images.classes[at]}'" for at in lost[:_NAMED])
        raise SsrError(
            f"dataset.group holds out for val all images of class {names}, which then cannot be "
            "learnt: type another dataset.split_seed, a smaller dataset.val_fraction, or say in a "
            "column what is val, and type dataset.split with its name"
        )


def hold_out_val(
    images: Images, index: Indices, *, fraction: float, seed: int, groups: Indices | None = None
) -> tuple[Indices, Indices]:
    """Split the training images into those to train on and `val`, groups whole.

    Raises:
        SsrError: `fraction` is not between 0 and 1, or leaves less than one image for a class; or
            the groups of val are all that a class has.
    """
    if not 0 < fraction < 1:
        raise SsrError(
            f"dataset.val_fraction={fraction} is not a share of the training images: "
            "type a number above 0 and below 1, such as dataset.val_fraction=0.1"
        )
    if groups is not None or images.target is not Target.one_class:
        train, val = drawn(index, fraction=fraction, seed=seed, groups=groups)
        if images.target is Target.one_class:
            _check_classes(images, index, train)
        return train, val
    n, classes = len(index), len(images.classes)
    if fraction * n < classes - 1e-9:  # the advice, times n, may round to a little less
        enough = min(math.ceil(1e3 * classes / n) / 1e3, 0.5)
        raise SsrError(
            f"dataset.val_fraction={fraction} of {n} training images is less than one image for "
            f"each of the {classes} classes: type dataset.val_fraction={enough} or more"
        )
    return stratified(images, index, fraction=fraction, seed=seed)
