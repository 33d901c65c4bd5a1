"""A table of networks that were really trained: what `benchmarks.search_quality` replays.

Two files: `NAME.csv` has a row for each training and can be read by `search.py runs=table`, and
`NAME.json` says what the study is, how its networks were trained, and on what.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ssr_exp.config import ModelConf, ModifiersConf, Shortcut
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, planning, seeds, sets
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import studies, tables
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import Store
from ssr_exp.search import space
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.space import Space

COLUMNS = ("network", "seed", "val_acc", "val_loss", "wall_s")
MANY = 4  # segments; of more, sentinels are each alone low, and all together
SEED = 0  # the training that answers; others of the same network tell the noise

TRAINING = (
    "OMP_NUM_THREADS=1 python train.py -m {} model=resnet20 segment.width_steps=4 "
    "dataset=image_folder dataset.root=IMAGES dataset.resize=12 dataset.crop_padding=1 "
    "recipe=sgd_cosine recipe.batch_size=128 recipe.warmup_epochs=0.5 trainer=cpu "
    "trainer.threads=1 trainer.max_epochs=8 trainer.progress=false logger=disabled paths.runs=RUNS"
)
SETS = (
    "modifiers=sentinel_all,uniform_width,uniform_depth seed=0,1",
    "modifiers=random modifiers.count=60 seed=0,1",
    "modifiers=random modifiers.count=1728",  # stopped before its end
)
IMAGES = (
    "CIFAR-10's training images as JPEG, numbered within each class: of each class, train/ holds "
    "the first 800 and val/ those numbered 1000 to 1249"
)


@dataclass(frozen=True, eq=False)
class Table:
    """Networks and what their trainings gave.

    Args:
        space: the lattice that they are of.
        accuracies: on val in percent, of the training with seed `SEED`.
        repeats: accuracies of all trainings of the networks that have several.
        about: what the JSON file says.
        sentinels: the baseline and all sentinels, which every search starts from.
        unseen: accuracies of other trainings, which no search sees, where there are any.
    """

    space: Space
    accuracies: Mapping[Architecture, float]
    repeats: tuple[tuple[float, ...], ...]
    about: Mapping[str, Any]
    sentinels: tuple[Architecture, ...]
    unseen: Mapping[Architecture, float] = field(default_factory=dict)

    @cached_property
    def log_params(self) -> Mapping[Architecture, float]:
        """The natural logarithm of each network's parameters."""
        return dict(zip(self.accuracies, log_params(self.space, [*self.accuracies]), strict=True))

    @cached_property
    def others(self) -> tuple[Architecture, ...]:
        """All other networks that were trained, in order."""
        return tuple(sorted(set(self.accuracies) - set(self.sentinels)))

    @property
    def val(self) -> ValSet:
        """The images that accuracies are of; finalists are tested on as many."""
        images = self.about["counts"]["images"]["val"]
        return ValSet({"": images}, tested=images)

    @property
    def baseline(self) -> Architecture:
        """The seed network."""
        return self.space.plan.baseline


def log_params(own: Space, architectures: Sequence[Architecture]) -> list[float]:
    """Return the natural logarithm of each network's parameters."""
    counts = cost.count(own.plan, cost.encode(own.plan, architectures)).params
    found: list[float] = np.log(counts).tolist()
    return found


def load(path: Path) -> Table:
    """Read a table, `path` being its CSV file.

    Raises:
        SsrError: if a network is none of its lattice, or a sentinel is missing.
    """
    about = json.loads(path.with_suffix(".json").read_text())
    own = spanned(**about["lattice"])
    found: dict[Architecture, dict[int, float]] = {}
    for row in tables.read(path):
        if row.val_acc is not None:
            found.setdefault(own.parse(row.network), {})[row.seed] = row.val_acc
    inside = set(own.architectures(own.numbers(list(found))))
    answers = {a: seen[SEED] for a, seen in sorted(found.items()) if SEED in seen and a in inside}
    repeats = tuple(tuple(seen.values()) for _, seen in sorted(found.items()) if len(seen) > 1)
    together = 1 if len(own.plan.segments) > MANY else None
    sentinels = tuple(sets.expand(own.plan, ModifiersConf("sentinel_all", together=together)))
    table = Table(own, answers, repeats, about, sentinels)
    missing = [own.code(a) for a in table.sentinels if a not in answers]
    if missing:
        raise SsrError(f"{path} lacks sentinels: {', '.join(missing)}; gather again with them.")
    return table


