"""What a search prints speaks of the cost that it is about, and names it."""

from __future__ import annotations

import pytest

from ssr_exp.config import CostAxis
from ssr_exp.rescaling import cost
from ssr_exp.runs import cost_words
from ssr_exp.search import answer_printing, other_networks, printing
from ssr_exp.search.belief import Belief
from ssr_exp.search.history import History
from ssr_exp.search.rounds import Planned
from tests.search.conftest import First, Tell, asked

pytestmark = pytest.mark.usefixtures("unfitted")
COUNTED = [CostAxis.params, CostAxis.macs, CostAxis.gemms]


def share(belief: Belief, code: str, axis: CostAxis) -> float:
    space = belief.history.space
    counts = cost.count_one(space.plan, space.parse(code))
    return float(getattr(counts, axis) / getattr(space.baseline, axis))


@pytest.mark.parametrize("axis", COUNTED)
def test_a_round_and_an_answer_that_is_replaced_speak_of_the_cost_and_name_it(
    known: History,
    first: First,
    tell: Tell,
    capsys: pytest.CaptureFixture[str],
    axis: CostAxis,
) -> None:
    belief = Belief.from_history(known, asked(objective__cost=axis))
    one, other = (belief.history.space.code(a) for a in first[1:3])
    picks = [Planned(network=one, mean=90.0)]
    printing.print_round(belief, picks, title="round 1 of 3", count=1, axis=axis)
    before, now = tell(first[1]), tell(first[0])
    answer_printing.print_replaced(before, now, allowed=1.0, confidence=0.8, axis=axis)
    printed, noun = " ".join(capsys.readouterr().out.split()), cost_words.NOUNS[axis]
    said = f"{share(belief, one, axis):.1%} of the"
    assert f"1 network of {said} {noun}, val acc 90.00 % expected" in printed
    assert f"{said} baseline's {noun}" in printed and other not in printed


@pytest.mark.parametrize("axis", COUNTED)
def test_another_network_than_the_answer_is_named_with_that_cost_and_is_cheaper(
    known: History, axis: CostAxis
) -> None:
    belief = Belief.from_history(known, asked(objective__cost=axis, objective__max_drop=3.0))
    space = known.space
    told = other_networks.further(belief, space.code(space.plan.baseline), axis)
    assert told
    for named in told.values():
        assert named["cost"] == axis
        assert named["share"] == pytest.approx(share(belief, named["network"], axis))
        params = share(belief, named["network"], CostAxis.params)
        assert named["params_share"] == pytest.approx(params)
    assert told["untrained"]["share"] < 1
