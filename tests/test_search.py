"""The command line of a search: what is typed, what is trained, what is said."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.usefixtures("repeatable", "no_compiler")

ROOT = Path(__file__).parents[1]
Command = Callable[..., Any]  # conftest's
Instant = Any
Started = Callable[..., "subprocess.Popen[str]"]
Search = Callable[..., Any]
FIRST = 8  # ResNet-8 has three segments of one block: the baseline, and seven sentinels in width


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep BoTorch from compiling its optional kernel, which takes half a minute."""
    from botorch.acquisition.multi_objective import logei

    monkeypatch.setattr(logei, "_load_attempted", True, raising=False)


@pytest.fixture
def search(command: Command) -> Search:
    """Run `search.py` with a small command line."""
    return lambda *words: command(*words, script="search.py")


def records(tmp_path: Path) -> dict[Path, int]:
    """Find the runs, and when they were written."""
    found = (tmp_path / "runs").glob("*/*/seed*/record.json")
    return {path: path.stat().st_mtime_ns for path in found}


def table(text: str, title: str) -> list[str]:
    """Keep the networks of the table of a title."""
    part = text.partition(title)[2].partition("└")[0]
    return re.findall(r"^│ (\S+)", part, flags=re.MULTILINE)


@pytest.mark.slow
def test_a_search_trains_its_rounds_hands_over_and_repeats_nothing(
    search: Search, tmp_path: Path
) -> None:
    words = ("rounds=2", "batch=2", "finalists.seeds=2", "finalists.arms=[uniform_width]")
    words += ("objective=smallest", "objective.max_drop=5")
    first = search(*words)
    assert (first.code, first.err) == (0, "")
    *_, best, page = first.out.strip().splitlines()
    (answer,) = first.lines("answer: ")
    assert page == f"page: {tmp_path / 'runs' / 'report.html'}"
    match = re.match(
        r"answer: resnet8 (\S+), (\S+)% of the baseline's parameters \(.*\), .* of its MACs, "
        r"accuracy drop (\S+) points on test",
        answer,
    )
    assert match
    folder = Path(best.removeprefix("best: ").partition("  (")[0])
    assert {path.name for path in folder.iterdir()} == {
        "record.json",
        "study.json",
        "weights.pt",
        "network.json",
        "metrics.json",
        "load.py",
    }
    record = json.loads((folder / "record.json").read_text())
    assert record["network"] == match[1]
    assert record["test_acc"] is not None and record["val_acc"] is None
    share = 100 * record["params"] / record["baseline_params"]
    assert f"{share:.1f}" == match[2]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"{metrics['drop']:.2f}" == match[3]
    warned = first.lines("warning: that is more than the 5 points")
    assert bool(warned) == (metrics["drop"] > 5)
    from ssr_exp.rescaling import saved

    assert saved.load(folder)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    before = records(tmp_path)
    searched = [p for p in before if json.loads(p.read_text())["val_acc"] is not None]
    assert len(searched) == FIRST + 4
    assert {json.loads(p.read_text())["origin"] for p in before if p not in searched} == {
        "finalist"
    }
    again = search(*words)
    assert again.code == 0
    assert records(tmp_path) == before
    assert again.lines("answer: ") == [answer]
    assert again.out.strip().splitlines()[-2:] == [best, page]


def test_the_rounds_print_check_batch_and_front(
    search: Search, instant: Instant, tmp_path: Path
) -> None:
    ended = search("rounds=1", "batch=3", "finalists.seeds=0")
    assert ended.lines("surrogate:", "8 runs of 8 networks")
    assert ended.lines("warning: the surrogate is flat")
    assert len(table(ended.out, "round 1 of 1")) == 3
    assert ended.lines("the search ends: the round is done")
    assert ended.lines("smallest within 1 points")
    assert len(set(instant.done)) == FIRST + 3
    origins = [json.loads(path.read_text())["origin"] for path in records(tmp_path)]
    assert sorted(origins) == ["round1"] * 3 + ["sentinel_all"] * FIRST
    assert len(list((tmp_path / "runs").glob("*/search/*/predictions.json"))) == 1


