"""What became of an answer: what it lost, of the promise, and what speaks against it.

Commands, pages, exports and `Study.answer` say it in the same words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ssr_exp import terminal
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import Score

EVEN = 0.5  # confidence: what looks good enough is, and nothing more is promised
NEXT = (
    "train more rounds, or longer, allow a larger objective.max_drop (and cap.drop, where one is "
    "set), or test with more seeds (finalists.seeds)"
)


def is_kept(drop: float, allowed: float) -> bool:
    """Say whether a drop is no more than is allowed, but for what floating point makes of it."""
    return drop <= allowed + max(1e-9 * abs(allowed), 1e-12)  # of errors far below 1, too


STATES = {True: "kept on test", False: "broken on test", None: "not tested"}
"""What became of a promise: whether the answer lost no more on test than it may."""


def text(
    score: Score, *, drop: float, allowed: float, on: str, probability: float, confidence: float
) -> str | None:
    """Say in a sentence what speaks against an answer; None if nothing does.

    Args:
        score: what it is judged by.
        drop: what it lost against the baseline, in the score's unit.
        allowed: what it may lose.
        on: the images that the drop is of, `test` or `val`.
        probability: that it keeps within what is allowed.
        confidence: that is asked for.
    """
    limit = score.short_drop(allowed)
    if on == "test" and not is_kept(drop, allowed):
        return (
            f"the promise is broken: it loses {score.drop_text(drop)} on test, where {limit} may "
            f"be lost, and no answer that was tested loses less: {NEXT}"
        )
    if on != "test" and probability < confidence and confidence > EVEN:
        return (
            f"no network is promised: this is the likeliest one, {terminal.likely(probability)} "
            f"likely to keep within {limit}, and objective.confidence={confidence:g} asks for "
            f"more: {NEXT}"
        )
    return None


def breaks_caps_text(caps: Sequence[str]) -> str:
    """Say in a sentence what speaks against a baseline that breaks caps, by their names."""
    names = " and ".join(f"cap.{name}" for name in caps) + " together" * (len(caps) > 1)
    return (
        f"the baseline does not keep to {names}, and no network that does is good enough: train "
        "more rounds, or longer, or allow a larger cap or objective.max_drop"
    )


def baseline_text(against: str | None) -> str:
    """Say why the baseline is the answer; what may speak `against` it is that it breaks a cap."""
    return f"the baseline: no {alternative(against)} is good enough yet"


def alternative(against: str | None) -> str:
    """Say what would be the answer in the place of the baseline, were it good enough."""
    return "smaller network" if against is None else "network that keeps to the caps"


def drop_text(
    score: Score, drop: float, *, error: float | None, allowed: float | None, on: str
) -> str:
    """Write what an answer lost, how far seeds leave that open, and what it may lose.

    Args:
        score: what it is judged by.
        drop: against the baseline, in the score's unit; negative if it is better.
        error: its standard error over seeds; None: it is not known.
        allowed: what may be lost; None: that was not asked.
        on: the images that the drop is of, `test` or `val`.
    """
    lost = score.drop_text(abs(drop))
    text = f"none: {lost} better than the baseline" if drop < 0 else lost
    if error is not None:
        text += f" (+- {score.number(error)}, the standard error over seeds)"
    if allowed is None:
        return text
    limit = score.short_drop(allowed)
    if not is_kept(drop, allowed):
        return f"{text}, more than the {limit} that may be lost"
    return f"{text}, where {limit} may be lost" if on == "test" else text


def standard_error(*means: tuple[float | None, int]) -> float | None:
    """Return the standard error of the difference of two means; None where one is of one seed.

    Args:
        means: of each the standard deviation, and of how many seeds it is.
    """
    if any(deviation is None for deviation, _ in means):
        return None
    return math.hypot(*(deviation / seeds**0.5 for deviation, seeds in means if deviation))


def noise_text(score: Score, spread: float | None, allowed: float | None) -> str | None:
    """Say that the baseline's own trainings differ by more than may be lost; None: they do not.

    Args:
        score: how the networks are judged.
        spread: their standard deviation, in the score's unit.
        allowed: what may be lost.
    """
    if spread is None or allowed is None or spread <= allowed:
        return None
    return (
        f"the baseline's own trainings differ by {score.drop_text(spread)} (a standard deviation), "
        "more than may be lost: train longer, or with more seeds (finalists.seeds), before you "
        "believe the drop"
    )


def promise_text(score: Score, promise: Mapping[str, float], *, on: str, kept: bool | None) -> str:
    """Say what became of a promise, then what it was.

    Args:
        score: what the answer is judged by.
        promise: the drop that was expected, its 80 % interval from `low` to `high`, the
            `probability` that no more is lost than is `allowed`, and the `confidence` asked for.
        on: the images that the answer is judged on, `test` or `val`.
        kept: whether the promise held on test; None: it was not tested.
    """
    likely, sure = terminal.likely(promise["probability"]), promise["confidence"]
    expected = score.expected_text(promise["drop"], promise["low"], promise["high"])
    weak = _weak(promise["probability"], sure)
    if on == "test":
        before = f"by val alone: {likely} likely to be kept"
        return f"{STATES[kept]}; {before}, expected {expected}{weak}"
    limit = score.short_drop(promise["allowed"])
    return (
        f"{STATES[kept]}; {likely} likely to lose at most the {limit} that may be lost; expected "
        f"{expected}{weak}"
    )


def likeliest_text(probability: float, confidence: float) -> str:
    """Say of a network that is likeliest to be good enough how likely that is."""
    weak = _weak(probability, confidence)
    return f"is {terminal.likely(probability)} likely to be good enough{weak}"


def on_test_text(probability: float, confidence: float) -> str:
    """Say of a network that is good enough on val how likely it is to be so on test."""
    return f"{terminal.likely(probability)} likely to be so on test{_weak(probability, confidence)}"


def _weak(probability: float, confidence: float) -> str:
    """Say that a probability is below the confidence that is asked for; empty: it is not."""
    is_asked = probability < confidence and confidence > EVEN
    return f"; objective.confidence={confidence:g} asks for more" if is_asked else ""


def weights(record: Record) -> str:
    """Say which training's weights are handed over, and what that one scored."""
    score = record.scored_by
    values = {"val": record.score, "test": record.test_score}
    told = [f"{score.text(v)} on {part}" for part, v in values.items() if v is not None]
    return f"those of seed {record.seed}" + (f": {', '.join(told)}" if told else "")
