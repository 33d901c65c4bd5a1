"""Fresh weights are drawn as the seed network drew its own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from ssr_exp.rescaling import chosen_values, planning, rescale
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.resnet import CifarResNet
from tests.rescaling import probes
from tests.rescaling.cases import convolutions

HALF = Modifiers(depth=[1] * 3, width=[0.5, 1, 0.25])
Std = Callable[[float, float], float]


PLANS: dict[str, Plan] = {}


def built(network: nn.Module, modifiers: Modifiers = HALF) -> nn.Module:
    """Rescale a network; those that are built alike have one plan."""
    kind = repr(network)
    if kind not in PLANS:
        PLANS[kind] = planning.trace(network, (3, 8, 8), multiple=4)
    return rescale.build(network, PLANS[kind], modifiers)


def assert_spread(network: nn.Module, std: Std) -> None:
    for module in convolutions(network):
        weight = module.weight
        if weight.numel() < 500:
            continue  # too few to have a spread
        kernel = weight[0, 0].numel()
        expected = std(weight.shape[1] * kernel, weight.shape[0] * kernel)
        assert abs(weight.std().item() / expected - 1) < 5 / math.sqrt(2 * weight.numel())


def test_the_same_torch_seed_draws_the_same_weights() -> None:
    network, states = CifarResNet(8), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(built(network).state_dict())
    one, same, other = states
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["conv.weight"], other["conv.weight"])


def test_weights_are_not_the_seed_networks() -> None:
    network = CifarResNet(8)
    one, other = network.state_dict(), built(network, Modifiers.full(3)).state_dict()
    weights = [name for name in one if one[name].ndim > 1]
    assert not any(torch.equal(one[name], other[name]) for name in weights)


SCHEMES: dict[str, tuple[Callable[[torch.Tensor], object], Std]] = {
    "fan_in": (
        lambda w: nn.init.kaiming_normal_(w, mode="fan_in", nonlinearity="relu"),
        lambda inp, out: math.sqrt(2 / inp),
    ),
    "fan_out": (
        lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"),
        lambda inp, out: math.sqrt(2 / out),
    ),
    "glorot": (nn.init.xavier_normal_, lambda inp, out: math.sqrt(2 / (inp + out))),
}


@pytest.mark.parametrize(("draw", "std"), SCHEMES.values(), ids=list(SCHEMES))
def test_new_fans_get_new_values(draw: Callable[[torch.Tensor], object], std: Std) -> None:
    network = CifarResNet(14)
    for module in convolutions(network):
        draw(module.weight)
    assert_spread(built(network), std)
    assert_spread(built(network, Modifiers(depth=[0.5] * 3, width=[0.25] * 3)), std)


def test_torchs_own_initialisation_is_repeated() -> None:
    network = probes.build("Residual")
    made = built(network, Modifiers(depth=[1, 1], width=[0.5, 0.5]))
    assert_spread(made, lambda inp, out: math.sqrt(1 / (3 * inp)))
    for module in convolutions(made):
        assert module.weight.abs().max() <= 1 / math.sqrt(module.weight[0].numel())


def test_the_classifier_keeps_torchs_own_initialisation() -> None:
    weight = built(CifarResNet(8)).fc.weight
    bound = 1 / math.sqrt(weight.shape[1])
    assert 0.9 * bound < weight.abs().max() <= bound


def test_memory_that_nobody_filled_follows_no_rule() -> None:
    network = CifarResNet(8)
    with torch.no_grad():  # as `to_empty` may leave it: a spread of 0, and not constant
        network.fc.weight.zero_()[0, 0] = 1e-45
    assert all(p.isfinite().all() for p in built(network).parameters())


def test_batch_norms_start_anew() -> None:
    network = CifarResNet(8)
    network(torch.randn(4, 3, 8, 8))
    made = built(network, Modifiers.full(3))
    norms = [m for m in made.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        assert (norm.weight == 1).all() and (norm.bias == 0).all()
        assert (norm.running_mean == 0).all() and (norm.running_var == 1).all()
        assert norm.num_batches_tracked == 0


def test_gains_that_start_at_zero_still_do() -> None:
    network = ResNet(BasicBlock, [2, 1, 1, 1], zero_init_residual=True)
    made = built(network, Modifiers(depth=[0.5, 1, 1, 1], width=[0.5] * 4))
    gains = {name: p for name, p in made.named_parameters() if name.endswith("bn2.weight")}
    assert len(gains) == 4
    assert all((gain == 0).all() for gain in gains.values())
    assert all((p == 1).all() for name, p in made.named_parameters() if name.endswith("bn1.weight"))


def test_constant_parameters_of_any_module_keep_their_constant() -> None:
    made = built(probes.build("LayerScale"), Modifiers(depth=[1, 1], width=[0.5, 0.5]))
    gains = [p for name, p in made.named_parameters() if name.endswith("gamma")]
    assert [len(gain) for gain in gains] == [8] * 3 + [16] * 2
    assert all((gain == gain.new_tensor(1e-2)).all() for gain in gains)


def test_parameters_that_no_module_draws_keep_their_mean_and_spread() -> None:
    network = probes.build("LayerScale")
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.normal_(parameter, 3, 0.1)
    made = built(network, Modifiers(depth=[1, 1], width=[0.5, 0.5]))
    gains = torch.cat([p.flatten() for n, p in made.named_parameters() if n.endswith("gamma")])
    assert abs(gains.mean() - 3) < 0.2
    assert 0.02 < gains.std() < 0.2


class Own(nn.Module):
    """A product whose weight no layer of PyTorch's holds, nor any of its own draws again."""

    def __init__(self, inp: int, out: int, draw: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.groups = None  # says nothing of fans
        self.weight = nn.Parameter(torch.empty(out, inp, 3, 3))
        draw(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.weight, padding=1)


class Turned(Own):
    """The same, with what it puts out along the second dimension."""

    def __init__(self, inp: int, out: int, draw: Callable[[torch.Tensor], object]) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.empty(inp, out, 3, 3))
        draw(self.weight.transpose(0, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv_transpose2d(x, self.weight, padding=1)


def own_layers(layer: type[Own], draw: Callable[[torch.Tensor], object]) -> nn.Sequential:
    layers = [layer(3, 64, draw), *(layer(64, 64, draw) for _ in range(3))]
    return nn.Sequential(*layers, nn.Conv2d(64, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("layer", [Own, Turned])
@pytest.mark.parametrize(("draw", "std"), SCHEMES.values(), ids=list(SCHEMES))
def test_weights_of_ones_own_products_get_values_of_their_new_fans(
    layer: type[Own], draw: Callable[[torch.Tensor], object], std: Std
) -> None:
    torch.manual_seed(0)
    network = own_layers(layer, draw)
    plan = planning.trace(network, (3, 8, 8), kind="channels")
    for architecture in (plan.baseline, plan.smallest):
        made = rescale.build(network, plan, architecture)
        for own in made[1:4]:
            weight = own.weight.transpose(0, 1) if layer is Turned else own.weight
            kernel = weight[0, 0].numel()
            expected = std(weight.shape[1] * kernel, weight.shape[0] * kernel)
            assert abs(weight.std().item() / expected - 1) < 5 / math.sqrt(2 * weight.numel())


GAINS: dict[str, Callable[[torch.Tensor], object]] = {
    "leaky": lambda w: nn.init.kaiming_normal_(w, a=0.5),
    "tanh": lambda w: nn.init.xavier_uniform_(w, gain=5 / 3),
    "fan_out": lambda w: nn.init.kaiming_uniform_(w, a=0.5, mode="fan_out"),
}


@pytest.mark.parametrize("layer", [Own, nn.Conv2d])
@pytest.mark.parametrize("draw", GAINS.values(), ids=list(GAINS))
def test_any_gain_over_the_fans_is_repeated(
    layer: type[nn.Module], draw: Callable[[torch.Tensor], object]
) -> None:
    torch.manual_seed(0)
    pairs = [(3, 64), (64, 48), (48, 32), (32, 64)]
    layers = [Own(*p, draw) if layer is Own else nn.Conv2d(*p, 3, padding=1) for p in pairs]
    for one in layers:
        draw(one.weight)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    plan = planning.trace(network, (3, 8, 8), kind="channels")
    made = rescale.build(network, plan, plan.smallest)
    for one in made[1:4]:
        expected = torch.empty_like(one.weight)
        draw(expected)
        assert 0.85 < one.weight.std() / expected.std() < 1.15


def test_a_small_spread_of_one_layer_is_kept() -> None:
    network = own_layers(Own, SCHEMES["fan_in"][0])
    nn.init.normal_(network[2].weight, 0, 0.001)
    plan = planning.trace(network, (3, 8, 8), kind="channels")
    made = rescale.build(network, plan, plan.smallest)
    assert 0.0008 < made[2].weight.std() < 0.0012


def test_a_spread_that_no_fan_has_made_is_kept() -> None:
    network = own_layers(Own, nn.init.normal_)
    plan = planning.trace(network, (3, 8, 8), kind="channels")
    made = rescale.build(network, plan, plan.smallest)
    assert all(abs(own.weight.std() - 1) < 0.2 for own in made[1:4])


class Pieces(nn.Module):
    """Layers whose first values were chosen, each in a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.grey = nn.Parameter(torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1))
        self.width = nn.Parameter(torch.rand(32) + 0.01)
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()
        )
        self.up, self.head = nn.Conv2d(32, 128, 3, padding=1), nn.Conv2d(32, 1, 1)
        self.classes, self.warp = nn.Linear(32, 4), nn.Linear(32, 6)
        for conv in convolutions(self):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        nn.init.orthogonal_(self.body[2].weight, 1.4)
        nn.init.normal_(self.head.weight, 0, 0.01)
        with torch.no_grad():
            kernel = torch.empty(32, 32, 3, 3)
            nn.init.kaiming_normal_(kernel)
            self.up.weight.copy_(kernel.repeat_interleave(4, 0))  # ICNR
            self.classes.bias.copy_(torch.tensor([2.2, -2.2, 0.01, 0.02]))
            self.warp.weight.zero_()
            self.warp.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x * self.grey) * self.width.sqrt()[:, None, None]
        x = nn.functional.pixel_shuffle(self.up(x), 2)
        heat, flat = self.head(x).mean((2, 3)), x.mean((2, 3))
        return torch.cat([heat, self.classes(flat), self.warp(flat)], 1)


@pytest.mark.parametrize("seed", range(3))
def test_first_values_that_were_chosen_are_kept(seed: int) -> None:
    torch.manual_seed(seed)
    network = Pieces()
    plan = planning.trace(network, (3, 8, 8), kind="channels")
    made = rescale.build(network, plan, plan.smallest)
    assert len(made.width) < 32 and bool((made.width > 0).all())
    assert torch.equal(made.grey, network.grey)
    assert torch.equal(made.classes.bias, network.classes.bias)
    assert torch.equal(made.warp.bias, network.warp.bias) and not made.warp.weight.any()
    assert 0.003 < float(made.head.weight.detach().std()) < 0.03
    rows = made.up.weight.detach().unflatten(0, (-1, 4))
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    flat = made.body[2].weight.detach().flatten(1)
    assert torch.allclose(flat @ flat.T, 1.4**2 * torch.eye(len(flat)), atol=1e-4)
    assert not torch.equal(flat, network.body[2].weight.flatten(1)[: len(flat), : flat.shape[1]])


def test_an_upsampling_is_drawn_for_its_own_inputs_with_rows_alike() -> None:
    sizes = ((3, 64), (64, 64), (64, 256))
    network = nn.Sequential(*(nn.Conv2d(*size, 3, padding=1) for size in sizes))
    for conv in convolutions(network):
        nn.init.kaiming_normal_(conv.weight)
    network.extend([nn.PixelShuffle(2), nn.Conv2d(64, 5, 1)])
    with torch.no_grad():
        network[2].weight.copy_(network[2].weight[::4].repeat_interleave(4, 0))  # ICNR
    plan, made = planning.trace(network, (3, 8, 8), kind="channels"), []
    for seed in range(2):
        torch.manual_seed(seed)
        weight = rescale.build(network, plan, plan.smallest)[2].weight.detach()
        rows = weight.unflatten(0, (-1, 4))
        assert torch.equal(rows, rows[:, :1].expand_as(rows))
        made.append(weight[::4])
        assert abs(float(weight[::4].std()) / math.sqrt(2 / weight[0].numel()) - 1) < 0.2
    assert not torch.isclose(*made).all()


class Sounds(nn.Module):
    """Reads a spectrum through bands, notes and time; each part is begun as its author chose."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.Parameter(torch.linspace(30, 8000, 80)[:, None])
        self.body, self.norm = nn.Conv1d(1, 80, 9), nn.BatchNorm1d(80)
        self.mix = nn.Conv1d(80, 64, 1)
        self.time, self.plain = (nn.GRU(64, 64, batch_first=True) for _ in range(2))
        self.notes, self.usual = nn.Embedding(50, 64), nn.Embedding(50, 64)
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(64, 5))
        nn.init.normal_(self.norm.weight, 1, 0.02)
        nn.init.normal_(self.norm.bias, 0, 0.1)
        nn.init.orthogonal_(self.time.weight_hh_l0)
        nn.init.normal_(self.notes.weight, 0, 0.02)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([-4.0, -3.0, -1.0, -2.0, -0.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.mix(self.norm(self.body(x) * self.edges / 8000)).transpose(1, 2)
        note = x.new_zeros(len(x), dtype=torch.int64)
        x = self.plain(self.time(x + (self.notes(note) + self.usual(note))[:, None])[0])[0]
        return self.head(x.mean(1))


def test_what_a_module_draws_and_its_constructor_drew_anew_is_drawn_so() -> None:
    network = Sounds()
    plan = planning.trace(network, (1, 64), multiple=8)
    made = rescale.build(network, plan, plan.smallest)
    assert 0.005 < float(made.norm.weight.detach().std()) < 0.05
    assert 0.04 < float(made.norm.bias.detach().std()) < 0.2
    assert 0.01 < float(made.notes.weight.detach().std()) < 0.03
    assert 0.8 < float(made.usual.weight.detach().std()) < 1.2
    inner = made.time.weight_hh_l0.detach()
    assert torch.allclose(inner.T @ inner, torch.eye(inner.shape[1]), atol=1e-4)
    bound = made.plain.hidden_size**-0.5  # as PyTorch draws it at its own width
    assert 0.9 * bound < float(made.plain.weight_hh_l0.detach().abs().max()) <= bound
    assert torch.equal(made.head.bias, network.head.bias)
    assert not any("head.parametrizations" in remark for remark in plan.remarks)


def test_ordered_values_keep_their_whole_range() -> None:
    network = Sounds()
    plan = planning.trace(network, (1, 64), multiple=8)
    edges = rescale.build(network, plan, plan.smallest).edges.detach()
    assert len(edges) < 80 and bool((edges.flatten().diff() > 0).all())
    assert float(edges[0]) == 30 and float(edges[-1]) == 8000


@pytest.mark.parametrize(
    "values",
    [
        [1.0, 0, -1, 2, 0, -2, 1, 0, -1],
        [0.0, 1, 0, 1, -4, 1, 0, 1, 0],
        [1.0, 0, -1, 2, 0, -2, 1, 0, -1, 1, 2, 1, 0, 0, 0, -1, -2, -1],
    ],
    ids=["Sobel", "Laplace", "both of Sobel"],
)
@pytest.mark.parametrize("holder", [nn.Module, functools.partial(nn.Conv2d, 1, 2, 3)])
def test_small_kernels_are_kept(values: list[float], holder: Callable[[], nn.Module]) -> None:
    assert is_chosen(torch.tensor(values).view(-1, 1, 3, 3), holder())
    assert not is_chosen(torch.randn(2, 1, 3, 3), nn.Conv2d(1, 2, 3))


SPECTRUM = torch.arange(1.0, 17).log()


@pytest.mark.parametrize(
    ("row", "holder"),
    [
        ([0.25, 0.5, 0.25], nn.Conv1d(64, 64, 3, groups=64)),
        ([-1.0, 0, 1], nn.Conv1d(64, 64, 3, groups=64)),
        ([0.25, 0.75, 0.75, 0.25], nn.ConvTranspose1d(64, 64, 4, 2, groups=64)),
        (SPECTRUM.tolist(), nn.Module()),
        ((0.5**SPECTRUM).tolist(), nn.Conv1d(64, 64, 16, groups=64)),
    ],
    ids=["blur", "difference", "upsampling", "spectrum", "decay"],
)
def test_what_each_channel_has_alike_is_kept(row: list[float], holder: nn.Module) -> None:
    assert is_chosen(torch.tensor(row).expand(64, 1, -1).contiguous(), holder)


class Positions(nn.Module):
    """Draws one of its weights by itself, and is told the other: a table of sines."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Parameter(torch.empty(64, 64))
        angles = torch.arange(197.0)[:, None] / 1e4 ** (torch.arange(32.0) / 32)
        self.table = nn.Parameter(torch.cat([angles.sin(), angles.cos()], 1))
        self.dummy = nn.Parameter(torch.empty(0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.proj)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.proj) + self.table[: x.shape[1]]


def test_what_a_modules_own_draw_leaves_alone_is_kept_if_it_shows_a_pattern() -> None:
    network = nn.Sequential(nn.Linear(8, 64), Positions(), nn.Linear(64, 5))
    assert chosen_values.read(network).chosen == {"1.table"}
    plan = planning.trace(network, (12, 8), multiple=8)
    made = rescale.build(network, plan, plan.smallest)
    rows, columns = made[1].table.shape
    assert torch.equal(made[1].table, network[1].table[:rows, :columns])


def test_biases_that_were_all_drawn_alike_are_drawn_so() -> None:
    """As by a recipe that sets each layer of a network."""
    layers = [nn.Linear(8, 32), *(nn.Linear(32, 32) for _ in range(9)), nn.Embedding(40, 32)]
    network = nn.Sequential(*layers)
    for layer in layers[:-1]:
        nn.init.normal_(layer.bias)
    nn.init.normal_(layers[-1].weight, 0, 0.02)
    first_values = chosen_values.read(network)
    assert not first_values.chosen
    assert first_values.drawn == {"10.weight", *(f"{number}.bias" for number in range(10))}
    for number, layer in enumerate(layers[:-1]):  # as training leaves them
        nn.init.normal_(layer.bias, 0, 1 + number)
    assert chosen_values.read(network).drawn == {"10.weight"}


def test_a_norm_that_is_told_its_statistics_shows_no_training() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.Conv2d(3, 8, 3))
    network[0].running_mean += 0.5
    assert not chosen_values.is_trained(network)


def is_chosen(values: torch.Tensor, holder: nn.Module) -> bool:
    holder.weight = nn.Parameter(values)
    return "weight" in chosen_values.read(holder).chosen


def test_a_zeroed_part_does_not_stand_for_a_random_weight() -> None:
    head, stem = nn.Conv2d(256, 84, 3), nn.Conv2d(3, 64, 7)
    with torch.no_grad():
        head.weight[:4] = 0
        stem.weight[:, 0] = 0
    for conv in (head, stem):
        assert not chosen_values.read(conv).chosen
        assert not chosen_values.repeats_rows(conv.weight.detach())


def test_trained_biases_were_not_chosen() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU()
    ).extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)])
    for module in (network[0], network[3], network[7]):
        nn.init.normal_(module.bias, 0, 1)
    nn.init.normal_(network[1].weight, 1, 0.1)
    chosen, drawn = {"0.bias", "3.bias", "7.bias"}, {"1.weight"}
    for batches in range(1, 12):
        network(torch.randn(4, 3, 8, 8))  # a constructor may do so to learn a size
        is_trained = batches > chosen_values.DRY_RUNS
        assert chosen_values.is_trained(network) is is_trained
        first_values = chosen_values.read(network)
        assert first_values.chosen == (set() if is_trained else chosen)
        assert first_values.drawn == (set() if is_trained else drawn)
    network[1].num_batches_tracked.zero_()  # as in old files
    assert chosen_values.is_trained(network)


def test_layers_that_are_too_small_to_tell_a_rule_keep_a_small_spread() -> None:
    network = nn.Sequential(nn.Conv2d(3, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(64, 2))
    nn.init.normal_(network[3].weight, 0, 1e-3)
    plan = planning.trace(network, (3, 8, 8), kind="channels")
    made = rescale.build(network, plan, plan.smallest)
    assert 3e-4 < float(made[3].weight.detach().std()) < 3e-3


def test_complex_weights_are_drawn_with_their_spread() -> None:
    """Of a network in the frequency domain, as Fourier layers are."""

    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1)
            )
            self.head = nn.Conv2d(32, 10, 1)
            self.mix = nn.Linear(32, 32, dtype=torch.cfloat)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.fft.fft2(self.stem(x)).permute(0, 2, 3, 1)
            x = torch.fft.ifft2(self.mix(x).permute(0, 3, 1, 2)).real
            return self.head(x).mean((2, 3))

    network = Spectral()
    plan = planning.trace(network, (3, 8, 8))
    made = rescale.build(network, plan, plan.smallest)
    assert made.mix.weight.is_complex()
    own = nn.Linear(made.mix.in_features, made.mix.out_features, dtype=torch.cfloat)
    assert 0.7 < float((made.mix.weight.std() / own.weight.std()).detach()) < 1.4
