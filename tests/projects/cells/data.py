"""Pictures of cells: bright discs on a dark and uneven background."""

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class Cells(Dataset):
    def __init__(self, count: int, seed: int, augment: bool = False, size: int = 16) -> None:
        draw = np.random.default_rng(seed)
        rows, columns = np.mgrid[:size, :size]
        images = draw.normal(0, 0.4, (count, 1, size, size)) + rows / size * draw.normal()
        masks = np.zeros((count, size, size), dtype=bool)
        for image, mask in zip(images, masks, strict=True):
            for _ in range(draw.integers(1, 4)):
                y, x, r = draw.uniform(2, size - 2), draw.uniform(2, size - 2), draw.uniform(1.5, 4)
                mask |= (rows - y) ** 2 + (columns - x) ** 2 < r**2
            image[0] += mask
        self.images, self.masks = torch.tensor(images).float(), torch.tensor(masks).long()
        self.augment = augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, mask = self.images[index], self.masks[index]
        if self.augment and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return {"image": image, "mask": mask}


class CellsData(L.LightningDataModule):
    def __init__(self, batch_size: int = 16, count: int = 96) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        count = self.hparams.count
        if stage == "fit":
            self.train = Cells(count, seed=0, augment=True)
        if stage in ("fit", "validate"):
            self.val = Cells(count // 2, seed=1)
        if stage == "test":
            self.test = Cells(count // 2, seed=2)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, self.hparams.batch_size)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test, self.hparams.batch_size)
