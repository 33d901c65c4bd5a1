"""A rescaled network is an ordinary dense module; the seed network stays as it was."""

from __future__ import annotations

import copy
import pickle
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from ssr_exp.config import ModelConf, Shortcut
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, planning, rescale, seeds
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.resnet import CifarResNet
from tests.rescaling import probes

IMAGES = (3, 32, 32)
KINDS = [("resnet8", "A"), ("resnet14", "B"), ("resnet18", "")]
GROUPED = pytest.param("resnext50_32x4d", "", marks=pytest.mark.slow)


@cache
def planned(name: str, shortcut: str = "") -> tuple[nn.Module, Plan]:
    """Build a seed network with weights; its plan is that of one without."""
    conf = ModelConf(name, shortcut=Shortcut(shortcut or "A"))
    network = seeds.build(conf, num_classes=10, input_shape=IMAGES)
    return network, probes.seed_of(name, shortcut)[1]


def images(count: int = 2, size: int = 16) -> Tensor:
    return torch.randn(count, 3, size, size)


@pytest.mark.parametrize(("name", "shortcut"), [*KINDS, GROUPED])
def test_a_build_has_blocks_and_channels_of_the_plan_and_learns(name: str, shortcut: str) -> None:
    network, plan = planned(name, shortcut)
    for architecture in probes.arbitrary(plan, 2):
        built, seen = rescale.build(network, plan, architecture), []
        assert architecture != plan.baseline or repr(built) == repr(network)
        for module in built.modules():
            if isinstance(module, nn.Conv2d):
                inp = module.in_channels // module.groups
                assert module.weight.shape[:2] == (module.out_channels, inp)
            elif isinstance(module, nn.Linear):
                assert module.weight.shape == (module.out_features, module.in_features)
            elif isinstance(module, nn.BatchNorm2d):
                assert module.weight.shape == module.running_var.shape == (module.num_features,)
        for segment in plan.segments:
            built.get_submodule(segment.name).register_forward_hook(
                lambda module, args, out, seen=seen: seen.append((len(module), out.shape[1]))
            )
        built(images()).square().sum().backward()
        assert seen == list(zip(architecture.blocks, plan.channels(architecture), strict=True))
        assert [n for n, p in built.named_parameters() if p.grad is None] == []
        assert all(p.grad.isfinite().all() for p in built.parameters())


@pytest.mark.parametrize(("name", "shortcut"), [*KINDS, GROUPED])
def test_a_state_dict_loads_strictly_into_another_build(name: str, shortcut: str) -> None:
    network, plan = planned(name, shortcut)
    architecture = probes.arbitrary(plan, 1)[-1]
    one, other = (rescale.build(network, plan, architecture).eval() for _ in range(2))
    x = images()
    assert not torch.equal(one(x), other(x))
    rescale.load(one, other.state_dict(), source="last.ckpt")
    assert torch.equal(one(x), other(x))


