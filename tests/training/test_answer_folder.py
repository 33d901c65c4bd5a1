"""What is handed over is the network that was trained, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ssr_exp.config import Config, DatasetConf
from ssr_exp.datasets import in_memory
from ssr_exp.datasets.images import Images, Target
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.errors import SsrError
from ssr_exp.files import parse_fields
from ssr_exp.report import search_results
from ssr_exp.rescaling import saved
from ssr_exp.runs import store
from ssr_exp.runs.record import Record
from ssr_exp.tasks.classification import Classification
from ssr_exp.training import answer_folder, fit, mask_pictures, opened_study, run
from tests.datasets.test_masks import write

Compose = Callable[..., Config]
pytestmark = pytest.mark.usefixtures("repeatable")

SMALL = "d1-1-1_w4-16-16"
SMALLER = ("modifiers=explicit", f"modifiers.network={SMALL}")
FILES = {"record.json", "study.json", "network.json", "weights.pt", "metrics.json", "load.py"}
METRICS = {"test_acc": [93.5, 94.0], "drop": None, "seeds": 2}


@dataclass
class Trained:
    """A run that ended: what was asked, and what was kept of it."""

    conf: Config
    record: Record
    folder: Path
    network: torch.nn.Module | None = None  # as it was in memory when its training ended

    @property
    def best(self) -> Path:
        return self.folder.parents[1] / "best"

    def hand_over(self, **metrics: object) -> None:
        opened = opened_study.open(self.conf)
        answer_folder.write(
            opened, self.conf, self.record, self.folder, self.best, metrics or METRICS
        )

    def images(self) -> Tensor:
        """A batch of its test images, `b x c x h x w`, as training normalises them."""
        module = TensorDataModule(opened_study.open(self.conf).splits, batch_size=64)
        x, _ = next(iter(module.test_dataloader()))
        return x


Train = Callable[..., Trained]


@pytest.fixture
def train(conf: Compose, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train a small network: `train("seed=1")`."""
    tasks: list[Classification] = []
    build = fit._task
    monkeypatch.setattr(fit, "_task", lambda *of: tasks.append(build(*of)) or tasks[-1])

    def one(*words: str) -> Trained:
        asked = conf(*(words or SMALLER))
        record = run.train(asked)
        (job,) = run.plan(asked)
        where = run.folder(store.Store(asked.paths.runs), job)
        return Trained(asked, record, where, tasks[-1].network.eval())

    return one


