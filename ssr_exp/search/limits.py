"""Caps: what no proposed network may exceed, as a number or as a share of the baseline."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from functools import partial

import torch
from torch import Tensor

from ssr_exp.config import Acquisition, CapConf, Outcome, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.search import acquisition
from ssr_exp.search.space import Space

EXACT = ("params", "macs", "gemms")  # known of any network without training or measuring it
WORDS = {
    "params": "parameters",
    "macs": "MACs",
    "gemms": "GeMMs",
    "latency_ms": "ms",
    "drop": "points",
}
NUMBER = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(%?)")


def of(conf: CapConf, baseline: dict[str, float]) -> dict[str, float]:
    """Read the caps that are set, in absolute numbers.

    Args:
        conf: numbers, or shares of the baseline such as `35%`; a number below 1 of parameters,
            MACs or GeMMs is a share, too.
        baseline: the baseline's own costs and accuracy by the caps' names; what is missing cannot
            be given as a share.

    Raises:
        SsrError: if a cap is no number above 0.
    """
    given = {f.name: getattr(conf, f.name) for f in fields(conf)}
    return {
        name: _read(name, text, baseline.get(name))
        for name, text in given.items()
        if text is not None
    }


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


def allowed(space: Space, caps: dict[str, float]) -> Tensor:
    """Say of each point of the lattice whether it keeps to the exact caps, `n`.

    Raises:
        SsrError: if none does; names the cap that cannot be kept, or those that contradict.
    """
    exact = {name: cap for name, cap in caps.items() if name in EXACT}
    keeps = torch.ones(len(space.lattice), dtype=torch.bool)
    for name, cap in exact.items():
        (counts,) = space.evaluate(partial(_counts, space, name))
        if (fewest := int(counts.min())) > cap:
            raise SsrError(
                f"no network keeps to cap.{name}={cap:,.0f}: the smallest of the lattice has "
                f"{fewest:,} {WORDS[name]}; type a larger cap."
            )
        keeps &= counts <= cap
    if not bool(keeps.any()):
        together = " and ".join(f"cap.{name}={cap:,.0f}" for name, cap in exact.items())
        raise SsrError(f"no network keeps to {together} together: type larger caps.")
    return keeps


def _counts(space: Space, metric: str, points: Points) -> list[Tensor]:
    return [torch.from_numpy(getattr(cost.count(space.plan, points), metric))]


def check(space: Space, conf: SearchConfig) -> None:
    """Refuse, before anything is trained, what no network can keep or what makes no sense.

    Raises:
        SsrError: says which key is wrong.
    """
    for key, value, least in (
        ("rounds", conf.rounds, 0),
        ("batch", conf.batch, 1),
        ("min_gain", conf.min_gain, 0),
        ("objective.max_drop", conf.objective.max_drop, 0),
        ("acquisition.prefilter", conf.acquisition.prefilter, 1),
        ("acquisition.samples", conf.acquisition.samples, 1),
        ("budget.runs", conf.budget.runs, 1),
        ("budget.epochs", conf.budget.epochs, 1),
        ("budget.hours", conf.budget.hours, 0),
    ):
        if value is not None and not least <= value < math.inf:
            raise SsrError(f"{key} is {value}; it must be {least} or more.")
    points_lost = acquisition.kind(conf) is Acquisition.smallest or conf.cap.drop is not None
    if conf.surrogate.outcome is Outcome.val_loss and points_lost:
        raise SsrError(
            "objective.max_drop and cap.drop are points of accuracy: type "
            "surrogate.outcome=val_acc with them."
        )
    known = {name: float(value) for name, value in space.baseline._asdict().items()}
    texts = {f.name: getattr(conf.cap, f.name) for f in fields(conf.cap)}
    exact = CapConf(**{name: texts[name] for name in EXACT})
    measured = {name: texts[name] for name in texts if name not in EXACT}
    of(CapConf(**measured), dict.fromkeys(measured, 1.0))  # shares of what is not known yet
    allowed(space, of(exact, known))
