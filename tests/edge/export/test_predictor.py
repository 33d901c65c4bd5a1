"""The script of an export does to an image file what training did, and needs nothing else."""

from __future__ import annotations

import ast
import errno
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ssr_exp.config import RecipeConf, TaskKind
from ssr_exp.datasets import mask_files, preprocessing
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge.export import formats, output_kinds, predict_masks, predictor
from ssr_exp.edge.export.formats import Order, torch_export
from ssr_exp.edge.export.predictor import Predictor
from ssr_exp.edge.export.verification import Samples
from ssr_exp.errors import SsrError
from ssr_exp.tasks.segmentation import SemanticSegmentation
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


FACTS: dict[str, Any] = {"labels": list(LABELS), "unit": "", "table": None}


def script(
    folder: Path,
    how: Preprocessing = HOW,
    *,
    task: str = "classification",
    model: str = "model.pt2",
    takes_bytes: bool = False,
    **facts: Any,
) -> Path:
    text = predictor.text(task, FACTS | facts, how, {model: 8}, takes_bytes=takes_bytes)
    (folder / predictor.SCRIPT).write_text(text, encoding="utf-8")
    return folder / predictor.SCRIPT


@dataclass
class Ended:  # what the script printed, and its exit status
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file, in the folder where the script is run."""
    torch_export.write(Order(Brightness().eval(), ABOUT), tmp_path / "model.pt2")
    monkeypatch.chdir(tmp_path)


def runner(path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    main = Predictor(path)._script.main

    def run(*words: str) -> Ended:
        code = main(words)
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def run(tmp_path: Path, model: None, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(script(tmp_path), capsys)


def save(path: Path, level: int, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level,) * 3).save(path)
    return path


@pytest.mark.parametrize("task", predictor.TASKS)
def test_the_script_imports_nothing_but_pillow_numpy_and_a_runtime(task: str) -> None:
    tree = ast.parse(predictor.text(task, FACTS, HOW, {}, takes_bytes=False))
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
    for channels, share in ((1, 1.0), (3, 1.0), (3, 0.5)):  # the pixels are cropped already
        how = Preprocessing(channels, (4, 6), mean=HOW.mean[:channels], std=HOW.std[:channels])
        how = replace(how, fit="crop", crop_share=share)
        (folder := tmp_path / f"{channels}-{share}").mkdir()
        predictor = Predictor(script(folder, how))
        pixels = torch.randint(0, 256, (3, channels, 4, 6), dtype=torch.uint8)
        part = Samples("val", pixels, mean=how.mean, std=how.std)
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


def test_a_line_of_json_is_json_whatever_the_terminal_writes(run: Run, tmp_path: Path) -> None:
    odd = save(tmp_path / "\u00fc\U0001f600.png", 10)
    said = run("--json", str(odd)).out.encode("latin-1", "backslashreplace").decode("latin-1")
    assert json.loads(said)["file"] == str(odd)


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


def test_a_folder_above_what_was_named_says_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "dark/photos/val/bright/1.png", 250)
    save(tmp_path / "dark/photos/val/misc/1.png", 250)
    monkeypatch.chdir(tmp_path / "dark/photos")
    model = ("--model", str(tmp_path / "model.pt2"))
    for named in ("val", "val/bright/1.png", "val/bright"):
        ended = run("--score", named, *model)
        assert ended.out == "100.00 % of 1 images have the label of their folder\n"
        assert ("1 files of which nothing is known" in ended.err) == (named == "val")


def test_damaged_images_in_a_folder_are_said_and_fail(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "val/dark/1.png", 10)
    (tmp_path / "val/dark/2.JPG").touch()
    (tmp_path / "val/dark/3.png").write_bytes(b"\x88PNG")
    (tmp_path / "val/dark/notes.txt").write_text("none")
    ended = run("--score", "val")
    assert (ended.code, ended.out) == (1, "100.00 % of 1 images have the label of their folder\n")
    said = "val/dark/%s cannot be read as an image: it is damaged, or of no kind that is known"
    others = "1 other files in these folders are of no kind that is read"
    assert ended.err.splitlines() == [said % "2.JPG", said % "3.png", others]


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images that nobody may read, whoever runs the test."""
    path = save(tmp_path / "val/bright/0.png", 240).parent

    def refusing(real: Callable[..., Any], held: Callable[[Path], bool]) -> Callable[..., Any]:
        def call(name: Any = ".", *words: Any, **more: Any) -> Any:
            if isinstance(name, str | Path) and held(Path(os.path.abspath(name))):
                raise PermissionError(errno.EACCES, "Permission denied", str(name))
            return real(name, *words, **more)

        return call

    monkeypatch.setattr(os, "scandir", refusing(os.scandir, lambda one: one == path))
    monkeypatch.setattr(os, "listdir", refusing(os.listdir, lambda one: one == path))
    monkeypatch.setattr(os, "stat", refusing(os.stat, lambda one: path in one.parents))
    return path


