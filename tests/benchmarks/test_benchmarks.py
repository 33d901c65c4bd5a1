from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from benchmarks import counting, latency, measure, start
from benchmarks.__main__ import PARTS
from benchmarks.measure import Figure
from ssr_exp.rescaling import lattice
from ssr_exp.rescaling.plan import Plan

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def resnet56() -> tuple[nn.Module, Plan]:
    return counting.resnet56()


def smoke(out: Path, *parts: str) -> dict[str, Any]:
    """Run parts at their smallest, and read what they saved."""
    run("benchmarks", *parts, "--smoke", "--threads", "1", "--out", str(out))
    saved: dict[str, Any] = json.loads(out.read_text())
    assert {figure["part"] for figure in saved["figures"]} == set(parts)
    assert all(figure["value"] >= 0 for figure in saved["figures"])
    return saved


def run(*words: str) -> None:
    command = [sys.executable, "-m", *words]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=550)


def test_contestants_take_turns_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []

    def contestant(name: str) -> measure.Contestant:
        def once() -> float:
            calls.append(name)
            return float(len(calls))

        return once

    seconds = measure.interleaved({n: contestant(n) for n in "ab"}, rounds=2, warm_up=1)
    assert calls == list("ababab")
    assert seconds == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_a_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    found = measure.ratio("part", "name", [4.0, 2.0, 90.0], [1.0, 2.0, 3.0], at_least=2)
    assert (found.value, found.spread, found.met) == (2.0, (1.0, 30.0), True)


def test_a_rate_is_of_the_median() -> None:
    found = measure.rate("part", "name", [1.0, 2.0, 8.0], 16, at_least=9)
    assert (found.value, found.spread, found.met) == (8.0, (2.0, 16.0), False)


def test_a_requirement_is_kept_at_its_bound() -> None:
    assert Figure("part", "name", 2.0, at_most=2.0).met
    assert Figure("part", "name", 2.0).met is None


def test_what_is_saved_holds_conditions_and_verdicts(tmp_path: Path) -> None:
    measure.save(tmp_path / "new" / "it.json", [Figure("p", "n", 1.0, at_least=2)], {"device": "d"})
    saved = json.loads((tmp_path / "new" / "it.json").read_text())
    assert saved["device"] == "d"
    assert saved["figures"][0]["met"] is False


def test_rounding_many_modifiers_agrees_with_the_plan(resnet56: tuple[nn.Module, Plan]) -> None:
    _, plan = resnet56
    depth, width = counting.fractions(plan, 200, np.random.default_rng(0))
    assert counting.agrees(plan, depth, width)


def test_the_formula_agrees_with_running_a_network(resnet56: tuple[nn.Module, Plan]) -> None:
    network, plan = resnet56
    sample = iter(lattice.from_plan(plan).sample(1, seed=0))
    assert counting.one_by_one(network, plan, sample, 1, "meta") > 0  # it raises if they differ


def test_imports_of_a_process_are_seen() -> None:
    assert {"json", "decimal"} <= start.imported("-c", "import json, decimal")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("parts", np.array_split([p for p in PARTS if p != "latency"], 3))
def test_all_parts_run_at_their_smallest(parts: list[str], tmp_path: Path) -> None:
    saved = smoke(tmp_path / "out.json", *parts)
    assert {"device", "versions", "commit", "load"} <= set(saved)


def test_each_claim_about_latency_finds_its_ratios_in_each_runtime(tmp_path: Path) -> None:
    saved = smoke(tmp_path / "out.json", "latency")
    names = [figure["name"] for figure in saved["figures"]]
    size = latency.SMOKE
    assert len(set(names)) == len(names)
    rows = len(size.networks) * len(size.batches) * len(size.runtimes or ())
    for claim in latency.CLAIMS:
        assert sum(name.endswith(claim.ratios) for name in names) == rows * len(claim.ratios)
    assert sum("time per MAC" in name for name in names) == rows


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", ["throughput", "resnet20"])
def test_the_gpu_script_runs_at_its_smallest(part: str, tmp_path: Path) -> None:
    images, out = _images(tmp_path / "cifar"), tmp_path / "out"
    words = ["--cifar", str(images), "--runs", str(tmp_path / "runs"), "--out", str(out)]
    run("benchmarks.gpu", "--smoke", "--part", part, *words)
    saved = json.loads((out / f"{part}.json").read_text())
    if part == "throughput":
        assert [row.get("error") for row in saved["trials"]] == [None, None]
    else:
        assert (saved["status"], saved["epochs"]) == ("finished", 1)


def _images(folder: Path) -> Path:
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 2)):
        for name in "abcdefghij":
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.jpg")
    return folder
