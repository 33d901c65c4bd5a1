"""A latency table tells what was measured, predicts the rest, and measures only what is new."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ssr_exp.config import LatencyConf, ModelConf, SegmentConf
from ssr_exp.edge.latency import design, model, stopwatch, table, table_file
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.latency.table import LatencyTable, Subject
from ssr_exp.edge.latency.table_file import SeedNetwork, Setting
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, lattice, planning
from ssr_exp.rescaling.plan import Architecture

FEW = LatencyConf(networks=10, held_out=3, repeats=1, spread=1e9)


@cache
def subject(name: str = "resnet20", *frozen: str) -> Subject:
    model, split = ModelConf(name), SegmentConf(frozen=list(frozen))
    network, plan = planning.seed_and_plan(model, split, num_classes=10, input_shape=(1, 8, 8))
    return Subject(SeedNetwork.from_plan(model, split, plan, 10), network, lattice.from_plan(plan))


def tiny() -> Subject:
    """Eight networks, that are built and run in no time."""
    return subject("resnet8", "stage1", "stage2")


def spare(*but: Architecture) -> list[Architecture]:
    """Draw networks that a sample may not hold."""
    return [a for a in subject().lattice.sample(60, seed=3) if a not in but]


@dataclass
class Machine:  # what takes the place of measuring: a formula, and how slow the machine is by now
    pace: float = 1.0
    broken: bool = False
    turns: list[list[Architecture]] = field(default_factory=list)
    quiet: list[list[Architecture]] = field(default_factory=list)
    slowed: set[Architecture] = field(default_factory=set)  # by something else that runs

    def ms(self, architecture: Architecture) -> float:
        parts = zip(architecture.blocks, architecture.widths, strict=True)
        return 1.0 + sum(blocks * (1 + width) for blocks, width in parts)

    def measure(
        self,
        _: Subject,
        architectures: Sequence[Architecture],
        effort: LatencyConf,
        setting: Setting,
        *,
        quiet: Sequence[Architecture] = (),
    ) -> dict[Architecture, Latency]:
        if self.broken:
            raise SsrError("this machine is too noisy")
        self.turns.append(list(architectures))
        self.quiet.append(list(quiet))
        found = {a: self.pace * self.ms(a) for a in architectures}
        found |= {a: 3 * ms for a, ms in found.items() if a in self.slowed}
        return {a: Latency((ms,) * effort.repeats) for a, ms in found.items()}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(table, "_measured", (own := Machine()).measure)
    return own


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.json"


@pytest.fixture
def begun(machine: Machine, path: Path) -> LatencyTable:
    return table.start(subject(), table.here("eager"), path, FEW)


def test_a_table_holds_design_and_checks(machine: Machine, begun: LatencyTable, path: Path) -> None:
    rows, known = table_file.read(path).rows, begun.measured()
    assert len(known) == len(rows) == FEW.networks + FEW.held_out
    learnt = [a for a, row in zip(known, rows, strict=True) if row.fits]
    assert learnt == design.choose(subject().lattice, FEW.networks)
    assert known == {a: machine.ms(a) for a in machine.turns[0]}


@pytest.mark.parametrize(("networks", "held_out"), [(8, 0), (22, 12), (24, 12), (100, 12)])
def test_no_more_is_measured_than_there_is(
    machine: Machine, path: Path, networks: int, held_out: int
) -> None:
    small = subject("resnet20", "stage1", "stage3")
    assert small.lattice.size == 24
    effort = replace(FEW, networks=networks, held_out=held_out)
    rows = table.start(small, table.here("eager"), path, effort).table.rows
    assert len({row.network for row in rows}) == len(rows) == min(24, networks + held_out)
    assert sum(row.fits for row in rows) == min(24, networks)


def test_measured_networks_have_their_latency_and_others_the_models(begun: LatencyTable) -> None:
    plan, new = subject().lattice.plan, spare(*begun.measured())
    for count in (0, 30):  # the model learns from what is measured later, too
        assert begun.measure(new[:count])
        known, others = begun.measured(), new[count:]
        times = begun.ms(cost.encode(plan, [*known, *others, *known]))
        guessed = model.fit(plan, known).predict(cost.encode(plan, others))
        expected = [*known.values(), *guessed, *known.values()]
        # One row of a product may be rounded otherwise where it stands among others.
        assert times.tolist() == pytest.approx(expected, rel=1e-12)


def test_a_read_table_measures_nothing(machine: Machine, begun: LatencyTable, path: Path) -> None:
    machine.broken = True
    again = table.resume(subject(), path, FEW)
    assert (again.table, again.measured()) == (begun.table, begun.measured())
    assert again.measure(begun.measured()) and machine.turns == machine.turns[:1]
    points = subject().lattice.points(range(100))
    assert np.array_equal(again.ms(points), begun.ms(points))


def test_a_table_of_another_network_is_refused(begun: LatencyTable, path: Path) -> None:
    with pytest.raises(
        SsrError, match=r"table.json is of another network \(its model is .*measure"
    ):
        table.resume(subject("resnet8"), path, FEW)


def test_networks_that_change_what_is_frozen_do_not_count(begun: LatencyTable, path: Path) -> None:
    with pytest.raises(SsrError, match=r"of this lattice, and a latency model takes 8"):
        table.resume(subject("resnet20", "stage1"), path, FEW)


def test_enough_networks_serve_whatever_is_frozen_by_now(begun: LatencyTable, path: Path) -> None:
    begun.measure(subject().lattice.sample(300, seed=5))
    plan, frozen = subject().lattice.plan, subject("resnet20", "stage1")
    again = table.resume(frozen, path, FEW)
    known = {codes.write(plan, a): ms for a, ms in begun.measured().items()}
    kept = {frozen.code(a): ms for a, ms in again.measured().items()}
    assert 8 <= len(kept) < len(known) and kept.items() <= known.items()
    points = cost.encode(frozen.lattice.plan, list(again.measured()))
    assert again.ms(points).tolist() == list(kept.values())


@pytest.mark.parametrize("frozen", [("stage2", "stage3"), ("stage1", "stage2", "stage3")])
def test_a_tiny_lattice_is_reread(machine: Machine, path: Path, frozen: tuple[str, ...]) -> None:
    small = subject("resnet8", *frozen)
    assert small.lattice.size < design.FEWEST
    begun = table.start(small, table.here("eager"), path, FEW)
    points = small.lattice.points(range(small.lattice.size))
    assert begun.ms(points).tolist() == list(begun.measured().values())
    assert table.resume(small, path, FEW).check().errors == begun.check().errors == ()


def test_new_networks_run_once_with_ends(machine: Machine, begun: LatencyTable, path: Path) -> None:
    whole, known = subject().lattice, begun.measured()
    one, other = spare(*known)[:2]
    assert begun.measure(iter([one, *known, other, one]))
    ends = [whole.plan.baseline, *cost.decode(whole.plan, whole.points([0]))]
    assert machine.turns[1:] == [[*ends, one, other]]
    assert begun.measured() == known | {one: machine.ms(one), other: machine.ms(other)}
    assert table.resume(subject(), path, FEW).table == begun.table
    assert begun.ms(cost.encode(whole.plan, [one])).tolist() == [machine.ms(one)]


def test_a_slower_machines_pace_is_taken_out(machine: Machine, begun: LatencyTable) -> None:
    (one, *_), machine.pace = spare(*begun.measured()), 2.0
    assert begun.measure([one])
    row = begun.table.rows[-1]
    assert [row.ms, row.low, row.high] == pytest.approx([machine.ms(one)] * 3)
    assert row.fits


def test_new_networks_and_ends_are_quiet(machine: Machine, begun: LatencyTable, path: Path) -> None:
    begun = table.resume(subject(), path, replace(FEW, spread=0.3))
    (one, other, *_), whole = spare(*begun.measured()), subject().lattice
    assert begun.measure([one])
    assert machine.quiet[-1] == machine.turns[-1] and one in machine.quiet[-1]
    machine.slowed, before = {whole.plan.baseline}, begun.measured()
    with pytest.raises(SsrError, match=r"too noisy.*one network's latency changed 3.00-fold"):
        begun.measure([other])
    assert begun.measured() == before
    assert begun.table == table_file.read(path)


def test_rows_that_others_add_are_kept(machine: Machine, begun: LatencyTable, path: Path) -> None:
    one, other, *_ = spare(*begun.measured())
    theirs = table.resume(subject(), path, FEW)
    assert theirs.measure([one])
    assert begun.measure([one, other])
    assert one not in machine.turns[-1]
    assert {one, other} <= set(table.resume(subject(), path, FEW).measured())
    assert {one, other} <= set(begun.measured())


def test_many_are_measured_in_groups_beside_the_ends(
    machine: Machine, begun: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "TOGETHER", 2)
    turns, new = len(machine.turns), spare(*begun.measured())[:5]
    assert begun.measure(new)
    assert [len(group) - 2 for group in machine.turns[turns:]] == [2, 2, 1]
    assert set(new) <= set(begun.measured())


def test_only_distinct_networks_to_learn_from_count(begun: LatencyTable, path: Path) -> None:
    rows = begun.table.rows
    held_out = tuple(row.model_copy(update={"fits": False}) for row in rows)
    for few, count in ((rows[:7], 7), ((rows[0],) * 9, 1), (held_out, 0)):
        table_file.write(path, begun.table.model_copy(update={"rows": few}))
        said = f"holds {count} networks of this lattice, and a latency model takes 8"
        with pytest.raises(SsrError, match=said):
            table.resume(subject(), path, FEW)


def test_another_device_measures_nothing(machine: Machine, begun: LatencyTable, path: Path) -> None:
    for change in ({"device": "elsewhere"}, {"version": "0"}, {"runtime": "cuda9"}):
        setting = begun.table.setting.model_copy(update=change)
        table_file.write(path, begun.table.model_copy(update={"setting": setting}))
        moved, before = table.resume(subject(), path, FEW), path.read_bytes()
        assert not moved.measure(spare(*begun.measured())[:1])
        assert moved.measure(begun.measured())
        assert path.read_bytes() == before and len(machine.turns) == 1


def test_a_check_tells_held_out_errors(begun: LatencyTable, machine: Machine, path: Path) -> None:
    found = begun.check()
    assert found.model.networks == FEW.networks and len(found.errors) == FEW.held_out
    told = rf"latency model: {found.model.kind}, fitted to 10 networks; held-out error [\d.]+% in"
    assert re.match(told, str(found)) and "3 networks; in cross-validation blocks" in str(found)
    none = table.start(subject(), begun.table.setting, path, replace(FEW, held_out=0)).check()
    assert none.errors == () and "none was held out" in str(none)


def test_networks_are_built_and_run_in_the_settings_runtime(path: Path) -> None:
    setting = table.here("eager", batch=2)
    begun = table.start(tiny(), setting, path, replace(FEW, repeats=2))
    assert table.resume(tiny(), path, FEW).table.setting == begun.table.setting == setting
    assert len(begun.measured()) == 8 and all(
        row.low <= row.ms <= row.high for row in begun.table.rows
    )


def test_a_noisy_machine_writes_no_table(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    noisy = Latency((1.0, 2.0, 3.0))
    monkeypatch.setattr(
        stopwatch, "interleaved", lambda runners, **_: dict.fromkeys(runners, noisy)
    )
    with pytest.raises(SsrError, match=r"too noisy to measure latency on.*30% are allowed"):
        table.start(tiny(), table.here("eager"), path, replace(FEW, spread=0.3))
    assert not path.exists()


def test_what_cannot_be_measured_is_said_before(path: Path) -> None:
    for numbers in ({"batch": 0}, {"threads": 0}):
        with pytest.raises(SsrError, match="is 0; it must be 1 or more"):
            table.here("eager", **numbers)
    for effort in (replace(FEW, repeats=0), replace(FEW, networks=7)):
        with pytest.raises(SsrError, match=r"must be 1 or more|takes 8 networks"):
            table.start(tiny(), table.here("eager"), path, effort)
    assert not path.exists()