@pytest.fixture
def end(conf: Compose, leave: Callable[..., Path]) -> Train:
    """Leave what a training leaves, of a network with fresh weights: `end("seed=1")`."""

    def one(*words: str) -> Trained:
        asked = conf(*SMALLER, *words)
        folder = leave(*words, network=SMALL, seed=asked.seed)
        record = store.Store(asked.paths.runs).read(folder)
        assert record is not None
        return Trained(asked, record, folder)

    return one


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What is in it


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        ["model=unet", "model.arguments={width:4,levels:2}"],
        pytest.param(
            ["model=torchvision", "model.name=lraspp_mobilenet_v3_large"], marks=pytest.mark.more
        ),
    ],
    ids=["unet", "lraspp"],
)
def test_a_network_of_pixels_loads_and_its_script_runs(
    train: Train, model: list[str], tmp_path: Path
) -> None:
    root = write(tmp_path / "set", count=12)
    one = train("task=segmentation", "dataset=masks", f"dataset.root={root}", *model)
    one.hand_over()
    assert one.record.score_key == "val/mIoU" and one.record.score is not None
    done = subprocess.run(
        [sys.executable, one.best / "load.py"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "torch.Size([1, 3, 12, 10])\n"
    assert "outputs.argmax(1)" in (one.best / "load.py").read_text()


@torch.no_grad()
@pytest.mark.parametrize(
    "words",
    [
        (*SMALLER, "recipe.ema_decay=0.5", "dataset.train_on_val=true", "trainer.test=true"),
        (*SMALLER[:1], "segment=manual", "segment.patterns=[stage1,stage3.*]",
         "modifiers.network=d1-1_w8-32"),
        pytest.param(
            ("model=resnet14", "model.shortcut=B", "segment.multiple=1", *SMALLER[:1],
             "modifiers.network=d2-1-1_w16-9-13", "segment.frozen=[stage1]"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["final", "by hand", "frozen"],
)  # fmt: skip
def test_a_handed_over_network_answers_bit_for_bit_as_the_trained_one(
    train: Train, words: tuple[str, ...]
) -> None:
    one = train(*words)
    one.hand_over()
    x = one.images()
    assert torch.equal(saved.load(one.best)(x), one.network(x))


@pytest.mark.parametrize(
    ("words", "is_drawn"),
    [(SMALLER, False), (("task=segmentation", "dataset=scenes", "model=unet", "init=fresh"), True)],
)
def test_of_a_segmentation_a_picture_shows_images_and_masks(
    conf: Compose, tmp_path: Path, words: tuple[str, ...], is_drawn: bool
) -> None:
    opened = opened_study.open(conf(*words))
    path = tmp_path / store.PICTURE_FILE
    mask_pictures.write(path, opened.seed_network.eval(), opened.splits)
    assert path.exists() is is_drawn
    if is_drawn:
        with Image.open(path) as picture:
            (width, height), cell = picture.size, picture.width // 3
            columns = torch.from_numpy(np.array(picture)).split(cell, 1)
        assert height / width == pytest.approx(mask_pictures.COUNT / 3, abs=0.01)
        image, truth = (c[2:cell, 2:cell].float() for c in columns[:2])
        assert (image[..., 0] == image[..., 2]).all() and (truth[..., 0] != truth[..., 2]).any()


@pytest.mark.parametrize("size", [(1024, 1024), (1024, 768), (32, 900), (8, 256), (12, 10)])
def test_a_picture_of_images_of_any_size_fits_on_a_page(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """Noise is what takes most bytes; a mask that is right looks as the true one."""
    pixels = torch.randint(0, 256, (4, 3, *size), dtype=torch.uint8)
    pixels[:, 0] = 255 * (torch.arange(size[1]) > size[1] // 3)
    masks = (pixels[:, 0] > 127).byte()
    held = Images(pixels, masks, ("dark", "red"), target=Target.masks)
    loaded = in_memory.load(DatasetConf(name="scenes"), tmp_path, Target.masks)
    splits = replace(loaded, train=held, val=held, mean=(0.5,) * 3, std=(1.0,) * 3)
    network = nn.Conv2d(3, 2, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[-1.0, 0, 0], [1.0, 0, 0]])[..., None, None])
    path = tmp_path / store.PICTURE_FILE
    mask_pictures.write(path, network, splits)
    assert path.stat().st_size < search_results.LARGEST_PICTURE
    with Image.open(path) as picture:
        cell = picture.width // 3  # with 2 pixels between pictures
        image, truth, guess = (
            c[2:, 2:cell] for c in torch.from_numpy(np.array(picture)).split(cell, 1)[:3]
        )
        assert max(picture.width // 3, picture.height // 4) <= 256 + 2
    assert torch.equal(truth, guess) and not torch.equal(truth, image)


OWN = """
from torch import nn

class Block(nn.Module):
    def __init__(self, inp, out):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inp, out, 3, padding=1), nn.BatchNorm2d(out)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()

class Net(nn.Sequential):
    def __init__(self, width=4):
        stage = nn.Sequential(Block(3, width), Block(width, width), Block(width, width))
        super().__init__(stage, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))

def make(**options):
    return Net(**options)
"""


@torch.no_grad()
@pytest.mark.parametrize("callable_", ["Net", pytest.param("make", marks=pytest.mark.slow)])
def test_a_network_of_ones_own_is_trained_and_handed_over(
    train: Train, own: Callable[[str], str], callable_: str
) -> None:
    target = f"{own(OWN)}.{callable_}"
    one = train("model=module", f"model.target={target}", "model.arguments={width:16}")
    one.hand_over()
    x = one.images()
    assert torch.equal(saved.load(one.best, trust=callable_ == "make")(x), one.network(x))
    assert one.record.study.startswith(f"{target}-digits-")
    assert ("trust=True" in (one.best / "load.py").read_text()) == (callable_ == "make")
    if callable_ == "make":  # the slow one
        script = [sys.executable, str(one.best / "load.py")]
        done = subprocess.run(script, capture_output=True, text=True, check=True)
        assert done.stdout == "torch.Size([1, 10])\n"


@torch.no_grad()
def test_pixels_that_are_normalised_as_the_folder_says_are_the_trainings(end: Train) -> None:
    one = end()
    one.hand_over()
    about = saved.read(one.best)
    test = opened_study.open(one.conf).splits.test
    assert test is not None
    pixels = test.pixels[:64] / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (about.mean, about.std))
    assert torch.allclose((pixels - mean) / std, one.images(), atol=1e-6)


def test_the_folder_holds_the_record_the_metrics_and_what_the_network_is(end: Train) -> None:
    one = end()
    one.hand_over()
    assert files(one.best).keys() == FILES
    assert store.Store("unused").read(one.best) == one.record
    assert store.Store(one.conf.paths.runs).records() == [one.record]  # and no second run
    assert json.loads((one.best / "metrics.json").read_text()) == METRICS
    about = parse_fields((one.best / "network.json").read_bytes())
    splits = opened_study.open(one.conf).splits
    assert about == {
        "schema_version": 1,
        "model": {"name": "resnet8", "stem": "auto", "shortcut": "A", "arguments": {}},
        "segment": {"kind": "stage", "multiple": 4, "frozen": [], "patterns": []},
        "segments": [
            {"name": "stage1", "blocks": 1, "channels": 16},
            {"name": "stage2", "blocks": 1, "channels": 32},
            {"name": "stage3", "blocks": 1, "channels": 64},
        ],
        "network": "d1-1-1_w4-16-16",
        "num_classes": 10,
        "input_shape": [1, 8, 8],
        "classes": list("0123456789"),
        "mean": list(splits.mean),
        "std": list(splits.std),
        "modifiers": {"depth": [1.0, 1.0, 1.0], "width": [0.25, 0.5, 0.25]},
        "weights_of": "",
        **dict.fromkeys(("target_mean", "target_std")),
    }


def test_a_stem_is_said_as_it_was_built(conf: Compose, make_record: Any) -> None:
    asked = conf("model=resnet18")
    opened = opened_study.open(asked)
    about = answer_folder.describe(opened, asked, make_record(study=opened.name))
    assert about.model.stem == "cifar"
    assert about.segment.multiple == 8


def test_a_run_of_another_study_is_not_handed_over(end: Train, conf: Compose) -> None:
    one = end()
    other = opened_study.open(conf("dataset.split_seed=1"))
    with pytest.raises(ValueError, match="the run is of study"):
        answer_folder.write(other, one.conf, one.record, one.folder, one.best, {})
    assert not one.best.exists()


@pytest.mark.slow
def test_its_script_runs_in_a_new_process_from_any_folder(end: Train, tmp_path: Path) -> None:
    one = end()
    one.hand_over()
    shutil.copytree(one.best, tmp_path / "taken away")
    (tmp_path / "elsewhere").mkdir()
    ended = subprocess.run(
        [sys.executable, "../taken away/load.py"],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert (ended.stdout, ended.stderr) == ("torch.Size([1, 10])\n", "")


# In place of an older one


def test_a_newer_one_takes_the_place_of_all_of_an_older_one(end: Train) -> None:
    first, second = end(), end("seed=1")
    first.hand_over()
    (first.best / "notes.txt").write_text("of the first")
    second.hand_over(drop=0.5)
    assert files(first.best).keys() == FILES
    assert store.Store("unused").read(first.best) == second.record
    assert [p.name for p in (first.best.parent / ".best").iterdir()] == [store.LOCK_FILE]


def test_a_network_that_does_not_load_is_not_handed_over(
    end: Train, leave: Callable[..., Path]
) -> None:
    first, second = end(), end("seed=1")
    first.hand_over()
    before = files(first.best)
    for content in (None, b"", (first.folder / store.LAST_CHECKPOINT).read_bytes()[:-99]):
        (second.folder / store.LAST_CHECKPOINT).unlink(missing_ok=True)
        if content is not None:
            (second.folder / store.LAST_CHECKPOINT).write_bytes(content)
        with pytest.raises(SsrError, match=r"last\.ckpt is not a readable checkpoint"):
            second.hand_over()
    larger = leave(network="d1-1-1_w16-32-64")
    shutil.copy(larger / store.LAST_CHECKPOINT, second.folder / store.LAST_CHECKPOINT)
    with pytest.raises(SsrError, match="does not fit this network"):
        second.hand_over()
    assert files(first.best) == before


def test_an_old_one_that_a_kill_left_aside_comes_back_even_if_no_new_one_can_be_made(
    end: Train,
) -> None:
    one = end()
    one.hand_over()
    before = files(one.best)
    one.best.rename(one.best.parent / ".best" / "old")
    (one.folder / store.LAST_CHECKPOINT).unlink()
    with pytest.raises(SsrError, match=r"last\.ckpt is not a readable checkpoint"):
        one.hand_over()
    assert files(one.best) == before


class Killed(BaseException):
    """Ends a process as `kill -9` would: no more of it is carried out."""


@dataclass
class Steps:
    """Counts what touches the disk; `last` is the step that is not survived."""

    patch: pytest.MonkeyPatch
    last: int
    error: BaseException
    done: int = 0

    def watch(self, owner: object, name: str) -> None:
        real = getattr(owner, name)

        def step(*arguments: Any, **options: Any) -> Any:
            if isinstance(self.error, Killed) and self.done >= self.last:
                return None  # the process is no more
            self.done += 1
            if self.done == self.last:
                raise self.error
            return real(*arguments, **options)

        self.patch.setattr(owner, name, step)


def survive(trained: Trained, patch: pytest.MonkeyPatch, last: int, error: BaseException) -> bool:
    """Hand over until step `last`, which raises; tell whether there was no such step."""
    with patch.context() as inside:
        steps = Steps(inside, last, error)
        for name in ("fsync", "replace", "rename", "mkdir"):
            steps.watch(os, name)
        if isinstance(error, Killed):  # what never fails for want of space
            steps.watch(shutil, "rmtree")
            steps.watch(saved, "load")
            steps.watch(answer_folder, "network_weights")
        try:
            trained.hand_over(drop=0.5)
        except (Killed, SsrError) as caught:
            assert isinstance(caught, Killed) or "cannot write to" in str(caught)
    return steps.done < last


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
@pytest.mark.parametrize("has_old", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("error", [Killed, full_disk], ids=["kill", "full-disk"])
def test_whatever_ends_a_hand_over_leaves_the_old_one_the_new_one_or_none(
    end: Train,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: Callable[[], BaseException],
    has_old: bool,
) -> None:
    monkeypatch.setattr(saved, "load", lambda path, **_: saved.read(path))  # which takes no time
    first, second = end(), end("seed=1")
    first.hand_over()
    old, copy = files(first.best) if has_old else {}, shutil.copytree(first.best, tmp_path / "copy")
    kept, last, through = set(), 0, False
    while not through:
        last += 1
        second.hand_over()  # whatever was left
        assert store.Store("unused").read(first.best) == second.record
        shutil.rmtree(first.best)
        if has_old:
            shutil.copytree(copy, first.best)
        through = survive(second, monkeypatch, last, error())
        left = files(first.best) if first.best.exists() else {}
        assert left in ({}, old) or left.keys() == FILES
        kept.add("none" if not left else "old" if left == old else "new")
    assert last > 10
    assert kept == {"old" if has_old else "none", "new"} | ({"none"} if error is Killed else set())
