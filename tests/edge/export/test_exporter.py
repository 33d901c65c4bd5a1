"""What cannot be exported is refused before anything is loaded, and nothing else is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssr_exp.config import ExportConfig
from ssr_exp.edge.export import exporter
from ssr_exp.errors import SsrError


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
    (mine.parent / exporter.REPORT).touch()
    exporter.check_folder(mine.parent)
