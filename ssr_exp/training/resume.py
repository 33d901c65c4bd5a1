"""Go on with a training that was killed, so that it ends as if nothing had happened.

Each epoch ends with `last.ckpt`: weights, averages, optimizer, schedule and callbacks by Lightning,
and by `ResumeState` the generators, what val measured and the time spent. Of several processes that
train together the first writes it, and each goes on with its own generators. Order and augmentation
of the images depend on the seed and the epoch alone. On a CPU the result is the same bit for bit.
"""

from __future__ import annotations

import logging
import operator
import random
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import Tensor, nn

from ssr_exp import files, user_code
from ssr_exp.errors import cause
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import LAST_CHECKPOINT
from ssr_exp.tasks import processes
from ssr_exp.terminal import PROGRESS
from ssr_exp.training.scoring import Fields, ScoreWatch

log = logging.getLogger(__name__)

APART = 0x9E3779B1  # between the seeds of processes that train together
KEY = "ssr_exp"  # in a checkpoint
SCHEMA = 2  # of what is kept there
HYPERPARAMETERS = ("hyper_parameters", "datamodule_hyper_parameters")
LIGHTNING = (
    "callbacks",
    "optimizer_states",
    "lr_schedulers",
    "loops",
    "hparams_name",
    "hparams_type",
    "datamodule_hparams_name",
    "datamodule_hparams_type",
    *HYPERPARAMETERS,
)  # keys of a checkpoint that a module's own hooks neither write nor read
PLAIN = {int, float, bool, str, bytes, complex, type(None), Tensor, torch.Size, torch.dtype}
MAPPINGS = (dict, OrderedDict, Counter)  # a Counter holds the milestones of MultiStepLR
MEASURED = ("score", "best_score", "scores", "metrics", "tables")  # fields of a record


