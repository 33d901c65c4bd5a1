from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssr_exp.config import DatasetConf
from ssr_exp.datasets import images, in_memory, memory
from ssr_exp.datasets.images import Images, Splits
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.errors import SsrError
from tests.datasets.pictures import noise

Load = Callable[..., Splits]

DIGITS_FINGERPRINT = "abc7bdd5b98cdb49880526f93ff43c0bce5d44427e4cb34eab46f4b951b2bf9e"


def rows(part: Images | None) -> set[bytes]:
    assert part is not None
    return {image.numpy().tobytes() for image in part.pixels}


def test_splits_are_disjoint_and_cover_all_images(root: Path, load: Load) -> None:
    splits = load(noise(root, cat=20, dog=30))
    parts = [rows(part) for part in (splits.train, splits.val, splits.test)]
    assert [len(part) for part in parts] == [45 - 12, 12, 5]
    assert len(set.union(*parts)) == 50


def test_val_is_stratified(digits: Splits) -> None:
    for part, share in ((digits.val, 0.1), (digits.test, 0.2)):
        assert part is not None
        counts = part.labels.bincount()
        whole = sum(p.labels.bincount() for p in (digits.train, digits.val) if p is not part)
        assert (counts - share / (1 - share) * whole).abs().max() < 2


def test_val_depends_on_the_seed_alone_and_test_on_nothing(digits: Splits) -> None:
    def again(seed: int) -> Splits:
        return in_memory.load(DatasetConf(name="digits", split_seed=seed), Path("unused"))

    assert torch.equal(again(0).val.pixels, digits.val.pixels)
    other = again(1)
    assert not torch.equal(other.val.pixels, digits.val.pixels)
    assert rows(other.test) == rows(digits.test)


def test_split_is_the_same_on_every_machine(digits: Splits) -> None:
    assert digits.fingerprint == DIGITS_FINGERPRINT


def test_val_has_every_class_at_least_once(root: Path, load: Load) -> None:
    splits = load(noise(root / "train", cat=2, dog=40).parent)
    assert splits.val.labels.bincount().tolist() == [1, 10]


def test_pixels_and_labels_are_those_of_the_files(root: Path, load: Load) -> None:
    noise(root / "train", size=(7, 5), cat=4, dog=4)
    noise(root / "val", size=(7, 5), cat=1, dog=1)
    train = load(root).train
    files = sorted((root / "train").rglob("*.png"))
    assert train.pixels.shape == (8, 3, 5, 7)
    for pixels, label, file in zip(train.pixels, train.labels, files, strict=True):
        assert np.array_equal(pixels.permute(1, 2, 0), np.asarray(Image.open(file)))
        assert train.classes[label] == file.parent.name


def test_resize_makes_all_images_square(root: Path, load: Load) -> None:
    noise(root, size=(6, 8), cat=9)
    noise(root, size=(12, 5), dog=9)
    assert load(root, resize=4).image_shape == (3, 4, 4)


def test_digits_fill_the_range_of_a_pixel(digits: Splits) -> None:
    assert digits.image_shape == (1, 8, 8)
    assert digits.num_classes == 10
    assert (int(digits.train.pixels.min()), int(digits.train.pixels.max())) == (0, 255)


def test_statistics_equal_those_of_the_floats() -> None:
    pixels = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    scaled = pixels.double() / 255
    mean, std = images.moments(images.histogram(pixels))
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist())
    assert images.moments(images.histogram(torch.zeros(2, 1, 3, 3, dtype=torch.uint8))) == (
        (0.0,),
        (1.0,),
    )


def test_fingerprint_is_of_content_and_split_alone(root: Path, tmp_path: Path, load: Load) -> None:
    noise(root, cat=9, dog=9)
    first = load(root)
    shutil.copytree(root, tmp_path / "copy")
    assert load(tmp_path / "copy").fingerprint == first.fingerprint
    assert load(root, split_seed=1).fingerprint != first.fingerprint
    (root / "dog").rename(root / "fox")
    assert load(root).fingerprint != first.fingerprint


def test_with_train_on_val_train_is_train_and_val_together(digits: Splits) -> None:
    both = in_memory.load(DatasetConf(name="digits", train_on_val=True), Path("unused"))
    assert both.val is None
    assert len(both.train) == len(digits.train) + len(digits.val)
    assert rows(both.train) == rows(digits.train) | rows(digits.val)
    assert rows(both.test) == rows(digits.test)
    assert both.train.classes == digits.train.classes


def test_a_val_folder_is_learnt_from_too(root: Path, load: Load) -> None:
    noise(root / "train", cat=8, dog=8)
    for part in ("val", "test"):
        noise(root / part, cat=3, dog=2)
    apart, both = load(root), load(root, train_on_val=True)
    assert both.val is None
    assert len(both.train) == 21
    assert both.train.labels.bincount().tolist() == [11, 10]
    assert rows(both.train) == rows(apart.train) | rows(apart.val)
    assert rows(both.test) == rows(apart.test)


def test_with_train_on_val_statistics_are_of_all_that_is_learnt_from(digits: Splits) -> None:
    both = in_memory.load(DatasetConf(name="digits", train_on_val=True), Path("unused"))
    assert (both.mean, both.std) == images.moments(images.histogram(both.train.pixels))
    assert both.mean != digits.mean


def test_with_train_on_val_how_val_would_be_drawn_changes_nothing(digits: Splits) -> None:
    found = {
        in_memory.load(
            DatasetConf(name="digits", train_on_val=True, split_seed=seed, val_fraction=fraction),
            Path("unused"),
        ).fingerprint
        for seed, fraction in ((0, 0.1), (1, 0.1), (0, 0.3))
    }
    assert len(found) == 1
    assert digits.fingerprint not in found


def test_without_val_images_there_is_no_loader_of_them() -> None:
    both = in_memory.load(DatasetConf(name="digits", train_on_val=True), Path("unused"))
    module = in_memory.TensorDataModule(both, batch_size=64)
    assert len(list(module.train_dataloader())) == len(both.train) // 64
    with pytest.raises(SsrError, match=r"dataset\.train_on_val=true"):
        module.val_dataloader()


@pytest.mark.parametrize("name", ["image_folder", "digits"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("MPS backend out of memory"),
    ],
    ids=["cuda", "mps"],
)
def test_images_that_a_device_has_no_room_for_get_both_sizes_and_advice(
    digits: Splits, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    """Smaller batches would not help: all images are moved there at once."""

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(Images, "to", full)
    monkeypatch.setattr(memory, "free_on", lambda _: 2**15)
    data = TensorDataModule(replace(digits, name=name), batch_size=8)
    with pytest.raises(SsrError) as caught:
        data.train_dataloader()
    size = len(digits.train) * 64 / 2**20
    said = f"{len(digits.train):,} images of 1 x 8 x 8 take {size:.1f} MiB, and 0.0 MiB are free on"
    assert str(caught.value).startswith(f"{said} cpu: type ")
    assert ("dataset.stream=true" in str(caught.value)) == (name == "image_folder")


def test_another_fault_of_moving_images_stays_what_it_is(
    digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("device-side assert")

    monkeypatch.setattr(Images, "to", broken)
    with pytest.raises(RuntimeError, match="device-side"):
        TensorDataModule(digits, batch_size=8).train_dataloader()
