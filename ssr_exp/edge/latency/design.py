"""Which networks of a lattice to measure, so that few say much of all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.lattice import Lattice
from ssr_exp.rescaling.plan import Architecture

DRAWS = 8  # parts of the sequence, each as long as the design
FEWEST = 8  # networks that a latency model can be fitted to


def choose(lattice: Lattice, count: int, *, seed: int = 0) -> list[Architecture]:
    """Choose networks that cover a lattice evenly: its ends, then a scrambled Sobol sequence.

    Each segment's blocks and channels are a dimension of the sequence (Sobol' 1967; Owen 1998), so
    any first part of the list covers the range of each of them, and pairs of them, evenly. Of a
    lattice that has no more than `count` networks, all are chosen.

    Raises:
        SsrError: if `count` is too small for a model.
    """
    from scipy.stats import qmc

    if count < FEWEST:
        raise SsrError(f"a latency model takes {FEWEST} networks or more, not {count}.")
    plan = lattice.plan
    chosen = dict.fromkeys((plan.baseline, *cost.decode(plan, lattice.points([0]))))
    if lattice.size <= count:
        return cost.decode(plan, lattice.points(range(lattice.size)))
    sequence = qmc.Sobol(2 * len(lattice.options), rng=np.random.default_rng(seed))
    size = 1 << (count - 1).bit_length()  # the sequence is even in powers of 2
    for _ in range(DRAWS):
        for architecture in cost.decode(plan, _points(lattice, sequence.random(size))):
            chosen.setdefault(architecture)
        if len(chosen) >= count:
            return list(chosen)[:count]
    # Of a lattice that is hardly larger, the sequence meets the last points late.
    chosen |= dict.fromkeys(lattice.sample(count, seed=seed))
    return list(chosen)[:count]


def _points(lattice: Lattice, unit: NDArray[np.float64]) -> Points:
    """Place points of the unit cube, `n x 2S`, in a lattice, `n x S`: first blocks, then widths."""
    columns = []
    for s, options in enumerate(lattice.options):
        depth = len(lattice.plan.segments[s].blocks)
        blocks, widths = np.unique(options % depth), np.unique(options // depth)
        pick = [
            values[(unit[:, 2 * s + k] * len(values)).astype(int)]
            for k, values in enumerate((blocks, widths))
        ]
        columns.append(pick[1] * depth + pick[0])
    return np.stack(columns, axis=1).astype(np.int32)
