"""The command line of a search: what is typed, what is trained, what is said."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssr_exp.app import configuration, search_setup
from ssr_exp.config import SearchConfig
from ssr_exp.datasets import in_memory
from ssr_exp.errors import SsrError
from ssr_exp.runs.store import Store
from ssr_exp.training import finalists, opened_study, study_parts
from tests.conftest import ROOT, Command, Compose, Ended, Instant, small

pytestmark = pytest.mark.usefixtures("repeatable", "no_compiler")

Search = Callable[..., Ended]
FIRST = 8  # ResNet-8 has three segments of one block: the baseline, and seven sentinels in width


@pytest.fixture
def search(command: Command) -> Search:
    """Run `search.py` with a small command line."""
    return lambda *words: command(*words, script="search.py")


def records(tmp_path: Path) -> dict[Path, int]:
    """Find the runs, and when they were written."""
    found = (tmp_path / "runs").glob("*/*/seed*/record.json")
    return {path: path.stat().st_mtime_ns for path in found}


def block(text: str) -> dict[str, str]:
    """Read the answer's block, which is all that comes after the last empty line."""
    last = text.rstrip().rpartition("\n\n")[2].splitlines()
    pairs = (line.partition(":") for line in last)
    return {name: told.strip() for name, _, told in pairs}


def table(text: str, title: str) -> list[str]:
    """Keep the networks of the table of a title."""
    part = text.partition(title)[2].partition("└")[0]
    return re.findall(r"^│ (\S+)", part, flags=re.MULTILINE)


@pytest.mark.slow
def test_a_search_trains_its_rounds_hands_over_and_repeats_nothing(
    search: Search, tmp_path: Path
) -> None:
    words = ("rounds=2", "batch=2", "finalists.seeds=2", "finalists.arms=[uniform_width]")
    words += ("objective=smallest", "objective.max_drop=5", "objective.confidence=0.5")
    first = search(*words)
    assert (first.code, first.err) == (0, "")
    told = block(first.out)
    assert told["page"] == str(tmp_path / "runs" / "report.html")
    match = re.fullmatch(r"resnet8 (\S+?)(, .*)?", told["answer"])
    assert match
    share = re.match(r"[\d,]+, ([\d.]+)% of the baseline's [\d,]+$", told["parameters"])
    assert share and re.match(
        r".* % and the baseline's .* \(2 seeds each, trained on train and val, "
        r"tested on 359 images\)",
        told["test acc"],
    )
    folder = Path(told["best"])
    assert shlex.split(told["export"])[-2:] == [f"run={folder}", "format=onnx"]
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
    assert f"{100 * record['params'] / record['baseline_params']:.1f}" == share[1]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"{abs(metrics['drop']):.2f} points" in told["drop"]
    assert (", more than the 5 points" in told["drop"]) == (metrics["drop"] > 5)
    lines = first.out.splitlines()
    assert lines[-len(told) - 1] == "" and [*told][-1] == "page"  # one block, at the end
    networks = Counter(re.findall(r"^ *\d+/\d+ (\S+(?: seed \d)?) ", first.out, re.MULTILINE))
    assert sum(networks.values()) == FIRST + 4 + 2 * metrics["networks_tested"]
    from ssr_exp.rescaling import saved

    assert saved.load(folder)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    before = records(tmp_path)
    searched = [p for p in before if json.loads(p.read_text())["val_acc"] is not None]
    assert len(searched) == FIRST + 4
    finals = [json.loads(p.read_text()) for p in before if p not in searched]
    assert {one["origin"] for one in finals} == {"finalist"}
    assert metrics["networks_tested"] == len({one["network"] for one in finals})
    again = search(*words)
    assert again.code == 0
    assert records(tmp_path) == before
    assert block(again.out) == told
    assert not again.lines(" params, val acc ")
    shown = search("rounds=0", *words[1:])  # finalists are of another study, and decide it, too
    assert shown.lines(f"trained    {match[1]}: ") and records(tmp_path) == before
    words = (*words[:2], *words[4:], "finalists.seeds=0")
    untested = search(*words)  # hands the search's own training over
    assert untested.code == 0 and records(tmp_path) == before
    assert "val acc" in block(untested.out)
    assert json.loads((folder / "record.json").read_text())["val_acc"] is not None
    told = json.loads((folder / "metrics.json").read_text())  # what was tested is still known
    assert told["networks_tested"] == metrics["networks_tested"] and told["kept"] is not None


