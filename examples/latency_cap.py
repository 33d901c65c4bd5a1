"""The best network that takes half the time on this machine: python latency_cap.py

The study measures a sample of the networks here and predicts the time of all others (cap.latency_ms
is in ms, or a share of the baseline's). It proposes only what keeps within the cap.
latency.runtime is eager, compile, onnxruntime or executorch: take the one that you ship.
Another device measures by itself, ssr latency MODEL --fit --out FILE, and what replaces
latency.runtime here is {"latency.source": "file", "latency.file": FILE}.
"""

import os

import torch
from torch import nn
from torch.nn import functional as F

from ssr_exp import Score, Study

EPOCHS = int(os.environ.get("EPOCHS", 8))
CAP = {"cap.latency_ms": "50%", "latency.runtime": "eager"}
EFFORT = {"latency.networks": 12, "latency.held_out": 4, "latency.repeats": 10, "latency.spread": 1}


def make_network():
    def layer(before, after, stride=1):
        conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())

    layers = [layer(1, 16), layer(16, 16), layer(16, 32, stride=2), layer(32, 32)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))


def images(count, seed):  # noise, and on it a bright square (class 0) or a bright bar (1)
    pixels = torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % 2
    pixels[labels == 0, :, 10:20, 10:20] += 0.4
    pixels[labels == 1, :, 14:18, 4:28] += 0.4
    return pixels, labels


def accuracy(network, pixels, labels):
    with torch.inference_mode():
        return (network.eval()(pixels).argmax(1) == labels).float().mean().item()


def train(network, seed):
    torch.manual_seed(seed)
    pixels, labels = images(192, seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(pixels)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(network(pixels[batch]), labels[batch]).backward()
            optimizer.step()
    return accuracy(network, *images(200, seed=1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    score = Score("accuracy", "max", bounds=(0, 1))
    question = {"objective": "smallest", "max_drop": 0.05, "rounds": 1, "batch": 2}
    study = Study(
        make_network,
        torch.zeros(2, 1, 32, 32),
        name="latency_cap",
        score=score,
        options=CAP | EFFORT,
        **question,
    )
    while candidate := study.ask():
        study.tell(candidate, train(candidate.network, candidate.seed))
    print(study.answer())
    print(study.page())
