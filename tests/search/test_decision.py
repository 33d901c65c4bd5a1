"""Which network is handed over: one rule, of the search's records and of finalists alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from ssr_exp.config import CostAxis
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import verdict
from ssr_exp.runs.record import FINALIST, Status
from ssr_exp.search import answer, answer_printing, decision, history, refuted, retries
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from tests.search.conftest import Tell, asked

pytestmark = pytest.mark.usefixtures("unfitted")


def belief_of(known: History) -> Belief:
    return Belief.from_history(known, asked(objective__max_drop=3.0, objective__confidence=0.6))


@pytest.fixture
def belief(known: History) -> Belief:
    return belief_of(known)


def smaller(belief: Belief) -> list[Architecture]:
    baseline = belief.history.space.plan.baseline
    return [a for a in answer.good_enough(belief) if a != baseline]


def test_what_was_not_tested_is_decided_by_val_and_nothing_speaks_against_it(
    belief: Belief,
) -> None:
    found = decision.decide(belief, {})
    assert found.network == answer.good_enough(belief)[0]
    assert found.fields() == {"kept": None, "verdict": None}


def test_the_cheapest_that_kept_its_promise_on_test_is_handed_over(belief: Belief) -> None:
    one, two, three, *_ = smaller(belief)
    found = decision.decide(belief, {one: 5.0, three: 0.0, two: 1.0})
    assert (found.network, found.drop, found.is_kept) == (two, 1.0, True)
    assert found.verdict is None


def test_a_drop_of_what_is_allowed_is_kept_whatever_floating_point_makes_of_it(
    known: History,
) -> None:
    belief = Belief.from_history(known, asked(objective__max_drop=0.3, objective__confidence=0.6))
    one = answer.good_enough(belief)[0]
    drop = 90.9 - 90.6
    assert drop > belief.drop == 0.3
    found = decision.decide(belief, {one: drop})
    assert found.network == one and found.is_kept is True and found.verdict is None
    assert decision.decide(belief, {one: 0.301}).is_kept is not True


def test_what_was_tested_is_promised_by_all_trainings(belief: Belief, known: History) -> None:
    """What is less likely by now comes after what is likely enough, though it is cheaper."""
    one, two, *_ = smaller(belief)
    probability = {a: belief.promises[a].probability for a in (one, two)}
    assert probability[one] < probability[two]
    between = sum(probability.values()) / 2
    seen = Belief.from_history(known, asked(objective__max_drop=3.0, objective__confidence=between))
    assert decision.decide(belief, {one: 1.0, two: 1.0}).network == one
    assert decision.decide(belief, {one: 1.0, two: 1.0}, seen).network == two


def test_a_cheaper_network_is_tested_only_if_it_was_not_promised_before(
    belief: Belief, known: History
) -> None:
    """It was not by `sure`, and is by `belief`."""
    sure = Belief.from_history(known, asked(objective__max_drop=3.0, objective__confidence=0.97))
    decided, lax = decision.decide(sure, {}), replace(sure, confidence=0.6)
    choice = retries.Retries(lax, 2, 3, lambda count: count)
    tried = [decided.network]
    assert choice.next_cheaper(sure, decided, tried, first=1) is None
    since = choice.next_cheaper(belief, decided, tried, first=1)
    assert since == answer.good_enough(belief)[0] and since not in answer.good_enough(sure)
    # What was tested now, or with all seeds before, is not tested again.
    assert choice.next_cheaper(belief, decided, [*tried, since], first=1) != since
    tested = decision.decide(sure, {since: 9.0}, belief)
    assert choice.next_cheaper(belief, tested, tried, first=1) == since  # by some seeds alone
    done = replace(choice, is_tested=lambda _: True)
    assert done.next_cheaper(belief, tested, tried, first=1) != since
    # Nor what the search did not train: an arm.
    places = [at for at, a in enumerate(lax.history.architectures) if a != since]
    arm = replace(lax, history=lax.history.part(places))
    strange = replace(choice, belief=arm)
    assert strange.next_cheaper(belief, decided, tried, first=1) != since
    for limit, affordable in ((0, lambda count: count), (2, lambda _: 2)):
        poor = replace(choice, limit=limit, affordable=affordable)
        assert poor.next_cheaper(belief, decided, tried, first=1) is None
    late = decision.decide(sure, {}), [decided.network, *smaller(sure)[1:3]]
    assert choice.next_cheaper(belief, late[0], late[1], first=1) is None  # two retries were made


def test_a_broken_promise_is_said_with_what_to_do(belief: Belief) -> None:
    one, two, *_ = smaller(belief)
    found = decision.decide(belief, {one: 6.0, two: 4.0})
    assert (found.network, found.is_kept) == (two, False)
    assert found.verdict is not None and "it loses 4.00 points on test" in found.verdict
    for remedy in ("more rounds", "longer", "objective.max_drop", "finalists.seeds"):
        assert remedy in found.verdict


def test_where_nothing_reaches_the_confidence_no_network_is_promised(known: History) -> None:
    conf = asked(objective__max_drop=0.2, objective__confidence=0.99, cap__params="90%")
    belief = Belief.from_history(known, conf)
    found = decision.decide(belief, {})
    assert belief.promises[found.network].probability < 0.99
    assert found.verdict is not None and found.verdict.startswith("no network is promised")
    assert "objective.confidence=0.99 asks for more" in found.verdict


def test_what_was_tested_before_and_breaks_a_cap_of_now_is_not_handed_over(
    known: History,
) -> None:
    conf = asked(objective__max_drop=3.0, objective__confidence=0.6, cap__params="20%")
    capped = Belief.from_history(known, conf)
    one, *_ = smaller(capped)
    large = next(a for a in smaller(belief_of(known)) if answer.breaks_a_cap(capped, a))
    found = decision.decide(capped, {large: 0.5})
    assert (found.network, found.is_kept) == (one, None)
    assert found.drops == {large: 0.5}  # what lies within it is refuted by that, all the same
    found = decision.decide(capped, {large: 4.0, one: 9.0})
    assert (found.network, found.drop, found.is_kept) == (one, 9.0, False)


def test_what_was_tested_for_another_cost_and_is_not_cheaper_by_this_one_is_not_handed_over(
    known: History,
) -> None:
    conf = asked(objective__max_drop=3.0, objective__confidence=0.6)
    conf.objective.cost = CostAxis.gemms
    belief = Belief.from_history(known, conf)
    baseline, one = belief.history.space.plan.baseline, smaller(belief)[0]
    narrow = next(
        a for a in belief.networks if a.blocks == baseline.blocks and a.widths < baseline.widths
    )
    assert belief.log_costs[narrow] == belief.log_costs[baseline]
    found = decision.decide(belief, {narrow: 0.0})
    assert (found.network, found.is_kept) == (one, None)
    assert decision.decide(belief, {narrow: 0.0, one: 1.0}).network == one


@pytest.mark.parametrize("keeps", [True, False])
def test_where_no_smaller_network_keeps_the_caps_the_baseline_is_the_answer(
    belief: Belief, keeps: bool
) -> None:
    baseline, one = belief.history.space.plan.baseline, smaller(belief)[0]
    within = torch.tensor([keeps and a == baseline for a in belief.networks])
    state, caps = replace(belief.state, within=within), {"params": 9.0, "macs": 9.0, "drop": 3.0}
    found = decision.decide(replace(belief, state=state, caps=caps), {one: 0.5})
    assert (found.network, found.drop, found.is_kept) == (baseline, None, None)
    said = None if keeps else verdict.breaks_caps_text(["params", "macs"])
    assert found.verdict == said


def test_what_was_only_compared_is_no_answer(belief: Belief) -> None:
    space, one = belief.history.space, smaller(belief)[0]
    stranger = next(
        a for a in space.architectures(range(space.lattice.size)) if a not in belief.networks
    )
    assert decision.decide(belief, {stranger: 0.0, one: 1.0}).network == one


def test_drops_on_test_are_of_means_over_seeds(belief: Belief, tell: Tell) -> None:
    one, baseline = smaller(belief)[0], belief.history.space.plan.baseline
    told = [
        tell(a, seed=seed, origin=FINALIST, test_acc=value)
        for a, values in ((baseline, (90.0, 92.0)), (one, (86.0, 88.0)))
        for seed, value in enumerate(values)
    ]
    assert decision.drops_on_test(belief, told) == {one: pytest.approx(4.0)}
    assert decision.drops_on_test(belief, told[2:]) == {}


def test_drops_on_test_are_of_one_study_each(belief: Belief, tell: Tell) -> None:
    one, two, *_ = smaller(belief)
    baseline = belief.history.space.plan.baseline
    long, short = (
        [
            tell(a, study=study, seed=1, origin=FINALIST, test_acc=value)
            for a, value in zip((baseline, one, two), values, strict=False)
        ]
        for study, values in (("long", (94.0, 93.2)), ("short", (90.0, 88.7, 89.6)))
    )
    drops = decision.drops_on_test(belief, [*long, *short])
    assert drops == {one: pytest.approx(0.8), two: pytest.approx(0.4)}
    assert decision.drops_on_test(belief, [*long, *short[1:]]) == {one: pytest.approx(0.8)}


def test_a_finalist_whose_trainings_all_diverged_lost_without_end(
    belief: Belief, tell: Tell
) -> None:
    one, two, *_ = smaller(belief)
    baseline = belief.history.space.plan.baseline
    diverged = {"origin": FINALIST, "status": Status.diverged, "val_acc": None, "error": "NaN"}
    told = [tell(a, origin=FINALIST, test_acc=90.0) for a in (baseline, two)]
    told += [tell(one, seed=seed, **diverged) for seed in (0, 1)]
    drops = decision.drops_on_test(belief, told)
    assert drops == {one: math.inf, two: pytest.approx(0.0)}
    assert decision.decide(belief, drops).network == two
    told.append(tell(one, seed=2, origin=FINALIST, test_acc=89.0))
    assert decision.drops_on_test(belief, told)[one] == pytest.approx(1.0)
    assert decision.drops_on_test(belief, told[1:]) == {}


def test_the_training_that_is_handed_over_is_never_chosen_by_test(
    belief: Belief, tell: Tell
) -> None:
    one = smaller(belief)[0]
    values = ((1, 80.0, 99.0), (2, 85.0, 70.0), (3, 84.0, 98.0))
    told = [tell(one, seed=s, val_acc=val, test_acc=test) for s, val, test in values]
    assert answer.shipped(told).seed == answer.shipped(told[::-1]).seed == 2
    unseen = [r.model_copy(update={"score": None}) for r in told]  # they learned from val
    assert answer.shipped(unseen[::-1]).seed == 1


def test_a_surrogate_that_was_too_sure_does_not_end_the_retries(belief: Belief) -> None:
    surest = max(smaller(belief), key=lambda a: belief.promises[a].probability)
    left = [a for a in smaller(belief) if a != surest]
    assert retries.next_best(belief, [surest]) == max(
        left, key=lambda a: belief.promises[a].probability
    )
    assert retries.next_best(belief, smaller(belief)) is None


def test_that_nothing_more_is_tested_is_said_with_the_reason(
    belief: Belief, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, *_ = smaller(belief)
    tests = retries.Retries(belief, 1, 3, lambda count: count)
    assert tests.next({one: 5.0, two: math.inf}, first=1) is None
    assert "finalists.retries=1 allows no further one" in caplog.text
    caplog.clear()
    assert retries.Retries(belief, 99, 3, lambda count: count).next(
        dict.fromkeys(smaller(belief), 5.0), first=1
    ) is None  # fmt: skip
    assert "no other smaller network is good enough" in caplog.text
    caplog.clear()
    larger = smaller(belief)[-1]
    tested = [larger, *refuted.left(belief, {larger: 5.0}, smaller(belief))]
    assert {*tested} < {*smaller(belief)}
    assert tests.next(dict.fromkeys(tested, 5.0), first=1) is None
    assert "all others that are good enough on val lie within one that lost too much" in caplog.text


def test_what_is_smallest_is_what_finalists_decided(
    belief: Belief, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, *_ = smaller(belief)
    code, conf = belief.history.space.code, asked(objective__cost=CostAxis.macs)
    answer_printing.print_smallest(belief, conf, decision.decide(belief, {one: 5.0, two: 1.0}))
    printed = capsys.readouterr().out
    assert "smallest that lost at most 3 points on test:" in printed
    (trained,) = (line for line in printed.splitlines() if f"trained    {code(two)}" in line)
    assert f"val acc {belief.history.scores()[two]:.2f} %" in trained  # no score of the test
    printed = " ".join(printed.split())
    assert "drop 1.00 points, where 3 points may be lost promise kept on test; by val al" in printed
    answer_printing.print_smallest(belief, conf, decision.decide(belief, {one: 5.0}))
    printed = " ".join(capsys.readouterr().out.split())
    assert "smallest within 3 points of the baseline, on val:" in printed
    assert "the promise is broken" in printed
    assert "drop 5.00 points, more than the 3 points that may be lost" in printed
    assert "promise broken on test; by val alone:" in printed


def test_what_is_promised_by_val_alone_counts_all_trainings_that_val_measured(
    belief: Belief, known: History, tell: Tell, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network is chosen without its finalists; what val says of it is not the first seed's."""
    one = smaller(belief)[0]
    finals = [tell(one, seed=seed, origin=FINALIST, noise=9.0) for seed in (1, 2)]
    conf = asked(objective__max_drop=3.0, objective__confidence=0.6)
    seen = Belief.from_history(history.from_records(known.space, [*known.records, *finals]), conf)
    assert seen.promises[one] != belief.promises[one]
    tested, untested = (decision.decide(belief, drops) for drops in ({one: 1.0}, {}))
    assert tested.network == untested.network == one
    assert tested.promise(belief, seen) == seen.promises[one]
    assert untested.promise(belief, seen) == belief.promises[one]
    answer_printing.print_smallest(belief, conf, tested, seen=seen)
    promise = seen.promises[one].stated(allowed=belief.drop, confidence=belief.confidence)
    said = verdict.promise_text(belief.score, promise, on="test", kept=True)
    assert f"promise {said}" in " ".join(capsys.readouterr().out.split())
