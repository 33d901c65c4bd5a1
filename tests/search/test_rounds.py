"""The plans of a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssr_exp.config import Objective, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.runs.store import Store
from ssr_exp.search import rounds
from ssr_exp.search.rounds import Planned, Round
from tests.search.conftest import asked


def plan(number: int) -> Round:
    return Round(number=number, seed=0, planned=(Planned(network="d1_w4", mean=90.0),))


def test_plans_are_read_back_in_their_order(tmp_path: Path) -> None:
    book = rounds.notebook(Store(tmp_path), "study", SearchConfig())
    assert book.read() == []
    for number in (0, 2, 10, 1):
        book.write(plan(number))
    assert book.read() == [plan(0), plan(1), plan(2), plan(10)]


def test_how_far_a_search_goes_is_no_part_of_its_name_and_where_to_is(tmp_path: Path) -> None:
    def name(**changes: object) -> str:
        return rounds.notebook(Store(tmp_path), "study", asked(**changes)).folder.name

    assert name() == "tradeoff-64386b75"  # as before any key was added
    assert name() == name(rounds=9, min_gain=0.1, budget__runs=9, wait=True, finalists__seeds=5)
    others = {
        name(batch=9),
        name(seed=3),
        name(objective__kind=Objective.smallest),
        name(segment__frozen=["stage1"]),
        name(segment__patterns=["stage1.*"]),
        name(cap__latency_ms="1"),
        name(cap__latency_ms="1", latency__runtime="executorch"),
    }
    assert len(others | {name()}) == 8
    # it may be asked again how sure the answer is: nothing is proposed anew for it
    assert name() == name(objective__confidence=0.95, finalists__retries=0)
    assert name() == name(latency__runtime="executorch") == name(origin="round3")
    # how well it is measured, and where a table lies, does not matter: a remedy must not rename it
    measured = name(cap__latency_ms="1", latency__spread=0.9, latency__file="/home/a/x.json")
    assert name(cap__latency_ms="1") == measured


def test_on_another_device_a_search_is_another_one(tmp_path: Path) -> None:
    conf = asked(cap__latency_ms="1")

    def named(setting: str | None) -> rounds.Notebook:
        return rounds.notebook(Store(tmp_path), "study", conf, setting=setting)

    for device in ("phone", "pi"):
        named(device).write(plan(0))
    assert named("phone").folder == named("phone").folder != named("pi").folder
    assert named("new").read() == [] and named("phone").read() == named("pi").read() == [plan(0)]


def test_a_search_that_was_begun_when_devices_were_not_told_apart_goes_on(tmp_path: Path) -> None:
    store, conf = Store(tmp_path), asked(cap__latency_ms="1")
    before = rounds.notebook(store, "study", conf)
    assert before.folder.name == "tradeoff-832ac274"
    before.write(plan(0))
    assert rounds.notebook(store, "study", conf, setting="phone") == before


def test_the_other_searches_of_a_study_are_found(tmp_path: Path) -> None:
    store, conf = Store(tmp_path), SearchConfig()
    book = rounds.notebook(store, "study", conf)
    book.write(plan(0))
    conf.seed = 5
    other = rounds.notebook(store, "study", conf)
    assert rounds.others(other) == [book]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"number": -1, "seed": 0, "planned": []}'])
def test_a_broken_plan_says_what_to_remove(tmp_path: Path, text: str) -> None:
    book = rounds.notebook(Store(tmp_path), "study", SearchConfig())
    book.write(plan(1))
    (book.folder / "round1.json").write_text(text)
    with pytest.raises(SsrError, match=r"round1.json cannot be read .*remove that file"):
        book.read()
