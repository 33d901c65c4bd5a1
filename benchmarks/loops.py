"""The same training three ways: our Lightning loop, a bare loop, the usual image pipeline.

A contestant trains and returns the seconds of an epoch, from the start of the epoch (nothing is
prepared before it) to the end of its last step. Validation and checkpoints are left out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.measure import Contestant, timed
from ssr_exp.config import Config, DatasetConf, ModelConf, RecipeConf, Source, TrainerConf
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.images import Images, Splits, histogram, moments
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.datasets.reading import Reading
from ssr_exp.rescaling import seeds
from ssr_exp.tasks import classification, optimization
from ssr_exp.training import trainers

CLASSES = 10


@dataclass(frozen=True)
class Training:
    """One network, its images and how it is trained.

    Args:
        conf: as `train.py` would compose it; `max_epochs` is how many epochs a contestant
            trains at a time, of which the first does not count if there are several.
        splits: the images.
        network: as it is trained: on its device, in its memory format, compiled or not.
        folder: for checkpoints.
    """

    conf: Config
    splits: Splits
    network: nn.Module
    folder: Path

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return next(self.network.parameters()).device


def seed(model: str, source: Source = Source.builtin, side: int = 32) -> nn.Module:
    """Make a seed network for images of a side, always the same one."""
    torch.manual_seed(0)
    conf = ModelConf(model, source=source)
    return seeds.build(conf, num_classes=CLASSES, input_shape=(3, side, side))


def prepared(
    network: nn.Module,
    trainer: TrainerConf,
    folder: Path,
    *,
    batch_size: int,
    steps: int,
    side: int = 32,
    device: str = "cpu",
) -> Training:
    """Make random images for a network, of which an epoch is `steps` full batches.

    Args:
        network: is trained.
        trainer: precision, memory format, epochs.
        folder: for checkpoints.
        batch_size: images.
        steps: batches in an epoch.
        side: of an image, in pixels.
        device: where it is trained.
    """
    conf = Config(
        dataset=DatasetConf("random", crop_padding=4, flip=True),
        recipe=RecipeConf(batch_size=batch_size, lr=0.01),
        trainer=trainer,
    )
    layout = torch.channels_last if trainer.channels_last else torch.contiguous_format
    network = network.to(memory_format=layout).to(device)
    return Training(conf, random_splits(batch_size * steps, batch_size, side), network, folder)


def random_splits(n_train: int, n_val: int, side: int) -> Splits:
    """Draw images."""
    draw = torch.Generator().manual_seed(0)
    n = n_train + n_val
    pixels = torch.randint(256, (n, 3, side, side), dtype=torch.uint8, generator=draw)
    labels = torch.randint(CLASSES, (n,), generator=draw)
    images = Images(pixels, labels, tuple("abcdefghij"))
    train, val = images.subset(np.arange(n_train)), images.subset(np.arange(n_train, n))
    mean, std = moments(histogram(train.pixels))
    how = Preprocessing(channels=3, size=(side, side), mean=mean, std=std)
    return Splits(
        "random", train, val, None, mean, std, "random", how, Reading("random", {}, {}, "")
    )


def data_module(training: Training) -> TensorDataModule:
    """Serve the images as `ssr_exp.training.run` does."""
    conf = training.conf
    return TensorDataModule(
        training.splits,
        batch_size=conf.recipe.batch_size,
        augmentation=Augmentation.from_conf(conf.dataset),
        seed=conf.seed,
        channels_last=conf.trainer.channels_last,
    )


def ours(training: Training) -> Contestant:
    """The loop of `train.py`: same module, data, callbacks and trainer, without W&B."""
    conf, device = training.conf, training.device
    module = classification.Classification(
        training.network, conf.recipe, CLASSES, channels_last=conf.trainer.channels_last
    )

    def once() -> float:
        clock = Clock(device)
        trainer = trainers.build(conf, training.folder, module.score)
        trainer.callbacks.append(clock)  # type: ignore[attr-defined]
        with trainers.quiet():
            trainer.fit(module, data_module(training))
        module.to(device)  # Lightning takes it to the CPU
        return _typical(clock.epochs)

    return once


def bare(training: Training) -> Contestant:
    """Plain PyTorch over the same batches."""
    splits = training.splits
    moved = replace(splits, train=splits.train.to(training.device))
    return _plain(training, data_module(replace(training, splits=moved)).train_dataloader())


def usual(training: Training, *, workers: int = 2) -> Contestant:
    """Plain PyTorch over torchvision's transforms of PIL images, by worker processes."""
    return _plain(training, usual_loader(training, workers=workers))


def usual_loader(training: Training, *, workers: int = 2) -> DataLoader[Any]:
    """What torchvision's CIFAR-10 examples do, over images that are in memory."""
    splits = training.splits
    chain = transforms.Compose(
        [
            transforms.RandomCrop(splits.image_shape[1:], padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(splits.mean, splits.std),
        ]
    )
    return DataLoader(
        PilImages(splits.train, chain),
        batch_size=training.conf.recipe.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=training.device.type == "cuda",
        drop_last=True,
    )


def served(batches: Iterable[Any]) -> Contestant:
    """Only take the batches, training nothing."""
    return timed(lambda: [None for _ in batches])


class PilImages(Dataset[tuple[Tensor, int]]):
    """Like `torchvision.datasets.CIFAR10`: an array in memory, each image made a PIL image."""

    def __init__(self, images: Images, transform: Any) -> None:
        self.data = images.pixels.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


class Clock(Callback):
    """Time each epoch's training part; waits for the device at both ends of it."""

    def __init__(self, device: torch.device) -> None:
        self.epochs: list[float] = []
        self._device = device
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = _now(self._device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            self.epochs.append(_now(self._device) - self._start)


def _plain(training: Training, batches: Iterable[tuple[Tensor, Tensor]]) -> Contestant:
    network, recipe, device = training.network, training.conf.recipe, training.device
    optimizer = optimization.optimizer(network, recipe)
    bf16 = training.conf.trainer.precision == "bf16-mixed"

    def epoch() -> float:
        start = _now(device)
        for x, y in batches:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
        return _now(device) - start

    def once() -> float:
        torch.use_deterministic_algorithms(False)  # our loop may have left it on
        network.train()
        return _typical([epoch() for _ in range(training.conf.trainer.max_epochs)])

    return once


def _typical(epochs: list[float]) -> float:
    """The median, without the first epoch where there are others: it warms up."""
    return statistics.median(epochs[1:] or epochs)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
