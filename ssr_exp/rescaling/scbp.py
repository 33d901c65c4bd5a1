"""SCBP: derived models of a seed network, chosen from a set product.

Superblocks are the segments of `segment=superblock`; any other segmentation works, too. Each one
has c-ratios, the shares of its channels that it may keep; blocks are never removed. Their
Cartesian product is searched for networks that meet simple constraints, and of those some are
chosen that spread over the range of sizes. Channels that are tied together (a residual stream)
belong to the superblock that holds most of the layers that produce them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssr_exp.config import ModifiersConf, Preference
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, set_product
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.rescaling.set_product import Choices, SetProduct

log = logging.getLogger(__name__)

NEAR = 0.01  # parameters this close to a target, as a natural logarithm, count as on it
NO_LIMIT = (0.0, 1.0)

Range = tuple[float, float]


class Limits(NamedTuple):
    """The least and the most share of the seed's parameters and MACs."""

    params: Range
    macs: Range


@dataclass(frozen=True, eq=False)
class Matches:
    """Networks that meet the constraints, each once: `n x S`, and their exact cost, `n`."""

    choices: Choices
    params: NDArray[np.int64]
    macs: NDArray[np.int64]


def derive(plan: Plan, conf: ModifiersConf) -> list[Architecture]:
    """Return the seed network, then derived models from the largest to the smallest.

    Their parameters (or MACs, where only these are limited) go in equal steps of the logarithm from
    the largest to the smallest network that meets the constraints. Of the networks within `NEAR` of
    a step, `conf.prefer` takes the one whose shares of channels differ least, or the one with the
    fewest MACs; where none is as near, the nearest is taken.

    Raises:
        SsrError: if a value makes no sense, or no network meets the constraints.
    """
    limits = Limits(_range("params", conf.params), _range("macs", conf.macs))
    if conf.count < 1:
        raise SsrError(f"modifiers.count is {conf.count}; it must be 1 or more.")
    product = set_product.from_plan(plan, conf)
    matches = search(product, limits, seed=conf.draw_seed)
    chosen = _spread(product, matches, conf)
    if len(chosen) < conf.count:
        log.warning(
            "modifiers.count=%d, but only %d networks meet the constraints: widen "
            "modifiers.params or give more modifiers.c_ratios for more of them.",
            conf.count,
            len(chosen),
        )
    return [plan.baseline, *product.architectures(matches.choices[chosen])]


def search(product: SetProduct, limits: Limits, *, seed: int) -> Matches:
    """Keep the networks of a product that meet the constraints; the seed is that of its draws.

    Raises:
        SsrError: if none does; it names the network that comes nearest.
    """
    plan = product.plan
    full = cost.count_one(plan, plan.baseline)
    kept, nearest, least = [], "", math.inf
    for choices in product.chunks(seed):
        counts = cost.count(plan, product.points(choices))
        shares = counts.params / full.params, counts.macs / full.macs
        gaps = _gaps(shares[0], limits.params) + _gaps(shares[1], limits.macs)
        inside = gaps == 0
        kept.append((choices[inside], counts.params[inside], counts.macs[inside]))
        if len(gaps) and float(np.min(gaps)) < least:
            at = int(np.argmin(gaps))
            (network,) = product.architectures(choices[at : at + 1])
            params, macs = (float(share[at]) for share in shares)
            nearest = (
                f"{codes.write(plan, network)} with {params:.1%} of the parameters and {macs:.1%} "
                "of the MACs"
            )
            least = float(gaps[at])
    if least:
        raise _none(product, nearest, limits)
    columns = [np.concatenate(parts) for parts in zip(*kept, strict=True)]
    if not product.is_exact:  # of drawn networks keep each once, in the order of their choices
        _, first = np.unique(columns[0], axis=0, return_index=True)
        columns = [column[first] for column in columns]
    return Matches(*columns)


def _spread(product: SetProduct, matches: Matches, conf: ModifiersConf) -> list[int]:
    """Choose at most `conf.count` different networks, the largest first."""
    by_macs = conf.macs is not None and conf.params is None
    sizes = np.log(matches.macs if by_macs else matches.params)
    ends = float(sizes.max()), float(sizes.min())
    targets = np.linspace(*ends, conf.count) if conf.count > 1 else [sum(ends) / 2]
    chosen: list[int] = []
    for target in targets[: len(sizes)]:
        away = np.abs(sizes - target).round(9)
        away[chosen] = np.inf
        least = float(away.min())
        on_it = np.flatnonzero(away <= (NEAR if least <= NEAR else least))
        uneven, macs = product.unevenness(matches.choices[on_it]), matches.macs[on_it]
        keys = (uneven, macs) if conf.prefer == Preference.macs else (macs, uneven)
        chosen.append(int(on_it[np.lexsort([away[on_it], *keys])[0]]))
    return sorted(chosen, key=lambda number: -sizes[number])


def _range(name: str, limit: Sequence[float] | None) -> Range:
    """Read a range of shares of the seed's cost; None is no limit."""
    if limit is None:
        return NO_LIMIT
    if len(limit) != 2 or not 0 <= limit[0] <= limit[1] <= 1:
        raise SsrError(
            f"modifiers.{name} is {list(limit)}; it must be the least and the most share of the "
            f"seed network's, for instance [0.3,0.7], or null for no limit."
        )
    return limit[0], limit[1]


def _gaps(shares: NDArray[np.float64], limit: Range) -> NDArray[np.float64]:
    """Measure how far shares lie outside of a range, as a natural logarithm."""
    low, high = (max(bound, 1e-12) for bound in limit)
    outside: Any = np.maximum(np.log(low / shares), np.log(shares / high))
    return np.maximum(outside, 0.0)  # type: ignore[no-any-return]


def _none(product: SetProduct, nearest: str, limits: Limits) -> SsrError:
    """Say that nothing meets the constraints, and what comes nearest."""
    if all(block.channels.min() == block.full for block in product.superblocks):
        return SsrError(
            "modifiers=scbp: these c-ratios leave nothing but the seed network: give "
            "modifiers.c_ratios below 1 that round to fewer channels."
        )
    if not nearest:
        return SsrError(
            "modifiers=scbp: the widths of every combination of c-ratios fall where the seed "
            "network's do not: type modifiers.monotone=false, or give other modifiers.c_ratios."
        )
    asked = [
        f"{low:.0%} to {high:.0%} of the {what}"
        for (low, high), what in zip(limits, ("parameters", "MACs"), strict=True)
        if (low, high) != NO_LIMIT
    ]
    keys = [f"modifiers.{k}" for k, v in limits._asdict().items() if v != NO_LIMIT]
    return SsrError(
        f"no network of these c-ratios has {' and '.join(asked)}; the nearest is {nearest}: widen "
        f"{' or '.join(keys)}, or give other modifiers.c_ratios."
    )
