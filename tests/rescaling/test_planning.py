"""Segments partition the removable blocks of any network; what the plan says holds in a build."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, planning, rescale
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.resnet import CifarResNet
from tests.rescaling import probes


def plan_of(name: str, multiple: int = 4) -> tuple[nn.Module, Plan]:
    return probes.planned(name, multiple)


LATE = (
    "Scalar AcrossChannels SpatialAttention SelfAttention Linalg Repeated SqueezeLinear TwoBranch "
    "Maxout GroupNormed Prelu"
).split()
"""Left to `make check`: each is a variant of another, or an operation more."""
MORE = [pytest.mark.slow, pytest.mark.more]
AT_ONE = "Shuffle Inverted Grouped GroupNormed Res2".split()


def marked(names: list[str]) -> list[Any]:
    return [pytest.param(n, marks=MORE if n in LATE else []) for n in names]


@pytest.mark.parametrize(
    ("name", "multiple"),
    [
        *((name, 4) for name in probes.names() if name not in LATE),
        *(pytest.param(name, 4, marks=MORE) for name in LATE),
        *(pytest.param(name, 1, marks=pytest.mark.slow) for name in AT_ONE),
    ],
)
def test_what_the_plan_says_holds_in_a_real_build(name: str, multiple: int) -> None:
    network, plan = plan_of(name, multiple)
    probes.assert_disjoint(plan)
    assert_in_order(network, plan)
    for architecture in probes.arbitrary(plan, 1):
        built = rescale.build(network, plan, architecture)
        if architecture == plan.baseline:
            assert repr(built) == repr(network)
            assert probes.shapes(built) == probes.shapes(network)
        built(torch.randn(2, *probes.SHAPE)).sum().backward()
        assert [n for n, p in built.named_parameters() if p.grad is None] == []
        probes.assert_exact(plan, architecture, built)


def assert_in_order(network: nn.Module, plan: Plan) -> None:
    assert len(plan.owners) == len(plan.groups)
    starts, ran = [segment.blocks[0][0] for segment in plan.segments], []
    hooks = [
        network.get_submodule(path).register_forward_hook(lambda *_, path=path: ran.append(path))
        for path in starts
    ]
    network(torch.randn(2, *probes.SHAPE))
    for hook in hooks:
        hook.remove()
    assert list(dict.fromkeys(ran)) == starts


def streams(name: str) -> list[list[int]]:
    _, plan = plan_of(name)
    return [widths.channels.tolist() for widths in plan.widths]


@pytest.mark.parametrize(
    "name",
    marked(
        "Plain Residual LayerScale Scalar Grouped Gated SpatialAttention Transposed SelfAttention "
        "AcrossChannels Sliced".split()
    ),
)
def test_streams_of_understood_blocks_scale_freely(name: str) -> None:
    assert streams(name) == [[4, 8, 12, 16], [4, 8, 12, 16, 20, 24, 28, 32]]


@pytest.mark.parametrize("name", marked("TwoBranch Dense Squeeze SqueezeLinear Inverted".split()))
def test_inner_widths_round_on_their_own(name: str) -> None:
    _, plan = plan_of(name)
    assert all(len(widths) > len(set(widths.channels.tolist())) for widths in plan.widths[:1])
    assert dict(plan.frozen) == {"the network's output": 5}


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("Fourier", "stage1.0 uses _fft_r2c"),
        pytest.param("Linalg", "stage2.1 uses linalg_matrix_exp", marks=pytest.mark.slow),
    ],
)
def test_channels_of_an_unknown_operation_are_frozen_and_named(name: str, operation: str) -> None:
    network, plan = plan_of(name)
    assert any(operation in reason and "not understood" in reason for reason in plan.frozen)
    built = rescale.build(network, plan, plan.smallest)
    full = dict(network.named_parameters())
    inner = [n for n, _ in built.named_parameters() if "conv1" in n and n.endswith("bias")]
    assert all(built.get_parameter(n).shape == full[n].shape for n in inner)


def test_channels_added_to_a_fixed_number_of_others_are_frozen() -> None:
    for name in ("WithConstant", "WithPadding"):
        _, plan = plan_of(name)
        assert "stage2.0 meets a tensor of fixed size in add" in plan.frozen
        assert streams(name)[0] == [4, 8, 12, 16]


def test_a_number_of_channels_in_an_attribute_follows_them() -> None:
    network, plan = plan_of("Sliced")
    built = rescale.build(network, plan, plan.smallest)
    assert (built.stage1[0].first, built.stage1[0].skip.out_channels) == (4, 8)


def test_blocks_in_a_list_a_named_sequence_or_attributes_are_removed() -> None:
    found = {name: plan_of(name) for name in ("Listed", "named_blocks", "Attributes")}
    kept = {}
    for name, (network, plan) in found.items():
        built = rescale.build(network, plan, plan.smallest)
        kept[name] = [n for n, m in built.named_modules() if isinstance(m, probes.Residual)]
    assert kept == {"Listed": ["blocks.0"], "named_blocks": ["body.b0"], "Attributes": ["block1"]}
    network, plan = found["Attributes"]
    built = rescale.build(network, plan, plan.smallest)
    assert isinstance(built.block2, nn.Identity) and isinstance(built.block3, nn.Identity)


def test_a_plain_network_loses_whole_layers() -> None:
    network, plan = plan_of("plain_sequence")
    kept = [type(module).__name__ for module in rescale.build(network, plan, plan.smallest)]
    assert [kept.count(n) for n in ("Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d")] == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("Tapped", {"a-b": 2, "c-d": 2}),  # none is removed across a tap
        ("Shared", {"stage1": 3, "again": 1}),  # a block that runs twice
        ("one_activation", {"body": 3}),  # which all of them share
        ("hierarchy", {"body.0.blocks": 3, "body.1.blocks": 3}),  # stages of one class
    ],
)
def test_blocks_are_found_wherever_they_stand(name: str, blocks: dict[str, int]) -> None:
    _, plan = plan_of(name)
    assert {segment.name: len(segment.blocks) for segment in plan.segments} == blocks


def test_blocks_that_share_weights_are_not_removed() -> None:
    network, plan = plan_of("one_weight")
    assert [len(segment.blocks) for segment in plan.segments] == [2, 1, 2, 1]
    built = rescale.build(network, plan, plan.smallest)
    weights = [m.conv1.weight for m in built.modules() if isinstance(m, probes.Residual)]
    assert len(weights) == 4 and weights[1] is weights[3]


def test_blocks_that_share_a_convolution_are_one_that_stays() -> None:
    network, plan = plan_of("one_convolution")
    assert plan.segments[0].blocks == (("body.0", "body.1", "body.2"),)
    built = rescale.build(network, plan, plan.smallest)
    assert len(built.body) == 3 and built.body[0].conv1 is built.body[2].conv1
    assert built.body[0].conv1.out_channels == 4


def test_blocks_that_grow_are_one_that_stays_and_has_a_width() -> None:
    network, plan = plan_of("growing")
    assert [segment.blocks for segment in plan.segments] == [
        (tuple(f"body.{i}" for i in range(4)),)
    ]
    built = rescale.build(network, plan, plan.smallest)
    assert [layer.conv.out_channels for layer in built.body] == [4] * 4
    assert built.fc.in_features == 4 * 5


def test_frozen_segments_have_one_width_and_depth() -> None:
    network = CifarResNet(20)
    plan = planning.trace(network, (3, 8, 8), multiple=4, frozen=["stage2"])
    assert [len(widths) for widths in plan.widths] == [4, 1, 16]
    assert [segment.fewest for segment in plan.segments] == [1, 3, 1]
    built = rescale.build(network, plan, plan.smallest)
    assert built.stage2[2].conv2.weight.shape == (32, 32, 3, 3)
    built(torch.randn(2, 3, 8, 8)).sum().backward()


def test_an_unknown_segment_cannot_be_frozen() -> None:
    with pytest.raises(SsrError, match=r"no segment 'stage9' to freeze.*stage1, stage2, stage3"):
        planning.trace(CifarResNet(8), (3, 32, 32), frozen=["stage1", "stage9"])


@pytest.mark.parametrize("multiple", [0, -4])
def test_a_multiple_below_one_is_refused(multiple: int) -> None:
    with pytest.raises(SsrError, match=f"at least 1, not {multiple}"):
        planning.trace(CifarResNet(8), (3, 32, 32), multiple=multiple)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(192, 5)),
        nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
)
def test_a_network_of_one_layer_or_none_has_no_segment(network: nn.Module) -> None:
    for kind in ("stage", "superblock", "block", "whole"):
        with pytest.raises(SsrError, match="Sequential has no segment"):
            planning.trace(network, (3, 8, 8), kind=kind)


def test_where_nothing_repeats_all_layers_of_one_resolution_are_a_block_that_stays() -> None:
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 5, padding=2), nn.MaxPool2d(2))
    head = (nn.Conv2d(16, 24, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential(*layers, *head, nn.Linear(24, 5))
    plan = planning.trace(network, (3, 8, 8), multiple=4)
    assert [segment.blocks for segment in plan.segments] == [(("0", "1"),), (("3",),)]
    built = rescale.build(network, plan, plan.smallest)
    assert [built[i].out_channels for i in (0, 1, 3)] == [4, 4, 4]


class LastlyAttends(nn.Module):
    """Its last layer at this resolution makes one map of fixed size."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.attention, self.head = nn.Conv2d(1, 1, 7, padding=3), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(x).relu()).relu()
        return self.head((x * self.attention(x.mean(1, keepdim=True)).sigmoid()).mean((2, 3)))


