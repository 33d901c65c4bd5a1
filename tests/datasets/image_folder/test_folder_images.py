"""Whether memory holds the images of a folder or not, all that is known of them is the same."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from ssr_exp.datasets import memory
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.image_folder import folder_images
from ssr_exp.datasets.image_folder.file_pixels import FilePixels
from ssr_exp.datasets.image_folder.survey import Survey
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.in_memory import TensorDataModule
from tests.datasets.pictures import (
    Save,
    as_mode,
    copied,
    fill,
    float_tiff,
    icon,
    noise,
    phone,
    sixteen_bit,
    sixteen_bit_colours,
    split,
    twelve_bit,
)

Load = Callable[..., Splits]
PARTS = ("train", "val", "test")


def unseen(*_: object) -> Survey:
    raise AssertionError("looked at again")


def is_streamed(splits: Splits) -> bool:
    return isinstance(splits.train.pixels, FilePixels)


def told(splits: Splits) -> tuple[Any, ...]:
    """Take all that a study knows of its images."""
    return (
        splits.fingerprint,
        splits.mean,
        splits.std,
        splits.preprocessing,
        splits.reading,
        splits.classes,
        splits.image_shape,
    )


def batches(splits: Splits) -> list[tuple[Tensor, Tensor]]:
    wanted = Augmentation(flip=True, crop_padding=1)
    module = TensorDataModule(splits, batch_size=7, seed=1, augmentation=wanted, workers=0)
    train = module.train_dataloader()
    train.set_epoch(1)
    parts = [train, module.val_dataloader()]
    return [batch for part in parts for batch in part]


def check_same(load: Load, root: Path, **fields: Any) -> Splits:
    """Load a folder both ways, and hold all of both against each other."""
    one, other = (load(root, stream=stream, **fields) for stream in (False, True))
    assert (is_streamed(one), is_streamed(other)) == (False, True)
    assert told(one) == told(other)
    for part in PARTS:
        mine, theirs = getattr(one, part), getattr(other, part)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert torch.equal(mine.pixels, theirs.pixels[:])
            assert torch.equal(mine.labels, theirs.labels)
            assert [*mine.files] == [*theirs.files]
    if one.val is not None:
        for (x, y), (x2, y2) in zip(batches(one), batches(other), strict=True):
            assert torch.equal(x, x2) and torch.equal(y, y2)
    return other


@pytest.mark.parametrize(
    "save",
    [
        *(pytest.param(as_mode(mode), id=mode) for mode in ("L", "P", "RGBA", "1")),
        icon,
        phone,
        sixteen_bit,
        twelve_bit,
        float_tiff,
        sixteen_bit_colours,
    ],
)
def test_images_of_every_kind_are_the_same_when_streamed(
    root: Path, save: Save, load: Load
) -> None:
    check_same(load, fill(root, save=save))


def test_grey_images_among_coloured_ones_are_the_same_when_streamed(root: Path, load: Load) -> None:
    fill(root, save=as_mode("L"))
    fill(root / "train", save=twelve_bit)
    shutil.move(root / "train" / "circle", root / "zebra")
    shutil.rmtree(root / "train")
    Image.new("RGB", (16, 16), "red").save(root / "zebra" / "red.png")
    assert check_same(load, root).image_shape[0] == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"resize": [6, 9]},
        {"resize": 6, "fit": "pad", "background": "black"},
        {"resize": 6, "fit": "stretch"},
        {"resize": 6, "crop_share": 0.75},
        {"train_on_val": True},
        {"split_seed": 3},
    ],
)
def test_sizes_and_splits_are_the_same_when_streamed(
    root: Path, fields: dict[str, Any], load: Load
) -> None:
    check_same(load, noise(root, size=(11, 8), cat=20, dog=15), **fields)


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "test"), ("train", "val", "test")])
def test_parts_are_the_same_when_streamed(root: Path, parts: tuple[str, ...], load: Load) -> None:
    check_same(load, split(root, *parts))
    check_same(load, root, train_on_val=True)


def test_doubles_and_copies_are_found_when_streamed(root: Path, load: Load) -> None:
    split(root, "train", "val")
    copied(root / "train" / "circle", root / "val" / "circle", "again")
    copied(root / "train" / "cross", root / "train" / "square", "other")
    assert len(check_same(load, root).reading.warnings) >= 2


def test_another_split_is_counted_from_what_is_known(
    root: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(root, cat=20, dog=15)
    load(root, stream=True)
    monkeypatch.setattr(folder_images, "survey", unseen)
    for fields in ({"split_seed": 5}, {"val_fraction": 0.5}, {"train_on_val": True}):
        check_same(load, root, **fields)
    monkeypatch.setattr(Survey, "regrouped", unseen)  # it is kept, too
    monkeypatch.setattr(FilePixels, "read", unseen)
    for fields in ({}, {"split_seed": 5}, {"val_fraction": 0.5}, {"train_on_val": True}):
        assert is_streamed(load(root, stream=True, **fields))


@pytest.mark.parametrize("count", [1, 3])
def test_files_that_are_left_out_leave_the_same_when_streamed(
    root: Path, count: int, load: Load, refused: Callable[..., str], caplog: Any
) -> None:
    noise(root, cat=12, dog=12)
    for number in range(count):
        (root / "cat" / f"{number}.png").write_bytes(b"no image")
    for stream in (False, True):
        message = refused(root, stream=stream, skip_corrupt=count - 1)
        assert "cat/0.png" in message and f"dataset.skip_corrupt={count}" in message
    splits = check_same(load, root, skip_corrupt=count)
    assert splits.reading.left_out == {"damaged": count}
    assert "cat/0.png is left out" in caplog.text
    for stream in (False, True):  # a cache that left out more is none
        assert "cat/0.png" in refused(root, stream=stream)
    for number in range(count):
        (root / "cat" / f"{number}.png").unlink()
    assert check_same(load, root).fingerprint == splits.fingerprint


def test_a_folder_of_files_that_are_no_images_is_refused_whatever_is_left_out(
    root: Path, refused: Callable[..., str]
) -> None:
    noise(root, cat=3, dog=3)
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    for stream in (False, True):
        assert "6 files cannot be read" in refused(root, stream=stream, skip_corrupt=9)


def test_a_part_of_which_nothing_can_be_read_is_refused_though_it_may_be_left_out(
    root: Path, refused: Callable[..., str]
) -> None:
    noise(root, **{"train/cat": 6, "train/dog": 6, "val/cat": 2, "val/dog": 2})
    for path in (root / "val").rglob("*.png"):
        path.write_bytes(b"no image")
    for stream in (False, True):
        said = refused(root, stream=stream, skip_corrupt=9)
        assert "all 4 images of val in" in said and "are damaged: replace them" in said


def test_a_folder_is_looked_at_once(
    root: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(root, cat=9, dog=9)
    first = load(root, stream=True)
    monkeypatch.setattr(folder_images, "survey", unseen)
    assert told(load(root, stream=True)) == told(first)
    with pytest.raises(AssertionError, match="looked at again"):
        load(root, stream=True, resize=3)


def test_a_file_that_changed_is_noticed_at_the_next_start(root: Path, load: Load) -> None:
    noise(root, cat=9, dog=9)
    first = load(root, stream=True)
    before = first.train.pixels[:]
    Image.new("RGB", (6, 6), "red").save(root / "cat" / "0.png")
    assert check_same(load, root).fingerprint != first.fingerprint
    assert before.shape == first.train.pixels[:].shape  # what goes on meanwhile is not disturbed


@pytest.mark.parametrize("damage", [b"hello", None])
def test_a_damaged_cache_of_a_streamed_folder_is_made_anew(
    root: Path, tmp_path: Path, damage: bytes | None, load: Load, caplog: Any
) -> None:
    noise(root, cat=9, dog=9)
    first = load(root, stream=True)
    (cache,) = (tmp_path / "data" / "cache").glob("*.pt")
    content = cache.read_bytes()
    at = content.index(b"cat/0.png")
    cache.write_bytes(damage or content[:at] + b"cut" + content[at + 3 :])
    assert told(load(root, stream=True)) == told(first)
    assert caplog.text.count("is damaged: ") == 1


def test_what_memory_holds_is_kept_there_and_else_read_and_that_is_said(
    root: Path, load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    noise(root, cat=9, dog=9)
    need = 18 * 3 * 6 * 6
    for free, stream, expected in (
        (3 * need, "auto", False),
        (3 * need - 3, "auto", True),
        (0, False, False),
        (10 * need, True, True),
    ):
        monkeypatch.setattr(memory, "free_bytes", lambda free=free: free)
        caplog.clear()
        assert is_streamed(load(root, stream=stream)) is expected
        said = "read from their files for each batch" if expected else "kept in memory"
        assert "18 images of 6 x 6 pixels take 0.0 MiB as tensors" in caplog.text
        assert said in caplog.text
    monkeypatch.setattr(memory, "free_bytes", lambda: 3 * need - 3)
    assert not is_streamed(load(root, memory=0.5))


def test_sizes_of_an_unfitted_folder_that_differ_are_refused_when_streamed(
    root: Path, refused: Callable[..., str]
) -> None:
    noise(root, size=(6, 8), cat=9)
    noise(root, size=(12, 5), dog=9)
    assert refused(root, stream=True) == refused(root, stream=False)
    assert "type dataset.resize=32" in refused(root, stream=True)
