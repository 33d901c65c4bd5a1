"""What ends a process, or fails in each, keeps no other network from being trained."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shapes
from telling import refused

import ssr_exp
from ssr_exp import Study
from ssr_exp.app.ask_tell import losses
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import Store
from ssr_exp.search import ending
from ssr_exp.search.loop import Search
from ssr_exp.training.candidate import Candidate

Begin = Callable[..., Study]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    def begin(**more: Any) -> Study:
        usual: dict[str, Any] = {"sentinels": "sentinel_width", "rounds": 1, "batch": 2}
        score = ssr_exp.Score("acc", "max", bounds=(0, 1))
        named: dict[str, Any] = {"name": "shapes", "score": score, "runs": tmp_path}
        return Study(shapes.make_network, (1, 12, 12), **(named | usual | more))

    return begin


def asked(study: Study) -> Candidate:
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    return candidate


def scored(candidate: Candidate) -> float:
    return min(1.0, 0.5 + candidate.cost.params / 1e5)


def kill(study: Study) -> None:
    """End the claims of a process as the system does: nothing of it is taken back."""
    for claim in study._asking.held.values():
        claim.__exit__(None, None, None)
    study._asking.held.clear()


def test_a_network_that_ends_each_process_comes_last_and_fails_in_the_end(
    begin: Begin, tmp_path: Path
) -> None:
    deadly = [asked(study := begin())]
    for _ in range(losses.MOST - 1):
        kill(study)
        deadly.append(asked(study := begin()))
    assert deadly[0].code == deadly[1].code != deadly[2].code  # after two losses it comes last
    told = [deadly.pop()]
    study.tell(told[0], scored(told[0]))
    while (candidate := asked(study)).code != deadly[0].code:
        told.append(candidate)
        study.tell(candidate, scored(candidate))
    assert len(told) == 3  # all other first networks
    kill(study)
    folder = Store(tmp_path).folder("shapes", deadly[0].code, 0)
    assert losses.count(folder) == losses.MOST
    again = asked(study := begin())  # once more, as all that fails
    assert again.code == deadly[0].code
    record = next(r for r in study.records() if r.network == again.code)
    assert record.status is Status.failed
    assert str(record.error).startswith("3 processes ended in its training")


def test_a_process_that_ends_in_order_or_leaves_a_checkpoint_does_not_count(
    begin: Begin, tmp_path: Path
) -> None:
    candidate = asked(study := begin())
    folder = candidate.folder
    kill(study)
    assert losses.count(folder) == 1
    study = begin()
    study.release(asked(study))
    assert losses.count(folder) == 0
    asked(study := begin())
    del study
    gc.collect()  # as at the end of the interpreter
    assert losses.count(folder) == 0
    asked(study := begin())
    (folder / "mine").mkdir()
    (folder / "mine" / "epoch1.pt").write_bytes(b"weights")
    later = time.time() + 5
    os.utime(folder / "mine" / "epoch1.pt", (later, later))
    kill(study)
    assert losses.count(folder) == 0


def test_what_fails_in_each_process_keeps_none_that_trains_one_network_from_the_others(
    begin: Begin,
) -> None:
    bad, tries, origins = "", 0, set()
    for _ in range(20):  # processes that train one network each
        study = begin(sentinels="sentinel_all")
        candidate = asked(study)
        if study.records() and not bad:
            bad = candidate.code
        origins.add(candidate.origin)
        if candidate.code == bad:
            tries += 1
            study.fail(candidate, "always")
        else:
            study.tell(candidate, scored(candidate))
    assert origins == {"sentinel_all", "round1"} and tries > 2
    (failed,) = (r for r in study.records() if r.status is not Status.finished)
    assert failed.network == bad
    assert study._asking.search.next_number() == 2  # round 1 was planned, and is done
    assert sum(r.origin == "round1" for r in study.records()) == 2


def test_an_error_that_ends_a_script_counts_and_ctrl_c_does_not(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ended_by, lost in ((KeyboardInterrupt(), 0), (MemoryError(), 1)):
        candidate = asked(study := begin())
        with monkeypatch.context() as patch:  # as the interpreter leaves it
            patch.setattr(sys, "last_value", ended_by, raising=False)
            patch.delattr(sys, "ps1", raising=False)
            del study
            gc.collect()
        assert losses.count(candidate.folder) == lost


def test_what_is_leased_counts_by_the_processes_that_took_it(begin: Begin) -> None:
    study = begin()
    for lost in range(losses.SUSPECT):
        leased = study.ask(lease_s=0.05)
        assert isinstance(leased, Candidate) and losses.count(leased.folder) == lost
        job = begin()
        job.take(leased.code)
        kill(job)
        time.sleep(0.1)  # the lease runs out
        assert losses.count(leased.folder) == lost + 1
    losses.begin(study._asking.store, leased.folder, losses.MOST, is_held=False)
    assert "processes ended in its training" in refused(lambda: begin().take(leased.code))
    (record,) = study.records()
    assert (record.network, record.status) == (leased.code, Status.failed)


def test_what_is_enqueued_again_is_no_suspect_any_more(begin: Begin) -> None:
    first = asked(study := begin())
    kill(study)
    losses.begin(Store(study.folder.parent), first.folder, losses.MOST, is_held=True)
    study.enqueue(first.code)
    assert asked(study).code == first.code


def test_whoever_waits_says_and_fits_nothing_until_something_was_told(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    look, tell = Search.look, Search.tell
    monkeypatch.setattr(Search, "look", lambda s, *a: (looks.append("look"), look(s, *a))[1])
    monkeypatch.setattr(Search, "tell", lambda s, b: (looks.append("tell"), tell(s, b))[1])
    few = {"rounds": 3, "options": {"budget.runs": 5}}
    study = begin(**few)
    for _ in range(4):
        candidate = asked(study)
        study.tell(candidate, scored(candidate))
    held = asked(study)
    other = begin(**few)
    looks.clear()
    for _ in range(3):
        assert isinstance(other.ask(wait=False), ssr_exp.Waiting)
    assert looks in ([], ["look", "tell"])  # once, where a new round could begin
    study.tell(held, scored(held))
    assert other.ask() is None


def test_a_search_that_found_no_gain_is_not_fitted_again_until_something_was_told(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    look = Search.look
    monkeypatch.setattr(Search, "look", lambda s, *a: (looks.append("look"), look(s, *a))[1])
    monkeypatch.setattr(ending, "no_gain", lambda *_: "nothing is promised")
    study = begin(rounds=3)
    for _ in range(4):
        candidate = asked(study)
        study.tell(candidate, scored(candidate))
    study.enqueue(study._asking.search.space.code(study._asking.opened.plan.smallest))
    held = asked(study)
    assert held.origin == "enqueued"
    other = begin(rounds=3)
    assert isinstance(other.ask(wait=False), ssr_exp.Waiting) and looks
    looks.clear()
    assert isinstance(other.ask(wait=False), ssr_exp.Waiting) and not looks
    study.tell(held, scored(held))
    assert other.ask() is None and looks


def test_a_network_is_enqueued_while_a_command_carries_the_search_out(begin: Begin) -> None:
    study = begin()
    folder = study._asking.search.book.folder
    with study._asking.store.claim(folder, wait=False):
        start = time.monotonic()
        study.enqueue(study._asking.search.space.code(study._asking.opened.plan.smallest))
        assert time.monotonic() - start < 20
    (waiting,) = study._asking.queue.waiting("shapes")
    assert asked(study).code == waiting.network


def test_a_folder_of_something_else_is_no_study(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "photo.jpg").write_bytes(b"")
    assert f"{tmp_path / 'shapes'} is there already, with photo.jpg" in refused(begin)


def test_runs_and_pages_are_of_the_users_home_and_of_where_the_study_was_begun(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    study = begin(runs="~/runs")
    assert (tmp_path / "home" / "runs" / "shapes" / "study.json").exists()
    assert Study.open("shapes", runs="~/runs", trust=True).score == study.score
    assert study.page("~/page.html") == tmp_path / "home" / "page.html"
    monkeypatch.chdir(tmp_path)
    here = begin(runs="runs")
    candidate = asked(here)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    said = refused(lambda: here.tell(candidate, 0.5))
    assert f"the current folder was {tmp_path} when the study was begun" in said