class ResumeState(Callback):
    """Keep what Lightning does not: generators, the last measurements, and the time spent.

    Args:
        watch: notes the score.
        before_s: seconds that earlier processes spent on this training.
    """

    def __init__(self, watch: ScoreWatch, before_s: float = 0.0) -> None:
        self._watch = watch
        self._before_s = before_s
        self._begun = time.perf_counter()
        self._generators: dict[str, Any] | None = None
        self._plateaus: list[float | None] = []
        self._goes_on = False

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        generators = processes.gathered(_generators(trainer))
        checkpoint[KEY] = {
            "schema": SCHEMA,
            "generators": generators[0],
            **({"generators_of_ranks": generators} if len(generators) > 1 else {}),
            "fields": self._watch.fields(trainer),
            "is_late": self._watch.is_late(trainer),
            "has_stopped": trainer.should_stop and trainer.fit_loop._can_stop_early,
            "plateaus": [_seen(trainer, config) for config in trainer.lr_scheduler_configs],
            "spent_s": self._before_s + time.perf_counter() - self._begun,
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if KEY not in checkpoint:
            return
        kept = checkpoint[KEY]
        states = kept.get("generators_of_ranks", [kept["generators"]])
        if trainer.global_rank < len(states):  # else it draws from new ones
            self._generators = states[trainer.global_rank]
        self._plateaus = kept.get("plateaus", [])
        self._goes_on = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the steps of schedules that came after the checkpoint, before anything is drawn.

        Let each of several processes draw numbers of its own, as for dropout.
        """
        for config, value in zip(trainer.lr_scheduler_configs, self._plateaus, strict=False):
            if value is not None:
                pl_module.lr_scheduler_step(config.scheduler, value)
        if trainer.global_rank:
            # Not by `seed_everything`, whose seed all samplers have to share.
            seed = (torch.initial_seed() + trainer.global_rank * APART) % 2**32
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw on from where the last epoch ended."""
        if self._generators is not None:
            _restore(self._generators, trainer)
            self._generators = None
        if self._goes_on:
            self._goes_on = False
            # Else the loader that was begun before this would go on, in another order: begin anew.
            trainer.fit_loop._resuming_from_checkpoint = False


def _seen(trainer: Trainer, config: LRSchedulerConfig) -> float | None:
    """Read what a schedule will see once the checkpoint is written; None if it takes no step then.

    Lightning steps those that wait for what val measures (`ReduceLROnPlateau`) after all callbacks.
    """
    is_due = (trainer.current_epoch + 1) % config.frequency == 0 and config.interval == "epoch"
    if not (
        config.reduce_on_plateau and is_due and trainer.lightning_module.automatic_optimization
    ):
        return None
    value = trainer.callback_metrics.get(str(config.monitor))
    return None if value is None else float(value)


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all, whatever happens meanwhile, of plain data.

    What else a module of the user's own would have kept is left out, and named once. Without it,
    hyperparameters apart, no training goes on.
    """

    def __init__(self) -> None:
        super().__init__()
        self._named: set[str] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        odd: dict[str, str] = {}
        content = _plain(checkpoint, "", odd)
        lost = sorted(where for where in odd if not where.startswith(HYPERPARAMETERS))
        if lost and KEY in content:
            content[KEY]["lost"] = lost
        for where in sorted(odd.keys() - self._named):
            then = ": if it is killed, this training begins anew" if where in lost else ""
            log.info("%s is %s, which no checkpoint keeps%s", where, odd[where], then)
        self._named |= odd.keys()
        files.write_checkpoint(Path(path), content)


def is_of_lightning(where: str) -> bool:
    """Say whether a place in a checkpoint is not what a module's own hook wrote there."""
    return re.split(r"[.\[]", where, maxsplit=1)[0] in LIGHTNING


def _plain(value: Any, where: str, odd: dict[str, str]) -> Any:
    """Copy the containers of a checkpoint without what is not plain data; notes that in `odd`."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is nn.Parameter or type(value) in PLAIN:
        return value
    is_hyper = where in HYPERPARAMETERS
    if type(value) in MAPPINGS or (is_hyper and isinstance(value, Mapping)):
        parts = {k: _plain(part, f"{where}.{k}".lstrip("."), odd) for k, part in value.items()}
        return type(value)(parts) if type(value) in MAPPINGS else parts
    if type(value) in (list, tuple, set):
        return type(value)(_plain(part, f"{where}[]", odd) for part in value)
    odd[where] = user_code.article(value)
    return None


@dataclass(frozen=True)
class LastCheckpoint:
    """What a killed training left."""

    path: Path
    epochs: int  # that were completed
    fields: Fields  # of the record: what val measured after them
    spent_s: float  # by earlier processes
    is_late: bool = False  # whether it was not validated after its last step
    has_stopped: bool = False  # whether a callback of the user's own ended it

    def is_last(self, epochs: int) -> bool:
        """Say whether nothing is left to train, of so many epochs."""
        return self.has_stopped or self.epochs >= epochs


def last_checkpoint(folder: Path) -> LastCheckpoint | None:
    """Find the checkpoint that a killed training left.

    One that cannot be used is left where it is until the first epoch replaces it.
    """
    path = folder / LAST_CHECKPOINT
    if not path.exists():
        return None
    try:
        content = files.read_checkpoint(path)
        state = content[KEY]
        if state["schema"] > SCHEMA:
            raise ValueError(f"it is of version {state['schema']}")
        epochs, fields = int(content["epoch"]) + 1, _measured(state)
        if lost := state.get("lost"):
            raise ValueError(f"{lost[0]} could not be kept there")
        if not isinstance(state["generators"], dict):
            raise ValueError("it holds no states of generators")
        is_late, has_stopped = (bool(state.get(key)) for key in ("is_late", "has_stopped"))
        last = LastCheckpoint(path, epochs, fields, float(state["spent_s"]), is_late, has_stopped)
    except Exception as error:  # cut short, damaged, or of an earlier ssr_exp
        log.warning("%s cannot be used (%s): training from the start", path, cause(error))
        return None
    log.log(PROGRESS, "going on after epoch %d, from %s", last.epochs, path)  # in a sweep, too
    return last


def _measured(state: Mapping[str, Any]) -> Fields:
    """Read what val measured: fields of a record, and no others."""
    if "fields" not in state:  # of schema 1, which kept no epoch but the last
        old = Record.upgraded({"schema_version": 1, **state["metrics"]})
        fields = {name: old[name] for name in MEASURED if name in old}
        return fields | ({"scores": (old["score"],)} if "score" in old else {})
    fields = {name: state["fields"][name] for name in MEASURED if name in state["fields"]}
    return fields | ({"scores": tuple(fields["scores"])} if fields else {})


def _of_loaders(trainer: Trainer) -> list[torch.Generator]:
    """List the generators that loaders of the user's own draw from in training, and their samplers.

    None of loaders that are made anew after some epochs: after how many of them a training was
    killed, Lightning does not keep.
    """
    combined = trainer.fit_loop._combined_loader
    if combined is None or trainer.reload_dataloaders_every_n_epochs:  # type: ignore[attr-defined]
        return []
    drawing = [*combined.flattened]
    for name in ("sampler", "batch_sampler", "batch_sampler.sampler"):
        drawing += [_part(loader, name) for loader in combined.flattened]
    held = [getattr(part, "generator", None) for part in drawing]
    return [generator for generator in held if isinstance(generator, torch.Generator)]


def _part(loader: Any, name: str) -> Any:
    try:
        return operator.attrgetter(name)(loader)
    except AttributeError:
        return None


def _generators(trainer: Trainer) -> dict[str, Any]:
    """Copy the states of all generators, as plain data."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": [version, list(internal), gauss],
        "loaders": [generator.get_state() for generator in _of_loaders(trainer)],
    }


def _restore(state: dict[str, Any], trainer: Trainer) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in state["cuda"]])
    if state.get("mps") is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"].cpu())
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    for generator, own in zip(_of_loaders(trainer), state.get("loaders", []), strict=False):
        generator.set_state(own.cpu())
