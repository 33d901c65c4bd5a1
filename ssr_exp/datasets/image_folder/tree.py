"""Walk a folder once: what is in it, which files are images, and what is left out."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ssr_exp.datasets.preprocessing import FORMATS, SUFFIXES

# Files of these are not even looked into; all others are, since JPEG may be called anything.
OTHERS = frozenset(
    ".avi .bz2 .cfg .csv .db .doc .docx .gz .htm .html .ini .ipynb .js .json .jsonl .lock .log .m"
    " .mat .md .mov .mp4 .parquet .pdf .pkl .pt .pth .py .rar .rst .rtf .sh .sqlite .tar .tex .tgz"
    " .toml .tsv .txt .url .xls .xlsx .xml .yaml .yml .zip".split()
)
# Images of kinds that are not read.
UNREAD = frozenset(
    ".ai .arw .avif .cr2 .cr3 .dcm .dds .dng .emf .eps .exr .fits .hdr .heic .heif .icns .ico .j2c"
    " .j2k .jp2 .jpx .jxl .nef .nii .npy .npz .orf .pcx .ps .psd .raf .raw .rw2 .svg .tga .wmf"
    " .xcf".split()
)
JUNK = frozenset(
    "__macosx thumbs.db ehthumbs.db desktop.ini icon\r @eadir $recycle.bin lost+found".split(" ")
)  # what systems leave in folders
_USUAL_SUFFIX = re.compile(r"\.[\w-]{1,16}")
BROKEN = "a broken link"
ICLOUD = ".icloud"  # ends `.cat.png.icloud`, which stands for a file that is not on this disk
DEEPEST = 100  # folders in each other

Inode = tuple[int, int]  # the same for all links to a folder


class File(NamedTuple):
    """A file, and what a cache of its content depends on."""

    name: str  # without its folders
    size: int  # bytes
    mtime_ns: int
    kind: str  # its suffix in lower case, or words
    is_image: bool  # whether it is to be decoded
    fault: str = ""  # why it is no regular file


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder and all below it; hidden files and those of the system are left out."""

    path: Path  # as it was reached
    inode: Inode
    files: tuple[File, ...]  # by name
    folders: dict[str, Folder]
    left_out: Counter[str] = field(default_factory=Counter)  # how many entries, by the reason

    @cached_property
    def images(self) -> int:
        """How many images lie in it, in no folder of its own."""
        return sum(file.is_image for file in self.files)

    @cached_property
    def total(self) -> int:
        """How many images lie in it, at any depth."""
        return self.images + sum(folder.total for folder in self.folders.values())

    @cached_property
    def holders(self) -> dict[str, Folder]:
        """Its folders that hold images, at any depth."""
        return {name: folder for name, folder in self.folders.items() if folder.total}

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Folder]]:
        """List it and all folders below with the paths to them, each once, whatever links say."""
        visited: set[Inode] = set()
        waiting = [(prefix, self)]
        while waiting:
            where, folder = waiting.pop()
            if folder.inode not in visited:
                visited.add(folder.inode)
                yield where, folder
                waiting += [(f"{where}{name}/", inner) for name, inner in folder.folders.items()]


def read(root: Path) -> Folder:
    """Read a folder and all below it, with one look at each file.

    Links are followed, but none that leads upwards, to a folder that holds the link.

    Raises:
        OSError: if a folder cannot be read.
        ValueError: if folders nest deeper than `DEEPEST`.
    """
    above = {_inode(os.stat(folder)) for folder in root.resolve().parents}
    return _read(root, _inode(os.stat(root)), above, {}, 0)


def _inode(status: os.stat_result) -> Inode:
    return status.st_dev, status.st_ino


def _read(
    path: Path, inode: Inode, above: set[Inode], visited: dict[Inode, Folder], depth: int
) -> Folder:
    if depth > DEEPEST:
        raise ValueError(f"folders nest deeper than {DEEPEST}")
    files: list[File] = []
    folders: dict[str, Folder] = {}
    left_out: Counter[str] = Counter()
    above = {*above, inode}
    with os.scandir(path) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.name.casefold() in JUNK:
            continue
        if entry.name.startswith("."):
            name = entry.name.removesuffix(ICLOUD)
            if name != entry.name and _suffix(name) in SUFFIXES:
                left_out["not downloaded from iCloud"] += 1
            else:
                left_out["hidden"] += _hidden(entry)
        elif not _is_folder(entry):
            files.append(_file(entry))
        elif (target := _inode(entry.stat())) in above or _leads_up(entry, path):
            left_out["links to folders above"] += 1
        else:
            if target not in visited:
                visited[target] = _read(path / entry.name, target, above, visited, depth + 1)
            folders[entry.name] = visited[target]
    return Folder(path, inode, tuple(files), folders, +left_out)


def _hidden(entry: os.DirEntry[str]) -> int:
    """Count the images of a hidden entry by their names: a file, or a folder and all below it."""
    names = [entry.name]
    if entry.is_dir(follow_symlinks=False):
        names = [name for _, _, inner in os.walk(entry.path) for name in inner]
    return sum(_suffix(name) in SUFFIXES for name in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _leads_up(entry: os.DirEntry[str], folder: Path) -> bool:
    return entry.is_symlink() and folder.resolve().is_relative_to(Path(entry.path).resolve())


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _file(entry: os.DirEntry[str]) -> File:
    suffix = _suffix(entry.name)
    kind = suffix or "no suffix"
    if suffix and suffix not in SUFFIXES and not _USUAL_SUFFIX.fullmatch(suffix):
        kind = "odd suffixes"
    is_image, fault, size, mtime_ns = suffix in SUFFIXES, "", 0, 0
    try:
        status = entry.stat()
        size, mtime_ns = status.st_size, status.st_mtime_ns
        if not stat.S_ISREG(status.st_mode):
            fault = "a pipe or a device"  # which nobody may ever write to
        elif not is_image:
            is_image = suffix not in OTHERS and _holds_image(entry.path)
    except OSError:
        fault = BROKEN
    return File(entry.name, size, mtime_ns, kind, is_image, fault)


def _holds_image(path: str) -> bool:
    """Say whether a file whose name does not tell holds an image of a kind that is read."""
    Image.preinit()
    try:
        with open(path, "rb") as file:
            start = file.read(16)
        if not any(_accepts(name, start) for name in FORMATS):
            return False
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # of what is no image, Pillow may raise anything
        return False


def _accepts(name: str, start: bytes) -> bool:
    """Ask the reader of a format whether it knows the first bytes of a file."""
    if name not in Image.OPEN:
        Image.init()
    accept = Image.OPEN[name][1]
    return accept is not None and accept(start) is True
