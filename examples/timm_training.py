"""timm's training, from the parts of its package: python timm_training.py

1. make_network is timm.create_model with your arguments. (With pretrained=True, give the study
   init="inherit": each network starts from slices of these weights.)
2. Loaders, transforms, optimizer, schedule and averaged weights are timm's, as in your script.
3. Score the averaged weights, and tell these: study.tell(..., weights=ema.module).
timm's own train.py is no part of its package, and it makes its network itself. To use a copy of it,
put candidate.network where it calls create_model, and let it return its eval metric.
"""

import functools
import os

import timm
import torch
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, ModelEmaV3, accuracy
from torchvision.transforms.functional import to_pil_image

from ssr_exp import Score, Study

EPOCHS, SIDE = int(os.environ.get("EPOCHS", 4)), 32
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
make_network = functools.partial(timm.create_model, model_name="resnet10t", num_classes=2)


class Shapes(torch.utils.data.Dataset):  # noise, and on it a bright square (class 0) or a bar (1)
    def __init__(self, count, seed):
        pixels = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) / 2
        pixels[0::2, :, 11:21, 11:21] += 0.4
        pixels[1::2, :, 14:18, 4:28] += 0.4
        self.pictures = [to_pil_image(image) for image in pixels]

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):  # create_loader sets the transform
        return self.transform(self.pictures[index]), index % 2


def train(candidate):
    torch.manual_seed(candidate.seed)
    usual = {"input_size": (3, SIDE, SIDE), "use_prefetcher": False, "num_workers": 0}
    usual["persistent_workers"] = False
    loader = create_loader(Shapes(192, 0), batch_size=32, is_training=True, scale=(0.7, 1), **usual)
    network = candidate.network.to(DEVICE)
    ema = ModelEmaV3(network, decay=0.8)
    optimizer = create_optimizer_v2(network, opt="adamw", lr=2e-3, weight_decay=0.05)
    schedule, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=EPOCHS)
    for epoch in range(EPOCHS):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(images.to(DEVICE)), labels.to(DEVICE))
            loss.backward()
            optimizer.step()
            ema.update(network)
        schedule.step(epoch + 1)
    top1 = AverageMeter()
    with torch.inference_mode():
        for images, labels in create_loader(Shapes(200, 1), batch_size=100, **usual):
            outputs = ema.module.eval()(images.to(DEVICE))
            top1.update(accuracy(outputs, labels.to(DEVICE))[0].item(), len(labels))
    return top1.avg, ema.module


if __name__ == "__main__":
    score = Score("top1", "max", unit="%", bounds=(0, 100))
    question = {"together": 1, "objective": "smallest", "max_drop": 5, "rounds": 1, "batch": 2}
    example = torch.zeros(2, 3, SIDE, SIDE)
    study = Study(make_network, example, name="timm", score=score, **question)
    while candidate := study.ask():
        top1, averaged = train(candidate)
        study.tell(candidate, top1, weights=averaged, epochs=EPOCHS)
    print(study.answer())
