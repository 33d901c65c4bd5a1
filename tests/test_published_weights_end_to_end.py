"""From published weights to a verified export, on a folder of images of other classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from ssr_exp.runs.store import LAST_CHECKPOINT, network_weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("repeatable")]

Command = Callable[..., Any]
CLASSES = 7
STILL = "recipe.lr=1e-30"  # what is learnt stays as it was


@pytest.fixture
def images(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for label in range(CLASSES):
        folder = tmp_path / "images" / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(10):
            pixels = draw.integers(0, 128, (16, 16, 3), dtype=np.uint8) + 16 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Leave a ResNet-18 where torchvision looks for its weights."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, folder / "resnet18-f37072fd.pth")
    return state


@pytest.mark.more
def test_sentinels_start_from_published_weights_and_are_exported(
    command: Command, images: Path, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    words = (
        *("model=resnet18", "model.stem=imagenet", "dataset=image_folder"),
        *(f"dataset.root={images}", "dataset.val_fraction=0.2", "dataset.normalize=checkpoint"),
        *("init=inherit", "checkpoint=torchvision", "modifiers=sentinel_all"),
        *("modifiers.together=1", "trainer.max_epochs=1", STILL, "dataset.resize=32"),
    )
    ended = command(*words)
    assert ended.code == 0, ended.text
    assert "resnet18 starts from ResNet18_Weights.IMAGENET1K_V1; drawn anew: fc" in ended.text
    (told,) = (tmp_path / "runs").glob("*/study.json")
    study = json.loads(told.read_text())
    assert study["normalization"]["mean"] == [0.485, 0.456, 0.406]
    runs = {p.parent.parent.name: network_weights(p) for p in told.parent.rglob(LAST_CHECKPOINT)}
    assert len(runs) == 16
    baseline = runs["d2-2-2-2_w64-128-256-512"]
    learnt = [n for n in baseline if n.endswith(("weight", "bias")) and not n.startswith("fc.")]
    assert all(torch.allclose(baseline[n], weights[n], rtol=0, atol=1e-20) for n in learnt)
    shallow = runs["d1-1-1-1_w64-128-256-512"]
    assert torch.equal(shallow["fc.weight"], baseline["fc.weight"])
    assert baseline["fc.weight"].shape == (CLASSES, 512)
    narrow = runs["d2-2-2-2_w64-128-256-128"]["layer1.0.conv1.weight"]  # a stage that stays
    assert torch.allclose(narrow, weights["layer1.0.conv1.weight"], rtol=0, atol=1e-20)
    again = command(*words)
    assert "16 networks: 16 done before, 0 to train" in again.text
    network = "run=d1-1-1-1_w16-32-64-128"
    ended = command(network, "format=onnx", "repeats=1", script="export.py")
    assert ended.code == 0, ended.text
    (about,) = told.parent.rglob("export/*/network.json")
    assert json.loads(about.read_text())["std"] == [0.229, 0.224, 0.225]
