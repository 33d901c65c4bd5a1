"""Ask and tell: a loop of one's own and the commands are two doors to the same study."""

from __future__ import annotations

import errno
import functools
import importlib
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import shapes
import torch
from telling import finish, refused
from torch import nn

import ssr_exp
from ssr_exp import Score, Study, Waiting, files, terminal, user_code
from ssr_exp.app import exports
from ssr_exp.app.ask_tell import asking, beginning, patience, ranks, results
from ssr_exp.config import ModelConf, Source
from ssr_exp.messages import say_once
from ssr_exp.report import answer_block, study_outcome, study_overview, trade_offs
from ssr_exp.rescaling import cost, planning, saved
from ssr_exp.runs import last_comparison, leases, store, studies, study_names
from ssr_exp.runs.record import Kind, Record, Status
from ssr_exp.runs.store import LAST_CHECKPOINT, RECORD_FILE, Store
from ssr_exp.search import caps, other_networks
from ssr_exp.training import loop_settings, loop_study, run
from ssr_exp.training.candidate import Candidate
from tests import conftest
from tests.conftest import Command, Instant, MakeRecord

ACC = Score("acc", "max", bounds=(0, 1))
FIRST = 4  # two segments: the baseline, each narrow, and both
Begin = Callable[..., Study]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Begin a study of few networks, or go on with it."""
    usual: dict[str, Any] = {
        "name": "shapes",
        "score": ACC,
        "runs": tmp_path,
        "max_drop": 0.05,
        "sentinels": "sentinel_width",
        "rounds": 2,
        "batch": 2,
    }

    def begin(make: Any = shapes.make_network, inputs: Any = (1, 12, 12), **more: Any) -> Study:
        return Study(make, inputs, **(usual | more))

    return begin


def scored(candidate: Candidate) -> float:
    """Stand in for a training: larger networks are better, with a little noise of their name."""
    noise = sum(map(ord, candidate.code)) % 7 / 1000
    return 0.95 - 0.02 * (12 - math.log(candidate.cost.params)) + noise


def first_four(study: Study) -> None:
    for _ in range(4):
        candidate = study.ask()
        assert isinstance(candidate, Candidate)
        study.tell(candidate, scored(candidate))


@functools.cache
def plan() -> planning.Plan:
    return planning.trace(shapes.make_network(), (1, 12, 12))


# --- the loop


def test_a_loop_gets_the_baseline_then_sentinels_then_proposals_each_once(begin: Begin) -> None:
    study = begin()
    candidates = finish(study, scored)
    codes = [c.code for c in candidates]
    assert len(set(codes)) == len(codes) == 4 + 2 * 2
    origins = [c.origin for c in candidates]
    assert origins == ["sentinel_width"] * 4 + ["round1"] * 2 + ["round2"] * 2
    (first,) = (r for r in study.records() if r.network == codes[0])
    assert first.kind is Kind.baseline
    assert candidates[0].cost.params == max(c.cost.params for c in candidates)
    assert study.ask() is None and begin().ask() is None
    answer = study.answer()
    assert answer.drop <= 0.05 and answer.cost.params < answer.baseline_cost.params
    assert answer.code in str(answer) and "nothing to export" in str(answer)


def test_the_records_are_those_of_a_command(begin: Begin) -> None:
    study = begin()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    study.tell(candidate, 0.5, metrics={"loss": 1.5}, epochs=7)
    (record,) = study.records()
    assert (record.score, record.scored_by, record.epochs) == (0.5, study.score, 7)
    assert record.metrics == {"loss": 1.5} and record.status is Status.finished
    assert record.network == candidate.code and record.params == candidate.cost.params
    assert Store(study.folder.parent).read(candidate.folder) == record


def test_a_network_is_that_of_its_code_and_its_weights_that_of_its_seed(begin: Begin) -> None:
    study = begin()
    state = torch.random.get_rng_state()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    study.release(candidate)
    again = study.ask()
    assert isinstance(again, Candidate) and again.code == candidate.code
    one, other = candidate.network.state_dict(), again.network.state_dict()
    elsewhere = study.network(candidate.code).state_dict()
    assert all(torch.equal(one[n], other[n]) and torch.equal(one[n], elsewhere[n]) for n in one)
    drawn = study.network(candidate.code, seed=1).state_dict()
    assert not torch.equal(one["0.0.weight"], drawn["0.0.weight"])
    assert sum(p.numel() for p in candidate.network.parameters()) == candidate.cost.params
    assert candidate.network.training
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_same_records_give_the_same_proposals_whoever_asks(
    begin: Begin, tmp_path: Path
) -> None:
    whole = [c.code for c in finish(begin(runs=tmp_path / "one"), scored)]
    codes = []
    while candidate := (study := begin(runs=tmp_path / "other")).ask():  # a new process each time
        codes.append(candidate.code)
        study.tell(candidate, scored(candidate))
    assert codes == whole


def test_front_lists_what_no_network_beats(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    study = begin()
    finish(study, scored)
    front = study.front()
    assert [f.cost.params for f in front] == sorted(f.cost.params for f in front)
    assert [f.score for f in front] == sorted(f.score for f in front)
    assert {f.code for f in front} <= {r.network for r in study.records()}
    belief = study._asking.believe()
    prices = -belief.state.log_costs  # as latencies might be, the largest network is the cheapest
    other = replace(belief, state=replace(belief.state, log_costs=prices))
    monkeypatch.setattr(study._asking, "believe", lambda: other)
    (one,) = study.front()
    assert one.cost.params == max(r.params for r in study.records())


def test_a_score_where_less_is_better_finds_the_same(begin: Begin, tmp_path: Path) -> None:
    def told(score: Score, runs: str) -> list[str]:
        study, codes = begin(score=score, runs=tmp_path / runs), []
        while candidate := study.ask():
            codes.append(candidate.code)
            value = scored(candidate)
            study.tell(candidate, 1 - value if score.sign < 0 else value)
        return codes

    assert told(ACC, "up") == told(Score("error", "min", bounds=(0, 1)), "down")


# --- what is told


def test_what_is_told_twice_changes_nothing(begin: Begin) -> None:
    study = begin()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    study.tell(candidate, 0.5)
    (record,) = study.records()
    study.tell(candidate, 0.5)
    study.tell(candidate.code, torch.tensor(0.5))
    assert study.records() == [record]
    text = refused(lambda: study.tell(candidate, 0.6))
    assert "was told before: 0.5, and now 0.6" in text and "replace=True" in text
    study.tell(candidate, 0.6, replace=True)
    assert [r.score for r in study.records()] == [0.6]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_diverged_and_is_not_tried_again(
    begin: Begin, value: float
) -> None:
    study = begin()
    first_four(study)
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    study.tell(candidate, value)
    (record,) = [r for r in study.records() if r.network == candidate.code]
    assert record.status is Status.diverged and str(value) in str(record.error)
    assert candidate.code not in {c.code for c in finish(study, scored)}


def test_a_baseline_that_diverged_ends_the_study(begin: Begin) -> None:
    study = begin()
    baseline = study.ask()
    assert isinstance(baseline, Candidate)
    study.tell(baseline, math.nan)
    assert "the baseline diverged" in refused(study.ask)
    study.tell(baseline, 0.5, replace=True)
    assert isinstance(study.ask(), Candidate)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (93.5, "is 93.5, and it lies from 0 to 1: nothing was recorded. Is it in percent?"),
        (-1, "lies from 0 to 1"),
        ("0.9", "is a str, and it must be a number"),
        (True, "is a bool"),
        (None, "tell a number"),
        (torch.zeros(2), "is a Tensor"),
        ({"acc": 0.5}, "what was told has no score, but acc"),
    ],
)
def test_what_is_no_score_is_refused_and_can_be_told_again(
    begin: Begin, value: Any, said: str
) -> None:
    study = begin()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    assert said in refused(lambda: study.tell(candidate, value))
    assert not study.records()
    study.tell(candidate, {"score": 0.5, "loss": 2.0})
    assert study.records()[0].metrics == {"loss": 2.0}


def test_what_was_never_asked_for_is_refused(begin: Begin) -> None:
    study = begin()
    smallest = plan_code(study)
    assert "was never asked for" in refused(lambda: study.tell(smallest, 0.5))
    assert "study.add(code, score)" in refused(lambda: study.fail(smallest))
    assert "is not a network code" in refused(lambda: study.tell("resnet", 0.5))
    assert "can keep" in refused(lambda: study.tell("d9-2_w16-32", 0.5))
    assert "is no candidate" in refused(lambda: study.tell(7, 0.5))  # type: ignore[arg-type]


def plan_code(study: Study) -> str:
    return study._asking.search.space.code(study.plan.smallest)


def test_weights_are_kept_and_another_networks_are_refused(begin: Begin) -> None:
    study = begin()
    baseline = study.ask()
    other = study.ask()
    assert isinstance(baseline, Candidate) and isinstance(other, Candidate)
    text = refused(lambda: study.tell(other, 0.5, weights=baseline.network.state_dict()))
    assert f"the weights that were told for {other.code} do not fit this network" in text
    assert not study.records()
    with torch.no_grad():
        for parameter in baseline.network.parameters():
            parameter.add_(1)
    study.tell(baseline, 0.5)
    loaded, told = study.trained(baseline.code).state_dict(), baseline.network.state_dict()
    assert all(torch.equal(loaded[n], told[n]) for n in told)
    assert "no weights of" in refused(lambda: study.trained(other.code))


@pytest.mark.parametrize("none", [None, False])
def test_a_result_may_be_told_without_weights(
    begin: Begin, caplog: pytest.LogCaptureFixture, none: bool | None
) -> None:
    study = begin()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    study.tell(candidate, 0.5, weights=none)
    assert "no weights of" in refused(lambda: study.trained(candidate.code))
    assert "has changed" not in caplog.text


def test_a_network_that_did_not_learn_is_told_of(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    study = begin()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    _ = candidate.network
    study.tell(candidate, 0.5)
    assert f"no parameter of {candidate.code} has changed" in caplog.text


# --- failures


def test_what_fails_is_offered_once_more_and_then_left_out(begin: Begin) -> None:
    study = begin()
    first_four(study)
    one = study.ask()
    assert isinstance(one, Candidate)
    study.fail(one, RuntimeError("no more memory"))
    two = study.ask()
    assert isinstance(two, Candidate) and two.code == one.code
    study.fail(two, "again")
    (record,) = [r for r in study.records() if r.network == one.code]
    assert (record.status, record.error) == (Status.failed, "again")
    assert one.code not in {c.code for c in finish(study, scored)}
    study.enqueue(one.code)
    three = study.ask()
    assert isinstance(three, Candidate) and (three.code, three.origin) == (one.code, "enqueued")


def test_a_training_that_raises_is_recorded_and_one_that_is_stopped_is_free(begin: Begin) -> None:
    study = begin()
    with pytest.raises(ZeroDivisionError), study.training() as candidate:
        _ = 1 / 0
    (record,) = study.records()
    assert record.status is Status.failed and record.error == "ZeroDivisionError: division by zero"
    assert "1 / 0" in (Path(study.folder) / record.network / "seed0" / "traceback.txt").read_text()
    with pytest.raises(KeyboardInterrupt), study.training() as candidate:
        raise KeyboardInterrupt
    assert isinstance(candidate, Candidate)
    again = study.ask()
    assert isinstance(again, Candidate) and again.code == candidate.code
    study.release(again)

    def nothing() -> None:
        with study.training():
            pass

    assert "nothing was told of" in refused(nothing)
    with study.training() as candidate:
        study.tell(candidate, 0.5)
    assert [r.score for r in study.records() if r.network == candidate.code] == [0.5]


# --- other networks


class Meets(nn.Module):  # and takes another way there
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 64, 3), nn.Conv2d(64, 64, 3)
        self.head = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        z = self.two(y) + (self.two(y) if y.shape[1] == 24 else 0)
        return self.head(z.mean((2, 3)))


def test_a_network_that_is_not_what_is_counted_is_recorded_as_failed_and_never_offered(
    begin: Begin,
) -> None:
    study = begin(Meets, options={"segment.kind": "channels"}, sentinels="sentinel_width")
    study.enqueue("w24-64")
    offered = {candidate.code for candidate in finish(study, scored)}
    assert "w64-64" in offered and "w24-64" not in offered
    (record,) = [r for r in study.records() if r.network == "w24-64"]
    assert record.status is Status.failed
    assert "w24-64 of Meets is not the network that is counted: in two, it has" in record.error


def test_what_is_enqueued_comes_first_and_what_is_added_counts(begin: Begin) -> None:
    study = begin()
    code = plan_code(study)
    study.enqueue(code)
    candidate = study.ask()
    assert isinstance(candidate, Candidate) and candidate.code == code
    study.tell(candidate, scored(candidate))
    for _ in range(2):
        candidate = study.ask()
        assert isinstance(candidate, Candidate)
        study.tell(candidate, scored(candidate))
    left = next(
        c for c in ("d2-2_w16-8", "d2-2_w8-32", "d2-2_w8-8") if (study.folder / c).exists() is False
    )
    study.add(left, 0.7, epochs=3)
    study.add(left, 0.7, epochs=3)
    assert "was told before" in refused(lambda: study.add(left, 0.8))
    rest = [c.code for c in finish(study, scored)]
    assert left not in rest and code not in rest


def test_finalists_are_tested_with_seeds_of_their_own(begin: Begin) -> None:
    study = begin()
    finish(study, scored)
    final = next(iter(study.finalists(seeds=2)))
    assert "is a finalist: tell its score on test" in refused(lambda: study.tell(final, 0.8))
    study.release(final)
    finals = []
    for candidate in study.finalists(seeds=2, retries=0):
        finals.append((candidate.code, candidate.seed))
        study.tell(candidate, scored(candidate), test=scored(candidate) - 0.01 * candidate.seed)
    answer = study.answer()
    assert len(finals) == 4 and {seed for _, seed in finals} == {1, 2}
    assert {code for code, _ in finals} == {answer.code, finals[0][0]}
    assert answer.test is not None and answer.test.seeds == 2 and answer.test.std is not None
    assert "on test" in str(answer)
    seen = study._asking.believe()  # with what val says of the finalists
    assert answer.promise == seen.promises[seen.history.space.parse(answer.code)]
    assert not list(study.finalists(seeds=2, retries=0))  # what was told is not offered again
    root, asked = study.folder.parent, {"finalists.seeds": 2, "finalists.count": 1}
    assert asked.items() <= loop_settings.search(root, "shapes").items()  # of a command, too
    again = (begin(), Study.open("shapes", runs=root, trust=True))
    assert asked.items() <= loop_settings.search(root, "shapes").items()
    assert all(study.answer().promise == answer.promise for study in again)  # of as many seeds


def test_what_was_tested_is_listed_beside_the_answer_and_each_look_at_test_counts(
    begin: Begin,
) -> None:
    """As after a command: the page and the card are the same, whoever asked last."""
    study = begin(options={"objective.confidence": 0.6}, max_drop=0.07)
    while candidate := study.ask():
        study.tell(candidate, scored(candidate), weights=candidate.network)
    tested: list[str] = []
    for candidate in study.finalists(seeds=1, retries=2):
        tested.append(candidate.code)
        test = 0.6 if len(tested) == 2 else 0.8  # the first answer loses too much
        study.tell(candidate, scored(candidate), test=test, weights=candidate.network)
    told = last_comparison.read(study.answer().folder or Path())
    assert told is not None and told.networks_tested == 3
    baseline, failed, kept = tested
    roles = {"baseline": baseline, "answer": kept, "finalist 2": failed}
    assert {row.role: row.network for row in told.results} == roles
    other = next(r.network for r in study.records() if r.network not in tested)
    study.add(other, 0.5, test=0.5, seed=9)
    assert dict(study.answer().rows)["tested"].startswith("4 networks; each look at test makes")


def test_what_is_promised_since_finalists_scored_on_val_and_is_cheaper_is_tested_too(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asks for the smallest network is not handed a larger one that was tested first."""

    def finals(study: Study, **limits: int) -> list[str]:
        codes: dict[str, None] = {}
        for candidate in study.finalists(seeds=2, **limits):
            codes[candidate.code] = None
            study.tell(candidate, scored(candidate), test=scored(candidate) - 0.01 * candidate.seed)
        return list(codes)

    study = begin()
    finish(study, scored)
    _, first = finals(study, retries=0)
    larger = study.answer()
    assert larger.code == first
    assert "finalists.retries=0 allows no further test" in caplog.text
    named = dict(study.answer().rows)["cheaper"]
    assert "was not tested, and is" in named
    with caplog.at_level("INFO"):
        (cheaper,) = finals(begin(), retries=2)
    assert named.startswith(f"{cheaper}, ") and "it is tested, too" in caplog.text
    again = begin()
    assert again.answer().code == cheaper and again.answer().is_kept
    assert again.answer().cost.params < larger.cost.params
    assert not finals(again, retries=2) and again.answer().code == cheaper