def test_rounds_0_shows_the_next_batch_and_train_py_trains_it(
    search: Search, command: Command, instant: Instant, tmp_path: Path
) -> None:
    command("modifiers=sentinel_all")
    instant.done.clear()
    shown = search("rounds=0", "batch=3", "acquisition=random", "objective.max_drop=0.5")
    assert shown.code == 0
    assert instant.done == []
    warnings = shown.lines("warning: ")
    assert any("is flat" in line for line in warnings)
    assert any("less than two of the" in line for line in warnings)
    assert len(warnings) == len(set(warnings))
    proposed = table(shown.out, "next batch (not trained)")
    assert len(proposed) == 3
    *_, line, page = shown.out.strip().splitlines()
    assert page == f"page: {tmp_path / 'runs' / 'report.html'}"
    printed = shlex.split(line)
    assert printed[:2] == ["python", "train.py"] and printed[-1] == "modifiers=proposed"
    assert not any(word.startswith(("rounds", "batch", "acquisition")) for word in printed)
    ended = command(*printed[2:])
    assert ended.code == 0
    assert sorted(line.split()[1] for line in instant.done) == sorted(proposed)
    again = search("rounds=0", "batch=3", "acquisition=random")
    assert not set(table(again.out, "next batch (not trained)")) & set(proposed)


def test_a_searchs_folder_does_not_depend_on_why_its_networks_are_trained(
    tmp_path: Path,
) -> None:
    from ssr_exp.config import SearchConfig
    from ssr_exp.runs.store import Store
    from ssr_exp.search import rounds

    named = SearchConfig(origin="round3")
    plain, own = (rounds.notebook(Store(tmp_path), "s", c).folder for c in (SearchConfig(), named))
    assert own == plain


@pytest.mark.slow
def test_without_finalists_the_searchs_own_training_is_handed_over(
    search: Search, tmp_path: Path
) -> None:
    ended = search("rounds=1", "batch=1", "finalists.seeds=0")
    assert ended.code == 0
    assert "points on val" in ended.out.strip().splitlines()[-3]
    (found,) = (tmp_path / "runs").glob("*/best/record.json")
    assert json.loads(found.read_text())["val_acc"] is not None


def test_runs_of_a_sweep_count(search: Search, command: Command, instant: Instant) -> None:
    command("modifiers=sentinel_all,uniform_width")
    instant.done.clear()
    search("rounds=1", "batch=2", "finalists.seeds=0")
    assert len(instant.done) == 2


def test_a_table_stands_in_for_trainings(search: Search, instant: Instant, tmp_path: Path) -> None:
    rows = [
        f"d1-1-1_w{a}-{b}-{c},{60 + a + b / 4 + c / 8}"
        for a in (4, 16)
        for b in (8, 32)
        for c in (16, 64)
    ]
    path = tmp_path / "elsewhere.csv"
    path.write_text("\n".join(["network,val_acc", *rows]) + "\n")
    ended = search("rounds=0", "runs=table", f"runs.file={path}")
    assert ended.code == 0, ended.text
    assert ended.lines("8 runs of 8 networks")
    assert instant.done == []


