"""Ways in which a stage holds its blocks and runs them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.random_networks.layers import Part, named


def apply(block: nn.Module, x: Tensor, *t: Tensor) -> Tensor:
    """Run a block; one that reads an embedding gets it."""
    return block(x, *t) if is_timed(block) else block(x)


def is_timed(block: Any) -> bool:
    """Say whether a block reads an embedding."""
    return getattr(block, "timed", False)


class TimedSequential(nn.Sequential):
    """Runs its parts in turn, and gives the embedding to those that read it."""

    timed = True

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block in self:
            x = apply(block, x, *t)
        return x


class Held(Part):  # a stage whose code runs the blocks
    def make(self, blocks: Sequence[nn.Module], channels: int) -> None:
        self.timed = any(map(is_timed, blocks))
        self.hold(blocks, channels)

    def hold(self, blocks: Sequence[nn.Module], channels: int) -> None:
        """Store the blocks, and what else is needed."""
        self.blocks = nn.ModuleList(blocks)


class Iterated(Held):
    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, *t)
        return x


class Indexed(Held):
    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for number in range(len(self.blocks)):
            x = self.blocks[number](x, *t)
        return x


class Counted(Held):  # its depth is stored
    def hold(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().hold(blocks, channels)
        self.depth = len(blocks)

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for number in range(self.depth):
            x = self.blocks[number](x, *t)
        return x


class Tapped(Held):  # adds what comes out of some blocks, chosen by their number
    def hold(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().hold(blocks, channels)
        self.taps = (0, 2)

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        taps = []
        for number, block in enumerate(self.blocks):
            x = block(x, *t)
            if number in self.taps:
                taps.append(x)
        return x + torch.stack(taps).sum(0)


class Collected(Held):  # adds what comes out of all blocks
    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        outputs = [x := block(x, *t) for block in self.blocks]
        return sum(outputs[1:], outputs[0])


class Sliced(Held):  # runs the first ones, then the others, and adds the two
    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block in self.blocks[:1]:
            x = block(x, *t)
        y = x
        for block in self.blocks[1:]:
            y = block(y, *t)
        return x + y


class LastApart(Held):  # runs all but the last, then the last by its index
    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block in self.blocks[:-1]:
            x = block(x, *t)
        return torch.relu(self.blocks[-1](x, *t))


class Zipped(Held):  # runs blocks and gains of a parallel list
    def hold(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().hold(blocks, channels)
        self.gains = nn.ParameterList([torch.ones(1) for _ in blocks])

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block, gain in zip(self.blocks, self.gains, strict=True):
            x = gain * block(x, *t)
        return x


class Normed(Held):  # runs blocks and norms of a parallel list, by index
    def hold(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().hold(blocks, channels)
        self.norms = nn.ModuleList([nn.GroupNorm(1, channels) for _ in blocks])

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for number, block in enumerate(self.blocks):
            x = self.norms[number](block(x, *t))
        return x


class Attributes(Held):  # holds each block under a name
    def hold(self, blocks: Sequence[nn.Module], channels: int) -> None:
        self.count = len(blocks)
        for number, block in enumerate(blocks, start=1):
            setattr(self, f"block{number}", block)

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for number in range(1, self.count + 1):
            x = getattr(self, f"block{number}")(x, *t)
        return x


class Dictionary(Held):  # holds the blocks in a dictionary
    def hold(self, blocks: Sequence[nn.Module], channels: int) -> None:
        self.blocks = nn.ModuleDict({f"b{number}": block for number, block in enumerate(blocks)})

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block in self.blocks.values():
            x = block(x, *t)
        return x


class Repeated(Held):  # runs all of its blocks twice over (a recursion)
    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        x = self.blocks[0](x, *t)
        for _ in range(2):
            for block in self.blocks[1:]:
                x = block(x, *t)
        return x


class Outer(Held):  # adds what goes in to what a sequence makes of it (a residual group)
    def hold(self, blocks: Sequence[nn.Module], channels: int) -> None:
        self.enter = blocks[0]
        self.body = (TimedSequential if self.timed else nn.Sequential)(*blocks[1:])

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        x = self.enter(x, *t)
        return x + self.body(x, *t)


class Pair(Part):  # passes two maps on, and changes one of them (a reversible network)
    def make(self, block: nn.Module) -> None:
        self.block = block

    def forward(self, pair: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        one, other, *t = pair
        return other, one + self.block(other, *t), *t


class Pairs(Held):  # a sequence of blocks that pass two maps on
    def hold(self, blocks: Sequence[nn.Module], channels: int) -> None:
        self.enter, self.body = blocks[0], nn.Sequential(*map(Pair, blocks[1:]))

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        x = self.enter(x, *t)
        one, other, *_ = self.body((x, x, *t))
        return one + other


class Recalled(Held):  # each block reads what the one before it put out, and what that read
    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        before = x = self.blocks[0](x, *t)
        for block in list(self.blocks)[1:]:
            before, x = x, block(x + before, *t)
        return x


def _sequence(blocks: Sequence[nn.Module], channels: int) -> nn.Module:
    return (TimedSequential if any(map(is_timed, blocks)) else nn.Sequential)(*blocks)


def _names(blocks: Sequence[nn.Module], channels: int) -> nn.Module:
    if any(map(is_timed, blocks)):
        return _sequence(blocks, channels)
    return nn.Sequential(OrderedDict((f"unit_{n}", block) for n, block in enumerate(blocks)))


def _nested(blocks: Sequence[nn.Module], channels: int) -> nn.Module:
    rest = [_sequence(blocks[1:], channels)] if len(blocks) > 1 else []
    return _sequence([blocks[0], *rest], channels)


HOLDERS: dict[str, Callable[[Sequence[nn.Module], int], nn.Module]] = {
    "sequence": _sequence,
    "named": _names,
    "nested": _nested,
    **named(Iterated, Indexed, Counted, Tapped, Collected, Sliced, LastApart, Zipped, Normed),
    **named(Attributes, Dictionary, Repeated, Outer, Pairs, Recalled),
}
