"""A network that is written here, unknown to the package, goes all the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssr_exp.config import Config, ModifiersConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, lattice, rescale, sets
from ssr_exp.runs.record import Status
from ssr_exp.training import opened_study, run

Compose = Callable[..., Config]
pytestmark = pytest.mark.usefixtures("repeatable")


class Mixer(nn.Module):
    """Depthwise and gated, with functional code and a parameter of its own between modules."""

    def __init__(self, inp: int, out: int, stride: int) -> None:
        super().__init__()
        self.half = out // 2
        self.depthwise = nn.Conv2d(inp, inp, 3, stride, padding=1, groups=inp)
        self.pointwise = nn.Conv2d(inp, 2 * out, 1)
        self.norm = nn.GroupNorm(4, out)
        self.excite = nn.Linear(out, out)
        self.gain = nn.Parameter(torch.ones(out, 1, 1))
        self.is_residual = inp == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map `b x inp x h x w` to `b x out x h/stride x w/stride`."""
        values, gates = self.pointwise(self.depthwise(x)).chunk(2, dim=1)
        y = self.norm(values * torch.sigmoid(gates))
        one, other = torch.split(y, self.half, dim=1)
        y = torch.cat([F.relu(other), one], dim=1)
        y = self.gain * y * self.excite(y.mean((2, 3))).sigmoid()[:, :, None, None]
        return x + y if self.is_residual else y


class MyNet(nn.Module):
    """Maps images, `b x in_channels x 8 x 8`, to logits, `b x num_classes`."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1)
        self.one = nn.ModuleList([Mixer(16, 16, 1) for _ in range(3)])
        self.two = nn.ModuleList([Mixer(16, 32, 2), Mixer(32, 32, 1)])
        self.classifier = nn.Linear(32 * 4 * 4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in [*self.one, *self.two]:
            x = block(x)
        return self.classifier(x.flatten(1))  # type: ignore[no-any-return]


class FrozenNet(MyNet):
    """Only its classifier learns."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.one.requires_grad_(False)
        self.two.requires_grad_(False)


class LoadedNet(MyNet):
    """Has a norm that saw images; its weights stand for those of a file."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.stem = nn.Sequential(self.stem, nn.BatchNorm2d(16))
        self.stem[1].running_mean += 1


WORDS = ("model=module", f"model.target={__name__}.MyNet", "segment.multiple=4")


@pytest.mark.slow
def test_a_frozen_backbone_is_refused_before_anything_is_trained(conf: Compose) -> None:
    words = [word.replace("MyNet", "FrozenNet") for word in WORDS]
    opened = opened_study.open(conf(*words))
    assert "not learnt (requires_grad=False), and kept" in opened.plan.remarks[0]
    assert len(opened.expand(conf(*words, "modifiers=baseline"))) == 1
    with pytest.raises(SsrError, match="type init=inherit checkpoint=PATH"):
        opened.expand(conf(*words, "modifiers=sentinel_all"))


def test_that_loaded_weights_are_not_used_is_said(
    conf: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("MyNet", "LoadedNet"):
        opened_study.open(conf(*(word.replace("MyNet", name) for word in WORDS)))
        is_said = "LoadedNet brings trained weights, and every network here starts" in caplog.text
        assert is_said == (name == "LoadedNet")
    opened_study.open(conf("model=resnet8"))
    assert caplog.text.count("brings trained weights") == 1


def test_its_segments_sentinels_and_costs_are_those_of_real_builds(conf: Compose) -> None:
    opened = opened_study.open(conf(*WORDS))
    plan, network = opened.plan, opened.seed_network
    assert [(s.name, len(s.blocks)) for s in plan.segments] == [("one", 3), ("two", 2)]
    assert list(plan.frozen) == ["the network's output"]
    sentinels = sets.expand(plan, ModifiersConf(kind="sentinel_all"))
    assert len(sentinels) == 10
    for architecture in lattice.from_plan(plan).sample(2, seed=0):
        built = rescale.build(network, plan, architecture)
        counted = cost.count_one(plan, architecture)
        assert counted.params == sum(p.numel() for p in built.parameters())
        assert built(torch.randn(2, *plan.input_shape)).shape == (2, 10)
    assert (
        cost.count_one(plan, plan.smallest).params
        < 0.2 * cost.count_one(plan, plan.baseline).params
    )


def test_one_of_its_rescaled_networks_is_trained(conf: Compose) -> None:
    asked = conf(*WORDS, "modifiers=explicit", "modifiers.network=d2-1_w12-16")
    record = run.train(asked)
    assert record.status is Status.finished and record.val_acc is not None
    assert (record.blocks, record.widths) == ((2, 1), (12, 16))
