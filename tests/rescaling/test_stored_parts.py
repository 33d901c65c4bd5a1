"""Laws for stored parts: what a file says of a part is the part, and a file runs nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detecting import Detector, pictures
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import network_parts
from ssr_exp.rescaling.stored_parts import StoredFunction, StoredPart


class Functions(nn.Module):
    """Reads its backbone through functions of PyTorch's, given in many ways."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Detector().backbone
        self.heads = nn.ModuleList(nn.Conv2d(32, 2, 1) for _ in range(7))
        self.last = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)
        read = [
            functional.hardswish(maps),
            functional.max_pool2d(maps, 2, padding=1),
            functional.avg_pool2d(maps, (2, 2), stride=(1, 2)),
            functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False),
            torch.relu(maps).contiguous(),
            functional.dropout(maps, 0.5, self.training),
            functional.leaky_relu(maps, negative_slope=0.2),
        ]
        heads = [head(each).mean((2, 3)) for head, each in zip(self.heads, read, strict=True)]
        return torch.stack([*heads, self.last(maps.mean((2, 3)))]).sum(0)


def part_of(whole: nn.Module, inputs: Any) -> network_parts.Part:
    return network_parts.find(whole, "backbone", lambda network: network(inputs))


@pytest.mark.parametrize(
    ("make", "inputs"), [(Detector, pictures()), (Functions, torch.stack(pictures()))]
)
def test_what_is_written_and_read_is_the_same_part(make: Any, inputs: Any) -> None:
    part = part_of(make(), inputs)
    stored = StoredPart.model_validate_json(StoredPart.of(part).model_dump_json())
    assert stored == StoredPart.of(part)
    whole = make()
    found = stored.find(whole, part.input_shape)
    assert (found.flows, found.remarks) == (part.flows, part.remarks)
    assert found.readers == part.readers and found.kept == part.kept
    x = torch.stack(pictures())
    part.network.load_state_dict(found.network.state_dict())
    here, there = found.network.eval()(x), part.network.eval()(x)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
    assert found.plan(multiple=4).segments == part.plan(multiple=4).segments


def test_all_functions_are_followed() -> None:
    part = part_of(Functions(), torch.stack(pictures()))
    assert part.kept == () and len(part.readers) == 8


@pytest.mark.parametrize(
    "call", ["torch.load", "os.system", "torch.Tensor.__class__", "relu", "torch.hub.mean", ""]
)
def test_no_other_function_is_called(call: str) -> None:
    with pytest.raises(ValidationError, match="is no function that is traced behind a part"):
        StoredFunction(call=call)


def test_another_whole_is_refused() -> None:
    stored = StoredPart.of(part_of(Detector(), pictures()))
    with pytest.raises(SsrError, match="Functions has no part 'score'"):
        stored.find(Functions(), (3, 16, 16))


def test_a_part_is_named_by_its_whole() -> None:
    network = part_of(Detector(), pictures()).network
    assert type(network).__name__ == "Detector.backbone"
    assert isinstance(network, network_parts.NetworkPart)
