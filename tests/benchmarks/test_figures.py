"""The pictures of README and docs can be drawn again from what is committed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import browser, figures
from ssr_exp.report import page_data
from ssr_exp.runs import store


@pytest.fixture
def chromium() -> None:
    if browser.executable() is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium: make browser")


@pytest.mark.usefixtures("chromium")
def test_all_pictures_are_drawn_and_are_those_of_the_docs(tmp_path: Path) -> None:
    drawn = figures.draw(tmp_path)
    root = figures.RESULTS.parent
    text = "".join(p.read_text() for p in [root / "README.md", *(root / "docs").rglob("*.md")])
    for picture, path in zip(figures.PICTURES, drawn, strict=True):
        with Image.open(path) as image:
            assert image.width == picture.width
            assert len(image.convert("RGB").getcolors(2**24) or []) > 50  # and is not blank
        assert f"results/figures/{path.name}" in text
        assert (figures.FIGURES / path.name).is_file()


def test_what_is_kept_of_a_demo_is_all_that_its_page_shows(tmp_path: Path) -> None:
    figures.keep(figures.DEMO, tmp_path / "kept")
    kept, whole = (page_data.collect(store.Store(p)) for p in (tmp_path / "kept", figures.DEMO))
    assert kept["studies"] == whole["studies"]
    (study,) = kept["studies"]
    assert study["predictions"] and study["answer"]
    assert {n["kind"] for n in study["networks"]} == {
        "baseline",
        "sentinel",
        "proposed",
        "finalist",
    }
