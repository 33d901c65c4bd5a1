"""Folders of small pictures of three shapes, as people have them."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "cross", "square")
Save = Callable[[Image.Image, Path], None]


def picture(kind: str, draw: np.random.Generator, size: tuple[int, int] = (16, 16)) -> Image.Image:
    """Draw one bright shape on a dark ground; of size width and height."""
    w, h = size
    image = Image.new("RGB", size, tuple(int(v) for v in draw.integers(0, 90, 3)))
    pen, r = ImageDraw.Draw(image), min(w, h) // 4
    x, y = int(draw.integers(r, w - r)), int(draw.integers(r, h - r))
    ink = tuple(int(v) for v in draw.integers(150, 255, 3))
    box = (x - r, y - r, x + r, y + r)
    if kind == "circle":
        pen.ellipse(box, fill=ink)
    elif kind == "square":
        pen.rectangle(box, fill=ink)
    else:
        pen.line((x - r, y, x + r, y), fill=ink, width=2)
        pen.line((x, y - r, x, y + r), fill=ink, width=2)
    return image


def as_png(image: Image.Image, path: Path) -> None:
    """Save as everybody does; `path` has no suffix yet."""
    image.save(f"{path}.png")


def fill(
    root: Path,
    classes: Sequence[str] = CLASSES,
    count: int = 6,
    save: Save = as_png,
    size: tuple[int, int] = (16, 16),
    seed: int = 0,
) -> Path:
    """Write `count` pictures for each class below `root`; each seed draws others."""
    draw = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            save(picture(CLASSES[number % 3], draw, size), root / name / f"{k:03}")
    return root


def noise(root: Path, *, size: tuple[int, int] = (6, 6), mode: str = "RGB", **counts: int) -> Path:
    """Write random images for each class: `noise(root, cat=3, dog=4)`."""
    draw = np.random.default_rng(len(str(root)))
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            values = draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(values).convert(mode).save(root / name / f"{i}.png")
    return root


def split(root: Path, *parts: str) -> Path:
    """Write folders of different pictures, one for each part."""
    for seed, part in enumerate(parts):
        fill(root / part, seed=seed)
    return root


def numbers(kind: str, factor: float, suffix: str = "") -> Save:
    """Save grey numbers of another kind, such as uint16, as PNG where it can hold them, or TIFF."""

    def save(image: Image.Image, path: Path) -> None:
        values = (np.asarray(image.convert("L"), np.float64) * factor).astype(kind)
        Image.fromarray(values).save(f"{path}{suffix or ('.png' if kind == 'uint16' else '.tiff')}")

    save.__name__ = f"{kind}_{factor:g}"  # a test's name
    return save


sixteen_bit = numbers("uint16", 257)  # all of them
twelve_bit = numbers("uint16", 16)  # of 16, as cameras do
float_tiff = numbers("float32", 1 / 255)


def as_mode(mode: str) -> Save:
    """Save as PNG in one of Pillow's modes."""
    return lambda image, path: as_png(image.convert(mode), path)


def phone(image: Image.Image, path: Path) -> None:
    """Store a picture as a phone does: turned, with the turn in EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(f"{path}.jpg", exif=exif, quality=92)


def sixteen_bit_colours(image: Image.Image, path: Path, *, bits: int = 16) -> None:
    """Write numbers of so many bits into a PNG of 16 bits a channel, which Pillow cannot."""
    mode = image.mode if image.mode in ("RGBA", "LA") else "RGB"
    values = np.asarray(image.convert(mode)).astype(np.uint32) * (2**bits - 1) // 255
    rows = values.astype(">u2").tobytes()
    step = 2 * image.width * values.shape[2]
    lines = b"".join(b"\0" + rows[at : at + step] for at in range(0, len(rows), step))
    colours = {"RGB": 2, "LA": 4, "RGBA": 6}[mode]
    header = struct.pack(">IIBBBBB", *image.size, 16, colours, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    Path(f"{path}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def drawn_in_alpha(image: Image.Image, colour: tuple[int, int, int, int]) -> Image.Image:
    """Keep the shape in the transparency alone."""
    drawn = Image.new("RGBA", image.size, colour)
    drawn.putalpha(image.convert("L").point(lambda v: 255 if v > 110 else 0))
    return drawn


def icon(image: Image.Image, path: Path) -> None:
    """Save black on nothing."""
    as_png(drawn_in_alpha(image, (0, 0, 0, 0)), path)


def red_icon(image: Image.Image, path: Path) -> None:
    """Save a colour on nothing, that shows on black and on white."""
    as_png(drawn_in_alpha(image, (200, 0, 0, 255)), path)


def one_picture(image: Image.Image, path: Path) -> None:
    """Save the same dark picture, whatever was drawn."""
    as_png(Image.new("RGB", image.size, (9, 9, 9)), path)


def copied(source: Path, to: Path, prefix: str = "") -> None:
    to.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.*"):
        shutil.copy(path, to / f"{prefix}{path.name}")
