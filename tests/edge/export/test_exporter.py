"""What cannot be exported is refused before anything is loaded, and nothing else is replaced."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssr_exp.config import ExportConfig
from ssr_exp.edge.export import exporter, predict_arrays, verified_files
from ssr_exp.edge.export.exported import REPORT
from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.export.verification import DrawnSamples, Samples
from ssr_exp.edge.selection import Selection
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import input_examples, inputs
from ssr_exp.runs.score import ACCURACY, Score
from tests.conftest import MakeRecord
from tests.rescaling.test_inputs import CASES
from tests.support.descriptions import description


@pytest.mark.parametrize(
    ("format_", "said"),
    [
        (["tflite"], "format=tflite is none; it can be onnx, executorch, torch_export"),
        ([], "format is empty"),
        ({"onnx": 1}, "names no formats"),
        (["torch_export"], "int8=true takes a format that can be quantised"),
    ],
)
def test_a_bad_request_is_refused_in_a_sentence(format_: object, said: str) -> None:
    with pytest.raises(SsrError, match=said):
        exporter.check(ExportConfig(format=format_, int8=True))


@pytest.mark.parametrize("drop", [-1, "2 %%", "many", "nan", {"val": 2}])
def test_a_drop_that_is_none_is_refused_before_anything_is_loaded(drop: object) -> None:
    with pytest.raises(SsrError, match=r"int8_drop=.* is not a drop: type a number"):
        exporter.check(ExportConfig(int8_drop=drop))


@pytest.mark.parametrize(
    ("drop", "percent", "error"),
    [(None, 2.0, 0.1), (3, 3.0, 3.0), ("0.5", 0.5, 0.5), ("10%", 9.0, 0.5)],
)
def test_a_drop_is_in_the_scores_unit_or_a_share(
    drop: object, percent: float, error: float
) -> None:
    request, rmse = ExportConfig(int8_drop=drop), Score(key="val/rmse", unit="cm", bounds=(0, None))
    assert verified_files.most_drop(request, ACCURACY, 90.0) == pytest.approx(percent)
    assert verified_files.most_drop(request, rmse, 5.0) == pytest.approx(error)


def test_of_a_network_of_which_only_inputs_are_known_outputs_are_compared(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"other": x.mean(1), "out": self.conv(x)}

    record, network = make_record(), Several().eval()
    study = {"task": {"name": "module"}}
    chosen = Selection(network, description(), record, study, tmp_path, "any", {})
    request = ExportConfig(format=["onnx"], repeats=1)
    parts = [Samples("val", torch.randn(5, 1, 8, 8))]
    exported = exporter.write(chosen, parts, request, tmp_path / "to", how=None)
    (file,) = exported.files
    assert (file.agreement.agreement, file.agreement.scores) == (None, {})
    assert file.agreement.difference < 1e-5
    names = {path.name for path in (tmp_path / "to").iterdir()}
    assert "model.onnx" in names and "predict.py" not in names
    card = (tmp_path / "to/README.md").read_text()
    assert "as the network's own training had it" in card and "predict.py" not in card
    assert "Outputs: compared on 5 val images" in card and "int8" not in card
    for change in ({"int8": True}, {"uint8_input": True}):
        with pytest.raises(SsrError, match="leave it out"):
            exporter.write(chosen, parts, replace(request, **change), tmp_path / "other", how=None)
    drawn = [DrawnSamples(FlatNetwork(network, inputs.of_shape((1, 8, 8), network)))]
    exporter.write(chosen, drawn, request, tmp_path / "to", how=None)
    card = (tmp_path / "to/README.md").read_text()
    assert "Outputs: compared on 16 drawn inputs" in card
    assert "python predict.py inputs.npz" in card and (tmp_path / "to/predict.py").exists()


@pytest.mark.parametrize("name", ["1-D", "3-D", "two", "dictionary"])
def test_a_network_of_any_signature_is_exported_with_a_script_for_its_arrays(
    name: str, tmp_path: Path, make_record: MakeRecord
) -> None:
    make, example = CASES[name]
    network = make().eval()
    signature = input_examples.read(network, example)
    none = {"classes": (), "mean": (), "std": ()}
    about = description(input_shape=signature.shape, inputs=signature, **none)
    study = {"task": {"name": "module"}}
    chosen = Selection(network, about, make_record(), study, tmp_path, "any", {})
    request, flat = ExportConfig(format=["onnx"], repeats=1), FlatNetwork(network, signature)
    exported = exporter.write(chosen, [DrawnSamples(flat)], request, tmp_path / "to", how=None)
    (file,) = exported.files
    assert file.agreement.difference < 1e-5 and not exported.failed
    card = (tmp_path / "to/README.md").read_text()
    assert "python predict.py inputs.npz" in card and "16 drawn inputs" in card
    assert all(f"- `{each.name}`: {each.text()}" in card for each in signature.tensors)
    drawn = flat.draw(3)
    arrays = {name: x.numpy() for name, x in zip(signature.names, drawn, strict=True)}
    np.savez(tmp_path / "inputs.npz", **arrays)
    ran = script(tmp_path, "inputs.npz", "--to", "outputs.npz")
    assert (ran.returncode, ran.stderr) == (0, "")
    with np.load(tmp_path / "outputs.npz") as found, torch.inference_mode():
        for each, expected in zip(flat.names, flat(*drawn), strict=True):
            torch.testing.assert_close(torch.from_numpy(found[each]), expected, atol=1e-4, rtol=0)
    first = signature.names[0]
    np.savez(tmp_path / "bad.npz", **(arrays | {first: arrays[first][..., :-1]}))
    np.savez(tmp_path / "less.npz", other=arrays[first])
    for path, said in (("bad", "it must be batch x"), ("less", "no array"), ("none", "be read")):
        ran = script(tmp_path, f"{path}.npz")
        assert ran.returncode == 1 and said in ran.stderr and ran.stderr.count("\n") == 1


def test_arrays_of_more_rows_than_a_file_takes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"inputs": {"image": {"shape": [2], "dtype": "float32", "batch_dim": 0}}}
    about |= {"outputs": ["output"], "files": {"model.pte": 8, "model.onnx": 8}}
    monkeypatch.setattr(predict_arrays, "ABOUT", about)
    loaders = dict.fromkeys((".pte", ".onnx"), lambda *_: lambda arrays: arrays)
    monkeypatch.setattr(predict_arrays, "LOADERS", loaders)
    rows = {"image": np.zeros((9, 2), np.float32)}
    assert predict_arrays.run(tmp_path / "model.onnx", rows)["output"].shape == (9, 2)
    with pytest.raises(ValueError, match=r"^model\.pte takes 1 to 8 at once, and these are 9$"):
        predict_arrays.run(tmp_path / "model.pte", rows)


def script(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "to/predict.py", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_folder_that_is_no_export_is_not_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "models" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    for to in (mine.parent, tmp_path, mine):
        with pytest.raises(SsrError, match="is there already and is no export"):
            exporter.check_folder(to)
    (tmp_path / "empty").mkdir()
    for to in (tmp_path / "empty", tmp_path / "new"):
        exporter.check_folder(to)
    (mine.parent / REPORT).touch()
    exporter.check_folder(mine.parent)


def test_where_a_volume_is_mounted_nothing_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda self: self == tmp_path)
    with pytest.raises(SsrError, match=rf"a volume is mounted.*: type to={tmp_path}/export\.$"):
        exporter.check_folder(tmp_path)
    exporter.check_folder(tmp_path / "export")
