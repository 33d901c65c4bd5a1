"""Image folders as people have them, on the command line: read right, or refused in a sentence."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.pictures import (
    CLASSES,
    copied,
    fill,
    float_tiff,
    half_jfif,
    icon,
    one_picture,
    phone,
    sixteen_bit,
    split,
    twelve_bit,
)

pytestmark = pytest.mark.usefixtures("repeatable")

Command = Callable[..., Any]
Instant = Any
COUNT = 15  # pictures of a class


def leak(root: Path) -> None:
    split(root, "train")
    shutil.copytree(root / "train", root / "val")


def two_labels(root: Path) -> None:
    fill(root, ("circle", "square"), COUNT)
    copied(root / "circle", root / "square", "copy_")


def nested(root: Path) -> None:
    for camera in ("camA", "camB"):
        fill(root / camera, ("circle", "square"), COUNT)


def loop(root: Path) -> None:
    fill(root, count=COUNT)
    (root / "circle" / "up").symlink_to(root, target_is_directory=True)


def kind(save: Any, size: tuple[int, int] = (16, 16)) -> Callable[[Path], object]:
    return lambda root: fill(root, count=COUNT, save=save, size=size)


def png(image: Any, path: Path) -> None:
    image.save(f"{path}.png")


ALL = "image_folder: 45 images of 3 classes: circle 15, cross 15, square 15"
READ: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "phone": (
        kind(phone, (12, 16)),
        "dataset.resize=8",
        [ALL, "12 x 16 pixels, RGB, of which the"],
    ),
    "sixteen_bit": (kind(sixteen_bit), "", [ALL, "grey of 16 bits, read as grey of 8 bits"]),
    "wide": (
        kind(png, (32, 16)),
        "dataset.resize=8",
        [ALL, "the centre square is scaled to 8 x 8"],
    ),
    "twelve_bit": (kind(twelve_bit), "", [ALL, "grey of 12 bits, read as grey of 8 bits"]),
    "float_tiff": (kind(float_tiff), "", [ALL, "floating-point from 0 to 1"]),
    "alpha_icons": (kind(icon), "", [ALL, "45 transparent images", "dataset.background=white"]),
    "half_jfif": (kind(half_jfif), "", [ALL]),
    "capital_split": (
        lambda root: split(root, "Train", "Test"),
        "dataset.val_fraction=0.2",
        ["train 15 (Train); val 3", "test 18 (Test)", "36 images of 3 classes"],
    ),
    "roboflow": (
        lambda root: split(root, "train", "valid"),
        "",
        ["train 18 (train); val 18 (valid, one image is 5.6 points)"],
    ),
    "long_split": (
        lambda root: split(root, "training", "validation"),
        "",
        ["train 18 (training); val 18 (validation, "],
    ),
    "leak": (leak, "", ["warning: 18 of the 18 val images stand in train, too"]),
    "two_labels": (two_labels, "", ["warning: 15 images under two labels (circle/0"]),
    "loop": (loop, "", [ALL, "left out: links to folders above (1)"]),
}
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "nested": (nested, "camA and camB hold no images but the same folders circle and square"),
    "tiny": (lambda root: fill(root, count=2), "3 are needed, one each for train and val and test"),
    "all_alike": (kind(one_picture), "all 45 images are the same picture"),
}


@pytest.fixture
def read(command: Command, tmp_path: Path) -> Command:
    def run(*words: str) -> Any:
        return command("dataset=image_folder", f"dataset.root={tmp_path}/images", *words)

    return run


@pytest.mark.parametrize("name", READ)
def test_what_was_read_is_said_once_and_kept(
    name: str, read: Command, instant: Instant, tmp_path: Path
) -> None:
    make, words, said = READ[name]
    make(tmp_path / "images")
    ended = read("modifiers=uniform_width", *words.split())
    assert ended.code == 0, ended.text
    assert len(instant.done) == 3
    for text in said:
        assert ended.out.count(text) == 1, ended.out
    (path,) = (tmp_path / "runs").glob("*/study.json")
    about = json.loads(path.read_text())
    assert list(about["reading"]["parts"]["train"]) == [
        name for name in CLASSES if name in about["reading"]["parts"]["train"]
    ]
    assert all(line in ended.out for line in about["reading"]["text"])
    assert about["preprocessing"]["size"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused_in_a_sentence(
    name: str, read: Command, instant: Instant, tmp_path: Path
) -> None:
    make, said = REFUSED[name]
    make(tmp_path / "images")
    ended = read()
    assert ended.code == 1
    assert said in ended.err
    assert "Traceback" not in ended.text and "\n" not in ended.err.strip()
    assert instant.done == []


def test_the_advice_on_nested_folders_works_when_typed(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    nested(tmp_path / "images")
    ended = command("dataset=image_folder", f"dataset.root={tmp_path}/images")
    (word,) = re.findall(r"type (dataset\.root=\S+)", ended.err)
    assert command("dataset=image_folder", word).code == 0
    assert len(instant.done) == 1


COARSE = r"warning: objective\.max_drop=1 is less than two of the 18 val images \(5\.6 points each"


def test_a_search_says_what_was_read_and_what_val_can_tell(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    split(tmp_path / "images", "train", "val", "test")
    words = ["dataset=image_folder", f"dataset.root={tmp_path}/images"]
    assert command(*words, "modifiers=sentinel_all").code == 0
    ended = command(*words, "rounds=0", script="search.py")
    assert ended.code == 0, ended.text
    assert ended.out.count("image_folder: 54 images of 3 classes") == 1
    assert len(re.findall(COARSE, ended.out)) == 1
    (advice,) = re.findall(r"type (objective\.max_drop=\S+) or more", ended.out)
    again = command(*words, "rounds=0", advice, script="search.py")
    assert again.code == 0
    assert "less than two of the" not in again.out


@pytest.mark.slow
def test_a_whole_search_says_so_before_and_after(command: Command, tmp_path: Path) -> None:
    split(tmp_path / "images", "train", "val", "test")
    words = ["dataset=image_folder", f"dataset.root={tmp_path}/images", "rounds=1", "batch=1"]
    ended = command(*words, "finalists.seeds=1", script="search.py")
    assert ended.code == 0, ended.text
    assert len(re.findall(COARSE, ended.out)) == 2
    assert ended.out.count("image_folder: 54 images of 3 classes") == 1
    after = ended.out[ended.out.index("answer: ") :]
    assert re.search(COARSE, after)
    assert "always naming its largest class" in after
