"""What a folder is taken for: its parts, its classes, what is left out, and what is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ssr_exp.datasets.image_folder import folder_images, listing, tree
from ssr_exp.datasets.image_folder.parts import PARTS, part_of
from ssr_exp.datasets.images import Splits
from ssr_exp.errors import SsrError
from tests.datasets.pictures import CLASSES, as_png, copied, fill, split

Load = Callable[..., Splits]
Refused = Callable[..., str]


def counts(splits: Splits) -> dict[str, int]:
    return {part: sum(own.values()) for part, own in splits.reading.parts.items()}


def typed(message: str) -> Path:
    """Take the folder that a sentence says to type."""
    return Path(re.findall(r"type dataset\.root=(\S+) to", message)[0])


@pytest.mark.parametrize(
    "names",
    [("Train", "VALID", "testing"), ("seg_train", "seg_val", "seg_test"), ("A Train", "A Dev")],
)
def test_split_folders_have_all_usual_names(root: Path, names: tuple[str, ...], load: Load) -> None:
    splits = load(split(root, *names))
    assert splits.train.classes == CLASSES
    assert counts(splits) == dict.fromkeys(("train", "val", "test")[: len(names)], 18)
    assert all(f"({name}" in str(splits.reading) for name in names)


def test_train_and_test_leave_val_to_be_split_off(root: Path, load: Load) -> None:
    splits = load(split(root, "Train", "Test"))
    assert counts(splits) == {"train": 12, "val": 6, "test": 18}
    assert "33.3 % of train" in str(splits.reading)


def test_val_without_train_says_what_to_type(root: Path, load: Load, refused: Refused) -> None:
    message = refused(split(root, "Valid", "Testing"))
    assert "Valid and Testing but no train folder" in message
    assert counts(load(typed(message)))["test"] == 3


def test_a_test_folder_without_classes_is_not_used_and_that_is_said(root: Path, load: Load) -> None:
    split(root, "train")
    copied(root / "train" / "circle", root / "test")
    splits = load(root)
    assert splits.train.classes == CLASSES
    assert "the images in test are not used" in splits.reading.warnings[0]
    assert splits.reading.left_out == {"in other folders": 6}


def test_a_class_among_others_may_be_called_train(root: Path, load: Load) -> None:
    splits = load(fill(root, ("car", "plane", "train")))
    assert splits.train.classes == ("car", "plane", "train")
    assert "train is taken for a class" in splits.reading.warnings[0]
    assert "move it out of" in splits.reading.warnings[0]
    assert "warning: train is taken for a class" in str(splits.reading)


FLAT = """
    Train, Test; train, test1; train, eval; train, unlabeled; train, extra, unlabeled;
    train2017, val2017; train_2017, test-2017; train, holdout; train, test, cat, dog;
    cat_train, cat_test, dog_train, dog_test; train_cat, train_dog, test_cat, test_dog;
    cat-train, cat-val, fox; train, car; cat, test
