"""How an image file becomes pixels, and pixels what a network takes.

Training, verification and the `predict.py` of every export run this very file: it needs Pillow and
NumPy alone, and Python 3.9, and imports nothing of this project.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# What is opened, whatever a file's name is: PostScript, for one, would be run by a program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Files of these names are images; whether they are is decided when they are decoded.
SUFFIXES = frozenset(
    ".apng .bmp .dib .gif .jfif .jpe .jpeg .jpg .pbm .pfm .pgm .png .pnm .ppm .tif .tiff"
    " .webp".split()
)
MOST_PIXELS = 89_478_485  # of one image, where Pillow starts to warn: 256 MiB of RGB
GREY = frozenset(("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"))
DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras and scanners; files hold 8 or 16
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF's, and those that swap height and width
_ROWS = 256  # of an image, scaled at a time
DEPTH, WHITE = 16, 1.0  # what is taken for them until they are learnt
FITS = ("crop", "stretch", "pad")
BACKGROUNDS = {"white": 255, "black": 0}


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image file.

    It is turned as its EXIF data say. What is transparent shows the background. Grey images of
    more than 8 bits are shifted to 8, floating-point ones scaled; then the image is fitted to the
    size with Pillow's (antialiased) bilinear filter, and its bytes are normalised:
    `(pixel / 255 - mean) / std`.

    `fit` is how an image of another size gets to `size`: `crop` its centre to the shape and scale,
    `stretch`, or `pad` with the background; None: an image must have the size. Of the centre a
    `crop` keeps `crop_share`, as resizing to 256 and cropping 224 keeps 0.875.
    """

    channels: int  # 1 (grey) or 3 (RGB)
    size: tuple[int, int]  # height and width in pixels
    fit: str | None = None
    background: int = 255  # behind what is transparent, and beside a padded image
    depth: int | None = None  # bits of grey images whose files hold more than 8, if there were some
    white: float | None = None  # the value that is white in floating-point images, likewise
    mean: tuple[float, ...] = ()  # of each channel, in 0..1
    std: tuple[float, ...] = ()
    crop_share: float = 1.0  # of each side of the largest centre of the shape


class Opened(NamedTuple):
    """An image as its file holds it."""

    mode: str  # Pillow's
    size: tuple[int, int]  # height and width in pixels, turned as EXIF says
    is_grey: bool
    is_transparent: bool = False  # the background shows through it somewhere
    low: float = 0.0  # the lowest value of more than 8 bits of grey, or of floating-point numbers
    peak: float = 255.0  # likewise the highest
    is_animated: bool = False  # more frames or pages than the first, which is read
    is_cut: bool = False  # 16 bits of each colour, of which Pillow keeps the high 8

    @property
    def is_deep(self) -> bool:
        """Whether its file holds more than 8 bits of grey."""
        return self.mode.startswith("I")

    @property
    def is_float(self) -> bool:
        """Whether its file holds floating-point numbers."""
        return self.mode == "F"


def read(
    path: Any, *, size: tuple[int, int] | None, how: Preprocessing, crop: Any = None
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], Opened]:
    """Read an image file as RGB; every third of a grey one is the same.

    Args:
        path: the file, or an open one.
        size: height and width in pixels that it is fitted to; None: it keeps its own.
        how: its fit, background, depth and white count here, and no size or channels.
        crop: of height and width, returns the left, upper, right and lower edge of what is scaled
            to the size; None: the image is fitted.

    Returns:
        uint8, `h x w x 3`, and the image as its file holds it.

    Raises:
        Exception: of any kind; Pillow's for a damaged file, ValueError for one that is understood
            and of no use, both with a text that says why.
    """
    with opened(path) as image:
        is_animated, is_cut = _is_animated(image), _is_cut(image)
        turn(image)
        eight, held = _eight_bits(image, how)
    if size is not None and crop is not None:
        part = eight.crop(crop(*held.size))
        eight = part.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    elif size is not None and (held.size != size or how.crop_share < 1):
        eight = fitted(eight, size, how)
    rgb = eight if eight.mode == "RGB" else eight.convert("RGB")
    return np.asarray(rgb), held._replace(is_animated=is_animated, is_cut=is_cut)


