"""What makes training fast on a device without being asked: precision and memory format.

Which networks gain is measured by `python -m benchmarks formats`, see `results/formats.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import nn

from ssr_exp.config import AUTO, TrainerConf
from ssr_exp.errors import SsrError

log = logging.getLogger(__name__)

FULL, HALF = "32-true", "bf16-mixed"
FIRST_CUDA = (8, 0)  # the first compute capability whose tensor cores multiply in bfloat16
MULTIPLIES = ("amx_bf16", "avx512_bf16")  # in bfloat16, of a CPU's capabilities
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def precision(conf: TrainerConf, network: nn.Module, begun: Callable[[str], bool]) -> str:
    """Choose what all networks of a study are trained in.

    Left open, it is what the study was begun in; a new one takes bfloat16 where the device
    multiplies in it and the seed network gains by it.

    Args:
        conf: what is asked for.
        network: the seed network.
        begun: tells whether there is such a study in a precision.

    Raises:
        SsrError: if the device does not have the precision that is asked for.
    """
    kind = device_type(conf.accelerator)
    if conf.precision != AUTO:
        _check(conf.precision, kind)
        return conf.precision
    best, reason = _suited(kind, network)
    for one in (best, FULL if best == HALF else HALF):
        if begun(one):
            _say(f"trained in {one}, as the study was begun")
            if one == HALF and not has_bfloat16(kind):
                _say_slow()
            return one
    _say(f"trained in {best}, {reason} (trainer.precision=auto, once for a study)")
    return best


def _suited(kind: str, network: nn.Module) -> tuple[str, str]:
    """Return the precision that suits a network on a kind of device, and why, in words."""
    if not has_bfloat16(kind):
        return FULL, "which this device is fastest in"
    if kind == "cpu" and not gains(network):
        return FULL, "as depthwise convolutions gain nothing by bfloat16 on a CPU"
    return HALF, "which this device is fastest in"


def of_own_module(conf: TrainerConf) -> str:
    """Leave a module of the user's own in float32: its code may not be made for less."""
    return FULL if conf.precision == AUTO else conf.precision


def settled(
    conf: TrainerConf, network: nn.Module, precision: str, *, is_own_module: bool = False
) -> TrainerConf:
    """Fill in what is left open, for networks that are rescaled from `network`.

    On a CPU a training stays bit-repeatable, which costs it nothing there. A module of the user's
    own, which may hold more than the network, keeps its memory format.
    """
    last = has_images(network) and not is_own_module
    is_cpu = device_type(conf.accelerator) == "cpu"
    return replace(
        conf,
        precision=precision,
        channels_last=last if conf.channels_last is None else conf.channels_last,
        deterministic=is_cpu if conf.deterministic is None else conf.deterministic,
    )


def gains(network: nn.Module) -> bool:
    """Tell whether bfloat16 speeds a network up on a CPU: not where channels are convolved alone.

    Such depthwise convolutions wait for memory, and casts of what they read and write cost more
    than a faster product saves.
    """
    convolutions = [m for m in network.modules() if isinstance(m, CONVOLUTIONS)]
    return not any(1 < m.groups == m.in_channels for m in convolutions)


def has_images(network: nn.Module) -> bool:
    """Tell whether a network's weights are of two-dimensional convolutions: these have the format.

    PyTorch refuses to give it to what has five dimensions.
    """
    ranks = {tensor.ndim for tensor in (*network.parameters(), *network.buffers())}
    return 4 in ranks and 5 not in ranks


def device_type(accelerator: str) -> str:
    """Name the kind of device that an accelerator stands for here: cuda, mps or cpu."""
    if accelerator in ("cpu", "mps"):
        return accelerator
    if accelerator in ("gpu", "cuda") or torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@cache
def has_bfloat16(kind: str) -> bool:
    """Tell whether the hardware multiplies in bfloat16; where it does not, that is slow."""
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability() >= FIRST_CUDA
    return kind == "cpu" and any(torch.cpu.get_capabilities().get(name) for name in MULTIPLIES)


def _check(precision: str, kind: str) -> None:
    """Refuse a precision that a kind of device does not have.

    Raises:
        SsrError: says which it has.
    """
    if precision == "16-mixed" and kind == "cpu":
        raise SsrError(
            "trainer.precision=16-mixed needs a GPU, and this trains on the CPU: type "
            "trainer.precision=bf16-mixed, or 32-true."
        )
    if precision.startswith("bf16") and not has_bfloat16(kind):
        _say_slow()


@cache
def _say(text: str) -> None:
    log.info("%s", text)


@cache
def _say_slow() -> None:
    log.warning(
        "this device does not multiply in bfloat16, so bf16 may take many times as long as "
        "float32: trainer.precision=32-true makes a study of its own."
    )
