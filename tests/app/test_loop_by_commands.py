"""What `ssr search` says of a study whose networks a loop of the user's own trains."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shapes

import ssr_exp
from ssr_exp.app import search_setup
from ssr_exp.config import SearchConfig, SegmentConf
from ssr_exp.runs import study_names
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import BEST_FOLDER, METRICS_FILE, Store
from ssr_exp.runs.study_names import Asked
from ssr_exp.training.candidate import Candidate
from tests import conftest
from tests.conftest import Command, Ended

Search = Callable[..., Ended]
UNTRAINED = "d2-1_w16-24"
pytestmark = pytest.mark.usefixtures("repeatable")


@pytest.fixture
def study(tmp_path: Path) -> ssr_exp.Study:
    return begun(tmp_path)


def begun(runs: Path, **more: Any) -> ssr_exp.Study:
    usual: dict[str, Any] = {"sentinels": "sentinel_all", "rounds": 1, "batch": 1}
    return ssr_exp.Study(
        shapes.make_network,
        (1, 12, 12),
        score=ssr_exp.Score("acc", "max", bounds=(0, 1)),
        runs=runs,
        max_drop=0.05,
        **({"name": "shapes"} | usual | more),
    )


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> Search:
    def bare(tmp_path: Path, words: tuple[str, ...], script: str = "search.py") -> list[str]:
        return [*words, f"paths.runs={tmp_path}"]

    def run(*words: str) -> Ended:
        monkeypatch.setattr(conftest, "small", bare)
        return command("study=shapes", "trust=true", *words, script="search.py")

    return run


def scored(candidate: Candidate) -> float:
    return 0.95 - 0.01 * (12 - math.log(candidate.cost.params))


def test_before_the_first_networks_are_done_nothing_else_is_said_to_come_next(
    study: ssr_exp.Study, search: Search
) -> None:
    for _ in range(4):
        candidate = study.ask()
        study.tell(candidate, scored(candidate))  # type: ignore[arg-type]
    shown = search("rounds=0")
    assert shown.code == 0, shown.text
    assert shown.lines("first networks not done: those are what your loop is asked for next")
    assert shown.lines("your loop is asked by all that is told until then")
    assert not shown.lines("your loop is asked for none of them")


def test_a_study_whose_name_could_be_a_number_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    study = begun(tmp_path, name="2024_07")
    for _ in range(4):
        study.tell(study.ask(), 0.5)  # type: ignore[arg-type]
    words = ("study=2024_07", "trust=true", "rounds=0", f"paths.runs={tmp_path}")
    monkeypatch.setattr(conftest, "small", lambda *_: [*words])
    shown = command(script="search.py")
    assert shown.code == 0, shown.text
    assert shown.lines("as the study was begun")


def test_a_command_asks_for_as_many_finalists_as_the_loop_did_but_for_what_is_typed(
    study: ssr_exp.Study, search: Search
) -> None:
    while candidate := study.ask():
        study.tell(candidate, scored(candidate))  # type: ignore[arg-type]
    study.release(next(iter(study.finalists(seeds=2, retries=0))))
    shown = search("rounds=0")
    assert shown.code == 0, shown.text
    assert shown.lines("your loop is asked for none of them: its search ended, as the round is")
    assert shown.lines("as the study was begun", "finalists.seeds=2", "finalists.retries=0")
    typed = search("rounds=0", "finalists.seeds=1")
    assert typed.lines("as the study was begun") and not typed.lines("finalists.seeds=2")


def test_a_command_goes_on_with_the_loops_latencies_and_with_whatever_is_in_its_settings(
    search: Search, tmp_path: Path
) -> None:
    options = {"latency.runtime": "eager", "latency.source": "file"}
    options |= {"latency.file": "/é/b, c.json"}
    options |= {"modifiers.c_ratios_of": {"*": [0.5, 1.0]}}
    study = begun(tmp_path, options=options)
    for _ in range(4):
        study.tell(study.ask(), 0.5)  # type: ignore[arg-type]
    shown = search("rounds=0")
    assert shown.code == 0, shown.text
    said = ("latency.runtime=eager", "latency.file=/é/b, c.json", "c_ratios_of={*: [0.5, 1.0]}")
    assert shown.lines("as the study was begun", *said)
    assert not search("rounds=0", "latency=compile").lines("latency.runtime=eager")


def test_a_command_looks_at_the_networks_that_the_loop_does_but_for_what_is_typed(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, frozen=["0-1"])
    seen, set_up = list[SegmentConf](), search_setup.set_up

    def looked(conf: SearchConfig, *rest: Any) -> Any:
        seen.append(conf.segment)
        return set_up(conf, *rest)

    monkeypatch.setattr(search_setup, "set_up", looked)
    search("rounds=0")
    search("rounds=0", "segment.frozen=[]", "segment.width_steps=4")
    assert [(one.frozen, one.width_steps) for one in seen] == [(["0-1"], 8), ([], 4)]


@pytest.mark.slow
def test_what_the_loop_trained_with_a_finalists_seed_is_tested_by_a_function(
    study: ssr_exp.Study, search: Search
) -> None:
    while candidate := study.ask():
        study.tell(candidate, scored(candidate))  # type: ignore[arg-type]
    baseline = next(r for r in study.records() if r.params == r.baseline_params)
    study.add(baseline.network, 0.94, seed=1)
    words = ("task.target=shapes.train_one", "finalists.seeds=1", "finalists.retries=0")
    ended = search(*words)
    assert ended.code == 0 and ended.lines("answer: "), ended.text
    (record,) = [r for r in study.records() if (r.network, r.seed) == (baseline.network, 1)]
    assert record.origin == "finalist" and record.score == 0.94
    assert record.test_score is not None
    assert search(*words, "rounds=0").lines("promise ")  # told of what was tested, all the same


def test_of_what_is_enqueued_a_command_says_that_the_loop_is_asked_for_it(
    study: ssr_exp.Study, search: Search
) -> None:
    while candidate := study.ask():
        study.tell(candidate, scored(candidate))  # type: ignore[arg-type]
    study.enqueue(UNTRAINED)
    said = search("rounds=1", "batch=1")
    assert said.lines("1 network enqueued: your loop is asked for that next")
    assert study.ask().code == UNTRAINED  # type: ignore[union-attr]


@pytest.mark.slow
def test_what_is_enqueued_is_trained_first_by_a_command_that_can(
    study: ssr_exp.Study, search: Search
) -> None:
    while candidate := study.ask():
        study.tell(candidate, scored(candidate))  # type: ignore[arg-type]
    for seed in (0, 7):
        study.enqueue(UNTRAINED, seed=seed)
    words = ("task.target=shapes.train_one", "finalists.seeds=0")
    ended = search(*words)
    assert ended.lines("2 networks enqueued: trained first"), ended.text
    told = [r for r in study.records() if r.network == UNTRAINED]
    assert {(r.seed, r.origin, r.score is not None) for r in told} == {
        (0, "enqueued", True),
        (7, "enqueued", True),
    }
    assert not search(*words).lines("networks enqueued")


@pytest.mark.slow
def test_what_is_said_of_an_answer_stays_while_nothing_is_trained_whoever_asks(
    study: ssr_exp.Study, search: Search
) -> None:
    words = ("task.target=shapes.train_one", "finalists.seeds=2", "finalists.retries=0")
    first, metrics = search(*words), study.folder / BEST_FOLDER / METRICS_FILE
    assert first.code == 0 and first.lines("promise: "), first.text
    told = json.loads(metrics.read_text())
    again = search(*words)
    said = ("promise: ", "untrained: ", "cheaper: ", "warning: ")
    assert [first.lines(word) for word in said] == [again.lines(word) for word in said]
    assert json.loads(metrics.read_text()) == told
    promise = ssr_exp.Study.open("shapes", runs=study.folder.parent, trust=True).answer().promise
    stated = {key: told["promise"][key] for key in ("allowed", "confidence")}
    assert promise.stated(**stated) == told["promise"]
    likely = " ".join(first.lines("promise: ")[0].split()[1:12])
    assert f"promise {likely}" in " ".join(search(*words, "rounds=0").out.split())


@pytest.mark.slow
def test_of_a_finished_loop_a_search_shows_the_answer_and_a_missing_one_is_named_with_the_command(
    study: ssr_exp.Study, search: Search
) -> None:
    while candidate := study.ask():
        assert candidate.network is not None  # its weights are kept
        study.tell(candidate, scored(candidate))
    before = search("rounds=1", "batch=1")
    assert before.code == 0 and before.lines("best/ does not hold it: study.answer() hands it over")
    answer = study.answer()
    assert before.lines("trained    ", answer.code) and not before.lines("answer: ")
    ended = search("rounds=1", "batch=1")
    assert ended.code == 0, ended.text
    assert ended.lines("answer: ", answer.code)
    assert ended.lines("search.py", "study=shapes", "task.target=MODULE.FUNCTION")
    more = search("rounds=2", "batch=1")  # which nobody trains here
    assert more.code == 1
    assert (
        f"search.py study=shapes trust=true paths.runs={study.folder.parent} rounds=0" in more.err
    )


def test_a_loop_goes_on_with_the_words_of_the_last_search(
    study: ssr_exp.Study, tmp_path: Path
) -> None:
    study.tell(study.ask(), 0.5)  # type: ignore[arg-type]
    opened = ssr_exp.Study.open("shapes", runs=tmp_path, trust=True)
    assert (opened._asking.conf.objective.max_drop, opened._asking.conf.rounds) == (0.05, 1)
    asked = Asked(command="search", words=("objective.max_drop=0.02", "rounds=0", "model=resnet8"))
    study_names.note(Store(tmp_path), "shapes", {}, asked, None)
    opened = ssr_exp.Study.open("shapes", runs=tmp_path, trust=True)
    conf = opened._asking.conf
    assert (conf.objective.max_drop, conf.rounds, conf.batch) == (0.02, 0, 1)
    asked = Asked(command="search", words=("objective=tradeoff",))  # as it is without a word
    study_names.note(Store(tmp_path), "shapes", {}, asked, None)
    opened = ssr_exp.Study.open("shapes", runs=tmp_path, trust=True)
    assert opened._asking.conf.objective == SearchConfig().objective
    options = {"objective.max_drop": 0.03}
    opened = ssr_exp.Study.open("shapes", runs=tmp_path, trust=True, options=options)
    assert opened._asking.conf.objective.max_drop == 0.03


def test_a_function_that_ends_the_process_is_a_failed_training_and_no_success(
    study: ssr_exp.Study, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ending(candidate: Candidate) -> float:
        raise SystemExit(0)  # as of a script: the command would end with 0

    monkeypatch.setattr(shapes, "train_one", ending)
    for _ in range(4):
        study.tell(study.ask(), 0.5)  # type: ignore[arg-type]
    ended = search("task.target=shapes.train_one", "finalists.seeds=0")
    assert ended.code == 1, ended.text
    failed = [r for r in study.records() if r.status is Status.failed]
    assert failed and "ended the process (SystemExit: 0): let it return" in str(failed[0].error)
