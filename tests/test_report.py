"""The command line of a page: what is typed, what is written, what is said."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.usefixtures("repeatable"), pytest.mark.slow]

Command = Callable[..., Any]  # conftest's
Instant = Any
Report = Callable[..., Any]
FIRST = 8  # ResNet-8 has three segments of one block: the baseline, and seven sentinels in width
OWN = """
from torch import nn

class Block(nn.Sequential):
    def __init__(self, inp, out):
        super().__init__(nn.Conv2d(inp, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())

def make(num_classes, in_channels):
    stages = [nn.Sequential(Block(w, v), Block(v, v)) for w, v in ((in_channels, 8), (8, 16))]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))
"""


@pytest.fixture
def report(command: Command) -> Report:
    """Run `report.py`."""
    return lambda *words: command(*words, script="report.py")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swept") / "runs"


@pytest.fixture
def runs(command: Command, instant: Instant, tmp_path: Path, swept: Path) -> Path:
    """Lay out the runs of a sweep of the baseline and all sentinels, which is made once."""
    own = tmp_path / "runs"
    if not swept.exists():
        assert command("modifiers=sentinel_all").code == 0
        shutil.copytree(own, swept)
    else:
        shutil.copytree(swept, own)
    (own / "report.html").unlink()
    return own


def study_name(runs: Path) -> str:
    (path,) = runs.glob("resnet8-*/study.json")
    return path.parent.name


def data(path: Path) -> list[dict[str, Any]]:
    """Read the studies that a page shows."""
    match = re.search('<script type="application/json" id="data">(.*?)</script>', path.read_text())
    assert match
    studies: list[dict[str, Any]] = json.loads(match[1])["studies"]
    return studies


# What is written


def test_the_last_line_names_the_page_which_shows_runs_and_predictions(
    report: Report, runs: Path
) -> None:
    ended = report()
    assert (ended.code, ended.err) == (0, "")
    page = runs / "report.html"
    assert ended.out.splitlines()[-1] == f"report: {page}"
    assert ended.lines(f"{study_name(runs)}: fitting a surrogate to {FIRST} runs")
    (study,) = data(page)
    assert (study["model"], len(study["networks"]), len(study["runs"])) == ("resnet8", FIRST, FIRST)
    kinds = [network["kind"] for network in study["networks"]]
    assert sorted(kinds) == ["baseline"] + ["sentinel"] * (FIRST - 1)
    assert [s["name"] for s in study["segments"]] == ["stage1", "stage2", "stage3"]
    told = study["predictions"]
    assert (told["search"], told["looks"][0]["runs"], len(told["left_out"])) == ("", FIRST, FIRST)
    assert told["lattice"]["size"] == len(told["lattice"]["network"]) == 4 * 8 * 8
    assert study["about"]["fields"]["recipe"]["lr"] == 0.1


def test_nothing_is_fitted_on_demand_or_before_there_are_more_runs(
    report: Report, command: Command, runs: Path
) -> None:
    ended = report("predict=false")
    assert ended.code == 0 and not ended.lines("fitting")
    assert not list(runs.rglob("predictions.json"))
    assert data(runs / "report.html")[0]["predictions"] is None
    report()
    (path,) = runs.rglob("predictions.json")
    before = path.stat().st_mtime_ns
    for word in ("predict=true", "predict=false"):
        assert not report(word).lines("fitting")
        assert path.stat().st_mtime_ns == before
        assert data(runs / "report.html")[0]["predictions"] is not None
    command("modifiers=uniform_width", "modifiers.fractions=[0.5]")
    assert report().lines(f"fitting a surrogate to {FIRST + 1} runs")
    (study,) = data(runs / "report.html")
    assert [look["runs"] for look in study["predictions"]["looks"]] == [FIRST + 1]


def test_one_study_of_several_is_shown_and_predicted(
    report: Report, command: Command, runs: Path
) -> None:
    first = study_name(runs)
    command("trainer.max_epochs=2")
    ended = report(f"study={first}")
    assert [study["name"] for study in data(runs / "report.html")] == [first]
    assert len(ended.lines("fitting")) == 1
    report()
    assert len(data(runs / "report.html")) == 2


def test_without_the_baseline_runs_are_shown_without_predictions(
    report: Report, runs: Path
) -> None:
    shutil.rmtree(runs / study_name(runs) / "d1-1-1_w16-32-64")
    ended = report()
    assert (ended.code, ended.err) == (0, "")
    warned, _ = ended.out.splitlines()
    assert "no predictions, as its baseline has no finished run" in warned
    (study,) = data(runs / "report.html")
    assert (len(study["networks"]), study["predictions"]) == (FIRST - 1, None)


# What cannot be predicted is shown


def test_a_study_whose_network_is_not_known_is_shown_without_predictions(
    report: Report, runs: Path
) -> None:
    for path in runs.rglob("network.json"):
        path.write_text("{}")
    ended = report()
    assert ended.code == 0
    (line,) = ended.lines(f"{study_name(runs)}: its last runs are not among the predictions: ")
    assert "network.json" in line
    (study,) = data(runs / "report.html")
    assert (len(study["networks"]), study["predictions"]) == (FIRST, None)


def test_a_lattice_that_cannot_be_made_is_told_and_the_page_written(
    report: Report, runs: Path
) -> None:
    for path in runs.rglob("config.json"):
        path.write_text(json.dumps({"segment": {"width_steps": 0}}))
    ended = report()
    assert ended.code == 0 and "Traceback" not in ended.text
    assert len(data(runs / "report.html")) == 1


def test_a_function_is_not_called_unless_it_is_trusted(
    report: Report,
    command: Command,
    instant: Instant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "report_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    words = ("model=module", "model.target=report_own.make", "modifiers=sentinel_all")
    ended = command(*words)
    assert ended.code == 0, ended.text
    module = sys.modules["report_own"]
    calls: list[int] = []
    make = module.make

    def counted(num_classes: int, in_channels: int) -> Any:
        calls.append(num_classes)
        return make(num_classes, in_channels)

    monkeypatch.setattr(module, "make", counted)
    shy = report()
    assert (shy.code, calls) == (0, [])
    (line,) = shy.lines("its last runs are not among the predictions")
    assert "report_own.make" in line and "type trust=true" in line
    page = tmp_path / "runs" / "report.html"
    (study,) = data(page)
    assert len(study["networks"]) == len(instant.done) and study["predictions"] is None
    trusting = report("trust=true")
    assert calls and not trusting.lines("its last runs are not among the predictions")
    assert data(page)[0]["predictions"]["looks"][0]["runs"] == len(instant.done)
    monkeypatch.delitem(sys.modules, "report_own")


# What is wrong


def test_a_study_that_is_not_there_is_refused(report: Report, runs: Path) -> None:
    ended = report("study=resnet9")
    assert ended.code == 1
    assert "there is no study" in ended.text and "Traceback" not in ended.text
    assert not (runs / "report.html").exists()


# Sweeps and searches write it, too


def test_a_sweep_with_failures_names_the_page_that_lists_them(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    instant.broken["d1-1-1_w8-16-32"] = ValueError("it broke")
    ended = command("modifiers=uniform_width", "modifiers.fractions=[0.5,0.25]")
    page = tmp_path / "runs" / "report.html"
    assert (ended.code, ended.out.splitlines()[-1]) == (1, f"page: {page}")
    (study,) = data(page)
    assert study["about"]["statuses"] == {"finished": 1, "failed": 1}
    assert [run["error"] for run in study["runs"] if "error" in run] == ["ValueError: it broke"]


def test_a_page_that_cannot_be_written_fails_no_sweep(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "report.html").mkdir(parents=True)
    ended = command("modifiers=baseline")
    assert (ended.code, len(instant.done)) == (0, 1)
    assert ended.lines("the page was not written: cannot write to")
    assert not ended.lines("page: /")


def test_what_a_page_cannot_show_fails_no_sweep(
    command: Command, instant: Instant, runs: Path
) -> None:
    """Another study's folder is damaged; this one's sweep is done by then."""
    name = study_name(runs)
    shutil.copytree(runs / name, runs / "another")
    for path in (runs / "another").rglob("record.json"):
        path.write_text(path.read_text().replace(name, "another"))
    part = '{"name": "s", "blocks": 1e999, "channels": 16}'
    (runs / "another" / "network.json").write_text(f'{{"segments": [{part}, {part}, {part}]}}')
    ended = command("modifiers=uniform_width", "modifiers.fractions=[1]")
    assert ended.code == 0 and "Traceback" not in ended.text


def test_a_search_that_shows_the_next_batch_names_the_page(command: Command, runs: Path) -> None:
    ended = command("rounds=0", "batch=2", "acquisition=random", script="search.py")
    assert ended.code == 0, ended.text
    assert ended.out.splitlines()[-1] == f"page: {runs / 'report.html'}"
    (study,) = data(runs / "report.html")
    assert re.fullmatch("tradeoff-[0-9a-f]{8}", study["predictions"]["search"])
    assert study["predictions"]["looks"][0]["round"] == 0


def test_a_search_ends_by_naming_the_page_that_shows_its_rounds_and_finalists(
    command: Command, tmp_path: Path
) -> None:
    words = ("rounds=1", "batch=2", "finalists.seeds=2", "finalists.arms=[]")
    ended = command(*words, "objective=smallest", "objective.max_drop=50", script="search.py")
    assert ended.code == 0, ended.text
    page = tmp_path / "runs" / "report.html"
    name, _, place = ended.out.splitlines()[-1].partition(":")
    assert (name, place.strip()) == ("page", str(page))
    (study,) = data(page)
    kinds = [network["kind"] for network in study["networks"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "baseline": 1,
        "sentinel": FIRST - 1,
        "proposed": 2,
        "finalist": 2,
    }
    assert {network["round"] for network in study["networks"]} == {None, 1}
    assert [batch["number"] for batch in study["predictions"]["rounds"]] == [0, 1]
    assert [look["round"] for look in study["predictions"]["looks"]] == [0, 1]
    assert len(study["answer"]["results"]) == 2
    for network in study["networks"]:
        if network["kind"] == "finalist":
            assert len(network["seeds"]) == 2 and network["test_score"] and not network["score"]


def test_a_page_that_cannot_be_written_fails_no_search(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "report.html").mkdir(parents=True)
    few = ("modifiers=uniform_width", "rounds=1", "batch=1", "finalists.seeds=0")
    ended = command(*few, script="search.py")
    assert ended.lines("the page was not written: cannot write to")
    assert ended.lines("the search ends")
