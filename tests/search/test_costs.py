"""A search that trades or caps the latency of a device: what is measured decides."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssr_exp.config import CostAxis, Objective, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.search import answer, answer_printing, caps, costs, history, loop, printing
from ssr_exp.search.belief import Belief
from ssr_exp.search.costs import Latencies
from ssr_exp.search.history import History
from ssr_exp.search.loop import Search
from ssr_exp.search.space import Space
from tests.search.conftest import Begin, First, Tell, World, asked

pytestmark = pytest.mark.usefixtures("unfitted")


class Device:
    """Predicts a latency that grows with the MACs; what is measured differs for every third."""

    batch = 1

    def __init__(self, space: Space, *, surprise: float = 1.5, is_here: bool = True) -> None:
        self.space, self.surprise, self.is_here = space, surprise, is_here
        self._known: dict[Architecture, float] = {}
        self.asked: list[Architecture] = []

    def __str__(self) -> str:
        return "a phone"

    def guess(self, points: Points) -> NDArray[np.float64]:
        counts: NDArray[np.int64] = cost.count(self.space.plan, points).macs
        return counts / self.space.baseline.macs + 0.5

    def measured(self) -> dict[Architecture, float]:
        return self._known

    def ms(self, points: Points) -> NDArray[np.float64]:
        found = self.guess(points)
        for n, architecture in enumerate(cost.decode(self.space.plan, points)):
            found[n] = self._known.get(architecture, found[n])
        return found

    def measure(self, architectures: Iterable[Architecture]) -> bool:
        new = [a for a in architectures if a not in self._known]
        if not self.is_here:
            return not new
        for a in new:
            (guess,) = self.guess(cost.encode(self.space.plan, [a]))
            self._known[a] = float(guess) * (self.surprise if sum(a.widths) % 3 else 1.0)
            self.asked.append(a)
        return True


def capped(begin: Begin, device: Device, cap: str) -> Search:
    return begin(device=device, objective__kind=Objective.smallest, cap__latency_ms=cap)


def test_a_device_is_what_a_search_takes(small: Space) -> None:
    assert isinstance(Device(small), Latencies)


@pytest.mark.parametrize("revisions", [1, loop.REVISIONS])
def test_a_proposal_is_measured_before_it_is_trained_and_none_breaks_the_cap(
    begin: Begin,
    small: Space,
    world: World,
    first: First,
    monkeypatch: pytest.MonkeyPatch,
    revisions: int,
) -> None:
    monkeypatch.setattr(loop, "REVISIONS", revisions)
    device = Device(small)
    capped(begin, device, "1.1").run(world.train)
    proposed = [small.parse(network) for network in world.trained[len(first) :]]
    assert proposed
    assert all(device.measured()[a] <= 1.1 for a in proposed)
    guessed = dict(
        zip(device.asked, device.guess(cost.encode(small.plan, device.asked)), strict=True)
    )
    assert any(guess <= 1.1 < device.measured()[a] for a, guess in guessed.items())


def test_the_answer_keeps_the_cap_as_it_was_measured(
    begin: Begin, small: Space, world: World
) -> None:
    device = Device(small)
    belief, _ = capped(begin, device, "60%").run(world.train)
    own = answer.good_enough(belief)[0]
    cap = 60 / 100 * device.measured()[small.plan.baseline]
    taken = answer.latency(belief, own)
    assert taken == answer.DeviceLatency(device.measured()[own], "a phone", True, cap)
    assert taken is not None and taken.ms <= cap


def test_a_baseline_keeps_to_a_cap_of_all_its_latency(known: History, small: Space) -> None:
    device, baseline = Device(small), small.plan.baseline
    for ms in (0.1 + 0.01 * n for n in range(100)):
        device._known[baseline] = ms
        belief = Belief.from_history(known, asked(cap__latency_ms="100%"), latencies=device)
        assert not answer.breaks_a_cap(belief, baseline)


def test_a_proposal_that_was_measured_to_take_all_of_the_cap_is_trained(
    begin: Begin, small: Space, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "REVISIONS", 0)
    device = Device(small)
    search = capped(begin, device, "1.1")
    world.train([small.code(a) for a in search.first], "sentinel_all")
    belief = search.look()
    picks = search.next_batch(belief, 1, count=2)
    for more, left in ((1e-12, picks), (1e-6, [])):
        device._known |= {small.parse(p.network): 1.1 * (1 + more) for p in picks}
        assert search.measured_batch(belief, 1, count=2) == (belief, left)


def test_what_cannot_be_measured_here_is_predicted_and_said_so(
    begin: Begin, small: Space, world: World
) -> None:
    device = Device(small, is_here=False)
    belief, _ = capped(begin, device, "1.1").run(world.train)
    assert device.asked == []
    taken = answer.latency(belief, answer.good_enough(belief)[0])
    assert taken is not None and not taken.measured
    assert taken.ms <= 1.1


def test_where_the_machine_is_too_noisy_the_search_goes_on_with_predictions(
    begin: Begin, small: Space, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(small)
    device.measure([small.plan.baseline])

    def noisy(_: object) -> bool:
        raise SsrError("this machine is too noisy")

    device.measure = noisy  # type: ignore[method-assign, assignment]
    belief, reason = begin(
        device=device, objective__kind=Objective.smallest, cap__latency_ms="1.1"
    ).run(world.train)
    assert reason == "all 2 rounds are done"
    taken = answer.latency(belief, answer.good_enough(belief)[0])
    assert taken is not None and not taken.measured
    assert "latencies stay predicted: this machine is too noisy" in caplog.text


def test_the_latency_of_a_batch_and_of_the_smallest_is_shown(
    begin: Begin, small: Space, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Device(small)
    search = capped(begin, device, "1.1")
    belief, _ = search.run(world.train)
    rounds = [x for x in capsys.readouterr().out.splitlines() if x.startswith("round ")]
    assert len(rounds) == 2 and all(re.search(r"parameters, [\d.~]+.* ms, ", x) for x in rounds)
    printing.print_batch(belief, search.next_batch(belief, 3, count=2), title="next")
    printed = capsys.readouterr().out
    assert "ms: a phone (~: predicted, not measured); 1.1 ms are allowed" in printed
    answer_printing.print_smallest(belief, SearchConfig())
    own = device.measured()[answer.good_enough(belief)[0]]
    assert f"%, {own:.4g} ms" in capsys.readouterr().out


def test_a_cap_below_the_fastest_network_names_it_before_anything_is_trained(
    begin: Begin, small: Space, world: World
) -> None:
    (smallest,) = small.architectures([0])
    fastest = small.code(smallest)
    with pytest.raises(SsrError, match=f"the fastest of the lattice, {fastest}, takes about"):
        capped(begin, Device(small), "0.1").run(world.train)
    assert world.trained == []


def test_a_share_of_a_baseline_that_was_not_measured_is_refused(
    begin: Begin, small: Space, world: World
) -> None:
    with pytest.raises(SsrError, match=r"cap.latency_ms=50% is a share of a number that is not"):
        begin(
            device=Device(small, is_here=False),
            objective__kind=Objective.smallest,
            cap__latency_ms="50%",
        ).run(world.train)
    assert world.trained == []


@pytest.mark.parametrize(
    ("cap", "said"),
    [
        ("50%", "cap.latency_ms=50% is a share of a number that is not known yet"),
        ("0.001", "no network keeps to cap.latency_ms=0.001: the fastest of the lattice"),
    ],
)
def test_a_cap_that_the_records_rule_out_is_refused_before_anything_is_trained(
    begin: Begin, world: World, tell: Tell, first: First, cap: str, said: str
) -> None:
    smaller = [a for a in first if a != world.space.plan.baseline][:6]
    world.all = [tell(a, latency_ms=2.0 + n, latency_device="x") for n, a in enumerate(smaller)]
    with pytest.raises(SsrError, match=said):
        begin(objective__kind=Objective.smallest, cap__latency_ms=cap).run(world.train)
    assert world.trained == []


def test_a_traded_latency_prices_the_lattice_and_what_was_measured(
    known: History, small: Space
) -> None:
    device, conf = Device(small), asked(objective__cost=CostAxis.latency_ms)
    device.measure(known.networks)
    belief = Belief.from_history(known, conf, latencies=device)
    everything = small.lattice.points(range(len(small.lattice)))
    np.testing.assert_allclose(belief.candidates.log_cost.exp(), device.ms(everything))
    mine = [device.measured()[a] for a in known.networks]
    np.testing.assert_allclose(belief.state.log_costs.exp(), mine)


def test_latency_is_asked_for_once_over_a_lattice(known: History, small: Space) -> None:
    device, sizes = Device(small), []
    real = device.ms
    device.ms = lambda points: sizes.append(len(points)) or real(points)  # type: ignore[method-assign, func-returns-value]
    conf = asked(objective__cost=CostAxis.latency_ms, cap__latency_ms="9")
    Belief.from_history(known, conf, latencies=device)
    assert sizes.count(len(small.lattice)) == 1


def test_the_fastest_is_found_by_the_price(small: Space) -> None:
    price: costs.Price = lambda points: -torch.from_numpy(points.sum(axis=1) * 1.0)  # noqa: E731
    with pytest.raises(SsrError, match=small.code(small.plan.baseline)):
        caps.check_latency_cap(small, 1e-30, price)


def test_a_latency_of_the_records_counts_as_it_was_measured(
    small: Space, tell: Tell, first: First
) -> None:
    """Whatever the surrogate of the others makes of it: here it is the slowest by far."""
    slow = small.plan.baseline
    times = {a: 9.0 if a == slow else 1.0 + n / 100 for n, a in enumerate(first[:12])}
    records = [tell(a, latency_ms=times.get(a), latency_device="a phone") for a in first]
    records.append(tell(first[3], seed=1, latency_ms=1.5, latency_device="a phone"))
    times[first[3]] = (times[first[3]] + 1.5) / 2
    trained = history.from_records(small, records)
    for conf in (asked(objective__cost=CostAxis.latency_ms), asked(cap__latency_ms="2.5")):
        belief = Belief.from_history(trained, conf)
        assert belief.latencies is not None
        everything = small.lattice.points(range(len(small.lattice)))
        ms = belief.latencies.ms(everything).tolist()
        told = dict(zip(small.architectures(range(512)), ms, strict=True))
        assert {a: told[a] for a in times} == times
        cap = belief.caps.get("latency_ms")
        taken = answer.DeviceLatency(times[first[1]], "a phone", True, cap)
        assert answer.latency(belief, first[1]) == taken
        guessed = answer.latency(belief, first[14])
        assert guessed is not None and not guessed.measured
    assert answer.breaks_a_cap(belief, slow) and not answer.breaks_a_cap(belief, first[1])
