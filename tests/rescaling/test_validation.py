"""What stands in the way of a smaller network is frozen and named, and all that is left runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import planning, rescale, validation
from ssr_exp.rescaling.plan import Architecture, Plan
from tests.rescaling import probes
from tests.rescaling.probes import Body, Residual, residuals


class Stored(Residual):  # the width stands in a dictionary, which nobody looks into
    def __init__(self) -> None:
        super().__init__(16, 16)
        self.sizes = {"out": 16}

    def inner(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        return self.conv2(y.reshape(-1, self.sizes["out"], *y.shape[2:]))


class Computed(Residual):  # the width was computed from another number when the module was made
    def __init__(self) -> None:
        super().__init__(16, 16)
        self.text = "x" * 16

    def inner(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)[:, : len(self.text)].expand(-1, len(self.text), -1, -1))


class Choosy(Residual):  # a narrow block does more
    def inner(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return y if y.shape[1] >= 12 else self.conv2(y)


class Proud(Residual):  # a narrow block fails
    def inner(self, x: Tensor) -> Tensor:
        if self.conv1.out_channels < 16:
            raise ValueError("not with me")
        return super().inner(x)


def first(block: nn.Module) -> nn.Module:
    """Put one block before two that can be rescaled."""
    return Body(nn.Sequential(block, *residuals(2)))


FAULTS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "stored": (Stored, "RuntimeError: "),
    "computed": (Computed, "RuntimeError: "),
    "choosy": (Choosy, "MACs and not"),
    "proud": (Proud, "ValueError: not with me"),
}


def checked(network: nn.Module, plan: Plan) -> None:
    """Check that networks of a plan run and have the cost that it counts."""
    for architecture in probes.arbitrary(plan, 1):
        built = rescale.build(network, plan, architecture)
        built(torch.randn(2, *probes.SHAPE)).sum().backward()
        probes.assert_exact(plan, architecture, built)


@pytest.mark.parametrize(("block", "why"), FAULTS.values(), ids=list(FAULTS))
def test_a_fixed_width_block_is_frozen_and_named(block: Callable[..., nn.Module], why: str) -> None:
    made = block(16, 16) if block in (Choosy, Proud) else block()
    network = first(made)
    plan = planning.trace(network, probes.SHAPE, multiple=4)
    (reason,) = [reason for reason in plan.frozen if "cannot be narrower" in reason]
    assert reason.removeprefix("what ").startswith("body.0") and why in reason
    checked(network, plan)
    smallest = rescale.skeleton(network, plan, plan.smallest)
    assert smallest.body[0].conv1.out_channels == 16
    full = sum(parameter.numel() for parameter in network.parameters())
    assert sum(parameter.numel() for parameter in smallest.parameters()) < full / 2


class Half(Body):  # the code counts on the blocks of one of two stages
    def __init__(self) -> None:
        super().__init__(**{name: nn.Sequential(*residuals(3)) for name in ("body", "more")})

    def features(self, x: Tensor) -> Tensor:
        x = self.more(x)
        for number in range(3):
            x = self.body[number](x)
        return x


def test_blocks_without_which_the_network_does_not_run_stay_and_others_go() -> None:
    network = Half()
    plan = planning.trace(network, probes.SHAPE, multiple=4)
    assert {s.name: s.fewest for s in plan.segments} == {"more": 1, "body": 3}
    assert [4, 8, 12, 16] in [widths.channels.tolist() for widths in plan.widths]
    checked(network, plan)


class Fixed(Body):  # nothing may change
    def forward(self, x: Tensor) -> Tensor:
        if sum(parameter.numel() for parameter in self.parameters()) != 14_469:
            raise ValueError("who am I?")
        return super().forward(x)


def test_a_network_that_runs_at_full_size_alone_is_refused_in_one_sentence() -> None:
    network = Fixed(nn.Sequential(*residuals(3)))
    assert sum(parameter.numel() for parameter in network.parameters()) == 14_469
    with pytest.raises(SsrError, match=r"nothing of Fixed can be rescaled.*who am I") as caught:
        planning.trace(network, probes.SHAPE)
    assert "\n" not in str(caught.value)


class Moody(Residual):  # does more in each run
    runs = 0

    def inner(self, x: Tensor) -> Tensor:
        Moody.runs += 1
        y = super().inner(x)
        for _ in range(Moody.runs):
            y = self.conv2(y)
        return y


def test_a_network_that_never_does_what_was_traced_is_refused_and_the_module_named() -> None:
    with pytest.raises(
        SsrError, match=r"Body cannot be counted, even .* in body\.0\.conv2, it has"
    ):
        planning.trace(first(Moody(16, 16)), probes.SHAPE)


@pytest.mark.parametrize("tokens", ["odd", "even"])
def test_of_a_transformer_what_is_not_attention_is_rescaled(tokens: str) -> None:
    size = 8 if tokens == "odd" else 12  # with the class token 5 or 10 tokens
    network = torchvision.models.VisionTransformer(size, 4, 3, 2, 16, 32, num_classes=5)
    network.class_token.data.normal_()
    shape = (3, size, size)
    plan = planning.trace(network, shape, multiple=4)
    (segment,) = plan.segments
    assert (len(segment.blocks), segment.fewest) == (3, 1)
    assert any("self_attention" in why for why in plan.frozen)
    smallest = rescale.build(network, plan, plan.smallest)
    (layer,) = smallest.encoder.layers
    assert layer.mlp[0].out_features == 4
    smallest(torch.randn(2, *shape)).sum().backward()
    for architecture in probes.arbitrary(plan, 1):
        probes.assert_exact(plan, architecture, rescale.skeleton(network, plan, architecture))


class Flat(nn.Module):  # the code counts on the last convolution's channels
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.again = nn.Conv2d(16, 48, 3, padding=1)
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(torch.relu(self.conv(x))).relu().mean((2, 3))
        return self.fc(x.reshape(len(x), 48))


def test_code_that_counts_on_a_width_freezes_what_ran_into_it_and_no_more() -> None:
    network = Flat()
    plan = planning.trace(network, probes.SHAPE, multiple=4)
    narrow = rescale.skeleton(network, plan, plan.smallest)
    assert (narrow.conv.out_channels, narrow.again.out_channels) == (4, 48)
    assert any(why.startswith("what again puts out cannot be narrower") for why in plan.frozen)
    checked(network, plan)
    # A channel that is fixed twice for one reason counts once.
    assert sorted(plan.frozen.values()) == [10, 48]


class Compares(nn.Module):
    """Two layers, and code that compares their widths."""

    def __init__(self, first: int = 128, second: int = 64) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, first, 3, padding=1)
        self.two = nn.Conv2d(first, second, 3, padding=1)
        self.head = nn.Linear(second, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        return self.head(self.second(y).mean((2, 3)))

    def second(self, y: Tensor) -> Tensor:
        return self.two(y)


class Twice(Compares):  # at one width
    def second(self, y: Tensor) -> Tensor:
        more = self.two(y) if y.shape[1] == 40 else 0
        return self.two(y) + more


class Table(Compares):  # that lacks some widths
    scales = dict.fromkeys(set(range(129)) - {40, 56, 88}, 2.0)

    def second(self, y: Tensor) -> Tensor:
        return self.two(y) * self.scales[y.shape[1]]


def lattice(plan: Plan) -> list[Architecture]:
    widths = itertools.product(*(range(len(each)) for each in plan.widths))
    return [Architecture(plan.baseline.blocks, each) for each in widths]


@pytest.mark.parametrize(
    ("network", "wrong"), [(Twice, {40}), (Table, {40, 56, 88}), (Compares, set())]
)
def test_a_network_that_is_not_what_is_counted_is_refused_before_it_is_trained(
    network: type[Compares], wrong: set[int]
) -> None:
    seed = network()
    plan = planning.trace(seed, (3, 8, 8), kind="channels", multiple=8)
    state, refused = torch.get_rng_state(), set[Architecture]()
    for architecture in lattice(plan):
        try:
            validation.check(seed, plan, architecture)
        except SsrError as error:
            assert re.search(r"(in two, it has \d+ MACs|KeyError: \d+)", str(error))
            refused.add(architecture)
    assert refused == {a for a in lattice(plan) if plan.channels(a)[0] in wrong}
    assert torch.equal(torch.get_rng_state(), state)


class Gated(Compares):  # where both are as wide
    def second(self, y: Tensor) -> Tensor:
        z = self.two(y)
        return z * y.mean(1, keepdim=True) if z.shape[1] == y.shape[1] else z


class Clipped(Compares):  # by another operation
    def second(self, y: Tensor) -> Tensor:
        return self.two(y.relu() if y.shape[1] > 20 else y.tanh())


@pytest.mark.parametrize(
    ("network", "first", "operation"), [(Gated, 64, "m"), (Clipped, 128, "relu|tanh")]
)
def test_of_code_that_takes_another_way_where_it_is_narrower_a_remark_is_made(
    network: type[Compares], first: int, operation: str
) -> None:
    plan = planning.trace(network(first), (3, 8, 8), kind="channels", multiple=8)
    said = rf"^the network runs \w*({operation})\w* more or less often where it is narrower"
    assert [one for one in plan.remarks if re.match(said, one)]
    plain = planning.trace(Compares(first), (3, 8, 8), kind="channels", multiple=8)
    assert plain.remarks == ()
