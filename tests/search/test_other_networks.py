"""What is said of other networks than the answer, and what a test has refuted is not."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm

from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import answer, other_networks
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from tests.search.conftest import asked

pytestmark = pytest.mark.usefixtures("unfitted")


@pytest.fixture
def belief(known: History) -> Belief:
    return Belief.from_history(known, asked(objective__max_drop=3.0, objective__confidence=0.6))


def sizes(belief: Belief, architecture: Architecture) -> list[int]:
    return [*architecture.blocks, *belief.history.space.plan.channels(architecture)]


def test_what_is_smaller_than_a_network_that_lost_too_much_on_test_is_not_expected_to_be_enough(
    belief: Belief,
) -> None:
    first = other_networks.predicted(belief)
    assert first is not None
    seen = [first[0]]
    for _ in range(3):  # each time what was named is tested, and loses too much
        found = other_networks.predicted(belief, dict.fromkeys(seen, 9.0))
        if found is None:
            break
        for failed in seen:
            pairs = zip(sizes(belief, found[0]), sizes(belief, failed), strict=True)
            assert any(own > theirs for own, theirs in pairs)
        seen.append(found[0])
    assert len(seen) > 1
    assert other_networks.predicted(belief, {seen[0]: 1.0}) == first  # it kept within the drop
    whole = belief.history.space.plan.baseline
    assert other_networks.predicted(belief, {whole: 9.0}) is None
    assert other_networks.predicted(belief, {whole: math.inf}) == first  # its trainings failed


@pytest.mark.parametrize("limit", [512, 100], ids=["whole", "sampled"])
def test_what_diverged_or_failed_is_not_expected_to_be_enough(
    known: History, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Nothing is known of it, and the command that trains it would train nothing."""
    monkeypatch.setattr("ssr_exp.search.space.LIMIT", limit)
    monkeypatch.setattr("ssr_exp.search.lattice_sample.DRAWN", 40)
    conf = asked(objective__max_drop=3.0, objective__confidence=0.6)
    (one, _) = other_networks.predicted(Belief.from_history(known, conf)) or pytest.fail("none")
    belief = Belief.from_history(known, conf, unmeasured=[one])
    (other, _) = other_networks.predicted(belief) or pytest.fail("none")
    assert other != one
    told = other_networks.further(belief, known.space.code(known.space.plan.baseline))
    assert told["untrained"]["network"] == known.space.code(other)
    running = Belief.from_history(known, conf, unmeasured=[one], pending=[one])
    assert (other_networks.predicted(running) or pytest.fail("none"))[0] == one


def lies_within(belief: Belief, one: Architecture, other: Architecture) -> bool:
    return all(a <= b for a, b in zip(sizes(belief, one), sizes(belief, other), strict=True))


@pytest.mark.parametrize("limit", [512, 100], ids=["whole", "sampled"])
def test_no_row_names_what_lies_within_another_network_that_lost_too_much_on_test(
    known: History, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("ssr_exp.search.space.LIMIT", limit)
    monkeypatch.setattr("ssr_exp.search.lattice_sample.DRAWN", 40)
    belief = Belief.from_history(known, asked(objective__max_drop=9.0, objective__confidence=0.95))
    assert (belief.candidates.sample is not None) is (limit == 100)
    space, seen = belief.history.space, set()
    networks = sorted(known.networks, key=lambda a: sum(sizes(belief, a)))
    for failed in networks[::3]:
        for handed in (space.plan.baseline, networks[-2]):
            told = other_networks.further(belief, space.code(handed), drops={failed: 20.0})
            for row, about in told.items():
                one = space.parse(about["network"])
                is_itself = (row, one) == ("cheaper", failed) and about["drop"] == 20.0
                assert is_itself or not lies_within(belief, one, failed)
                seen.add(row)
    assert seen == {"untrained", "cheaper", "likeliest"}


def test_why_a_cheaper_network_that_is_good_enough_on_val_is_not_the_answer_is_said(
    belief: Belief,
) -> None:
    space = belief.history.space
    one, *others = answer.good_enough(belief)
    handed = next(a for a in others if a != space.plan.baseline)
    told = other_networks.further(belief, space.code(handed), drops={one: 9.0})
    assert told["cheaper"]["network"] == space.code(one) and told["cheaper"]["drop"] == 9.0
    assert told["cheaper"]["share"] < 1
    for drop in (math.inf, 1.0, -0.3):  # its trainings failed, or it kept within the 3 points
        told = other_networks.further(belief, space.code(handed), drops={one: drop})
        assert "drop" not in told.get("cheaper", {})
    likeliest = other_networks.further(belief, space.code(space.plan.baseline))["likeliest"]
    lost = {space.parse(likeliest["network"]): 9.0}
    told = other_networks.further(belief, space.code(space.plan.baseline), drops=lost)
    assert told.get("likeliest", {}).get("network") != likeliest["network"]
    told = other_networks.further(belief, space.code(handed))
    looks = answer.looks_good_enough(belief)
    named = told["cheaper"]  # nobody tested it: likely enough or not, it is named
    price = dict(zip(belief.networks, belief.state.log_costs.tolist(), strict=False))
    cheaper = [a for a in looks if price[a] < price[handed]]
    assert space.parse(named["network"]) == max(
        cheaper, key=lambda a: belief.promises[a].probability
    )
    assert "drop" not in named and named["confidence"] == belief.confidence


def test_of_a_network_that_was_only_predicted_it_is_said_how_likely_it_is(belief: Belief) -> None:
    space = belief.history.space
    told = other_networks.further(belief, space.code(space.plan.baseline))["untrained"]
    points = cost.encode(space.plan, [space.parse(told["network"])])
    drop, sigma = belief.expected_drops(points) or pytest.fail("a score is predicted")
    left = (belief.drop - float(drop)) / float(sigma)
    assert told["probability"] == pytest.approx(norm.cdf(left), abs=1e-6)
    assert told["confidence"] == belief.confidence
