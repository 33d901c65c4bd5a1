"""Whole commands with a width for each channel group: a search, its page, an export."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ssr_exp.rescaling import saved
from ssr_exp.runs.store import Store
from tests.conftest import Command
from tests.datasets.test_masks import write

pytestmark = [pytest.mark.usefixtures("repeatable"), pytest.mark.slow]

SEARCH = "rounds=1 batch=2 objective=smallest objective.max_drop=90 finalists.seeds=1".split()
FIRST = ["modifiers=sentinel_joint", "modifiers.together=1", "trainer.max_epochs=2"]


def assert_searched_and_exported(command: Command, runs: Path, *words: str, code: str) -> None:
    ended = command(*words, "segment=channels", *FIRST, *SEARCH, script="search.py")
    assert ended.code == 0, ended.text
    assert ended.lines("answer: ")
    store = Store(str(runs))
    study = max(store.records_by_study().items(), key=lambda pair: len(pair[1]))[0]
    records = store.records(study)
    networks = {record.network for record in records}
    assert len(networks) == len({(r.blocks, r.widths) for r in records})
    assert all(re.fullmatch(code, network) for network in networks)
    best = store.study_folder(study) / "best"
    about = saved.read(best)
    assert sum(p.numel() for p in saved.load(best).parameters()) < records[0].baseline_params
    assert about.segment.kind == "channels"
    text = (runs / "report.html").read_text()
    page = json.loads(re.findall(r'id="data">(.*?)</script>', text)[0])
    shown = next(one for one in page["studies"] if one["name"] == study)
    assert [s["name"] for s in shown["segments"]] == [s.name for s in about.segments]
    exported = command("run=best", f"study={study}", "repeats=1", "format=onnx", script="export.py")
    assert exported.code == 0 and "model.onnx" in exported.out, exported.text


def test_a_unet_is_searched_by_its_channels_and_exported(command: Command, tmp_path: Path) -> None:
    root = write(tmp_path / "set", count=40)
    words = ["task=segmentation", "model=unet", "model.arguments={width:8,levels:2,blocks:1}"]
    words += ["dataset=masks", f"dataset.root={root}", "dataset.targets=[ground,cat,dog]"]
    words += ["dataset.crop_padding=1", "recipe.batch_size=8"]
    assert_searched_and_exported(command, tmp_path / "runs", *words, code=r"w\d+(-\d+){2}")


@pytest.mark.more
def test_stages_lose_blocks_too(command: Command, tmp_path: Path) -> None:
    code = r"d\d-\d-\d_w\d+(-\d+){8}"
    words = ["model=resnet14", "segment.depth=true", "segment.width_steps=4"]
    assert_searched_and_exported(command, tmp_path / "runs", *words, code=code)
