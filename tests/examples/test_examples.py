"""The examples run as they stand, copied to a folder of a user's, and end with an answer."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
PATHS = sorted(EXAMPLES.glob("*.py"))
DOWNLOADS = re.compile(r"from_pretrained\(|pretrained=True|download")

each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def code(path: Path) -> list[str]:
    """Keep the lines of a script below its first text."""
    text = path.read_text()
    first = ast.parse(text).body[0]
    assert isinstance(first, ast.Expr) and first.end_lineno is not None
    return [line for line in text.splitlines()[first.end_lineno :] if line.strip()]


@each
def test_it_is_one_short_file_that_says_what_to_type(path: Path) -> None:
    assert len(code(path)) <= 60
    said = ast.get_docstring(ast.parse(path.read_text()))
    assert said is not None and len(said.splitlines()) <= 12
    assert said.splitlines()[0].endswith(f": python {path.name}")
    assert DOWNLOADS.findall("\n".join(code(path))) == []


def test_the_overview_names_each() -> None:
    named = re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text())
    assert sorted(named) == [path.name for path in PATHS]


def test_what_the_overview_shows_names_nothing_that_it_does_not_make() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (EXAMPLES / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,E9", "-"]
        ended = subprocess.run(lint, input=block, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout


@each
def test_it_runs_and_ends_with_an_answer_whose_weights_were_kept(
    path: Path, tmp_path: Path
) -> None:
    """At one epoch each: what it finds is worth nothing, and every line of it has run."""
    shutil.copy(path, tmp_path)
    few = {"EPOCHS": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, path.name],
        cwd=tmp_path,
        env=os.environ | few,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert re.search(r"^answer: +\S+ d[\d-]+_w\w[\w-]*(, .+)?$", ended.stdout, re.MULTILINE)
    (folder,) = re.findall(r"^best: +(\S+)$", ended.stdout, re.MULTILINE)
    assert (tmp_path / folder / "network.json").exists()
    assert "no parameter of" not in ended.stderr
    if path.stem == "own_loop":  # others set their logging up
        assert re.search(r"^ *1/\d+ d", ended.stderr, re.MULTILINE), ended.stderr


def test_a_job_that_its_time_limit_ends_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.syspath_prepend(EXAMPLES)
    slurm_array = importlib.import_module("slurm_array")

    def made(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return slurm_array.make_network()

    def replace_once(*paths: str) -> None:
        os.rename(*paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm_array, "EPOCHS", 2)
    whole, cut = (SimpleNamespace(network=made(0), seed=3, folder=tmp_path / name) for name in "ab")
    for candidate in (whole, cut):
        candidate.folder.mkdir()
    score = slurm_array.train(whole)
    with monkeypatch.context() as limit, pytest.raises(KeyboardInterrupt):
        limit.setattr(slurm_array.os, "replace", replace_once)
        slurm_array.train(cut)
    cut.network = made(1)  # another process makes it anew
    assert slurm_array.train(cut) == score
    pairs = zip(whole.network.parameters(), cut.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
