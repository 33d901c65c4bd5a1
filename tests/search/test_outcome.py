"""The scale of outcomes: the same for a score and for its affine or flipped twin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssr_exp.config import Acquisition, Objective, Outcome, Scale, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import ACCURACY, VAL_LOSS, Direction, Score
from ssr_exp.search import history
from ssr_exp.search.belief import Belief
from ssr_exp.search.outcome import OutcomeScale, are_alike
from ssr_exp.search.proposals import propose
from ssr_exp.search.space import Space
from tests.search.conftest import First, Tell

UP, DOWN = Direction.max, Direction.min
ERROR = Score(key="val/error", direction=DOWN, unit="%", bounds=(0.0, 100.0))
BELOW = Score(key="val/log_p", direction=UP, unit="", bounds=(None, 0.0))
FREE = Score(key="val/gain", direction=UP, unit="dB", bounds=(None, None))
SCORES = {
    "accuracy": (ACCURACY, (0.0, 100.0)),
    "error": (ERROR, (0.0, 100.0)),
    "loss": (VAL_LOSS, (0.01, 9.0)),
    "log likelihood": (BELOW, (-9.0, -0.01)),
    "gain": (FREE, (-5.0, 40.0)),
}


@pytest.mark.parametrize("size", [1.0, 1e-12, 1e12])
def test_outcomes_are_alike_by_their_own_size(size: float) -> None:
    values = size * torch.tensor([2.0, 2.0, 2.0], dtype=torch.float64)
    assert are_alike(values) and are_alike(0 * values) and are_alike(values[:1])
    assert are_alike(values * torch.tensor([1.0, 1 + 1e-15, 1.0], dtype=torch.float64))
    assert not are_alike(values * torch.tensor([1.0, 1.0001, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("kind", Scale)
def test_a_scale_rises_with_what_is_better_and_is_undone_by_its_inverse(
    name: str, kind: Scale
) -> None:
    score, ends = SCORES[name]
    values = torch.linspace(*ends, 41, dtype=torch.float64)
    try:
        scale = OutcomeScale.from_values(score, kind, values)
    except SsrError as refusal:
        assert kind in (Scale.logit, Scale.log_error, Scale.log)
        assert "surrogate.scale=auto" in str(refusal)
        return
    mapped = scale.forward(values)
    torch.testing.assert_close(scale.back(mapped), values, atol=1e-9, rtol=1e-12)
    assert bool((score.sign * mapped.diff() > 0).all()) and bool(mapped.isfinite().all())
    assert scale.at(float(values[3])) == pytest.approx(float(mapped[3]))
    lowered = torch.tensor(scale.lowered(float(mapped[20]), 0.25), dtype=torch.float64)
    outcome = float(scale.back(lowered))
    assert score.drop(outcome, float(values[20])) == pytest.approx(0.25)


def moved(score: Score, by: float, plus: float) -> Score:
    """Map a score's bounds, and its direction where the map turns it round."""
    low, high = (None if b is None else by * b + plus for b in score.bounds)
    turned = {UP: DOWN, DOWN: UP}[score.direction] if by < 0 else score.direction
    bounds = (high, low) if by < 0 else (low, high)
    return score.model_copy(update={"bounds": bounds, "direction": turned})


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(("by", "plus"), [(0.01, 0.0), (-1.0, 0.0), (-3.0, 7.0)])
def test_twins_differ_on_their_scales_by_an_affine_map(name: str, by: float, plus: float) -> None:
    score, ends = SCORES[name]
    values = torch.linspace(*ends, 41, dtype=torch.float64)
    torch.testing.assert_close(
        standardised(moved(score, by, plus), by * values + plus), standardised(score, values)
    )


def standardised(score: Score, values: Tensor) -> Tensor:
    mapped = OutcomeScale.from_values(score, Scale.auto, values).forward(values)
    return (mapped - mapped.mean()) / mapped.std()


def test_a_perfect_value_is_finite() -> None:
    for score, best in ((VAL_LOSS, 0.0), (ACCURACY, 100.0), (ERROR, 0.0), (BELOW, 0.0)):
        values = torch.tensor([best, (best + SCORES["loss"][1][0]) * 0.9], dtype=torch.float64)
        scale = OutcomeScale.from_values(score, Scale.auto, values)
        assert bool(scale.forward(values).isfinite().all())


TWINS = {
    "share": (0.01, 0.0, "0.01"),
    "flipped": (-1.0, 100.0, "1"),
    "of no bounds": (-0.5, 3.0, "0.5"),
}


@pytest.mark.parametrize("kind", [Acquisition.ehvi, Acquisition.smallest])
@pytest.mark.parametrize("twin", TWINS)
def test_a_score_and_its_twin_propose_the_same_networks(
    twin: str, kind: Acquisition, small: Space, tell: Tell, first: First
) -> None:
    by, plus, drop = TWINS[twin]
    told = [tell(architecture) for architecture in first]
    score = ACCURACY.model_copy(update={"bounds": (None, None)} if "no" in twin else {})
    original = [record.model_copy(update=score.fields()) for record in told]
    other = [as_twin(record, moved(score, by, plus), by, plus) for record in original]
    assert proposed(small, other, kind, drop) == proposed(small, original, kind, "1")


def as_twin(record: Record, score: Score, by: float, plus: float) -> Record:
    value = None if record.score is None else by * record.score + plus
    return record.model_copy(update={"score": value, **score.fields()})


def proposed(small: Space, records: list[Record], kind: Acquisition, drop: str) -> list[str]:
    conf = SearchConfig()
    conf.acquisition.kind, conf.objective.max_drop = kind, drop
    conf.objective.kind = Objective.smallest
    belief = Belief.from_history(history.from_records(small, records), conf)
    return [one.network for one in propose.propose(belief, conf, count=4, seed=0)]


def test_losses_below_zero_are_told_apart(small: Space, tell: Tell, first: First) -> None:
    """As of a likelihood of densities: a scale from 0 on would hold them to be alike."""
    told = [tell(architecture) for architecture in first]
    moved = [tell(a, val_loss=(r.val_loss or 0.0) - 5) for a, r in zip(first, told, strict=True)]
    conf = SearchConfig()
    conf.surrogate.outcome = Outcome.val_loss
    scale = Belief.from_history(history.from_records(small, moved), conf).scale
    losses = torch.tensor([r.val_loss for r in moved], dtype=torch.float64)
    assert torch.allclose(scale.back(scale.forward(losses)), losses)
    assert scale.forward(losses).argsort().tolist() == (-losses).argsort().tolist()
    usual = Belief.from_history(history.from_records(small, told), conf).scale
    assert usual.outcome == VAL_LOSS
