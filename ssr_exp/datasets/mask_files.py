"""How a mask file becomes numbers of classes, and masks follow their images.

Training and the `predict.py` of a segmentation run this very file: it needs Pillow and NumPy alone,
and Python 3.9.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ssr_exp.datasets.preprocessing import Preprocessing, fitted, opened, size_of, turn

PADDED = -1  # in a fitted mask: what lies beside the image
_ALPHA = {"RGBA": 3, "LA": 1, "PA": 1}  # modes with transparency, and its channel


def fitted_numbers(
    path: Any, image: Any, how: Preprocessing, colours: dict[int, Any] | None = None
) -> np.ndarray[Any, np.dtype[Any]]:
    """Read the number of each pixel of a mask, int16, and fit it as its image is.

    Args:
        path: of the mask: grey values, places in a palette, or 16 bits.
        image: its image, whose size it must have.
        how: the fit and size of the image.
        colours: takes the colour of each number that is a place in a palette.

    Returns:
        `h x w` of `how.size`, `PADDED` beside the image.

    Raises:
        Exception: of any kind; Pillow's for a damaged file, ValueError for one that is understood
            and no mask of the image.
    """
    values, size = numbers(path, colours), size_of(image)
    if values.shape != size:
        (h, w), (height, width) = values.shape, size
        raise ValueError(f"{w} x {h} pixels, and its image has {width} x {height}")
    if values.shape == tuple(how.size) and how.crop_share == 1:
        return values
    return fitted_mask(values, how, beside=PADDED)


def fitted_mask(
    mask: np.ndarray[Any, np.dtype[Any]], how: Preprocessing, *, beside: int
) -> np.ndarray[Any, np.dtype[Any]]:
    """Bring a mask, whole numbers `h x w`, to a size as its image is, without mixing classes.

    Args:
        mask: of any size.
        how: the fit and size of the image.
        beside: what is put beside a padded one.
    """
    image, nearest = Image.fromarray(mask.astype(np.int32)), Image.Resampling.NEAREST
    after = fitted(image, how.size, how, nearest, beside)
    return np.asarray(after).astype(mask.dtype)


def numbers(path: Any, colours: dict[int, Any] | None = None) -> np.ndarray[Any, np.dtype[Any]]:
    """Read the number of each pixel of a mask, int16 `h x w`; `colours` as in `fitted_numbers`.

    Raises:
        Exception: as `fitted_numbers` does.
    """
    with opened(path) as image:
        if image.format == "JPEG":
            raise ValueError("it is a JPEG, which changes numbers")
        turn(image)
        mode, values = image.mode, np.asarray(image)
        if mode == "F":
            raise ValueError("it holds floating-point numbers")
        if mode in _ALPHA:
            if (values[..., _ALPHA[mode]] != 255).any():
                raise ValueError("it is transparent in places")
            values = values[..., : _ALPHA[mode]]
        if colours is not None and mode in ("P", "PA"):
            palette = np.asarray(image.getpalette("RGB")).reshape(-1, 3).tolist()
            places = np.unique(values).tolist()
            known = [at for at in places if at < len(palette) and palette.count(palette[at]) == 1]
            colours.update({at: tuple(palette[at]) for at in known})
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise ValueError("it holds colours (RGB), and no numbers of classes")
        values = values[..., 0]
    if values.min() < 0 or values.max() > np.iinfo(np.int16).max:
        raise ValueError(f"it holds {values.min()} to {values.max()}")
    return values.astype(np.int16)
