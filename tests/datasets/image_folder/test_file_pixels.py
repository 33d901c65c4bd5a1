"""Pixels that are read from files are those of a tensor, and bad files are named or replaced."""

from __future__ import annotations

import logging
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from ssr_exp.config import AutoAugment, CropFrom
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.batches import Batch, Batches
from ssr_exp.datasets.image_folder.decoding import decode
from ssr_exp.datasets.image_folder.file_index import FileIndex
from ssr_exp.datasets.image_folder.file_pixels import FilePixels
from ssr_exp.datasets.images import Images
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.datasets.share import Share
from ssr_exp.errors import SsrError
from tests.datasets.pictures import noise

ASKED = Preprocessing(channels=3, size=(6, 8), fit="crop")
MOVES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "moves of a batch": {"crop_padding": 2, "flip": True, "cutout": 3, "mixup": 0.3},
    "moves of an image": {
        "crop_scale": (0.3, 1.0),
        "flip": True,
        "auto_augment": AutoAugment.trivial_augment_wide,
        "cutout": 3,
        "cutmix": 1.0,
    },
}


def both(root: Path, asked: Preprocessing = ASKED, **fields: Any) -> tuple[Images, Images]:
    """Read a folder of two classes: in memory, and as files."""
    if not root.exists():
        noise(root, size=(11, 9), cat=9, dog=7, **fields)
    files = [str(path.relative_to(root)) for path in sorted(root.rglob("*.*"))]
    labels = torch.tensor([file.startswith("dog") for file in files]).long()
    decoded = decode(root, files, asked)
    index = FileIndex.of(root, files)
    streamed = FilePixels(index, labels, decoded.preprocessing)
    return (
        Images(decoded.pixels, labels, ("cat", "dog"), tuple(root / file for file in files)),
        Images(streamed, labels, ("cat", "dog"), index),
    )


def allowing(images: Images, count: int) -> Images:
    assert isinstance(images.pixels, FilePixels)
    return replace(images, pixels=replace(images.pixels, allowed=count))


def served(images: Images, fields: dict[str, Any], **more: Any) -> list[Batch]:
    c = images.pixels.shape[1]
    made = Batches(
        images,
        mean=(0.4,) * c,
        std=(0.3,) * c,
        batch_size=5,
        augmentation=Augmentation(**fields),
        **({"seed": 3} | more),
    )
    epochs = []
    for number in (0, 1, 4):
        made.set_epoch(number)
        epochs += list(made)
    made.close()
    return epochs


