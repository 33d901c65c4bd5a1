"""What is shipped scores on a user's image files what its verification said."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssr_exp.datasets import scenes
from tests.datasets.pictures import as_png, fill

WORDS = (
    "model=resnet8 dataset=image_folder dataset.crop_padding=2 recipe=sgd_cosine "
    "recipe.batch_size=16 recipe.warmup_epochs=0 recipe.lr=0.1 trainer=cpu trainer.max_epochs=20 "
    "trainer.progress=false trainer.threads=1 logger=disabled modifiers=baseline"
)


def phone(image: Image.Image, path: Path) -> None:
    """Store a photo as phones do: turned, with the turn in EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.save(path.with_suffix(".jpg"), exif=exif, quality=92)


def sixteen_bits(image: Image.Image, path: Path) -> None:
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(path.with_suffix(".png"))


def icon(image: Image.Image, path: Path) -> None:
    """Keep nothing but what is transparent."""
    ink = Image.new("RGBA", image.size, (0, 0, 0, 0))
    ink.putalpha(image.convert("L").point(lambda v: 255 if v > 110 else 0))
    ink.save(path.with_suffix(".png"))


# How images are stored, their size, how they are read, and what is exported.
FOLDERS: dict[str, tuple[Callable[[Image.Image, Path], None], tuple[int, int], str, str]] = {
    "plain": (as_png, (24, 24), "", "format=onnx,executorch"),
    "phone photos": (phone, (24, 32), "dataset.resize=24", "format=onnx"),
    "16-bit grey": (sixteen_bits, (24, 24), "", "format=onnx"),
    "2:1, stretched": (as_png, (48, 24), "dataset.resize=24 dataset.fit=stretch", "format=onnx"),
    "2:1, padded to 3:1": (
        as_png,
        (48, 24),
        "dataset.resize=[16,48] dataset.fit=pad",
        "format=onnx",
    ),
    "alpha icons": (icon, (24, 24), "", "format=onnx,executorch uint8_input=true"),
}


def scene_files(folder: Path, *, count: int) -> None:
    """Write the embedded scenes as files, with numbers of classes of the user's own."""
    images, _ = scenes.scenes()
    for number in range(count):
        part = "val" if number % 3 == 0 else "train"
        for kind, array in (("images", images.pixels[number, 0]), ("masks", images.labels[number])):
            path = folder / part / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.numpy()).resize((48, 32), Image.Resampling.NEAREST).save(path)


@pytest.mark.slow
@pytest.mark.usefixtures("repeatable")
@pytest.mark.parametrize(
    ("more", "takes"),
    [
        ("dataset.resize=24", "format=onnx int8=true int8_drop=60%"),
        pytest.param(
            *("dataset.resize=[16,32] dataset.fit=pad", "format=executorch"), marks=pytest.mark.more
        ),
    ],
)
def test_masks_score_what_was_verified(
    tmp_path: Path, command: Callable[..., Any], more: str, takes: str
) -> None:
    scene_files(root := tmp_path / "scenes", count=36)
    words = "model=unet model.arguments={width:8,levels:2,blocks:1} trainer.max_epochs=2"
    words += " task=segmentation dataset=masks dataset.flip=false"
    words += f" recipe.batch_size=8 recipe.lr=0.05 {more} dataset.root={root}"
    assert command(*words.split(), script="train.py").code == 0
    code = next((tmp_path / "runs").glob("*/d*")).name
    words = f"run={code} repeats=1 {takes} to={tmp_path}/shipped"
    ended = command(*words.split(), script="export.py")
    assert ended.code == 0, ended.text
    shipped = tmp_path / "shipped"
    record = json.loads((shipped / "record.json").read_text())
    assert "val mIoU %" in (shipped / "README.md").read_text()
    for row in json.loads((shipped / "export.json").read_text())["files"]:
        script = [sys.executable, str(shipped / "predict.py"), "--model", row["file"]]
        assert row["eager"]["val"] == pytest.approx(record["score"], abs=1e-3)
        ran = run([*script, "--score", str(root / "val/images")], tmp_path)
        assert ran == f"{row['scores']['val']:.2f} % mIoU of 12 images\n"
    ran = run([*script, str(root / "val/images/0.png")], tmp_path)
    assert ran.endswith("(predicted/0.png)\n")
    with Image.open(tmp_path / "predicted/0.png") as mask:
        assert mask.size == (48, 32)


def run(words: list[str], folder: Path) -> str:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout


MORE = pytest.mark.more
FEW = ("phone photos",)  # that CI has time for


@pytest.mark.slow
@pytest.mark.parametrize("kind", [p if p in FEW else pytest.param(p, marks=MORE) for p in FOLDERS])
def test_the_script_scores_on_the_original_files_what_was_verified(
    tmp_path: Path,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    images, (save, size, more, takes) = tmp_path / "images", FOLDERS[kind]
    for seed, (part, count) in enumerate((("train", 32), ("val", 12))):
        fill(images / part, count=count, save=save, size=size, seed=seed)
    words = f"{WORDS} {more} dataset.root={images}".split()
    assert command(*words, script="train.py").code == 0
    code = next((tmp_path / "runs").glob("*/d*")).name
    ended = command(f"run={code}", "repeats=1", *takes.split(), script="export.py")
    assert ended.code == 0, ended.text
    folder = Path(ended.out.strip().splitlines()[-1].removeprefix("export: "))
    rows = json.loads((folder / "export.json").read_text())["files"]
    record = json.loads((folder / "record.json").read_text())
    assert record["val_acc"] > 50  # of three classes: something was learnt
    for row in rows:
        script = [str(folder / "predict.py"), "--model", str(folder / row["file"])]
        monkeypatch.setattr(sys, "argv", [*script, "--score", str(images / "val")])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(script[0], run_name="__main__")
        assert not stop.value.code
        out = capsys.readouterr().out
        assert out.startswith(f"{row['scores']['val']:.2f} % of 36 images")
        assert row["scores"]["val"] == pytest.approx(record["val_acc"], abs=1e-3)