"""
REFUSED = {
    **dict.fromkeys(FLAT.split(";"), "holds? images.*if (they|these) are.* rename them"),
    "train/a, train/b, Training/a": "Training and train, which are all names of train",
    "train/a, train/b, val/a, dev/a": "dev and val, which are all names of val",
    "train/cat, train/dog, extra": "has train with folders of images in it, and beside it extra",
    "a/b/cat, a/b/dog, c/d/cat, c/d/dog": "the same folders cat and dog",
    "cat/train, cat/test, dog/train, dog/test": "move them up, to test/cat and train/cat",
    "Cat, cat, dog": "class folders Cat and cat in .* differ in capital letters",
    "train/cat, train/dog, test/Cat, test/dog": "names differ in capital letters",
    "train/cat, train/dog, val/cat, val/dog .": "only in val: 'dog '",
    "images, masks": "images and their masks or labels",
    "images, labels, masks": "images and their masks or labels",
    "train/jpg, train/Annotations, val/jpg, val/Annotations": "if they .*, rename them",
}


def test_folders_that_are_not_clear_are_refused_and_named(tmp_path: Path) -> None:
    for number, (folders, said) in enumerate(REFUSED.items()):
        names = [name.strip().rstrip(".") for name in folders.split(",")]
        with pytest.raises(SsrError, match=said) as caught:
            listing.scan(fill(tmp_path / str(number), names, count=1))
        assert sum(name.partition("/")[0] in str(caught.value) for name in names) > 1


def test_classes_in_parts_get_advice_that_works(root: Path, load: Load, refused: Refused) -> None:
    names = ("cat_train", "cat_test", "dog_train", "dog_test")
    fill(root, names)
    assert "move cat_test and cat_train to test/cat and train/cat" in refused(root)
    for name in names:
        kind, part = name.split("_")
        (root / part).mkdir(exist_ok=True)
        (root / name).rename(root / part / kind)
    assert load(root).train.classes == ("cat", "dog")


def test_stray_images_make_no_class_of_a_part(root: Path, refused: Refused) -> None:
    fill(root, ("train/cat", "train/dog", "extra"))
    for number in range(3):
        as_png(Image.new("RGB", (16, 16), (number, 0, 9)), root / "train" / f"preview{number}")
    assert "has train with folders of images in it, and beside it extra" in refused(root)


def test_a_train_folder_of_folders_is_not_guessed(root: Path, load: Load, refused: Refused) -> None:
    fill(root, ("car", "plane"))
    fill(root / "train", ("steam", "diesel"), seed=1)
    message = refused(root)
    assert "if train is a class like the others, rename it" in message
    assert load(typed(message)).train.classes == ("diesel", "steam")
    (root / "train").rename(root / "trains")
    assert load(root).train.classes == ("car", "plane", "trains")


@pytest.mark.parametrize("above", ["images", "a/b/c"])
@pytest.mark.parametrize("parts", [(), ("Train", "Val")])
def test_single_folders_around_everything_are_gone_through(
    root: Path, above: str, parts: tuple[str, ...], load: Load
) -> None:
    top = root / above
    split(top, *parts) if parts else fill(top)
    splits = load(root)
    assert splits.train.classes == CLASSES
    assert f"the images are those below {above}/" in splits.reading.notes


def test_images_beside_annotations_are_gone_into(root: Path, load: Load) -> None:
    fill(root / "images")
    (root / "annotations").mkdir()
    (root / "annotations" / "000.xml").write_text("<xml/>")
    assert load(root).train.classes == CLASSES


def test_a_part_within_its_own_folder_is_gone_into(root: Path, load: Load) -> None:
    splits = load(split(root, "train/train", "test/test"))
    assert splits.train.classes == CLASSES
    assert splits.reading.sources["train"] == "train/train"


def test_classes_of_the_same_folders_get_advice(root: Path, load: Load, refused: Refused) -> None:
    for seed, camera in enumerate(("camA", "camB")):
        fill(root / camera, ("circle", "square"), seed=seed)
    message = refused(root)
    assert "camA and camB hold no images but the same folders circle and square" in message
    assert load(typed(message)).train.classes == ("circle", "square")
    for name in ("circle", "square"):
        copied(root / "camA" / name, root / name, "a")
        copied(root / "camB" / name, root / name, "b")
    for camera in ("camA", "camB"):
        shutil.rmtree(root / camera)
    assert load(root).train.classes == ("circle", "square")


def test_few_images_beside_folders_hide_nothing(root: Path, load: Load, refused: Refused) -> None:
    for seed, camera in enumerate(("camA", "camB")):
        fill(root / camera, ("cat", "dog"), count=10, seed=seed)
        for number in range(2):
            as_png(Image.new("RGB", (16, 16), (seed, number, 9)), root / camera / f"over{number}")
    message = refused(root)
    assert "the same folders cat and dog" in message
    assert load(typed(message)).train.classes == ("cat", "dog")
    for seed, camera in enumerate(("camA", "camB")):  # as many as in the folders
        fill(root / camera, (".",), count=20, seed=seed + 5)
    assert load(root).train.classes == ("camA", "camB")


def test_the_same_folders_below_others_get_advice(root: Path, load: Load, refused: Refused) -> None:
    for seed, above in enumerate(("siteA/2019", "siteA/2020", "siteB/2021", "siteB/2022")):
        fill(root / above, ("cat", "dog"), seed=seed)
    message = refused(root)
    assert "siteA and siteB" in message and "the same folders cat and dog" in message
    assert typed(message) == root / "siteA" / "2019"
    assert load(typed(message)).train.classes == ("cat", "dog")


def test_parts_within_classes_that_have_covers_are_refused(root: Path, refused: Refused) -> None:
    for name in fill(root, ("cat/train", "cat/test", "dog/train", "dog/test")).iterdir():
        as_png(Image.new("RGB", (16, 16)), name / "cover")
    assert "move them up, to test/cat and train/cat" in refused(root)


def test_folders_within_classes_are_theirs(root: Path, tmp_path: Path, load: Load) -> None:
    for seed, name in enumerate(CLASSES):
        fill(root / name, ("images",), seed=seed)
    assert load(root).train.classes == CLASSES
    fill(tmp_path / "more", ("cat/siamese", "cat/persian", "dog"))
    assert load(tmp_path / "more").train.classes == ("cat", "dog")


def test_too_small_classes_say_what_they_need(root: Path, load: Load, refused: Refused) -> None:
    assert refused(fill(root, count=2)).endswith("add images")  # nothing else helps all classes
    fill(root)
    for count in (1, 2):
        fill(root, ("triangle",), count=count, seed=9)
        message = refused(root)
        assert f"class 'triangle' has {count} image" in message
        assert "3 are needed, one each for train and val and test" in message
        assert "or remove its folder" in message and "val_fraction" not in message
    fill(root, ("triangle",), count=3, seed=9)
    assert counts(load(root))["train"] > 0
    shutil.rmtree(root / "triangle")
    assert load(root).train.classes == CLASSES


def test_photos_that_are_not_read_are_named_before_others_are_decoded(
    root: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root)
    monkeypatch.setattr(folder_images, "decode", lambda *_: pytest.fail("decoded"))
    fill(root, ("cat",), count=1)
    for number in range(4):
        (root / "cat" / f"{number}.HEIC").write_bytes(b"")
    (root / "cat" / "film.mov").write_bytes(b"")
    few = "class 'cat' has 1 image (4 .heic are not read: convert them to PNG or JPEG); 3 are"
    assert few in refused(root)
    (root / "cat" / "000.png").unlink()
    none = "(.heic, .mov); 4 .heic are not read: convert them to PNG or JPEG, add images ("
    assert none in refused(root)


def test_two_images_suffice_where_test_came_apart(root: Path, load: Load, refused: Refused) -> None:
    fill(root / "train", count=2)
    fill(root / "test", count=1, seed=1)
    assert counts(load(root, val_fraction=0.5)) == {"train": 3, "val": 3, "test": 3}
    for name in CLASSES:
        (root / "train" / name / "000.png").unlink()
    assert "2 are needed, one each for train and val" in refused(root)


@pytest.mark.parametrize("suffix", ["", ".Jfif", ".img", ".PNG"])
def test_images_are_known_by_their_content(root: Path, suffix: str, load: Load) -> None:
    def save(image: Image.Image, path: Path) -> None:
        image.save(f"{path}{suffix}", "JPEG")

    assert sum(counts(load(fill(root, save=save))).values()) == 18


def test_what_is_left_out_is_counted_by_kind(root: Path, load: Load) -> None:
    fill(root)
    for name in ("a.txt", "b.txt", "c", "d.heic", "e.npy", "._000.png", "Thumbs.db", ".DS_Store"):
        (root / "circle" / name).write_bytes(b"P9 no image")
    splits = load(root)
    assert sum(counts(splits).values()) == 18
    left_out = {".txt": 2, "no suffix": 1, ".heic": 1, ".npy": 1, "hidden": 1}
    assert splits.reading.left_out == left_out
    assert "left out: .txt (2)" in str(splits.reading)
    assert "(1 .heic, 1 .npy): convert them to PNG or JPEG" in splits.reading.warnings[0]


def test_an_image_that_icloud_keeps_is_counted(root: Path, load: Load) -> None:
    fill(root)
    for name in (".IMG_1.JPG.icloud", ".a.png.icloud", ".notes.txt.icloud", ".icloud"):
        (root / "circle" / name).write_bytes(b"bplist00")
    splits = load(root)
    assert splits.reading.left_out == {"not downloaded from iCloud": 2}
    assert "left out: not downloaded from iCloud (2)" in str(splits.reading)


def test_what_lies_above_the_class_folders_is_counted(root: Path, load: Load) -> None:
    top = split(root / "archive", "train", "test")
    fill(top, (".thumbs/a", "train/.old"), count=2)
    fill(top / "train" / "circle", (".old",), count=3)
    for place in (".", "train", "../", "test"):
        (top / place / "photo.heic").write_bytes(b"")
    for place in (".", "train"):
        (top / place / ".hidden.png").write_bytes(b"")
        (top / place / "up").symlink_to(top, target_is_directory=True)
    as_png(Image.new("RGB", (16, 16)), top / "train" / "stray")
    fill(top, ("extra",), count=4)
    (top / "extra" / "photo.avif").write_bytes(b"")
    splits = load(root)
    assert splits.reading.left_out == {
        "hidden": 2 + 2 + 3 + 2,
        ".heic": 4,
        ".avif": 1,
        "in other folders": 4,
        "beside the class folders": 1,
        "links to folders above": 2,
    }
    assert any("(4 .heic, 1 .avif)" in text for text in splits.reading.warnings)


def test_what_archives_and_systems_leave_behind_is_no_class(root: Path, load: Load) -> None:
    fill(root)
    for name in ("__MACOSX", ".ipynb_checkpoints", "@eaDir"):
        fill(root / name)
    (root / ".DS_Store").write_bytes(b"")
    assert load(root).train.classes == CLASSES


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\n<!DOCTYPE html><html>404</html>", "it is an HTML page"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1", "it is HEIC, AVIF or a film"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "it is JPEG 2000"),
        (b'<?xml version="1.0"?><svg width="9"/>', "it is SVG"),
        (b"hello", "cannot identify image file"),
    ],
)
def test_what_is_no_image_is_told(root: Path, content: bytes, said: str, refused: Refused) -> None:
    fill(root)
    (root / "circle" / "000.png").write_bytes(content)
    message = refused(root)
    assert f"{root / 'circle' / '000.png'} cannot be read as an image" in message
    assert said in message


def test_all_files_that_are_no_images_are_told(root: Path, load: Load, refused: Refused) -> None:
    fill(root)
    for path in (root / "square").iterdir():
        path.write_bytes(b"")
    message = refused(root)
    assert "6 files cannot be read as an image" in message and "and 3 more" in message
    for path in (root / "square").iterdir():
        path.unlink()
    fill(root, ("square",), seed=5)
    assert sum(counts(load(root)).values()) == 18


def test_odd_names_break_no_line(root: Path, load: Load, refused: Refused) -> None:
    fill(root)
    (root / "circle" / "a.x\ny").write_text("")
    assert load(root).reading.left_out == {"odd suffixes": 1}
    (root / "circle" / "a\nb.png").write_text("")
    assert "cannot be read as an image" in refused(root)


def test_links_upwards_are_not_followed_and_counted(root: Path, tmp_path: Path, load: Load) -> None:
    fill(root)
    (root / "again").symlink_to(root, target_is_directory=True)
    for number, target in enumerate((root, tmp_path, root / "circle", Path("/"))):
        (root / "circle" / f"up{number}").symlink_to(target, target_is_directory=True)
    splits = load(root)
    assert sum(counts(splits).values()) == 18
    assert splits.reading.left_out == {"links to folders above": 5}


def test_links_to_files_and_folders_are_followed(root: Path, tmp_path: Path, load: Load) -> None:
    store = fill(tmp_path / "store")
    (root / "circle").mkdir(parents=True)
    for path in (store / "circle").iterdir():
        (root / "circle" / path.name).symlink_to(path)
    for name in ("cross", "square"):
        (root / name).symlink_to(store / name, target_is_directory=True)
    (store / "square" / "up").symlink_to(store, target_is_directory=True)
    splits = load(root)
    assert sum(counts(splits).values()) == 18
    assert splits.train.classes == CLASSES


def test_links_that_fan_out_end_soon(root: Path, tmp_path: Path) -> None:
    fill(root, count=3)
    for level in range(25):  # 2^25 ways through
        (tmp_path / f"level{level}").mkdir()
        for way in ("a", "b"):
            link = tmp_path / f"level{level}" / way
            link.symlink_to(tmp_path / f"level{level + 1}", target_is_directory=True)
    (tmp_path / "level25").mkdir()
    as_png(Image.new("RGB", (4, 4)), tmp_path / "level25" / "deep")
    (root / "circle" / "more").symlink_to(tmp_path / "level0", target_is_directory=True)
    assert len(listing.scan(root).files) == 10


def test_files_whose_names_tell_are_not_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root)
    (root / "circle" / "label.txt").write_text("circle")
    opened: list[str] = []
    monkeypatch.setattr(tree, "_holds_image", opened.append)
    assert len(listing.scan(root).stats) == 18
    assert not opened


def test_names_of_parts_are_told_from_other_names() -> None:
    usual = "train Valid DEV test_set train2017 test1 val_2 eval Evaluation hold-out".split()
    assert all(part_of(name) in PARTS for name in (*usual, "training images"))
    others = "trains value contest devon latest testament 2019 0".split()
    assert not any(part_of(name) for name in others)
    assert part_of(f"2.25.{'1234567890' * 4}_left") is None  # at once
    assert part_of("test2017") == "test"


def test_no_broken_link_is_lost(root: Path, tmp_path: Path, load: Load, refused: Refused) -> None:
    fill(root, ("bus", "car"))
    (root / "bike").symlink_to(tmp_path / "unmounted")
    assert "the link bike in" in refused(root)
    (root / "bike").unlink()
    (root / "notes.txt").symlink_to(tmp_path / "gone.txt")
    assert load(root).train.classes == ("bus", "car")


def test_folders_in_classes_that_are_taken_together_are_said(root: Path, load: Load) -> None:
    fill(root / "animals", ("cat", "dog"))
    fill(root / "vehicles", ("bus", "car", "train"))
    splits = load(root)
    assert splits.train.classes == ("animals", "vehicles")
    assert "animals holds the folders cat and dog, and so do 1 more classes" in str(splits.reading)
