"""Name the class of each pixel of image files, with the network of this folder.

    python predict.py photo.jpg more/           a mask of each image in predicted/, and its classes
    python predict.py --to DIR photo.jpg        masks in another folder
    python predict.py --json photo.jpg          one line of JSON for each image
    python predict.py --score val/              images in images/ and masks of their names in masks/
    python predict.py --score --masks DIR img/  masks of their names in another folder: mean IoU

A mask is a PNG file with a palette, of its image's size: each pixel is the place of its class among
the labels, from 0; 255 where the network does not look. It lies in its folder as its image does
below the folder that is named; where several are, below the one that holds them all. Masks of an
earlier run are replaced; other files never are, and nothing is written among true masks.

Needs Python 3.9, Pillow 10.1, NumPy and what runs the file: onnxruntime, executorch or torch.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ssr_exp.datasets.mask_files import PADDED, fitted_numbers
from ssr_exp.datasets.preprocessing import SUFFIXES, Preprocessing, size_of

UNKNOWN = (
    "--score takes images with masks: images/ beside masks/ with the same names, or --masks DIR"
)
WRITER = "ssr_exp predict.py"  # in masks: they may be replaced
NOWHERE = 255  # in masks: pixels that do not count
NO_MASKS = frozenset(".csv .html .jpeg .jpg .json .md .txt .xml .yaml .yml .zip".split())
ADDED = re.compile(r"[ _-](mask|masks|label|labels|gt|seg|segmentation|annotation)$", re.I)


def add_options(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """Add what only masks know."""
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        default=Path("predicted"),
        help="where masks go (predicted)",
    )
    parser.add_argument("--masks", metavar="DIR", help="with --score: masks of the images")
    parser.set_defaults(is_output=is_predicted)


def predicted(logits: Any, about: dict[str, Any]) -> Any:
    """Name the class of each pixel: uint8, `n x h x w`."""
    return logits.argmax(axis=1).astype(np.uint8)


def shown(
    mask: Any, file: Path, about: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Write the mask of an image, and say which classes are in it.

    Raises:
        ValueError: if it cannot be written, or would replace a file that is no mask of an
            earlier run.
    """
    path = options.to / place(file, options)
    written = vars(options).setdefault("written", {})
    if path in written:
        raise ValueError(
            f"its mask {path} would replace that of {written[path]}: predict it alone, and type "
            "--to DIR"
        )
    whole = in_image(mask, file, Preprocessing(**about["preprocessing"]))
    image = Image.fromarray(whole)
    image.putpalette([value for place in range(256) for value in color(place)])
    about_file = PngImagePlugin.PngInfo()
    about_file.add_text("Software", WRITER)
    try:
        if fault := refusal(path, file, options):
            raise ValueError(f"its mask {path} would {fault}: type --to DIR")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, pnginfo=about_file)
    except OSError as error:
        raise ValueError(
            f"its mask {path} cannot be written ({error.strerror}): type --to DIR"
        ) from None
    written[path] = file
    counts = np.bincount(whole[whole != NOWHERE], minlength=len(about["labels"]))
    order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
    shares = {about["labels"][i]: float(counts[i] / counts.sum()) for i in order}
    return {"mask": str(path), "shares": shares}


def place(file: Path, options: argparse.Namespace) -> Path:
    """Say where an image's mask lies below `--to`: as the image below all that was named."""
    if not hasattr(options, "above"):
        options.above = above(options.images)
    try:
        inside = Path(os.path.abspath(file)).relative_to(options.above)
    except ValueError:
        inside = Path(file.name)
    return inside.with_name(f"{file.stem}.png")


def above(names: Sequence[str]) -> str:
    """Find the folder that holds all files and folders of these names."""
    folders = (name if os.path.isdir(name) else os.path.dirname(name) for name in names)
    try:
        return os.path.commonpath([os.path.abspath(folder) for folder in folders])
    except ValueError:  # they are on several drives
        return ""


def refusal(path: Path, file: Path, options: argparse.Namespace) -> str | None:
    """Say why an image's mask must not be written to a path; None if it may be.

    Args:
        path: of the mask.
        file: the image.
        options: what was typed.
    """
    if path.resolve() == file.resolve():
        return "replace it"
    roots = (root.resolve() for root, _ in folders_of_truth(file, options))
    if any(path.resolve().is_relative_to(root) for root in roots):
        return "lie among the true masks"
    if path.exists() and not is_predicted(path):
        return "replace a file that is no mask of an earlier run"
    return None


