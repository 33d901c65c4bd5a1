from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from ssr_exp.config import RecipeConf
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.tasks.classification import Classification
from tests.datasets.conftest import digits, one_thread

__all__ = ["digits", "one_thread"]


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
def digits_module(digits: Splits) -> Callable[..., TensorDataModule]:
    def make(seed: int = 0) -> TensorDataModule:
        changes = Augmentation(crop_padding=1, flip=True, cutout=2)
        return TensorDataModule(digits, batch_size=64, augmentation=changes, seed=seed)

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
