"""A U-Net that finds discs, scored by its Dice coefficient: python segmentation.py

1. make_network is your network; any that torch can run is taken, skip connections among it.
2. train is your training; what it returns is the score on val.
3. The study asks for smaller U-Nets until one is found that loses at most 0.05.
"""

import os

import torch
from torch import nn
from torch.nn import functional as F

from ssr_exp import Score, Study

EPOCHS = int(os.environ.get("EPOCHS", 8))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.bottom = (
            self.stage(1, 8),
            self.stage(8, 16),
            self.stage(16, 32),
        )
        self.up2, self.up1 = self.stage(32 + 16, 16), self.stage(16 + 8, 8)
        self.head = nn.Conv2d(8, 1, 1)

    @staticmethod
    def stage(before, after):
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, image):
        fine = self.down1(image)
        middle = self.down2(F.max_pool2d(fine, 2))
        coarse = self.bottom(F.max_pool2d(middle, 2))
        middle = self.up2(torch.cat([F.interpolate(coarse, scale_factor=2), middle], 1))
        return self.head(self.up1(torch.cat([F.interpolate(middle, scale_factor=2), fine], 1)))


def scenes(count, seed):  # noise, on it a brighter disc; the mask is the disc
    draw = torch.Generator().manual_seed(seed)
    pixels, grid = torch.rand(count, 1, 32, 32, generator=draw), torch.arange(32)
    x, y = torch.randint(8, 24, (2, count, 1, 1), generator=draw)
    masks = ((grid - x) ** 2 + (grid.view(-1, 1) - y) ** 2 < 36).float().unsqueeze(1)
    return pixels + 0.5 * masks, masks


def dice(network, pixels, masks):
    with torch.inference_mode():
        found = network.eval()(pixels) > 0
    return (2 * (found * masks).sum() / (found.sum() + masks.sum())).item()


def train(network, seed):
    torch.manual_seed(seed)
    pixels, masks = scenes(96, seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(pixels)).split(16):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(network(pixels[batch]), masks[batch]).backward()
            optimizer.step()
    return dice(network, *scenes(128, seed=1))


if __name__ == "__main__":
    score = Score("dice", "max", bounds=(0, 1))
    question = {"objective": "smallest", "max_drop": 0.05, "rounds": 1, "batch": 2}
    finer = {"multiple": 4, "together": 1}
    study = Study(
        UNet, torch.zeros(2, 1, 32, 32), name="segmentation", score=score, **question, **finer
    )
    while candidate := study.ask():
        study.tell(candidate, train(candidate.network, candidate.seed))
    print(study.answer())
    print(study.page())
