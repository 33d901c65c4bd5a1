"""Kept channels are the best ones that can be kept together."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from torch import Tensor, nn

from ssr_exp.config import ChannelChoice
from ssr_exp.rescaling import kept_channels, planning
from ssr_exp.rescaling.kept_channels import Mask
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.rescaling.resnet import CifarResNet
from tests.rescaling import probes

KINDS = ["resnet8", "grouped", "inverted", "shuffle"]


@cache
def planned(name: str) -> tuple[nn.Module, Plan]:
    blocks = {"grouped": probes.Grouped, "inverted": probes.Inverted, "shuffle": probes.Shuffle}
    network = probes.Net(blocks[name]) if name in blocks else CifarResNet(8, shortcut="B")
    return network, planning.trace(network, probes.SHAPE, multiple=4)


def chosen(
    plan: Plan, state: dict[str, Tensor], architecture: Architecture, by: str = "l1"
) -> Mask:
    names = {name for name, leaf in plan.leaves.items() if leaf.is_parameter}
    return kept_channels.choose(state, plan, architecture, names=names, by=ChannelChoice(by))


@pytest.mark.parametrize("by", list(ChannelChoice))
@pytest.mark.parametrize("name", KINDS)
def test_each_group_keeps_as_many_channels_as_it_shall(name: str, by: ChannelChoice) -> None:
    network, plan = planned(name)
    for architecture in probes.arbitrary(plan, 3):
        kept = chosen(plan, network.state_dict(), architecture, by)
        known = plan.channel_groups >= 0
        found = np.bincount(plan.channel_groups[known & kept], minlength=len(plan.groups))
        assert found.tolist() == plan.sizes(architecture).tolist()
        assert kept[~known].all()


def test_the_first_channels_are_kept_where_nothing_else_is_asked() -> None:
    network, plan = planned("resnet8")
    kept = chosen(plan, network.state_dict(), plan.smallest, "first")
    for group in range(len(plan.groups)):
        own = kept[plan.channel_groups == group]
        assert own.tolist() == sorted(own, reverse=True)


def test_the_largest_filters_are_kept() -> None:
    network, plan = planned("resnet8")
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["stage1.0.conv1.weight"][[3, 5, 11, 14]] *= 10
    kept = chosen(plan, state, plan.smallest)
    rows = plan.leaves["stage1.0.conv1.weight"].channels[0]
    assert rows is not None
    assert np.flatnonzero(kept[rows]).tolist() == [3, 5, 11, 14]


def test_what_no_weight_puts_out_is_judged_by_those_that_read_it() -> None:
    network, plan = planned("resnet8")
    name = "stage1.0.conv2.weight"
    columns = plan.leaves[name].channels[1]
    assert columns is not None
    state = {n: tensor.clone() for n, tensor in network.state_dict().items()}
    state[name][:, [0, 7, 8, 9]] *= 10
    kept = kept_channels.choose(state, plan, plan.smallest, names={name}, by=ChannelChoice.l1)
    assert np.flatnonzero(kept[columns]).tolist() == [0, 7, 8, 9]


@pytest.mark.parametrize("by", list(ChannelChoice))
def test_grouped_convolutions_keep_whole_products_or_as_much_of_each(by: ChannelChoice) -> None:
    network, plan = planned("grouped")
    kinds = set()
    for architecture in probes.arbitrary(plan, 9):
        kept = chosen(plan, network.state_dict(), architecture, by)
        for path, module in network.named_modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                rows, columns = plan.leaves[f"{path}.weight"].channels[:2]
                assert rows is not None
                counts = set(kept[rows].reshape(module.groups, -1).sum(1).tolist())
                kinds.add(columns is None)
                assert len(counts) == 1 or (columns is None and counts == {0, rows.size // 4})
    assert kinds == {True, False}


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_group_of_a_multiple_that_no_weight_explains_is_cut_into_equal_parts(parts: int) -> None:
    numbers = np.arange(16)
    worth = np.where(numbers < 4, 9.0, numbers)
    picked = kept_channels._best(worth, 8, numbers, np.zeros(16, dtype=np.int64), parts)
    assert set(np.split(picked, parts)[0].tolist()) <= {True, False}
    assert {int(part.sum()) for part in np.split(picked, parts)} == {8 // parts}


def test_where_the_parts_shares_are_not_whole_the_best_are_kept() -> None:
    numbers = np.arange(6)
    picked = kept_channels._best(numbers.astype(float), 3, numbers, np.zeros(6, dtype=np.int64), 4)
    assert picked.tolist() == [False] * 3 + [True] * 3


def test_the_seed_network_keeps_everything() -> None:
    network, plan = planned("resnet8")
    assert chosen(plan, network.state_dict(), plan.baseline).all()