@pytest.mark.parametrize("told", ["one seed", "failures"])
def test_the_test_of_a_cheaper_network_goes_on_after_a_kill_and_ends_where_it_fails(
    begin: Begin, told: str
) -> None:
    study, codes = begin(), dict[str, None]()
    finish(study, scored)
    for candidate in study.finalists(seeds=2, retries=2):
        codes[candidate.code] = None
        if len(codes) < 3:
            study.tell(candidate, scored(candidate), test=0.5)
        elif told == "one seed":
            study.tell(candidate, scored(candidate), test=0.5)
            break  # the process is killed
        else:
            study.fail(candidate, "out of memory")
    _, first, cheaper = codes
    again = begin()
    if told == "failures":
        assert study.answer().code == again.answer().code == first
        return
    left = next(again.finalists(seeds=2, retries=2))
    assert (left.code, left.seed) == (cheaper, 2)
    again.tell(left, scored(left), test=0.5)
    assert not list(again.finalists(seeds=2, retries=2))
    answer = again.answer()
    assert answer.code == cheaper and answer.test is not None and answer.test.seeds == 2


def test_a_finished_loop_that_is_repeated_asks_for_nothing_though_its_finalists_taught_it(
    begin: Begin,
) -> None:
    """The search had ended for no gain; what finalists scored on val may promise one by now."""
    study = begin(options={"min_gain": 0.2})
    asked = finish(study, scored)
    for candidate in study.finalists(seeds=2, retries=0):
        lower = 0.3 if candidate.code == asked[0].code else 0.0  # so that smaller ones are enough
        study.tell(candidate, scored(candidate) - lower, test=0.5)
    assert len(asked) < 8 and not finish(begin(options={"min_gain": 0.2}), scored)
    more = finish(begin(options={"min_gain": 0.1}), scored)  # or more rounds, or new trainings
    assert more and more[0].origin.startswith("round")


