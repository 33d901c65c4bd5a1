"""Reads a task's score, and what else it measured, from a Lightning trainer."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from ssr_exp.errors import SsrError
from ssr_exp.runs.score import Score
from ssr_exp.tasks.supervised import VAL, Diverged, Supervised
from ssr_exp.training.callbacks import Checkpoint

Fields = dict[str, Any]
"""Fields of a record, by its names."""

MOST_NAMED = 8  # logged keys, where the one that is asked for is not among them


class ScoreWatch(Callback):
    """Notes the score after each validation, when it is that of the whole val set.

    Args:
        score: what to note.
        earlier: the scores of the epochs before, where a training goes on.
    """

    def __init__(self, score: Score, earlier: Iterable[float | None] = ()) -> None:
        self.score = score
        self.scores: list[float | None] = list(earlier)
        self._step: int | None = None  # of the last validation that was scored
        scored = [epoch for epoch, value in enumerate(self.scores) if value is not None]
        self.epoch: int | None = scored[-1] if scored else None  # of that, counted from 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put away what was logged before, which Lightning keeps where nothing new is."""
        trainer.callback_metrics.pop(self.score.key, None)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read it here: later, step values of the training may bear its name.

        A module may log it every few epochs; of the others there is none, once there was one.

        Raises:
            Diverged: if it is not finite.
            SsrError: if nothing of its name was logged, or it is out of its bounds.
        """
        if trainer.sanity_checking:
            return
        known = next((value for value in reversed(self.scores) if value is not None), None)
        is_training = trainer.state.fn is TrainerFn.FITTING
        if is_training and known is not None and self.score.key not in trainer.callback_metrics:
            trainer.callback_metrics[self.score.key] = torch.tensor(known)  # for who monitors it
            self.scores.append(None)
            return
        self._step, self.epoch = trainer.global_step, trainer.current_epoch
        self.scores.append(read(self.score, trainer.callback_metrics))

    def is_late(self, trainer: Trainer) -> bool:
        """Say whether a training went on after the last validation."""
        return self._step != trainer.global_step

    def fields(self, trainer: Trainer) -> Fields:
        """List what val measured last; nothing where there is no val."""
        if not self.scores:
            return {}
        task = trainer.lightning_module
        tables = task.tables() if isinstance(task, Supervised) else {}
        return {
            "score": self.scores[-1],
            "best_score": better(self.score, best(trainer, self.score), self.scores[-1]),
            "scores": tuple(self.scores),
            "metrics": others(trainer, self.score.key),
            "tables": {name: tuple(map(tuple, rows)) for name, rows in tables.items()},
        }


def read(score: Score, logged: Mapping[str, Any], part: str = VAL) -> float:
    """Take a score from what was logged on a part, val or test.

    Raises:
        Diverged: if it is not finite.
        SsrError: if it was not logged, or is out of its bounds.
    """
    if score.key not in logged:
        raise SsrError(f"{score.key} was not logged{_instead(score.key, list(logged), part)}.")
    value = float(logged[score.key])
    if not math.isfinite(value):
        raise Diverged(f"the training diverged: {score.key} is {value}")
    return score.check(value)


def others(trainer: Trainer, key: str) -> dict[str, float | None]:
    """List all that was logged but one key; what is not finite is None."""
    values = {name: float(v) for name, v in trainer.callback_metrics.items() if name != key}
    return {name: v if math.isfinite(v) else None for name, v in sorted(values.items())}


def check_losses(metrics: Mapping[str, float | None]) -> None:
    """Refuse losses that are no numbers: a mean may overflow where no batch's loss did.

    Raises:
        Diverged: if one is not finite.
    """
    for name in ("val/loss", "test/loss"):
        if metrics.get(name, 0.0) is None:
            raise Diverged(f"the training diverged: {name} is not finite")


def _instead(key: str, logged: Sequence[str], part: str) -> str:
    """Say which keys were logged, the nearest first."""
    step, option = ("validation_step", "key") if part == VAL else ("test_step", "test_key")
    if not logged:
        return f", and nothing else was: log it in {step} with self.log"
    near = difflib.get_close_matches(key, logged, n=MOST_NAMED, cutoff=0)
    listed = ", ".join(dict.fromkeys([*near, *logged][:MOST_NAMED]))
    return f"; these were: {listed}: type task.score.{option}=NAME"


def best(trainer: Trainer, score: Score) -> float | None:
    """Return the best epoch's score, as our own callback kept it; None if none was measured."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, Checkpoint) and callback.monitor == score.key:
            value = callback.best_model_score
            return within(score, None if value is None else float(value))
    return None


def better(score: Score, *values: float | None) -> float | None:
    """Return the best of some scores; None if there is none."""
    known = [value for value in values if value is not None]
    return max(known, key=lambda value: score.sign * value, default=None)


def within(score: Score, best_score: float | None) -> float | None:
    """Bring the best epoch's score within the bounds, as `read` brings each epoch's."""
    return None if best_score is None else score.clamped(best_score)