def test_a_folder_that_cannot_be_read_is_said_and_fails(
    run: Run, tmp_path: Path, locked: Path
) -> None:
    save(tmp_path / "val/dark/1.png", 10)
    ended = run("--score", "val")
    assert (ended.code, ended.out) == (1, "100.00 % of 1 images have the label of their folder\n")
    assert ended.err == "the folder val/bright cannot be read (Permission denied)\n"
    ended = run("val/bright")
    assert (ended.code, ended.out) == (1, "") and "val/bright cannot be read" in ended.err


def test_a_name_that_cannot_be_looked_up_ends_nothing(
    run: Run, tmp_path: Path, locked: Path
) -> None:
    good = save(tmp_path / "good.png", 250)
    (tmp_path / "val/bright/0.png").unlink()
    for name in ("0" * 999 + ".png", "val/bright/0.png", "a\0b.png"):
        ended = run(name, str(good))
        assert ended.code == 1 and ended.out.startswith(f"{good}: bright")
        assert "cannot be read as an image" in ended.err and len(ended.err.splitlines()) == 1
    assert "there is no file 000" in run("--model", "0" * 999 + ".pt2", str(good)).err


def test_wildcards_that_a_shell_leaves_are_expanded(run: Run, tmp_path: Path) -> None:
    files = [save(tmp_path / f"set[1]/{name}.png", 10) for name in ("1", "2", "30", "odd*")]
    assert run("set[1]/*.png").out.count(": dark ") == 4
    assert run(str(tmp_path / "set[1]/?.png")).out.count(": dark ") == 2
    said = run(str(files[-1])).out  # a file of that name
    assert said.count(": dark ") == 1 and said.startswith(f"{files[-1]}: ")
    ended = run("none/*.png")
    assert ended.code == 1 and "none/*.png cannot be read as an image" in ended.err


def test_images_without_labels_are_not_scored(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "all" / "test" / "1.png", 10)
    ended = run("--score", "all")
    assert (ended.code, ended.out) == (1, "")
    assert "no folder within what was named is a label" in ended.err
    save(tmp_path / "all" / "dark" / "1.png", 10)
    ended = run("--score", "all")
    assert ended.out == "100.00 % of 1 images have the label of their folder\n"
    assert ended.err == "1 files of which nothing is known are left out\n"


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
        ([str(tmp_path / ".hidden")], "there was no image"),
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


NAMES = ["dark", "bright", "never"]
TABLES = {
    "flags.csv": (NAMES, "picture; dark; bright; never\ndark.png; 1; no; 0\nbright.png;;yes;\n"),
    "words.tsv": (["words"], "picture\twords\ndark.png\tdark \nbright.png\tbright; dark\n"),
    "sizes.csv": (NAMES, 'picture, "dark",bright,never\ndark.png,4,0,1\n bright.png,2,0,"1e0"\n '),
}


@pytest.fixture
def start(
    tmp_path: Path, model: None, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, str], Run]:
    """Ship the network for a task that was learnt from a table."""
    for name, level in (("dark", 10), ("bright", 240)):
        save(tmp_path / "images" / f"{name}.png", level)

    def start(task: str, table: str) -> Run:
        targets, text = TABLES[table]
        (tmp_path / "images" / table).write_text(text, encoding="utf-8-sig")
        facts = {"labels": NAMES, "table": {"image": "picture", "targets": targets}, "unit": "mm"}
        moments = {"target_mean": [1.0, 0.0, 10.0], "target_std": [1.0, 1.0, 1.0]}
        return runner(script(tmp_path, task=task, **facts, **moments), capsys)

    return start


