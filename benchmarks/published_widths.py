"""Channel-Bench-Macro: 16,384 widths of a ResNet, each trained three times on CIFAR-10 by others.

Su et al. 2022, "Searching for Network Width With Bilaterally Coupled Network", publish the table in
their repository xiusu/Channel-Bench-Macro. Here it is a file that the command line names,
`.csv.xz` or `.csv`, with the columns `widths` (seven digits of 1 to 4, quarters of the full width
of each channel group), `acc_1`, `acc_2`, `acc_3` (percent, on CIFAR-10's test images, the best of
60 epochs), `params` and `macs` (of one image of 3x32x32). The table itself is not ours to keep.
"""

from __future__ import annotations

import csv
import lzma
from pathlib import Path
from statistics import mean

import numpy as np
from torch import Tensor, nn

from benchmarks.table_of_networks import Table
from ssr_exp.config import ModifiersConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, planning, sets
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.search import space
from ssr_exp.search.space import Space

FULL = (256, 256, 256, 512, 512, 512, 512)
SEEN, UNSEEN = "acc_1", ("acc_2", "acc_3")
QUARTERS = 4
IMAGES = 10_000  # that accuracies are of
COLUMNS = ("widths", SEEN, *UNSEEN, "params", "macs")


def is_one(path: Path) -> bool:
    """Say whether a file is the published table, by its first line."""
    try:
        with _opened(path) as file:
            return tuple(file.readline().strip().split(",")) == COLUMNS
    except (OSError, UnicodeDecodeError, lzma.LZMAError):
        return False


def load(path: Path) -> Table:
    """Read the table; a search sees the first training, the two others tell how its answer holds.

    Raises:
        SsrError: if its networks are not all that `segment=channels` spans, at the same cost.
    """
    own = spanned()
    with _opened(path) as file:
        rows = list(csv.DictReader(file))
    shares = [[int(digit) / QUARTERS for digit in row["widths"]] for row in rows]
    depth = [1.0] * len(FULL)
    networks = [own.plan.effective(Modifiers(depth, share)) for share in shares]
    if len(set(networks)) != own.lattice.size or len(rows) != own.lattice.size:
        raise SsrError(f"{path} has {len(rows)} networks; the lattice has {own.lattice.size}.")
    counted = cost.count(own.plan, cost.encode(own.plan, networks))
    for name, ours in (("params", counted.params), ("macs", counted.macs)):
        wrong = np.flatnonzero(ours != np.array([int(row[name]) for row in rows]))
        if len(wrong):
            row = rows[wrong[0]]
            raise SsrError(
                f"{path}: {row['widths']} has {row[name]} {name}, and ours {ours[wrong[0]]}; "
                f"{len(wrong)} networks differ."
            )
    pairs = list(zip(networks, rows, strict=True))
    return Table(
        own,
        {a: float(row[SEEN]) for a, row in pairs},
        tuple(tuple(float(row[name]) for name in (SEEN, *UNSEEN)) for row in rows),
        {
            "study": "Channel-Bench-Macro",
            "counts": {
                "networks": len(rows),
                "rows": 3 * len(rows),
                "images": {"val": IMAGES},
            },
        },
        tuple(sets.expand(own.plan, ModifiersConf("sentinel_all", together=1))),
        {a: mean(float(row[name]) for name in UNSEEN) for a, row in pairs},
    )


def spanned() -> Space:
    """Span the lattice: a width of its own, in quarters, for each of the seven channel groups."""
    plan = planning.trace(PublishedResNet(), (3, 32, 32), multiple=64, kind="channels")
    return space.from_plan(plan, width_steps=QUARTERS)


class PublishedResNet(nn.Module):
    """The network whose widths the table varies, in its paper's words."""

    def __init__(self) -> None:
        super().__init__()
        c0, c1, c2, c3, c4, c5, c6 = FULL
        self.stem = nn.Sequential(*_convolution(3, c0, stride=2), nn.ReLU())
        self.blocks = nn.Sequential(
            Block(c0, c1, c0),
            Block(c0, c2, c0),
            Block(c0, c3, c4, stride=2),
            Block(c4, c5, c4),
            Block(c4, c6, c4),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c4, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Name the images' classes: `n x 3 x 32 x 32` to `n x 10`."""
        logits: Tensor = self.head(self.blocks(self.stem(images)))
        return logits


class Block(nn.Module):
    """Two convolutions, and a shortcut unless the block changes the shape."""

    def __init__(self, channels: int, inner: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.is_residual = stride == 1
        self.body = nn.Sequential(
            *_convolution(channels, inner, stride=stride), nn.ReLU(), *_convolution(inner, out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `n x channels x h x w` to `n x out x h/stride x w/stride`."""
        y: Tensor = self.body(x)
        return nn.functional.relu(x + y if self.is_residual else y)


def _convolution(channels: int, out: int, *, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)


def _opened(path: Path):  # type: ignore[no-untyped-def]  # of text, whatever packs it
    return (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8")
