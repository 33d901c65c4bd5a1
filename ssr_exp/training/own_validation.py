"""What stands in for a network of a user's own module is validated by that module's own code."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from ssr_exp import user_code
from ssr_exp.outputs import tensors
from ssr_exp.runs.score import Score
from ssr_exp.training import scoring, trainers

MOST_BYTES = 2**30  # of inputs that are kept, as of volumes


class StandIn(nn.Module):
    """Stands where a network was, and lets something else compute its outputs.

    What the network says of itself it says, too: `num_classes`, or the device of its parameters.
    Parts and methods it has none, as they would compute what is not the file's.

    Args:
        model: maps inputs to outputs.
        batch: inputs at once, at most.
        network: in whose place it stands.
    """

    def __init__(self, model: Callable[[Tensor], Any], batch: int, network: nn.Module) -> None:
        super().__init__()
        self._batch, self._held = batch, (model, network)  # which are no parts of it

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """List the network's, for those who ask for their device or type."""
        return self._held[1].parameters(recurse)

    def __getattr__(self, name: str) -> Any:
        """Return what the network says of itself."""
        if not name.startswith("_"):
            value = getattr(self._held[1], name, self)
            if not isinstance(value, nn.Module) and not callable(value):
                return value
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs to outputs, in as many turns as it takes."""
        turns = (self._held[0](part.contiguous()) for part in x.cpu().split(self._batch))
        parts = [next(tensors(outputs)) for outputs in turns]  # of several the one that is judged
        # a file's tensors may lie in memory that its next run overwrites, or be of inference mode
        return torch.cat([part.clone() for part in parts]).to(x.device)


class _Spread:
    """Keeps some rows of batches that come one by one, evenly from all; at most twice as many.

    Fewer where these would take more than `MOST_BYTES`.

    Args:
        count: how many, at most.
    """

    def __init__(self, count: int) -> None:
        self._count, self._step, self._seen = count, 1, 0
        self._kept: list[Tensor] = []

    def add(self, batch: Tensor) -> None:
        """Take those of a batch, `b x ...`, that are next; none of rows of another shape."""
        if self._kept and batch.shape[1:] != self._kept[0].shape:
            return
        first = -self._seen % self._step
        self._kept += [row.clone() for row in batch[first :: self._step]]
        self._seen += len(batch)
        row_bytes = self._kept[0].nbytes if self._kept else 0
        most = max(2, min(2 * self._count, MOST_BYTES // max(1, row_bytes)))
        while len(self._kept) > most:
            self._kept, self._step = self._kept[::2], 2 * self._step

    def taken(self) -> Tensor | None:
        """Return them, `n x ...`; None if there are none."""
        at = torch.linspace(0, len(self._kept) - 1, min(self._count, len(self._kept)))
        rows = [self._kept[int(one)] for one in at.round()]
        return torch.stack(rows) if rows else None


@dataclass
class OwnValidation:
    """Validates networks as a project does, by its own code, on the CPU.

    Args:
        place: makes the module that trains around a network, which it may change, and lets another
            compute in its place.
        data: makes the DataModule.
        network: the trained network.
        score: what the module logs.
        batch: inputs at once, at most, of what stands in for the network.
        limits: `limit_val_batches`, if the project has one.
    """

    place: Callable[[nn.Module, nn.Module], LightningModule]
    data: Callable[[], LightningDataModule]
    network: nn.Module
    score: Score
    batch: int
    limits: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)  # of the whole module, if known
    attributes: Sequence[str] = ()  # that hold the network, or a copy of it
    # what it takes to say how good a file is; see `inputs`
    puts_out: Literal["tensor", "out", "several"] = field(default="tensor", init=False)
    logs_score: bool = field(default=True, init=False)
    _own: float | None = field(default=None, init=False)  # what the network itself scores

    def inputs(self, count: int) -> Tensor | None:
        """Collect so many inputs of the network, `n x ...`, as validation gives them to it.

        They are from all over the val set, whose images often lie by class. Large ones are fewer.

        Returns:
            None if validation calls parts of the network alone.

        Raises:
            SsrError: if validation fails.
        """
        spread = _Spread(count)

        def note(_: nn.Module, args: tuple[Any, ...], outputs: Any) -> None:
            spread.add(args[0].detach().cpu())
            if not isinstance(outputs, Tensor):
                has_main = isinstance(outputs, Mapping) and "out" in outputs
                self.puts_out = "out" if has_main else "several"

        network = copy.deepcopy(self.network)  # which takes what the whole module has learnt
        network.register_forward_hook(note)
        self.logs_score = self.score.key in self._run(network)
        return spread.taken()

    def measure(self, model: Callable[[Tensor], Any]) -> float:
        """Score what maps inputs to outputs as the network does; the network itself once.

        Raises:
            SsrError: if validation fails.
        """
        if model is self.network and self._own is not None:
            return self._own
        score = scoring.read(self.score, self._run(StandIn(model, self.batch, self.network)))
        if model is self.network:
            self._own = score
        return score

    def lost(self) -> str | None:
        """Name what the module learnt beside the network and nobody kept; None if nothing is."""
        above = tuple(f"{name}." for name in self.attributes)
        learnt = (n for n, p in self._placed(nn.Identity()).named_parameters() if p.requires_grad)
        return next((n for n in learnt if n not in self.weights and not n.startswith(above)), None)

    def _placed(self, network: nn.Module) -> LightningModule:
        module = self.place(copy.deepcopy(self.network), network)
        rest = {n: self.weights[n] for n in module.state_dict() if n in self.weights}
        module.load_state_dict(rest, strict=False)
        return module

    def _run(self, network: nn.Module) -> dict[str, Any]:
        module = self._placed(network)
        with isolate_rng(), trainers.quiet():
            trainer = Trainer(
                accelerator="cpu",
                logger=DummyLogger(),
                enable_progress_bar=False,
                enable_model_summary=False,
                enable_checkpointing=False,
                inference_mode=False,
                plugins=[LightningEnvironment()],
                **self.limits,
            )
            with user_code.explained(f"{type(module).__name__} does not validate"):
                data = self.data()
                data.trainer = trainer
                data.prepare_data()
                data.setup("fit")  # many make their val set there alone
                trainer.validate(module, data, verbose=False)
        return dict(trainer.callback_metrics)
