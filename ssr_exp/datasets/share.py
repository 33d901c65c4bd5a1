"""Share each batch out between the processes that train one network together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssr_exp.errors import SsrError


@dataclass(frozen=True)
class Rows:
    """Images of a batch that stand one after another; what is before the first is at the end."""

    start: int  # may be negative
    stop: int
    count: int  # images of the whole batch

    @property
    def is_all(self) -> bool:
        """Say whether they are the whole batch."""
        return (self.start, self.stop) == (0, self.count)

    def place(self, row: int) -> int:
        """Say where in the batch one of them stands."""
        return (self.start + row) % self.count

    def take(self, whole: Tensor, dim: int = 0) -> Tensor:
        """Take these of what all images of the batch have; a view, unless `start` is negative."""
        if self.start >= 0:
            return whole.narrow(dim, self.start, self.stop - self.start)
        last = whole.narrow(dim, self.count + self.start, -self.start)
        return torch.cat([last, whole.narrow(dim, 0, self.stop)], dim)


@dataclass(frozen=True)
class Share:
    """Which of several processes this one is: each makes its rows of every batch.

    Numbers are drawn for a whole batch in each process, and alike, so that the rows of all of them
    are the batch of one process alone.
    """

    rank: int = 0
    world: int = 1

    def rows(self, count: int, before: int = 0) -> Rows:
        """Name this process's rows of a batch; between processes their number differs by 1 at most.

        Args:
            count: images of the whole batch.
            before: further rows that stand before them.
        """
        start, stop = (rank * count // self.world for rank in (self.rank, self.rank + 1))
        return Rows(start - before, stop, count)


ALONE = Share()


def check(batch_size: int, images: int, devices: int) -> None:
    """Refuse batches for training that devices cannot share evenly.

    Args:
        batch_size: as it is asked for, of all devices together.
        images: to train on; of fewer than a batch all are one batch.
        devices: that share each batch.

    Raises:
        SsrError: names sizes that they can share.
    """
    if min(batch_size, images) % devices == 0:
        return
    below = min(batch_size, images) // devices * devices
    sizes = [size for size in (below, below + devices) if 0 < size <= images]
    said = f"the {images} training images are one batch of recipe.batch_size={batch_size}"
    what = said if images < batch_size else f"recipe.batch_size={batch_size} counts all devices"
    advice = f"type recipe.batch_size={' or '.join(map(str, sizes))}, or fewer devices"
    raise SsrError(
        f"{what}, and trainer.devices={devices} cannot share it evenly: "
        f"{advice if sizes else 'type fewer devices'}."
    )