def test_what_finalists_have_told_so_far_does_not_change_which_are_asked_for(begin: Begin) -> None:
    study = begin()
    finish(study, scored)
    first = next(iter(study.finalists(seeds=3)))
    study.tell(first, scored(first), test=0.8)
    study._asking.judge()
    assert study._asking.conf.finalists.seeds == 3  # another process counts on as many
    again = begin()
    again._asking.judge()
    assert again._asking.conf.finalists.seeds == 3
    for seeds, retries in ((0, 0), (-1, 0), (1, -1)):
        said = refused(lambda s=seeds, r=retries: list(again.finalists(seeds=s, retries=r)))
        assert "seeds and count are at least 1" in said
    assert begin()._asking.conf.finalists.seeds == 3  # what was refused is not kept


def test_an_answer_without_weights_is_told_as_any_other_and_written_nowhere(begin: Begin) -> None:
    study = begin()
    finish(study, scored)
    before = study._asking.believe()
    answer, rows = study.answer(), dict(study.answer().rows)
    assert answer.folder is None and not (study.folder / "best").exists()
    assert rows["weights"] == "none of it were told, so there is nothing to export"
    front = trade_offs.size(study.records(), study._asking.conf.objective)
    assert ("trade-off" in rows) == bool(front)
    traded = begin(name="traded", options={"objective.kind": "tradeoff"})
    finish(traded, scored)
    assert "networks are on the front" in dict(traded.answer().rows)["trade-off"]
    named = {"untrained", "cheaper", "likeliest"} & rows.keys()
    assert named == other_networks.further(before, answer.code).keys() and named
    assert not {"best", "export"} & rows.keys()


# --- several processes


def test_what_another_process_has_is_not_offered_and_waiting_is_not_finished(begin: Begin) -> None:
    one, other = begin(), begin()
    taken = [one.ask(), one.ask()]
    also = [other.ask(), other.ask()]
    assert len({c.code for c in [*taken, *also] if isinstance(c, Candidate)}) == 4
    waiting = other.ask(wait=False)
    assert isinstance(waiting, Waiting) and waiting.pending == 4 and not waiting
    assert waiting is not None
    with one.training(wait=False) as nothing:
        assert isinstance(nothing, Waiting)
    one.release(taken[0])  # type: ignore[arg-type]
    freed = other.ask(wait=False)
    assert isinstance(freed, Candidate) and freed.code == taken[0].code  # type: ignore[union-attr]


def test_a_proposal_knows_of_what_is_being_trained(begin: Begin) -> None:
    one, other = begin(), begin()
    first_four(one)
    proposed, pending = one.ask(), other.ask()
    assert isinstance(proposed, Candidate) and isinstance(pending, Candidate)
    assert proposed.code != pending.code