@contextmanager
def opened(path: Any) -> Iterator[Image.Image]:
    """Open an image file for a while; `path` is as in `read`.

    Raises:
        Exception: as `read` does; ValueError if it has too many pixels.
    """
    if isinstance(path, (str, Path)):
        # by its name, Pillow would map uncompressed TIFF by the size that it has when turned
        with open(path, "rb") as file, opened(file) as image:
            yield image
        return
    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        name = getattr(path, "name", "")
        raise UnidentifiedImageError(f"cannot identify image file {str(name)!r}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"it has more than {MOST_PIXELS:,} pixels: scale it down") from None
    with image:
        if image.width * image.height > MOST_PIXELS:
            size = f"{image.width} x {image.height} pixels"
            raise ValueError(f"it has {size}, and at most {MOST_PIXELS:,} are read: scale it down")
        yield image


def turn(image: Image.Image) -> None:
    """Turn an open image as its EXIF data say; damaged ones say nothing."""
    image.load()
    if _orientation(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)


def size_of(path: Any) -> tuple[int, int]:
    """Read height and width of an image in pixels, turned as EXIF says; `path` is as in `read`.

    Raises:
        Exception: as `read` does.
    """
    with opened(path) as image:
        if image.format == "TIFF":
            image.load()  # Pillow turns these by itself, and only then
        (w, h), is_turned = image.size, _orientation(image) in _SIDEWAYS
    return (w, h) if is_turned else (h, w)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # of a damaged header, Pillow may raise anything
        return 1


def pixels(path: Any, how: Preprocessing, crop: Any = None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read an image file as the network's training did: uint8, `h x w x c`.

    `crop` is as in `read`.

    Raises:
        Exception: as `read` does; ValueError, too, if the size is another and there is no fit, or
            its numbers are none that the training knew.
    """
    rgb, held = read(path, size=how.size if how.fit else None, how=how, crop=crop)
    _check_numbers(held, how)
    if rgb.shape[:2] != tuple(how.size):
        (h, w), (height, width) = held.size, how.size
        raise ValueError(f"it has {w} x {h} pixels, and the network takes {width} x {height}")
    if how.channels == 3:
        return rgb
    return np.asarray(Image.fromarray(rgb).convert("L"))[:, :, None]


def normalised(
    images: np.ndarray[Any, np.dtype[np.uint8]], how: Preprocessing
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Turn images, uint8 `n x h x w x c`, into what the network takes, float32 `n x c x h x w`."""
    mean, std = np.asarray(how.mean), np.asarray(how.std)
    scaled = (images / 255.0 - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def fitted(
    image: Image.Image,
    size: tuple[int, int],
    how: Preprocessing,
    filter_: Image.Resampling = Image.Resampling.BILINEAR,
    beside: int | None = None,
) -> Image.Image:
    """Bring an image to a size, height and width in pixels.

    `beside` is put beside a padded one; None: the background of `how`.
    """
    to = (size[1], size[0])
    if how.fit == "stretch":
        return image.resize(to, filter_)
    if how.fit == "pad":
        color = (how.background if beside is None else beside,) * len(image.getbands())
        scale = min(to[0] / image.width, to[1] / image.height)
        inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        if 1 in inner:  # a strip, of which Pillow's would leave nothing
            after = Image.new(image.mode, to, color if len(color) > 1 else color[0])
            place = (to[0] - inner[0]) // 2, (to[1] - inner[1]) // 2
            after.paste(image.resize(inner, filter_), place)
            return after
        return ImageOps.pad(image, to, filter_, color=color)
    return ImageOps.fit(image, to, filter_, bleed=(1 - how.crop_share) / 2)


def _check_numbers(held: Opened, how: Preprocessing) -> None:
    """Refuse numbers that the training would have refused, or scaled otherwise."""
    if held.is_deep:
        kind = "grey of more than 8 bits"
        most = None if how.depth is None else 2.0**how.depth - 1
    elif held.is_float:
        kind, most = "floating-point numbers", how.white
    else:
        return
    if most is None:
        raise ValueError(
            f"it holds {kind}, and the images of the training did not, so what is white is not "
            "known: scale it to 8 bits, as these were"
        )
    if held.low < 0 or held.peak > most:
        raise ValueError(
            f"it has values from {held.low:g} to {held.peak:g}, and the images of the training "
            f"lay in 0 to {most:g}: scale it as these were"
        )


def _is_cut(image: Image.Image) -> bool:
    """Say whether colours of 16 bits are read by their high bytes, before the image is loaded."""
    if image.mode.startswith("I"):
        return False
    return any(";16" in str(tile[-1]) for tile in getattr(image, "tile", ()))


def _is_animated(image: Image.Image) -> bool:
    """Say whether frames follow the first; a phone's JPEG may hold copies, which do not count."""
    return image.format in ("GIF", "PNG", "TIFF", "WEBP") and getattr(image, "is_animated", False)


def _eight_bits(image: Image.Image, how: Preprocessing) -> tuple[Image.Image, Opened]:
    """Bring an image to RGB, or grey, of 8 bits."""
    mode, size, is_grey = image.mode, (image.height, image.width), image.mode in GREY
    if mode == "F" or mode.startswith("I"):
        values = np.asarray(image)
        low, peak = float(values.min()), float(values.max())
        if not np.isfinite((low, peak)).all():  # a NaN is the lowest and the highest of all
            raise ValueError("some of its values are no finite numbers")
        grey = Image.fromarray(_scaled(values, how, is_float=mode == "F"))
        return grey, Opened(mode, size, is_grey, low=low, peak=peak)
    if not image.has_transparency_data:
        rgb = image if mode == "RGB" else image.convert("RGB")  # to convert is to copy
        return rgb, Opened(mode, size, is_grey)
    rgba = image if mode == "RGBA" else image.convert("RGBA")
    is_transparent = any(rgba.getchannel("A").histogram()[:255])
    rgb = Image.new("RGB", rgba.size, (how.background,) * 3)
    rgb.paste(rgba, mask=rgba)
    return rgb, Opened(mode, size, is_grey, is_transparent)


def _scaled(
    values: np.ndarray[Any, np.dtype[Any]], how: Preprocessing, *, is_float: bool
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Bring numbers to bytes; what lies outside is cut.

    Some rows at a time: an image of all the pixels that are allowed is copied but once.
    """
    white, depth = WHITE if how.white is None else how.white, how.depth or DEPTH
    scaled = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS):
        rows = values[start : start + _ROWS]
        numbers = np.rint(rows * (255.0 / white)) if is_float else rows >> (depth - 8)
        scaled[start : start + _ROWS] = np.clip(numbers, 0, 255)
    return scaled
