"""Whether the surrogate is to be believed."""

from __future__ import annotations

import pytest

from ssr_exp.config import Outcome, Scale, SearchConfig
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import belief as views
from ssr_exp.search import diagnostics, history, printing
from ssr_exp.search.history import History
from ssr_exp.search.outcome import OutcomeScale
from ssr_exp.search.proposals import propose
from ssr_exp.search.space import Space
from tests.search.conftest import Tell

First = tuple[Architecture, ...]


def test_a_good_surrogate_is_not_warned_about(known: History) -> None:
    found = diagnostics.check(views.of(known, SearchConfig()))
    assert found.count == 22
    assert found.rmse < 0.7 * found.spread
    assert found.spearman is not None and found.spearman > 0.8
    assert found.warnings() == []


def test_equal_accuracies_are_told_to_be_flat(small: Space, tell: Tell, first: First) -> None:
    known = history.from_records(small, [tell(a, val_acc=90.0, val_loss=0.3) for a in first])
    found = diagnostics.check(views.of(known, SearchConfig()))
    assert found.flat
    assert found.spearman is None
    assert "flat" in found.warnings()[0]


def test_accuracies_at_random_are_told_to_be_predicted_poorly(
    small: Space, tell: Tell, first: First
) -> None:
    known = history.from_records(small, [tell(a, noise=4.0) for a in first])
    (warning, *_) = diagnostics.check(views.of(known, SearchConfig())).warnings()
    assert "poorly" in warning or "flat" in warning


def test_intervals_cover_what_they_say(small: Space, tell: Tell) -> None:
    drawn = [small.plan.baseline, *small.architectures(range(3, 511, 5))]
    known = history.from_records(small, [tell(a, noise=0.5) for a in drawn])
    found = diagnostics.check(views.of(known, SearchConfig()))
    for level, share in zip(diagnostics.LEVELS, found.coverage, strict=True):
        assert share == pytest.approx(level, abs=0.15)
    assert found.noise == pytest.approx(0.5, rel=0.5)


def test_sensitivities_find_what_matters(known: History) -> None:
    view = views.of(known, SearchConfig())
    found = {s.name: s.effect for s in diagnostics.sensitivities(view)}
    assert max(found, key=found.__getitem__) in ("width stage1", "width stage2")
    assert found["width stage1"] > found["depth stage1"] > 0
    grouped = diagnostics.describe(known.space, diagnostics.sensitivities(view))
    assert set(grouped) == {"stage1", "stage2", "stage3"}
    assert set(grouped["stage1"]) == {"depth", "width"}


def test_the_check_is_printed_with_its_warnings(
    small: Space, tell: Tell, first: First, capsys: pytest.CaptureFixture[str]
) -> None:
    known = history.from_records(small, [tell(a, val_acc=90.0, val_loss=0.3) for a in first])
    view = views.of(known, SearchConfig())
    printing.print_checks(view, diagnostics.check(view), diagnostics.sensitivities(view))
    printed = capsys.readouterr().out
    assert "22 runs of 22 networks" in printed
    assert "warning: the surrogate is flat" in printed
    assert "stage1: depth" in printed


@pytest.mark.parametrize("scale", Scale)
def test_a_scale_is_undone_by_its_inverse(scale: Scale) -> None:
    import torch

    own = OutcomeScale(Outcome.val_acc, scale)
    values = torch.linspace(0, 100, 41, dtype=torch.float64)
    torch.testing.assert_close(own.back(own.forward(values)), values, atol=1e-9, rtol=0)
    assert bool((own.forward(values).diff() > 0).all())
    losses = OutcomeScale(Outcome.val_loss, scale)
    torch.testing.assert_close(losses.back(losses.forward(values + 0.1)), values + 0.1)
    assert bool((losses.forward(values + 0.1).diff() < 0).all())


def test_the_loss_can_be_predicted_instead(known: History) -> None:
    conf = SearchConfig()
    conf.surrogate.outcome = Outcome.val_loss
    view = views.of(known, conf)
    assert diagnostics.check(view).warnings() == []
    picks = propose.propose(view, conf, count=3, seed=0)
    assert all(pick.low > pick.mean > pick.high > 0 for pick in picks)
