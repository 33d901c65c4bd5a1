"""Each command of the README runs, in the order of the text: small, and on data of its kind."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, Command
from tests.datasets.test_masks import write as write_masks

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [
    line
    for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
    for line in block.splitlines()
]
COMMANDS = [shlex.split(line)[1:] for line in LINES if line.startswith("ssr ")]
MODULE = """
from torch import nn


def layer(before, after, stride):
    conv = nn.Conv2d(before, after, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


class MyNet(nn.Sequential):
    def __init__(self, num_classes=10):
        body = [layer(3, 16, 2), layer(16, 16, 1), layer(16, 32, 2), layer(32, 32, 1)]
        super().__init__(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes))
"""
FEW = ["trainer.max_epochs=1", "recipe.batch_size=8"]
FIRST = ["modifiers=sentinel_depth", "modifiers.together=1"]  # few of them
SEARCH = ["rounds=1", "batch=1", "finalists.seeds=0", "objective.max_drop=90"]

pytestmark = pytest.mark.slow


@pytest.fixture
def images(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for name, tint in (("cat", 60), ("dog", 180)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for at in range(20):
            pixels = draw.integers(tint - 50, tint + 50, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{at}.png")
    return tmp_path / "images"


def test_every_command_of_the_text_is_tried_here() -> None:
    assert [words[0] for words in COMMANDS] == [
        *("anatomy", "train", "search", "report", "export", "studies"),
        *("search", "search", "search", "search"),
    ]
    assert all(line.split()[0] in ("ssr", "make") for line in LINES)


def test_look_sweep_search_page_and_export(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ssr_exp.app.studies.__main__ import main as studies
    from ssr_exp.rescaling.__main__ import main

    anatomy, train, search, report, export = (words[1:] for words in COMMANDS[:5])
    assert main(anatomy) == 0
    small = {"model=resnet56": "model=resnet8", "dataset=cifar10": "dataset=digits"}
    train, search = ([small.get(word, word) for word in words] for words in (train, search))
    few = ["modifiers=sentinel_joint", "dataset.crop_padding=0", "dataset.flip=false", FEW[0]]
    assert command(*train, *few).code == 0
    ended = command(*search, *few, *SEARCH, "segment.multiple=4", script="search.py")
    assert ended.code == 0 and ended.lines("answer: "), ended.text
    folder = f"paths.runs={tmp_path}/runs"
    told = command(
        *(folder if "paths.runs" in word else word for word in report), script="report.py"
    )
    assert f"report: {tmp_path}/runs/report.html" in told.out, told.text
    ended = command(*export, "repeats=1", "int8_drop=100", script="export.py")
    assert ended.code == 0, ended.text
    capsys.readouterr()
    assert studies([*COMMANDS[5][1:], "--runs", f"{tmp_path}/runs"]) == 0
    assert "resnet8" in capsys.readouterr().out
    assert {"model.onnx", "model.pte"} <= {path.name for path in tmp_path.rglob("export*/**/*")}


@pytest.mark.parametrize("words", COMMANDS[6:8], ids=lambda words: words[1])
def test_a_search_on_a_users_images(
    words: list[str],
    images: Path,
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "my_package.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    words = [word.replace("DIR", str(images)) for word in words[1:]]
    ended = command(*words, *FIRST, *FEW, *SEARCH, script="search.py")
    assert ended.code == 0 and ended.lines("answer: "), ended.text


def test_a_search_on_a_users_masks(tmp_path: Path, command: Command) -> None:
    root = write_masks(tmp_path / "set", count=24)
    words = [word.replace("DIR", str(root)) for word in COMMANDS[8][1:]]
    few = ["modifiers=sentinel_joint", *FEW, "dataset.crop_padding=0"]
    ended = command(*words, *few, *SEARCH, script="search.py")
    assert ended.code == 0 and ended.lines("answer: "), ended.text


def test_a_search_of_a_lightning_project(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "tests" / "projects" / "cells", tmp_path / "cells")
    monkeypatch.syspath_prepend(tmp_path)
    few = ["modifiers=sentinel_joint", "trainer.max_epochs=1", "objective.max_drop=0.9"]
    ended = command(*COMMANDS[9][1:], *few, *SEARCH[:3], script="search.py")
    assert ended.code == 0 and ended.lines("answer: "), ended.text


def test_a_loop_of_a_users_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```py\n(.*?)```", TEXT, flags=re.DOTALL)
    (tmp_path / "my_package.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = "from my_package import MyNet\ndef my_training(network, seed):\n    return 0.5\n"
    (tmp_path / "loop.py").write_text(given + code)
    monkeypatch.delitem(__import__("sys").modules, "my_package", raising=False)
    __import__("loop")
    printed = capsys.readouterr().out
    assert "answer: " in printed and "report.html" in printed