def logits(folder: Path, *names: str) -> Tensor:
    files = [folder / "images" / f"{name}.png" for name in names]
    with torch.inference_mode():
        return Brightness()(Predictor(folder / "predict.py").images(files)).double()


@pytest.mark.parametrize("table", ["flags.csv", "words.tsv"])
def test_labels_are_printed_and_scored(
    tmp_path: Path, start: Callable[[str, str], Run], table: str
) -> None:
    run = start("multilabel", table)
    ended = run(f"images/{table}")
    words = [row.split()[:2] for row in ended.out.splitlines()]
    assert words == [["images/dark.png:", "dark"], ["images/bright.png:", "bright"]]
    assert run("--above", "1", "images/dark.png").out == "images/dark.png: no label\n"
    assert "bright" in run("--above", "0.001", "images/dark.png").out
    for wrong in ("30", "-1", "nan", "half"):
        with pytest.raises(SystemExit):
            run("--above", wrong, "images/dark.png")
    shown = json.loads(run("--json", "images/dark.png").out)["labels"]
    chances = logits(tmp_path, "dark").sigmoid()[0].tolist()
    assert shown == pytest.approx(dict(zip(NAMES, chances, strict=True)))
    assert list(shown) == ["dark", "bright", "never"]
    assert run("--score", f"images/{table}").out == "66.67 % mAP of 2 images\n"


def test_numbers_are_printed_in_their_unit_and_scored(
    tmp_path: Path, start: Callable[[str, str], Run]
) -> None:
    run = start("regression", "sizes.csv")
    expected = logits(tmp_path, "dark", "bright") + torch.tensor([1.0, 0.0, 10.0])
    shown = json.loads(run("--json", "images/dark.png").out)
    assert shown["unit"] == "mm"
    assert list(shown["numbers"].values()) == pytest.approx(expected[0].tolist(), rel=1e-5)
    dark, bright, _ = expected[0].tolist()
    printed = run("images/dark.png").out
    assert printed == f"images/dark.png: dark {dark:.6g} mm, bright {bright:.6g} mm, never 1 mm\n"
    errors = expected - torch.tensor([[4.0, 0.0, 1.0], [2.0, 0.0, 1.0]])
    rmse, mae = errors.square().mean().sqrt(), errors.abs().mean()
    said = f"rmse {rmse:.4g} mm, mae {mae:.4g} mm of 2 images\n"
    assert run("--score", "images/sizes.csv").out == said
    said = run("--score", "--only", "picture=dark.png", "images/sizes.csv").out
    assert said.endswith("of 1 images\n")
    shutil.move(tmp_path / "images/sizes.csv", tmp_path / "sizes.csv")
    assert run("--score", "sizes.csv", "--root", "images").out.endswith("of 2 images\n")
    (tmp_path / "more.csv").write_text("picture,dark,bright,never\nnone.png,1,2,3\n")
    only = ("--score", "--root", "images", "--only", "picture=dark.png")
    both = run(*only, "more.csv", "sizes.csv")
    assert both.out == said and "more.csv: no row says picture=dark.png; they say" in both.err


@pytest.mark.parametrize(
    ("task", "table", "text", "words", "said"),
    [
        ("regression", "sizes.csv", "picture\na.png", "", "has no column dark: it has picture"),
        ("regression", "sizes.csv", None, "--only picture", "type --only COLUMN=VALUE"),
        ("regression", "sizes.csv", None, "--only part=val", "has no column part"),
        ("regression", "sizes.csv", None, "--only picture=none", "no row says picture=none; they"),
        ("regression", "sizes.csv", "picture,dark,bright,never\na", "", "has 1 cells for 4"),
        ("regression", "sizes.csv", "", "", "has no column picture"),
        ("regression", "sizes.csv", b"\xff", "", "cannot be read"),
        (
            "regression",
            "sizes.csv",
            "picture,dark,bright,never\na,1,old,3",
            "",
            "sizes.csv: a: bright is 'old', which is no number",
        ),
        ("multilabel", "flags.csv", "picture,dark,bright,never\na,1,2,0", "", "bright is '2'"),
        ("multilabel", "words.tsv", "picture\twords\na\tdarkk", "", "names 'darkk', which is no"),
    ],
)
def test_a_table_that_says_nothing_of_use_is_refused_in_a_sentence(
    tmp_path: Path,
    start: Callable[[str, str], Run],
    task: str,
    table: str,
    text: str | bytes | None,
    words: str,
    said: str,
) -> None:
    run, path = start(task, table), tmp_path / "images" / table
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = run("--score", *words.split(), f"images/{table}")
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (1, "", 1)
    assert said in ended.err