def spanned(
    *,
    model: str,
    shortcut: str,
    multiple: int,
    width_steps: int,
    input_shape: Sequence[int],
    num_classes: int,
    kind: str = "stage",
) -> Space:
    """Span the lattice that a table's JSON describes."""
    conf = ModelConf(model, shortcut=Shortcut(shortcut))
    network = seeds.build(conf, num_classes=num_classes, input_shape=input_shape)
    return space.from_plan(
        planning.trace(network, input_shape, multiple=multiple, kind=kind), width_steps=width_steps
    )


def gather(
    runs: Path, out: Path, *, study: str | None = None, trained_by: Sequence[str] = ()
) -> dict[str, Any]:
    """Collect a study's finished records into a table; returns what its JSON says.

    Args:
        runs: the store's folder.
        out: the CSV file; the JSON file is written beside it.
        study: its name; None where the store holds one alone.
        trained_by: the commands that trained it; none: those of `TRAINING`.

    Raises:
        SsrError: if the store holds none or several, or a record's parameters cannot be counted.
    """
    store, known = Store(runs), studies.read_all(runs)
    names = [study] if study is not None else list(known)
    if len(names) != 1 or names[0] not in known:
        raise SsrError(f"{runs} holds the studies {', '.join(known) or 'none'}: type --study NAME.")
    (name,) = names
    records = store.records(name)
    kept = [r for r in records if r.status is Status.finished and r.val_acc is not None]
    about = _about(name, known[name], kept, _configuration(store, kept))
    _check(spanned(**about["lattice"]), kept)
    about["counts"]["left_out"] = len(records) - len(kept)
    if trained_by:
        about["trained_by"] = list(trained_by)
    _write(out, kept)
    out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    return about


def _configuration(store: Store, kept: Sequence[Record]) -> dict[str, Any]:
    """Read the configuration that the first run was made with."""
    if not kept:
        raise SsrError(f"{store.root} holds no finished run.")
    folder = store.folder(kept[0].study, kept[0].network, kept[0].seed)
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def _about(
    name: str, study: dict[str, Any], kept: Sequence[Record], conf: dict[str, Any]
) -> dict[str, Any]:
    root, side = Path(conf["dataset"]["root"]), conf["dataset"]["resize"]
    parts = {part: list((root / part).glob("*/*")) for part in ("train", "val")}
    networks = {r.network for r in kept}
    return {
        "study": name,
        "definition": study,
        "lattice": {
            "model": study["model"]["name"],
            "shortcut": study["model"]["shortcut"],
            "kind": study["segment"].get("kind", "stage"),
            "multiple": study["segment"]["multiple"],
            "width_steps": conf["segment"]["width_steps"],
            "input_shape": [3, side, side],
            "num_classes": len({p.parent.name for p in parts["train"]}),
        },
        "counts": {
            "rows": len(kept),
            "networks": len(networks),
            "by_seed": _counted(str(r.seed) for r in kept),
            "images": {part: len(paths) for part, paths in parts.items()},
        },
        "epochs": sorted({r.epochs for r in kept}),
        "hours": round(sum(r.wall_s for r in kept) / 3600, 2),
        "devices": _counted(r.device for r in kept),
        "precision": sorted({r.precision for r in kept}),
        "versions": _counted(", ".join(" ".join(v) for v in r.versions.items()) for r in kept),
        "commits": _counted(str(r.git_commit) for r in kept),
        "started": [min(r.started_at for r in kept), max(r.started_at for r in kept)],
        "images": IMAGES,
        "trained_by": [TRAINING.format(words) for words in SETS],
    }


def _counted(words: Any) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _check(own: Space, kept: Sequence[Record]) -> None:
    counted = cost.count(
        own.plan, cost.encode(own.plan, [own.parse(r.network) for r in kept])
    ).params
    wrong = [r.network for r, n in zip(kept, counted.tolist(), strict=True) if r.params != n]
    if wrong:
        raise SsrError(f"{wrong[0]} has other parameters in its record than can be counted.")


def _write(out: Path, kept: Sequence[Record]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for record in sorted(kept, key=lambda r: (r.network, r.seed)):
            loss = None if record.val_loss is None else round(record.val_loss, 4)
            values = (round(record.val_acc or 0.0, 4), loss, round(record.wall_s, 1))
            writer.writerow((record.network, record.seed, *values))
