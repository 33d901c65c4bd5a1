"""A folder of images that is not there is told in a moment, with the one that was meant."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ssr_exp.app.command_line import commands
from ssr_exp.errors import SsrError
from tests.conftest import ROOT


def refusal(*words: str) -> str:
    with pytest.raises(SsrError) as refused:
        commands.arguments([*words], "search")
    return str(refused.value)


@pytest.mark.parametrize("dataset", ["image_folder", "masks", "csv"])
@pytest.mark.parametrize("name", ["photos", "my photos", "2024"])
def test_the_folder_beside_it_is_offered_as_it_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / "photoz").write_text("no folder")
    typed = f"dataset.root='{name[:-1]}'" if name == "my photos" else f"dataset.root=./{name[:-1]}"
    said = refusal(f"dataset={dataset}", typed)
    assert f"the nearest beside it is {name}: type " in said
    word = shlex.split(said.rpartition("type ")[2].rstrip("."))
    assert commands.arguments([f"dataset={dataset}", *word], "search")


def test_what_may_be_right_is_left_to_those_who_read_it(tmp_path: Path) -> None:
    away = f"dataset.root={tmp_path}/away"
    assert "type dataset.root=DIR" in refusal("dataset=image_folder", away)
    commands.arguments(["dataset=cifar10", away], "train")  # is downloaded there
    commands.arguments(["dataset=image_folder", away, "--cfg", "job"], "train")  # reads nothing
    commands.arguments(["dataset=image_folder", f"dataset.root={tmp_path}"], "train")


def test_it_is_told_before_torch_is_imported() -> None:
    code = (
        "import sys\nfrom ssr_exp.__main__ import main\n"
        "sys.argv = ['ssr', 'search', 'dataset=image_folder', 'dataset.root=tets']\n"
        "try: main()\nexcept SystemExit as told: print(told)\nassert 'torch' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("dataset.root=tets: there is no folder tets, the nearest ")
    assert ended.stdout.endswith("type dataset.root=tests.\n")


@pytest.mark.parametrize("word", ["'${paths.data}/pets'", "'${oc.env:HOME}'"])
def test_a_folder_that_is_composed_later_is_not_looked_for_now(word: str) -> None:
    assert commands.arguments(["dataset=image_folder", f"dataset.root={word}"], "search")
