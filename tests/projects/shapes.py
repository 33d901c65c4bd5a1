"""A plain loop of somebody's own: squares and crosses, told apart by a small ConvNet."""

from __future__ import annotations

import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional

import ssr_exp


def make_network() -> nn.Module:
    def layer(before: int, after: int, stride: int) -> nn.Module:
        conv = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())

    return nn.Sequential(
        layer(1, 16, 1),
        layer(16, 16, 1),
        layer(16, 32, 2),
        layer(32, 32, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 2),
    )


class Shapes(nn.Sequential):
    """The same network as a class of its own."""

    def __init__(self) -> None:
        super().__init__(*make_network())  # type: ignore[misc]


def images(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    pixels, labels = torch.rand(count, 1, 12, 12, generator=draw), torch.arange(count) % 2
    pixels[labels == 0, :, 3:9, 3:9] += 0.4
    pixels[labels == 1, :, 5:7, :] += 0.4
    return pixels, labels


def train(network: nn.Module, seed: int, part: str = "val") -> float:
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    pixels, labels = images(128, 0)
    for _ in range(6):
        for some in torch.randperm(len(pixels)).split(32):
            optimizer.zero_grad()
            functional.cross_entropy(network(pixels[some]), labels[some]).backward()
            optimizer.step()
    pixels, labels = images(200, 1 if part == "val" else 2)
    with torch.no_grad():
        return float((network.eval()(pixels).argmax(1) == labels).double().mean())


def train_one(candidate) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Train a network, for a command: search.py task.target=shapes.train_one."""
    score = train(candidate.network, candidate.seed)
    return {"score": score, "test": score}


def main(runs: str, *, rounds: int, pause_s: float = 0.0) -> None:
    study = ssr_exp.Study(
        make_network,
        torch.zeros(2, 1, 12, 12),
        name="shapes",
        score=ssr_exp.Score("acc", "max", bounds=(0, 1)),
        runs=runs,
        sentinels="sentinel_width",
        max_drop=0.2,
        rounds=rounds,
        batch=2,
    )
    while candidate := study.ask():
        print("began", candidate.code, candidate.seed, os.getpid(), flush=True)
        score = train(candidate.network, candidate.seed)
        time.sleep(pause_s)
        study.tell(candidate, score)
        print("ended", candidate.code, candidate.seed, os.getpid(), flush=True)
    print(study.answer(), flush=True)
    print("page:", study.page(), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1], rounds=int(sys.argv[2]), pause_s=float(sys.argv[3]))
    except ssr_exp.SsrError as error:
        sys.exit(str(error))
