"""A network that is to be trained by a loop of the user's own, and what that tells of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssr_exp import messages, user_code
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.cost import Cost
from ssr_exp.runs.score import Score

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Candidate:
    """A network to train.

    Attributes:
        code: its name in the study, such as `d2-1_w16-8`.
        seed: for the random numbers of its training; its first weights are drawn by it, too.
        cost: parameters, MACs and GeMMs of one sample, exact.
        folder: of its run, where a loop may keep its own checkpoints, but not as `last.ckpt`.
        origin: why it is trained: `sentinel_all`, `round3`, `finalist`, `enqueued`.
    """

    code: str
    seed: int
    cost: Cost
    folder: Path
    origin: str
    _build: Callable[[], nn.Module] = field(repr=False)

    @cached_property
    def network(self) -> nn.Module:
        """The network, with its first weights, on the CPU and in train mode; made when asked."""
        network = self._build()
        self._first = fingerprint(network.parameters())
        return network

    @property
    def is_built(self) -> bool:
        """Say whether somebody asked for the network."""
        return "network" in self.__dict__

    def has_learnt(self) -> bool:
        """Say whether any parameter of the network has changed since it was made."""
        return fingerprint(self.network.parameters()) != self._first


@dataclass(frozen=True)
class Told:
    """What a training gave.

    Attributes:
        score: on val, in its unit; None of a finalist that learnt from val, too.
        test: on test, likewise; None: not measured.
        metrics: further numbers, by name.
        epochs: how many it took; 0: not said.
        error: why the score is no number; empty: it is one.
    """

    score: float | None
    test: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    error: str = ""

    @classmethod
    def read(cls, value: Any, how: Score, **more: Any) -> Told:
        """Read what a loop says of a training: a number, or a dictionary with `score` in it.

        Args:
            value: the number, or `{"score": 0.91, "test": 0.90, "loss": 0.3}`.
            how: the networks are judged by.
            more: `test`, `metrics` and `epochs`, where they are told apart.

        Raises:
            SsrError: if it is neither, or out of the score's bounds.
        """
        if isinstance(value, Told):
            return value
        given = dict(value) if isinstance(value, Mapping) else {"score": value}
        given |= {name: part for name, part in more.items() if part is not None}
        if "score" not in given:
            raise SsrError(
                f"what was told has no score, but {', '.join(map(str, given)) or 'nothing'}: tell "
                f"a number, the {how.word} on val, or a dictionary that has it as 'score'."
            )
        if given["score"] is None and given.get("test") is None:
            raise SsrError(f"nothing was told: tell a number, the {how.word} on val.")
        metrics = {str(k): v for k, v in dict(given.pop("metrics", None) or {}).items()}
        epochs = _count(given.pop("epochs", 0))
        score, test = (_number(given.pop(name, None), name) for name in ("score", "test"))
        finite = _numbers(metrics | given)
        wrong = [v for v in (score, test) if v is not None and not math.isfinite(v)]
        if wrong:
            return cls(None, None, {}, epochs, f"the {how.word} is {wrong[0]}")
        score, test = (None if v is None else _within_bounds(v, how) for v in (score, test))
        return cls(score, test, {k: v for k, v in finite.items() if math.isfinite(v)}, epochs)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Keep the numbers of what was told beside the score, such as not the `classes` of a mAP."""
    numbers: dict[str, float] = {}
    odd: list[str] = []
    for name, value in metrics.items():
        try:
            if (number := _number(value, name)) is not None:
                numbers[name] = number
        except SsrError:
            odd.append(f"{name} ({user_code.article(value)})")
    if odd:
        messages.say_once(
            log, f"not recorded of what was told, as it is no number: {', '.join(odd)}"
        )
    return numbers


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.detach().cpu().item()
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise SsrError(
            f"the {name} that was told is {user_code.article(value)}, and it must be a number."
        ) from None


def _count(epochs: Any) -> int:
    value = _number(epochs, "number of epochs")
    if value is None or not 0 <= value < 2**31 or value != int(value):
        raise SsrError(f"the number of epochs that was told is {epochs}: tell a whole number.")
    return int(value)


def seconds(value: Any) -> float:
    """Read how long a training took.

    Raises:
        SsrError: if it is no number of seconds, 0 or more.
    """
    number = _number(value, "wall_s")
    if number is None or not 0 <= number < math.inf:
        raise SsrError(f"the wall_s that was told is {value}: tell seconds, 0 or more.")
    return number


def _within_bounds(value: float, how: Score) -> float:
    if (inside := how.within_bounds(value)) is not None:
        return inside
    _, high = how.limits
    scale = ""
    if high == 1 and 1 < value <= 100:
        scale = " Is it in percent? Then divide it by 100."
    raise SsrError(
        f"the {how.word} that was told is {value:g}, and it lies from {how.between()}: nothing was "
        f"recorded.{scale}"
    )


def fingerprint(tensors: Iterable[Tensor]) -> tuple[float, ...]:
    """Take two sums of each tensor, which training changes."""
    with torch.no_grad():
        cpu = (t.detach().cpu().double() for t in tensors if t.numel())
        pairs = ((t.sum(), t.square().sum()) for t in cpu)
        return tuple(float(value) for pair in pairs for value in pair)
