"""Caps: what no proposed network may exceed, as a number or as a share of the baseline."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor

from ssr_exp.config import (
    Acquisition,
    CapConf,
    CostAxis,
    Kernel,
    LatencySource,
    Objective,
    ObjectiveConf,
    Outcome,
    RunsKind,
    SearchConfig,
)
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.runs.score import PERCENT, VAL_LOSS, Score
from ssr_exp.search import costs, lattice_sample
from ssr_exp.search.costs import Latencies
from ssr_exp.search.history import History
from ssr_exp.search.outcome import resolved
from ssr_exp.search.proposals import acquisition
from ssr_exp.search.space import Space

USUAL_DROP = "2%"  # of a score that is not in percent
MOST_DRAWN = 10_000  # points that a joint posterior is drawn at
EXACT = ("params", "macs", "gemms")  # known of any network without training or measuring it
WORDS = {
    "params": "parameters",
    "macs": "MACs",
    "gemms": "GeMMs",
    "latency_ms": "ms",
    "drop": "the score's unit",
}
RELATIVE = 1e-9  # of a cost that is measured or predicted: what floating point makes of it
NUMBER = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(%?)")


def read_caps(conf: CapConf, baseline: dict[str, float]) -> dict[str, float]:
    """Read the caps that are set, in absolute numbers.

    Shares are of the baseline's costs and score, such as `35%`; a number below 1 of parameters,
    MACs or GeMMs is a share, too. Of what is missing there, no share can be given.

    Raises:
        SsrError: if a cap is no number above 0.
    """
    texts = {name: text for name, text in vars(conf).items() if text is not None}
    return {name: _read(name, text, baseline.get(name)) for name, text in texts.items()}


def _read(name: str, text: str, whole: float | None) -> float:
    match = NUMBER.fullmatch(text.strip())
    value = float(match[1]) if match else math.nan
    if match is None or not 0 < value < math.inf:
        raise SsrError(
            f"cap.{name}={text} is not a limit: type a number above 0 ({WORDS[name]}), or a share "
            f"of the baseline such as cap.{name}=35%."
        )
    if match[2]:
        if whole is None:
            raise SsrError(
                f"cap.{name}={text} is a share of a number that is not known yet: type a number "
                f"({WORDS[name]})."
            )
        return value / 100 * whole
    return value * whole if name in EXACT and value < 1 and whole is not None else value


def max_drop(conf: ObjectiveConf, score: Score, baseline: float) -> float:
    """Read what the answer may lose against the baseline's score, in its unit.

    Raises:
        SsrError: if it is neither a number nor a share.
    """
    usual = "1" if score.unit == PERCENT else USUAL_DROP
    asked = usual if conf.max_drop is None else str(conf.max_drop)
    return score.read_drop(asked, baseline, "objective.max_drop")


def keeps_exact_caps(space: Space, caps: dict[str, float], points: Points) -> Tensor:
    """Say of points, `m x S`, whether they keep to the exact caps, `m`."""
    kept = torch.ones(len(points), dtype=torch.bool)
    if exact := caps.keys() & set(EXACT):
        counts = cost.count(space.plan, points)._asdict()
        for name in exact:
            kept &= torch.from_numpy(counts[name] <= caps[name])
    return kept


def log_limit(cap: float) -> float:
    """Return what the natural logarithm of a latency may be under a cap, in ms.

    A little more than the cap's, so that a network which takes all of it keeps to it, as the
    baseline does to 100 %, whatever floating point makes of them.
    """
    return math.log(cap) + RELATIVE


def check_exact_caps(space: Space, caps: dict[str, float]) -> None:
    """Refuse an exact cap that no network keeps to.

    The lattice's first point is the smallest in all of them, so what holds singly holds together.

    Raises:
        SsrError: names the cap, and the smallest network.
    """
    smallest = cost.count(space.plan, space.lattice.points([0]))._asdict()
    for name in sorted(caps.keys() & set(EXACT)):
        if (fewest := int(smallest[name][0])) > caps[name]:
            raise SsrError(
                f"no network keeps to cap.{name}={caps[name]:,.0f}: the smallest of the lattice "
                f"has {fewest:,} {WORDS[name]}; type a larger cap."
            )


def check_latency_cap(space: Space, cap: float, price: Callable[[Points], Tensor]) -> None:
    """Refuse a cap on latency, in ms, that no network keeps to.

    `price` gives the natural logarithm of the latency of `m x S` points, `m`.

    Raises:
        SsrError: names the fastest network.
    """
    if space.is_enumerable:
        (times,) = space.evaluate(lambda points: [price(points)])
        (fastest,), least = space.architectures([int(times.argmin())]), float(times.min())
    else:
        point = lattice_sample.fastest(space, price)[:1]
        (fastest,), least = cost.decode(space.plan, point), float(price(point))
    if least > log_limit(cap):
        keeps, which = "keeps", "of the lattice"
        if not space.is_enumerable:
            keeps, which = "was found that keeps", "that was found"
        raise SsrError(
            f"no network {keeps} to cap.latency_ms={cap:.4g}: the fastest {which}, "
            f"{space.code(fastest)}, takes about {math.exp(least):.3g} ms; type a larger cap."
        )


def check_latency(
    space: Space, conf: SearchConfig, trained: History, latencies: Latencies | None
) -> None:
    """Refuse to begin what needs latencies that nobody measured, or a cap that none keeps.

    Raises:
        SsrError: says what measures them, or names the fastest network.
    """
    cap = conf.cap.latency_ms
    if conf.objective.cost is not CostAxis.latency_ms and cap is None:
        return
    price = costs.price(CostAxis.latency_ms, trained, latencies)
    if cap is not None:
        baseline = space.plan.baseline
        costs.measure_new(latencies, [baseline])
        times = costs.measured(trained, latencies)
        whole = {"latency_ms": times[baseline]} if baseline in times else {}
        caps = read_caps(CapConf(latency_ms=cap), whole)
        check_latency_cap(space, caps["latency_ms"], price)


def check(space: Space, conf: SearchConfig, score: Score) -> None:
    """Refuse, before anything is trained, what no network can keep or what makes no sense.

    `score` is what the networks will be judged by.

    Raises:
        SsrError: says which key is wrong.
    """
    check_combinations(conf)
    outcome = VAL_LOSS if conf.surrogate.outcome is Outcome.val_loss else score
    resolved(outcome, conf.surrogate.scale)
    max_drop(conf.objective, score, 1.0)
    baseline = {name: float(value) for name, value in space.baseline._asdict().items()}
    unmeasured = dict.fromkeys(WORDS, 1.0)  # a share of what is not known yet will do
    check_exact_caps(space, read_caps(conf.cap, unmeasured | baseline))


def check_cost_varies(space: Space, axis: CostAxis) -> None:
    """Refuse an exact cost that is the same for all networks, as GeMMs are without depth.

    Raises:
        SsrError: says which costs are not.
    """
    counts = cost.count(space.plan, space.ends)._asdict()
    vary = [name for name in EXACT if counts[name][0] != counts[name][1]]
    if axis.value in EXACT and axis.value not in vary:
        raise SsrError(
            f"all networks of the lattice have {int(counts[axis.value][0]):,} {WORDS[axis.value]}, "
            f"so objective.cost={axis.value} cannot fall: type objective.cost={' or '.join(vary)}."
        )


def check_combinations(conf: SearchConfig) -> None:
    """Refuse settings of which one would be ignored.

    Raises:
        SsrError: says which ones, and what to type.
    """
    kind, surrogate = acquisition.kind(conf), conf.surrogate
    smallest = Objective.smallest is conf.objective.kind or kind is Acquisition.smallest
    drawn = kind in (Acquisition.thompson, Acquisition.qlognehvi)
    for wrong, sentence in (
        (
            surrogate.outcome is Outcome.val_loss and (smallest or conf.cap.drop is not None),
            "objective.max_drop and cap.drop are of the score: type surrogate.outcome=score with "
            "them.",
        ),
        (
            surrogate.fidelity and surrogate.kernel is Kernel.additive,
            "surrogate.fidelity=true has a kernel of its own: type surrogate.kernel=joint.",
        ),
        (
            surrogate.fidelity and kind is Acquisition.qlognehvi,
            "acquisition=qlognehvi does not know of fidelities: type surrogate.fidelity=false, or "
            "acquisition=ehvi.",
        ),
        (
            conf.latency.file is not None and conf.latency.source is not LatencySource.file,
            "latency.file is read where latency.source=file (latency=file in a command) goes with "
            "it: type that, too, or leave the file out.",
        ),
        (
            conf.runs.file is not None and conf.runs.kind is not RunsKind.table,
            "runs.file is read where runs.kind=table (runs=table in a command) goes with it: type "
            "that, too, or leave the file out.",
        ),
        (
            conf.min_gain > 0 and kind not in (Acquisition.ehvi, Acquisition.smallest),
            f"acquisition={kind.value} says nothing of a gain: type min_gain=0, or "
            "acquisition=ehvi or smallest.",
        ),
        (
            drawn and not conf.batch <= conf.acquisition.prefilter <= MOST_DRAWN,
            f"acquisition.prefilter is {conf.acquisition.prefilter}; it must lie between batch "
            f"({conf.batch}) and {MOST_DRAWN}.",
        ),
    ):
        if wrong:
            raise SsrError(sentence)
