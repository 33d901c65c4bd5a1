"""However a network is split: segments are disjoint, cost adds up, what is planned is built."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache

import pytest
import torch
import torchvision
from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, lattice, planning, rescale
from ssr_exp.rescaling.cost import Cost
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.resnet import CifarResNet
from tests.rescaling import probes

SHAPE = (3, 32, 32)
SLOW = pytest.mark.slow
KINDS = ["stage", "superblock", "block", "channels", "whole"]
models = torchvision.models
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cifar": lambda: CifarResNet(20),
    "vgg": lambda: probes.vgg(16, 16, "M", 32, 32, "M", 48, 48),
    "resnet50": models.resnet50,
    "mobilenet": models.mobilenet_v3_small,
    "densenet": lambda: models.DenseNet(8, (2, 3, 2), 16),
}
PROBES = ["Inverted", "Grouped", "Dense", "Squeeze", "Tapped", "hierarchy", "one_weight", "growing"]
QUICK = {(name, kind) for name in ("cifar", "vgg") for kind in KINDS} | {
    *((name, "superblock") for name in ("Inverted", "Grouped", "Tapped", "one_weight", "growing")),
}  # fmt: skip
LARGE = {
    (name, kind) for name in ("resnet50", "densenet") for kind in KINDS if kind != "superblock"
}


def marks(split: tuple[str, str]) -> list[pytest.MarkDecorator]:
    slow = [] if split in QUICK else [SLOW]
    return [*slow, pytest.mark.more] if split in LARGE else slow


SPLITS = [
    pytest.param(*split, marks=marks(split))
    for split in itertools.product([*NETWORKS, *PROBES], KINDS)
]


@cache
def planned(name: str, kind: str, *patterns: str) -> tuple[nn.Module, Plan]:
    """Split a network without data; do not change it."""
    shape = SHAPE if name in NETWORKS else probes.SHAPE
    if name not in NETWORKS:
        network = probes.planned(name)[0]
    else:
        with torch.device("meta"):
            network = NETWORKS[name]()
    return network, planning.trace(network, shape, multiple=4, kind=kind, patterns=patterns)


def paths(plan: Plan) -> list[list[str]]:
    return [[path for block in s.blocks for path in block] for s in plan.segments]


@pytest.mark.parametrize(("name", "kind"), SPLITS)
def test_no_module_is_in_two_segments_rows_add_up_and_plans_are_built(name: str, kind: str) -> None:
    network, plan = planned(name, kind)
    probes.assert_disjoint(plan)
    total = cost.count_one(plan, plan.baseline)
    assert Cost(*map(sum, zip(*cost.by_segment(plan), strict=True))) == total
    assert total.params == sum(parameter.numel() for parameter in network.parameters())
    assert cost.count_one(plan, plan.smallest).params < total.params
    for architecture in probes.arbitrary(plan, 1)[1:]:
        probes.assert_exact(plan, architecture, rescale.skeleton(network, plan, architecture))
        assert codes.parse(plan, codes.write(plan, architecture)) == architecture
    if kind in ("superblock", "block", "channels"):  # widths, and no depth
        assert all(len(segment.blocks) == segment.fewest == 1 for segment in plan.segments)
        assert any(len(widths) > 1 for widths in plan.widths)


@pytest.mark.parametrize(
    ("name", "alike"),
    [
        ("cifar", "stage3.0.conv2 stage3.1.conv1 stage3.1.conv2 stage3.2.conv1 stage3.2.conv2"),
        pytest.param("resnet50", "layer1.0.conv2 layer1.1.conv2 layer1.2.conv2", marks=SLOW),
    ],
)
def test_superblocks_are_all_convolutions_of_the_same_dimensions(name: str, alike: str) -> None:
    network, plan = planned(name, "superblock")
    dimensions: dict[tuple[object, ...], set[str]] = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            own = module.kernel_size, module.in_channels, module.out_channels
            dimensions.setdefault(own, set()).add(path)
    assert {frozenset(own) for own in paths(plan)} == set(map(frozenset, dimensions.values()))
    (number,) = [n for n, segment in enumerate(plan.segments) if segment.name == "3x3:64-64"]
    assert paths(plan)[number] == alike.split()


@SLOW
def test_grouped_convolutions_and_linear_maps_are_superblocks_of_their_own() -> None:
    names = [segment.name for segment in planned("mobilenet", "superblock")[1].segments]
    assert {"3x3:16-16g16", "5x5:240-240g240", "1x1:96-40", "linear:576-1024"} <= set(names)
    assert "linear:1024-1000" not in names  # the network's output


def test_a_residual_stream_is_scaled_by_the_superblock_that_most_of_its_producers_are_in() -> None:
    _, plan = planned("cifar", "superblock")
    widths = {s.name: w for s, w in zip(plan.segments, plan.widths, strict=True)}
    assert widths["3x3:3-16"].channels.tolist() == [16]  # the stem makes the stream, too
    assert widths["3x3:16-16"].channels.tolist() == [4, 8, 12, 16]
    assert widths["3x3:64-64"].channels[-1] == 64 and len(widths["3x3:64-64"]) == 16


@pytest.mark.parametrize("name", ["cifar", "vgg"])
def test_blocks_are_those_of_the_stages(name: str) -> None:
    stages, blocks = planned(name, "stage")[1], planned(name, "block")[1]
    listed = [block for segment in stages.segments for block in segment.blocks]
    assert [segment.blocks for segment in blocks.segments] == [(block,) for block in listed]


@SLOW
def test_the_whole_network_loses_the_last_blocks_of_its_stages_in_turn() -> None:
    network, plan = planned("resnet50", "whole")
    (segment,) = plan.segments
    assert (segment.name, len(segment.blocks), segment.least) == ("network", 16, 4)
    counts = []
    for blocks in range(16, 3, -1):
        built = rescale.skeleton(network, plan, codes.parse(plan, f"d{blocks}_w2048"))
        counts.append([len(built.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)])
    assert counts[:6] == [
        [3, 4, 6, 3], [3, 4, 5, 3], [3, 4, 4, 3], [3, 4, 3, 3], [3, 3, 3, 3], [3, 3, 3, 2],
    ]  # fmt: skip
    assert counts[-2:] == [[2, 1, 1, 1], [1, 1, 1, 1]]


def test_modules_of_a_name_are_a_segment_with_depth_where_they_are_a_chain() -> None:
    network, plan = planned("cifar", "manual", "stage3", "stage1.*", "stage2.*.conv1")
    assert [(s.name, len(s.blocks), s.fewest) for s in plan.segments] == [
        ("stage1.*", 3, 1),
        ("stage2.*.conv1", 1, 1),
        ("stage3", 1, 1),
    ]
    built = rescale.skeleton(network, plan, plan.smallest)
    assert [len(stage) for stage in (built.stage1, built.stage2, built.stage3)] == [1, 3, 3]
    assert [block.conv1.out_channels for block in built.stage2] == [4, 4, 4]
    assert built.stage2[0].conv2.out_channels == 4  # the next segment's, as nobody names it


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ((), r"needs segment.patterns=\[...\]"),
        (("stage9.*",), "no module is named 'stage9.*'; there are conv, bn, relu, stage1,"),
        (("conv?",), "no module is named 'conv?'"),
        (("stage1.*", "stage1.*"), "'stage1.*' and 'stage1.*' share stage1.0;"),
        (("stage1", "stage?.0"), "'stage1' and 'stage?.0' share stage1.0;"),
        (("stage?.0", "stage1"), "'stage?.0' and 'stage1' share stage1;"),
        (("stage1.*.relu",), "stage1.0.relu does not run by itself, or holds no convolution"),
    ],
)
def test_patterns_of_nothing_or_the_same_are_refused(patterns: tuple[str, ...], said: str) -> None:
    with pytest.raises(SsrError) as caught:
        planning.trace(CifarResNet(8), (3, 8, 8), kind="manual", patterns=patterns)
    assert said.replace("\\", "") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_way_to_split_and_patterns_elsewhere_are_refused() -> None:
    with pytest.raises(SsrError, match="leave them out with segment=stage"):
        planning.trace(CifarResNet(8), (3, 8, 8), patterns=["stage1"])
    with pytest.raises(
        SsrError, match="stage, superblock, block, channels, whole, manual"
    ) as caught:
        planning.trace(CifarResNet(8), (3, 8, 8), kind="stages")
    assert str(caught.value).startswith("segment.kind=stages is unknown;")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("superblock", "3x3:64-64"), ("block", "stage2.1"), ("whole", "network")),
        ("channels", "stage2.1.conv1"),
    ],
)
def test_a_segment_of_any_kind_can_be_frozen(kind: str, name: str) -> None:
    plan = planning.trace(CifarResNet(14), (3, 8, 8), kind=kind, frozen=[name])
    (number,) = [n for n, segment in enumerate(plan.segments) if segment.name == name]
    assert plan.segments[number].frozen and len(plan.widths[number]) == 1


def test_inner_widths_of_blocks_are_apart_from_the_residual_stream() -> None:
    plan = planning.trace(CifarResNet(14), (3, 8, 8), kind="channels")
    first = [segment.name for segment in plan.segments][:3]
    assert first == ["conv", "stage1.0.conv1", "stage1.1.conv1"]
    assert plan.segments[0].blocks == (("conv", "stage1.0.conv2", "stage1.1.conv2"),)
    assert [len(widths.groups) for widths in plan.widths] == [1] * 9
    assert codes.write(plan, plan.baseline) == "w16-16-16-32-32-32-64-64-64"
    (lowest,) = cost.decode(plan, lattice.from_plan(plan, width_steps=2).points([0]))
    assert codes.write(plan, lowest) == "w8-8-8-16-16-16-32-32-32"


def test_a_network_whose_groups_all_are_fixed_has_no_channels_to_choose() -> None:
    with pytest.raises(SsrError, match="nothing of CifarResNet can be rescaled: ") as caught:
        planning.trace(CifarResNet(8), (3, 8, 8), kind="channels", multiple=64)
    assert "no wider than one multiple of 64" in str(caught.value)
    with pytest.raises(SsrError, match="no segment 'stage1' to freeze; this network has conv, "):
        planning.trace(CifarResNet(8), (3, 8, 8), kind="channels", frozen=["stage1"])


@SLOW
def test_a_lattice_beyond_64_bits_is_counted_and_drawn_from() -> None:
    plan = probes.seed_of("resnet56", kind="block")[1]
    points = lattice.from_plan(plan)
    assert points.size == 4**9 * 8**9 * 8**9 > 2**63
    drawn = points.sample(20, seed=0)
    assert drawn == points.sample(20, seed=0) != points.sample(20, seed=1)
    assert len(set(drawn)) == 20
    first, last = cost.decode(plan, points.points([0, points.size - 1]))
    assert last == plan.baseline and set(first.widths) == {0, 1}
    assert cost.count(plan, cost.encode(plan, drawn)).params.min() > 0
