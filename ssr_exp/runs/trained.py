"""Networks that were trained: as a folder that stands alone, or as a run of a study.

A folder such as a search's `best/` holds all of its network. Of a run, the study's folder says the
seed network, the record the code, and the checkpoint the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import rescale, saved
from ssr_exp.runs import studies
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import LAST_CHECKPOINT, RECORD_FILE, Store, network_weights


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network that was trained, and what is known of it."""

    network: nn.Module  # in eval mode, on the CPU
    about: saved.Description  # how it is built, and what its logits mean
    # what decided its results, as `study.json` says it; empty if that is gone
    study: Mapping[str, Any]
    study_folder: Path  # the folder of its study, or the one around a folder that stands alone


def read(
    folder: Path, remedy: str, *, trust: bool = False, trusted_model: str | None = None
) -> TrainedNetwork:
    """Read a trained network.

    Args:
        folder: one that `saved.write` made, or a run's, `<study>/<network>/seed<seed>`.
        remedy: what to do where a function would be called that nobody trusts.
        trust: call the function that makes the seed network, if a function does.
        trusted_model: the one function, as `seeds.spell` writes it, that is called all the same.

    Raises:
        SsrError: if it did not finish, is not trusted, or is missing or damaged.
    """
    record, parents = Store(folder).read(folder), folder.resolve().parents
    if record is not None:
        _check_finished(record, folder)
    stands_alone = (folder / saved.NETWORK).exists()
    home = folder if stands_alone else parents[1]
    about = saved.read(home)
    if not trust and about.model.name != trusted_model:
        saved.check_trust(home, about, remedy)
    if stands_alone:
        network = saved.load(folder, trust=True)
    elif record is not None:
        network, about = _run(folder, about, record)
    else:
        raise SsrError(
            f"the {RECORD_FILE} in {folder} cannot be read: name another run, or repeat it."
        )
    study = files.read_or_empty(home / studies.FILE)
    return TrainedNetwork(network, about, study, parents[0] if stands_alone else home)


def _check_finished(record: Record, folder: Path) -> None:
    """Refuse a run that left no trained network.

    Raises:
        SsrError: if it failed or diverged.
    """
    if record.status is not Status.finished:
        why = f" ({record.error})" if record.error else ""
        raise SsrError(
            f"the run in {folder} {record.status.value}{why}, so it left no trained network: name "
            "one that finished."
        )


def _run(
    folder: Path, study: saved.Description, record: Record
) -> tuple[nn.Module, saved.Description]:
    """Build the network of a run, and load what its training left."""
    try:
        network, plan, architecture = saved.build(study, record.network)
    except SsrError as error:
        raise SsrError(f"the network of the run in {folder} cannot be built: {error}") from None
    path = folder / LAST_CHECKPOINT
    weights = network_weights(path, study.weights_of or study.model.part or "network")
    rescale.load(network, weights, source=str(path))
    shares = plan.modifiers(architecture)
    modifiers = saved.Shares(depth=shares.depth, width=shares.width)
    about = study.model_copy(update={"network": record.network, "modifiers": modifiers})
    return network.eval(), about
