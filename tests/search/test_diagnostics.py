"""Whether the surrogate is to be believed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor

from ssr_exp.config import Outcome, SearchConfig
from ssr_exp.rescaling import planning
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.predictions import Look
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import Score
from ssr_exp.search import answer_printing, diagnostics, history, printing, space, summary
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from ssr_exp.search.proposals import propose
from ssr_exp.search.space import Space
from tests.search.conftest import First, Tell, asked


def looked(trained: History) -> Look:
    return diagnostics.look(Belief.from_history(trained, SearchConfig()))


def test_a_good_surrogate_is_not_warned_about(believed: Belief) -> None:
    look = diagnostics.look(believed)
    assert look.runs == 22
    assert look.rmse < 0.7 * look.spread
    assert look.spearman is not None and look.spearman > 0.8
    assert look.warnings == ()


def test_equal_accuracies_are_told_to_be_flat(
    small: Space, tell: Tell, first: First, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = history.from_records(small, [tell(a, val_acc=90.0, val_loss=0.3) for a in first])
    belief = Belief.from_history(trained, SearchConfig())
    told = summary.summarise(belief, SearchConfig())
    assert told.looks[0].spearman is None
    assert told.looks[0].warnings[0].startswith("the surrogate is flat")
    printing.print_diagnostics(belief, told)
    printed = capsys.readouterr().out
    assert "22 runs of 22 networks" in printed
    assert "stage1: depth" not in printed
    printing.print_diagnostics(belief, told, whole=True)
    assert "stage1: depth" in capsys.readouterr().out


def test_small_scores_are_not_flat_for_being_small(small: Space, tell: Tell, first: First) -> None:
    free = Score(key="val/gain", unit="", bounds=(None, None))
    records = [tell(a) for a in first]
    scores = [1e-12 * r.score for r in records if r.score is not None]
    pairs = zip(records, scores, strict=True)
    told = [r.model_copy(update={"score": score} | free.fields()) for r, score in pairs]
    assert looked(history.from_records(small, told)).warnings == ()


def test_accuracies_at_random_are_told_to_be_predicted_poorly(
    small: Space, tell: Tell, first: First, believed: Belief, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = history.from_records(small, [tell(a, noise=4.0) for a in first])
    (warning, *_) = looked(trained).warnings
    assert "poorly" in warning or "flat" in warning
    conf = asked(objective__max_drop=9.0)
    said = "it rests on a surrogate that predicts poorly"
    for belief, is_said in ((Belief.from_history(trained, conf), True), (believed, False)):
        answer_printing.print_smallest(belief, conf)
        assert (said in " ".join(capsys.readouterr().out.split())) is is_said


def test_an_error_about_that_of_the_mean_is_poor() -> None:
    def warned(**changes: float) -> str:
        numbers = {
            "round": 0,
            "runs": 30,
            "rmse": 0.5,
            "spread": 1.0,
            "spearman": 0.9,
            "noise": 0.1,
        }
        look = Look(**(numbers | changes), coverage=(0.5, 0.8, 0.95), hypervolume=1.0)
        return " ".join(diagnostics.warnings(look, is_flat=False))

    assert not warned()
    assert "predicts poorly" in warned(rmse=0.92)
    assert "predicts poorly" in warned(spearman=0.3)


def test_intervals_cover_what_they_say_and_distances_are_standard_ones(
    small: Space, tell: Tell
) -> None:
    """So a page can draw the calibration at any level from them."""
    drawn = [small.plan.baseline, *small.architectures(range(3, 511, 5))]
    trained = history.from_records(small, [tell(a, noise=0.5) for a in drawn])
    belief = Belief.from_history(trained, SearchConfig())
    look, left_out = diagnostics.look(belief), diagnostics.left_out(belief)
    assert look.noise == pytest.approx(0.5, rel=0.5)
    z = np.array([one.z for one in left_out])
    assert abs(z.mean()) < 0.3
    assert z.std() == pytest.approx(1, abs=0.25)
    limits = (0.6745, 1.2816, 1.96)
    for level, limit, share in zip(diagnostics.LEVELS, limits, look.coverage, strict=True):
        assert share == pytest.approx(level, abs=0.15)
        assert float((abs(z) <= limit).mean()) == pytest.approx(share, abs=0.011), level


def test_sensitivities_find_what_matters(believed: Belief) -> None:
    effects = {(s.kind, s.segment): s.effect for s in diagnostics.sensitivities(believed)}
    assert {f"{kind} {segment}" for kind, segment in effects} == set(believed.history.space.names)
    assert max(effects, key=effects.__getitem__) in (("width", "stage1"), ("width", "stage2"))
    assert effects["width", "stage1"] > effects["depth", "stage1"] > 0


def test_sensitivities_are_of_networks_of_the_lattice(
    make_record: Callable[..., Record], unfitted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planning.trace(CifarResNet(14), (3, 8, 8), multiple=4, kind="channels", depth=True)
    own = space.from_plan(plan, width_steps=2)
    some = own.architectures([0, 1, own.lattice.size // 2, own.lattice.size - 1])
    records = [make_record(network=own.code(a), val_acc=60 + n) for n, a in enumerate(some)]
    belief = Belief.from_history(history.from_records(own, records), SearchConfig())
    looked_at: list[Points] = []

    def features(self: Space, points: Points) -> Tensor:
        looked_at.append(points)
        return placed(self, points)

    placed = Space.features
    monkeypatch.setattr(Space, "features", features)
    monkeypatch.setattr(diagnostics, "SLICES", 50)
    assert plan.inner and diagnostics.sensitivities(belief)
    assert all(own.lattice.hold(points).all() for points in looked_at)


def test_the_loss_can_be_predicted_instead(known: History) -> None:
    conf = asked(surrogate__outcome=Outcome.val_loss)
    belief = Belief.from_history(known, conf)
    assert diagnostics.look(belief).warnings == ()
    for pick in propose.propose(belief, conf, count=3, seed=0):
        assert 0 < pick.low < pick.mean < pick.high
