"""What a replay says: means, errors, and differences within the same pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.replay import SHARE, Replayed
from benchmarks.replay_answers import DROP

OURS = ("ehvi", "smallest")
HIGHER = {"hypervolume"}  # of which more is better
METRICS = {
    "hypervolume": "area of (val_acc, log params) that the evaluated networks dominate, as a share "
    "of that of the whole pool; reference: the lowest accuracy of all sentinels, and the "
    "baseline's parameters; higher is better",
    "regret": f"log(params) of the smallest evaluated network that loses at most {DROP:g} point "
    "against the baseline, less that of the pool's smallest; lower is better",
}
OF_RULES = {
    "params": "percent of the baseline's parameters that the answer has",
    "drop": "points that the answer loses by trainings that no search saw, means of two",
    "kept": f"share of the searches whose answer loses at most {DROP:g} point by those",
}
RULES = {
    "measured": "the answer being the cheapest network whose measured drop is allowed",
    "promised": "the answer being that of `search.py objective=smallest`",
}
NOTES = (
    "All arms start from the same sentinels, which are round 0, and answers are single trainings "
    "with the same seed: the front and the smallest network are measured ones, luck included.",
    f"The pool of a repetition holds all sentinels and a random {SHARE:.0%} of the other networks. "
    "Pools overlap, so the errors are those of other pools of this table, not of other tables.",
    "An earlier part of this table decided that our surrogate sees parameters and MACs, and what "
    "noise it expects; so did it the settings of TPE and NSGA-II.",
    "The arms other than smallest look for the whole front and are not told of the drop.",
    "botorch_qlognehvi: BoTorch's SingleTaskGP as it comes of the accuracy in percent, on shares "
    "of blocks and channels; exact parameters; qLogNEHVI over the pool; nothing of ours.",
    "Optuna: two objectives; what a sampler suggests and the pool does not hold, or was seen, is "
    "replaced by the nearest unseen network of the pool, and the sampler told of that one. TPE "
    "is multivariate, with constant_liar; NSGA-II has a population of 8, and the sentinels as its "
    "first generation. Both find more so than as they come.",
)


def summary(found: Sequence[Replayed]) -> dict[str, Any]:
    """Average over repetitions, and compare ours with each other arm within each repetition."""
    arms = list(dict.fromkeys(one.arm for one in found))
    by_arm = {
        name: sorted((r for r in found if r.arm == name), key=lambda r: r.repetition)
        for name in arms
    }
    found_metrics = [metric for metric in METRICS if metric in found[0].measures]
    values = {
        metric: {name: np.array([r.measures[metric] for r in by_arm[name]]) for name in arms}
        for metric in found_metrics
    }
    return {
        "arms": {
            name: {metric: spread(values[metric][name]) for metric in found_metrics}
            | {
                "all_rounds": {
                    metric: spread(values[metric][name][:, 1:].mean(axis=1))
                    for metric in found_metrics
                },
                "repetitions": len(rows),
                "evaluated": float(np.mean([r.evaluated for r in rows])),
                "seconds": round(float(np.mean([r.seconds for r in rows])), 2),
            }
            | answers(rows)
            for name, rows in by_arm.items()
        },
        "ours_less_theirs": {
            metric: {own: _against(own, by_arm, metric) for own in OURS if own in arms}
            for metric in found_metrics
        },
    }


def answers(rows: Sequence[Replayed]) -> dict[str, Any]:
    """Say what one arm's answers are, by both rules, after each round; nothing if unmeasured."""
    found: dict[str, Any] = {}
    for rule in RULES:
        if f"{rule}_kept" in rows[0].measures:
            columns = {
                name: np.array([r.measures[f"{rule}_{name}"] for r in rows]) for name in OF_RULES
            }
            found[rule] = {
                "params_median": np.round(np.median(columns["params"], axis=0), 3).tolist(),
                "drop_mean": np.round(columns["drop"].mean(axis=0), 3).tolist(),
                "kept": np.round(columns["kept"].mean(axis=0), 3).tolist(),
            }
    return {"answers": found} if found else {}


def _against(own: str, by_arm: dict[str, list[Replayed]], metric: str) -> dict[str, Any]:
    """Compare on the pools that both have searched."""
    found = {}
    ours = {r.repetition: r.measures[metric] for r in by_arm[own]}
    for other, rows in by_arm.items():
        both = [r for r in rows if r.repetition in ours]
        if other != own and both:
            theirs = np.array([r.measures[metric] for r in both])
            found[other] = paired(np.array([ours[r.repetition] for r in both]), theirs)
    return found


def spread(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return mean, standard deviation and standard error over the first axis."""
    deviation = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])
    columns = {"mean": values.mean(axis=0), "std": deviation, "se": deviation / len(values) ** 0.5}
    return {name: np.round(column, 5).tolist() for name, column in columns.items()}


def paired(own: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, Any]:
    """Return ours less theirs, `r x rounds` each, in the last round and over all but round 0."""
    gap = own - other
    return {
        "last_round": spread(gap[:, -1]),
        "all_rounds": spread(gap[:, 1:].mean(axis=1)),
    }


def verdict(metric: str, gap: dict[str, float]) -> str:
    """Say how ours stands: ahead or behind by more than two standard errors, or level."""
    better = gap["mean"] if metric in HIGHER else -gap["mean"]
    if abs(better) <= 2 * gap["se"]:
        return "level"
    return "ahead" if better > 0 else "behind"


def report(found: dict[str, Any]) -> str:
    """Write a summary as text."""
    lines = ["mean +- standard error; last round, then average over all rounds"]
    for name, arm in found["arms"].items():
        words = [f"{name:18s}"]
        for metric in METRICS:
            last = {key: values[-1] for key, values in arm[metric].items()}
            words += [f"{metric} {_number(last)}, {_number(arm['all_rounds'][metric])}"]
        for rule, told in arm.get("answers", {}).items():
            last = {name: column[-1] for name, column in told.items()}
            words.append(
                f"{rule}: {last['params_median']:.1f} % of the parameters, drop "
                f"{last['drop_mean']:.2f}, kept {last['kept']:.0%}"
            )
        lines.append("  ".join([*words, f"{arm['seconds']:.1f} s"]))
    for metric, owns in found["ours_less_theirs"].items():
        for own, others in owns.items():
            lines.append(f"\n{metric}: {own} less each other arm")
            lines += [_row(metric, other, gaps) for other, gaps in others.items()]
    return "\n".join(lines)


def _row(metric: str, other: str, gaps: dict[str, dict[str, float]]) -> str:
    words = [f"{_number(gap)} {verdict(metric, gap):6s}" for gap in gaps.values()]
    return f"  {other:18s} " + "  ".join(words)


def _number(gap: dict[str, float]) -> str:
    return f"{gap['mean']:7.4f} +-{gap['se']:.4f}"
