"""The stages of a network: a resize, and blocks in what holds them."""

from __future__ import annotations

from torch import Tensor, nn

from tests.random_networks.blocks import BLOCKS
from tests.random_networks.branches import BRANCHES
from tests.random_networks.descriptions import Description, Stage
from tests.random_networks.extras import EXTRAS
from tests.random_networks.graphs import Graph
from tests.random_networks.holders import HOLDERS, is_timed
from tests.random_networks.layers import Part, Style
from tests.random_networks.products import PRODUCTS
from tests.random_networks.resizes import resize

ALL_BLOCKS = BLOCKS | BRANCHES | PRODUCTS
BLOCK_KINDS = (*ALL_BLOCKS, "graph")


def style(description: Description, stage: Stage) -> Style:
    """Say how the layers of a stage are made."""
    return Style(description.dims, stage.norm, stage.activation, stage.padding)


def reads_time(stage: Stage) -> bool:
    """Say whether the blocks of a stage read an embedding."""
    return is_timed(ALL_BLOCKS.get(stage.block))


class Level(Part):  # a resize, and the blocks of a stage
    def make(self, description: Description, stage: Stage, channels: int, size: int) -> None:
        made, self.timed = style(description, stage), reads_time(stage)
        self.resize, self.size = resize(stage.resize, made, channels, size)
        blocks = []
        for number in range(stage.count):
            block = _block(made, stage, stage.channels if number else channels)
            for kind, place, direct in description.extras:
                if place == "block":
                    block = Dressed(block, EXTRAS[kind](made, stage.channels, self.size), direct)
            blocks.append(block)
        self.blocks = HOLDERS[stage.holder](blocks, stage.channels)

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        return self.blocks(self.resize(x), *t)


def _block(made: Style, stage: Stage, channels: int) -> nn.Module:
    if stage.block == "graph":
        return Graph(made, channels, stage.channels, stage.steps)
    return ALL_BLOCKS[stage.block](made, channels, stage.channels)


class Dressed(Part):  # a block, and something after it
    def make(self, block: nn.Module, extra: nn.Module, direct: bool) -> None:
        self.block, self.extra, self.direct = block, extra, direct
        self.timed = is_timed(block)

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        y = self.block(x, *t)
        return self.extra.forward(y) if self.direct else self.extra(y)