@pytest.mark.slow
def test_the_rounds_print_check_batch_and_front_and_run_once_at_a_time(
    search: Search, instant: Instant, tmp_path: Path
) -> None:
    ended = search("rounds=1", "batch=3", "finalists.seeds=0")
    assert ended.lines("surrogate:", "8 runs of 8 networks")
    assert ended.lines("warning: the surrogate is flat")
    assert len(ended.lines("round 1 of 1: 3 networks of ", "of the parameters, val acc ")) == 1
    assert ended.lines("the search ends: the round is done")
    assert ended.lines("page: ")[-1] == ended.out.splitlines()[-1]  # of a search that failed, too
    log = (tmp_path / "runs/.hydra/search.log").read_text()
    assert len(re.findall(r"aside: round 1 of 1: d\S+, .* expected", log)) == 3
    assert len(set(instant.done)) == FIRST + 3
    origins = [json.loads(path.read_text())["origin"] for path in records(tmp_path)]
    assert sorted(origins) == ["round1"] * 3 + ["sentinel_all"] * FIRST
    (predictions,) = (tmp_path / "runs").glob("*/search/*/predictions.json")
    with Store(tmp_path / "runs").claim(predictions.parent, wait=False):
        second = search("rounds=1", "batch=3", "finalists.seeds=0")
    assert second.code == 1
    assert f"this very search is running already ({predictions.parent})" in second.err
    assert len(instant.done) == FIRST + 3


@pytest.mark.slow
def test_a_lattice_beyond_10_to_7_is_searched_from_few_networks_and_its_page_is_of_a_sample(
    search: Search, instant: Instant, tmp_path: Path
) -> None:
    words = ("model=resnet20", "segment=block", "rounds=2", "batch=2", "finalists.seeds=0")
    ended = search(*words)
    assert ended.lines("the lattice has 16,777,216 networks: local search proposes")
    assert ended.lines("11 networks to begin with")  # the baseline, nine blocks alone, and all
    assert len(set(instant.done)) == 11 + 4
    (predictions,) = (tmp_path / "runs").glob("*/search/*/predictions.json")
    sample = json.loads(predictions.read_text())["lattice"]
    assert sample["size"] == 16_777_216 > len(sample["network"]) > 1000
    page = (tmp_path / "runs" / "report.html").read_text()
    assert "16777216" in page
    assert search(*words).lines("the search ends: all 2 rounds are done")
    assert len(instant.done) == 11 + 4
    refused = search(*words, "cap.params=50")
    assert refused.code == 1
    assert re.search(r"no network keeps to cap.params=50: the smallest .* has [\d,]+", refused.err)


@pytest.mark.slow
@pytest.mark.more
@pytest.mark.parametrize(
    "words",
    [
        ("model=torchvision", "model.name=efficientnet_b0"),  # 10^8 networks
        ("model=timm", "model.name=cspdarknet53", "modifiers=sentinel_joint"),  # 10^12
    ],
    ids=lambda words: words[1],
)
def test_networks_of_many_segments_go_through_first_networks_rounds_and_an_answer(
    search: Search, words: tuple[str, ...]
) -> None:
    ended = search(*words, "rounds=2", "batch=1", "finalists.seeds=1", "trainer.max_epochs=1")
    assert (ended.code, ended.err) == (0, "")
    assert ended.lines("answer: ")


@pytest.mark.slow
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
    assert any("cannot tell objective.max_drop=0.5" in line for line in warnings)
    assert len(warnings) == len(set(warnings))
    proposed = table(shown.out, "next batch (not trained)")
    assert len(proposed) == 3
    *_, line, page = shown.out.strip().splitlines()
    assert page == f"page: {tmp_path / 'runs' / 'report.html'}"
    printed = shlex.split(line)
    assert printed[0] == "python" and Path(printed[1]).name == "train.py"
    assert printed[-1] == "modifiers=proposed"
    assert not any(word.startswith(("rounds", "batch", "acquisition")) for word in printed)
    ended = command(*printed[2:])
    assert ended.code == 0
    assert sorted(line.split()[1] for line in instant.done) == sorted(proposed)


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


