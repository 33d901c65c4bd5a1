"""The CIFAR ResNets are those of He et al. 2016."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling.resnet import CifarResNet, PadShortcut


@pytest.mark.parametrize("depth", [8, 14, 20])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_a_network_has_as_many_weighted_layers_as_its_name_says(depth: int, shortcut: str) -> None:
    network = CifarResNet(depth, shortcut=shortcut)  # type: ignore[arg-type]
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    shortcuts = [m for m in layers if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(layers) - len(shortcuts) == depth
    assert len(shortcuts) == (2 if shortcut == "B" else 0)  # option A has no parameters


@pytest.mark.parametrize(("inp", "out"), [(16, 32), (16, 20), (16, 19), (16, 16), (16, 4), (16, 5)])
@pytest.mark.parametrize("stride", [1, 2])
def test_option_a_pads_or_crops_both_ends_not_the_middle(inp: int, out: int, stride: int) -> None:
    x = torch.randn(2, inp, 6, 6)
    y = PadShortcut(inp, out, stride)(x)
    assert y.shape == (2, out, 6 // stride, 6 // stride)
    low = abs(out - inp) // 2 + (abs(out - inp) % 2 if out < inp else 0)
    middle = x[:, :, ::stride, ::stride]
    if out >= inp:
        assert torch.equal(y[:, low : low + inp], middle)
        assert y.count_nonzero() == middle.count_nonzero()
    else:
        assert torch.equal(y, middle[:, low : low + out])


@pytest.mark.parametrize("depth", [2, 7, 9, 18, 51, -4])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(SsrError, match=f"6n \\+ 2 layers .* not {depth}"):
        CifarResNet(depth)
