"""Load a data set and serve it in batches that are augmented on the training device."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from ssr_exp.config import DatasetConf
from ssr_exp.datasets import inspection, memory, share, sources, workers
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.batches import Batches
from ssr_exp.datasets.image_folder.file_pixels import FilePixels
from ssr_exp.datasets.images import (
    IGNORED,
    Images,
    Indices,
    Pool,
    Splits,
    Target,
    fingerprint,
    histogram,
    moments,
)
from ssr_exp.datasets.share import ALONE, Share
from ssr_exp.datasets.split import hold_out_val
from ssr_exp.errors import SsrError, in_one_line


@in_one_line()
def load(
    conf: DatasetConf,
    data_dir: Path,
    target: Target = Target.one_class,
    ignored: int | None = IGNORED,
) -> Splits:
    """Load a data set and hold `val` out of its training images, unless it came with a val.

    With `conf.train_on_val` the training images are both together and there is no val; mean and
    standard deviation are then those of both.

    Args:
        conf: which data set, and how it is split.
        data_dir: folder of downloads, and of the cache of decoded images.
        target: what is to be learnt of an image.
        ignored: the number in masks of pixels that count nowhere; None: there is none.

    Raises:
        SsrError: the data set is unknown, absent, damaged or cannot be split.
    """
    pool = sources.pool(conf, data_dir, target, ignored)
    train, val = _train_and_val(conf, pool)
    images = pool.images.subset(train)
    if isinstance(images.pixels, FilePixels):
        assert pool.count is not None
        counts = pool.count(train)
    else:
        counts = histogram(images.pixels)
    mean, std = moments(counts)
    return Splits(
        name=conf.name,
        train=images,
        val=None if val is None else pool.images.subset(val),
        test=None if pool.test is None else pool.images.subset(pool.test),
        mean=mean,
        std=std,
        fingerprint=fingerprint(pool, train=train, val=val),
        preprocessing=replace(pool.preprocessing, mean=mean, std=std),
        reading=inspection.inspect(conf, pool, train, val, counts),
    )


def _train_and_val(conf: DatasetConf, pool: Pool) -> tuple[Indices, Indices | None]:
    """Choose the positions to learn from, and those of val."""
    if conf.train_on_val:
        return (pool.train if pool.val is None else np.union1d(pool.train, pool.val)), None
    if pool.val is not None:
        return pool.train, pool.val
    fraction, seed = conf.val_fraction, conf.split_seed
    return hold_out_val(pool.images, pool.train, fraction=fraction, seed=seed, groups=pool.groups)


class TensorDataModule(LightningDataModule):
    """Serve `Splits` to a Lightning trainer: tensors are moved to its device once, files read.

    Args:
        splits: the data set.
        batch_size: images, of all devices together.
        augmentation: of the training images; None: none.
        seed: of the order and augmentation of the training images.
        channels_last: memory format of the batches.
        is_balanced: whether images of rare classes are drawn more often in training.
        workers: processes that read files and run torchvision's transforms; None: see
            `workers.chosen`.
        shares_val: whether several devices share val and test, too; else each sees all of them.
    """

    def __init__(
        self,
        splits: Splits,
        *,
        batch_size: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        channels_last: bool = False,
        is_balanced: bool = False,
        workers: int | None = None,
        shares_val: bool = True,
    ) -> None:
        super().__init__()
        self._splits = splits
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._seed = seed
        self._channels_last = channels_last
        self._is_balanced = is_balanced
        self._workers = workers
        self._shares_val = shares_val
        self._made: list[Batches] = []

    def setup(self, stage: str) -> None:
        """Check that the devices can share the batches evenly."""
        if self.trainer is not None:
            share.check(self._batch_size, len(self._splits.train), self.trainer.world_size)

    def teardown(self, stage: str) -> None:
        """End the processes that fetch."""
        for made in self._made:
            made.close()
        self._made.clear()

    def on_exception(self, exception: BaseException) -> None:
        """End the processes that fetch, since Lightning calls no `teardown` then."""
        self.teardown("")

    def train_dataloader(self) -> Batches:
        """Shuffled and augmented batches."""
        return self._batches(self._splits.train, self._seed, self._augmentation)

    def val_dataloader(self) -> Batches:
        """Batches in order, none left out.

        Raises:
            SsrError: the val images are learnt from; give the trainer `limit_val_batches=0`.
        """
        if self._splits.val is None:
            raise SsrError("dataset.train_on_val=true leaves no val images to measure")
        return self._batches(self._splits.val)

    def test_dataloader(self) -> Batches:
        """Batches in order, none left out.

        Raises:
            SsrError: the data set has no test images.
        """
        if self._splits.test is None:
            raise SsrError(
                f"data set {self._splits.name} has no test images: add a test folder beside "
                "train, or type trainer.test=false"
            )
        return self._batches(self._splits.test)

    def _batches(
        self, images: Images, seed: int | None = None, augmentation: Augmentation | None = None
    ) -> Batches:
        device, ours = torch.device("cpu"), ALONE
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            if seed is not None or self._shares_val:
                ours = Share(self.trainer.global_rank, self.trainer.world_size)
        count, is_streamed = self._workers, isinstance(images.pixels, FilePixels)
        if count is None:
            bytes_ = self._batch_size * math.prod(images.pixels.shape[1:])
            world = 1 if self.trainer is None else self.trainer.world_size
            count = workers.chosen(device, is_streamed=is_streamed, batch_bytes=bytes_, world=world)
        try:
            made = Batches(
                images,
                mean=self._splits.mean,
                std=self._splits.std,
                batch_size=self._batch_size,
                seed=seed,
                augmentation=augmentation,
                channels_last=self._channels_last,
                is_balanced=self._is_balanced and seed is not None,
                device=device,
                workers=count,
                share=ours,
            )
        except RuntimeError as error:  # a device without room for them; Apple's has no other kind
            if is_streamed or "out of memory" not in str(error).lower():
                raise
            raise SsrError(_too_large(self._splits.name, images, device)) from error
        self._made.append(made)
        return made


def _too_large(name: str, images: Images, device: torch.device) -> str:
    """Say that a device has no room for images, which no smaller batches would give it."""
    c, h, w = images.pixels.shape[1:]
    needs, has = map(memory.in_words, (math.prod(images.pixels.shape), memory.free_on(device)))
    stream = "dataset.stream=true, which reads the files for each batch, or "
    return (
        f"{len(images):,} images of {c} x {h} x {w} take {needs}, and {has} are free on {device}: "
        f"type {stream if name == sources.FOLDER else ''}a smaller dataset.resize"
    )
