"""A plain PyTorch loop: python own_loop.py

1. Write a function without arguments that makes your network: make_network.
2. Begin a study with it. Say what your loop will tell: its name, direction and bounds.
3. Ask for networks, train each as you always do, and tell its score on val.
4. Test the answer and the baseline, with seeds that the search did not use.
Start it in several terminals, or on machines that share the folder: they divide the work.
Stop it whenever you like, and start it again: it goes on where it was.
"""

import os

import torch
from torch import nn
from torch.nn import functional as F

from ssr_exp import Score, Study

EPOCHS = int(os.environ.get("EPOCHS", 8))


def make_network():
    def layer(before, after, stride=1):
        conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())

    layers = [layer(1, 16), layer(16, 16), layer(16, 32, stride=2), layer(32, 32)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))


def images(count, seed):  # noise, and on it a bright square (class 0) or a bright bar (1)
    pixels = torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % 2
    pixels[labels == 0, :, 5:10, 5:10] += 0.4
    pixels[labels == 1, :, 7:9, 2:14] += 0.4
    return pixels, labels


def accuracy(network, pixels, labels):
    with torch.inference_mode():
        return (network.eval()(pixels).argmax(1) == labels).float().mean().item()


def train(network, seed):
    torch.manual_seed(seed)
    pixels, labels = images(256, seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(pixels)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(network(pixels[batch]), labels[batch]).backward()
            optimizer.step()
    return accuracy(network, *images(400, seed=1))


if __name__ == "__main__":
    score = Score("accuracy", "max", bounds=(0, 1))
    question = {"objective": "smallest", "max_drop": 0.05, "rounds": 1, "batch": 2}
    study = Study(make_network, torch.zeros(2, 1, 16, 16), name="own_loop", score=score, **question)
    while candidate := study.ask():
        study.tell(candidate, train(candidate.network, candidate.seed))
    for candidate in study.finalists(seeds=2):
        val = train(candidate.network, candidate.seed)
        study.tell(candidate, val, test=accuracy(candidate.network, *images(400, seed=2)))
    print(study.answer())
    print(study.page())
