"""Sets of modifiers: which rescaled networks a sweep trains.

Each function returns effective architectures, each once, in a fixed order. Frozen segments stay
full in all of them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, combinations

import numpy as np

from ssr_exp.config import ModifiersConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, lattice, rescale, scbp
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan

log = logging.getLogger(__name__)

# Tan and Le 2019, "EfficientNet", section 3.3: depth 1.2 and width 1.1 for each doubling of the
# cost; the third factor scales the image, which a study holds fixed.
COMPOUND_DEPTH, COMPOUND_WIDTH = 1.2, 1.1
BY_FRACTION = ("uniform_width", "uniform_depth", "compound")
PROPOSED = "proposed"  # by a search, in a file that the caller reads
MOST_SENTINELS = 12  # segments: 4,095 subsets
MOST_COMBINED = 4  # segments: a search begins with all subsets of so many, 46 networks
MOST_ALONE = 16  # segments that are low alone where a search begins; of more, neighbours together
FEWEST = 1e-6  # a share of the blocks below one block in any segment


def expand(
    plan: Plan,
    conf: ModifiersConf,
    *,
    width_steps: int = 8,
    proposed: Iterable[str] = (),
    few: bool = False,
) -> list[Architecture]:
    """Turn a configuration into its networks.

    `random` draws from a lattice of `width_steps`; `proposed` stands for networks of these codes.
    `few` sentinels are enough to begin a search with: of more than `MOST_COMBINED` segments, each
    alone and all together, unless `conf.together` says otherwise; of more than `MOST_ALONE`, as
    many groups of neighbours stand for them.

    Raises:
        SsrError: if `conf.kind` is unknown or its values cannot be met.
    """
    check(conf)
    if conf.kind == PROPOSED:
        return _once(codes.parse(plan, code) for code in proposed)
    if few and conf.kind in LOWERED and conf.together is None:
        architectures = _once(_few(plan, conf))
    else:
        architectures = _once(KINDS[conf.kind](plan, conf, width_steps))
    if conf.kind in BY_FRACTION and plan.baseline in architectures:
        log.warning("a fraction of modifiers.fractions changes nothing: it is the baseline.")
    return architectures


def names() -> list[str]:
    """List what `modifiers=` may name."""
    return [*KINDS, PROPOSED]


def check(conf: ModifiersConf) -> None:
    """Refuse an unknown kind, and values that belong to another one.

    Raises:
        SsrError: it says which.
    """
    if conf.kind not in names():
        kinds = ", ".join(names())
        raise SsrError(f"modifiers.kind={conf.kind} is unknown; choose one of {kinds}.")
    if conf.file is not None and conf.kind != PROPOSED:
        raise SsrError(
            "modifiers.file names what a search proposed: type modifiers=proposed with it, not "
            f"modifiers={conf.kind}."
        )
    usual = ModifiersConf()
    if conf.kind == "random" and (conf.params, conf.macs) != (usual.params, usual.macs):
        raise SsrError(
            "modifiers.params and modifiers.macs bound the networks of SCBP alone: type "
            "modifiers=scbp with them, not modifiers=random."
        )
    by_shares = conf.depth is not None or conf.width is not None
    if conf.kind != "explicit" and (by_shares or conf.network is not None):
        raise SsrError(
            "modifiers.network, modifiers.depth and modifiers.width name one network: type "
            f"modifiers=explicit with them, not modifiers={conf.kind}."
        )
    if conf.network is not None and by_shares:
        raise SsrError(
            "give either modifiers.network, or modifiers.depth and modifiers.width, not both."
        )


def _explicit(plan: Plan, conf: ModifiersConf, _: int) -> list[Architecture]:
    """One network, by its code or by a depth and a width for each segment."""
    if conf.network is not None:
        return [codes.parse(plan, conf.network)]
    if conf.depth is None and conf.width is None:
        raise SsrError(
            "modifiers=explicit needs modifiers.network=CODE, or modifiers.depth=[...] and "
            "modifiers.width=[...] with one share for each segment."
        )
    full = [1.0] * len(plan.segments)
    depth, width = (full if values is None else values for values in (conf.depth, conf.width))
    modifiers = Modifiers(depth, width)
    architecture = plan.effective(modifiers)
    if architecture == plan.baseline:
        log.warning(rescale.unchanged(modifiers))
    return [architecture]


def sentinels(
    plan: Plan, *, depth: float | None, width: float | None, together: int | None = None
) -> list[Architecture]:
    """Every non-empty subset of segments at its low modifiers, the others full.

    Args:
        plan: the seed network's plan.
        depth: the low depth, `FEWEST` for the fewest blocks; None leaves depth full.
        width: the low width; None leaves width full.
        together: only subsets of at most so many segments, and all of them; None for no limit.

    Raises:
        SsrError: if no segment can be lowered, or there are too many subsets.
    """
    architectures = _sentinels(plan, depth, width, together)
    if not architectures:
        low, other = ("depth", "width") if width is None else ("width", "depth")
        raise SsrError(
            "these sentinels change nothing: no segment of this network can get lower in "
            f"{low}; try modifiers=sentinel_{other}."
        )
    return architectures


def _sentinels_of_kind(plan: Plan, conf: ModifiersConf, _: int) -> list[Architecture]:
    ((depth, width),) = _lows(conf)
    return sentinels(plan, depth=depth, width=width, together=conf.together)


def _few(plan: Plan, conf: ModifiersConf) -> list[Architecture]:
    """The sentinels that a search begins with: see `expand`."""
    free = _free(plan)
    if len(free) <= MOST_COMBINED:
        return KINDS[conf.kind](plan, conf, 0)
    groups = [part.tolist() for part in np.array_split(free, min(len(free), MOST_ALONE))]
    architectures = [plan.baseline] if conf.kind == "sentinel_all" else []
    for depth, width in _lows(conf):
        architectures += _lowered(plan, depth, width, [*groups, free])
    return architectures or KINDS[conf.kind](plan, replace(conf, together=1), 0)  # says why


def _lows(conf: ModifiersConf) -> list[tuple[float | None, float | None]]:
    """List the low depth and width of each kind of sentinel; None stands for full."""
    pairs = {
        "sentinel_depth": (_low(conf), None),
        "sentinel_width": (None, conf.low_width),
        "sentinel_joint": (_low(conf), conf.low_width),
    }
    return list(pairs.values()) if conf.kind == "sentinel_all" else [pairs[conf.kind]]


def _sentinels_all(plan: Plan, conf: ModifiersConf, _: int) -> list[Architecture]:
    architectures = [plan.baseline]
    for depth, width in _lows(conf):
        # There are none in depth if all segments are single blocks.
        architectures += _sentinels(plan, depth, width, conf.together)
    if len(architectures) == 1:
        raise SsrError("no segment of this network can get smaller: all of them are frozen.")
    return architectures


def uniform(
    plan: Plan, fractions: Iterable[float], *, depth: bool, width: bool
) -> list[Architecture]:
    """The same fraction in all segments (MobileNet's multiplier), in depth, width or both."""
    return [_clamped(plan, f if depth else 1.0, f if width else 1.0) for f in _checked(fractions)]


def _uniform(plan: Plan, conf: ModifiersConf, _: int) -> list[Architecture]:
    is_depth = conf.kind == "uniform_depth"
    return uniform(plan, conf.fractions, depth=is_depth, width=not is_depth)


def _compound(plan: Plan, conf: ModifiersConf, _: int) -> list[Architecture]:
    """Depth and width together, by EfficientNet's rule, to about each share of the MACs."""
    growth = COMPOUND_DEPTH * COMPOUND_WIDTH**2
    powers = [math.log(share) / math.log(growth) for share in _checked(conf.fractions)]
    return [_clamped(plan, COMPOUND_DEPTH**phi, COMPOUND_WIDTH**phi) for phi in powers]


def _sentinels(
    plan: Plan, depth: float | None, width: float | None, together: int | None
) -> list[Architecture]:
    free = [s for s in _free(plan) if _lowered(plan, depth, width, [(s,)])]
    if together is not None and together < 1:
        raise SsrError(f"modifiers.together is {together}; it must be 1 or more, or null.")
    sizes = [k for k in range(1, len(free) + 1) if together is None or k <= together]
    sizes += [len(free)] if free and len(free) not in sizes else []
    if sum(math.comb(len(free), size) for size in sizes) >= 2**MOST_SENTINELS:
        raise SsrError(
            f"sentinels are all subsets of the segments, of which this network has {len(free)}, "
            f"and {MOST_SENTINELS} are the most: type modifiers.together=1 (each alone, and all), "
            f"merge the most alike ones (segment.at_most={MOST_SENTINELS}), split it into fewer "
            "(segment=whole makes one), freeze some with "
            "segment.frozen=[NAME,...], or type modifiers=random."
        )
    subsets = chain.from_iterable(combinations(free, size) for size in sizes)
    return _lowered(plan, depth, width, subsets)


def _free(plan: Plan) -> list[int]:
    """List the segments that are not frozen."""
    return [s for s, segment in enumerate(plan.segments) if not segment.frozen]


def _lowered(
    plan: Plan, depth: float | None, width: float | None, subsets: Iterable[Sequence[int]]
) -> list[Architecture]:
    """Lower the segments of each subset; what changes nothing is left out."""
    shallow = _clamped(plan, 1.0 if depth is None else depth, 1.0)
    narrow = _clamped(plan, 1.0, 1.0 if width is None else width)
    full, architectures = plan.baseline, []
    for subset in subsets:
        blocks, widths = list(full.blocks), list(full.widths)
        for s in subset:
            blocks[s], widths[s] = shallow.blocks[s], narrow.widths[s]
        architectures.append(plan.canonical(Architecture(tuple(blocks), tuple(widths))))
    return [architecture for architecture in architectures if architecture != full]


def _clamped(plan: Plan, depth: float, width: float) -> Architecture:
    """Round a depth and a width for all segments, never below their fewest; frozen ones stay."""
    depths = [1.0 if s.frozen else max(depth, s.least / len(s.blocks)) for s in plan.segments]
    widths = [1.0 if s.frozen else width for s in plan.segments]
    return plan.effective(Modifiers(depths, widths))


def _checked(fractions: Iterable[float]) -> list[float]:
    fractions = list(fractions)
    wrong = [f for f in fractions if not 0 < f <= 1]
    if wrong or not fractions:
        raise SsrError(
            "modifiers.fractions needs shares above 0 and at most 1, for instance [0.25,0.5], "
            f"not {fractions}."
        )
    return fractions


def _once(architectures: Iterable[Architecture]) -> list[Architecture]:
    return list(dict.fromkeys(architectures))


def _low(conf: ModifiersConf) -> float:
    """Read the low depth; the smallest share of all stands for the fewest blocks."""
    if conf.low_depth is None:
        return FEWEST
    if not 0 < conf.low_depth <= 1:
        raise SsrError(
            f"modifiers.low_depth is {conf.low_depth:g}; it is a share of the blocks above 0 and "
            "at most 1, or null for the fewest blocks."
        )
    return conf.low_depth


LOWERED = ("sentinel_depth", "sentinel_width", "sentinel_joint", "sentinel_all")
KINDS: dict[str, Callable[[Plan, ModifiersConf, int], list[Architecture]]] = {
    "baseline": lambda plan, conf, steps: [plan.baseline],
    "explicit": _explicit,
    "sentinel_depth": _sentinels_of_kind,
    "sentinel_width": _sentinels_of_kind,
    "sentinel_joint": _sentinels_of_kind,
    "sentinel_all": _sentinels_all,
    "uniform_width": _uniform,
    "uniform_depth": _uniform,
    "compound": _compound,
    "random": lambda plan, conf, steps: lattice.from_plan(plan, width_steps=steps).sample(
        conf.count, seed=conf.draw_seed
    ),
    "scbp": lambda plan, conf, steps: scbp.derive(plan, conf),
}
