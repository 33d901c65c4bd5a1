"""Networks of kinds that people have are rebuilt rightly, or refused by a true sentence."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from threading import Lock
from typing import Any

import pytest
import torch
import verdict
from torch import nn
from torch.nn.utils import parametrizations

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, planning, rescale
from ssr_exp.rescaling.plan import Plan
from tests.rescaling import cases, probes
from tests.rescaling.cases import SHAPE

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated"),
    pytest.mark.filterwarnings("ignore:.*nn.utils.spectral_norm. is deprecated"),
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated"),
    pytest.mark.filterwarnings("ignore:.*reduce_range:UserWarning"),
]

MOST = 0.93  # the share of parameters that can change
Make = Callable[[], nn.Module]


def with_center() -> nn.Module:
    """A layer that only another method uses."""
    return cases.With(cases.Base.head, center=nn.Linear(16, 8))


# Each with the share of its parameters that can change at least, and its input's shape.
SCALES: dict[str, tuple[Any, ...]] = {
    "fixed filter": (cases.FixedFilter,),
    "fixed table": (cases.FixedTable,),
    "learnt table": (lambda: cases.FixedTable(learnt=True),),
    "fixed kernel": (cases.FixedKernel,),
    "frozen stem": (lambda: cases.frozen("stem"),),
    "bilinear kernel": (cases.BilinearUpsampling,),
    "band edges": (cases.BandEdges, MOST, (1, 256)),
    "small head": (cases.small_head,),
    "old weight norm": (cases.normed(nn.utils.weight_norm),),
    "weight norm": (cases.normed(parametrizations.weight_norm),),
    "old spectral norm": (cases.normed(nn.utils.spectral_norm),),
    "spectral norm": (cases.normed(parametrizations.spectral_norm),),
    "pruned": (cases.normed(cases.pruned),),
    "low rank": (cases.low_rank, 0.86),
    "position net": (cases.position_net,),
    "data of a weight": (lambda: cases.With(cases.blurred), 0.5),
    "output with slots": (lambda: cases.Puts(cases.Slots),),
    "nested output": (lambda: cases.Puts(lambda f, y: {"out": cases.Pair(f, [y])}),),
    "head in training": (cases.HeadInTraining,),
    "deep supervision": (cases.DeepSupervision,),
    "loss inside": (with_center,),
    "taps by position": (cases.Taps,),
    "enumerate": (lambda: cases.Reads(cases.by_enumerate),),
    "loop": (lambda: cases.Reads(cases.in_a_loop),),
    "bound method": (cases.bound,),
    "ran before": (lambda: cases.ran(cases.KeepsActivation()),),
    "holds a generator": (cases.holding(torch.Generator),),
    "holds a locked list": (cases.holding(lambda: [{"locks": (Lock(), 1)}]),),
    "no device": (lambda: cases.OnFeatures(cases.without_device),),
    "summed images": (cases.SummedImages, MOST, (16, 16, 16)),
    "plain tensor": (cases.PlainTensor,),
    "cached grid": (cases.CachedGrid,),
    "cached grid, ran": (lambda: cases.ran(cases.CachedGrid()),),
    "asks a flag": (lambda: cases.With(cases.flagged, ready=nn.Buffer(torch.tensor(0))),),
    "0-d tensor": (lambda: cases.OnFeatures(lambda x: x / torch.empty(()).fill_(2.0)),),
    "0-d to a device": (
        lambda: cases.OnFeatures(lambda x: x * torch.ones(()).to(x.device).square()),
    ),
    "index select": (
        lambda: cases.With(
            lambda net, x: cases.Base.head(net, torch.index_select(x, 1, net.order)),
            order=nn.Buffer(torch.randperm(16)),
        ),
    ),
    "index buffer": (lambda: cases.Chosen(torch.randperm(16)),),
    "mask buffer": (lambda: cases.Chosen(torch.arange(16) % 3 > 0),),
    "scripted activation": (lambda: cases.OnFeatures(torch.jit.script(nn.Hardswish())),),
    "quantisation aware": (cases.quantised,),
    "double": (lambda: cases.Base().double(),),
    "operation without shapes": (lambda: cases.OnFeatures(cases.doubled), 0.9),
    "gates of chosen channels": (lambda: cases.OnFeatures(cases.gated_by_chosen), 0.9),
    "strided writes": (lambda: cases.OnFeatures(cases.interleaved), 0.0),
    "response norm": (lambda: cases.OnFeatures(nn.LocalResponseNorm(5)),),
    "siamese": (cases.Siamese, MOST, (6, 16, 16)),
    "cell over time": (cases.Recurrent, MOST, (4, 3, 8, 8)),
    "rnn": (cases.WithRnn, 0.85, (4, 3, 8, 8)),
    "blocks that read time": (cases.Diffusion,),
    "non-local": (cases.of_blocks(cases.NonLocal),),
    "deformable": (cases.of_blocks(cases.Deformable),),
    "generator": (cases.Generator, 0.7, (16,)),
    "generator that stores": (lambda: cases.Generator(literal=False), MOST, (16,)),
    "upsampling": (cases.Upsampling,),
    "1-D": (cases.in_1d, MOST, (2, 64)),
    "3-D": (cases.in_3d, MOST, (1, 8, 8, 8)),
    "integers by chance": (cases.chances, MOST, (2, 64)),
    "a mean teacher": (cases.Averaged, 0.0),
    "halves of space": (cases.Halved,),
    "written frames": (lambda: cases.Frames(cases.written), 0.99, (4, 3, 8, 8)),
    "padded frames": (lambda: cases.Frames(cases.padded), 0.99, (4, 3, 8, 8)),
    "padded shuffle": (lambda: cases.With(cases.bordered, more=nn.Conv2d(4, 16, 3)), 0.99),
    "learnt grid": (lambda: cases.With(cases.warped, flow=nn.Conv2d(16, 2, 3, padding=1)), 0.99),
    "turned channels": (
        lambda: cases.With(
            cases.turned, over=nn.Conv2d(2, 1, 7, padding=3), norm=nn.BatchNorm2d(1)
        ),
        0.98,
    ),
    "list of tensors": (cases.KeepsGrids,),
    "equal numbers": (cases.of_blocks(cases.Planes),),
    "unsafe parts": (lambda: cases.OnFeatures(cases.parted),),
    "one normed weight": (lambda: cases.one_output(parametrizations.weight_norm), 0.0),
    "one spectral weight": (lambda: cases.one_output(parametrizations.spectral_norm), 0.0),
}
MORE = [pytest.mark.slow, pytest.mark.more]
LATE = {  # left to `make check`: variants of others, or networks of more layers
    "learnt table", "fixed kernel", "old weight norm", "old spectral norm", "pruned", "3-D",
    "nested output", "enumerate", "holds a generator", "summed images", "cached grid, ran",
    "0-d to a device", "index buffer", "mask buffer", "quantisation aware", "double",
    "strided writes", "siamese", "rnn", "blocks that read time", "non-local", "upsampling",
    "generator that stores", "integers by chance", "a mean teacher", "one spectral weight",
}  # fmt: skip
REFUSED: dict[str, tuple[Make, str]] = {
    "patched forward": (cases.patched, "body runs layers that the network does not hold"),
    "layer in a hook": (cases.hooked(nn.Conv2d(16, 16, 1)), "that the network does not hold"),
    "no tensor": (lambda: cases.Puts(lambda f, y: "yes"), "puts out str, in which there is no"),
    "lazy": (
        lambda: cases.With(cases.Base.head, fc=nn.LazyLinear(5)),
        r"fc\.weight has no size yet \(a lazy layer\)",
    ),
    "scripted": (lambda: torch.jit.script(cases.Base()), "the network is a scripted module"),
    "scripted part": (
        lambda: nn.Sequential(cases.conv(3, 8), torch.jit.script(cases.conv(8, 8))),
        "1 is a scripted module",
    ),
    "compiled": (
        lambda: torch.compile(cases.Base()),
        "the network is compiled .* before torch.com",
    ),
    "compiled part": (
        lambda: nn.Sequential(cases.conv(3, 8), torch.compile(cases.conv(8, 8))),
        "1 is compiled",
    ),
}
REMARKS: dict[str, tuple[Make, str]] = {
    "fixed filter": (cases.FixedFilter, r"not learnt \(requires_grad=False\), and kept: edge"),
    "bilinear kernel": (cases.BilinearUpsampling, r"of chosen or ordered values, .* up\.weight"),
    "learnt table": (
        lambda: cases.FixedTable(learnt=True),
        r"chosen or ordered values, .*: table",
    ),
    "loss inside": (with_center, r"no run reaches center\.weight, center\.bias"),
    "needs targets": (cases.NeedsTargets, r"it does not run in train mode on images alone \(Type"),
    "deformable": (cases.of_blocks(cases.Deformable), "not counted in MACs: deformable conv"),
    "fft": (
        lambda: cases.OnFeatures(lambda x: torch.fft.rfft2(x).abs()),
        "not counted in MACs: _fft_r2c",
    ),
    "index": (lambda: cases.Reads(cases.by_index), "blocks in body stay: its modules"),
    "fx graph": (lambda: torch.fx.symbolic_trace(cases.Base()), "it is an fx graph"),
    "scale by fan-in": (cases.of_blocks(cases.Scaled), r"as large as the root .*\.scale"),
    "one module twice": (cases.repeated, "it holds one module at several places"),
}


def planned(network: nn.Module, shape: tuple[int, ...] = SHAPE) -> Plan:
    return planning.trace(network, shape, multiple=4)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=MORE if name in LATE else [])
        for name, case in SCALES.items()
    ],
)
def test_a_network_is_rescaled_in_all_that_can_change(case: tuple[Any, ...]) -> None:
    make, share, shape = (*case, *(MOST, SHAPE)[len(case) - 1 :])
    torch.manual_seed(0)
    network = make()
    plan = planned(network, shape)
    assert verdict.can_change(plan) >= share
    assert any(len(widths) > 1 for widths in plan.widths)
    expected = verdict.Expected(network, shape)
    for architecture in probes.arbitrary(plan, 1):
        assert list(expected.problems(plan, architecture)) == []


@pytest.mark.parametrize(("make", "why"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_followed_is_refused_by_a_true_sentence(make: Make, why: str) -> None:
    with pytest.raises(SsrError, match=why) as caught:
        planned(make())
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(("make", "remark"), REMARKS.values(), ids=list(REMARKS))
def test_what_a_user_should_know_is_remarked(make: Make, remark: str) -> None:
    plan = planned(make())
    assert [said for said in plan.remarks if re.search(remark, said)]


@pytest.mark.parametrize("read", ["by_enumerate", "by_index", "counted"])
def test_no_block_is_taken_out_of_a_sequence_that_is_read_by_position(read: str) -> None:
    plan = planned(cases.Reads(getattr(cases, read)))
    assert all(segment.fewest == len(segment.blocks) for segment in plan.segments)


def test_blocks_whose_outputs_are_the_networks_stay() -> None:
    plan = planned(cases.Cascade())
    assert all(segment.fewest == len(segment.blocks) for segment in plan.segments)


def test_an_output_between_two_stages_of_one_list_keeps_no_block() -> None:
    """It is whatever runs last before it."""
    plan = planned(cases.Stages())
    assert [segment.fewest for segment in plan.segments] == [1, 1]


def test_widths_that_differ_do_not_become_equal_where_code_compares_them() -> None:
    network = cases.Base()
    network.body = nn.Sequential(cases.Planes(16), cases.Planes(16, 32), cases.Planes(32))
    network.fc = nn.Linear(32, 5)
    plan = planned(network)
    for architecture in probes.arbitrary(plan, 3):
        rescaled = rescale.skeleton(network, plan, architecture).body
        for name, new in rescaled.named_children():
            if isinstance(new, cases.Planes):
                old = network.body.get_submodule(name)
                assert (old.inplanes == old.planes) is (new.inplanes == new.planes)


def test_a_number_that_equals_two_widths_follows_no_cut_of_space() -> None:
    assert planned(cases.Halved()).remarks == ()


def test_a_shortcut_between_equal_widths_stays_where_both_are_narrower() -> None:
    plan = planned(cases.of_blocks(cases.Planes)())
    assert plan.remarks == ()


def test_blocks_are_taken_out_of_a_sequence_that_a_loop_goes_through() -> None:
    plan = planned(cases.Reads(cases.in_a_loop))
    (segment,) = plan.segments
    assert (len(segment.blocks), segment.fewest, plan.remarks) == (2, 1, ())


def test_a_frozen_backbone_gets_no_fresh_weights_where_it_loses_channels() -> None:
    network = cases.frozen("body")
    plan = planned(network)
    with pytest.raises(SsrError, match=r"9\d% of the weights .* type init=inherit checkpoint="):
        rescale.build(network, plan, plan.smallest)
    rescale.build(network, plan, plan.smallest, inherits=True)
    full = rescale.build(network, plan, plan.baseline)
    for name, parameter in full.body.named_parameters():
        assert torch.equal(parameter, network.body.get_parameter(name))


def test_first_values_that_were_set_are_kept() -> None:
    network = cases.BilinearUpsampling()
    plan = planned(network)
    built = rescale.build(network, plan, plan.smallest)
    width = built.up.weight.shape[0]
    assert torch.equal(built.up.weight, network.up.weight[:width, :width])
    assert (built.fc.bias == network.fc.bias).all()


def test_a_layer_with_a_rule_of_its_own_is_drawn_by_it() -> None:
    network = cases.small_head()
    plan = planned(network)
    head = rescale.build(network, plan, plan.smallest).fc.weight
    assert 0.0005 < head.std() < 0.002 and not torch.equal(head, network.fc.weight[:, :4])


def test_spectral_norm_starts_with_vectors_of_its_new_weights() -> None:
    torch.manual_seed(0)
    for norm in (parametrizations.spectral_norm, nn.utils.spectral_norm):
        network = cases.normed(norm)()
        plan = planned(network)
        for layer in cases.convolutions(rescale.build(network, plan, plan.smallest).eval()):
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            assert 0.9 < largest < 1.1


def test_what_runs_once_a_batch_is_counted_once() -> None:
    network = cases.position_net()
    plan = planned(network)
    per_image = 256 * (2 * 64 + 64 * 16)
    rest = cases.Base()
    other = planned(rest)
    macs = [cost.count_one(p, p.baseline).macs for p in (plan, other)]
    assert macs[0] - macs[1] == per_image


def test_no_error_but_ours_leaves_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("a slip")

    monkeypatch.setattr(planning, "_plan", fails)
    with pytest.raises(SsrError, match=r"cannot be split into segments \(KeyError: 'a slip'\)"):
        planned(cases.Base())


def test_tracing_draws_nothing_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    network = cases.DeepSupervision()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        planned(network)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


def test_kept_values_are_those_of_the_channels_that_are_kept() -> None:
    class Mean(cases.Base):  # the mean of two branches, by a kernel that is not learnt
        def __init__(self) -> None:
            super().__init__()
            self.other, self.mix = cases.conv(3, 16), nn.Conv2d(32, 16, 1, bias=False)
            self.mix.weight.data = torch.cat([torch.eye(16)] * 2, 1)[:, :, None, None] / 2
            self.mix.weight.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.mix(torch.cat([self.stem(x), self.other(x)], 1))
            return self.head(self.body(y))  # type: ignore[no-any-return]

    network = Mean()
    plan = planned(network)
    built = rescale.build(network, plan, plan.smallest)
    width = built.mix.weight.shape[0]
    expected = torch.cat([torch.eye(width)] * 2, 1) / 2
    assert width < 16 and torch.equal(built.mix.weight[:, :, 0, 0], expected)


def test_chance_in_training_does_not_change_a_plan() -> None:
    class Skipping(cases.Base):
        def features(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            for block in self.body:
                if not self.training or random.random() < 0.5:
                    x = block(x)
            return x

    plans = []
    for seed in range(4):
        random.seed(seed)
        (segment,) = planned(Skipping()).segments
        plans.append((len(segment.blocks), segment.fewest))
    assert set(plans) == {(2, 1)}


def test_a_train_mode_that_fails_leaves_no_trace_in_the_plan() -> None:
    class Failing(cases.Base):
        def features(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            for number, block in zip("01", self.body, strict=True):
                if self.training and number == "1":
                    raise ValueError("no")
                x = block(x)
            return x

    plan = planned(Failing())
    assert [len(segment.blocks) for segment in plan.segments] == [2]
    assert "ValueError: no" in plan.remarks[0]


def test_lengths_of_weight_norm_are_those_of_its_new_directions() -> None:
    for norm in (nn.utils.weight_norm, parametrizations.weight_norm):
        network = cases.Base()
        for layer in cases.convolutions(network):
            nn.init.kaiming_normal_(layer.weight)
            norm(layer)
        plan = planned(network)
        for layer in cases.convolutions(rescale.build(network, plan, plan.smallest)):
            fan_in = layer.weight[0].numel()
            assert 0.6 < layer.weight.std() * (fan_in / 2) ** 0.5 < 1.4


def test_statistics_beside_frozen_weights_are_kept() -> None:
    network = cases.frozen("body")
    for norm in (m for m in network.body.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.fill_(3)
    plan = planned(network)
    full = rescale.build(network, plan, plan.baseline)
    assert (full.body[0].a[1].running_mean == 3).all() and (full.stem[1].running_mean == 0).all()


def test_a_seed_that_is_not_finite_itself_is_no_fault_of_the_plan() -> None:
    assert planned(cases.OnFeatures(lambda x: (x - 9).log())).segments


def test_a_plan_of_another_network_is_refused() -> None:
    plan = planned(cases.Base())
    with pytest.raises(SsrError, match=r"the plan is of another network: it does not know aux\."):
        rescale.build(cases.HeadInTraining(), plan, plan.smallest)
