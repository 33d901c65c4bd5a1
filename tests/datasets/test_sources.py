from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssr_exp.config import CropFrom, DatasetConf
from ssr_exp.datasets import in_memory
from ssr_exp.datasets.images import Splits, Target
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.errors import SsrError
from tests.datasets.pictures import noise

Refused = Callable[..., str]


def test_a_missing_folder_is_named(tmp_path: Path, refused: Refused) -> None:
    assert re.search(r"no folder .*nowhere.*dataset\.root=DIR", refused(tmp_path / "nowhere"))


def test_an_empty_folder_is_refused(root: Path, refused: Refused) -> None:
    root.mkdir()
    assert "no class folders" in refused(root)


def test_a_folder_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(SsrError, match=r"dataset\.root=DIR"):
        in_memory.load(DatasetConf(name="image_folder"), tmp_path)


def test_a_single_class_is_refused(root: Path, refused: Refused) -> None:
    assert "one class, 'cat'" in refused(noise(root, cat=3))


def test_a_class_without_images_is_named(root: Path, refused: Refused) -> None:
    noise(root, cat=3, dog=0)
    assert re.search("dog has no images, it is empty", refused(root))
    (root / "dog" / "a.txt").write_text("")
    (root / "dog" / "b.csv").write_text("")
    assert re.search(r"dog has no images, only 2 files .*\.csv, \.txt", refused(root))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("part", ["val", "test"])
def test_a_class_may_have_an_empty_folder_in_val_and_test(
    root: Path, load: Callable[..., Splits], refused: Refused, part: str, stream: bool
) -> None:
    noise(root / "train", cat=6, dog=6, fox=6)
    noise(root / part, cat=4, fox=4)
    assert "both must hold the same class folders, an empty one where" in refused(root)
    (root / part / "dog").mkdir()
    splits = load(root, stream=stream)
    held = splits.val if part == "val" else splits.test
    assert held is not None and held.labels.tolist() == [0] * 4 + [2] * 4
    assert splits.train.classes == held.classes == ("cat", "dog", "fox")
    assert any(f"{part} has 0 images of class 'dog'" in said for said in splits.reading.warnings)
    (root / part / "dog" / "a.txt").write_text("")
    assert "only 1 files of other kinds (.txt): add" in refused(root)
    assert "leave the folder empty" in refused(root)
    shutil.rmtree(root / "train" / "fox")
    (root / "train" / "fox").mkdir()
    assert "train/fox has no images, it is empty" in refused(root)


def test_an_image_that_is_cut_short_is_named(root: Path, refused: Refused) -> None:
    victim = noise(root, cat=3, dog=3) / "dog" / "1.png"
    victim.write_bytes(victim.read_bytes()[:60])
    assert f"{victim} cannot be read as an image" in refused(root)


def test_mixed_sizes_name_two_images(root: Path, refused: Refused) -> None:
    noise(root, cat=3)
    noise(root, size=(9, 4), dog=3)
    message = refused(root)
    assert "cat/0.png is 6 x 6 pixels and dog/0.png 9 x 4" in message
    assert "dataset.resize=32" in message


def test_parts_with_different_classes_are_refused(root: Path, refused: Refused) -> None:
    noise(root / "train", cat=3, dog=3)
    noise(root / "test", cat=3, fox=3)
    assert "only in train: dog; only in test: fox" in refused(root)


def test_an_unknown_data_set_gets_the_list(tmp_path: Path) -> None:
    with pytest.raises(SsrError, match=r"unknown data set 'mnist'.*digits, image_folder, cifar10"):
        in_memory.load(DatasetConf(name="mnist"), tmp_path)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0])
