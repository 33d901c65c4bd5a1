"""What speaks against an answer: it lost too much on test, or nobody could promise it.

Commands, pages, exports and `Study.answer` say it in the same words.
"""

from __future__ import annotations

from ssr_exp import terminal
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import Score

EVEN = 0.5  # confidence: what looks good enough is, and nothing more is promised
NEXT = (
    "train more rounds, or longer, allow a larger objective.max_drop, or test with more seeds "
    "(finalists.seeds)"
)


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
    if on == "test" and drop > allowed:
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


def weights(record: Record) -> str:
    """Say which training's weights are handed over, and what that one scored."""
    score = record.scored_by
    values = {"val": record.score, "test": record.test_score}
    told = [f"{score.text(v)} on {part}" for part, v in values.items() if v is not None]
    return f"those of seed {record.seed}" + (f": {', '.join(told)}" if told else "")