def test_a_table_needs_a_network_that_learnt_from_one_and_a_folder_labels(
    run: Run, start: Callable[[str, str], Run]
) -> None:
    ended = run("--score", "images/sizes.csv")
    assert ended.code == 1 and "learnt from no table" in ended.err
    ended = start("multilabel", "flags.csv")("--score", "images")
    assert ended.code == 1 and "name a .csv file" in ended.err


def test_what_says_the_labels_is_named(
    tmp_path: Path, model: None, capsys: pytest.CaptureFixture[str]
) -> None:
    table = {"image": "picture", "targets": ["label"]}
    run = runner(script(tmp_path, labels=NAMES, table=table), capsys)
    save(tmp_path / "val/dark/1.png", 10)
    save(tmp_path / "2.png", 10)
    (tmp_path / "table.csv").write_text("picture,label\n2.png,bright")
    for words, said in (
        (["val"], "100.00 % of 1 images have the label of their folder\n"),
        (["table.csv"], "0.00 % of 1 images have the label of their table\n"),
        (["val", "table.csv"], "50.00 % of 2 images have the label of their folder or table\n"),
    ):
        assert run("--score", *words).out == said


@pytest.mark.parametrize("digits", [1, 6])
def test_average_precision_is_that_of_torchmetrics(digits: int) -> None:
    from torchmetrics.functional.classification import multilabel_average_precision

    from ssr_exp.edge.export import predict_labels

    draw = np.random.default_rng(0)
    for count in (1, 7, 200):
        chances = draw.random((count, 5)).round(digits).astype(np.float32)
        truth = draw.random((count, 5)) < np.linspace(0, 1, 5)
        truth[:, 4] = True
        printed = predict_labels.score(list(zip(chances, truth, strict=True)), {})
        pair = torch.from_numpy(chances), torch.from_numpy(truth).long()
        with warnings.catch_warnings(action="ignore"):  # of a label that never holds
            expected = 100 * multilabel_average_precision(*pair, num_labels=5)
        assert printed == f"{expected:.2f} % mAP of {count} images"


