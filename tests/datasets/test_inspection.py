"""Doubles, labels that contradict each other, and how what was read is said and kept."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ssr_exp.config import DatasetConf
from ssr_exp.datasets import in_memory, inspection, reading
from ssr_exp.datasets.images import Images, Splits, Target
from ssr_exp.errors import SsrError
from tests.datasets.pictures import copied, fill, numbers, one_picture, split

Capsys = pytest.CaptureFixture[str]
Load = Callable[..., Splits]


def test_a_val_that_is_a_copy_of_train_is_said(root: Path, load: Load) -> None:
    split(root, "train")
    for name in ("circle", "cross", "square"):
        copied(root / "train" / name, root / "val" / name)
    (warning,) = load(root).reading.warnings
    assert "18 of the 18 val images stand in train, too" in warning
    assert "(val/circle/000.png is train/circle/000.png)" in warning


def test_doubles_between_all_parts_are_counted(root: Path, load: Load) -> None:
    split(root, "train", "val", "test")
    copied(root / "train" / "circle", root / "test" / "circle", "train")
    copied(root / "val" / "cross", root / "test" / "cross", "val")
    found = load(root).reading.warnings
    assert [text.partition(" (")[0] for text in found] == [
        "6 of the 30 test images stand in train, too",
        "6 of the 30 test images stand in val, too",
    ]


def test_doubles_in_a_folder_that_is_split_are_counted(root: Path, load: Load) -> None:
    fill(root)
    for name in ("circle", "cross", "square"):
        copied(root / name, root / name / "again")
    splits = load(root)
    pixels = [{p.numpy().tobytes() for p in part.pixels} for part in (splits.train, splits.val)]
    expected = sum(image.numpy().tobytes() in pixels[0] for image in splits.val.pixels)
    assert f"{expected} of the {len(splits.val)} val images stand in train" in str(splits.reading)
    assert "train holds" in splits.reading.notes[0] and "copies of other" in splits.reading.notes[0]


def test_a_copy_in_another_format_is_a_double(root: Path, load: Load) -> None:
    split(root, "train", "val")
    fill(root / "val", ("circle",), save=lambda i, p: i.save(f"{p}.bmp"))
    assert "6 of the 24 val images stand in train" in str(load(root).reading)


def test_one_image_under_two_labels_is_named(root: Path, load: Load) -> None:
    fill(root, ("circle", "square"))
    copied(root / "circle", root / "square", "copy_")
    warning = load(root).reading.warnings[-1]
    assert warning.startswith("6 images under two labels (circle/00")
    assert "is square/copy_00" in warning


def test_val_images_that_are_one_picture_are_said(root: Path, load: Load) -> None:
    split(root, "train")
    source = root / "train" / "circle" / "000.png"
    for name in ("circle", "cross", "square"):
        (root / "val" / name).mkdir(parents=True)
        (root / "val" / name / "0.png").write_bytes(source.read_bytes())
    assert "all 3 val images are the same picture" in str(load(root).reading)


def test_a_class_that_is_one_picture_is_named(root: Path, load: Load) -> None:
    fill(root)
    first = (root / "cross" / "000.png").read_bytes()
    for path in (root / "cross").iterdir():
        path.write_bytes(first)
    assert "train images of class 'cross' are the same picture" in str(load(root).reading)


def test_sets_without_files_are_inspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn import datasets

    held = datasets.load_digits()
    held.images[:1000] = held.images[0]
    monkeypatch.setattr(datasets, "load_digits", lambda: held)
    found = in_memory.load(DatasetConf(name="digits"), tmp_path).reading.warnings
    assert "val images stand in train, too (" in found[0]
    assert "1 image under two labels (0 number" in found[-1]


def test_one_image_of_val_is_said_in_points(root: Path, load: Load) -> None:
    said = str(load(split(root, "train", "val", "test")).reading)
    assert said.splitlines()[:3] == [
        "image_folder: 54 images of 3 classes: circle 18, cross 18, square 18",
        "train 18 (train); val 18 (val, one image is 5.6 points); test 18 (test)",
        "16 x 16 pixels, RGB",
    ]


def test_many_classes_are_said_in_short(root: Path, load: Load) -> None:
    fill(root, [f"class{k}" for k in range(12)], count=3)
    fill(root, ("class7",), count=5, seed=1)
    said = str(load(root, val_fraction=0.5).reading).splitlines()[0]
    assert said == "image_folder: 38 images of 12 classes: 3 (class9) to 5 (class7) each"


def test_with_train_on_val_there_is_no_val_to_speak_of(root: Path, load: Load) -> None:
    said = str(load(fill(root), train_on_val=True).reading)
    assert "train 15 (with val); test 3 (16.7 % of all)" in said


def test_a_cache_of_before_is_made_anew(root: Path, tmp_path: Path, load: Load) -> None:
    first = load(fill(root))
    (cache,) = (tmp_path / "data" / "cache").glob("*.pt")
    for missing in ("hashes", "how", "contents"):
        content = torch.load(cache, weights_only=True)
        del content[missing]
        torch.save(content, cache)
        assert load(root).reading == first.reading
        assert missing in torch.load(cache, weights_only=True)


def test_fit_and_background_have_their_own_caches(root: Path, tmp_path: Path, load: Load) -> None:
    fill(root, size=(20, 14))
    found = {
        load(root, resize=8, fit=fit, background=background).fingerprint
        for fit in ("crop", "pad", "stretch")
        for background in ("white", "black")
    }
    assert len(list((tmp_path / "data" / "cache").glob("*.pt"))) == 6
    assert len(found) == 4  # the background of a crop is not seen


def test_the_folder_is_only_printed(root: Path, tmp_path: Path, capsys: Capsys, load: Load) -> None:
    fill(root)
    one = load(root).reading
    reading.print_all([one, in_memory.load(DatasetConf(name="digits"), tmp_path).reading])
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"{one.lines()[0]} ({root})"
    assert str(tmp_path) not in "".join(rest) + str(one) + json.dumps(one.fields())


def test_names_forge_no_line(tmp_path: Path, capsys: Capsys, load: Load) -> None:
    odd = "a\nwarning: nothing"
    root = fill(tmp_path / odd, (odd, "b"))
    for name in (f"{odd}.png", f"{odd}2.png"):
        shutil.copy(root / "b" / "000.png", root / odd / name)
    fill(root, (f"{odd} 3",), save=one_picture)
    found = load(root).reading
    reading.print_all([found])
    printed = capsys.readouterr().out
    assert "\nwarning: nothing" not in printed + str(found)
    assert sum(line.startswith("warning: ") for line in printed.splitlines()) == len(found.warnings)
    assert len(printed.splitlines()) == len(found.lines())


ODD = "a\nwarning: nothing"
ODDLY_NAMED: dict[str, Callable[[Path], object]] = {
    "small": lambda root: fill(root, (ODD,), size=(4, 4)),
    "deep": lambda root: fill(root, (ODD,), save=numbers("int32", -1)),
    "one class": lambda root: fill(root / ODD, ("one",)),
    "nothing": lambda root: (root / ODD).mkdir(),
    "link": lambda root: (fill(root, (ODD,)) / ODD / f"{ODD}.png").symlink_to("nowhere"),
    "parts": lambda root: fill(split(root / ODD, "train", "test") / "test", (ODD,)),
    "again": lambda root: fill(root, (f"{ODD}/x", f"{ODD}/y", f"{ODD} 2/x", f"{ODD} 2/y")),
}


@pytest.mark.parametrize("name", ODDLY_NAMED)
def test_names_break_no_refusal(root: Path, name: str, load: Load) -> None:
    fill(root, ("b",))
    ODDLY_NAMED[name](root)
    said = []
    for place in (root, root / ODD):
        try:
            load(place)
        except SsrError as error:
            said.append(str(error))
    assert said and all(text.isprintable() for text in said)
    assert "warning: nothing" in said[-1]


def test_a_class_that_a_part_hardly_has_is_named(root: Path, tmp_path: Path, load: Load) -> None:
    fill(root, ("common",), count=60)
    fill(root, ("rare",), count=3, seed=1)
    found = load(root).reading.warnings
    assert any("val has 1 image of class 'rare', which say next to nothing" in t for t in found)
    assert any("% of val is of class 'common': a network that always names it" in t for t in found)
    even = load(fill(tmp_path / "even", ("a", "b"), count=20)).reading.warnings
    assert not [text for text in even if "next to nothing" in text or "always names" in text]


def test_the_pixels_of_masks_are_counted_without_a_copy_of_them() -> None:
    masks = torch.arange(60 * 64 * 64).remainder(3).byte().view(60, 64, 64)
    held = Images(masks[:, None], masks, tuple("abc"), target=Target.masks)
    tracemalloc.start()
    try:
        counts = inspection._pixels(held, np.arange(1, 60))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counts.tolist() == torch.bincount(masks[1:].flatten(), minlength=3).tolist()
    assert peak < masks.numel() / 2
