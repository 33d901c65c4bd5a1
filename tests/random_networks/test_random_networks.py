"""A small part of `python -m tests.random_networks`, and the laws of what it is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, planning
from tests.fuzz import driver
from tests.random_networks import (
    check,
    descriptions,
    ends,
    graphs,
    layers,
    networks,
    resizes,
    run,
    strategies,
    traits,
)
from tests.random_networks.descriptions import Description, Stage, read, write
from tests.random_networks.extras import EXTRAS
from tests.random_networks.graphs import Step
from tests.random_networks.holders import HOLDERS
from tests.random_networks.levels import BLOCK_KINDS
from tests.support import verdict

PART = 60  # networks
SIMPLE = Description(stages=(Stage(count=3),))


def _stage(**fields: object) -> Description:
    return Description(stages=(Stage(**fields), Stage(**fields, channels=20)))


TABLES = {
    "activation": layers.ACTIVATIONS,
    "resize": resizes.RESIZES,
    "block": [kind for kind in BLOCK_KINDS if kind != "graph"],
}
EACH = {
    **{f"holder {kind}": _stage(holder=kind, count=3) for kind in HOLDERS},
    **{f"{field} {kind}": _stage(**{field: kind}) for field in TABLES for kind in TABLES[field]},
    **{f"kind {kind}": Description(kind=kind, stages=(Stage(),) * 2) for kind in networks.KINDS},
    **{
        f"step {op}": _stage(block="graph", steps=(Step("widen"), Step(op, 1, 0), Step(op)))
        for op in graphs.OPS
    },
    **{f"timed in {kind}": _stage(holder=kind, block="timed", count=3) for kind in HOLDERS},
    **{f"norm {kind}": _stage(norm=kind, block="uneven") for kind in layers.NORMS},
    **{f"padding {kind}": _stage(padding=kind, block="hourglass") for kind in layers.PADDINGS},
    **{f"stem {kind}": Description(stem=kind) for kind in ends.STEMS},
    **{f"head {kind}": Description(head=kind) for kind in ends.HEADS},
    **{f"output {kind}": Description(output=kind, taps="heads") for kind in ends.OUTPUTS},
    **{f"taps {kind}": Description(taps=kind) for kind in networks.TAPS},
    **{
        f"extra {kind} at {place}": Description(extras=((kind, place, False),))
        for kind in EXTRAS
        for place in strategies.PLACES
    },
    **{f"trait {kind}": Description(traits=((kind, 1),)) for kind in traits.NAMES},
}


def test_random_networks_are_rescaled_right() -> None:
    tally = run.Tally()
    run.run(tally, networks=PART, seed=0, shrink=False)
    assert not tally.causes, "".join(
        f"{cause.kind}: {cause.detail}\n"
        f"  python -m tests.random_networks --only '{write(cause.smallest)}'\n"
        for cause in tally.causes
    )
    assert tally.networks == PART
    assert tally.removable >= PART / 5
    assert tally.changeable / tally.planned > 0.3, "too little can change: this proves nothing"


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_network_of_each_kind_runs(dims: int) -> None:
    for name, description in EACH.items():
        description = dataclasses.replace(description, dims=dims)
        with driver.quiet():
            network = networks.build(description)
            x = torch.randn(2, *networks.input_shape(description))
            for training in (False, True):
                outputs = verdict.ran(network, x, training=training)
                assert outputs, name
                assert all(y.isfinite().all() for y in outputs if y.is_floating_point()), name


def test_a_description_is_read_as_it_was_written() -> None:
    for description in EACH.values():
        assert read(write(description)) == description


def test_the_same_seed_draws_the_same_networks() -> None:
    drawn: list[list[Description]] = [[], []]
    for each in drawn:
        run.draw(each.append, strategies.descriptions(), seed=3)
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 1


def test_what_is_left_out_is_not_drawn() -> None:
    drawn: list[Description] = []
    kinds = set(BLOCK_KINDS) - {"plain"}
    for seed in range(5):
        run.draw(drawn.append, strategies.descriptions(without=kinds), seed=seed)
    assert {stage.block for description in drawn for stage in description.stages} == {"plain"}


def test_a_simple_network_is_right_and_its_blocks_can_be_removed() -> None:
    result = check.check(SIMPLE)
    assert result.findings == []
    assert result.can_remove
    assert result.can_change > 0.99
    assert result.architectures >= 3


def _off_by_one(find: Callable[..., object]) -> Callable[..., object]:
    return lambda *args, **options: (*find(*args, **options)[:1], 1)


def test_a_wrong_count_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "count_one", _off_by_one(cost.count_one))
    kinds = check.kinds(check.check(SIMPLE).findings)
    assert kinds == ["what is planned is not what is counted (parameters, MACs)"]


def test_a_crash_and_a_refusal_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Callable[..., object]:
        def find(*args: object, **options: object) -> object:
            raise error

        return find

    monkeypatch.setattr(planning, "trace", fail(KeyError("x")))
    (finding,) = check.check(SIMPLE).findings
    assert finding.kind.startswith("find: KeyError")
    monkeypatch.setattr(planning, "trace", fail(SsrError("Net has no segment: it is small.")))
    assert [finding.kind for finding in check.check(SIMPLE).findings] == ["refused: has no segment"]
    assert check.check(SIMPLE).refusal == "has no segment"


def test_a_documented_refusal_is_counted_and_is_right() -> None:
    result = check.check(dataclasses.replace(SIMPLE, extras=(("asks", "stem", False),)))
    assert result.refusal == "decides by values"
    assert result.findings == []


def test_a_network_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(())

    monkeypatch.setattr(EXTRAS["linspace"], "forward", forward)
    result = check.check(dataclasses.replace(SIMPLE, extras=(("linspace", "stem", False),)))
    assert "at full size, with the seed's weights, it computes something else" in check.kinds(
        result.findings
    )


def test_a_description_is_simplified_to_what_shows_the_finding() -> None:
    description = Description(
        dims=3,
        stages=(Stage("residual", 3, 24), Stage("gated", 4, 32, norm="group")),
        extras=(("zeros", "stem", True), ("kept", "head", True)),
        traits=(("shared", 2),),
    )
    small = descriptions.smallest(
        description, lambda d: any(stage.block == "gated" for stage in d.stages) and d.dims == 3
    )
    assert small == Description(dims=3, stages=(Stage("gated", count=1),))
    assert descriptions.features(small) == {("dims", 3), ("block", "gated")}