BAD = {
    "rounds=0": "the study has 0 networks with a finished run",
    "rounds=-1": "rounds is -1; it must be 0 or more",
    "batch=0": "batch is 0",
    "cap.params=10": "no network keeps to cap.params=10: the smallest of the lattice has",
    "cap.params=lots": "cap.params=lots is not a limit",
    "seed=0,1": "a search takes one value of each key",
    "runs=table": "runs=table needs runs.file=PATH",
    "runs=table runs.file=nowhere.csv": "nowhere.csv",
    "finalists.seeds=-1": "finalists.seeds is -1; it must be 0 or more",
    "budget.runs=3": "budget.runs=3 does not cover the 8 first networks",
    "segment.frozen=[stage1,stage2,stage3]": "the baseline alone",
    "surrogate.outcome=val_loss objective=smallest": "are points of accuracy",
    "rounds=1 modifiers=baseline": "to begin with, and these are 1:",
    "dataset.train_on_val=true trainer.test=true": "leaves a search no val",
    "latency=records cap.latency_ms=5": "0 records have a latency",
    "latency=file cap.latency_ms=5": "type latency.file=FILE",
    "latency=file latency.file=nowhere.json cap.latency_ms=5": "there is no nowhere.json",
    "latency.runtime=tflite cap.latency_ms=5": "there is no runtime tflite: type one of eager",
    "latency=cuda_graphs cap.latency_ms=5": "PyTorch sees no GPU here",
    "latency.networks=3 latency=eager cap.latency_ms=5": "takes 8 networks or more, not 3",
    "latency.repeats=0 latency=eager cap.latency_ms=5": "repeats is 0",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_ends_in_a_sentence(search: Search, instant: Instant, words: str) -> None:
    ended = search(*words.split())
    assert ended.code == 1
    assert BAD[words] in ended.err
    assert "Traceback" not in ended.text
    assert len(ended.err.strip().splitlines()) == 1
    assert instant.done == []


@pytest.mark.parametrize("word", ["acquisition=best", "objective.kind=fast", "cap.parms=3"])
def test_a_typo_is_rejected(search: Search, instant: Instant, word: str) -> None:
    ended = search(word)
    assert ended.code == 1
    assert word.partition("=")[2] in ended.text or word.partition("=")[0] in ended.text
    assert instant.done == []


def test_wandb_without_a_key_is_told(
    search: Search, instant: Instant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    ended = search("runs=wandb", "runs.timeout_s=2", "runs.project=nothing")
    assert ended.code == 1
    assert re.search("WANDB_API_KEY|wandb login", ended.err)
    assert instant.done == []


def test_another_studys_records_are_told_with_what_differs(
    search: Search, command: Command, instant: Instant
) -> None:
    command("modifiers=sentinel_all")
    ended = search("rounds=0", "recipe.lr=0.05")
    assert ended.code == 1
    assert "recipe.lr is 0.1 there and 0.05 here" in ended.err


def test_a_data_set_without_test_images_is_told_before_anything_is_trained(
    search: Search, instant: Instant, tmp_path: Path
) -> None:
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        for part in ("train", "val"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for n in range(4):
                pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{n}.png")
    ended = search("dataset=image_folder", f"dataset.root={tmp_path}/images")
    assert ended.code == 1
    assert "no test images to test finalists with" in ended.err
    assert instant.done == []


def test_help_is_instant_because_it_imports_nothing_heavy() -> None:
    code = (
        "import runpy, sys; sys.argv = ['search.py', '--help']\n"
        "try: runpy.run_path('search.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'botorch', 'lightning', 'wandb', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "search.py model=resnet56" in done.stdout


@pytest.mark.slow
def test_a_search_that_is_killed_in_a_round_completes_and_trains_nothing_twice(
    started: Started, tmp_path: Path
) -> None:
    words = ("rounds=2", "batch=3", "finalists.seeds=1")
    process = started(*words, script="search.py")
    for _ in range(4800):
        plans = list((tmp_path / "runs").glob("*/search/*/round1.json"))
        if plans and len(records(tmp_path)) > FIRST:
            break
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    before, plan = records(tmp_path), plans[0].read_text()
    again = started(*words, script="search.py")
    out, _ = again.communicate(timeout=240)
    assert again.returncode == 0
    after = records(tmp_path)
    assert {path: after[path] for path in before} == before
    networks = [one["network"] for one in json.loads(plan)["planned"]]
    assert [one["network"] for one in json.loads(plans[0].read_text())["planned"]] == networks
    searched = [p for p in after if json.loads(p.read_text())["val_acc"] is not None]
    assert len(searched) == FIRST + 6
    assert "best: " in out


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
def test_a_search_measures_latency_and_its_answer_keeps_the_cap(
    search: Search, tmp_path: Path, batch: int
) -> None:
    words = ("rounds=1", "batch=2", "finalists.seeds=1", "objective=smallest")
    words += ("objective.max_drop=90", "latency=eager", "latency.networks=16", "latency.held_out=4")
    words += ("latency.repeats=5", "latency.spread=100", "cap.latency_ms=95%")
    words += (f"latency.batch={batch}",)
    first = search(*words)
    assert first.code == 0, first.text
    assert first.lines("latency model: ", "fitted to 16 networks; held-out error")
    (line,) = first.lines("latency: ", "ms measured, where")
    taken, cap = map(float, re.findall(r"([\d.]+) (?:ms|are)", line))
    assert taken <= cap
    (table_,) = (tmp_path / "runs").glob(f"*/latency/eager-b{batch}-t1-*.json")
    best = Path(first.lines("best: ")[0].removeprefix("best: ").partition("  (")[0])
    metrics = json.loads((best / "metrics.json").read_text())
    record = json.loads((best / "record.json").read_text())
    if batch == 1:
        assert metrics["latency"]["ms"] == record["latency_ms"]
        assert record["latencies"] == {record["latency_device"]: record["latency_ms"]}
        assert record["latency_device"].startswith("eager (PyTorch")
    else:  # a record's latency is that of one image
        assert record["latency_ms"] is None and metrics["latency"]["ms"] > 0
    before = table_.read_bytes()
    again = search(*words)
    assert again.code == 0 and table_.read_bytes() == before
    assert again.lines("latency: ") == [line]


@pytest.mark.slow
def test_the_same_search_twice_at_once_is_refused(started: Started, tmp_path: Path) -> None:
    words = ("rounds=1", "batch=1", "finalists.seeds=0", "trainer.max_epochs=20")
    first = started(*words, script="search.py")
    for _ in range(4800):
        if list((tmp_path / "runs").glob("*/search/*/round0.json")):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the first search did not begin")
    second = started(*words, script="search.py")
    _, err = second.communicate(timeout=120)
    assert second.returncode == 1
    assert "this very search is running already" in err
    assert first.poll() is None