def same(one: list[Batch], other: list[Batch]) -> bool:
    return all(
        torch.equal(x, x2) and torch.equal(y, y2)
        for (x, y), (x2, y2) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", MOVES)
def test_batches_of_files_are_those_of_memory(root: Path, name: str, workers: int) -> None:
    in_memory, streamed = both(root)
    for fields in ({}, {"is_balanced": True}, {"seed": None}):
        expected = served(in_memory, MOVES[name], **fields)
        assert same(expected, served(streamed, MOVES[name], workers=workers, **fields))


@pytest.mark.parametrize("fields", [{}, {"seed": None}], ids=["shuffled", "in order"])
@pytest.mark.parametrize("name", MOVES)
def test_each_of_several_processes_reads_its_rows_of_what_memory_holds(
    root: Path, name: str, fields: dict[str, Any]
) -> None:
    for rank in range(3):
        one, other = (served(i, MOVES[name], share=Share(rank, 3), **fields) for i in both(root))
        assert same(one, other)


@pytest.mark.parametrize("fields", [{}, {"seed": None}], ids=["shuffled", "in order"])
def test_the_rows_of_several_processes_are_the_batches_of_one(
    root: Path, fields: dict[str, Any]
) -> None:
    _, streamed = both(root)
    moves = {"crop_padding": 2, "flip": True, "cutout": 3}
    parts = [served(streamed, moves, share=Share(rank, 3), **fields) for rank in range(3)]
    for (x, y), *rows in zip(served(streamed, moves, **fields), *parts, strict=True):
        assert torch.equal(y, torch.cat([own for _, own in rows]))
        assert torch.equal(x, torch.cat([images[: len(own)] for images, own in rows]))


def test_batches_of_a_part_are_those_of_memory(root: Path) -> None:
    index = torch.tensor([0, 2, 3, 8, 10, 15]).numpy()
    one, other = (served(images.subset(index), MOVES["nothing"]) for images in both(root))
    assert same(one, other)
    first, second = both(root)
    assert [*second.subset(index).files] == [*first.subset(index).files]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
@pytest.mark.parametrize("fit", [None, "crop", "stretch", "pad"])
def test_pixels_of_files_are_those_of_memory(root: Path, mode: str, fit: str | None) -> None:
    asked = replace(ASKED, fit=fit, size=(6, 8) if fit else (0, 0))
    in_memory, streamed = both(root, asked, mode=mode)
    assert streamed.pixels.shape == in_memory.pixels.shape
    for at in (slice(2, 9), torch.tensor([5, 0, 5]), 3, -1, slice(None)):
        assert torch.equal(streamed.pixels[at], in_memory.pixels[at])


def test_indexing_reads_nothing_else(root: Path) -> None:
    _, streamed = both(root)
    shutil.rmtree(root / "dog")
    assert len(streamed.subset(torch.arange(9).numpy()).pixels[:]) == 9


def test_paths_survive_bytes_processes_and_copies(tmp_path: Path) -> None:
    names = ["a/b.png", "\udcff.png", "ü/ł.jpg", "x"]
    index = FileIndex.of(tmp_path, names)
    again = pickle.loads(pickle.dumps(index))
    assert [*index] == [*again] == [tmp_path / name for name in names]
    assert [*index.names] == names and [*index.names[1:]] == names[1:]
    assert index.names[-1] == names[-1]
    assert [*index[1:3][torch.tensor([1, 0])]] == [tmp_path / names[2], tmp_path / names[1]]
    assert not [*FileIndex.of(tmp_path, [])]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_turned_bad_ends_the_epoch_with_its_name(root: Path, workers: int) -> None:
    _, streamed = both(root)
    (root / "dog" / "3.png").write_bytes(b"<html>")
    with pytest.raises(SsrError, match=r"dog/3\.png cannot be read as an image any more") as told:
        served(streamed, MOVES["moves of a batch"], workers=workers)
    assert "dataset.skip_corrupt=1" in str(told.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_that_may_pass_is_replaced_by_the_nearest_of_its_class(
    root: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    _, streamed = both(root)
    (root / "dog" / "0.png").write_bytes(b"")
    (root / "dog" / "1.png").write_bytes(b"")
    shutil.copytree(root, aside := root.parent / "aside")
    for number in (0, 1):
        shutil.copy(aside / "dog" / "2.png", aside / "dog" / f"{number}.png")
    expected, _ = both(aside)
    found = served(allowing(streamed, 2), MOVES["moves of an image"], workers=workers)
    assert same(found, served(expected, MOVES["moves of an image"]))
    assert caplog.text.count("another of its class stands in") == 2


def test_a_class_of_which_no_image_can_be_read_ends_the_epoch_whatever_may_pass(root: Path) -> None:
    _, streamed = both(root)
    for path in (root / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SsrError, match=r"and no image of its class can"):
        served(allowing(streamed, 99), MOVES["nothing"])


def test_a_bad_file_ends_the_next_training_of_the_process_too(root: Path) -> None:
    _, streamed = both(root)
    (root / "dog" / "3.png").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(SsrError, match=r"dog/3\.png .*skip_corrupt=1"):
            served(streamed, MOVES["nothing"])


CROPS = {"crop_scale": (0.1, 0.6), "crop_from": CropFrom.file}


def test_a_crop_of_a_file_is_what_torchvision_makes_of_it(root: Path) -> None:
    _, streamed = both(root)

    def crop(place: int, h: int, w: int) -> tuple[int, int, int, int]:
        assert (h, w) == (9, 11)
        return place, 1, place + 5, 8

    x, faults = streamed.pixels.read(torch.tensor([4, 0, 9]), crop)
    for place, position in enumerate((4, 0, 9)):
        with Image.open(streamed.files[position]) as image:
            expected = F.resized_crop(image, 1, place, 7, 5, [6, 8])
        assert torch.equal(x[place], F.pil_to_tensor(expected))
    assert not faults


@pytest.mark.parametrize("more", [{}, {"rotation": 20.0, "flip": True}])
def test_crops_of_files_depend_on_seed_epoch_and_place_alone(
    root: Path, more: dict[str, Any]
) -> None:
    _, streamed = both(root)
    wanted = CROPS | more
    first = served(streamed, wanted)
    assert same(first, served(streamed, wanted, workers=2))
    assert not same(first, served(streamed, wanted, seed=4))
    plain = served(streamed, more)
    assert all(torch.equal(y, y2) for (_, y), (_, y2) in zip(first, plain, strict=True))
    assert not any(torch.equal(x, x2) for (x, _), (x2, _) in zip(first, plain, strict=True))
    in_order = served(streamed, {}, seed=None)
    assert same(in_order, served(streamed, wanted, seed=None))


def test_a_replaced_file_changes_no_other_crop_of_its_batch(root: Path) -> None:
    _, streamed = both(root)
    before = served(streamed, CROPS)
    bad = streamed.files[12]
    bad.write_bytes(b"")
    after = served(allowing(streamed, 1), CROPS)
    differ = [(x != x2).flatten(1).any(1) for (x, _), (x2, _) in zip(before, after, strict=True)]
    assert all(int(each.sum()) <= 1 for each in differ)
    assert 1 <= sum(int(each.sum()) for each in differ) <= 3  # of three epochs


def test_more_bad_files_than_may_pass_end_the_epoch(root: Path) -> None:
    _, streamed = both(root)
    for number in range(3):
        (root / "dog" / f"{number}.png").write_bytes(b"")
    with pytest.raises(SsrError, match=r"skip_corrupt=3"):
        served(allowing(streamed, 2), MOVES["nothing"])
    few = allowing(streamed, 2)
    assert isinstance(few.pixels, FilePixels)
    with pytest.raises(SsrError, match=r"skip_corrupt=7"):  # 4 were bad from the start
        served(replace(few, pixels=replace(few.pixels, left_out=4, faults={})), MOVES["nothing"])


@pytest.mark.parametrize("allowed", [0, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_goes_away_ends_the_epoch_whatever_may_pass(
    root: Path, workers: int, allowed: int, caplog: pytest.LogCaptureFixture
) -> None:
    _, streamed = both(root)
    root.rename(root.parent / "unmounted")
    with pytest.raises(SsrError, match=r"No such file.*bring the disk or the file back"):
        served(allowing(streamed, allowed), MOVES["nothing"], workers=workers)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
