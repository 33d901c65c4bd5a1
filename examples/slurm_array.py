"""A Slurm array shares one search; to try it without Slurm: python slurm_array.py

    sbatch --array=0-7 --time=4:00:00 --requeue --wrap "python slurm_array.py"

Submit it in this file's folder, which all nodes share. Each job of the array asks for networks
until the search is over; ask waits while the others train what the next round depends on.
A job that ends at its time limit, or with its node, loses nothing: train keeps a checkpoint of
each epoch in the folder of its candidate, and whoever is offered that network goes on there. If
all jobs have ended before the answer is printed, submit it again.
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


def train(candidate):
    network, path, epoch = candidate.network, candidate.folder / "training.pt", 0
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    if path.exists():  # of a job that was ended
        epoch, weights, moments = torch.load(path)
        network.load_state_dict(weights)
        optimizer.load_state_dict(moments)
    pixels, labels = images(256, seed=0)
    while epoch < EPOCHS:
        torch.manual_seed(1000 * candidate.seed + epoch)  # repeated or not, the same batches
        for batch in torch.randperm(len(pixels)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(network.train()(pixels[batch]), labels[batch]).backward()
            optimizer.step()
        epoch += 1
        torch.save((epoch, network.state_dict(), optimizer.state_dict()), f"{path}.new")
        os.replace(f"{path}.new", path)  # so that it is whole whenever the job ends
    pixels, labels = images(400, seed=1)
    with torch.inference_mode():
        return (network.eval()(pixels).argmax(1) == labels).float().mean().item()


if __name__ == "__main__":
    score = Score("accuracy", "max", bounds=(0, 1))
    question = {"objective": "smallest", "max_drop": 0.05, "rounds": 2, "batch": 4}
    study = Study(make_network, torch.zeros(2, 1, 16, 16), name="slurm", score=score, **question)
    while candidate := study.ask():
        study.tell(candidate, train(candidate))
    print(study.answer())
    print(study.page())
