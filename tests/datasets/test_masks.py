"""Images with masks: where they lie, what their numbers mean, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ssr_exp.config import DatasetConf
from ssr_exp.datasets import in_memory, mask_files, memory
from ssr_exp.datasets.images import IGNORED, Images, Splits, Target
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.errors import SsrError
from ssr_exp.training import learning

COUNT, SIZE = 20, (12, 10)  # height and width
Load = Callable[..., Splits]
Mask = NDArray[np.uint8]


def pair(draw: np.random.Generator, size: tuple[int, int] = SIZE) -> tuple[Mask, Mask]:
    """Draw an image whose red channel is 50 times its mask, of classes 0 to 2."""
    image = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = draw.integers(0, 3, size, dtype=np.uint8)
    image[:, :, 0] = 50 * mask
    return image, mask


def write(
    root: Path,
    images: str = "images",
    masks: str = "masks",
    *,
    count: int = COUNT,
    seed: int = 0,
    suffix: str = ".png",
    save: Callable[[Mask, Path], None] | None = None,
) -> Path:
    draw = np.random.default_rng(seed)
    for number in range(count):
        image, mask = pair(draw)
        for folder, values, end in ((images, image, ".png"), (masks, mask, suffix)):
            path = root / folder / f"{number:02}{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if values is mask and save is not None:
                save(values, path)
            else:
                Image.fromarray(values).save(path)
    return root


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def read(root: Path, ignored: int | None = IGNORED, **fields: Any) -> Splits:
        conf = DatasetConf(name="masks", root=str(root), **({"val_fraction": 0.25} | fields))
        return in_memory.load(conf, tmp_path / "data", Target.masks, ignored)

    return read


def refused(load: Load, root: Path, *args: Any, **fields: Any) -> str:
    with pytest.raises(SsrError) as caught:
        load(root, *args, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def all_of(splits: Splits) -> list[Images]:
    return [part for part in (splits.train, splits.val, splits.test) if part is not None]


def assert_together(splits: Splits, factor: int = 50) -> None:
    for part in all_of(splits):
        counts = part.labels != IGNORED
        assert torch.equal(part.pixels[:, 0][counts], factor * part.labels[counts])


def test_masks_stay_with_their_images_and_parts_are_drawn(tmp_path: Path, load: Load) -> None:
    splits = load(write(tmp_path / "set"))
    assert splits.train.classes == ("0", "1", "2")
    assert [len(part) for part in all_of(splits)] == [13, 5, 2]
    assert_together(splits)
    assert splits.fingerprint == load(tmp_path / "set").fingerprint  # from the cache
    other = load(tmp_path / "set", split_seed=1)
    assert other.fingerprint != splits.fingerprint
    assert splits.test is not None and other.test is not None
    assert splits.test.files == other.test.files


LAYOUTS = {
    "parts outside": ("{}/images", "{}/masks", "train val test"),
    "parts inside": ("images/{}", "annotations/{}", "training validation"),
    "names of both": ("{}_images", "{}_masks", "train test"),
    "images alone": ("{}", "{}_masks", "train test"),
    "years": ("IMGs/{}", "labels/{}", "train2017 val2017"),
    "an archive": ("data/segmentation/{}/images", "data/segmentation/{}/gt", "train valid"),
    "one folder": ("{}", "{}", "train val"),
    "no parts": ("JPEGImages{}", "SegmentationClass{}", ""),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_usual_layouts_are_understood(name: str, tmp_path: Path, load: Load) -> None:
    images, masks, parts = LAYOUTS[name]
    for seed, part in enumerate(parts.split() or [""]):
        suffix = "_mask.png" if images == masks else ".png"
        where = tmp_path / "set", images.format(part), masks.format(part)
        write(*where, seed=seed, count=9, suffix=suffix)
    splits = load(tmp_path / "set")
    assert_together(splits)
    assert sum(map(len, all_of(splits))) == 9 * max(1, len(parts.split()))
    if parts:
        assert len(splits.train) == (9 if " val" in f" {parts}" else 7)


def as_palette(mask: Mask, path: Path) -> None:
    image = Image.fromarray(mask, "P")
    image.putpalette([7, 8, 9, 200, 0, 0, 0, 200, 0])
    image.save(path)


def test_palettes_of_their_own_are_refused_and_one_of_all_is_not(
    tmp_path: Path, load: Load
) -> None:
    turned = {"order": 0}

    def adaptive(mask: Mask, path: Path) -> None:
        order = [0, 1, 2] if turned["order"] == 0 else [0, 2, 1]
        turned["order"] += 1
        image = Image.fromarray(np.asarray(order, np.uint8)[mask], "P")
        colours = [[0, 0, 0], [200, 0, 0], [0, 200, 0]]
        image.putpalette([part for place in np.argsort(order) for part in colours[place]])
        image.save(path)

    said = refused(load, write(tmp_path / "own", save=adaptive))
    assert "the palettes of the masks of" in said and "so numbers say no class" in said
    assert "masks/00.png" in said or "masks/01.png" in said
    load(write(tmp_path / "one", save=as_palette))

    def black_twice(mask: Mask, path: Path) -> None:  # 0, and 255, which counts nowhere
        mask = mask.copy()
        mask[mask == (0 if int(path.stem) % 2 else 2)] = 255 if int(path.stem) % 2 else 0
        as_palette(mask, path)

    load(write(tmp_path / "two", save=black_twice))


def test_smoothed_edges_are_no_classes(tmp_path: Path, load: Load) -> None:
    greys = iter(range(40, 40 + 6 * COUNT))

    def smooth(mask: Mask, path: Path) -> None:
        values = np.where(mask > 0, 255, 0).astype(np.uint8)
        values[0, :6] = [next(greys) for _ in range(6)]
        Image.fromarray(values).save(path)

    root = write(tmp_path / "set", save=smooth)
    for more in ({}, {"targets": ["ground", "thing"]}):
        assert "as smoothed edges do: resize masks without" in refused(load, root, None, **more)


def as_16_bits(mask: Mask, path: Path) -> None:
    Image.fromarray(mask.astype(np.uint16)).save(path)


def as_grey_colours(mask: Mask, path: Path) -> None:
    Image.fromarray(np.repeat(mask[:, :, None], 3, 2)).save(path)


@pytest.mark.parametrize("save", [as_palette, as_16_bits, as_grey_colours])
def test_numbers_are_read_from_any_kind_of_mask(
    save: Callable[[Mask, Path], None], tmp_path: Path, load: Load
) -> None:
    plain = load(write(tmp_path / "plain"))
    other = load(write(tmp_path / "other", save=save))
    assert other.fingerprint == plain.fingerprint
    assert_together(other)


@pytest.mark.parametrize("suffix", ["_mask.png", "_seg.tif"])
def test_a_masks_name_may_say_what_it_is(suffix: str, tmp_path: Path, load: Load) -> None:
    assert_together(load(write(tmp_path / "set", suffix=suffix)))


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_masks_follow_their_images_to_another_size(fit: str, tmp_path: Path, load: Load) -> None:
    root = tmp_path / "set"
    for number in range(8):
        mask = np.zeros((40, 80), np.uint8)
        mask[:20, 40:], mask[20:, :40], mask[20:, 40:] = 1, 2, 3
        mask[:6, 22:28] = number % 4
        for folder, values in (("images", np.repeat(60 * mask[:, :, None], 3, 2)), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / folder / f"{number}.png")
    for part in all_of(load(root, resize=16, fit=fit)):
        assert part.labels.shape[1:] == part.pixels.shape[2:] == (16, 16)
        guess = (part.pixels[:, 0].float() / 60).round()
        same = guess == part.labels
        beside = part.labels == IGNORED
        assert (beside.any() and fit == "pad") or not beside.any()
        assert same[~beside].float().mean() > 0.75
        if fit == "pad":
            assert beside[:, :4].all() and beside[:, -4:].all() and not beside[:, 4:12].any()


def test_ignored_pixels_count_nowhere_and_are_no_class(tmp_path: Path, load: Load) -> None:
    root = write(tmp_path / "set", save=lambda m, p: Image.fromarray(m * np.uint8(127)).save(p))
    assert load(root, 254).train.classes == ("0", "127")
    assert load(root, 0).train.classes == ("127", "254")
    first = load(root, 0).train
    assert ((first.labels == IGNORED) == (first.pixels[:, 0] == 0)).all()
    assert load(root, None).train.classes == ("0", "127", "254")


def black_and_white(mask: Mask, path: Path) -> None:
    Image.fromarray((mask > 1).astype(np.uint8) * np.uint8(255)).save(path)


def test_masks_of_black_and_white_have_two_classes_when_nothing_is_ignored(
    tmp_path: Path, load: Load
) -> None:
    root = write(tmp_path / "set", save=black_and_white)
    said = refused(load, root)
    assert "hold 0 alone, and 255, which task.ignore_index leaves out" in said
    assert "type task.ignore_index=null" in said
    assert said == refused(load, root, targets=["ground", "thing"])  # else 100 % for any network
    splits = load(root, None, targets=["ground", "thing"])
    assert splits.train.classes == ("ground", "thing")
    assert torch.equal(splits.train.labels, (splits.train.pixels[:, 0] == 100).byte())
    assert load(root, None).train.classes == ("0", "255")


def test_classes_may_be_named_and_one_may_have_no_pixel(tmp_path: Path, load: Load) -> None:
    root = write(tmp_path / "set")
    named = load(root, targets=["ground", "cat", "dog", "fox"])
    assert named.num_classes == 4
    assert_together(named)
    said = [warning for warning in named.reading.warnings if "class 'fox'" in warning]
    zero = ", which counts as 0 in its mIoU as soon as one pixel is taken for it"
    parts = {"train": "", "val": zero, "test": zero}
    assert said == [
        f"{part} has no pixel of class 'fox'{more}: add some, or leave it out"
        for part, more in parts.items()
    ]
    assert load(root, 1, targets=["ground", "border", "dog"]).train.classes == ("ground", "dog")


def test_a_mask_of_which_nothing_counts_is_named(tmp_path: Path, load: Load) -> None:
    root = write(tmp_path / "set")
    for part in ("images", "masks"):
        shutil.copytree(root / part, root / "val" / part)
        shutil.move(root / part, root / "train" / part)
    Image.fromarray(np.full(SIZE, 255, np.uint8)).save(root / "val/masks/03.png")
    warnings = load(root).reading.warnings
    assert any(
        "1 mask of val count nowhere (the first is that of val/images/03" in w for w in warnings
    )
    assert any("20 of the 20 val images stand in train, too" in w for w in warnings)
    for path in (root / "val/masks").iterdir():
        Image.fromarray(np.full(SIZE, 255, np.uint8)).save(path)
    assert "no pixel of val counts: task.ignore_index leaves out all" in refused(load, root)


def test_it_says_what_was_read(tmp_path: Path, load: Load) -> None:
    first, second, *_ = load(write(tmp_path / "set")).reading.lines()
    assert first.startswith("masks: 20 images with masks of 3 classes: 0 3")
    assert second.startswith("train 13; val 5 (25 % of train, drawn with dataset.split_seed=0)")


def test_a_test_without_masks_is_left_out_and_said(tmp_path: Path, load: Load) -> None:
    root = write(tmp_path / "set", "train/images", "train/masks")
    shutil.copytree(root / "train/images", root / "test/images")
    splits = load(root)
    assert splits.test is None
    assert "the 20 images of test have no masks: they are left out" in splits.reading.warnings


def no_mask(root: Path) -> None:
    (root / "masks/03.png").unlink()


def no_image(root: Path) -> None:
    (root / "images/03.png").unlink()


def no_masks(root: Path) -> None:
    shutil.rmtree(root / "masks")


def not_pictures(root: Path) -> None:
    for path in (root / "masks").iterdir():
        np.save(path.with_suffix(".npy"), np.zeros(SIZE))
        path.unlink()


def other_size(root: Path) -> None:
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(root / "masks/03.png")


def colours(root: Path) -> None:
    Image.fromarray(pair(np.random.default_rng(0))[0]).save(root / "masks/03.png")


def jpeg(root: Path) -> None:
    (root / "masks/03.png").unlink()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(root / "masks/03.jpg")


def cut_short(root: Path) -> None:
    path = root / "masks/03.png"
    path.write_bytes(path.read_bytes()[:50])


def transparent(root: Path) -> None:
    Image.fromarray(np.zeros((*SIZE, 4), np.uint8)).save(root / "masks/03.png")


def floats(root: Path) -> None:
    (root / "masks/03.png").unlink()
    Image.fromarray(np.zeros(SIZE, np.float32)).save(root / "masks/03.tif")


def twice(root: Path) -> None:
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(root / "masks/03.bmp")


def no_train(root: Path) -> None:
    (root / "val").mkdir()
    for part in ("images", "masks"):
        shutil.move(root / part, root / "val")


def outside(root: Path) -> None:
    write(root, "train/images", "train/masks")


def instances(root: Path) -> None:
    values = np.arange(300).reshape(10, 30).astype(np.uint16)
    for folder in ("images", "masks"):
        Image.fromarray(values).save(root / folder / "a.png")
        for path in (root / folder).glob("[0-9]*"):
            path.unlink()


def no_number(root: Path) -> None:
    Image.fromarray(np.full(SIZE, 40_000, np.uint16)).save(root / "masks/03.png")


BAD: dict[Callable[[Path], None], str] = {
    no_mask: "1 of 20 images .* no mask of the same name (images/03.png): add it",
    no_image: "1 of 20 masks .* no image of the same name (masks/03.png)",
    no_masks: "holds no masks: it must hold DIR/images and DIR/masks",
    not_pictures: "holds no masks (but .npy)",
    other_size: "masks/03.png: 12 x 10 pixels, and its image has 10 x 12",
    colours: "masks/03.png: it holds colours (RGB), and no numbers of classes",
    jpeg: "masks/03.jpg: it is a JPEG",
    cut_short: "1 of 20 masks .* (masks/03.png: ",
    transparent: "masks/03.png: it is transparent in places",
    floats: "masks/03.tif: it holds floating-point numbers",
    twice: "masks/03.bmp and masks/03.png, which have one name",
    no_train: "holds images of val alone: add a train folder",
    outside: "holds images of train, and images/00.png, which is in no part",
    instances: "hold 299 numbers, and there are at most 255 classes",
    no_number: "masks/03.png: it holds 40000 to 40000",
}


@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
def test_a_folder_that_cannot_be_used_is_refused_in_one_sentence(
    damage: Callable[[Path], None], tmp_path: Path, load: Load
) -> None:
    root = write(tmp_path / "set")
    damage(root)
    said = refused(load, root)
    for part in BAD[damage].split(" .* "):
        assert part in said


def test_classes_beyond_the_names_are_refused(tmp_path: Path, load: Load) -> None:
    root = write(tmp_path / "bw", save=black_and_white)
    Image.fromarray(np.full(SIZE, 1, np.uint8)).save(root / "masks/03.png")
    assert "names 2, 0 and 255" in refused(load, root, None, targets=["a", "b"])
    said = refused(load, write(tmp_path / "set"), targets=["ground", "cat"])
    assert "hold class 2 (in masks/" in said and "names 2, 0 and 1" in said
    assert "names a class twice" in refused(load, tmp_path / "set", targets=["a", "a", "b"])


def test_one_class_and_nothing_at_all_are_refused(tmp_path: Path, load: Load) -> None:
    root = write(tmp_path / "set", save=lambda m, p: Image.fromarray(m * np.uint8(0)).save(p))
    assert "hold 0 alone: two are needed" in refused(load, root)
    assert "all pixels of the masks" in refused(load, root, 0)


def test_a_folder_must_be_given_and_there(tmp_path: Path, load: Load) -> None:
    assert "there is no folder" in refused(load, tmp_path / "nowhere")
    with pytest.raises(SsrError, match=r"type dataset=masks dataset\.root=DIR"):
        in_memory.load(DatasetConf(name="masks"), tmp_path, Target.masks)


def test_a_damaged_cache_is_made_anew(tmp_path: Path, load: Load) -> None:
    before = load(write(tmp_path / "set"))
    (path,) = (tmp_path / "data/cache").glob("*.pt")
    content = torch.load(path, weights_only=True)
    content["masks"][0] = 1
    torch.save(content, path)
    assert load(tmp_path / "set").fingerprint == before.fingerprint


def test_sizes_that_differ_need_one(tmp_path: Path, load: Load) -> None:
    root = write(tmp_path / "set")
    image, mask = pair(np.random.default_rng(0), (14, 9))
    for folder, values in (("images", image), ("masks", mask)):
        Image.fromarray(values).save(root / folder / "03.png")
    assert "differ in size" in refused(load, root)
    assert load(root, resize=8, fit="pad").train.labels.shape[1:] == (8, 8)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_photo_that_is_turned_has_its_mask_turned_too(
    tmp_path: Path, compression: str | None
) -> None:
    exif, how = Image.Exif(), Preprocessing(3, (6, 4))
    exif[0x0112] = 6
    image = Image.new("RGB", (6, 4))
    image.save(tmp_path / "a.tif", exif=exif, compression=compression)
    upright = np.arange(24, dtype=np.uint8).reshape(6, 4)
    Image.fromarray(upright).save(tmp_path / "a.png")
    found = mask_files.fitted_numbers(tmp_path / "a.png", tmp_path / "a.tif", how)
    np.testing.assert_array_equal(found, upright)


def test_images_and_masks_beyond_all_memory_are_refused_before_they_are_decoded(
    tmp_path: Path,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = write(tmp_path / "scenes")
    pixels = COUNT * SIZE[0] * SIZE[1]
    monkeypatch.setattr(memory, "most_bytes", lambda: 6 * pixels - 1)
    assert "of memory, with their masks, more than this machine gives" in refused(load, root)
    monkeypatch.setattr(memory, "most_bytes", lambda: 6 * pixels)
    monkeypatch.setattr(memory, "free_bytes", lambda: 6 * pixels - 1)
    assert load(root)
    assert "are free: if this process is killed, type dataset.resize=32" in caplog.text


def test_weights_make_all_classes_count_alike(tmp_path: Path, load: Load) -> None:
    train = load(write(tmp_path / "set"), 0).train
    weights = learning.balanced(train)
    sizes = torch.bincount(train.labels.flatten(), minlength=256)[:2]
    torch.testing.assert_close(weights * sizes, torch.full((2,), float(sizes.sum() / 2)))
