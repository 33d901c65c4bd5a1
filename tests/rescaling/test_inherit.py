"""Inherited weights are slices of the seed network's, and all slices agree with each other."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssr_exp.config import ChannelChoice
from ssr_exp.rescaling import inherit, planning, rescale
from ssr_exp.rescaling.inherit import Mask
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.rescaling.resnet import CifarResNet
from tests.rescaling import probes

SHAPE = (3, 16, 16)
NETWORKS = {
    "padding": "A",
    "projection": "B",
    "grouped": "Grouped",
    "depthwise": "Inverted",
    "squeeze": "Squeeze",
    "shuffled": "Shuffle",
    "concatenated": "Dense",
    "flattened": "FlatHead",
    "attributes": "Attributes",
}
LATE = ("squeeze", "concatenated", "attributes")  # left to the slow tests
EACH = [pytest.param(n, marks=pytest.mark.slow if n in LATE else []) for n in NETWORKS]
WIRED = [p for p in EACH if p.values[0] not in ("padding", "shuffled")]  # channels keep partners


def trained(network: nn.Module) -> nn.Module:
    """Draw weights and statistics as different from each other as a training's."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.copy_(tensor + 0.2 * torch.randn(tensor.shape))
            else:
                tensor.fill_(7)
    return network.eval()


@cache
def planned(name: str) -> tuple[nn.Module, Plan]:
    if len(NETWORKS[name]) > 1:
        return probes.planned(NETWORKS[name])
    network = CifarResNet(14, shortcut=NETWORKS[name])  # type: ignore[arg-type]
    return network, planning.trace(network, SHAPE, multiple=4)


def made(name: str) -> tuple[nn.Module, Plan]:
    network, plan = planned(name)
    return trained(copy.deepcopy(network)), plan


def filled(network: nn.Module, plan: Plan, architecture: Architecture, by: str = "l1") -> nn.Module:
    """Inherit from a network's own weights, with a seed network that has others."""
    seed = trained(copy.deepcopy(network))
    built = rescale.build(seed, plan, architecture)
    names = rescale.names(seed, plan, architecture)
    inherit.fill(built, network.state_dict(), plan, architecture, names, by=ChannelChoice(by))
    return built.eval()


def images(plan: Plan) -> Tensor:
    return torch.randn(3, *plan.input_shape)


@torch.no_grad()
@pytest.mark.parametrize("name", EACH)
def test_what_is_kept_whole_inherits_everything(name: str) -> None:
    network, plan = made(name)
    expected, x = network.state_dict(), images(plan)
    for by in ChannelChoice:
        built = filled(network, plan, plan.baseline, by)
        assert all(torch.equal(tensor, expected[n]) for n, tensor in built.state_dict().items())
        assert torch.equal(built(x), network(x))
    shallow = Architecture(plan.smallest.blocks, plan.baseline.widths)
    state = filled(network, plan, shallow).state_dict()
    assert len(state) < len(expected) or name == "shuffled"
    assert all(torch.equal(tensor, expected[n]) for n, tensor in state.items())


def test_blocks_that_are_numbered_anew_inherit_from_those_they_were() -> None:
    network = nn.Sequential(
        probes.conv(3, 16), *[probes.Residual(16, 16) for _ in range(4)], nn.Flatten(1),
        nn.Linear(16 * 64, 5),
    )  # fmt: skip
    plan = planning.trace(trained(network), probes.SHAPE, multiple=4)
    built = filled(network, plan, Architecture((2,), plan.baseline.widths))
    assert len(built) == 5
    assert torch.equal(built[4].weight, network[6].weight)


@pytest.mark.parametrize("name", ["padding", "squeeze", "depthwise"])
def test_the_first_channels_are_leading_slices(name: str) -> None:
    network, plan = made(name)
    state = network.state_dict()
    for architecture in probes.arbitrary(plan, 1):
        blocks = plan.baseline.blocks
        built = filled(network, plan, Architecture(blocks, architecture.widths), "first")
        for n, tensor in built.state_dict().items():
            assert torch.equal(tensor, state[n][tuple(slice(size) for size in tensor.shape)])


@pytest.mark.parametrize("by", list(ChannelChoice))
@pytest.mark.parametrize("name", ["padding", "grouped", "depthwise"])
def test_statistics_follow_the_filters_that_they_are_of(name: str, by: str) -> None:
    network, plan = made(name)
    with torch.no_grad():
        for conv, norm in pairs(network):
            marks = 1.0 + torch.randperm(len(norm.weight))
            conv.weight.copy_(marks.reshape(-1, 1, 1, 1).expand_as(conv.weight))
            for of in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                of.copy_(marks)
    for architecture in probes.arbitrary(plan, 1):
        for conv, norm in pairs(filled(network, plan, architecture, by)):
            marks = conv.weight[:, 0, 0, 0]
            assert len(set(marks.tolist())) == len(marks)
            for of in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                assert torch.equal(of, marks)


