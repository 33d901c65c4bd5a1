"""Networks of other signatures than one image, and what each is called with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Sound(nn.Module):
    """A 1-D classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv1d(1, 16, 9, 4), nn.ReLU(), nn.Conv1d(16, 32, 9, 4), nn.ReLU())
        )
        self.head = nn.Linear(32, 3)

    def forward(self, sound: Tensor) -> Tensor:
        return self.head(self.body(sound).mean(2))  # type: ignore[no-any-return]


class Volume(nn.Module):
    """A 3-D U-Net of one level."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep, self.up = layer(1, 16), layer(16, 32), layer(32, 16)
        self.wide, self.head = nn.ConvTranspose3d(32, 16, 2, 2), nn.Conv3d(16, 2, 1)

    def forward(self, volume: Tensor) -> Tensor:
        skipped = self.down(volume)
        deep = self.deep(functional.max_pool3d(skipped, 2))
        return self.head(self.up(torch.cat([skipped, self.wide(deep)], 1)))  # type: ignore[no-any-return]


def layer(before: int, after: int) -> nn.Module:
    conv = nn.Conv3d(before, after, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(after), nn.ReLU())


class Patient(nn.Module):
    """Two inputs, an image and numbers, and an output with a name."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU())
        )
        self.numbers, self.head = nn.Linear(5, 16), nn.Linear(48, 2)

    def forward(self, image: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        both = [self.image(image).mean((2, 3)), self.numbers(numbers).relu()]
        return {"logits": self.head(torch.cat(both, 1))}


class Masked(nn.Module):
    """One dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        )
        self.head = nn.Linear(32, 2)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x = self.body(batch["image"]) * batch["mask"][:, None]
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def patient() -> Any:
    """Return what a `Patient` is called with."""
    from ssr_exp import Inputs

    return Inputs((torch.rand(2, 3, 32, 32),), {"numbers": torch.rand(2, 5)})


def masked() -> Any:
    """Return what a `Masked` is called with."""
    return {"image": torch.rand(2, 3, 16, 16), "mask": torch.ones(2, 4, 4, dtype=torch.bool)}
