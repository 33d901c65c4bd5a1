"""Learn from all images of a folder which numbers in their files are white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ssr_exp.datasets.preprocessing import DEPTH, DEPTHS, WHITE, Opened, Preprocessing
from ssr_exp.errors import SsrError

MOST = 2 ** DEPTHS[-1] - 1


def learn(
    how: Preprocessing, opened: Sequence[Opened], root: Path, files: Sequence[str]
) -> Preprocessing:
    """Choose the depth of grey images of more than 8 bits, and the white of floating-point ones.

    Cameras write 10 to 14 bits into files of 16, so the depth is the smallest usual one that holds
    the highest value of all images together.

    Args:
        how: what was asked for; depth and white stay None where there are no such images.
        opened: all images.
        root: the folder, to name one in an error.
        files: likewise.

    Raises:
        SsrError: if numbers are negative, or too high.
    """
    _check(opened, root, files)
    deep = [one.peak for one in opened if one.is_deep]
    floats = [one.peak for one in opened if one.is_float]
    if deep:
        how = replace(how, depth=min(bits for bits in DEPTHS if max(deep) < 2**bits))
    if floats:
        how = replace(how, white=1.0 if max(floats) <= 1 else 255.0)
    return how


def _check(opened: Sequence[Opened], root: Path, files: Sequence[str]) -> None:
    for one, file in zip(opened, files, strict=True):
        if not (one.is_float or one.is_deep):
            continue
        most = 255 if one.is_float else MOST
        if one.low < 0 or one.peak > most:
            allowed = "in 0 to 1 or in 0 to 255" if one.is_float else f"in 0 to {MOST}"
            raise SsrError(
                f"{root / file} has values from {one.low:g} to {one.peak:g}, so what is black and "
                f"what is white is not known: scale all images alike, to values {allowed}"
            )


def changed(before: Preprocessing, after: Preprocessing, opened: Sequence[Opened]) -> list[int]:
    """List the images that another depth or white makes other pixels of."""
    deep = after.depth not in (None, before.depth or DEPTH)
    floats = after.white not in (None, before.white or WHITE)
    return [
        i for i, one in enumerate(opened) if (deep and one.is_deep) or (floats and one.is_float)
    ]
