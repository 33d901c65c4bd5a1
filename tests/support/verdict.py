"""All that must hold of one rescaled network; it knows nothing of plans but their cost.

Tests of cases, the zoo and the fuzz ask it of every kind of network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssr_exp.rescaling import cost, rescale
from ssr_exp.rescaling.plan import Architecture, Plan

FUSED = (nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention, nn.TransformerEncoderLayer)
BATCH = 2  # inputs at once
ATOMS = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device, torch.Size)


def tensors(value: Any) -> list[Tensor]:
    """List the tensors in a network's output, whatever it is made of."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, ATOMS):
        return []
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple, set)):
        parts = list(value)
    elif dataclasses.is_dataclass(value):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        slots = [s for kind in type(value).__mro__ for s in getattr(kind, "__slots__", ())]
        parts = [*getattr(value, "__dict__", {}).values(), *(getattr(value, s) for s in slots)]
    return [tensor for part in parts for tensor in tensors(part)]


def example(shape: Sequence[int], batch: int = BATCH, *, device: str = "cpu") -> Tensor:
    """Draw one batch of inputs."""
    return torch.randn(batch, *shape, device=device)


def ran(network: nn.Module, x: Tensor, *, training: bool) -> list[Tensor]:
    """Run a network in one of its modes."""
    return tensors(network.train(training)(x))


def measured(network: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Count parameters, and MACs for one image in eval mode, of a real network."""
    n_params = sum(parameter.numel() for parameter in network.parameters())
    network.eval()
    if any(type(m) in FUSED for m in network.modules()):  # whose fused operation is not counted
        network, device = _without_data(network), "meta"
    else:
        device = "cpu"
    with torch.no_grad(), torch.device(device), FlopCounterMode(display=False) as counter:
        network(example(shape, 1, device=device).to(next(network.parameters()).dtype))
    return n_params, counter.get_total_flops() // 2


def _without_data(network: nn.Module) -> nn.Module:
    """Move a network to the meta device, with the tensors that its modules keep as attributes."""
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                setattr(module, name, value.to("meta"))
    return network.to("meta")


def trained(network: nn.Module, x: Tensor) -> set[str]:
    """Name the parameters that get a gradient from a network's outputs in train mode."""
    network.zero_grad(set_to_none=True)
    outputs = [y for y in ran(network, x, training=True) if y.requires_grad]
    sum(y.float().square().mean() for y in outputs).backward()  # type: ignore[union-attr]
    return {name for name, p in network.named_parameters() if p.grad is not None}


@dataclasses.dataclass
class Expected:
    """What the seed network does."""

    network: nn.Module
    shape: Sequence[int]

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        dtypes = [p.dtype for p in self.network.parameters() if p.is_floating_point()]
        self.x = example(self.shape).to(dtypes[0])
        before = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        with torch.no_grad():
            self.shapes = {
                training: [tuple(y.shape) for y in ran(self.network, self.x, training=training)]
                for training in (False, True)
            }
        self.trained = trained(self.network, self.x)
        self.network.load_state_dict(before)

    def problems(self, plan: Plan, architecture: Architecture) -> Iterator[str]:
        """Name all that is wrong with one rescaled network."""
        torch.manual_seed(1)
        built = rescale.build(self.network, plan, architecture)
        yield from self._undefined(built)
        if architecture == plan.baseline:
            yield from self._unlike(built)
        yield from self._runs(built)
        seeds = rescale.names(self.network, plan, architecture)
        learnt = {name for name, p in built.named_parameters() if p.requires_grad}
        missing = {n for n in learnt if seeds[n] in self.trained} - trained(built, self.x)
        yield from (f"{name} gets no gradient" for name in sorted(missing))
        planned, counted = cost.count_one(plan, architecture), measured(built, self.shape)
        if tuple(planned[:2]) != counted:
            yield f"{planned[:2]} planned, {counted} counted (parameters, MACs)"

    def _undefined(self, built: nn.Module) -> Iterator[str]:
        for name, tensor in [*built.named_parameters(), *built.named_buffers()]:
            if tensor.is_floating_point() and tensor.isnan().any():
                yield f"{name} is not a number"
            if tensor.is_meta:
                yield f"{name} holds no data"

    def _unlike(self, built: nn.Module) -> Iterator[str]:
        """What is not learnt is the seed's own at full size."""
        own = dict(self.network.named_parameters())
        for name, parameter in built.named_parameters():
            if not parameter.requires_grad and not torch.equal(parameter, own[name]):
                yield f"{name} is fixed, and not the seed's"

    def _runs(self, built: nn.Module) -> Iterator[str]:
        for training in (False, True):
            with torch.no_grad():
                outputs = ran(built, self.x, training=training)
            mode = "train" if training else "eval"
            shapes = [tuple(y.shape) for y in outputs]
            if shapes != self.shapes[training]:
                yield f"in {mode} mode it puts out {shapes}, the seed {self.shapes[training]}"
            if not all(y.isfinite().all() for y in outputs if y.is_floating_point()):
                yield f"in {mode} mode its output is not finite"


def can_change(plan: Plan) -> float:
    """Count the share of parameters that stand in a removable block, or whose shape can change."""
    total = free = 0
    for name, leaf in plan.leaves.items():
        if not leaf.is_parameter:
            continue
        size = 1
        for form in leaf.shape:
            size *= int(form(plan.full_sizes))
        place = plan.place(name)
        goes = place is not None and place[1] >= plan.segments[place[0]].fewest
        total += size
        free += size if goes or any(form.parts for form in leaf.shape) else 0
    return free / max(total, 1)
