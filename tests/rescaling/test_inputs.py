from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, input_examples, nested, planning, rescale
from ssr_exp.rescaling.inputs import Example, Inputs, Signature
from ssr_exp.rescaling.plan import Architecture, Plan


def sound(width: int = 16, classes: int = 5) -> nn.Module:
    """A 1-D classifier."""
    blocks = [unit(nn.Conv1d, nn.BatchNorm1d, width, width) for _ in range(3)]
    return nn.Sequential(
        unit(nn.Conv1d, nn.BatchNorm1d, 1, width, stride=2),
        nn.Sequential(*blocks),
        nn.MaxPool1d(2),
        unit(nn.Conv1d, nn.BatchNorm1d, width, 2 * width),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(2 * width, classes),
    )


def unit(conv: Any, norm: Any, read: int, made: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(conv(read, made, 3, stride, 1, bias=False), norm(made), nn.ReLU())


class Volume(nn.Module):
    """A small 3-D U-Net."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = unit(nn.Conv3d, nn.BatchNorm3d, 1, width)
        self.deep = unit(nn.Conv3d, nn.BatchNorm3d, width, 2 * width)
        self.up = nn.ConvTranspose3d(2 * width, width, 2, 2)
        self.out = unit(nn.Conv3d, nn.BatchNorm3d, 2 * width, width)
        self.head = nn.Conv3d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        deep = self.deep(F.max_pool3d(skip, 2))
        smooth = F.interpolate(deep, scale_factor=2, mode="trilinear")
        return self.head(self.out(torch.cat([self.up(deep), skip], 1)) + smooth.mean(1, True))


class Trunk(nn.Module):
    """A small convolutional trunk with three equal blocks."""

    def __init__(self, read: int = 3, width: int = 16) -> None:
        super().__init__()
        self.stem = unit(nn.Conv2d, nn.BatchNorm2d, read, width)
        blocks = [unit(nn.Conv2d, nn.BatchNorm2d, width, width) for _ in range(3)]
        self.stage = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(self.stem(x))


class Two(nn.Module):
    """An image and a vector of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.embed = nn.Linear(6, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, image: Tensor, age: Tensor) -> Tensor:
        return self.head(self.trunk(image).mean((2, 3)) + F.relu(self.embed(age)))


class Dictionary(nn.Module):
    """One dictionary in, one dictionary out."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Conv2d(16, 2, 1)
        self.count = nn.Linear(16, 1)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.trunk(batch["image"]).masked_fill(~batch["mask"], 0)
        return {"map": self.head(x), "count": self.count(x.mean((2, 3)))}


class Tokens(nn.Module):
    """Integers that are looked up in a table, then a 1-D network."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.stem = unit(nn.Conv1d, nn.BatchNorm1d, 16, 16)
        blocks = [unit(nn.Conv1d, nn.BatchNorm1d, 16, 16) for _ in range(3)]
        self.stage = nn.Sequential(*blocks)
        self.head = nn.Linear(16, 7)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids).transpose(1, 2)
        return self.head((x + self.stage(self.stem(x))).amax(2))


class Keywords(Two):
    """Keyword arguments, some of which are no tensors."""

    def forward(self, x: Tensor, *, age: Tensor, scale: float = 1.0, mode: str = "") -> Tensor:
        assert mode == "mean"
        return super().forward(x * scale, age)


class ChannelsLast(nn.Module):
    """Takes `n x h x w x c`."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class SequenceFirst(nn.Module):
    """Takes `t x n x c`, puts out `n x classes`."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = sound(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.permute(1, 2, 0))