def test_two_searches_do_not_get_the_same_network_where_folders_do_not_hold_its_code(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LONGEST", 3)
    one, other = begin(), begin(batch=3)  # each with plans of its own
    first_four(one)
    proposed, pending = one.ask(), other.ask()
    assert isinstance(proposed, Candidate) and isinstance(pending, Candidate)
    assert proposed.code != pending.code


def test_a_lease_outlives_its_process_and_ends(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = begin(), begin()
    leased = one.ask(lease_s=60)
    assert isinstance(leased, Candidate)
    offered = other.ask()
    assert isinstance(offered, Candidate) and offered.code != leased.code
    other.release(offered)
    with monkeypatch.context() as patch:  # a machine with a clock of its own
        patch.setattr(time, "time", lambda: 0.0)
        assert 50 < leases.seconds_left(leased.folder) <= 60
    job = begin()
    taken = job.take(leased.code)
    assert "another process is training" in refused(lambda: other.take(leased.code))
    job.tell(taken, 0.5)
    assert "is done already" in refused(lambda: other.take(leased.code))
    again = one.ask(lease_s=0.05)
    assert isinstance(again, Candidate)
    time.sleep(0.1)
    late = other.ask()
    assert isinstance(late, Candidate) and late.code == again.code  # it expired
    one.tell(again, 0.6)  # a late result counts
    other.tell(late, 0.7, weights=late.network)  # and the first one stays
    assert [r.score for r in one.records() if r.network == late.code] == [0.6]
    assert not (late.folder / LAST_CHECKPOINT).exists()  # which has no weights of another's
    renewed = one.ask(lease_s=0.05)
    assert isinstance(renewed, Candidate)
    one.renew(renewed, 60)
    time.sleep(0.1)
    assert leases.seconds_left(renewed.folder) > 50
    assert "is none" in refused(lambda: one.renew(renewed, 0))


def test_processes_of_one_training_wait_between_what_they_share_and_not_while_they_do(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would wait within a collective call, which has a limit of its own."""
    study, other = begin(), begin()
    taken = [other.ask() for _ in range(FIRST)]
    shared, shown = ranks.shared, list[Any]()

    def look(work: Callable[[], Any]) -> Any:
        shown.append(shared(work))
        if len(shown) == 2:
            other.release(taken[0])  # type: ignore[arg-type]
        return shown[-1]

    monkeypatch.setattr(ranks, "shared", look)
    monkeypatch.setattr(patience, "LOOK_S", 0.0)
    assert isinstance(study.ask(), Candidate)
    assert [bool(one) for one in shown] == [False, False, True]


def test_of_several_processes_that_train_one_network_the_first_one_renews(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin()
    asked = study.ask(lease_s=0.05)
    assert isinstance(asked, Candidate)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    study.renew(asked, 60)
    assert leases.seconds_left(asked.folder) < 1
    monkeypatch.setattr(ranks, "rank", lambda: 0)
    study.renew(asked, 60)
    assert leases.seconds_left(asked.folder) > 50


def test_a_lease_that_ran_out_is_not_renewed_once_another_process_has_the_network(
    begin: Begin,
) -> None:
    one, other = begin(), begin()
    asked = one.ask(lease_s=0.05)
    assert isinstance(asked, Candidate)
    time.sleep(0.1)
    one.renew(asked, 0.05)  # nobody has it
    time.sleep(0.1)
    claimed = other.ask()
    assert isinstance(claimed, Candidate) and claimed.code == asked.code
    assert "another process has" in refused(lambda: one.renew(asked, 60))
    assert not leases.seconds_left(asked.folder)
    other.release(claimed)
    one.renew(asked, 60)
    assert leases.seconds_left(asked.folder) > 50


def test_whoever_leased_a_network_may_renew_while_its_job_trains_and_after_it_was_killed(
    begin: Begin,
) -> None:
    one, job, other = begin(), begin(), begin()
    asked = one.ask(lease_s=60)
    assert isinstance(asked, Candidate)
    taken = job.take(asked.code)
    one.renew(asked, 60)
    assert not leases.seconds_left(asked.folder)  # what the job gives back is free
    assert "another process has" in refused(lambda: other.renew(asked, 60))
    job.release(taken)  # as if it was killed
    one.renew(asked, 60)
    assert leases.seconds_left(asked.folder) > 50
    again = job.take(asked.code)
    job.tell(again, 0.5)
    assert "is done already" in refused(lambda: one.renew(asked, 60))


def test_processes_of_one_training_that_do_not_know_each_other_are_refused(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    text = refused(study.ask)
    assert "process 1 of 2" in text and "init_process_group" in text
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("LOCAL_RANK", "1")  # as Lightning starts them
    assert "devices=1" in refused(study.ask)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert study.ask()


def test_a_study_is_not_begun_anew_where_the_current_folder_has_changed(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    study = begin(runs="runs")
    first_four(study)
    monkeypatch.chdir(tmp_path / "other")
    for go in (study.ask, study.answer, study.front, study.page, study.export):
        assert "change back, or begin with runs= and a whole path" in refused(go)
    assert not list((tmp_path / "other").iterdir())
    monkeypatch.chdir(tmp_path)
    assert study.ask()


def test_weights_of_a_wrapped_network_are_kept_and_what_is_no_state_dict_is_refused(
    begin: Begin,
) -> None:
    study = begin()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    state = {n: torch.ones_like(t) for n, t in candidate.network.state_dict().items()}
    for odd in ("best.pt", {"0.0.weight": np.ones(3)}):
        told = functools.partial(study.tell, candidate, 0.5, weights=odd)
        assert "no state dict of tensors: give weights=network.state_dict()" in refused(told)
    study.tell(candidate, 0.5, weights={f"module._orig_mod.{n}": t for n, t in state.items()})
    kept = study.trained(candidate.code).state_dict()
    assert kept.keys() == state.keys() and all(torch.equal(kept[n], state[n]) for n in kept)


def test_results_are_of_one_training_where_nothing_that_is_known_of_both_differs(
    make_record: MakeRecord,
) -> None:
    tested = make_record(score=0.5, test_score=0.4)
    assert results.are_one(tested, make_record(score=0.5, test_score=None))
    for score, test_score in ((0.5, 0.3), (0.4, 0.4), (0.4, None), (None, 0.4)):
        assert not results.are_one(tested, make_record(score=score, test_score=test_score))


def test_weights_may_be_told_after_their_score(begin: Begin, caplog: Any) -> None:
    study = begin()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    state = candidate.network.state_dict()
    study.tell(candidate, 0.5, weights=None)
    assert not (candidate.folder / LAST_CHECKPOINT).exists()
    study.tell(candidate.code, 0.5, weights=state)
    assert (candidate.folder / LAST_CHECKPOINT).exists()
    study.add(candidate.code, 0.5, weights=state)
    assert f"{candidate.code} has weights: these are not kept" in caplog.text


def test_a_candidate_of_another_study_is_refused(begin: Begin) -> None:
    one, other = begin(name="one"), begin(name="other")
    mine, theirs = one.ask(), other.ask()
    assert isinstance(mine, Candidate) and isinstance(theirs, Candidate)
    said = f"{theirs.code} is a candidate of study other, and this one is one: tell it there"
    assert said in refused(lambda: one.tell(theirs, 0.5))
    assert said in refused(lambda: one.release(theirs))
    assert not one.records()


def test_a_method_of_an_object_is_no_name_that_can_be_imported(begin: Begin, caplog: Any) -> None:
    class Maker:
        def make(self) -> nn.Module:
            return shapes.make_network()

    Maker.make.__qualname__ = "make_network"  # as if it stood in the module
    Maker.make.__module__ = shapes.__name__
    study = begin(Maker().make)
    assert "make_network has no name that can be imported" in caplog.text
    first_four(study)
    assert study.answer().code


def test_what_a_wrapper_makes_is_not_named_as_what_it_wraps(begin: Begin, caplog: Any) -> None:
    @functools.wraps(shapes.make_network)
    def make() -> nn.Module:
        return shapes.make_network()

    begin(make)
    assert "make_network has no name that can be imported" in caplog.text


def test_a_decorated_function_is_found_after_its_module_was_loaded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import functools\n\n@functools.cache\ndef make(): ...\n"
    (tmp_path / "decorated_nets.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("decorated_nets")
    make = module.make
    assert importlib.reload(module).make != make
    assert user_code.is_found("decorated_nets.make", make)
    for wrapped in (make, module.make):
        again = functools.wraps(wrapped)(lambda: wrapped())  # noqa: B023
        assert not user_code.is_found("decorated_nets.make", again)


def test_what_a_spawned_process_calls_its_script_is_the_scripts_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make() -> None: ...

    make.__qualname__ = "make"
    monkeypatch.setattr(user_code, "script_module", lambda: "own_loop")
    for module in ("__main__", "__mp_main__"):
        make.__module__ = module
        assert user_code.name_of(make) == "own_loop.make"


def test_an_answer_without_weights_is_not_exported_as_the_one_before(begin: Begin) -> None:
    study = begin()
    answer: Any = types.SimpleNamespace(folder=None, code="d1_w8")
    said = refused(lambda: results.to_export(study._asking, answer))
    assert "no weights of d1_w8, the answer" in said


# --- a study that is there


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"score": Score("acc", "max", bounds=(0, 2))}, "task.score.bounds is [0.0, 1.0] there"),
        ({"score": Score("acc", "min", bounds=(0, 1))}, "task.score.direction is max there"),
        ({"score": Score("iou", "max", bounds=(0, 1))}, "task.score.key is acc there and iou here"),
        ({"segment": "block"}, "segment"),
        ({"multiple": 4}, "segment.multiple is 8 there and 4 here"),
        ({"inputs": (1, 16, 16)}, "inputs is 1x12x12 there and 1x16x16 here"),
        ({"make": lambda: shapes.make_network()[1:]}, "inputs"),
    ],
)
def test_a_study_that_is_another_one_is_refused(
    begin: Begin, more: dict[str, Any], said: str
) -> None:
    begin().ask()
    if "make" in more:
        more = {"make": functools.partial(wider, 2), "inputs": (1, 12, 12)}
        said = "model.parameters is 16530 there and 18706 here"
    text = refused(lambda: begin(**more))
    assert "the study shapes in" in text and said in text


def wider(factor: int) -> nn.Module:
    network = shapes.make_network()
    network[-1] = nn.Sequential(nn.Linear(32, 32 * factor), nn.ReLU(), nn.Linear(32 * factor, 2))
    return network


def test_a_study_is_opened_by_its_name(begin: Begin, tmp_path: Path) -> None:
    first_four(begin())
    opened = Study.open("shapes", runs=tmp_path, trust=True, options={"rounds": 1, "batch": 1})
    assert len(finish(opened, scored)) == 1 and opened.score.key == ACC.key
    assert "there is no study pets" in refused(lambda: Study.open("pets", runs=tmp_path))
    assert "trust=True" in refused(lambda: Study.open("shapes", runs=tmp_path))


def test_a_study_goes_on_with_its_latencies_its_other_runs_and_its_epochs(
    begin: Begin, tmp_path: Path
) -> None:
    options = {"latency.runtime": "eager", "latency.batch": 4}
    options |= {"latency.source": "file", "latency.file": "/a b/é.json"}
    options |= {"runs.timeout_s": 5.0, "trainer.max_epochs": 7, "budget.epochs": 700}
    options |= {"modifiers.c_ratios_of": {"*": [0.5, 1.0]}}
    begun = begin(options=options)._conf
    opened = Study.open("shapes", runs=tmp_path, trust=True)._conf
    assert (opened.latency, opened.runs, opened.budget) == (begun.latency, begun.runs, begun.budget)
    assert opened.trainer.max_epochs == 7 and opened.modifiers == begun.modifiers


@pytest.mark.usefixtures("repeatable")
def test_of_a_search_that_ended_python_trains_nothing_more_and_answers_its_question(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    words = ("modifiers=sentinel_width", "rounds=1", "batch=1", "name=pets", "seed=3")
    words += ("objective=smallest", "objective.max_drop=3", "finalists.seeds=0")
    ended = command(*words, script="search.py")  # of instant trainings no weights are handed over
    assert ended.lines("the search ends: the round is done"), ended.text
    logging.getLogger().handlers.clear()  # the command's log file
    study = Study.open("pets", runs=tmp_path / "runs")
    assert study.ask() is None
    answer = study.answer()
    assert answer.allowed == 3.0 and answer.folder is None
    said = refused(study.export)  # whatever else best/ holds
    assert f"no weights of {answer.code}, the answer, are there" in said


def test_a_study_that_is_opened_looks_at_the_networks_that_it_did_or_at_those_that_are_asked_for(
    begin: Begin, tmp_path: Path
) -> None:
    begun = begin(frozen=["0-1"], options={"segment.width_steps": 4})
    opened = Study.open("shapes", runs=tmp_path, trust=True)
    assert opened._asking.search.space.lattice.size == begun._asking.search.space.lattice.size
    options = {"segment.frozen": [], "segment.width_steps": 2}
    other = Study.open("shapes", runs=tmp_path, trust=True, options=options)
    assert not any(segment.frozen for segment in other.plan.segments)
    assert other._conf.segment.width_steps == 2


def test_a_study_whose_cost_cannot_fall_is_not_begun_and_one_that_was_begun_can_be_read(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = {"segment": "superblock", "cost": "gemms"}
    said = refused(lambda: begin(**wide))
    assert "so objective.cost=gemms cannot fall: type objective.cost=params or macs" in said
    with monkeypatch.context() as earlier:
        earlier.setattr(caps, "check_cost_varies", lambda *_: None)
        first_four(begin(**wide))
    opened = Study.open("shapes", runs=tmp_path, trust=True)
    assert opened._conf.objective.cost == "gemms" and len(opened.records()) == 4
    assert opened.answer().code in {record.network for record in opened.records()}


def test_a_study_of_a_loop_goes_on_with_the_networks_of_its_last_search_by_command(
    begin: Begin, tmp_path: Path
) -> None:
    folder = begin(frozen=["0-1"]).folder

    def last_search(*words: str) -> Study:
        begun = study_names.Begun(asked=(study_names.Asked(command="search", words=words),))
        (folder / study_names.FILE).write_text(begun.model_dump_json())
        return Study.open("shapes", runs=tmp_path, trust=True)

    opened = last_search("segment.width_steps=4", "segment.frozen=[]")
    assert opened._conf.segment.width_steps == 4
    assert not any(segment.frozen for segment in opened.plan.segments)
    assert last_search("batch=3").plan.segments[0].frozen  # as it was begun


@pytest.mark.parametrize("key", ["segment.kind", "task.score", "dataset.name", "recipe.lr"])
def test_what_a_study_was_begun_with_is_no_option_of_opening_it(
    begin: Begin, tmp_path: Path, key: str
) -> None:
    begin()
    said = refused(lambda: Study.open("shapes", runs=tmp_path, trust=True, options={key: "x"}))
    assert key in said and "that it was begun with" in said


def test_that_the_code_of_the_network_was_edited_is_said_in_each_session(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begin()
    path = tmp_path / "shapes" / saved.NETWORK
    fields = files.read_fields(path)
    fields["model"]["code"] = "0" * 16  # as it was then
    path.write_text(json.dumps(fields))
    for _ in range(2):
        caplog.clear()
        study = begin()
        assert "was edited since the study shapes was begun" in caplog.text
        study.tell(study.ask(), 0.5)  # type: ignore[arg-type]
    assert files.read_fields(path)["model"]["code"] == "0" * 16


def test_of_what_a_study_says_of_itself_only_its_search_is_read(
    begin: Begin, tmp_path: Path
) -> None:
    begin()
    path = tmp_path / "shapes" / studies.FILE
    fields = files.read_fields(path)
    fields["settings"]["search"] |= {"task.target": "os.system", "paths.data": "/elsewhere"}
    path.write_text(json.dumps(fields))
    opened = Study.open("shapes", runs=tmp_path, trust=True)._conf
    assert opened.task.target is None and opened.paths.data == "data"
    assert loop_settings.search(tmp_path, "shapes").keys().isdisjoint({"task.target", "paths.data"})


def test_a_study_that_a_command_began_goes_on_with_the_words_of_its_search(
    leave: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = leave("dataset.val_fraction=0.2", network="d1-1-1_w4-16-16", seed=3).parents[1]
    words = ("model=resnet8", "objective=smallest", "objective.max_drop=3", "seed=3", "batch=2")
    words += ("segment.width_steps=4", "latency=eager", "cap.macs=90%", "finalists.seeds=2")
    asked = study_names.Asked(command="search", words=(*words, "runs.entity=somebody"))
    note = study_names.Begun(name="pets", asked=(asked,)).model_dump_json()
    (home / study_names.FILE).write_text(note)
    study = Study.open("pets", runs=home.parent)
    conf = study._conf
    assert (conf.objective.kind, conf.objective.max_drop) == ("smallest", 3)
    assert (conf.seed, conf.batch, conf.rounds, conf.cap.macs) == (3, 2, 3, "90%")
    assert (conf.segment.width_steps, conf.latency.runtime) == (4, "eager")
    assert conf.finalists.seeds == 2 and conf.runs.entity is None  # which takes trust
    assert "was searched with runs.entity=somebody, which is taken with trust=True" in caplog.text
    mine = Study.open("pets", runs=home.parent, options={"objective.max_drop": 1})._conf
    assert (mine.objective.kind, mine.objective.max_drop) == ("smallest", 1)


def test_a_commands_answer_is_the_same_for_whoever_asks(tmp_path: Path) -> None:
    """Also where nothing was tested: the images that a promise is made by are known to all."""
    shutil.copytree(conftest.ROOT / "results/demo", tmp_path / "demo")
    store = Store(tmp_path / "demo")
    (best,) = store.root.glob("*/best")
    rows = answer_block.read(store, best.parent.name)
    answer = Study.open(best.parent.name, runs=store.root, trust=True).answer()
    assert str(answer) == "\n".join(terminal.block(rows))
    shutil.rmtree(best)
    untested = Study.open(best.parent.name, runs=store.root, trust=True).answer()
    assert untested.code == answer.code and untested.promise == answer.promise
    assert "trained on train" not in str(untested)


# --- bad input


def counting() -> Iterator[int]:
    yield from range(1, 100)


WIDTHS = counting()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"make": shapes.make_network()}, "make_network is a Sequential: give a function"),
        ({"make": lambda: 3}, "returns an int, not a torch.nn.Module"),
        ({"make": lambda: 1 / 0}, "make_network() fails: in test_study.py, line "),
        ({"make": functools.cache(shapes.make_network)}, "one and the same network each time"),
        ({"make": lambda: wider(next(WIDTHS))}, "does not make the same network twice: 6.0 is"),
        ({"name": "a/b"}, "cannot be a study's name"),
        ({"name": ""}, "cannot be a study's name"),
        ({"score": Score("acc")}, "a score needs a name and a direction"),
        ({"score": Score("acc", "max", bounds=(1, 0))}, "give the least first"),
        ({"segment": "stages"}, "stage"),
        ({"objective": "smalest"}, "objective.kind does not take 'smalest'"),
        ({"max_drop": -1}, "is not a drop"),
        ({"init": "warm"}, "is neither 'fresh' nor 'inherit'"),
        ({"init": "inherit"}, "are drawn anew each time"),
        ({"options": {"cap.parms": "10%"}}, "no setting 'cap.parms'; the nearest names are cap."),
        ({"options": {"budget.runs": 3}}, "does not cover the 4 first networks"),
        ({"options": {"cap.params": "0.001%"}}, "no network keeps to cap.params"),
        ({"options": {"recipe.lr": 0.1}}, "'recipe.lr': ...} is of trainings of ours"),
        ({"options": {"init.kind": "inherit"}}, "'init.kind': ...} is of trainings of ours"),
        (
            {"options": {"acquisition": "thompson"}},
            "several settings: give them by acq",
        ),
        ({"batch": 0}, "batch is 0; it must be 1 or more"),
        ({"frozen": ["stem"]}, "there is no segment 'stem' to freeze"),
        ({"inputs": (3, 12, 12)}, "does not run on"),
    ],
)
def test_what_cannot_be_begun_says_why(begin: Begin, more: dict[str, Any], said: str) -> None:
    assert said in refused(lambda: begin(**more))


def test_a_network_without_a_name_trains_and_is_told_of(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    study = begin(lambda: shapes.make_network())
    assert "no name that can be imported" in caplog.text
    assert len(finish(study, scored)) == 8


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("audio-search.py", "audio-search.py is no name of a module: call it audio_search.py"),
        ("01_search.py", "01_search.py is no name of a module: call it script_01_search.py"),
    ],
)
def test_a_script_whose_name_is_none_of_a_module_is_told_its_name(
    begin: Begin,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    said: str,
) -> None:
    main = types.ModuleType("__main__")
    main.__file__ = f"/somewhere/{script}"
    monkeypatch.setitem(sys.modules, "__main__", main)

    def make_network() -> nn.Module:
        return shapes.make_network()

    make_network.__module__, make_network.__qualname__ = "__main__", "make_network"
    begin(make_network)
    assert said in caplog.text and "a lambda" not in caplog.text


def trained_before() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return shapes.make_network()


def test_trained_weights_are_told_of_or_inherited(
    begin: Begin, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    begin(trained_before, runs=tmp_path / "fresh")
    assert "gives trained weights, and every network here starts from fresh ones" in caplog.text
    study = begin(trained_before, init="inherit")
    baseline = study.ask()
    assert isinstance(baseline, Candidate)
    own, weights = trained_before().state_dict(), baseline.network.state_dict()
    assert all(torch.equal(own[n], weights[n]) for n in own)
    assert "init" in refused(lambda: begin(trained_before))
    first = {"init": "inherit", "options": {"init.channels": "first"}}
    assert "init" in refused(lambda: begin(trained_before, **first))


def test_a_folder_that_cannot_be_written_says_so(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = begin()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        assert "full" in refused(lambda: study.tell(candidate, 0.5)).lower()
    study.tell(candidate, 0.5)  # nothing was lost by it
    assert [r.score for r in study.records()] == [0.5]
    (tmp_path / "file").write_text("")
    assert "runs" in refused(lambda: begin(runs=tmp_path / "file"))


def test_the_package_is_light(tmp_path: Path) -> None:
    code = "import ssr_exp, sys; assert not {'torch', 'omegaconf', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert {"Study", "Score", "SsrError"} <= set(dir(ssr_exp))
    with pytest.raises(AttributeError, match="no attribute 'Studi'"):
        _ = ssr_exp.Studi


def test_what_is_counted_is_what_is_built(begin: Begin) -> None:
    study = begin()
    for network in finish(study, scored):
        architecture = study._asking.search.space.parse(network.code)
        assert cost.count_one(study.plan, architecture) == network.cost


def test_the_description_names_what_makes_the_network(begin: Begin, tmp_path: Path) -> None:
    study = begin(functools.partial(wider, factor=2))
    conf = study._conf.model
    assert (conf.target, conf.arguments) == (f"{__name__}.wider", {"factor": 2})
    assert conf.source is Source.module
    record: list[Record] = study.records()
    assert not record and "networks, 0 runs, in" in repr(study)


def test_a_script_that_begins_a_study_when_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssr_exp import user_code

    (tmp_path / "unguarded.py").write_text(
        "import shapes, ssr_exp\n"
        "study = ssr_exp.Study(shapes.make_network, (1, 12, 12), name='a', score=None)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = refused(lambda: user_code.find("unguarded.study"))
    assert "if __name__ == '__main__'" in text
    logging.getLogger(__name__).debug("%s", text)


def test_a_share_of_a_score_without_bounds_is_said_when_a_study_begins(
    begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    study = begin(score=Score("snr", "max", unit="dB"), max_drop=None)
    study.ask()
    said = " ".join(capsys.readouterr().out.split())
    assert "the answer may lose 2% of the baseline's snr, and of a score without bounds" in said
    assert "in a Study max_drop=NUMBER" in said


# --- what a review found


@pytest.mark.parametrize("name", ["a+b", "a.", "-a", "a" * 101])
def test_a_name_is_that_of_its_folder_and_of_no_other(begin: Begin, name: str) -> None:
    assert "cannot be a study's name" in refused(lambda: begin(name=name))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"epochs": "10"}, "the number of epochs that was told is a str"),
        ({"epochs": 2.5}, "tell a whole number"),
        ({"epochs": -1}, "tell a whole number"),
        ({"wall_s": -1.0}, "tell seconds, 0 or more"),
        ({"wall_s": math.nan}, "tell seconds, 0 or more"),
        ({"seed": -1}, "seed=-1 is no seed"),
        ({"seed": 1.0}, "seed=1.0 is no seed"),
    ],
)
def test_numbers_that_no_record_holds_are_refused(
    begin: Begin, more: dict[str, Any], said: str
) -> None:
    study = begin()
    code = plan_code(study)
    assert said in refused(lambda: study.add(code, 0.5, **more))
    assert not study.records()


def test_numbers_of_other_libraries_are_read(begin: Begin) -> None:
    study = begin()
    score = {"score": np.float32(0.5), "loss": np.float64(2), "metrics": None}
    study.add(plan_code(study), score, epochs=np.int64(3))  # type: ignore[arg-type]
    (record,) = study.records()
    assert (record.score, record.epochs, record.metrics) == (0.5, 3, {"loss": 2.0})


def test_what_is_no_number_beside_a_score_is_left_out_and_named(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    """As of torchmetrics' mAP, whose classes are a tensor of several."""
    study = begin()
    say_once.cache_clear()
    told = {"score": 0.5, "loss": 2.0, "classes": torch.arange(3), "names": ["a"], "best": True}
    study.add(plan_code(study), told)
    study.tell(study.ask(), told)
    assert {record.metrics.get("loss") for record in study.records()} == {2.0}
    messages = [record.getMessage() for record in caplog.records]
    (said,) = [message for message in messages if "no number" in message]
    assert said.endswith("no number: classes (a Tensor), names (a list), best (a bool)")


def test_a_network_that_was_told_meanwhile_is_not_asked_again(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process tells it between the look at its record and the claim."""
    one, other = begin(), begin()
    baseline = one.ask()
    assert isinstance(baseline, Candidate)
    is_busy = Store.is_busy

    def tells_first(store: Store, folder: Path, **how: Any) -> bool:
        if folder == baseline.folder and baseline.folder in one._asking.held:
            one.tell(baseline, 0.5)
        return is_busy(store, folder, **how)

    monkeypatch.setattr(asking, "SAID", 1)  # the other one plans meanwhile: what counts waits
    monkeypatch.setattr(Store, "is_busy", tells_first)
    candidate = other.ask()
    assert isinstance(candidate, Candidate) and candidate.code != baseline.code


def test_a_loop_that_tells_nothing_does_not_wait_for_itself(begin: Begin) -> None:
    study = begin()
    asked = [study.ask() for _ in range(4)]
    assert all(isinstance(candidate, Candidate) for candidate in asked)
    assert "all that is left are 4 networks that were asked for here" in refused(study.ask)
    for candidate in asked:
        study.tell(candidate, scored(candidate))  # type: ignore[arg-type]
    finish(study, scored)
    assert "asked for here" in refused(lambda: list(study.finalists(seeds=1)))


def test_a_command_that_carries_the_search_out_is_not_waited_for_but_where_that_is_asked(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A command keeps its search for itself, and may wait for what this thread is to tell."""
    study = begin()
    baseline = study.ask()
    search = study._asking.search.book.folder
    with Store(study.folder.parent).claim(search, wait=False):
        waiting = study.ask(wait=False)
        assert isinstance(waiting, Waiting) and waiting.is_locked
        assert (waiting.pending, waiting.own) == (1, 1)
        monkeypatch.setattr(asking, "SAID", 1)
        monkeypatch.setattr(patience, "STUCK", 2)
        assert "all that is left are 1 network that were asked for here" in refused(study.ask)
        assert "another process that carries out this search" in caplog.text
    assert isinstance(study.ask(), Candidate)
    study.tell(baseline, 0.5)  # type: ignore[arg-type]


def test_what_a_command_trains_meanwhile_is_waited_for(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, other = begin(), begin()
    study.ask()
    elsewhere = other.ask()
    assert isinstance(elsewhere, Candidate)
    monkeypatch.setattr(patience, "STUCK", 1)
    ended, claim = (
        list[bool](),
        Store(study.folder.parent).claim(study._asking.search.book.folder, wait=False),
    )
    claim.__enter__()

    def wait(self: patience.Patience, waiting: Waiting) -> None:
        ended.append(waiting.own == waiting.pending)
        looked(self, waiting)
        claim.__exit__(None, None, None)

    looked = patience.Patience.wait
    monkeypatch.setattr(patience.Patience, "wait", wait)
    assert isinstance(study.ask(), Candidate) and ended == [False]


def test_finalists_are_not_waited_for_where_a_command_waits_for_this_thread(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin()
    finish(study, scored)
    finalists = study.finalists(seeds=1)
    next(finalists)
    monkeypatch.setattr(asking, "SAID", 1)
    monkeypatch.setattr(patience, "STUCK", 2)
    with Store(study.folder.parent).claim(study._asking.search.book.folder, wait=False):
        assert "asked for here" in refused(lambda: next(finalists))


LATE: dict[str, Any] = {}


def late(candidate: Candidate) -> float:
    """Train for a command, while a loop tells what it was asked for long before."""
    assert candidate.network is not None
    LATE["tell"]()
    if "error" in LATE:
        raise RuntimeError(LATE["error"])
    return 0.2


@pytest.mark.parametrize("ends", ["well", "with an error"])
def test_a_late_result_is_not_lost_to_a_command_that_trains_the_network_meanwhile(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ends: str
) -> None:
    study = begin()
    candidate = study.ask(lease_s=0.05)
    assert isinstance(candidate, Candidate) and candidate.network is not None
    with torch.no_grad():
        next(candidate.network.parameters()).fill_(7)
    time.sleep(0.1)
    job = study._asking.job(study._telling.request(candidate, None))
    monkeypatch.setattr(loop_study, "check_function", lambda _: late)
    monkeypatch.setitem(LATE, "tell", lambda: study.tell(candidate, 0.9))
    if ends != "well":
        monkeypatch.setitem(LATE, "error", "no memory")
    at = Store(study.folder.parent)
    with at.claim(candidate.folder, wait=False):
        stays = run._train(job, at, candidate.folder)
    assert stays.score == 0.9 and [r.score for r in study.records()] == [0.9]
    assert "was told meanwhile: that result stays" in caplog.text
    assert next(study.trained(candidate.code).parameters()).flatten()[0] == 7


def test_of_a_network_that_was_leased_a_result_that_comes_second_is_told_of_and_no_error(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = begin(), begin()
    asked = one.ask(lease_s=0.05)
    time.sleep(0.1)
    again = other.ask(lease_s=60)
    assert isinstance(asked, Candidate) and isinstance(again, Candidate)
    other.tell(again, 0.6)
    one.tell(asked, 0.7)
    assert [r.score for r in one.records()] == [0.6]
    assert "told by another process meanwhile: the first result stays" in caplog.text
    assert "replace=True" in refused(lambda: one.tell(asked, 0.8))  # it has told already


@pytest.mark.parametrize("what", ["fail", "add"])
def test_what_fails_or_is_added_is_written_while_nobody_else_tells(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    study, write, claimed = begin(), Store.write, list[bool]()

    def written(self: Store, folder: Path, record: Record) -> None:
        claimed.append(self.is_claimed(folder / store.TELLING))
        write(self, folder, record)

    asked = study.ask()
    assert isinstance(asked, Candidate)
    monkeypatch.setattr(Store, "write", written)
    if what == "fail":
        study.fail(asked, "no memory")
    else:
        study.add(plan_code(study), 0.5)
    assert claimed == [True]


def test_a_late_word_leaves_the_lease_of_another_alone(begin: Begin) -> None:
    one, other, third = begin(), begin(), begin()
    late = one.ask(lease_s=0.05)
    time.sleep(0.1)
    leased = other.ask(lease_s=60)
    assert isinstance(late, Candidate) and isinstance(leased, Candidate)
    assert late.code == leased.code
    assert "another process has" in refused(lambda: one.renew(late, 60))
    one.release(late)
    one.fail(late, "too late")
    candidate = third.ask()
    assert isinstance(candidate, Candidate) and candidate.code != leased.code
    assert leases.seconds_left(leased.folder) > 50


def test_where_the_answer_loses_too_much_on_test_the_next_best_is_offered(begin: Begin) -> None:
    def test_all(study: Study, retries: int | None) -> list[str]:
        codes = []
        for candidate in study.finalists(seeds=1, retries=retries):
            codes.append(candidate.code)
            lost = 0.2 if len(set(codes)) == 2 else 0.0  # the answer, and not the baseline
            study.tell(candidate, scored(candidate), test=0.8 - lost)
        return codes

    study = begin(options={"objective.confidence": 0.6}, max_drop=0.07)
    finish(study, scored)
    baseline, failed = test_all(study, 0)
    assert study.answer().code == failed and study.answer().drop == pytest.approx(0.2)
    again = begin(options={"objective.confidence": 0.6}, max_drop=0.07)  # in another process
    (kept,) = test_all(again, None)
    answer = again.answer()
    assert kept not in (baseline, failed) and answer.code == kept
    assert answer.drop == pytest.approx(0.0) and answer.promise.probability >= 0.6
    said = f"kept on test; by val alone: {answer.promise.likely} likely"
    assert dict(answer.rows)["promise"].startswith(said)
    assert not list(again.finalists(seeds=1)) and again.answer().code == kept


def test_a_drop_on_test_is_of_all_finalist_seeds_of_answer_and_baseline(begin: Begin) -> None:
    """The first seed alone would say that the answer lost too much, and test the next best."""
    options = {"objective.confidence": 0.6}
    study = begin(options=options, max_drop=0.07)
    finish(study, scored)
    codes: list[str] = []
    tests = {1: 0.9, 2: 0.7, 3: 0.7}  # of the baseline
    for candidate in study.finalists(seeds=3, retries=0):
        codes += [candidate.code] if candidate.code not in codes else []
        lost = tests[candidate.seed] if candidate.code == codes[0] else 0.75
        study.tell(candidate, scored(candidate), test=lost)
    again = begin(options=options, max_drop=0.07)
    assert not list(again.finalists(seeds=1, retries=2)) and len(codes) == 2
    answer = again.answer()
    assert answer.drop == pytest.approx(mean(tests.values()) - 0.75) and answer.is_kept
    assert answer.baseline_test is not None and answer.baseline_test.seeds == 3


def test_a_finished_loop_that_is_repeated_tells_no_old_news(
    begin: Begin, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def repeat(retries: int) -> list[str]:
        caplog.clear()
        study = begin(options={"objective.confidence": 0.6}, max_drop=0.07)
        finish(study, scored)
        first = ""
        for candidate in study.finalists(seeds=1, retries=retries):
            first = first or candidate.code
            lost = 0.0 if candidate.code == first else 0.2
            study.tell(candidate, scored(candidate), test=0.9 - lost)
        study.answer()
        return caplog.messages

    with caplog.at_level("INFO"):
        assert any("the next one is trained" in line for line in repeat(1))
        said = repeat(1)
        assert len(said) == 2  # that nothing is left to train, and why nothing more is tested
        assert "finalists.retries=1 allows no further one" in said[1]
        assert any("the next one is trained" in line for line in repeat(2))  # that is news


def test_a_broken_promise_is_said_wherever_the_answer_is(
    begin: Begin, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    study = begin(max_drop=0.07)
    finish(study, scored)
    vals, first = {1: 0.85, 2: 0.92, 3: 0.9}, ""
    for candidate in study.finalists(retries=0):
        first = first or candidate.code  # the baseline is offered first
        lost = 0.0 if candidate.code == first else 0.2 - 0.05 * candidate.seed
        weights = candidate.network.state_dict()
        study.tell(candidate, vals[candidate.seed], test=0.9 - lost, weights=weights)
    answer = study.answer()
    assert answer.is_kept is False and answer.drop == pytest.approx(0.1)
    assert "no answer that was tested loses less" in str(answer.verdict)
    weights_of = "those of seed 2: 0.9200 on val, 0.8000 on test"  # the best on val, not on test
    assert answer.training is not None and answer.training.seed == 2
    told = files.read_or_empty(study.folder / "best" / "metrics.json")
    assert told["kept"] is False and told["verdict"] == answer.verdict
    block = answer_block.read(Store(study.folder.parent), study.name)
    rows = dict(block)
    others = [("warning", one) for one in answer.warnings]
    assert list(answer.rows) == [*block, *others]  # one block, whoever prints it
    assert str(answer).splitlines() == answer_block.lines(answer.rows)
    assert rows["warning"] == answer.verdict and rows["weights"] == weights_of
    (summary,) = study_overview.read(Store(study.folder.parent))
    shown = study_outcome.describe(summary)
    promises = [rows["promise"], shown["promise"]]
    assert shown["drop"] == rows["drop"] and "0.9000 +- 0.0000 (3 seeds)" in shown["baseline"]
    assert shown["against it"] == answer.verdict
    assert promises == [promises[0]] * 2 and promises[0].startswith("broken on test")
    capsys.readouterr()
    study.export("torch_export")
    assert weights_of in capsys.readouterr().out and str(answer.verdict) in caplog.text


def test_without_a_network_that_reaches_the_confidence_none_is_called_the_answer(
    begin: Begin,
) -> None:
    options = {"objective.confidence": 0.999, "cap.params": "90%"}
    study = begin(max_drop=0.01, options=options)
    finish(study, scored)
    answer = study.answer()
    assert answer.promise.probability < 0.999 and answer.is_kept is None
    rows = dict(answer.rows)
    assert rows["answer"].endswith(f"{answer.code}, not promised")
    assert "objective.confidence=0.999 asks for more" in rows["warning"]


def test_a_network_that_became_a_finalist_is_remembered_and_asked_for_only_if_it_is_enqueued(
    begin: Begin,
) -> None:
    study = begin()
    queue = study._asking.queue
    queue.remember("d2-1_w16-24", 1)
    assert [one.network for one in queue.read()] == ["d2-1_w16-24"]
    assert queue.waiting("shapes") == []
    study.enqueue("d2-1_w16-24", seed=1)
    assert [one.seed for one in queue.waiting("shapes")] == [1]


def test_a_finalist_that_has_a_score_on_val_gets_one_on_test(begin: Begin) -> None:
    study = begin()
    finish(study, scored)
    baseline = next(r.network for r in study.records() if r.kind is Kind.baseline)
    study.add(baseline, 0.9, seed=1)
    offered = []
    for candidate in study.finalists(seeds=1):
        offered.append(candidate.code)
        study.tell(candidate, 0.8, test=0.7)
    assert len(offered) == len(set(offered)) == 2
    (record,) = [r for r in study.records() if (r.network, r.seed) == (baseline, 1)]
    assert (record.score, record.test_score) == (0.9, 0.7)


@pytest.mark.parametrize("how", ["fails", "is not finite"])
def test_a_finalist_whose_test_does_not_succeed_is_given_up_and_what_the_search_knew_stays(
    begin: Begin, how: str
) -> None:
    study = begin()
    finish(study, scored)
    baseline = next(r.network for r in study.records() if r.kind is Kind.baseline)
    study.add(baseline, 0.9, seed=1)
    offered = []
    for candidate in study.finalists(seeds=1, retries=0):
        offered.append(candidate.code)
        assert len(offered) < 9
        if candidate.code != baseline:
            study.tell(candidate, 0.8, test=0.7)
        elif how == "fails":
            study.fail(candidate, "no test images")
        else:
            study.tell(candidate, 0.9, test=math.nan)
    assert offered.count(baseline) == 2
    (record,) = [r for r in study.records() if (r.network, r.seed) == (baseline, 1)]
    assert (record.status, record.score, record.test_score) == (Status.finished, 0.9, None)


def test_a_finalist_that_diverged_by_mistake_is_replaced_whole(begin: Begin) -> None:
    study = begin()
    finish(study, scored)
    candidate = next(iter(study.finalists(seeds=1, retries=0)))
    study.tell(candidate, math.nan, test=math.nan)
    study.tell(candidate.code, 0.9, test=0.8, seed=candidate.seed, replace=True)
    (record,) = [
        r for r in study.records() if (r.network, r.seed) == (candidate.code, candidate.seed)
    ]
    assert (record.status, record.score, record.test_score) == (Status.finished, 0.9, 0.8)
    assert record.error is None


def test_a_test_that_was_added_counts_as_a_finalists(begin: Begin) -> None:
    study = begin()
    finish(study, scored)
    baseline = next(r.network for r in study.records() if r.kind is Kind.baseline)
    study.add(baseline, 0.9, test=0.82, seed=1)
    offered = []
    for candidate in study.finalists(seeds=1, retries=0):
        offered.append(candidate.code)
        study.tell(candidate, 0.9, test=0.81)
    answer = study.answer()
    assert baseline not in offered
    assert answer.baseline_test is not None and answer.baseline_test.mean == 0.82
    assert answer.is_kept is True


def test_what_is_lost_exactly_as_allowed_is_kept(begin: Begin) -> None:
    """0.92 - 0.91 is more than 0.01 in floating point."""
    study = begin(max_drop=0.01)
    for candidate in iter(study.ask, None):
        study.tell(candidate, 0.9)
    for candidate in study.finalists(seeds=1):
        is_whole = candidate.cost.params == study.records()[0].baseline_params
        study.tell(candidate, 0.9, test=0.92 if is_whole else 0.91)
    answer = study.answer()
    assert answer.is_kept is True and answer.verdict is None


def test_what_cannot_be_added_is_free_again(begin: Begin) -> None:
    study, code = begin(), "d1-1_w8-8"
    wrong = shapes.make_network().state_dict()
    assert "do not fit" in refused(lambda: study.add(code, 0.9, weights=wrong))
    study.add(code, 0.9)
    assert [r.score for r in study.records()] == [0.9]


def test_an_added_network_counts_though_it_was_tested_with_its_own_seed(begin: Begin) -> None:
    study = begin()
    first_four(study)
    baseline = next(r for r in study.records() if r.kind is Kind.baseline)
    small = "d1-1_w8-8"
    study.add(small, baseline.score, seed=1)
    tested = [c.code for c in study.finalists(seeds=1) if study.tell(c, 0.9, test=0.9) is None]
    assert small in tested and study.answer().code == small


def test_a_baseline_that_failed_is_tried_again_by_the_next_session(begin: Begin) -> None:
    study = begin()
    for _ in range(2):
        baseline = study.ask()
        assert isinstance(baseline, Candidate)
        study.fail(baseline, "no more memory")
    again = begin().ask()
    assert isinstance(again, Candidate) and again.code == baseline.code


def test_weights_of_a_network_that_was_changed_are_refused(begin: Begin) -> None:
    study = begin()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    candidate.network[-1] = nn.Linear(32, 7)  # type: ignore[index]
    assert "do not fit this network: 6.weight is 7x32" in refused(
        lambda: study.tell(candidate, 0.5)
    )
    assert not study.records()


def test_options_that_name_an_argument_count(begin: Begin) -> None:
    study = begin(options={"segment.multiple": 4, "segment.frozen": ["0-1"]})
    assert study.plan.multiple == 4 and study.plan.segments[0].frozen


def test_what_comes_is_said_first_and_each_result_in_a_line_that_counts(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ssr_exp")
    study, codes = begin(), []
    for _ in range(2):
        candidate = study.ask()
        assert isinstance(candidate, Candidate)
        codes.append(candidate.code)
        study.tell(candidate, 0.5, weights=False, wall_s=3.0)
    assert "4 networks to begin with, then 2 rounds of 2" in caplog.messages
    lines = [line for line in caplog.messages if "params, " in line]
    assert [line.split()[:2] for line in lines] == [[f"{n}/4", c] for n, c in enumerate(codes, 1)]
    assert lines[0].endswith("100.0% params, acc 0.5000, 3.0 s")


def test_a_function_that_a_folder_names_is_not_called_without_trust(
    begin: Begin, tmp_path: Path
) -> None:
    study = begin()
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    study.tell(candidate, 0.5, weights=candidate.network)
    conf = beginning.settings(
        {"study": "shapes", "paths.runs": str(tmp_path), "dataset.name": "own"},
        ModelConf(name="network"),
    )
    assert "trust=true" in refused(lambda: loop_study.reopen(conf))
    opened = Study.open("shapes", runs=tmp_path, trust=True)
    assert opened._trusts
    opened._trusts = False
    assert "trust=true" in refused(lambda: opened.export(run=candidate.code))


def test_a_network_of_the_study_is_exported_unless_a_folder_holds_one(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a folder that has its code as a name, nor a code too long for a path, is one."""
    asked = list[str | None]()
    monkeypatch.setattr(exports, "write", lambda conf: asked.append(conf.study) or "exported")
    study, home = begin(), tmp_path / "run"
    for folder in (tmp_path / "d1-1_w8-8", home):
        folder.mkdir()
    for name in (RECORD_FILE, LAST_CHECKPOINT):
        (home / name).touch()
    monkeypatch.chdir(tmp_path)
    for one in ("best", "d1-1_w8-8", "d1_w" + "-8" * 200, "run"):
        study.export(run=one)
    assert asked == ["shapes", "shapes", "shapes", None]


def test_a_study_says_whether_a_function_makes_its_network(begin: Begin) -> None:
    for name, make, calls in (("one", shapes.make_network, True), ("two", shapes.Shapes, False)):
        study = begin(make, name=name)
        about = studies.read_all(study.folder.parent)[name]
        assert studies.calls_code(about) is calls


def test_a_network_that_nobody_took_is_told_of(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    study = begin()
    for _ in range(2):
        candidate = study.ask()
        assert isinstance(candidate, Candidate)
        if not study.records():
            study.network(candidate.code)
        study.tell(candidate, 0.5)
    assert caplog.text.count("was never taken (candidate.network)") == 1


def test_what_is_no_score_to_judge_by_is_refused(begin: Begin) -> None:
    assert "score is a str" in refused(lambda: begin(score="dice"))
    assert "neither 'max' nor 'min'" in refused(lambda: Score("dice", "maximize"))


def test_widths_that_steps_are_too_large_for_are_told_of(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    begin(multiple=16)
    assert "0-1 has 16 channels, and widths go in steps of 16" in caplog.text


def test_an_answer_before_its_time_says_to_go_on(begin: Begin) -> None:
    assert "go on with study.ask()" in refused(begin().answer)


# --- processes of their own


@pytest.mark.slow
def test_processes_share_a_folder_and_what_is_killed_is_not_lost(tmp_path: Path) -> None:
    """Four loops at once, two of them killed: no network is trained twice, none is left out."""
    lost, ended = loops(tmp_path, count=4, kills=2)
    records = Store(tmp_path).records("shapes")
    assert all(r.status is Status.finished for r in records)
    assert len(records) == FIRST + 2 * 2 and len(ended) == len(set(ended))
    assert {(r.network, r.seed) for r in records} == {*ended, *lost}
    assert (tmp_path / "shapes" / "best" / "weights.pt").exists()
    assert "shapes" in (tmp_path / "report.html").read_text()


Key = tuple[str, int]


def loops(runs: Path, *, count: int, kills: int) -> tuple[list[Key], list[Key]]:
    """Run loops at once, and kill some in the middle.

    Returns what the killed ones were training, and what the others ended.
    """
    words = [sys.executable, str(Path(shapes.__file__)), str(runs), "2", "0.5"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env, cwd=runs)
        for _ in range(count)
    ]
    printed = []
    for loop in started[:kills]:
        assert loop.stdout is not None
        first = next(line for line in loop.stdout if line.startswith("began"))
        loop.kill()
        printed.append([first, *loop.communicate()[0].splitlines()])
    printed += [loop.communicate(timeout=300)[0].splitlines() for loop in started[kills:]]
    assert all(loop.returncode == 0 for loop in started[kills:])
    began, ended = (
        [keys([line for line in lines if line.startswith(word)]) for lines in printed]
        for word in ("began", "ended")
    )
    lost = [one for b, e in zip(began[:kills], ended, strict=False) for one in {*b} - {*e}]
    return lost, [one for some in ended for one in some]


def keys(lines: list[str]) -> list[Key]:
    """Read networks and seeds from lines that a loop printed."""
    words = [line.split() for line in lines]
    return [(each[1], int(each[2])) for each in words]


@pytest.mark.slow
def test_commands_go_on_from_a_loop_and_a_loop_from_commands(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "small", lambda _, words, __: [*words, f"paths.runs={tmp_path}"])

    def ended(*words: str, script: str = "search.py") -> str:
        done = command(*words, script=script)
        assert done.code == 0, done.text
        return done.out

    lines = run_loop(tmp_path, rounds=1)
    assert len(lines) == FIRST + 2
    more = "study=shapes trust=true objective.max_drop=0.2 modifiers=sentinel_width".split()
    shown = ended(*more, "rounds=0")
    assert "next batch (not trained)" in shown
    trains = ("rounds=2", "batch=2", "task.target=shapes.train_one", "finalists.seeds=1")
    out = ended(*more, *trains)
    assert "round 2 of 2: 2 networks of " in out and "answer: " in out
    assert len(run_loop(tmp_path, rounds=3)) == 2  # the third round is what is left
    numbers = {r.round for r in Store(tmp_path).records("shapes")}
    assert {1, 2, 3} <= numbers
    (asked,) = study_names.read(tmp_path / "shapes").asked
    assert set(trains) <= set(asked.words) and not {"study=shapes", "trust=true"} & set(asked.words)
    words = ("study=shapes", "trust=true", "rounds=0")  # the rest is kept
    again = ended(*words)
    assert "task.target=shapes.train_one" in again and "train.py" in again
    study = Study.open("shapes", runs=tmp_path, trust=True, options={"objective.max_drop": 0.2})
    assert f"trained    {study.answer().code}: " in again  # whoever asks is told the same
    assert "report: " in ended("trust=true", script="report.py")


def run_loop(runs: Path, *, rounds: int) -> list[Key]:
    words = [sys.executable, str(Path(shapes.__file__)), str(runs), str(rounds), "0"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    out = subprocess.run(words, check=True, capture_output=True, text=True, env=env, cwd=runs)
    return keys([line for line in out.stdout.splitlines() if line.startswith("ended")])


@pytest.mark.slow
def test_processes_that_train_one_network_get_the_same(tmp_path: Path) -> None:
    """Rank 0 asks and tells; an error is raised in all of them."""
    context = torch.multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    file = f"file://{tmp_path / 'meeting'}"
    workers = [
        context.Process(target=rank, args=(number, file, str(tmp_path / "runs"), answers))
        for number in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
        assert worker.exitcode == 0
    said = [answers.get() for _ in workers]
    assert said[0] == said[1] and len(said[0]) == 4 and "the baseline diverged" in said[0][-1]


def rank(number: int, file: str, runs: str, answers: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=file, rank=number, world_size=2)
    usual = {"name": "a", "score": ACC, "runs": runs, "sentinels": "sentinel_width"}
    study, seen = Study(shapes.make_network, (1, 12, 12), **usual), []
    for value in (0.5, 0.5, math.nan):
        with study.training() as candidate:
            assert isinstance(candidate, Candidate)
            seen.append(candidate.code)
            study.tell(candidate, value)
    study.tell(seen[0], math.nan, replace=True)
    seen.append(refused(study.ask))
    answers.put(seen)
    torch.distributed.destroy_process_group()