BAD = {  # what is told where a search is set up or begins, and not by one of its parts' tests
    "rounds=0": "the study has 0 networks with a finished run",
    "runs=table": "runs=table needs runs.file=PATH",
    "dataset.train_on_val=true trainer.test=true": "leaves a search no val",
    "latency=file cap.latency_ms=5": "type latency.file=FILE",
    "latency=file latency.file=nowhere.json cap.latency_ms=5": "there is no nowhere.json",
    "latency=cuda_graphs cap.latency_ms=5": "PyTorch sees no GPU here",
}


def test_settings_that_would_be_ignored_are_refused_before_images_are_read(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("images were read")

    monkeypatch.setattr(in_memory, "load", read)
    study_parts._splits.cache_clear()
    assert "latency=file in a command" in search("latency.file=phone.json").err


def test_bad_input_is_refused_in_one_line_before_anything_is_trained(tmp_path: Path) -> None:
    import hydra

    def refusal(line: str) -> str:
        try:
            composed = hydra.compose("search", small(tmp_path, (*line.split(),)))
            conf = configuration.read(composed, SearchConfig)
            search = search_setup.set_up(conf, opened_study.open(conf), Store(conf.paths.runs))
            return f"nothing: {search.look() if conf.rounds == 0 else search.run(pytest.fail)}"
        except SsrError as error:
            return str(error)

    configuration.register()
    with hydra.initialize_config_dir(str(ROOT / "ssr_exp" / "conf"), version_base="1.3"):
        told = {line: refusal(line) for line in BAD}
    assert {line: told[line] for line in BAD if BAD[line] not in told[line]} == {}
    assert not any("\n" in text for text in told.values())


def test_images_without_a_test_part_are_told_before_anything_is_trained(conf: Compose) -> None:
    opened = opened_study.open(conf())
    trained = replace(opened, splits=replace(opened.splits, test=None))
    with pytest.raises(SsrError, match="has nothing to test finalists with"):
        finalists.check(SearchConfig(**vars(conf())), trained)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("seed=0,1", "a search takes one value of each key"),
        ("runs=table runs.file=nowhere.csv", "nowhere.csv"),
    ],
)
def test_a_search_that_cannot_be_met_ends_in_a_sentence(
    search: Search, instant: Instant, words: str, said: str
) -> None:
    ended = search(*words.split())
    assert ended.code == 1
    assert said in ended.err and ended.err.strip().count("\n") == 0
    assert "Traceback" not in ended.text
    assert instant.done == []


@pytest.mark.slow
@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.more), 2])
def test_a_search_measures_latency_and_its_answer_keeps_the_cap(
    search: Search, tmp_path: Path, batch: int
) -> None:
    words = ("modifiers=uniform_width", "rounds=1", "batch=2", "finalists.seeds=1")
    words += (
        "objective=smallest",
        "objective.max_drop=90",
        "latency=eager",
        "latency.networks=16",
        "latency.held_out=4",
    )
    words += ("latency.repeats=5", "latency.spread=100", "cap.latency_ms=95%")
    words += (f"latency.batch={batch}",)
    first = search(*words)
    assert first.code == 0, first.text
    assert first.lines("latency model: ", "fitted to 16 networks; held-out error")
    line = block(first.out)["latency"]
    taken, cap = map(float, re.findall(r"([\d.]+) ms (?:measured|are allowed)", line))
    assert taken <= cap
    (table_,) = (tmp_path / "runs").glob(f"*/latency/eager-b{batch}-t1-*.json")
    best = Path(block(first.out)["best"])
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
    assert block(again.out)["latency"] == line


def test_a_search_begins_with_what_a_sweep_has_trained_whatever_lies_beside_it(
    search: Search, command: Command, instant: Instant
) -> None:
    command("modifiers=baseline", "recipe.lr=0.02")  # another study
    command("modifiers=baseline")
    few = ["modifiers=sentinel_width", "modifiers.together=1", "finalists.seeds=0"]
    told = search(*few, "rounds=1", "batch=1", "objective=smallest", "objective.max_drop=0.5")
    assert "no record is of this study" not in told.text
    assert "where a baseline gets 50 % right" in told.text  # as it was trained before
    assert "4 networks to begin with, then 1 round of 1" in told.text
    other = search(*few, "rounds=1", "batch=1", "recipe.lr=0.03", "objective.max_drop=0.5")
    assert "no record is of this study" in other.text and "95 % right" in other.text