def is_predicted(path: Path) -> bool:
    """Tell whether a file is a mask that this script wrote."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return bool(image.info.get("Software") == WRITER)
    except (OSError, ValueError, Image.DecompressionBombError):
        return False


def line(shown: dict[str, Any]) -> str:
    """Write what is shown of an image."""
    named = (f"{label} {100 * share:.1f} %" for label, share in shown["shares"].items())
    return f"{', '.join(named)} ({shown['mask']})"


def in_image(mask: Any, file: Path, how: Preprocessing) -> Any:
    """Bring a mask to the size of its image; what the network did not see is `NOWHERE`."""
    (h, w), (height, width) = size_of(file), how.size
    if (h, w) == (height, width) and how.crop_share == 1:
        return mask
    if how.fit == "pad":  # what lies beside the image is cut off
        image_h, image_w = min(height, round(h / w * width)), min(width, round(w / h * height))
        top, left = round((height - image_h) / 2), round((width - image_w) / 2)
        mask = mask[top : top + image_h, left : left + image_w]
    seen_h, seen_w = h, w
    if how.fit == "crop":
        seen_h = round(how.crop_share * min(h, w / width * height))
        seen_w = round(how.crop_share * min(w, h / height * width))
    scaled = Image.fromarray(mask).resize((seen_w, seen_h), Image.Resampling.NEAREST)
    whole = np.full((h, w), NOWHERE, np.uint8)
    top, left = round((h - seen_h) / 2), round((w - seen_w) / 2)
    whole[top : top + seen_h, left : left + seen_w] = np.asarray(scaled)
    return whole


def color(place: int) -> tuple[int, int, int]:
    """Choose the colour of a class, as PASCAL VOC does: far apart, and black for the first."""
    red = green = blue = 0
    for bit in range(8):
        red |= (place >> 3 * bit & 1) << 7 - bit
        green |= (place >> 3 * bit + 1 & 1) << 7 - bit
        blue |= (place >> 3 * bit + 2 & 1) << 7 - bit
    return red, green, blue


def truth_of_file(file: Path, about: dict[str, Any], options: argparse.Namespace) -> Any:
    """Find an image's mask: of its name in `--masks`, or in `masks` beside `images`; name both."""
    if not options.score:
        return None
    path = file.absolute()
    folders = (folder for _, folder in folders_of_truth(file, options))
    for folder in (folder for folder in folders if os.path.isdir(folder)):
        for other in masks_in(folder).get(file.stem, ()):
            if other.absolute() != path:
                return file, other
    return None


@functools.cache
def masks_in(folder: Path) -> dict[str, list[Path]]:
    """List the masks of a folder by the names that their images may have, images first.

    Raises:
        ValueError: if it cannot be read.
    """
    found: dict[str, list[Path]] = {}
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise ValueError(f"the masks in {folder} cannot be read ({error.strerror})") from None
    paths = [path for path in paths if path.suffix.lower() not in NO_MASKS]
    names = {(stem, path) for path in paths for stem in (path.stem, ADDED.sub("", path.stem))}
    # `a-mask.png` is of `a.jpg`, if no `a.png` is
    ranks = ((p.suffix.lower() not in SUFFIXES, stem != p.stem, p, stem) for stem, p in names)
    for *_, path, stem in sorted(ranks):
        found.setdefault(stem, []).append(path)
    return found


def folders_of_truth(file: Path, options: argparse.Namespace) -> list[tuple[Path, Path]]:
    """List where true masks are, and where an image's would be there."""
    if options.masks:
        return [(Path(options.masks),) * 2]
    *parts, _ = file.absolute().parts
    places = [place for place, part in enumerate(parts) if part == "images"]
    roots = [(Path(*parts[:place], "masks"), parts[place + 1 :]) for place in places]
    return [(root, root.joinpath(*below)) for root, below in roots]


def truth_of_row(row: dict[str, str], about: dict[str, Any]) -> Any:
    """Know nothing of a table: it holds no masks."""
    return None


def compared(mask: Any, truth: tuple[Path, Path], about: dict[str, Any]) -> Any:
    """Count the pixels of each class, in rows, that were taken for each.

    Raises:
        ValueError: if the true mask cannot be read, holds what is no class, or is not of its
            image's size.
    """
    how, labels = Preprocessing(**about["preprocessing"]), len(about["labels"])
    file, path = truth
    try:
        values = fitted_numbers(path, file, how)
    except Exception as error:  # of a damaged file, Pillow may raise anything
        raise ValueError(f"{path} cannot be used as its mask: {error}") from None
    classes = np.full(values.shape, -1)
    for value, place in (*about["numbers"].items(), (PADDED, NOWHERE)):
        classes[values == int(value)] = place
    if (classes < 0).any():
        raise ValueError(f"{path} holds {values[classes < 0][0]}, which is no class")
    counted = classes != NOWHERE
    pairs = classes[counted].astype(np.int64) * labels + mask[counted]
    return np.bincount(pairs, minlength=labels**2).reshape(labels, labels)


def score(counts: Sequence[Any], about: dict[str, Any]) -> str:
    """Write the mean of the classes' intersections over unions, of the classes that there are."""
    table = sum(counts)
    both, either = table.diagonal(), table.sum(0) + table.sum(1) - table.diagonal()
    share = 100 * float(np.mean(both[either > 0] / either[either > 0]))
    return f"{share:.2f} % mIoU of {len(counts)} images"
