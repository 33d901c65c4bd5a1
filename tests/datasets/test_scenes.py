"""The embedded scenes are the same everywhere, and share nothing between parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ssr_exp.config import DatasetConf
from ssr_exp.datasets import in_memory, scenes
from ssr_exp.datasets.images import IGNORED, Splits, Target, digest
from ssr_exp.errors import SsrError


def load(target: Target = Target.masks, **fields: object) -> Splits:
    return in_memory.load(DatasetConf(name="scenes", **fields), Path("unused"), target)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load()


def test_all_machines_draw_the_same() -> None:
    images, _ = scenes.scenes()
    assert digest(images.pixels)[:16] == "b0083e7958823bd5"
    assert digest(images.labels)[:16] == "762cbca49e2d1b27"


def test_each_part_holds_all_classes_and_no_scene_of_another(splits: Splits) -> None:
    assert splits.val is not None and splits.test is not None
    for part, size in zip(
        (splits.train, splits.val, splits.test), scenes.SIZES.values(), strict=True
    ):
        assert len(part) == size
        assert part.labels.unique().tolist() == list(range(len(scenes.CLASSES)))
    assert not splits.reading.warnings


def test_digits_are_bright_where_the_mask_says_so(splits: Splits) -> None:
    pixels, masks = splits.train.pixels[:, 0].float(), splits.train.labels
    assert pixels[masks > 0].mean() > pixels[masks == 0].mean() + 50


def test_masks_follow_to_another_size() -> None:
    small = load(resize=16, fit="stretch")
    assert small.train.labels.shape == (scenes.SIZES["train"], 16, 16)
    assert small.train.labels.max() < len(scenes.CLASSES)


def test_val_may_be_learnt_from(splits: Splits) -> None:
    whole = load(train_on_val=True)
    assert whole.val is None and len(whole.train) == len(splits.train) + len(splits.val or ())


@pytest.mark.parametrize("target", [Target.one_class, Target.labels, Target.numbers])
def test_other_tasks_are_sent_elsewhere(target: Target) -> None:
    with pytest.raises(SsrError, match=r"a mask for each image.*type task=segmentation"):
        load(target)


@pytest.mark.parametrize("name", ["digits", "cifar10", "csv", "image_folder"])
def test_data_sets_without_masks_say_so(name: str) -> None:
    with pytest.raises(SsrError, match=rf"dataset={name} .*dataset=masks dataset\.root=DIR"):
        in_memory.load(DatasetConf(name=name), Path("unused"), Target.masks)


def test_what_scenes_would_not_heed_is_refused() -> None:
    with pytest.raises(SsrError, match=r"task\.ignore_index=0 is class 'background'"):
        in_memory.load(DatasetConf(name="scenes"), Path("unused"), Target.masks, 0)
    with pytest.raises(
        SsrError, match=r"dataset\.targets=\[a,b\] is of dataset=csv and dataset=masks"
    ):
        load(targets=["a", "b"])


def test_it_says_what_was_read(splits: Splits) -> None:
    first, second, *_ = splits.reading.lines()
    assert first.startswith("scenes: 1,600 images with masks of 4 classes: background ")
    assert second.startswith("train 1,000 (drawn); val 300")
    assert not (splits.train.labels == IGNORED).any()
    assert torch.equal(splits.train.labels, load().train.labels)
