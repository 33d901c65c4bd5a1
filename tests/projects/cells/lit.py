"""Training of the cell segmentation."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import BinaryJaccardIndex
from torchmetrics.segmentation import DiceScore

from cells.model import UNet


class LitCells(L.LightningModule):
    def __init__(self, base: int = 16, lr: float = 1e-2, pos_weight: float = 2.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = UNet(1, 1, base)
        self.register_buffer("pos_weight", torch.tensor([pos_weight]))
        self.val_iou = BinaryJaccardIndex()
        self.val_dice = DiceScore(2, include_background=False, input_format="index")
        self.test_iou = BinaryJaccardIndex()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = self(batch["image"])[:, 0]
        entropy = F.binary_cross_entropy_with_logits(
            logits, batch["mask"].float(), pos_weight=self.pos_weight
        )
        return entropy, logits.sigmoid()

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        loss, _ = self._loss(batch)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        loss, shares = self._loss(batch)
        self.val_iou(shares, batch["mask"])
        self.val_dice((shares > 0.5).long(), batch["mask"])
        self.log("val/loss", loss, batch_size=len(shares))
        self.log("val/iou", self.val_iou)
        self.log("val/dice", self.val_dice)

    def test_step(self, batch: dict[str, Tensor], _: int) -> None:
        _, shares = self._loss(batch)
        self.test_iou(shares, batch["mask"])
        self.log("test/iou", self.test_iou)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.lr,
            total_steps=int(self.trainer.estimated_stepping_batches),
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
