"""The script of an export does to an image file what training did, and needs nothing else."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ssr_exp.datasets import preprocessing
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge.export import formats, predictor
from ssr_exp.edge.export.formats import Order, torch_export
from ssr_exp.edge.export.predictor import Predictor
from ssr_exp.edge.export.verification import Labelled
from ssr_exp.errors import SsrError
from tests.support.descriptions import description

LABELS = ("dark", "bright", 'it\'s "a" \\ \n</b>\u2028ü{0}')
HOW = Preprocessing(3, (4, 6), fit="crop", mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 1.0))
ABOUT = description(input_shape=(3, 4, 6), classes=LABELS, mean=HOW.mean, std=HOW.std)
OWN = {"__future__", *sys.stdlib_module_names}


class Brightness(nn.Module):
    """Gives dark images the first label, bright ones the second, and none the third."""

    def forward(self, images: Tensor) -> Tensor:
        level = images.mean((1, 2, 3))
        return torch.stack([-level, level, torch.full_like(level, -9)], 1)


def script(
    folder: Path, how: Preprocessing = HOW, *, model: str = "model.pt2", takes_bytes: bool = False
) -> Path:
    text = predictor.text(LABELS, how, {model: 8}, takes_bytes=takes_bytes)
    (folder / predictor.SCRIPT).write_text(text, encoding="utf-8")
    return folder / predictor.SCRIPT


@dataclass
class Ended:  # what the script printed, and its exit status
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    path = script(tmp_path)
    torch_export.write(Order(Brightness().eval(), ABOUT), tmp_path / "model.pt2")
    monkeypatch.chdir(tmp_path)
    main = Predictor(path)._script.main

    def run(*words: str) -> Ended:
        code = main(words)
        return Ended(code, *capsys.readouterr())

    return run


def save(path: Path, level: int, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level,) * 3).save(path)
    return path


def test_the_script_imports_nothing_but_pillow_numpy_and_a_runtime() -> None:
    tree = ast.parse(predictor.text(LABELS, HOW, {}, takes_bytes=False))
    assert packages(ast.walk(tree)) == {"PIL", "numpy", "onnxruntime", "executorch", "torch"}
    assert packages(tree.body) == {"PIL", "numpy"}
    names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert len(names) == len(set(names)) > 20


def packages(nodes: Iterable[ast.AST]) -> set[str]:
    """List the packages that are imported, but for Python's own."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.partition(".")[0] for name in names} - OWN


