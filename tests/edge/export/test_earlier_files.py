"""Files of an earlier export of the same network stay, verified again; of others none does."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssr_exp.config import ExportConfig
from ssr_exp.edge.export import exporter
from ssr_exp.edge.export.exported import REPORT
from ssr_exp.edge.export.formats import executorch
from ssr_exp.edge.export.verification import Samples
from ssr_exp.edge.selection import Selection
from tests.conftest import MakeRecord
from tests.support.descriptions import description

Export = Callable[..., set[str]]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    return nn.Sequential(*layers).eval()


@pytest.fixture
def export_(tmp_path: Path, make_record: MakeRecord, network: nn.Module) -> Export:
    """Export the network; returns the files of the folder that are networks.

    Files score `loses` points less than PyTorch.
    """
    images, to = torch.randn(5, 1, 8, 8), tmp_path / "to"

    def write(*formats: str, loses: float = 0.0, **asked: Any) -> set[str]:
        def measure(model: Any, outputs: Any) -> float:
            return 50.0 - (0.0 if model is network else loses) + 0 * len(list(outputs))

        study = {"task": {"name": "module"}}
        chosen = Selection(network, description(), make_record(), study, tmp_path, "any", {})
        request = ExportConfig(format=list(formats), repeats=1, **asked)
        exported = exporter.write(chosen, [Samples("val", images, measure)], request, to, how=None)
        found = to.glob("model.*")
        names = {path.name for path in found if path.suffix in (".onnx", ".pt2", ".pte")}
        assert names == {one.file for one in exported.files}
        rows = json.loads((to / REPORT).read_text())["files"]
        card = (to / "README.md").read_text()
        assert names == {row["file"] for row in rows} and all(f"| {n} |" in card for n in names)
        return names

    return write


@pytest.mark.slow
def test_an_int8_file_stays_when_its_float_file_is_written_again(
    export_: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = {"model.onnx", "model.int8.onnx"}
    assert export_("onnx", int8=True) == both
    before = (tmp_path / "to/model.int8.onnx").read_bytes()
    for formats in (["onnx"], ["torch_export"]):
        assert both <= export_(*formats)
        assert (tmp_path / "to/model.int8.onnx").read_bytes() == before
    assert "int8 files are calibrated on val" in (tmp_path / "to/README.md").read_text()
    assert "not kept" not in caplog.text


def test_what_a_user_has_put_beside_an_export_stays(export_: Export, tmp_path: Path) -> None:
    export_("torch_export")
    to = tmp_path / "to"
    for name in ("predicted/0.png", ".git/HEAD", "labels.txt", "model_q.tflite"):
        (to / name).parent.mkdir(exist_ok=True)
        (to / name).write_text(name)
    (to / "link").symlink_to("nowhere")
    card = (to / "README.md").read_text()
    (to / "README.md").write_text("mine")
    export_("torch_export")
    for name in ("predicted/0.png", ".git/HEAD", "labels.txt", "model_q.tflite"):
        assert (to / name).read_text() == name
    assert (to / "link").is_symlink()
    assert (to / "README.md").read_text().splitlines()[0] == card.splitlines()[0]


def test_of_other_weights_nothing_stays_and_it_is_said_what_to_type(
    export_: Export, network: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    export_("onnx", int8=True)
    with torch.no_grad():
        network[0].bias += 0.01  # type: ignore[index]
    assert export_("onnx") == {"model.onnx"}
    assert (
        "model.int8.onnx, which was there, is not kept (it is of other weights): to have it, too, "
        "type format=onnx int8=true"
    ) in caplog.text


def test_a_file_that_no_longer_does_what_it_did_is_not_kept(
    export_: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export_("onnx", int8=True)
    to = tmp_path / "to"
    (to / "model.int8.onnx").write_bytes(b"damaged")
    (to / "model.old.onnx").touch()
    assert export_("torch_export") == {"model.pt2", "model.onnx"}
    assert "model.int8.onnx, which was there, is not kept (" in caplog.text
    assert "model.old.onnx, which was there, is not kept: export.json does not" in caplog.text


def test_what_others_made_of_the_files_stays_and_is_named(
    export_: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export_("onnx")
    to = tmp_path / "to"
    (to / "model.engine").write_text("made by a converter")
    (to / "predict.py").write_text("print('my own')")
    export_("onnx")
    assert (to / "model.engine").read_text() == "made by a converter"
    assert (to / "predict.py").read_text() == "print('my own')"
    for name in ("model.engine", "predict.py"):
        assert f"{name} stays; no export wrote it: it may be of other weights" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(("made_for", "then", "run"), [(1, 4, {1}), (16, 2, {2, 1})])
def test_a_file_is_verified_again_with_as_many_inputs_as_it_was_made_for(
    export_: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_for: int,
    then: int,
    run: set[int],
) -> None:
    export_("executorch", max_batch=made_for)
    asked: list[int] = []
    load = executorch.load

    def noted(path: Path, **how: Any) -> Any:
        model = load(path, **how)
        return lambda images: asked.append(len(images)) or model(images)

    monkeypatch.setattr(executorch, "load", noted)
    for _ in range(2):
        assert export_("torch_export", max_batch=then) == {"model.pt2", "model.pte"}
    assert {*asked} == run
    rows = json.loads((tmp_path / "to/export.json").read_text())["files"]
    said = {row["file"]: row["max_batch"] for row in rows}
    assert said == {"model.pt2": then, "model.pte": made_for}


def test_an_int8_file_that_loses_more_than_is_typed_now_is_not_kept(
    export_: Export, caplog: pytest.LogCaptureFixture
) -> None:
    both = {"model.onnx", "model.int8.onnx"}
    assert export_("onnx", int8=True, loses=3.0, int8_drop=4) == both
    assert export_("onnx", loses=3.0) == both  # nothing else is typed
    assert export_("onnx", loses=3.0, int8_drop=3.5) == both
    assert export_("onnx", loses=3.0, int8_drop=1) == {"model.onnx"}
    assert (
        "model.int8.onnx, which was there, is not kept (it loses 3.00 points of val acc, and "
        "int8_drop allows 1 point): to have it, too, type format=onnx int8=true and a larger "
        "int8_drop"
    ) in caplog.text


def test_what_is_asked_for_again_and_fails_is_not_left_behind(
    export_: Export, caplog: pytest.LogCaptureFixture
) -> None:
    both = {"model.onnx", "model.int8.onnx"}
    assert export_("onnx", int8=True, loses=3.0, int8_drop=4) == both
    assert export_("onnx", int8=True, loses=3.0) == {"model.onnx"}
    said = "%s, which was there, is not kept: this export was to replace it, and did not"
    assert said % "model.int8.onnx" in caplog.text
    assert export_("torch_export", trust=True) == {"model.onnx", "model.pt2"}
    # what torch.export writes differs by nothing, and ONNX Runtime's outputs by a little
    assert export_("onnx", "torch_export", tolerance=1e-12) == {"model.pt2"}
    assert said % "model.onnx" in caplog.text


def test_a_file_that_may_run_code_stays_only_where_it_is_trusted(
    export_: Export, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    both = {"model.pt2", "model.onnx"}
    assert export_("torch_export") == {"model.pt2"}
    assert export_("onnx", trust=True) == both
    assert export_("onnx") == {"model.onnx"}
    assert "it may run code when it is loaded: type trust=true" in caplog.text
    assert "to have it, too, type format=onnx,torch_export" in caplog.text


def test_a_report_that_calls_a_pickle_another_format_is_not_believed(
    export_: Export, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export_("torch_export")
    report = tmp_path / "to" / REPORT
    report.write_text(report.read_text().replace('"torch_export"', '"onnx"'))
    assert export_("onnx") == {"model.onnx"}
    assert "model.pt2, which was there, is not kept (it is no file of onnx)" in caplog.text
