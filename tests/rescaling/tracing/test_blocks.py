"""Plain sequences fall into layers, and those of one shape can be removed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssr_exp.rescaling import planning, rescale
from ssr_exp.rescaling.tracing import blocks as chains
from ssr_exp.rescaling.tracing import runner
from tests.rescaling import probes

SHAPE = (3, 16, 16)


def found(network: nn.Module) -> list[list[str]]:
    """Join the paths of each block: `0 1 2`."""
    seen = chains.Finder(network, runner.run(network, SHAPE)).find()
    return [[" ".join(block) for block in chain] for chain in seen]


def test_a_layer_is_a_convolution_and_what_follows_it_in_its_shape() -> None:
    assert found(probes.vgg(16, 16, 16, "M", 24, 24)) == [
        ["0 1 2", "3 4 5", "6 7 8"],
        ["10 11 12", "13 14 15"],
    ]


def test_layers_of_different_kinds_or_shapes_are_chains_of_their_own() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(),
        nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.Tanh(),
        nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    assert found(network) == [["0 1", "2 3"], ["4 5"], ["6 7", "8 9"]]


def test_linear_layers_are_removed_like_convolutions() -> None:
    layers = [layer for _ in range(3) for layer in (nn.Linear(24, 24), nn.ReLU(), nn.Dropout())]
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 24), nn.ReLU(), *layers, nn.Linear(24, 5))
    plan = planning.trace(network, SHAPE)
    assert [len(segment.blocks) for segment in plan.segments] == [1, 3]
    rescale.build(network, plan, plan.smallest)(torch.randn(2, *SHAPE)).sum().backward()


def test_the_layer_that_makes_the_output_is_in_no_chain() -> None:
    network = nn.Sequential(nn.Flatten(), *[nn.Linear(768, 768) for _ in range(4)])
    assert found(network) == [["1", "2", "3"]]


@pytest.mark.parametrize("name", ["Plain", "Residual", "Inverted", "Tapped", "named_blocks"])
def test_classes_that_repeat_are_blocks_and_their_layers_are_not(name: str) -> None:
    network = probes.build(name)
    found = chains.Finder(network, runner.run(network, SHAPE)).find()
    blocks = [block for chain in found for block in chain]
    kinds = {type(network.get_submodule(path)) for block in blocks for path in block}
    assert len(kinds) == 1 and not kinds & {nn.Conv2d, nn.Sequential}
