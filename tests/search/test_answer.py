"""The answer and what it is compared with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ssr_exp.config import Arm, CostAxis, SearchConfig
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs.record import FINALIST, Record, n_tested
from ssr_exp.search import answer, answer_printing, history, other_networks, printing
from ssr_exp.search.answer import Contender
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from ssr_exp.search.space import Space
from tests.search.conftest import First, Tell, asked, truth

unfitted = pytest.mark.usefixtures("unfitted")


def params(space: Space, architecture: Architecture) -> int:
    return int(cost.count_one(space.plan, architecture).params)


@unfitted
@pytest.mark.parametrize("drop", [0.0, 0.5, 2.0, 30.0])
def test_the_answer_is_the_cheapest_trained_network_within_the_drop(
    known: History, drop: float
) -> None:
    conf = asked(objective__max_drop=drop)
    found = answer.good_enough(Belief.from_history(known, conf))
    accuracies, space = known.scores(), known.space
    least = accuracies[space.plan.baseline] - drop
    assert all(accuracies[a] >= least for a in found)
    costs = [params(space, a) for a in found]
    assert costs == sorted(costs)
    if drop == 30.0:
        assert costs[0] == min(params(space, a) for a in known.networks)


def test_a_lucky_seed_does_not_make_an_answer(small: Space, tell: Tell, first: First) -> None:
    """The smallest network once came out best of all; nothing near it did."""
    lucky = min(first, key=lambda a: params(small, a))
    best = truth(small, small.plan.baseline)

    records = [tell(a, noise=0.05) for a in first if a != lucky]
    records += [tell(lucky, val_acc=best, val_loss=0.1), tell(lucky, val_acc=70.5)]
    belief = Belief.from_history(history.from_records(small, records), SearchConfig())
    assert answer.good_enough(belief)[0] != lucky


@unfitted
def test_the_answer_keeps_to_the_caps(known: History) -> None:
    conf = asked(objective__max_drop=30.0, cap__macs="10%")
    best = answer.good_enough(Belief.from_history(known, conf))[0]
    assert cost.count_one(known.space.plan, best).macs <= 0.1 * known.space.baseline.macs


@unfitted
def test_a_baseline_that_breaks_a_cap_comes_last_though_others_cost_as_much(known: History) -> None:
    """GeMMs do not depend on widths."""
    conf = asked(objective__max_drop=30.0, objective__cost=CostAxis.gemms, cap__params="50%")
    *found, last = answer.good_enough(Belief.from_history(known, conf))
    gemms = [cost.count_one(known.space.plan, a).gemms for a in found]
    assert last == known.space.plan.baseline
    assert gemms == sorted(gemms) and gemms[-1] == known.space.baseline.gemms


@unfitted
@pytest.mark.parametrize("confidence", [0.5, 0.8])
def test_what_costs_as_much_as_the_baseline_is_no_smaller_network(
    known: History, confidence: float
) -> None:
    conf = asked(objective__max_drop=30.0, objective__cost=CostAxis.gemms)
    conf.objective.confidence = confidence
    belief, full = Belief.from_history(known, conf), known.space.baseline.gemms
    narrow = [a for a in known.networks if cost.count_one(known.space.plan, a).gemms == full]
    assert len(narrow) > 1
    for found in (answer.good_enough(belief)[:-1], answer.looks_good_enough(belief)):
        assert found and not {*found} & {*narrow}
    rounded = belief.state.log_costs.clone()  # as sums of latencies are, by their order
    rounded[[belief.networks.index(a) for a in narrow if a != known.space.plan.baseline]] -= 1e-15
    belief = replace(belief, state=replace(belief.state, log_costs=rounded))
    assert not {*answer.looks_good_enough(belief)} & {*narrow}


@unfitted
def test_the_incumbent_keeps_to_the_caps(known: History) -> None:
    state = Belief.from_history(known, asked(cap__gemms="70%")).state
    full = known.space.baseline.gemms
    for architecture, within in zip(known.networks, state.within.tolist(), strict=True):
        assert within == (cost.count_one(known.space.plan, architecture).gemms <= 0.7 * full)
    assert not bool(state.within.all())
    kept = state.log_costs[state.accurate & state.within]
    assert state.incumbent == (float(kept.min()) if len(kept) else state.reference[1])


@unfitted
def test_an_accuracy_cap_holds_for_the_answer(known: History) -> None:
    conf = asked(objective__max_drop=20.0, cap__drop="0.3")
    best = answer.good_enough(Belief.from_history(known, conf))[0]
    accuracies = known.scores()
    assert accuracies[best] >= accuracies[known.space.plan.baseline] - 0.3


def test_the_prediction_looks_at_the_whole_lattice(believed: Belief) -> None:
    space, candidates = believed.history.space, believed.candidates
    found = other_networks.predicted(believed)
    assert found is not None
    (number,) = space.numbers([found[0]])
    enough = candidates.mean >= believed.state.threshold
    assert params(space, found[0]) == round(float(candidates.log_cost[enough].exp().min()))
    assert found[1] == pytest.approx(float(believed.scale.back(candidates.mean[number])))


def test_arms_cost_about_as_much_as_the_answer(believed: Belief) -> None:
    conf, space = SearchConfig(), believed.history.space
    conf.finalists.arms = [Arm.uniform_width, Arm.uniform_depth, Arm.random, Arm.family]
    (chosen,) = answer.good_enough(believed)[:1]
    named = answer.contenders(believed, conf, [chosen])
    roles = {one.role: one for one in named}
    assert list(roles)[:2] == ["baseline", "answer"]
    assert "family" not in roles  # a seed network of its own: named by who can build it
    if "random" in roles:
        drawn = params(space, space.parse(str(roles["random"].network)))
        assert drawn == pytest.approx(params(space, chosen), rel=0.06)
    assert len({one.network for one in named}) == len(named)


def test_an_arm_whose_networks_all_cost_the_same_is_the_largest(believed: Belief) -> None:
    """It is the baseline here, which is compared with anyway, and no narrow network beside it."""
    conf, baseline = asked(objective__cost=CostAxis.gemms), believed.history.space.plan.baseline
    (chosen,) = answer.good_enough(believed)[:1]
    assert answer._equal(believed, Arm.uniform_width, chosen, conf) == baseline
    conf.finalists.arms = [Arm.uniform_width]
    assert [one.role for one in answer.contenders(believed, conf, [chosen])] == [
        "baseline",
        "answer",
    ]


def results(tell: Tell, space: Space, first: First) -> list[answer.Result]:
    small_one = min(first, key=lambda a: params(space, a))
    rows: list[tuple[Contender, list[Record]]] = [
        (
            Contender("baseline", space.code(space.plan.baseline)),
            [tell(space.plan.baseline, seed=s, test_acc=90.0 + s) for s in range(3)],
        ),
        (
            Contender("answer", space.code(small_one)),
            [tell(small_one, seed=s, test_acc=89.5) for s in range(2)],
        ),
        (Contender("random", "d1-1-1_w4-8-16"), [tell(small_one)]),
    ]
    return answer.results(rows, full=space.baseline.params)


def test_results_are_means_over_seeds_and_untested_ones_are_left_out(
    small: Space, tell: Tell, first: First
) -> None:
    baseline, best = results(tell, small, first)
    assert (baseline.score, baseline.deviation) == (91.0, 1.0)
    assert (best.score, best.deviation) == (89.5, 0.0)
    assert baseline.params_share == 1.0 > best.params_share
    plain = answer.summary([baseline, best])
    assert plain[0]["test_score_mean"] == 91.0
    assert plain[1]["seeds"] == [0, 1]


def test_what_was_tested_beside_the_answer_is_printed_and_the_answer_is_not(
    small: Space, tell: Tell, first: First, capsys: pytest.CaptureFixture[str]
) -> None:
    found = results(tell, small, first)
    printing.print_others(found)
    assert capsys.readouterr().out == ""  # the answer's block has both
    arm = replace(found[1], contender=Contender("random", found[1].contender.network), score=88.5)
    printing.print_others([*found, arm])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert len(rows) == 1 and all(text in rows[0] for text in ("random", "88.50", "2.50"))


def test_what_else_a_search_believes_is_of_smaller_networks(
    known: History, believed: Belief
) -> None:
    space = known.space
    whole = space.plan.baseline
    plan = space.plan
    size = {"blocks": list(plan.baseline.blocks), "widths": list(plan.channels(plan.baseline))}
    assert other_networks.full_size(believed) == {"full": size}
    told = other_networks.further(believed, space.code(whole))
    untrained, likeliest = told["untrained"], told["likeliest"]
    assert space.parse(untrained["network"]) not in known.networks
    assert 0 < untrained["params_share"] < 1
    assert space.parse(likeliest["network"]) in known.networks
    (tiny,) = space.architectures([0])
    assert other_networks.further(believed, space.code(tiny)) == {}


@unfitted
def test_what_is_smallest_is_printed(
    known: History, believed: Belief, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_printing.print_smallest(believed, SearchConfig())
    printed = capsys.readouterr().out
    assert "smallest within 1 point " in printed
    assert "predicted" in printed
    conf = asked(objective__max_drop=0.0, cap__params="4%")
    answer_printing.print_smallest(Belief.from_history(known, conf), conf)
    printed = " ".join(capsys.readouterr().out.split())
    assert "the baseline: no network that keeps to the caps is good enough yet" in printed
    assert "but the baseline does not keep to cap.params, and no" in printed


def test_an_answer_that_replaces_another_says_which(
    first: First, tell: Tell, capsys: pytest.CaptureFixture[str]
) -> None:
    before, now = tell(first[1]), tell(first[0])
    for same in (None, now):
        answer_printing.print_replaced(same, now, allowed=1.0, confidence=0.8)
    assert not capsys.readouterr().out
    answer_printing.print_replaced(before, now, allowed=1.0, confidence=0.8)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{before.network} before" in printed and "objective.confidence=0.8" in printed


def test_networks_that_were_tested_are_counted_once(first: First, tell: Tell) -> None:
    finals = [tell(a, seed=s, origin=FINALIST, test_acc=80.0) for a in first[:2] for s in (1, 2)]
    assert n_tested([*finals, tell(first[3])]) == 2
    assert n_tested([*finals, tell(first[2], test_acc=80.0)]) == 3  # whatever for