def test_drawing_a_head_again_disturbs_no_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of GPUs neither, which `torch.manual_seed` seeds, too."""
    network, plan = planned("resnet8")
    architecture = probes.arbitrary(plan, 1)[-1]
    one, other = (rescale.build(network, plan, architecture) for _ in range(2))
    head = [name for name, _ in network.named_parameters() if name.startswith("fc.")]
    assert head
    before = torch.get_rng_state()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeds GPUs"))
    for built in (one, other):
        rescale.redraw(built, network, plan, architecture, head, draw_seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    names = [name for name, _ in one.named_parameters()]
    assert all(same[names.index(name)] for name in head) and not all(same)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_rescaled_networks_survive_copying_and_pickling(copied: object) -> None:
    network, plan = planned("resnet20")
    built = rescale.build(network, plan, probes.arbitrary(plan, 1)[-1]).eval()
    again = copied(built)  # type: ignore[operator]
    x = images()
    assert torch.equal(built(x), again(x))


def test_building_leaves_the_seed_network_as_it_was_and_shares_no_memory() -> None:
    network, plan = planned("resnet14")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    text, mine = repr(network), {tensor.data_ptr() for tensor in network.state_dict().values()}
    for architecture in (plan.smallest, plan.baseline):
        built = rescale.build(network, plan, architecture).state_dict()
        assert not mine & {tensor.data_ptr() for tensor in built.values()}
    assert repr(network) == text
    assert all(torch.equal(before[n], tensor) for n, tensor in network.state_dict().items())


def test_resnet56_at_three_blocks_a_stage_is_resnet20() -> None:
    network, plan = CifarResNet(56), probes.seed_of("resnet56")[1]
    built = rescale.build(network, plan, Modifiers(depth=[1 / 3] * 3, width=[1] * 3))
    assert probes.shapes(built) == probes.shapes(CifarResNet(20))
    assert repr(built) == repr(CifarResNet(20))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_stage_may_put_out_fewer_channels_than_it_takes(shortcut: str) -> None:
    network, plan = planned("resnet20", shortcut)
    built = rescale.build(network, plan, Modifiers(depth=[1] * 3, width=[1, 1 / 8, 1 / 16]))
    assert built.stage2(built.stage1(torch.randn(2, 16, 8, 8))).shape == (2, 4, 4, 4)
    built(images()).sum().backward()


def test_blocks_that_are_kept_are_the_first_ones() -> None:
    network, plan = planned.__wrapped__("resnet20")
    network.stage1[2].note = "last"
    network.stage1[1].note = "middle"
    built = rescale.build(network, plan, Modifiers(depth=[2 / 3, 1, 1], width=[1] * 3))
    assert [getattr(block, "note", None) for block in built.stage1] == [None, "middle"]


def test_a_sequence_within_one_that_lost_blocks_loses_its_own() -> None:
    def layers(width: int) -> list[nn.Module]:
        return [
            each
            for _ in range(3)
            for each in (nn.Conv2d(width, width, 3, padding=1, bias=False), nn.ReLU())
        ]

    inner = nn.Sequential(nn.Conv2d(16, 32, 3, bias=False), *layers(32))
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), *layers(16), nn.MaxPool2d(2), inner, nn.Conv2d(32, 5, 1)
    )
    plan = planning.trace(network, IMAGES)
    assert sum(plan.baseline.blocks) - sum(plan.smallest.blocks) == 4
    built = rescale.build(network, plan, plan.smallest)
    assert built(images(size=32)).shape == network(images(size=32)).shape
    n_params = sum(p.numel() for p in built.parameters())
    assert n_params == cost.count_one(plan, plan.smallest).params


def test_modes_and_frozen_parameters_are_kept() -> None:
    network, plan = planned.__wrapped__("resnet8")
    network.eval()
    network.fc.bias.requires_grad_(False)
    built = rescale.build(network, plan, plan.smallest)
    assert not built.training
    assert [n for n, p in built.named_parameters() if not p.requires_grad] == ["fc.bias"]


def test_modifiers_that_change_nothing_say_so() -> None:
    network, plan = planned("resnet8")
    with pytest.warns(UserWarning, match=r"change nothing \(depth \[0\.9"):
        built = rescale.build(network, plan, Modifiers(depth=[0.9, 1, 1], width=[1] * 3))
    assert probes.shapes(built) == probes.shapes(network)


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ((1, 1, 1), "conv.weight is 16x3x3x3 there and 4x3x3x3 here"),
        ((2, 1, 1), "stage1.1.conv1.weight is 16x16x3x3 there and missing here"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(blocks: tuple[int, ...], said: str) -> None:
    network, plan = planned("resnet20")
    width = 0.25 if blocks == (1, 1, 1) else 1
    small = Modifiers(depth=[1 / 3] * 3, width=[width] * 3)
    large = Modifiers(depth=[kept / 3 for kept in blocks], width=[1] * 3)
    built = rescale.build(network, plan, small)
    state = rescale.build(network, plan, large).state_dict()
    with pytest.raises(SsrError, match=r"the checkpoint last\.ckpt does not fit") as error:
        rescale.load(built, state, source="last.ckpt")
    assert said in str(error.value)


def test_a_checkpoint_without_a_weight_says_which() -> None:
    network, _ = planned("resnet8")
    state = network.state_dict()
    del state["fc.bias"]
    with pytest.raises(SsrError, match=r"fc\.bias is missing there and 10 here"):
        rescale.load(network, state, source="x")


def test_standardised_weights_are_divided_by_the_root_of_their_own_fan_in() -> None:
    """As timm's constructors do; else the signal of narrow networks fades with each layer."""
    std_conv = pytest.importorskip("timm.layers.std_conv")

    def make(width: int) -> nn.Sequential:
        conv = std_conv.ScaledStdConv2d
        layers = (conv(3, width, 3, padding=1), nn.ReLU(), conv(width, width, 3, padding=1))
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))

    network = make(32)
    plan = planning.trace(network, (3, 8, 8))
    built = rescale.build(
        network, plan, Modifiers(depth=[1] * len(plan.segments), width=[0.25] * len(plan.segments))
    )
    expected = make(built[0].weight.shape[0])
    assert built[2].weight.shape == expected[2].weight.shape != network[2].weight.shape
    assert [built[i].scale for i in (0, 2)] == pytest.approx([expected[i].scale for i in (0, 2)])
