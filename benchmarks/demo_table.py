"""The demo's networks, really trained: which held-out images each training gets wrong.

A row of the table is a training of the demo (`conf/experiment/demo.yaml`) on its train images, with
one seed. `wrong` has a bit for each image of val and then of test, in hexadecimal digits, 1 where
the class is wrong; so any part of them can play val, and the rest test. What a replay asks for and
the table does not hold is trained once, and added to it.
"""

from __future__ import annotations

import csv
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra.core.global_hydra import GlobalHydra
from numpy.typing import NDArray

from ssr_exp.app import configuration
from ssr_exp.config import Config
from ssr_exp.datasets.images import Splits
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, rescale
from ssr_exp.runs.store import LAST_CHECKPOINT, Store, network_weights
from ssr_exp.training import opened_study, run
from ssr_exp.training.opened_study import OpenedStudy

ROOT = Path(__file__).parents[1]
COLUMNS = ("network", "seed", "wall_s", "wrong")
WORDS = ["experiment=demo", "logger=disabled", "trainer.progress=false", "modifiers=explicit"]

Wrong = NDArray[np.bool_]


@dataclass
class DemoTable:
    """The trainings that a table holds, and how more are made.

    Args:
        path: of the CSV file; it is written to.
        trains: train what it does not hold, instead of refusing that.
    """

    path: Path
    trains: bool = False
    rows: dict[tuple[str, int], Wrong] = field(init=False)
    trained_s: float = 0.0

    def __post_init__(self) -> None:
        """Read the table, if there is one."""
        self.rows = {}
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    self.rows[row["network"], int(row["seed"])] = _bits(row["wrong"], self.size)

    @cached_property
    def study(self) -> OpenedStudy:
        """The demo's study."""
        return opened_study.open(_conf(["modifiers=baseline"]))

    @cached_property
    def splits(self) -> Splits:
        """The demo's images."""
        splits = self.study.splits
        assert isinstance(splits, Splits) and splits.val is not None and splits.test is not None
        return splits

    @property
    def val_size(self) -> int:
        """How many val images the demo has."""
        assert self.splits.val is not None
        return len(self.splits.val)

    @property
    def size(self) -> int:
        """How many images of val and test there are."""
        assert self.splits.test is not None
        return self.val_size + len(self.splits.test)

    def wrong(self, network: str, seed: int) -> Wrong:
        """Say which held-out images a training gets wrong, `n`.

        Raises:
            SsrError: if it is not in the table, and nothing is to be trained.
        """
        if (network, seed) not in self.rows:
            if not self.trains:
                raise SsrError(f"{self.path} lacks {network} (seed {seed}): add --train.")
            self._train(network, seed)
        return self.rows[network, seed]

    def _train(self, network: str, seed: int) -> None:
        with tempfile.TemporaryDirectory() as runs:
            words = [f"modifiers.network={network}", f"seed={seed}", f"paths.runs={runs}"]
            record = run.train(_conf(words))
            folder = Store(Path(runs)).folder(record.study, record.network, seed)
            wrong = self._evaluate(network, folder)
        is_new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([COLUMNS] if is_new else [])
            digits = np.packbits(wrong).tobytes().hex()
            writer.writerow((network, seed, round(record.wall_s, 2), digits))
        self.trained_s += record.wall_s
        self.rows[network, seed] = wrong

    def _evaluate(self, network: str, folder: Path) -> Wrong:
        study, splits = self.study, self.splits
        built = rescale.build(study.seed_network, study.plan, codes.parse(study.plan, network))
        path = folder / LAST_CHECKPOINT
        rescale.load(built, network_weights(path), source=str(path))
        shape = (1, -1, 1, 1)
        mean, std = (torch.tensor(values).view(shape) for values in (splits.mean, splits.std))
        parts = []
        for images in (splits.val, splits.test):
            assert images is not None
            with torch.no_grad():
                logits = built.eval()((images.pixels / 255 - mean) / std)
            parts.append((logits.argmax(1) != images.labels).numpy())
        return np.concatenate(parts)


def _bits(digits: str, size: int) -> Wrong:
    packed = np.frombuffer(bytes.fromhex(digits), dtype=np.uint8)
    return np.unpackbits(packed, count=size).astype(bool)


def _conf(words: list[str]) -> Config:
    configuration.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "ssr_exp" / "conf"), version_base="1.3"):
        return configuration.read(hydra.compose("train", overrides=[*WORDS, *words]), Config)
