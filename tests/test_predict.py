"""What is shipped scores on a user's image files what its verification said."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

KINDS = ("circle", "cross", "square")
WORDS = (
    "model=resnet8 dataset=image_folder dataset.crop_padding=2 recipe=sgd_cosine "
    "recipe.batch_size=16 recipe.warmup_epochs=0 recipe.lr=0.1 trainer=cpu trainer.max_epochs=20 "
    "trainer.progress=false trainer.threads=1 logger=disabled modifiers=baseline"
)


def picture(kind: str, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Draw a bright shape on a dark ground."""
    image = Image.new("RGB", size, tuple(map(int, rng.integers(0, 90, 3))))
    draw, r = ImageDraw.Draw(image), min(size) // 4
    x, y = (int(rng.integers(r, side - r)) for side in size)
    ink = tuple(map(int, rng.integers(150, 255, 3)))
    if kind == "cross":
        draw.line((x - r, y, x + r, y), fill=ink, width=3)
        draw.line((x, y - r, x, y + r), fill=ink, width=3)
    else:
        (draw.ellipse if kind == "circle" else draw.rectangle)((x - r, y - r, x + r, y + r), ink)
    return image


def plain(image: Image.Image, path: Path) -> None:
    image.save(path.with_suffix(".png"))


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
    "plain": (plain, (24, 24), "", "format=onnx,executorch"),
    "phone photos": (phone, (24, 32), "dataset.resize=24", "format=onnx"),
    "16-bit grey": (sixteen_bits, (24, 24), "", "format=onnx"),
    "2:1, stretched": (plain, (48, 24), "dataset.resize=24 dataset.fit=stretch", "format=onnx"),
    "alpha icons": (icon, (24, 24), "", "format=onnx,executorch uint8_input=true"),
}


def fill(root: Path, kind: str) -> Path:
    save, size, *_ = FOLDERS[kind]
    rng = np.random.default_rng(0)
    for part, count in (("train", 32), ("val", 12)):
        for label in KINDS:
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                save(picture(label, rng, size), root / part / label / f"{number:03}")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
def test_the_script_scores_on_the_original_files_what_was_verified(
    tmp_path: Path,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    images = fill(tmp_path / "images", kind)
    *_, reads, takes = FOLDERS[kind]
    words = f"{WORDS} {reads} dataset.root={images}".split()
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
        assert out.startswith(f"{row['accuracy']['val']:.2f} % of 36 images")
        assert row["accuracy"]["val"] == pytest.approx(record["val_acc"], abs=1e-3)
