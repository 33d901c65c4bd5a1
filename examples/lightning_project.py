"""A Lightning project, driven from outside: python lightning_project.py

1. Let your LightningModule take its network as an argument, as LitShapes does. (If it makes its
   network itself: make the module, then module.net = candidate.network, before it is fitted.)
2. Begin a study with the function that makes the network.
3. Fit each candidate with a Trainer of its own, and tell what validation logged.
4. save_hyperparameters(ignore="net"): load_from_checkpoint then needs net=study.network(code).
Commands train such a module with no script at all: see docs/tutorials/lightning.md; this one takes
'task.arguments.net={_target_: lightning_project.make_network}' and, without test data,
finalists.seeds=0.
"""

import os

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from ssr_exp import Score, Study

EPOCHS = int(os.environ.get("EPOCHS", 8))


def make_network():
    convs = [nn.Conv2d(*sizes, 3, padding=1) for sizes in ((1, 16), (16, 16), (16, 32), (32, 32))]
    layers = [nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU()) for conv in convs]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))


class Shapes(L.LightningDataModule):
    def setup(self, stage):  # noise, and on it a bright square (class 0) or a bright bar (1)
        pixels = torch.rand(600, 1, 12, 12, generator=torch.Generator().manual_seed(0))
        pixels[0::2, :, 3:8, 3:8] += 0.4
        pixels[1::2, :, 5:7, 1:11] += 0.4
        self.images = pixels, torch.arange(600) % 2

    def train_dataloader(self):
        return DataLoader(TensorDataset(*(part[:300] for part in self.images)), 32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(TensorDataset(*(part[300:] for part in self.images)), 100)


class LitShapes(L.LightningModule):
    def __init__(self, net, lr=3e-3):
        super().__init__()
        self.save_hyperparameters(ignore="net")
        self.net = net

    def training_step(self, batch, _):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self.log("val/acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), self.hparams.lr)


def train(candidate):
    L.seed_everything(candidate.seed)
    trainer = L.Trainer(
        max_epochs=EPOCHS, devices=1, logger=False, default_root_dir=candidate.folder
    )
    trainer.fit(LitShapes(candidate.network), Shapes())
    return trainer.callback_metrics["val/acc"]


if __name__ == "__main__":
    score = Score("val/acc", "max", bounds=(0, 1))
    question = {"objective": "smallest", "max_drop": 0.05, "rounds": 1, "batch": 2}
    study = Study(make_network, torch.zeros(2, 1, 12, 12), name="lit", score=score, **question)
    while candidate := study.ask():
        study.tell(candidate, train(candidate))
    print(study.answer())
