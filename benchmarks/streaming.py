"""Images a second that are streamed from files, beside torchvision's usual loader, and memory.

Memory is that of this process and its workers, each page counted once, by how much a folder of so
many names adds to it. The names are links to a few files.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

from benchmarks import loops, measure
from benchmarks.measure import Figure
from ssr_exp.config import CropFrom, DatasetConf
from ssr_exp.datasets import in_memory
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.batches import Batches
from ssr_exp.datasets.image_folder import folder_images
from ssr_exp.datasets.image_folder.file_index import FileNames
from ssr_exp.datasets.image_folder.survey import Survey, survey
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.datasets.preprocessing import Preprocessing

PART = "streaming"
CLASSES = 10
PHOTO = (500, 375)  # width and height: the usual ones of ImageNet
BETWEEN = (0.08, 1.0)  # shares of the area of a crop


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    images: int = 1000
    side: int = 224
    batch_size: int = 64
    workers: int = 2
    rounds: int = 5
    names: tuple[int, ...] = (10**4, 10**6)


SMOKE = Size(images=40, side=16, batch_size=8, rounds=1, names=(400, 800))


def measured(size: Size) -> list[Figure]:
    """Serve epochs in turns, then count the memory of folders of more and more names."""
    with tempfile.TemporaryDirectory() as name:
        return [*_rates(size, Path(name)), *_memory(size, Path(name))]


def _rates(size: Size, folder: Path) -> list[Figure]:
    root = _photos(folder / "photos", size.images)
    served = {"ours": _ours(size, root, folder), "usual": _usual(size, root)}
    assert len(served["ours"]) == len(served["usual"])
    count = len(served["ours"]) * size.batch_size
    seconds = measure.interleaved(
        {name: loops.served(batches) for name, batches in served.items()}, rounds=size.rounds
    )
    label = f"{size.side} x {size.side} of {PHOTO[0]} x {PHOTO[1]}, {size.workers} workers"
    ratio = measure.ratio(
        PART, f"{label}: ours over usual", seconds["usual"], seconds["ours"], at_least=1.0
    )
    return [
        measure.rate(PART, f"{label}: ours", seconds["ours"], count, "images/s"),
        measure.rate(PART, f"{label}: torchvision's", seconds["usual"], count, "images/s"),
        ratio,
    ]


def _ours(size: Size, root: Path, folder: Path) -> Batches:
    conf = DatasetConf(
        "image_folder",
        root=str(root),
        resize=size.side,
        stream=True,
        crop_scale=[*BETWEEN],
        crop_from=CropFrom.file,
        flip=True,
    )
    splits = in_memory.load(conf, folder / "data")
    module = TensorDataModule(
        splits,
        batch_size=size.batch_size,
        augmentation=Augmentation.from_conf(conf),
        workers=size.workers,
    )
    return module.train_dataloader()


def _usual(size: Size, root: Path) -> DataLoader[Any]:
    """The same transforms, as torchvision's references have them."""
    chain = v2.Compose(
        [
            v2.RandomResizedCrop(size.side, BETWEEN, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return DataLoader(
        datasets.ImageFolder(root / "train", chain),
        batch_size=size.batch_size,
        shuffle=True,
        num_workers=size.workers,
        persistent_workers=True,
        drop_last=True,
    )


def _photos(root: Path, count: int) -> Path:
    """Write JPEG files that look like photographs to a decoder."""
    draw = np.random.default_rng(0)
    for number in range(count + CLASSES):
        part = "train" if number < count else "val"
        path = root / part / f"class{number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        coarse.resize(PHOTO, Image.Resampling.BICUBIC).save(path, quality=90)
    return root


def _memory(size: Size, folder: Path) -> list[Figure]:
    """Load each folder in a process of its own, and count what it and its workers hold."""
    figures = []
    for count in size.names:
        held = _held(_links(folder / f"links{count}", count), folder, size.workers)
        name = f"{count:,} names, {size.workers} workers"
        figures += [
            Figure(PART, f"{name}: all processes", held["all"] / 2**20, "MiB"),
            Figure(PART, f"{name}: a worker's own", held["worker"] / 2**20, "MiB"),
        ]
    return figures


def _links(root: Path, count: int) -> Path:
    """Name a few files so many times: one tiny picture for each class, linked in folders."""
    for label in range(CLASSES):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        first = folder / "0.png"
        Image.new("RGB", (8, 8), (label * 20, 99, 9)).save(first)
        Image.new("RGB", (8, 8), (label * 20, 9, 99)).save(other := folder / "1.png")
        per_file, source = 30_000, other  # a file system allows so many links to a file
        for number in range(2, count // CLASSES):
            if number % per_file == 0:
                source = folder / f"{number}.png"
                source.write_bytes(other.read_bytes())
            else:
                os.link(source, folder / f"{number}.png")
    return root


def _held(root: Path, folder: Path, workers: int) -> dict[str, int]:
    """Run `python -m benchmarks.streaming ROOT DATA WORKERS`, which prints bytes."""
    words = [sys.executable, "-m", "benchmarks.streaming", str(root), str(folder / "data")]
    done = subprocess.run([*words, str(workers)], check=True, capture_output=True, text=True)
    return {key: int(value) for key, value in re.findall(r"^(\w+) (\d+)$", done.stdout, re.M)}


def main(root: str, data: str, workers: str) -> None:
    """Serve a few batches of a folder that was looked at before, and say what is held meanwhile."""
    conf = DatasetConf("image_folder", root=root, stream=True, flip=True)
    folder_images.survey = _sampled
    if os.fork() == 0:  # an earlier command, which looks at the files
        in_memory.load(conf, Path(data))
        os._exit(0)
    os.wait()
    module = TensorDataModule(
        in_memory.load(conf, Path(data)),
        batch_size=8,
        augmentation=Augmentation.from_conf(conf),
        workers=int(workers),
    )
    batches = module.train_dataloader()
    for _ in zip(range(20), batches, strict=False):
        pass
    own = [_bytes(pid, "Pss") for pid in (os.getpid(), *_children())]
    print("all", sum(own))
    print("worker", max(_bytes(pid, "Private_Dirty") for pid in _children()))
    batches.close()


def _sampled(
    root: Path, files: FileNames, how: Preprocessing, members: Tensor, allowed: int
) -> Survey:
    """Look at a few of a million files, and take the others for the like: that is what is kept."""
    some = [*range(0, len(files), max(1, len(files) // 50))]
    known = survey(root, FileNames.of(files[i] for i in some), how, members[some], allowed)
    return replace(known, hashes=torch.arange(len(files)), members=members)


def _children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in text.split()]


def _bytes(pid: int, field: str) -> int:
    """Read a sum over all of a process's memory; `Pss` shares each page among those that map it."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(re.findall(rf"^{field}: +(\d+)", text, re.M)[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
