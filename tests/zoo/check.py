"""Check one network of the zoo: rescale it at random, run it, count it again, export it."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssr_exp.errors import cause
from ssr_exp.rescaling import cost, lattice, meta, planning, rescale
from ssr_exp.rescaling.plan import Architecture, Plan
from tests.zoo import counts, members
from tests.zoo.rows import Row

SEED = 0
CLASSES = 10
SIZES = (64, 96, 128, 224, 256)  # pixels
LARGEST = 60_000_000  # parameters; what is larger runs on the meta device, without data
BATCH = 2  # images
TOLERANCE = 1e-4  # of an exported network's logits, relative to the largest of them


def check(name: str) -> Row:
    """Check one network; whatever goes wrong stands in the row."""
    row = Row(name)
    start, step = time.perf_counter(), "construction"
    try:
        torch.manual_seed(SEED)
        network = members.build(name, CLASSES)
        row.params = sum(parameter.numel() for parameter in network.parameters())
        row.pixels = _pixels(network)
        row.idle = sorted(_idle(network, _image(BATCH, row.pixels, "meta")))
        step = "plan"
        member = Member(network, _planned(network, row), row)
    except Exception as error:
        row.problems.append(f"{step}: {located(error)}")
    else:
        row.problems += member.problems()
    row.wall_s = round(time.perf_counter() - start, 1)
    return row


def drawn(plan: Plan, rng: random.Random) -> dict[str, Architecture]:
    """Draw a random depth, a random width, and both at once; add the two extremes."""
    full = plan.baseline
    blocks, joint_blocks = (
        tuple(rng.randint(segment.fewest, len(segment.blocks)) for segment in plan.segments)
        for _ in range(2)
    )
    widths, joint_widths = (
        tuple(rng.randrange(len(widths)) for widths in plan.widths) for _ in range(2)
    )
    return {
        "full": full,
        "depth": Architecture(blocks, full.widths),
        "width": Architecture(full.blocks, widths),
        "joint": Architecture(joint_blocks, joint_widths),
        "smallest": plan.smallest,
    }


@dataclass
class Member:
    """A network whose plan was found, and the row that is being filled."""

    network: nn.Module
    plan: Plan
    row: Row

    def problems(self) -> Iterator[str]:
        """Name all that is wrong with its rescaled networks."""
        rng = random.Random(f"{SEED}/{self.row.name}")
        for kind, architecture in drawn(self.plan, rng).items():
            try:
                found = [*self._check(kind, architecture)]
            except Exception as error:
                found = [located(error)]
            yield from (f"{kind}: {problem}" for problem in found)

    def _check(self, kind: str, architecture: Architecture) -> Iterator[str]:
        planned = cost.count_one(self.plan, architecture)
        shadow = rescale.skeleton(self.network, self.plan, architecture)
        for name, counted in counts.run(shadow, self._image(1, "meta"))._asdict().items():
            if counted != getattr(planned, name):
                yield f"{counted} {name} counted, {getattr(planned, name)} planned"
        yield from (f"{path} contradicts its weight" for path in counts.stale(shadow))
        if kind == "full":
            yield from _differences(self.network, shadow)
        device = "cpu" if planned.params < LARGEST else "meta"
        if device == "cpu" and kind != "full":
            shadow = rescale.build(self.network, self.plan, architecture)
        yield from self._learns(shadow, architecture)
        if kind == "joint":
            self.row.device = device
            self.row.joint = [[*architecture.blocks], [*architecture.widths]]
            yield from self._exports(shadow, device)

    def _learns(self, rescaled: nn.Module, architecture: Architecture) -> Iterator[str]:
        """Run forward and backward; compare which parameters get a gradient with the seed's."""
        device = next(rescaled.parameters()).device.type
        logits = _trained(rescaled, self._image(BATCH, device))
        if tuple(logits.shape) != (BATCH, CLASSES):
            yield f"logits of {tuple(logits.shape)}"
        names = rescale.names(self.network, self.plan, architecture)
        for name, parameter in rescaled.named_parameters():
            if parameter.grad is None:
                if names[name] not in self.row.idle:
                    yield f"{name} gets no gradient"
            elif parameter.grad.shape != parameter.shape:
                yield f"{name} gets a gradient of another shape"
        if device == "cpu" and not logits.isfinite().all():
            yield "logits that are not finite"

    def _exports(self, rescaled: nn.Module, device: str) -> Iterator[str]:
        """Export a network; its logits stay what they were."""
        image = self._image(1, device)
        rescaled.eval().requires_grad_(False)
        start = time.perf_counter()
        program = torch.export.export(rescaled, (image,))
        self.row.export_s = round(time.perf_counter() - start, 1)
        if device == "cpu":
            wanted, got = rescaled(image), program.module()(image)
            apart = float((wanted - got).abs().max() / wanted.abs().max())
            if not apart <= TOLERANCE:
                yield f"the exported network's logits are {apart:.1g} apart"

    def _image(self, batch: int, device: str) -> Tensor:
        return _image(batch, self.row.pixels, device)


