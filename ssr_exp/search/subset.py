"""Some of very many trainings, chosen by their networks alone.

Never by their outcomes: a likelihood of what was picked for being good would take the luck of the
best for the truth, and the noise for smaller than it is. Nor does the order of the records count.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor

REPEATS = 4  # trainings of one network that are kept at most: they tell the noise
SEED = 0


def spread(X: Float[Tensor, "n d"], count: int) -> Int[Tensor, " m"]:
    """Choose up to `count` different rows, each the farthest from those before ("maximin").

    The first is the one with the largest sum, the fullest network; extremes come early. Rows that
    equal a chosen one are left out.

    Returns:
        Their places in `X`, in the order of choice.
    """
    at = int(X.sum(1).argmax())
    chosen: list[int] = []
    nearest = torch.full((len(X),), torch.inf, dtype=X.dtype)
    while len(chosen) < min(count, len(X)) and float(nearest[at]) > 0:
        chosen.append(at)
        nearest = torch.minimum(nearest, (X - X[at]).square().sum(1))
        at = int(nearest.argmax())
    return torch.tensor(chosen)


def representative(X: Float[Tensor, "n d"], count: int) -> Int[Tensor, " m"]:
    """Choose `count` rows that stand for all: half an even spread, half drawn at random.

    The spread holds the extremes and leaves no region out; the draw is as dense as the trainings
    are, and so holds neighbours, which tell short lengths and the noise apart. A chosen network
    comes with its repeats, up to `REPEATS`.

    Returns:
        Their places in `X`, ascending; all if there are no more than `count`.
    """
    if len(X) <= count:
        return torch.arange(len(X))
    networks, network_of = torch.unique(X, dim=0, return_inverse=True)
    even = spread(networks, count).tolist()
    drawn = torch.randperm(len(networks), generator=torch.Generator().manual_seed(SEED)).tolist()
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(even, drawn))
    chosen: list[int] = []
    for network in dict.fromkeys(n for n in in_turn if n is not None):
        chosen += torch.nonzero(network_of == network).flatten()[:REPEATS].tolist()
        if len(chosen) >= count:
            break
    return torch.tensor(sorted(chosen[:count]))