def test_a_segment_is_as_wide_as_its_last_layer_that_has_a_width() -> None:
    plan = planning.trace(LastlyAttends(), (3, 8, 8))
    assert plan.segments[0].blocks == (("one", "two", "attention"),)
    assert plan.widths[0].channels.tolist()[-1] == 64
    assert codes.write(plan, plan.smallest) == "d1_w8"


class Touchy(CifarResNet):
    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        return super().forward(x)


def test_finding_segments_changes_nothing() -> None:
    network = Touchy(8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    text = repr(network)
    planning.trace(network, (3, 8, 8))
    assert network.training and repr(network) == text
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_the_same_network_gives_the_same_plan() -> None:
    one, other = (planning.trace(CifarResNet(8), (3, 8, 8)) for _ in range(2))
    same = ("segments", "groups", "owners", "leaves", "gemms", "attributes", "frozen")
    assert all(getattr(one, name) == getattr(other, name) for name in same)


class Masked(nn.Module):
    """A mask that is another one for each channel, beside one that is the same for all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)
        self.head = nn.Conv2d(64, 10, 1)
        self.register_buffer("mask", (torch.arange(64) % 64 < 32).float()[:, None, None])
        self.register_buffer("ones", torch.ones(64, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x) * self.ones
        return self.head(x + self.conv(x * self.mask)).mean((2, 3))


def test_a_fixed_tensor_that_is_other_for_each_channel_is_told_of() -> None:
    said = [one for one in planning.trace(Masked(), (3, 8, 8)).remarks if "of a mask" in one]
    assert len(said) == 1 and ": mask: " in said[0]


class Causal(nn.Conv2d):
    """A convolution with a mask of channels, as in PixelCNN."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, 3, padding=1)
        self.register_buffer(
            "mask", (torch.arange(width) < width // 2).float()[:, None, None, None]
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight * self.mask, self.bias, padding=1)


def test_masks_inside_of_layers_are_told_of_and_statistics_are_not() -> None:
    """A layer draws its weights anew, and its statistics, but no mask."""
    pruned = nn.Conv2d(64, 64, 3, padding=1)
    prune.ln_structured(pruned, "weight", 0.5, n=2, dim=0)
    normed = nn.utils.spectral_norm(nn.Conv2d(64, 64, 3, padding=1))
    more = nn.utils.parametrizations.spectral_norm(nn.Conv2d(64, 64, 3, padding=1))
    frozen, norm = nn.Conv2d(64, 64, 1).requires_grad_(False), nn.BatchNorm2d(64)
    layers = Causal(3, 64), pruned, normed, more, frozen, norm, nn.Conv2d(64, 10, 1)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    norm(torch.randn(2, 64, 8, 8))
    (said,) = [one for one in planning.trace(network, (3, 8, 8)).remarks if "of a mask" in one]
    assert ": 0.mask, 1.weight_mask: " in said


class Involution(nn.Module):
    """Stores as many groups as it puts out fixed maps, and as many channels as it puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.groups = 32, 4
        self.inner, self.maps = nn.Conv2d(64, 32, 1), nn.Conv2d(32, 4 * 9, 1)
        self.unfold = nn.Unfold(3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.inner(x).view(n, self.width, h, w)
        kernels = self.maps(y).view(n, self.groups, 9, h, w).unsqueeze(2)
        patches = self.unfold(x).view(n, self.groups, c // self.groups, 9, h, w)
        return x + (kernels * patches).sum(3).view(n, c, h, w)


def test_a_number_of_fixed_channels_follows_no_width() -> None:
    layers = nn.Conv2d(3, 64, 3, padding=1), Involution(), nn.AdaptiveAvgPool2d(1)
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10))
    (said,) = planning.trace(network, (3, 8, 8), kind="channels").remarks
    assert said == "follow a width, since they equal it: 1.width"


class Timed(nn.Module):
    """Appends the time as a channel, as neural ODEs do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(65, 64, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        time = torch.ones_like(x[:, :1]) * 0.5
        return x + self.inner(torch.cat([time, x], 1)).relu()


def test_a_slice_of_which_only_the_shape_is_read_is_no_part_of_the_channels() -> None:
    layers = nn.Conv2d(3, 64, 3, padding=1), Timed(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(*layers, nn.Linear(64, 10))
    plan = planning.trace(network, (3, 8, 8))
    assert [group.size for group in plan.groups] == [64]
    built = rescale.build(network, plan, plan.smallest)
    assert built[1].inner.weight.shape == (8, 9, 3, 3)
    built(torch.randn(2, 3, 8, 8))


class Streams(nn.Module):
    """Joins what two layers put out, and reads it in groups, each of them in one stream."""

    def __init__(self, one: int, other: int, groups: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, one, 3, padding=1)
        self.other = nn.Conv2d(1, other, 3, padding=1)
        self.head = nn.Conv2d(one + other, groups, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        streams = self.one(x[:, :1]).relu(), self.other(x[:, 1:]).relu()
        return self.head(torch.cat(streams, 1)).mean((2, 3))


@pytest.mark.parametrize("sizes", [(32, 32, 2), (32, 32, 4), (16, 48, 4)])
def test_a_group_of_a_convolution_reads_of_one_stream_at_any_width(
    sizes: tuple[int, int, int],
) -> None:
    network, groups = Streams(*sizes), sizes[2]
    plan = planning.trace(network, (2, 8, 8), multiple=4, kind="channels")
    for architecture in probes.arbitrary(plan, 2):
        built = rescale.build(network, plan, architecture)
        assert built.one.out_channels * sizes[1] == built.other.out_channels * sizes[0]
        x = torch.randn(1, 2, 8, 8, requires_grad=True)
        for n, y in enumerate(built(x)[0]):
            (gradient,) = torch.autograd.grad(y, x, retain_graph=True)
            assert not gradient[0, int(n < groups * sizes[0] // sum(sizes[:2]))].any()


def test_groups_across_streams_tie_none() -> None:
    plan = planning.trace(Streams(16, 32, 2), (2, 8, 8), multiple=4, kind="channels")
    assert len(plan.groups) == 2


class OwnGroupNorm(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        y = x.view(len(x), self.groups, -1)
        return ((y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)).view(x.shape)


class Mixed(nn.Module):
    """Branches that are stacked and summed with one weight each: learnt, computed or fixed.

    Two of them may be of one residual stream.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.branches = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1) for _ in range(3))
        self.head = nn.Linear(32, 5)
        if kind == "learnt":
            self.mix = nn.Parameter(torch.ones(3))
        elif kind == "computed":
            self.gate = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        one, two, three = (branch(x) for branch in self.branches)
        if self.kind == "stream":
            two = self.branches[1](one)
            three = two + self.branches[2](two)
        stack = torch.stack([one, two, three], 1)
        if self.kind == "learnt":
            weights = self.mix.softmax(0)[None]
        elif self.kind == "computed":
            weights = self.gate(x.mean((2, 3))).softmax(1)
        else:
            weights = torch.tensor([[0.5, 0.3, 0.2]])
        return self.head((stack * weights[:, :, None, None, None]).sum(1).mean((2, 3)))


@pytest.mark.parametrize("kind", ["learnt", "computed", "fixed", "stream"])
def test_branches_with_a_weight_each_stay_as_many_and_scale_alike(kind: str) -> None:
    network = Mixed(kind)
    plan = planning.trace(network, (3, 8, 8), kind="channels")
    made = rescale.build(network, plan, plan.smallest)
    assert made.stem.out_channels < 32
    assert len({branch.out_channels for branch in made.branches} | {32}) == 2
    assert made(torch.randn(2, 3, 8, 8)).shape == (2, 5)
    if kind == "computed":
        assert any("weights a fixed number of branches" in reason for reason in plan.frozen)
        assert made.gate.out_features == 3


class Rows(nn.Module):
    """An image that is normalised row by row, as mel spectrograms are."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(8) + 1)
        self.register_buffer("mean", torch.rand(8))
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean[:, None]) * self.gain[:, None]
        return self.head(self.body(x).mean((2, 3)))


def test_a_vector_along_the_rows_of_an_image_leaves_channels_free() -> None:
    network = Rows()
    plan = planning.trace(network, (3, 8, 8), kind="channels")
    made = rescale.build(network, plan, plan.smallest)
    assert made.body[0].out_channels < 32 and made.body[2].out_channels < 32
    assert made(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_a_part_of_a_table_is_no_channels() -> None:
    class Fading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("window", torch.linspace(1, 0, 50))
            self.body, self.head = nn.Conv1d(3, 32, 3, padding=1), nn.Linear(32, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.body(x).relu()
            return self.head((x * self.window[: x.shape[-1]]).mean(2))

    network = Fading()
    plan = planning.trace(network, (3, 30), kind="channels")
    made = rescale.build(network, plan, plan.smallest)
    assert made.body.out_channels < 32 and made(torch.randn(2, 3, 30)).shape == (2, 5)


def test_a_block_that_may_take_more_than_it_needs_can_go() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1)

        def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
            return x + self.conv(x).relu() * (1.0 if scale is None else scale)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 5)
            self.one, self.two, self.three = Block(), Block(), Block()

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for block in (self.one, self.two, self.three):
                x = block(x, 0.5)
            return self.head(x.mean((2, 3)))

    network = Net()
    plan = planning.trace(network, (3, 8, 8), multiple=4)
    assert (plan.baseline.blocks, plan.smallest.blocks) == ((3,), (1,))
    made = rescale.build(network, plan, plan.smallest)
    assert made(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_a_group_that_is_merged_with_space_holds_whole_channels() -> None:
    layers = nn.Conv2d(3, 64, 3, padding=1), OwnGroupNorm(32), nn.Conv2d(64, 10, 1)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    plan = planning.trace(network, (3, 8, 8), kind="channels")
    built = rescale.build(network, plan, plan.smallest)
    assert built[0].out_channels == built[1].groups == 32


class Equalised(nn.Module):
    """A convolution whose weights are scaled by their fan-in, as in ProGAN."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, channels, 3, 3))
        self.scale, self.slope = math.sqrt(2 / (channels * 9)), 0.25

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.leaky_relu(
            nn.functional.conv2d(x, self.weight * self.scale, padding=1), self.slope
        )


def test_a_number_that_is_the_root_of_a_width_is_told_of() -> None:
    layers = Equalised(3, 64), Equalised(64, 64), nn.Conv2d(64, 10, 1)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    (said,) = [one for one in planning.trace(network, (3, 8, 8)).remarks if "root of a" in one]
    assert "1.scale" in said and "slope" not in said


class Counted(nn.Module):
    """Divides by numbers that it took of its widths."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, channels, 3, 3))
        self.fan_in, self.maps, self.unread, self.size = channels * 9, width, width, 7

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.conv2d(x, self.weight * (2 / self.fan_in) ** 0.5, padding=1)
        return x * (x.sum(1, keepdim=True) / self.maps).sigmoid() / self.size


def test_an_integer_that_equals_a_width_and_stays_is_told_of() -> None:
    layers = Counted(3, 64), Counted(64, 64), nn.Conv2d(64, 10, 1)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    (said,) = [one for one in planning.trace(network, (3, 8, 8)).remarks if "equal a" in one]
    assert ": 0.maps, 1.fan_in, 1.maps: where one counts" in said


class Skipping(nn.Module):
    """Its shortcut runs where widths differ."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, width, 3, padding=1)
        self.two = nn.Conv2d(width, width, 3, padding=1)
        self.short = nn.Conv2d(channels, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.two(self.one(x).relu())
        return y + (x if x.shape[1] == y.shape[1] else self.short(x))


def test_a_layer_that_some_widths_skip_is_named_and_the_rest_stays_free() -> None:
    layers = nn.Conv2d(3, 16, 3, padding=1), Skipping(16, 64), Skipping(64, 64)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    plan = planning.trace(network, (3, 8, 8), kind="channels")
    assert plan.baseline != plan.smallest
    assert any("1.short" in why for why in plan.frozen), plan.frozen