def test_val_fraction_must_be_a_share(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(SsrError, match=r"dataset\.val_fraction=0\.1"):
        in_memory.load(DatasetConf(name="digits", val_fraction=fraction), tmp_path)


def test_val_fraction_must_give_each_class_an_image(tmp_path: Path) -> None:
    with pytest.raises(SsrError, match="each of the 10 classes") as caught:
        in_memory.load(DatasetConf(name="digits", val_fraction=0.001), tmp_path)
    advice = float(re.findall(r"val_fraction=([\d.]+) or more", str(caught.value))[0])
    in_memory.load(DatasetConf(name="digits", val_fraction=advice), tmp_path)


@pytest.mark.parametrize(
    "resize",
    [0, -3, 2.5, True, "32x48", [], [32], [32, 0], [32, 48, 3], [32, 4.5], ["a", 3], {"a": 3}],
    ids=str,
)
def test_resize_is_a_side_or_both(root: Path, resize: Any, refused: Refused) -> None:
    said = refused(noise(root, cat=3, dog=3), resize=resize)
    assert "is not a size: type a number" in said
    assert "dataset.resize=32, or height and width, such as dataset.resize=[32,48]" in said


@pytest.mark.parametrize("name", ["image_folder", "cifar10"])
@pytest.mark.parametrize("root", ["", "  "])
def test_an_empty_root_is_not_the_current_folder(tmp_path: Path, name: str, root: str) -> None:
    with pytest.raises(SsrError, match=r"dataset\.root is empty: type dataset\.root=DIR"):
        in_memory.load(DatasetConf(name=name, root=root, download=False), tmp_path)


@pytest.mark.parametrize(
    "fields",
    [{"stream": True}, {"memory": 0.5}, {"skip_corrupt": 2}, {"crop_from": CropFrom.file}],
)
@pytest.mark.parametrize("name", ["digits", "scenes", "csv", "masks"])
def test_what_is_of_files_that_are_streamed_is_refused_elsewhere(
    tmp_path: Path, name: str, fields: dict[str, Any]
) -> None:
    ((key, value),) = fields.items()
    target = Target.masks if name in ("scenes", "masks") else Target.one_class
    said = rf"dataset\.{key}={str(value).lower()} is of dataset=image_folder: leave it out"
    with pytest.raises(SsrError, match=said):
        in_memory.load(DatasetConf(name=name, **fields), tmp_path, target)


COLUMNS = {"file": "table.csv", "image": "Path", "group": "patient", "split": "Part"}


@pytest.mark.parametrize("key", [*COLUMNS, "targets"])
@pytest.mark.parametrize("name", ["digits", "cifar10", "scenes", "masks", "image_folder"])
def test_columns_of_a_table_are_refused_where_there_is_none(
    root: Path, tmp_path: Path, name: str, key: str
) -> None:
    if (name, key) == ("masks", "targets"):
        return  # names of its classes
    value: Any = COLUMNS.get(key, ["a", "b"])
    target = Target.masks if name in ("scenes", "masks") else Target.one_class
    folder = str(noise(root, cat=12, dog=12)) if name == "image_folder" else None
    conf = DatasetConf(name=name, root=folder, download=False, **{key: value})
    with pytest.raises(SsrError) as caught:
        in_memory.load(conf, tmp_path, target)
    readers = "dataset=csv and dataset=masks" if key == "targets" else "dataset=csv"
    said, typed = str(caught.value), "[a,b]" if key == "targets" else value
    assert said.startswith(f"dataset.{key}={typed} is of {readers}: leave it out")
    has_parts = key in ("group", "split") and name in ("masks", "image_folder")
    assert ("train/, val/ and test/" in said) == has_parts
    assert ("or type dataset=csv" in said) == (name == "image_folder")


def test_crops_of_files_need_a_size_and_a_stream(root: Path, refused: Refused) -> None:
    noise(root, cat=5, dog=5)
    crops = {"crop_from": CropFrom.file, "crop_scale": [0.1, 1.0]}
    assert "type dataset.crop_scale=[0.08,1] and dataset.resize=224" in refused(root, **crops)
    message = refused(root, crop_from=CropFrom.file, resize=4)
    assert "type dataset.crop_scale=[0.08,1] and dataset.resize=224" in message
    assert "leave one of both out" in refused(root, **crops, resize=4, stream=False)


@pytest.mark.parametrize("fields", [{}, {"resize": 4, "fit": "pad"}])
def test_a_share_of_no_crop_gets_advice(
    root: Path, fields: dict[str, Any], refused: Refused
) -> None:
    said = refused(noise(root, cat=5, dog=5), crop_share=0.875, **fields)
    assert "dataset.crop_share=0.875 is of the centre" in said and "dataset.resize=224" in said


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("name", ["digits", "image_folder"])
def test_a_fit_to_no_size_gets_advice(root: Path, tmp_path: Path, name: str, fit: str) -> None:
    conf = DatasetConf(name=name, fit=fit, root=str(noise(root, cat=5, dog=5)))
    with pytest.raises(SsrError, match=rf"type dataset\.fit={fit} dataset\.resize=32"):
        in_memory.load(conf, tmp_path)
    assert in_memory.load(replace(conf, resize=8, val_fraction=0.3), tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_an_absent_set_says_where_it_was_looked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(SsrError, match=re.escape(str(tmp_path))) as caught:
        in_memory.load(DatasetConf(name=name, download=False), tmp_path)
    assert "dataset.download=true" in str(caught.value)


def test_a_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    with pytest.raises(SsrError, match=r"download failed: OSError: no network.*dataset\.root=DIR"):
        in_memory.load(DatasetConf(name="cifar10"), tmp_path)


def test_a_torchvision_set_has_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 60), ("t10k", 20)):
        header = b"\0\0\x08\x03" + b"".join(k.to_bytes(4, "big") for k in (n, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + bytes(range(n)) * 784)
        header = b"\0\0\x08\x01" + n.to_bytes(4, "big")
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + bytes(range(10)) * (n // 10))
    conf = DatasetConf(name="fashion_mnist", val_fraction=0.2, download=False)
    splits = in_memory.load(conf, tmp_path)
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (50, 10, 20)
    assert splits.image_shape == (1, 28, 28)
    assert in_memory.load(replace(conf, resize=14), tmp_path).image_shape == (1, 14, 14)
    assert in_memory.load(replace(conf, resize=[14, 20]), tmp_path).image_shape == (1, 14, 20)


def test_absent_test_images_say_so(digits: Splits) -> None:
    with pytest.raises(SsrError, match="no test images"):
        TensorDataModule(replace(digits, test=None), batch_size=8).test_dataloader()