def _image(batch: int, pixels: int, device: str) -> Tensor:
    return torch.randn(batch, 3, pixels, pixels, device=device)


def _trained(network: nn.Module, image: Tensor) -> Tensor:
    logits = network.train()(image)
    assert isinstance(logits, Tensor)
    F.cross_entropy(logits, torch.arange(len(image), device=image.device)).backward()
    return logits.detach()


def _idle(network: nn.Module, image: Tensor) -> set[str]:
    """Name the parameters of the seed network that get no gradient."""
    shadow = meta.copied(network)
    for one, other in zip(shadow.parameters(), network.parameters(), strict=True):
        one.requires_grad_(other.requires_grad)
    _trained(shadow, image)
    return {name for name, parameter in shadow.named_parameters() if parameter.grad is None}


def _pixels(network: nn.Module) -> int:
    """Find the smallest images that a network runs on, in both modes."""
    shadow = meta.copied(network)
    fixed = members.fixed_pixels(network)
    for size in (fixed,) if fixed else SIZES:
        image = _image(BATCH, size, "meta")
        try:
            with torch.no_grad():
                shadow.eval()(image)
                shadow.train()(image)
        except Exception as error:  # of the network's own code
            failure = error
        else:
            return size
    raise failure


def _planned(network: nn.Module, row: Row) -> Plan:
    start = time.process_time()
    plan = planning.trace(network, (3, row.pixels, row.pixels))
    row.plan_s = round(time.process_time() - start, 2)
    row.blocks = [len(segment.blocks) for segment in plan.segments]
    row.removable = sum(len(segment.blocks) - segment.fewest for segment in plan.segments)
    row.points = math.prod(lattice.from_plan(plan).shape)
    row.fixed, row.frozen = round(_fixed(plan), 3), dict(plan.frozen)
    small, full = (cost.count_one(plan, a).params for a in (plan.smallest, plan.baseline))
    row.smallest = round(small / full, 6)
    return plan


def _fixed(plan: Plan) -> float:
    """Count the share of output channels, of all weights but the last, that are in no group."""
    total = fixed = 0
    for name, leaf in plan.leaves.items():
        if leaf.is_parameter and len(leaf.shape) > 1 and name != f"{plan.gemms[-1].path}.weight":
            total += int(leaf.shape[0](plan.full_sizes))
            fixed += leaf.shape[0].fixed // leaf.shape[0].divisor
    return fixed / max(total, 1)


def _differences(network: nn.Module, full: nn.Module) -> Iterator[str]:
    """Compare what is built at full size with the seed network."""
    if repr(full) != repr(network):
        yield "its repr is not the seed network's"
    if counts.shapes(full) != counts.shapes(network):
        yield "its tensors have not the seed network's names and shapes"


def located(error: Exception) -> str:
    """Name an error, and the line of code that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = "" if trace is None else trace.tb_frame.f_code.co_filename.rpartition("/")[2]
    return f"{cause(error)[:300]} ({code}:{0 if trace is None else trace.tb_lineno})"