class Levels(nn.Module):
    """Gives dark pixels the first class, and bright ones the second; the third has none."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        level = images.mean(1)
        return {"out": torch.stack([-level, level, torch.full_like(level, -9)], 1)}


@pytest.fixture
def run_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    order = Order(Levels().eval(), ABOUT, kind=output_kinds.KINDS[TaskKind.segmentation])
    torch_export.write(order, tmp_path / "model.pt2")
    monkeypatch.chdir(tmp_path)
    numbers = {0: 0, 7: 1, 9: 2, 255: 255}
    return runner(script(tmp_path, task="segmentation", labels=NAMES, numbers=numbers), capsys)


def halves(path: Path, low: int, high: int, size: tuple[int, int] = (12, 8)) -> Path:
    """Draw an image whose left half is of one grey, and the right half of another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0]), low, np.uint8)
    pixels[:, size[0] // 2 :] = high
    Image.fromarray(pixels).save(path)
    return path


def test_masks_are_written_in_the_size_of_the_image_and_their_shares_printed(
    run_masks: Run, tmp_path: Path
) -> None:
    halves(tmp_path / "photos/a.png", 0, 255)
    halves(tmp_path / "photos/b.png", 0, 0)
    ended = run_masks("photos")
    assert ended.out.splitlines() == [
        "photos/a.png: dark 50.0 %, bright 50.0 % (predicted/a.png)",
        "photos/b.png: dark 100.0 % (predicted/b.png)",
    ]
    with Image.open(tmp_path / "predicted/a.png") as mask:
        assert (mask.mode, mask.size) == ("P", (12, 8))
        assert mask.convert("RGB").getpixel((11, 0)) == (128, 0, 0)
        assert (np.asarray(mask) == np.repeat([0, 1], 6)).all()
    shown = json.loads(run_masks("--json", "--to", "other", "photos/a.png").out)
    assert shown == {
        "file": "photos/a.png",
        "mask": "other/a.png",
        "shares": {"dark": 0.5, "bright": 0.5},
    }


def test_a_mask_replaces_no_image_and_no_other_mask(run_masks: Run, tmp_path: Path) -> None:
    image = halves(tmp_path / "photos/a.png", 0, 255)
    before = image.read_bytes()
    other = halves(tmp_path / "photos/a.bmp", 0, 0)  # of the same name
    alone = "predict it alone, and type --to DIR"
    for words, advice in (
        (("--to", "photos", str(image)), ": type --to DIR"),
        (("photos/a.png", str(image)), alone),
        (("photos",), alone),
    ):
        ended = run_masks(*words)
        assert ended.code == 1 and "would replace" in ended.err and advice in ended.err
    assert image.read_bytes() == before
    assert run_masks("--to", "other", str(other)).out.endswith("(other/a.png)\n")


@pytest.mark.parametrize(
    ("named", "masks"),
    [
        ("one", "a/0.png a/x/0.png b/0.png"),
        ("one/", "a/0.png a/x/0.png b/0.png"),
        ("one/a", "0.png x/0.png"),
        ("one/a/ two/a/", "one/a/0.png one/a/x/0.png two/a/0.png"),
        ("one/a one/b", "a/0.png a/x/0.png b/0.png"),
        ("one/*/*.png", "a/0.png b/0.png"),
        ("one/b/0.png one/a/x", "a/x/0.png b/0.png"),
        ("two/../one/a", "0.png x/0.png"),
        ("one/a one/a/x", "0.png x/0.png"),
    ],
)
def test_masks_lie_in_each_other_as_their_images_do(
    run_masks: Run, tmp_path: Path, named: str, masks: str
) -> None:
    for image in ("one/a/0.png", "one/a/x/0.png", "one/b/0.png", "two/a/0.png"):
        halves(tmp_path / image, 0, 255)
    for words, folder in ((["--to", "new/masks"], "new/masks"), ([], "predicted")):
        ended = run_masks(*words, *named.split())
        assert (ended.code, ended.err) == (0, "")
        there = [path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.png")]
        assert sorted(there) == masks.split()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "masks", "images"], "lie among the true masks: type --to DIR"),
        (["--to", "masks/new", "images"], "lie among the true masks"),
        (["--to", "truth", "--masks", "truth", "images"], "lie among the true masks"),
        (["--to", "truth", "images"], "replace a file that is no mask of an earlier run"),
        (["--to", "linked", "images"], "lie among the true masks"),
    ],
)
def test_nothing_that_a_user_made_is_replaced(
    run_masks: Run, tmp_path: Path, words: list[str], said: str
) -> None:
    halves(tmp_path / "images/a.png", 0, 255)
    halves(tmp_path / "images/more/b.png", 0, 255)
    for folder in ("masks", "truth"):
        halves(tmp_path / folder / "a.png", 7, 0)
        halves(tmp_path / folder / "more/b.png", 7, 0)
    (tmp_path / "linked").symlink_to("masks")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    ended = run_masks(*words)
    assert (ended.code, ended.out) == (1, "") and ended.err.count(said) == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    for _ in range(2):  # what a run made the next one may replace
        assert run_masks("images").code == 0
        there = {p.relative_to("predicted").as_posix() for p in Path("predicted").rglob("*.png")}
        assert there == {"a.png", "more/b.png"}
    halves(tmp_path / "predicted/a.png", 7, 0)  # by hand
    ended = run_masks("images")
    assert ended.code == 1 and ended.err.count("no mask of an earlier run") == 1


