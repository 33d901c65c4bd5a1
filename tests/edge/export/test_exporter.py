"""What cannot be exported is refused before anything is loaded, and nothing else is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssr_exp.edge.export import exporter
from ssr_exp.edge.export.exported import Request
from ssr_exp.errors import SsrError

BAD: dict[str, tuple[dict[str, object], str]] = {
    "format": ({"formats": ("tflite",)}, "format=tflite is none; it can be onnx, executorch"),
    "no format": ({"formats": ()}, "format is empty"),
    "int8": ({"int8": True}, "takes a format that can be quantised"),
    "max_batch": ({"max_batch": 0}, "max_batch is 0; it must be 1 or more"),
    "tolerance": ({"tolerance": -1.0}, "tolerance is -1.0; it must be 0 or more"),
    "int8_drop": ({"int8_drop": float("nan")}, "int8_drop is nan"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_request_is_refused_in_a_sentence(kind: str) -> None:
    fields, said = BAD[kind]
    with pytest.raises(SsrError, match=said):
        exporter.check(Request(**({"formats": ("torch_export",)} | fields)))  # type: ignore[arg-type]


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
