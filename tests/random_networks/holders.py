"""Ways in which a stage holds its blocks and runs them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def apply(block: nn.Module, x: Tensor, *t: Tensor) -> Tensor:
    """Run a block; one that reads an embedding gets it."""
    return block(x, *t) if is_timed(block) else block(x)


def is_timed(block: nn.Module | type[nn.Module] | None) -> bool:
    """Say whether a block reads an embedding."""
    return getattr(block, "timed", False)


class TimedSequential(nn.Sequential):
    """Runs its parts in turn, and gives the embedding to those that read it."""

    timed = True

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block in self:
            x = apply(block, x, *t)
        return x


class Stage(nn.Module):
    """A stage whose code runs the blocks."""

    def __init__(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.timed = any(map(is_timed, blocks))
        self.blocks = nn.ModuleList(blocks)


class Iterated(Stage):
    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, *t)
        return x


class Indexed(Stage):
    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for number in range(len(self.blocks)):
            x = self.blocks[number](x, *t)
        return x


class Counted(Stage):
    """Its depth is stored."""

    def __init__(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__(blocks, channels)
        self.depth = len(blocks)

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for number in range(self.depth):
            x = self.blocks[number](x, *t)
        return x


class Tapped(Stage):
    """Adds what comes out of some blocks, chosen by their number."""

    def __init__(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__(blocks, channels)
        self.taps = (0, 2)

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        taps = []
        for number, block in enumerate(self.blocks):
            x = block(x, *t)
            if number in self.taps:
                taps.append(x)
        return x + torch.stack(taps).sum(0)


class Collected(Stage):
    """Adds what comes out of all blocks."""

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        outputs = [x := block(x, *t) for block in self.blocks]
        return sum(outputs[1:], outputs[0])


class Sliced(Stage):
    """Runs the first ones, then the others, and adds the two."""

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block in self.blocks[:1]:
            x = block(x, *t)
        y = x
        for block in self.blocks[1:]:
            y = block(y, *t)
        return x + y


class LastApart(Stage):
    """Runs all but the last, then the last by its index."""

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block in self.blocks[:-1]:
            x = block(x, *t)
        return torch.relu(self.blocks[-1](x, *t))


class Zipped(Stage):
    """Runs blocks and gains of a parallel list."""

    def __init__(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__(blocks, channels)
        self.gains = nn.ParameterList([torch.ones(1) for _ in blocks])

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block, gain in zip(self.blocks, self.gains, strict=True):
            x = gain * block(x, *t)
        return x


class Normed(Stage):
    """Runs blocks and norms of a parallel list, by index."""

    def __init__(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__(blocks, channels)
        self.norms = nn.ModuleList([nn.GroupNorm(1, channels) for _ in blocks])

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for number, block in enumerate(self.blocks):
            x = self.norms[number](block(x, *t))
        return x


class Attributes(nn.Module):
    """Holds each block under a name."""

    def __init__(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.timed = any(map(is_timed, blocks))
        self.count = len(blocks)
        for number, block in enumerate(blocks, start=1):
            setattr(self, f"block{number}", block)

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for number in range(1, self.count + 1):
            x = getattr(self, f"block{number}")(x, *t)
        return x


class Dictionary(Stage):
    """Holds the blocks in a dictionary."""

    def __init__(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__(blocks, channels)
        self.blocks = nn.ModuleDict({f"b{number}": block for number, block in enumerate(blocks)})

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        for block in self.blocks.values():
            x = block(x, *t)
        return x


class Repeated(Stage):
    """Runs all of its blocks twice over (a recursion)."""

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        x = self.blocks[0](x, *t)
        for _ in range(2):
            for block in self.blocks[1:]:
                x = block(x, *t)
        return x


class Outer(nn.Module):
    """Adds what goes in to what a sequence makes of it (a residual group)."""

    def __init__(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.timed = any(map(is_timed, blocks))
        self.enter = blocks[0]
        self.body = (TimedSequential if self.timed else nn.Sequential)(*blocks[1:])

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        x = self.enter(x, *t)
        return x + self.body(x, *t)


class Pair(nn.Module):
    """Passes two maps on, and changes one of them (a reversible network)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, pair: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        one, other, *t = pair
        return other, one + self.block(other, *t), *t


class Pairs(nn.Module):
    """A sequence of blocks that pass two maps on."""

    def __init__(self, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.timed = any(map(is_timed, blocks))
        self.enter, self.body = blocks[0], nn.Sequential(*map(Pair, blocks[1:]))

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        x = self.enter(x, *t)
        one, other, *_ = self.body((x, x, *t))
        return one + other


class Recalled(Stage):
    """Each block reads what came out of the one before, and what went into it."""

    def forward(self, x: Tensor, *t: Tensor) -> Tensor:
        before = x = self.blocks[0](x, *t)
        for block in list(self.blocks)[1:]:
            before, x = x, block(x + before, *t)
        return x


def _sequence(blocks: Sequence[nn.Module], channels: int) -> nn.Module:
    timed = any(map(is_timed, blocks))
    return (TimedSequential if timed else nn.Sequential)(*blocks)


def _named(blocks: Sequence[nn.Module], channels: int) -> nn.Module:
    if any(map(is_timed, blocks)):
        return _sequence(blocks, channels)
    return nn.Sequential(OrderedDict((f"unit_{n}", block) for n, block in enumerate(blocks)))


def _nested(blocks: Sequence[nn.Module], channels: int) -> nn.Module:
    rest = [_sequence(blocks[1:], channels)] if len(blocks) > 1 else []
    return _sequence([blocks[0], *rest], channels)


HOLDERS: dict[str, Callable[[Sequence[nn.Module], int], nn.Module]] = {
    "sequence": _sequence,
    "iterated": Iterated,
    "indexed": Indexed,
    "counted": Counted,
    "tapped": Tapped,
    "collected": Collected,
    "sliced": Sliced,
    "last_apart": LastApart,
    "zipped": Zipped,
    "normed": Normed,
    "attributes": Attributes,
    "dictionary": Dictionary,
    "repeated": Repeated,
    "outer": Outer,
    "pairs": Pairs,
    "recalled": Recalled,
    "named": _named,
    "nested": _nested,
}
