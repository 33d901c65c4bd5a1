"""A file of a network of any signature does what the network does, under the same names."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssr_exp.edge.export import formats
from ssr_exp.edge.export.formats import Order, traced
from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.errors import SsrError
from ssr_exp.outputs import named
from ssr_exp.rescaling import input_examples, inputs
from tests.rescaling.test_inputs import CASES
from tests.support.descriptions import description

MORE = [pytest.mark.slow, pytest.mark.more]
FILES = [  # of ExecuTorch few: each takes seconds
    *(pytest.param(name, format_) for name in CASES for format_ in ("onnx", "torch_export")),
    pytest.param("two", "executorch", marks=pytest.mark.slow),
    *(pytest.param(name, "executorch", marks=MORE) for name in CASES if name != "two"),
]


def flat(name: str) -> FlatNetwork:
    make, example = CASES[name]
    network = make().eval()
    return FlatNetwork(network, input_examples.read(network, example))


@pytest.mark.parametrize(("name", "format_"), FILES)
def test_a_file_puts_out_what_the_network_does(name: str, format_: str, tmp_path: Path) -> None:
    kind, network = formats.find(format_), flat(name)
    path = tmp_path / f"model{kind.SUFFIX}"
    kind.write(Order(network, description()), path)
    if (name, format_) == ("3-D", "executorch"):
        with pytest.raises(SsrError, match=r"ExecuTorch cannot load model.pte: .*\.$"):
            kind.load(path, threads=1)
        return
    model = kind.load(path, threads=1)
    for batch in (1, 2, 5):
        drawn = network.draw(batch, seed=batch)
        with torch.inference_mode():
            expected = network(*drawn)
        found = model(drawn)
        assert len(found) == len(network.names)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_network_can_be_traced_for_one_sample_alone() -> None:
    network = flat("shared")
    program = traced.export(network, network.draw(2), max_batch=1)
    assert program.module()(*network.draw(1))[0].shape == (1, 4)


def test_onnx_knows_the_names_of_inputs_and_outputs(tmp_path: Path) -> None:
    import onnxruntime

    network = flat("dictionary")
    formats.find("onnx").write(Order(network, description()), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    taken = {each.name: (each.shape, each.type) for each in session.get_inputs()}
    assert taken == {
        "image": (["batch", 3, 8, 8], "tensor(float)"),
        "mask": (["batch", 1, 8, 8], "tensor(bool)"),
    }
    assert [each.name for each in session.get_outputs()] == ["map", "count"]
    about = session.get_modelmeta().custom_metadata_map
    assert "batch x 1 x 8 x 8, bool" in about["inputs"] and "count" in about["outputs"]


Pair = namedtuple("Pair", "left right")


@dataclass
class Found:
    boxes: Any
    extra: Any = None


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (lambda x: x, ["output"]),
        (lambda x: [x, x, (x, 3)], ["output", "output_1", "output_2"]),
        (lambda x: {"a": x, "b": {"c": x}}, ["a", "b_c"]),
        (lambda x: Pair(x, [x, x]), ["left", "right", "right_1"]),
        (lambda x: Found(x), ["boxes"]),
        (lambda x: {"image": x, "a.b": x, "a_b": x}, ["image", "a_b", "a_b_1"]),
    ],
)
def test_outputs_keep_their_names(made: Any, names: list[str]) -> None:
    assert [name for name, _ in named(made(torch.zeros(2)))] == names


class Silent(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "nothing"


class Echo(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"image": x}


def test_a_network_without_outputs_is_refused_and_no_name_is_there_twice() -> None:
    example = inputs.one_tensor([3])
    assert FlatNetwork(Echo(), example).names == ("image_out",)
    with pytest.raises(SsrError, match="Silent puts out no tensor"):
        FlatNetwork(Silent(), example)