def test_masks_are_scored_beside_their_images_or_elsewhere(run_masks: Run, tmp_path: Path) -> None:
    halves(tmp_path / "val/images/a.png", 0, 255)
    halves(tmp_path / "val/images/b.png", 0, 0)
    halves(tmp_path / "val/images/c.png", 0, 0)
    halves(tmp_path / "val/masks/a_mask.png", 0, 7)
    halves(tmp_path / "val/masks/b.png", 7, 255)
    halves(tmp_path / "val/masks/b-label.png", 0, 7)  # of an image of that name
    said = "50.00 % mIoU of 2 images\n"  # of both classes 12 pixels of 24
    ended = run_masks("--score", "val/images")
    assert (ended.out, ended.err) == (said, "1 files of which nothing is known are left out\n")
    shutil.move(tmp_path / "val/masks", tmp_path / "truth")
    assert "or --masks DIR" in run_masks("--score", "val").err
    assert run_masks("--score", "--masks", "truth", "val").out == said
    for path in (tmp_path / "truth").iterdir():
        shutil.copy(path, tmp_path / "val/images" / f"{path.stem.removesuffix('_mask')}_gt.png")
    assert run_masks("--score", "--masks", "val/images", "val/images").out == said
    halves(tmp_path / "truth/a_mask.png", 0, 3)
    ended = run_masks("--score", "--masks", "truth", "val")
    assert ended.code == 1 and "a_mask.png holds 3, which is no class" in ended.err
    halves(tmp_path / "truth/a_mask.png", 0, 7, (6, 4))
    ended = run_masks("--score", "--masks", "truth", "val")
    assert ended.code == 1 and "6 x 4 pixels, and its image has 12 x 8" in ended.err


def test_what_lies_beside_a_true_mask_is_not_taken_for_it(run_masks: Run, tmp_path: Path) -> None:
    halves(tmp_path / "val/images/a.png", 0, 255)
    halves(tmp_path / "val/masks/a_mask.tif", 0, 7)
    for name in ("a.npy", "a.pgw", "a.tfw", "a_mask.TFW"):
        (tmp_path / "val/masks" / name).write_text("0.5")
    ended = run_masks("--score", "val/images")
    assert (ended.code, ended.out, ended.err) == (0, "100.00 % mIoU of 1 images\n", "")


def test_a_true_mask_that_is_none_ends_nothing(run_masks: Run, tmp_path: Path) -> None:
    for name in "abc":
        halves(tmp_path / f"val/images/{name}.png", 0, 255)
        halves(tmp_path / f"val/masks/{name}.png", 0, 7)
    Image.new("RGB", (12, 8), (0, 128, 0)).save(tmp_path / "val/masks/a.png")
    (tmp_path / "val/masks/b.json").write_text("{}")  # LabelMe's, beside the mask
    (tmp_path / "val/masks/c.png").write_bytes(b"no image")
    ended = run_masks("--score", "val/images")
    assert (ended.code, ended.out) == (1, "100.00 % mIoU of 1 images\n")
    assert "a.png cannot be used as its mask: it holds colours (RGB)" in ended.err
    assert "c.png cannot be used as its mask: cannot identify" in ended.err


def test_true_masks_that_cannot_be_read_end_in_a_sentence(
    run_masks: Run, tmp_path: Path, locked: Path
) -> None:
    halves(tmp_path / "images/a.png", 0, 255)
    ended = run_masks("--score", "--masks", str(locked), "images")
    said = f"the masks in {locked} cannot be read (Permission denied)\n"
    assert (ended.code, ended.out, ended.err) == (1, "", said)
    ended = run_masks("--score", "--masks", "0" * 999, "images")
    assert ended.code == 1 and "or --masks DIR" in ended.err


def test_masks_that_cannot_be_written_say_what_to_type(run_masks: Run, tmp_path: Path) -> None:
    halves(tmp_path / "images/a.png", 0, 255)
    (tmp_path / "predicted").write_text("a file")
    ended = run_masks("images")
    assert (
        ended.code == 1 and ended.err.count("type --to DIR") == 1 and "run these" not in ended.err
    )


def test_where_masks_may_not_be_looked_at_the_next_image_goes_on(
    run_masks: Run, tmp_path: Path, locked: Path
) -> None:
    halves(tmp_path / "images/a.png", 0, 255)
    halves(tmp_path / "images/b.png", 0, 255)
    ended = run_masks("--to", str(locked), "images")
    assert (ended.code, ended.err.count("cannot be written (Permission denied)")) == (1, 2)


