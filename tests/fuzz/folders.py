"""Image folders that someone damaged, or made to do damage: files, trees, links, pipes."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import tempfile
import zlib
from base64 import b64decode, b64encode
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz import mutate

FORMATS = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tiff"}
FORMATS |= {"WEBP": ".webp", "PPM": ".ppm"}
MODES = ("RGB", "L", "CMYK", "I;16", "P", "1", "RGBA", "LA", "I", "F", "YCbCr")
CLASSES = ("cat", "dog")
LINKS = (".", "..", "../..", "/etc", "/dev/null", "/dev/zero", "nowhere", "1.png", "/etc/passwd")
ODD = ("..png", ".hidden.png", "a\nb.png", "x.PNG", "\u202egnp.png", "no-suffix", "a b.txt")
ODD += ("x" * 255,)
PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"


@lru_cache
def images() -> tuple[bytes, ...]:
    """Write an 8 x 8 image in each format and mode that there is."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    found = [PROGRAM, b"", b"\x89PNG\r\n\x1a\n"]
    for mode in MODES:
        deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
        image = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
        for kind in FORMATS:
            buffer = io.BytesIO()
            try:
                image.save(buffer, kind)
            except (OSError, ValueError, KeyError):
                continue
            found.append(buffer.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    return (*found, buffer.getvalue())


def declared(width: int, height: int) -> bytes:
    """Write a PNG that says that it is of such a size, and holds one byte of it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        size, check = (struct.pack(">I", n) for n in (len(data), zlib.crc32(kind + data)))
        return size + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def make(rng: Random) -> bytes:
    """Draw a tree of two classes, most of it whole, some of it not."""
    prefix = rng.choice(("", "", "", "train/"))
    whole = images()[5]
    rows = [{"path": f"{prefix}{name}/0.png", "bytes": _text(whole)} for name in CLASSES]
    for number in range(rng.choice((1, 1, 2, 3))):
        rows.append(_odd(rng, prefix, number))
    return json.dumps({"rows": rows, "resize": rng.choice((None, 8, 8, 3))}).encode()


def _odd(rng: Random, prefix: str, number: int) -> dict[str, Any]:
    place = f"{prefix}{rng.choice(CLASSES)}"
    chance = rng.random()
    if chance < 0.70:
        suffix = rng.choice(list(FORMATS.values()))
        data = mutate.content(rng.choice(images()), rng, lambda: rng.choice(images()))
        return {"path": f"{place}/{number + 1}{suffix}", "bytes": _text(data)}
    if chance < 0.78:
        sides = rng.choices((0, 1, 8, 2**16, 2**31 - 1, 2**32 - 1), k=2)
        return {"path": f"{place}/9.png", "bytes": _text(declared(*sides))}
    if chance < 0.88:
        at = rng.choice((f"{place}/link", f"{place}/2.png", "bird", "val", "train"))
        return {"path": at, "link": rng.choice(LINKS)}
    if chance < 0.91:
        return {"path": f"{place}/3.png", "pipe": True}
    if chance < 0.94:
        return {"path": f"{place}/4.png", "folder": True}
    name = rng.choice((*ODD, "x/y/z.png", "\udcff.png"))
    above = rng.choice((place, "val/cat", "bird", "\udcff", "test/" + "d/" * 30))
    return {"path": f"{above}/{name}", "bytes": _text(rng.choice(images()))}


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def read(data: bytes) -> None:
    """Lay out the tree, list it and decode it."""
    from ssr_exp.datasets.image_folder import decoding, listing
    from ssr_exp.datasets.preprocessing import Preprocessing

    held = json.loads(data)
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="ssr-fuzz-") as folder:
        root = Path(folder, "images")
        root.mkdir()
        for row in held["rows"]:
            _lay(root, row)
        found = listing.scan(root)
        side = held["resize"]
        how = Preprocessing(3, size=(side or 0, side or 0), fit=side and "crop")
        found.key(how)
        assert all((root / file).exists() for file in found.files)
        decoded = decoding.decode(root, found.files, how)
        assert len(decoded.pixels) == len(found.labels)


@lru_cache
def _memory() -> str | None:
    """Prefer a folder in memory: some hundred thousand trees are made."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm") else None


def _lay(root: Path, row: dict[str, Any]) -> None:
    path = root / row["path"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() or not path.resolve().is_relative_to(root.resolve()):
            return  # a pipe, or through a link that was laid before
        if "link" in row:
            path.symlink_to(row["link"])
        elif "pipe" in row:
            os.mkfifo(path)
        elif "folder" in row:
            path.mkdir()
        else:
            path.write_bytes(b64decode(row["bytes"]))
    except (OSError, ValueError):
        return
