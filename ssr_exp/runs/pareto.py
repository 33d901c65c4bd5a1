"""The Pareto front: what no cheaper one matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[Any]


def front(costs: Values, scores: Values) -> NDArray[np.int64]:
    """Find the places of what none as cheap or cheaper matches, the cheapest first.

    Args:
        costs: `n` of them, minimised.
        scores: as many, maximised; of equals in both the first one stays.
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.lexsort((-values, np.asarray(costs)))
    return order[np.diff(np.maximum.accumulate(values[order]), prepend=-np.inf) > 0]