def test_masks_of_an_earlier_run_are_no_images_of_the_next(run_masks: Run, tmp_path: Path) -> None:
    halves(tmp_path / "a.png", 0, 255)
    halves(tmp_path / "b.png", 255, 0)
    first = run_masks(".")
    second = run_masks(".")
    assert first.code == second.code == 0 and first.out == second.out
    assert second.out.count("\n") == 2


@pytest.mark.parametrize("fit", preprocessing.FITS)
@pytest.mark.parametrize("size", [(40, 24), (24, 40), (6, 4), (64, 16), (3, 9)])
def test_a_mask_lies_on_its_image_again(tmp_path: Path, fit: str, size: tuple[int, int]) -> None:
    how = Preprocessing(1, (48, 64), fit=fit)
    path, (w, h) = tmp_path / "a.png", size
    place = np.arange(h * w).reshape(h, w) % 200
    Image.fromarray(place.astype(np.uint8)).save(path)
    mask = mask_files.fitted_mask(place, how, beside=250).astype(np.uint8)
    back = predict_masks.in_image(mask, path, how)
    seen = back != predict_masks.NOWHERE
    assert back.shape == (h, w) and 250 not in back
    share = min(1, 48 * w / 64 / h, 64 * h / 48 / w) if fit == "crop" else 1
    assert seen.mean() == pytest.approx(share, abs=0.5 / min(w, h) + 1e-9)
    if fit != "crop" and max(size) < 45:  # each pixel is still there
        assert (back[seen] == place[seen]).mean() > 0.9


@pytest.mark.parametrize("size", [(16, 16), (8, 8), (24, 40)])
def test_a_mask_of_a_part_of_the_centre_lies_there_again(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    how = Preprocessing(1, (8, 8), fit="crop", crop_share=0.5)
    path, (w, h) = tmp_path / "a.png", size
    Image.new("L", size).save(path)
    back = predict_masks.in_image(np.ones((8, 8), np.uint8), path, how)
    rows, columns = np.nonzero(back == 1)
    side = min(w, h) // 2
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (side, side)
    assert (rows.mean(), columns.mean()) == ((h - 1) / 2, (w - 1) / 2)
    assert (back == 1).sum() == side**2


def test_a_mask_is_cropped_as_its_image_even_where_that_has_the_size(tmp_path: Path) -> None:
    how = Preprocessing(1, (8, 8), fit="crop", crop_share=0.5)
    about = {"labels": ["a", "b"], "preprocessing": asdict(how), "numbers": {0: 0, 1: 1, 255: 255}}
    truth = np.zeros((8, 8), np.uint8)
    truth[2:6, 2:6] = 1  # what is left of it
    Image.fromarray(truth).save(path := tmp_path / "mask.png")
    counts = predict_masks.compared(np.ones((8, 8), np.uint8), (path, path), about)
    assert counts.tolist() == [[0, 0], [0, 64]]


def test_mean_iou_is_that_of_the_training(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    task = SemanticSegmentation(nn.Identity(), RecipeConf(), 4)
    how = Preprocessing(1, (6, 5))
    about = {"labels": list("abcd"), "preprocessing": asdict(how)}
    about["numbers"] = {0: 0, 1: 1, 2: 2, 3: 3, 255: 255}
    counts = []
    for _ in range(3):  # the last class is nowhere
        logits = draw.normal(size=(1, 4, 6, 5)).astype(np.float32) - [[[[0]], [[0]], [[0]], [[99]]]]
        truth = draw.choice([0, 1, 2, 255], size=(6, 5)).astype(np.uint8)
        task.validation_step((torch.from_numpy(logits), torch.from_numpy(truth)[None].long()), 0)
        (mask,) = predict_masks.predicted(logits, about)
        Image.fromarray(truth).save(path := tmp_path / "mask.png")
        counts.append(predict_masks.compared(mask, (path, path), about))
    expected = task.tally("val").values()["mIoU"]
    assert predict_masks.score(counts, about) == f"{expected:.2f} % mIoU of 3 images"
