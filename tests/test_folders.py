"""Image folders as people have them, on the command line: read right, or refused in a sentence."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.pictures import fill, split, twelve_bit

pytestmark = pytest.mark.usefixtures("repeatable")

Command = Callable[..., Any]
Instant = Any


def leak(root: Path) -> None:
    split(root, "train")
    shutil.copytree(root / "train", root / "val")


def loop(root: Path) -> None:
    fill(root, count=15, save=twelve_bit, size=(32, 16))
    (root / "circle" / "up").symlink_to(root, target_is_directory=True)


READ: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "capital_split": (
        lambda root: split(root, "Train", "Test"),
        "dataset.val_fraction=0.2",
        ["train 15 (Train); val 3", "test 18 (Test)", "36 images of 3 classes"],
    ),
    "leak": (leak, "", ["warning: 18 of the 18 val images stand in train, too"]),
    "loop": (
        loop,
        "dataset.resize=8",
        [
            "image_folder: 45 images of 3 classes: circle 15, cross 15, square 15",
            "32 x 16 pixels, grey of 12 bits, of which the centre square is scaled to 8 x 8",
            "read as grey of 8 bits",
            "left out: links to folders above (1)",
        ],
    ),
}


@pytest.fixture
def read(command: Command, tmp_path: Path) -> Command:
    def run(*words: str, **script: str) -> Any:
        where = f"dataset.root={tmp_path}/images"
        return command("dataset=image_folder", where, *words, **script)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_what_was_read_is_said_once_and_kept(
    name: str, read: Command, instant: Instant, tmp_path: Path
) -> None:
    make, words, said = READ[name]
    make(tmp_path / "images")
    two = ("modifiers=uniform_width", "modifiers.fractions=[0.5,1]")
    ended = read(*two, *words.split())
    assert ended.code == 0, ended.text
    assert len(instant.done) == 2
    for text in said:
        assert ended.out.count(text) == 1, ended.out
    (path,) = (tmp_path / "runs").glob("*/study.json")
    about = json.loads(path.read_text())
    assert list(about["reading"]["parts"]["train"]) == ["circle", "cross", "square"]
    assert all(line in ended.out for line in about["reading"]["text"])
    assert about["preprocessing"]["size"]


@pytest.mark.slow
def test_what_cannot_be_right_is_refused_in_a_sentence_whose_advice_works_when_typed(
    read: Command, command: Command, instant: Instant, tmp_path: Path
) -> None:
    for camera in ("camA", "camB"):
        fill(tmp_path / "images" / camera, ("circle", "square"), 15)
    ended = read()
    assert ended.code == 1
    assert "camA and camB hold no images but the same folders circle and square" in ended.err
    assert "Traceback" not in ended.text and "\n" not in ended.err.strip()
    assert instant.done == []
    (word,) = re.findall(r"type (dataset\.root=\S+)", ended.err)
    assert command("dataset=image_folder", word).code == 0
    assert len(instant.done) == 1


COARSE = (
    r"warning: 18 val images \(5\.6 points each\) cannot tell objective\.max_drop=1 from no drop "
    r"with objective\.confidence=0\.8"
)


@pytest.mark.slow
def test_a_search_says_what_was_read_and_what_val_can_tell(
    read: Command, instant: Instant, tmp_path: Path
) -> None:
    split(tmp_path / "images", "train", "val", "test")
    assert read("modifiers=sentinel_all").code == 0
    ended = read("rounds=0", script="search.py")
    assert ended.code == 0, ended.text
    assert ended.out.count("image_folder: 54 images of 3 classes") == 1
    assert len(re.findall(COARSE, ended.out)) == 1
    (advice,) = re.findall(r"type (objective\.max_drop=\S+) or more", ended.out)
    again = read("rounds=0", advice, script="search.py")
    assert again.code == 0
    assert "cannot tell" not in again.out


@pytest.mark.slow
def test_a_whole_search_says_so_before_and_after(read: Command, tmp_path: Path) -> None:
    split(tmp_path / "images", "train", "val", "test")
    few = ("modifiers=uniform_width", "rounds=1", "batch=1", "finalists.seeds=1")
    ended = read(*few, script="search.py")
    assert ended.code == 0, ended.text
    assert len(re.findall(COARSE, ended.out)) == 2
    assert ended.out.count("image_folder: 54 images of 3 classes") == 1
    after = ended.out[ended.out.index("the search ends: ") :]
    assert re.search(COARSE, after)
    assert "always naming its largest class" in after