class Shared(nn.Module):
    """An image, and a table of positions that all samples share."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.place = nn.Linear(2, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, grid: Tensor, image: Tensor) -> Tensor:
        x = self.trunk(image).flatten(2).transpose(1, 2)  # n x positions x channels
        return self.head((x + F.relu(self.place(grid))).mean(1))


CASES: dict[str, tuple[Callable[[], nn.Module], Example]] = {
    "1-D": (sound, (1, 64)),
    "3-D": (Volume, torch.zeros(1, 1, 4, 4, 4)),
    "two": (Two, (torch.zeros(5, 3, 8, 8), torch.zeros(5, 6))),
    "dictionary": (
        Dictionary,
        {"image": torch.zeros(2, 3, 8, 8), "mask": torch.ones(2, 1, 8, 8) > torch.rand(8)},
    ),
    "tokens": (Tokens, torch.randint(0, 50, (4, 12))),
    "keywords": (
        Keywords,
        Inputs((torch.zeros(2, 3, 8, 8),), {"age": torch.rand(2, 6), "mode": "mean", "scale": 2.0}),
    ),
    "channels last": (ChannelsLast, torch.zeros(2, 8, 8, 3)),
    "sequence first": (SequenceFirst, torch.zeros(64, 2, 1)),
    "shared": (Shared, (torch.zeros(64, 2), torch.zeros(2, 3, 8, 8))),
}


def masked() -> Any:
    return CASES["dictionary"][1]


@pytest.fixture(params=CASES)
def case(request: Any) -> tuple[nn.Module, Plan]:
    make, example = CASES[request.param]
    network = make()
    return network, planning.trace(network, example, multiple=4)


def between(plan: Plan) -> Architecture:
    widths = tuple(len(each) // 2 for each in plan.widths)
    return Architecture(plan.smallest.blocks, widths)


def test_networks_of_any_signature_cost_what_a_build_does(
    case: tuple[nn.Module, Plan],
) -> None:
    network, plan = case
    for architecture in (plan.baseline, plan.smallest, between(plan)):
        built = rescale.build(network, plan, architecture).eval()
        args, kwargs = plan.inputs.make(1)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            built(*args, **kwargs)
        counted = cost.count_one(plan, architecture)
        assert counted.macs == counter.get_total_flops() // 2
        assert counted.params == sum(p.numel() for p in built.parameters())


def test_networks_of_any_signature_shrink_and_learn(case: tuple[nn.Module, Plan]) -> None:
    network, plan = case
    least, full = (cost.count_one(plan, each) for each in (plan.smallest, plan.baseline))
    assert least.params < full.params / 2
    built = rescale.build(network, plan, plan.smallest).train()
    args, kwargs = plan.inputs.make(3)
    sum(output.sum() for output in nested.tensors(built(*args, **kwargs))).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in built.parameters())


def test_the_full_network_is_the_seed_network(case: tuple[nn.Module, Plan]) -> None:
    network, plan = case
    built = rescale.build(network, plan, plan.baseline, inherits=True).eval()
    rescale.load(built, network.state_dict(), source="the seed network")
    args, kwargs = plan.inputs.make(2)
    pairs = [nested.tensors(each.eval()(*args, **kwargs)) for each in (network, built)]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other)


def test_a_signature_is_the_same_from_its_file(case: tuple[nn.Module, Plan]) -> None:
    _, plan = case
    text = files.to_json(plan.inputs)
    assert Signature.model_validate(json.loads(text)) == plan.inputs
    assert plan.inputs.make(3, device="meta")[0] is not None


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("3-D", [0]),
        ("two", [0, 0]),
        ("tokens", [0]),
        ("channels last", [0]),
        ("sequence first", [1]),
        ("shared", [None, 0]),
    ],
)
def test_the_batch_dimension_is_found(name: str, dims: list[int | None]) -> None:
    make, example = CASES[name]
    found = input_examples.read(make(), example)
    assert [tensor.batch_dim for tensor in found.tensors] == dims


@pytest.mark.parametrize(
    ("name", "names", "text"),
    [
        ("1-D", ["image"], "1x64"),
        ("two", ["image", "age"], "image 3x8x8 and age 6"),
        ("dictionary", ["image", "mask"], "image 3x8x8 and mask 1x8x8 (bool)"),
        ("tokens", ["image"], "12 (int64)"),
        ("keywords", ["x", "age"], "x 3x8x8 and age 6"),
        ("shared", ["grid", "image"], "grid 64x2 (shared) and image 3x8x8"),
        ("sequence first", ["image"], "64x1 (batch is dimension 1)"),
    ],
)
def test_inputs_are_named_as_forward_names_them(name: str, names: list[str], text: str) -> None:
    make, example = CASES[name]
    found = input_examples.read(make(), example)
    assert [*found.names] == names
    assert found.text() == text


def test_a_table_of_tokens_is_drawn_as_its_class_draws_it() -> None:
    network = Tokens()
    plan = planning.trace(network, CASES["tokens"][1], multiple=4)
    built = rescale.build(network, plan, plan.smallest)
    assert built.table.weight.shape == (50, 4) and built.table.embedding_dim == 4
    assert 0.8 < built.table.weight.std() < 1.2


def test_drawn_inputs_stay_in_the_range_of_the_example() -> None:
    found = input_examples.read(Tokens(), torch.arange(3, 15).expand(2, 12))
    ((ids,), _) = found.make(100)
    assert ids.dtype == torch.int64 and (int(ids.min()), int(ids.max())) == (3, 14)
    (age,) = input_examples.read(Two(), (torch.zeros(2, 3, 8, 8), torch.rand(2, 6) + 7)).make(100)[
        0
    ][1:]
    assert 7 <= age.min() < age.max() <= 8


def test_a_tensor_says_what_its_shape_says() -> None:
    network = sound()
    assert input_examples.read(network, torch.rand(2, 1, 64)) == input_examples.read(
        network, (1, 64)
    )
    half = sound().half()
    assert input_examples.read(half, [1, 64]).tensors[0].dtype == "float16"
    one, other = (planning.trace(network, e, multiple=4) for e in ((1, 64), torch.rand(2, 1, 64)))
    assert (one.groups, one.gemms, one.inputs) == (other.groups, other.gemms, other.inputs)


def test_drawn_images_are_those_that_torch_draws() -> None:
    found = input_examples.read(sound(), (1, 64))
    torch.manual_seed(3)
    ((drawn,), kwargs) = found.make(2)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.randn(2, 1, 64)) and kwargs == {}
    one, other = (found.make(2, generator=torch.Generator().manual_seed(5))[0] for _ in range(2))
    assert torch.equal(one[0], other[0])


class Nested(nn.Module):
    def forward(self, pair: Any, options: Any, *rest: Tensor) -> Any:
        assert options == {"depth": 3, "names": ["a", None], "sure": True}
        return pair.left + pair.right[0] + rest[0]


Pair = namedtuple("Pair", "left right")


def test_structures_nest_and_constants_stay() -> None:
    x = torch.zeros(2, 4)
    options = {"depth": 3, "names": ["a", None], "sure": True}
    found = input_examples.read(Nested(), (Pair(x, [x]), options, x))
    found = Signature.model_validate(json.loads(files.to_json(found)))
    assert found.names == ("pair_left", "pair_right_0", "input_2")
    args, kwargs = found.make(5)
    assert Nested()(*args, **kwargs).shape == (5, 4)


class Odd(nn.Module):
    def forward(self, x: Any, y: Any = None) -> Tensor:
        return x + 1 if y is None else x @ y


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ([torch.zeros(2, 3)], "example inputs cannot be a list: give a shape"),
        ("x", "example inputs cannot be a str"),
        (Inputs((object(),)), "the input x is a object: inputs can be tensors"),
        (Inputs(({1: torch.zeros(2, 3)},)), "the input x is a dict"),
        (Inputs((torch.zeros(2), 3, 4)), "cannot be called with the example inputs: too many"),
        (Inputs(kwargs={"z": torch.zeros(2)}), "cannot be called with the example inputs: "),
        (Inputs((3,)), "hold no tensor"),
        ((torch.zeros(2, 3), torch.zeros(2, 4)), "Odd does not run on the example inputs"),
    ],
)
def test_other_examples_are_refused_in_a_sentence(example: Any, said: str) -> None:
    with pytest.raises(SsrError, match=said):
        input_examples.read(Odd(), example)


@pytest.mark.parametrize("bad", [(torch.zeros(2),), ((), [])])
def test_inputs_are_a_tuple_and_a_dictionary(bad: Any) -> None:
    with pytest.raises(SsrError, match="argument of Inputs"):
        Inputs(*bad)


def test_an_input_without_a_batch_is_refused() -> None:
    with pytest.raises(SsrError, match="no batch dimension was found"):
        input_examples.read(nn.Conv2d(3, 4, 3), torch.zeros(3, 8, 8))


def test_the_inputs_of_the_first_call_are_captured() -> None:
    network, x, age = Keywords(), torch.rand(2, 3, 8, 8), torch.rand(2, 6)
    captured = input_examples.capture(network, lambda: network(x, age=age, mode="mean"))
    assert captured is not None and captured.args[0] is x
    assert captured.kwargs == {"age": age, "mode": "mean"}
    assert input_examples.capture(network, lambda: None) is None
    assert input_examples.read(network, captured).names == ("x", "age")


@pytest.mark.parametrize(
    "change",
    [
        {"args": [{"tensor": 1}]},
        {"args": [{"tensor": 0}, {"tensor": 0}]},
        {"args": [{"magic": 0}]},
        {"tensors": [{"name": "x", "shape": [3], "dtype": "nn"}]},
        {"tensors": [{"name": "x", "shape": [3], "batch_dim": 2}]},
        {"tensors": [{"name": "x", "shape": [3], "low": 2, "high": 1}]},
        {"tensors": []},
    ],
)
def test_a_damaged_signature_is_refused(change: dict[str, Any]) -> None:
    good = {"tensors": [{"name": "x", "shape": [3]}], "args": [{"tensor": 0}]}
    assert Signature.model_validate(good).is_one_image
    with pytest.raises(ValueError):
        Signature.model_validate(good | change)


class PerToken(nn.Module):
    """Treats times and samples alike, so that only its user knows which are which."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.body(x)) * lengths[:, None]


def test_where_the_batch_is_can_be_said() -> None:
    x, lengths = torch.rand(5, 3, 4), torch.rand(3)
    found = input_examples.read(PerToken(), Inputs((x, lengths), batch_dim=1))
    assert [tensor.batch_dim for tensor in found.tensors] == [1, 0]
    assert found.make(7)[0][0].shape == (5, 7, 4)
    plan = planning.trace(PerToken(), found, multiple=4)
    assert cost.count_one(plan, plan.baseline).macs == 5 * (4 * 16 + 16 * 16 + 16 * 2)


def test_constant_inputs_are_drawn_as_that_constant_and_zeros_say_nothing() -> None:
    images, ages = torch.zeros(2, 3, 8, 8), torch.full((2, 6), 7.0)
    (drawn, constant), _ = input_examples.read(Two(), (images, ages)).make(100)
    assert (constant == 7).all() and constant.shape == (100, 6)
    assert drawn.std() > 0.5
