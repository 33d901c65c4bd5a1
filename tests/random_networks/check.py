"""Check one random network: plan it, build some of its architectures, and judge each."""

from __future__ import annotations

import random
import re
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import planning, rescale
from ssr_exp.rescaling.plan import Architecture, Plan
from tests.fuzz import driver
from tests.random_networks import networks, refusals
from tests.random_networks.descriptions import Description, write
from tests.support import verdict

TOO_LONG = "takes too long"
LIMIT_S = 120  # of work, for one network
DRAWN = 2  # random architectures, beside the full and the smallest one


@dataclass(frozen=True)
class Finding:  # something that is wrong
    kind: str  # the same for all that is wrong in the same way
    detail: str
    architecture: str = ""  # blocks and widths, where it is about one


@dataclass
class Result:  # what became of one network
    architectures: int = 0  # that were checked
    refusal: str = ""  # its kind; one that is not documented is a finding, too
    findings: list[Finding] = field(default_factory=list)
    frozen: set[str] = field(default_factory=set)  # why channels stay at full size
    can_remove: bool = False  # a block
    can_change: float = 0.0  # the share of its parameters


def check(description: Description) -> Result:
    result = Result()
    with driver.quiet(), driver.within(LIMIT_S, of_work=True) as restart:
        restart()
        try:
            _check(description, result)
        except driver.TooLongError as error:
            result.findings.append(Finding(TOO_LONG, str(error)))
    return result


def _check(description: Description, result: Result) -> None:
    network, twin = networks.build(description), networks.build(description)
    shape, before = networks.input_shape(description), _state(network)
    try:
        plan = planning.trace(network, shape, multiple=description.multiple, kind=description.split)
    except Exception as error:
        _note(error, description, result, "find")
        return
    expected = verdict.Expected(twin, shape)
    expected.network = network  # as it was made: it has never run
    result.can_remove = any(len(s.blocks) > s.fewest for s in plan.segments)
    result.frozen = set(map(refusals.without_names, plan.frozen))
    result.can_change = verdict.can_change(plan)
    for architecture in _architectures(plan, description):
        result.architectures += 1
        named = f"{list(architecture.blocks)} blocks, widths {list(architecture.widths)}"
        try:
            problems = [*expected.problems(plan, architecture)]
            problems += _more_problems(network, plan, architecture)
            if architecture == plan.baseline:
                full = rescale.build(network, plan, architecture)
                problems += _differences(twin, full, expected.x)
        except Exception as error:
            _note(error, description, result, named)
        else:
            result.findings += [Finding(_kind(text), text, named) for text in problems]
    if not _equal(before, _state(network)):
        result.findings.append(Finding("the seed network was changed", ""))


def _architectures(plan: Plan, description: Description) -> Iterator[Architecture]:
    rng = random.Random(write(description))
    drawn = [
        Architecture(
            tuple(rng.randint(s.fewest, len(s.blocks)) for s in plan.segments),
            tuple(rng.randrange(len(widths)) for widths in plan.widths),
        )
        for _ in range(DRAWN)
    ]
    yield from dict.fromkeys([plan.baseline, plan.smallest, *drawn])


def _more_problems(network: nn.Module, plan: Plan, architecture: Architecture) -> Iterator[str]:
    """Name what else must hold: what the seed keeps constant, or fixed, stays so."""
    built = rescale.build(network, plan, architecture)
    seeds = rescale.names(network, plan, architecture)
    originals = dict(network.named_parameters())
    for name, parameter in built.named_parameters():
        seed = originals[seeds[name]]
        is_constant = seed.numel() > 1 and bool((seed == seed.flatten()[0]).all())
        if parameter.requires_grad != seed.requires_grad:
            yield f"{name} is fixed in only one of seed and rescaled network"
        is_length = name.endswith(("_g", ".original0"))  # weight norm's, of the direction's inputs
        if is_constant and not is_length and not bool((parameter == seed.flatten()[0]).all()):
            yield f"{name} is constant in the seed"


def _differences(twin: nn.Module, full: nn.Module, x: Tensor) -> Iterator[str]:
    """Give the network of full size the seed's weights: it must compute what the seed does."""
    full.load_state_dict(twin.state_dict())
    with torch.no_grad():
        wanted, got = (verdict.ran(network, x, training=False) for network in (twin, full))
    pairs = zip(wanted, got, strict=True)
    same = (torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True) for a, b in pairs)
    if not all(same):  # a seed network may overflow, and its copy must do so, too
        yield "at full size, with the seed's weights, it computes something else"


def _state(network: nn.Module) -> dict[str, Any]:
    """Note what a plan must leave as it is."""
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())
    tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    return {"hooks": hooks, "modes": modes, "repr": repr(network), **tensors}


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name]
        for name, value in one.items()
    )


def _note(error: Exception, description: Description, result: Result, where: str) -> None:
    """Note a refusal, or an error that is none."""
    if isinstance(error, driver.TooLongError):
        raise error
    if not isinstance(error, SsrError):
        last = traceback.extract_tb(error.__traceback__)
        ours = next((f for f in reversed(last) if "ssr_exp" in f.filename), last[-1])
        place = f"{ours.filename.rpartition('/')[2]}:{ours.name}"
        text = f"{type(error).__name__}: {error}"
        kind = _kind(f"{'find' if where == 'find' else 'run'}: {text.partition(chr(10))[0]}")
        result.findings.append(Finding(f"{kind} ({place})", text, where))
        return
    text = str(error)
    result.refusal = refusals.kind(text)
    if not refusals.is_right(text, description):
        result.findings.append(Finding(f"refused: {result.refusal}", text, where))


def _kind(text: str) -> str:
    """Leave out of a text what differs between networks."""
    for pattern, word in (
        (r"\(\d[\d, ]*\) planned, \(\d[\d, ]*\) counted", "what is planned is not what is counted"),
        (r"puts out .*", "puts out other shapes than the seed"),
        (r"^\S+ ((gets no|is not|is fixed|is constant|holds no))", r"a tensor \1"),
        (r"\b[\w]+(\.[\w]+)+\b", "M"),
        (r"[\[(][\d, x\[\]()]*[\])]", "N"),
        (r"\d+", "N"),
    ):
        text = re.sub(pattern, word, text)
    return text[:160]


def kinds(findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(finding.kind for finding in findings))
