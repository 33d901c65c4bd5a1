from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch import nn

from ssr_exp.config import DatasetConf, RecipeConf
from ssr_exp.datasets import in_memory
from ssr_exp.tasks.classification import Classification

Draw = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors on several threads wait for each other when the machine is busy."""
    torch.set_num_threads(1)


@pytest.fixture
def draw() -> Draw:
    """Write class folders of small random images: `draw(folder, cat=3, dog=4)`."""

    def write(
        folder: Path, *, size: tuple[int, int] = (6, 6), mode: str = "RGB", **counts: int
    ) -> Path:
        pixels = np.random.default_rng(len(str(folder)))
        for name, count in counts.items():
            (folder / name).mkdir(parents=True)
            for i in range(count):
                values = pixels.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(values).convert(mode).save(folder / name / f"{i}.png")
        return folder

    return write


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., in_memory.Splits]:
    """Load a folder of images, with its cache aside: `load(root, resize=4)`."""

    def read(root: Path, **fields: Any) -> in_memory.Splits:
        asked = {"val_fraction": 0.25} | fields
        conf = DatasetConf(name="image_folder", root=str(root), **asked)
        return in_memory.load(conf, tmp_path / "data")

    return read


@pytest.fixture(scope="session")
def digits() -> in_memory.Splits:
    return in_memory.load(DatasetConf(name="digits"), Path("unused"))


@pytest.fixture
def small_task() -> Callable[..., Classification]:
    """Make a seeded small ConvNet for the digits, ready to be trained."""

    def make(**recipe: object) -> Classification:
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 10),
        )
        return Classification(network, RecipeConf(**recipe), num_classes=10)  # type: ignore[arg-type]

    return make


@pytest.fixture
def digits_module(digits: in_memory.Splits) -> Callable[..., in_memory.TensorDataModule]:
    def make(seed: int = 0) -> in_memory.TensorDataModule:
        changes = in_memory.Augmentation(crop_padding=1, flip=True, cutout=2)
        return in_memory.TensorDataModule(digits, batch_size=64, augmentation=changes, seed=seed)

    return make


@pytest.fixture
def quiet_trainer() -> Callable[..., Trainer]:
    def make(epochs: int, callbacks: list[Callback] | None = None) -> Trainer:
        return Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )

    return make