def sideways(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


def saved_as(mode: str) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        pixels = np.random.default_rng(1).integers(0, 256, (9, 12, 4), dtype=np.uint8)
        Image.fromarray(pixels, "RGBA").convert(mode).save(path)

    return save


def sixteen(path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 4096, (9, 12)).astype(np.uint16)
    Image.fromarray(values).save(path)


KINDS: dict[str, Callable[[Path], None]] = {
    "turned.jpg": sideways,
    "alpha.png": saved_as("RGBA"),
    "grey alpha.png": saved_as("LA"),
    "palette.gif": saved_as("P"),
    "grey.png": saved_as("L"),
    "one bit.png": saved_as("1"),
    "cmyk.jpg": saved_as("CMYK"),
    "twelve bits.png": sixteen,
}


@pytest.mark.parametrize("takes_bytes", [False, True])
@pytest.mark.parametrize("fit", preprocessing.FITS)
@pytest.mark.parametrize("channels", [1, 3])
def test_it_reads_like_training(tmp_path: Path, channels: int, fit: str, takes_bytes: bool) -> None:
    how = Preprocessing(
        channels,
        (4, 6),
        fit=fit,
        depth=12,
        background=0,
        mean=HOW.mean[:channels],
        std=HOW.std[:channels],
    )
    predictor = Predictor(script(tmp_path, how, takes_bytes=takes_bytes))
    for name, write in KINDS.items():
        write(path := tmp_path / name)
        rgb, _ = preprocessing.read(path, size=(4, 6), how=how)
        grey = torch.from_numpy(np.asarray(Image.fromarray(rgb).convert("L")).copy())[None]
        pixels = torch.from_numpy(rgb.copy()).permute(2, 0, 1) if channels == 3 else grey
        mean, std = (torch.tensor(v)[:, None, None] for v in (how.mean, how.std))
        expected = pixels if takes_bytes else (pixels / 255 - mean) / std
        (image,) = predictor.images([path])
        torch.testing.assert_close(image, expected)


def test_images_without_files_are_verified_by_files_of_their_pixels(tmp_path: Path) -> None:
    for channels in (1, 3):
        how = Preprocessing(channels, (4, 6), mean=HOW.mean[:channels], std=HOW.std[:channels])
        (folder := tmp_path / str(channels)).mkdir()
        predictor = Predictor(script(folder, how))
        pixels = torch.randint(0, 256, (3, channels, 4, 6), dtype=torch.uint8)
        part = Labelled("val", pixels, torch.zeros(3), mean=how.mean, std=how.std)
        read = predictor.originals(part, folder)
        torch.testing.assert_close(read.batch(0, 3), part.batch(0, 3))
        assert len(list(folder.glob("val-*.png"))) == 3


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    predictor = Predictor(script(tmp_path))
    with pytest.raises(SsrError, match=r"verified cannot be read .*gone\.png"):
        predictor.images([tmp_path / "gone.png"])


@pytest.mark.slow
def test_it_runs_where_nothing_is_known_of_this_project(run: Run, tmp_path: Path) -> None:
    dark = save(tmp_path / "dark.png", 10)
    words = [sys.executable, "-P", "-W", "error", "predict.py", "--json", dark.name]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == run("--json", dark.name).out != ""


def test_labels_and_probabilities_are_printed_in_order(run: Run, tmp_path: Path) -> None:
    dark, bright = (save(tmp_path / f"{n}.png", n) for n in (10, 240))
    ended = run("--top", "2", str(dark), str(bright))
    assert (ended.code, ended.err) == (0, "")
    first, second = ended.out.splitlines()
    assert first.startswith(f"{dark}: dark ") and ", bright " in first
    assert second.startswith(f"{bright}: bright ")
    shown = json.loads(run("--json", str(dark)).out)
    assert shown["file"] == str(dark) and list(shown["labels"]) == list(LABELS)
    assert sum(shown["labels"].values()) == pytest.approx(1, abs=1e-6)


def test_folders_are_walked_and_scored_by_their_names(run: Run, tmp_path: Path) -> None:
    (val := tmp_path / "val").mkdir()
    for number in range(9):
        save(val / "dark" / f"{number}.png", 10)
    save(val / "bright" / "0.png", 240)
    save(val / "bright" / "1.png", 12)
    (val / "dark" / "notes.txt").write_text("none")
    (val / ".hidden.png").write_text("none")
    ended = run("--score", "val")
    assert ended.out == "90.91 % of 11 images have the label of their folder\n"
    assert ended.code == 0
    assert ended.err == "1 other files in these folders are of no kind that is read\n"


def test_the_nearest_folder_that_is_a_label_counts_wherever_it_stands(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = save(tmp_path / "photos" / "dark" / "2019.png", 10).parent / "2019"
    save(below / "1.png", 20)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "bright").symlink_to(tmp_path / "elsewhere")
    save(tmp_path / "elsewhere" / "2.png", 250)
    (below / "up").symlink_to(tmp_path / "photos")
    for folder, count in (("photos", 2), ("linked", 1)):
        said = f"100.00 % of {count} images have the label of their folder\n"
        assert run("--score", folder).out == said
    monkeypatch.chdir(below.parent)
    assert run("--score", ".", "--model", str(tmp_path / "model.pt2")).out.startswith("100.00 %")


def test_images_without_labels_are_not_scored(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "all" / "test" / "1.png", 10)
    ended = run("--score", "all")
    assert (ended.code, ended.out) == (1, "")
    assert "no image lies in a folder that is named by a label" in ended.err
    save(tmp_path / "all" / "dark" / "1.png", 10)
    ended = run("--score", "all")
    assert ended.out == "100.00 % of 1 images have the label of their folder\n"
    assert ended.err == "1 files in no folder of a label are left out\n"


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    path = script(tmp_path, model="model.onnx")  # which starts sooner than a program of torch
    formats.find("onnx").write(Order(Brightness().eval(), ABOUT), tmp_path / "model.onnx")
    for number in range(20):
        save(tmp_path / "many" / f"{number}.png", 10)
    odd = os.fsdecode(b"many/\xff.png")
    shutil.copy(tmp_path / "many" / "0.png", tmp_path / odd)
    for words in ("many | head -1", "many > /dev/null"):
        command = f"exec 3>&1; {sys.executable} -P {path.name} {words}; exit ${{PIPESTATUS[0]}}"
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (ended.returncode, ended.stderr) == (0, "")


def test_an_export_holds_no_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    Predictor(script(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["predict.py"]


def test_bad_input_ends_in_a_sentence_and_the_rest_goes_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "broken.pt2").write_bytes(b"none")
    (tmp_path / ".hidden").mkdir()
    good = save(tmp_path / "good.png", 250)
    for path in ("broken.png", "./notes.txt", "gone.png"):
        ended = run(path, str(good))
        assert ended.code == 1 and ended.out.startswith(f"{good}: bright")
        assert "cannot be read as an image" in ended.err and len(ended.err.splitlines()) == 1
    for words, said in (
        (["--model", "gone.pt2", str(good)], "there is no file gone.pt2: type --model"),
        (["--model", "notes.txt", str(good)], "is no .onnx, .pte or .pt2 file"),
        (["--model", "broken.pt2", str(good)], "broken.pt2 cannot be loaded"),
        ([str(tmp_path / ".hidden")], "no image was classified"),
    ):
        ended = run(*words)
        assert ended.code == 1 and said in ended.err
    for top in ("0", "-1", "many"):
        with pytest.raises(SystemExit):
            run("--top", top, str(good))


def test_numbers_that_training_did_not_know_are_refused(tmp_path: Path, run: Run) -> None:
    sixteen(tmp_path / "deep.png")
    Image.fromarray(np.full((4, 6), 200, np.float32)).save(tmp_path / "float.tiff")
    ended = run("deep.png", "float.tiff")
    assert ended.code == 1
    assert "holds grey of more than 8 bits, and the images of the training did not" in ended.err
    assert "holds floating-point numbers" in ended.err


def test_an_image_of_another_size_is_refused_where_training_refused_it(tmp_path: Path) -> None:
    how = Preprocessing(3, (4, 6), mean=HOW.mean, std=HOW.std)
    path = save(tmp_path / "large.png", 9, (12, 8))
    with pytest.raises(ValueError, match="it has 12 x 8 pixels, and the network takes 6 x 4"):
        preprocessing.pixels(path, how)