def pairs(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Pair batch norms with the convolutions before them."""
    found, conv = [], None
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            conv = module
        elif isinstance(module, nn.BatchNorm2d):
            assert conv is not None
            found.append((conv, module))
    return found


def kill(network: nn.Module, plan: Plan, kept: Mask) -> None:
    """Let all channels but those that are kept put out nothing."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            channels = plan.leaves[name].channels[0]
            if channels is not None:
                dead = (channels >= 0) & ~kept[channels]
                parameter[torch.from_numpy(dead)] = 0


@torch.no_grad()
@pytest.mark.parametrize("name", WIRED)
def test_a_network_whose_other_channels_are_dead_computes_the_same_without_them(name: str) -> None:
    network, plan = made(name)
    for architecture in probes.arbitrary(plan, 1)[1:]:
        narrow = Architecture(plan.baseline.blocks, architecture.widths)
        dead = trained(copy.deepcopy(network))
        names = set(dict(dead.named_parameters()))
        kept = inherit.choose(dead.state_dict(), plan, narrow, names=names, by=ChannelChoice.l1)
        kill(dead, plan, kept)
        x = images(plan)
        torch.testing.assert_close(filled(dead, plan, narrow)(x), dead(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_residual_stream_keeps_its_live_channels_wherever_they_lie(shortcut: str) -> None:
    """With padding they must lie where the padding of the narrow network puts them."""
    network = trained(CifarResNet(8, shortcut=shortcut))  # type: ignore[arg-type]
    plan = planning.trace(network, SHAPE, multiple=4)
    half = plan.effective(Modifiers(depth=[1] * 3, width=[0.5] * 3))
    kept = np.ones(len(plan.channel_groups), dtype=bool)
    starts = {16: 0, 32: 4, 64: 12}  # of the middle half, as the shortcuts see it
    for number, group in enumerate(plan.groups):
        alive = np.random.default_rng(number).permutation(group.size) < group.size // 2
        if shortcut == "A":
            alive = np.arange(group.size) - starts[group.size]
            alive = (alive >= 0) & (alive < group.size // 2)
        kept[plan.channel_groups == number] = alive
    kill(network, plan, kept)
    x = images(plan)
    torch.testing.assert_close(filled(network, plan, half)(x), network(x), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(filled(network, plan, half, "first")(x), network(x), atol=1e-2)


def test_filters_of_blocks_that_are_removed_have_no_say() -> None:
    network, plan = made("projection")
    shallow = plan.effective(Modifiers(depth=[0.5] * 3, width=[0.5] * 3))
    before = filled(network, plan, shallow).state_dict()
    with torch.no_grad():
        network.stage1[1].conv2.weight[8:] *= 100
    after = filled(network, plan, shallow).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("name", EACH)
def test_whatever_is_kept_fits_and_learns(name: str, caplog: pytest.LogCaptureFixture) -> None:
    network, plan = made(name)
    for architecture in probes.arbitrary(plan, 1)[1:]:
        built = filled(network, plan, architecture).train()
        built(images(plan)).square().sum().backward()
        assert all(p.grad is not None for p in built.parameters())
    assert caplog.text == ""


def test_channels_that_do_not_fit_are_replaced_and_named(caplog: pytest.LogCaptureFixture) -> None:
    network, plan = made("padding")
    name = "stage1.0.conv2.weight"
    rows, columns, *rest = plan.leaves[name].channels
    assert columns is not None
    unlike = replace(plan.leaves[name], channels=(rows, np.zeros_like(columns) - 1, *rest))
    broken = replace(plan, leaves={**plan.leaves, name: unlike})
    built = filled(network, broken, plan.smallest)
    assert "stage1.0.conv2.weight inherits its first channels" in caplog.text
    assert len(caplog.messages) == 1
    state, kept = network.state_dict(), built.state_dict()[name]
    assert any(torch.equal(kept[0], row[:4]) for row in state[name])


def test_what_is_no_part_of_a_state_dict_stays_as_it_was_built() -> None:
    network, _ = made("projection")
    network.stage1[0].register_buffer("scratch", torch.zeros(3), persistent=False)
    plan = planning.trace(network, SHAPE, multiple=4)
    built = filled(network, plan, plan.smallest)
    assert torch.equal(built.stage1[0].scratch, torch.zeros(3))


def test_nothing_but_the_network_changes() -> None:
    network, plan = made("projection")
    built = rescale.build(network, plan, plan.smallest)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.get_rng_state()
    names = rescale.names(network, plan, plan.smallest)
    inherit.fill(built, state, plan, plan.smallest, names, by=ChannelChoice.l1)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(tensor, state[n]) for n, tensor in network.state_dict().items())
    mine = {tensor.data_ptr() for tensor in built.state_dict().values()}
    assert not mine & {tensor.data_ptr() for tensor in state.values()}


def chosen(plan: Plan, state: dict[str, Tensor], target: Architecture, by: str = "l1") -> Mask:
    names = {name for name, leaf in plan.leaves.items() if leaf.is_parameter}
    return inherit.choose(state, plan, target, names=names, by=ChannelChoice(by))


@pytest.mark.parametrize("by", list(ChannelChoice))
@pytest.mark.parametrize("name", ["projection", "grouped", "depthwise", "shuffled"])
def test_each_group_keeps_as_many_channels_as_it_shall(name: str, by: ChannelChoice) -> None:
    network, plan = planned(name)
    for architecture in probes.arbitrary(plan, 3):
        kept = chosen(plan, network.state_dict(), architecture, by)
        known = plan.channel_groups >= 0
        found = np.bincount(plan.channel_groups[known & kept], minlength=len(plan.groups))
        assert found.tolist() == plan.sizes(architecture).tolist()
        assert kept[~known].all()
    assert chosen(plan, network.state_dict(), plan.baseline, by).all()


def test_the_largest_filters_are_kept() -> None:
    network, plan = planned("projection")
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["stage1.0.conv1.weight"][[3, 5, 11, 14]] *= 10
    kept = chosen(plan, state, plan.smallest)
    rows = plan.leaves["stage1.0.conv1.weight"].channels[0]
    assert rows is not None
    assert np.flatnonzero(kept[rows]).tolist() == [3, 5, 11, 14]
    # What no weight puts out is judged by those that read it.
    name = "stage1.0.conv2.weight"
    columns = plan.leaves[name].channels[1]
    assert columns is not None
    state[name][:, [0, 7, 8, 9]] *= 10
    kept = inherit.choose(state, plan, plan.smallest, names={name}, by=ChannelChoice.l1)
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
    picked = inherit._best(worth, 8, numbers, np.zeros(16, dtype=np.int64), parts)
    for kept, worths in zip(np.split(picked, parts), np.split(worth, parts), strict=True):
        assert kept.sum() == 8 // parts
        assert worths[kept].min() >= worths[~kept].max()


def test_where_the_parts_shares_are_not_whole_the_best_are_kept() -> None:
    numbers = np.arange(6)
    picked = inherit._best(numbers.astype(float), 3, numbers, np.zeros(6, dtype=np.int64), 4)
    assert picked.tolist() == [False] * 3 + [True] * 3


class Restored(nn.Module):
    """A map is made smaller, then restored by transposed convolutions, one of them grouped."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 16, 3, 2, 1)
        self.up = nn.ConvTranspose2d(16, 32, 2, 2)
        self.grouped = nn.ConvTranspose2d(32, 64, 3, padding=1, groups=2)
        self.head = nn.Conv2d(64, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(self.up(self.down(x).relu()).relu()).relu())


def positions(plan: Plan, state: dict[str, Tensor], name: str, dim: int) -> list[int]:
    """Say which channels the smallest network keeps of those along a dimension of a weight."""
    channels = plan.leaves[name].channels[dim]
    assert channels is not None
    return [int(at) for at in np.flatnonzero(chosen(plan, state, plan.smallest)[channels])]


def test_filters_of_transposed_convolutions_are_those_that_they_put_out() -> None:
    network = Restored()
    plan = planning.trace(network, probes.SHAPE, multiple=4, kind="channels")
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["down.weight"][[1, 2, 5, 9]] *= 10
    state["up.weight"][[0, 3, 4, 6]] *= 1000  # what it reads
    state["up.weight"][:, [3, 7, 20, 30]] *= 10
    state["grouped.weight"][:16, [4, 9]] *= 10
    state["grouped.weight"][16:, [2, 31]] *= 10
    assert positions(plan, state, "down.weight", 0) == [1, 2, 5, 9]
    assert positions(plan, state, "up.weight", 1) == [3, 7, 20, 30]
    assert positions(plan, state, "grouped.weight", 1) == [4, 9, 32 + 2, 32 + 31]


def test_depthwise_transposed_convolutions_have_a_say_as_others_have() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.ConvTranspose2d(16, 16, 2, 2, groups=16), nn.Conv2d(16, 5, 1)
    )
    plan = planning.trace(network, probes.SHAPE, multiple=4)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["1.weight"][[0, 3, 9, 15]] *= 100
    assert positions(plan, state, "1.weight", 0) == [0, 3, 9, 15]


class Lookup(nn.Module):
    """Adds to an image what a table says of its kind."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.stem = nn.Embedding(10, 16), nn.Conv2d(3, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        return self.head((self.stem(x) + self.table(kind)[:, :, None, None]).relu())


def test_columns_of_a_table_are_filters_too() -> None:
    network = Lookup()
    kinds = torch.randint(10, (2,))
    plan = planning.trace(network, (torch.randn(2, *probes.SHAPE), kinds), multiple=4)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["table.weight"][:, [2, 3, 11, 13]] *= 100
    assert positions(plan, state, "stem.weight", 0) == [2, 3, 11, 13]


WEIGHT_NORMS = {"old": nn.utils.weight_norm, "new": nn.utils.parametrizations.weight_norm}


def weight_normed(kind: str, **options: int) -> nn.Module:
    """Two convolutions with weight norm, the second one transposed, between others."""
    norm = WEIGHT_NORMS[kind]
    inside = [norm(nn.Conv2d(16, 16, 3)), norm(nn.ConvTranspose2d(16, 16, 3), **options)]
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.SiLU(), *inside, nn.SiLU(), nn.Conv2d(16, 5, 1))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("kind", list(WEIGHT_NORMS))
def test_weights_with_weight_norm_are_slices_too(kind: str, dim: int) -> None:
    network = trained(weight_normed(kind, dim=dim))
    plan = planning.trace(network, probes.SHAPE, multiple=4, kind="channels")
    x = images(plan)
    network(x)  # which computes the old kind's weights
    built = filled(network, plan, plan.smallest)
    built(x)
    kept = chosen(plan, network.state_dict(), plan.smallest)
    suffix = {"old": "weight_v", "new": "parametrizations.weight.original1"}[kind]
    for layer in (2, 3):
        whole, part = network[layer].weight, built[layer].weight
        for dim_, channels in enumerate(plan.leaves[f"{layer}.{suffix}"].channels[:2]):
            assert channels is not None
            whole = whole.index_select(dim_, torch.from_numpy(np.flatnonzero(kept[channels])))
        torch.testing.assert_close(part, whole)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("kind", list(WEIGHT_NORMS))
def test_filters_of_weight_norm_are_as_large_as_their_lengths(kind: str) -> None:
    network = weight_normed(kind)
    plan = planning.trace(network, probes.SHAPE, multiple=4, kind="channels")
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    names = {
        "old": ("2.weight_g", "2.weight_v"),
        "new": ("2.parametrizations.weight.original0", "2.parametrizations.weight.original1"),
    }
    length, direction = names[kind]
    state[direction] *= torch.rand(16, 1, 1, 1) + 0.1
    state[length][[0, 6, 7, 14]] *= 10
    assert positions(plan, state, direction, 0) == [0, 6, 7, 14]


class Narrow(nn.Module):
    """Grouped convolutions and a group norm whose groups keep their width."""

    def __init__(self, normed: bool) -> None:
        super().__init__()
        self.stem, self.head = probes.conv(3, 32), nn.Conv2d(32, 5, 1)
        grouped = nn.Conv2d(32, 32, 3, padding=1, groups=8)
        norm = nn.GroupNorm(8, 32, affine=False)
        self.inside = nn.utils.parametrizations.weight_norm(grouped) if normed else norm

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.silu(self.inside(self.stem(x))))


@pytest.mark.parametrize("normed", [True, False])
def test_products_stay_whole_where_no_weight_of_the_module_shows_them(normed: bool) -> None:
    network = Narrow(normed)
    plan = planning.trace(network, probes.SHAPE, multiple=4)
    for architecture in probes.arbitrary(plan, 5):
        kept = chosen(plan, network.state_dict(), architecture)
        rows = plan.leaves["stem.0.weight"].channels[0]
        assert rows is not None
        assert set(kept[rows].reshape(8, 4).sum(1).tolist()) <= {0, 4}


def test_where_the_parts_shares_are_not_whole_units_are_whole_still() -> None:
    """Three units of two channels in two parts that are not alike: one unit is to be kept."""
    units = np.repeat(np.arange(4), 2)
    worth = np.array([9.0, 0, 5, 5, 8, 0, 1, 1])
    strata = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    picked = inherit._best(worth, 2, units, strata, 2)
    assert np.flatnonzero(picked).tolist() == [2, 3]
    picked = inherit._best(worth, 3, units, strata, 1)  # no number of units
    assert picked.sum() == 3 and picked[[2, 3]].all()
