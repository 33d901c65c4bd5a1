"""Records from the local store, a table and W&B together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ssr_exp.config import RunsKind, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import Store
from ssr_exp.runs.wandb import training_run
from ssr_exp.search import history, rounds
from ssr_exp.search.evidence import Evidence
from ssr_exp.search.rounds import Planned, Round
from ssr_exp.search.space import Space
from tests.search.conftest import First, Tell

STUDY = "resnet14-digits-0a1b2c3d"
FIELDS: dict[str, Any] = {"recipe": {"lr": 0.05}, "training": {"epochs": 8}}


def evidence(tmp_path: Path, small: Space, conf: SearchConfig) -> Evidence:
    conf.model.name, conf.dataset.name = "resnet14", "digits"
    store = Store(tmp_path)
    return Evidence(store, STUDY, FIELDS, small, conf, rounds.notebook(store, STUDY, conf))


def keep(tmp_path: Path, record: Record) -> None:
    store = Store(tmp_path)
    store.write(store.folder(record.study, record.network, record.seed), record)


def table(tmp_path: Path, text: str, suffix: str = "csv") -> SearchConfig:
    path = tmp_path / f"results.{suffix}"
    path.write_text(text)
    conf = SearchConfig()
    conf.runs.kind, conf.runs.file = RunsKind.table, str(path)
    return conf


def test_a_table_adds_to_the_local_records(
    tmp_path: Path, small: Space, tell: Tell, first: First
) -> None:
    keep(tmp_path, tell(first[0], study=STUDY))
    code = small.code(first[1])
    found = evidence(tmp_path, small, table(tmp_path, f"network,val_acc\n{code},77.5\n"))
    local, added = found.records
    assert local.network == small.code(first[0])
    assert (added.network, added.val_acc, added.study) == (code, 77.5, STUDY)
    expected = tell(first[1])
    assert (added.params, added.macs, added.widths) == (
        expected.params,
        expected.macs,
        expected.widths,
    )


def test_a_row_of_another_network_is_left_out_with_a_warning(
    tmp_path: Path, small: Space, caplog: pytest.LogCaptureFixture
) -> None:
    conf = table(tmp_path, "network,val_acc\nd9-9-9_w16-32-64,90\nd2-2-2_w16-32-64,91\n")
    found = evidence(tmp_path, small, conf)
    assert [r.val_acc for r in found.records] == [91]
    assert "left out a row" in caplog.text


def test_a_table_of_another_study_only_is_refused(tmp_path: Path, small: Space) -> None:
    conf = table(tmp_path, "network,val_acc,study\nd2-2-2_w16-32-64,91,other\n")
    with pytest.raises(SsrError, match=f"records of other only, not of {STUDY}"):
        assert evidence(tmp_path, small, conf).records


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("score_key", "val/rmse", "holds scores by val/rmse, and this study is judged by val/acc"),
        ("score", 101, "val/acc of .* is 101, and it lies from 0 to 100"),
    ],
)
def test_scores_that_are_not_the_studys_are_refused(
    tmp_path: Path, small: Space, first: First, name: str, value: object, said: str
) -> None:
    row = {"network": small.code(first[0]), "score": 70.5, "score_key": "val/acc"}
    held = evidence(tmp_path, small, table(tmp_path, json.dumps(row), "jsonl"))
    assert [record.score for record in held.records] == [70.5]
    with pytest.raises(SsrError, match=said):
        _ = evidence(
            tmp_path, small, table(tmp_path, json.dumps(row | {name: value}), "jsonl")
        ).records


def test_a_table_needs_a_file(tmp_path: Path, small: Space) -> None:
    conf = SearchConfig()
    conf.runs.kind = RunsKind.table
    with pytest.raises(SsrError, match=r"runs=table needs runs.file=PATH"):
        assert evidence(tmp_path, small, conf).records


def test_whole_records_make_a_table_which_adds_nothing_to_the_same_local_ones(
    tmp_path: Path, small: Space, tell: Tell, first: First
) -> None:
    records = [tell(a, study=STUDY) for a in first]
    lines = "\n".join(json.dumps(record.model_dump(mode="json")) for record in records)
    found = evidence(tmp_path, small, table(tmp_path, lines, "jsonl"))
    found.conf.trainer.max_epochs = 8
    assert [r.val_acc for r in found.records] == [r.val_acc for r in records]
    for record in records:
        keep(tmp_path, record)
    found.forget()
    assert len(found.records) == len(first)


@pytest.mark.parametrize("typed", ["94.0999985", "94.09999850", "94.10", "94.1"])
def test_a_table_gives_a_latency_to_a_training_that_is_here_and_counts_it_once(
    tmp_path: Path, small: Space, tell: Tell, first: First, typed: str
) -> None:
    here = [tell(a, study=STUDY, val_acc=94.0999985) for a in first[:2]]
    for record in here:
        keep(tmp_path, record)
    rows = f"{small.code(first[0])},{typed},7.5,a phone\n{small.code(first[1])},{typed},,\n"
    header = "network,val_acc,latency_ms,latency_device\n"
    found = evidence(tmp_path, small, table(tmp_path, header + rows))
    times = {"latency_ms": 7.5, "latency_device": "a phone"}
    records = {r.network: r for r in found.records}
    assert len(found.records) == 2
    assert records[here[0].network] == here[0].model_copy(update=times)
    assert records[here[1].network] == here[1]


def test_of_equal_rows_of_a_table_one_is_the_training_that_is_here(
    tmp_path: Path, small: Space, tell: Tell, first: First
) -> None:
    mine = tell(first[0], study=STUDY, val_acc=94.0999985)
    keep(tmp_path, mine)
    rows = f"{small.code(first[0])},94.1\n" * 3
    found = evidence(tmp_path, small, table(tmp_path, "network,val_acc\n" + rows))
    assert [r.val_acc for r in found.records] == [mine.val_acc, 94.1, 94.1]
    assert len(history.from_records(small, found.records)) == 3


@pytest.mark.parametrize("row", ["94.0,0", "94.2,0", "94.10,1"])
def test_a_row_of_another_score_or_seed_is_another_training(
    tmp_path: Path, small: Space, tell: Tell, first: First, row: str
) -> None:
    keep(tmp_path, tell(first[0], study=STUDY, val_acc=94.0999985))
    text = f"network,val_acc,seed,latency_ms\n{small.code(first[0])},{row},7.5\n"
    found = evidence(tmp_path, small, table(tmp_path, text))
    assert [r.latency_ms for r in found.records] == [None, 7.5]


def test_a_run_that_is_here_and_in_wandb_counts_once(
    tmp_path: Path,
    small: Space,
    tell: Tell,
    first: First,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = tell(first[0], study=STUDY), tell(first[1], study=STUDY)
    keep(tmp_path, here)
    asked: list[str] = []

    def records(runs: object, logger: object, *, study: str) -> list[Record]:
        asked.append(study)
        return [here.model_copy(), there]

    monkeypatch.setattr(training_run, "records", records)
    conf = SearchConfig()
    conf.runs.kind = RunsKind.wandb
    found = evidence(tmp_path, small, conf)
    for _ in range(2):  # read once, until it is to be forgotten
        assert [r.network for r in found.records] == [here.network, there.network]
        assert asked == [STUDY]
    found.forget()
    assert len(found.records) == len(asked) == 2


def test_an_outage_of_wandb_ends_no_search_that_has_read_its_runs(
    tmp_path: Path,
    small: Space,
    tell: Tell,
    first: First,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    there = [tell(architecture, study=STUDY) for architecture in first]
    away = SsrError("no answer")
    answers: list[SsrError | list[Record]] = [away, there[:1], away, there[1:3]]

    def records(*_: object, **__: object) -> list[Record]:
        answer = answers.pop(0)
        if isinstance(answer, SsrError):
            raise answer
        return answer

    monkeypatch.setattr(training_run, "records", records)
    conf = SearchConfig()
    conf.runs.kind = RunsKind.wandb
    found = evidence(tmp_path, small, conf)
    with pytest.raises(SsrError, match="no answer"):
        _ = found.records
    assert found.records == there[:1]
    keep(tmp_path, there[3])  # a training that ended meanwhile
    found.forget()
    assert found.records == [there[3], there[0]]
    assert caplog.messages == [
        "the search goes on with the 1 record that it read before: no answer"
    ]
    found.forget()
    assert found.records == [there[3], *there[1:3]]


def test_other_studies_are_named_with_what_differs(
    tmp_path: Path, small: Space, tell: Tell, first: First
) -> None:
    found = evidence(tmp_path, small, SearchConfig())
    assert found.strangers() == ""
    other = "resnet14-digits-ffffffff"
    keep(tmp_path, tell(first[0], study=other))
    fields = {"recipe": {"lr": 0.1}, "training": {"epochs": 8}}
    (tmp_path / other / "study.json").write_text(json.dumps(fields))
    assert found.records == []
    assert f"{other} (recipe.lr is 0.1 there and 0.05 here)" in found.strangers()


def test_rows_that_name_the_study_are_its_own_however_early_they_were_stopped(
    tmp_path: Path, small: Space, caplog: pytest.LogCaptureFixture
) -> None:
    rows = f"d2-2-2_w16-32-64,91,5,{STUDY}\nd1-1-1_w4-8-16,70,2,\n"
    conf = table(tmp_path, "network,val_acc,epochs,study\n" + rows)
    conf.trainer.max_epochs, conf.surrogate.fidelity = 8, True
    found = evidence(tmp_path, small, conf)
    assert [r.epochs for r in found.records] == [5]
    assert [r.epochs for r in found.elsewhere()] == [2]
    assert "1 row of" in caplog.text


def test_runs_of_other_epochs_are_read_only_when_they_are_asked_for(
    tmp_path: Path, small: Space, tell: Tell, first: First
) -> None:
    conf = SearchConfig()
    conf.trainer.max_epochs = 8
    found = evidence(tmp_path, small, conf)
    short = "resnet14-digits-eeeeeeee"
    keep(tmp_path, tell(first[0], study=short, epochs=2))
    fields = {"recipe": {"lr": 0.05}, "training": {"epochs": 2}}
    (tmp_path / short / "study.json").write_text(json.dumps(fields))
    assert found.elsewhere() == []
    conf.surrogate.fidelity = True
    assert [r.epochs for r in found.elsewhere()] == [2]


def test_what_is_being_trained_or_planned_by_a_running_search_is_pending(
    tmp_path: Path, small: Space
) -> None:
    conf = SearchConfig()
    found = evidence(tmp_path, small, conf)
    other = SearchConfig()
    other.seed = 7
    book = rounds.notebook(found.store, STUDY, other)
    book.write(Round(number=1, seed=7, planned=(Planned(network="d1-1-1_w4-8-16"),)))
    assert found.pending() == set()
    training = found.store.folder(STUDY, "d2-2-2_w4-8-16", 0)
    with (
        found.store.claim(training, wait=False),
        found.store.claim(book.folder, wait=False),
    ):
        assert found.pending() == {"d1-1-1_w4-8-16", "d2-2-2_w4-8-16"}
    assert found.pending() == set()


def test_what_broke_in_a_running_search_is_not_pending_until_it_tries_again(
    tmp_path: Path, small: Space, tell: Tell, first: First
) -> None:
    found, other = evidence(tmp_path, small, SearchConfig()), SearchConfig()
    other.seed = 7
    book, codes = rounds.notebook(found.store, STUDY, other), [small.code(a) for a in first[:4]]
    planned = tuple(Planned(network=code) for code in codes)
    book.write(Round(number=1, seed=7, planned=planned))
    broken = {"val_acc": None, "study": STUDY}
    keep(tmp_path, tell(first[0], seed=7, status=Status.diverged, **broken))
    keep(tmp_path, tell(first[1], seed=7, status=Status.failed, **broken))
    keep(tmp_path, tell(first[2], seed=1, status=Status.failed, **broken))  # not by that search
    with found.store.claim(book.folder, wait=False):
        assert found.pending() == {*codes[2:]}
        with found.store.claim(found.store.folder(STUDY, codes[1], 7), wait=False):
            assert found.pending() == {*codes[1:]}


def test_what_is_being_trained_is_known_by_a_code_that_no_folder_can_hold(
    tmp_path: Path, small: Space
) -> None:
    found, codes = (
        evidence(tmp_path, small, SearchConfig()),
        ["d1_w" + "8-" * 210 + n for n in "12"],
    )
    first, second = (found.store.folder(STUDY, code, 0) for code in codes)
    with found.store.claim(first, wait=False), found.store.claim(second, wait=False):
        for folder, code in zip((first, second), codes, strict=True):
            found.store.name_network(folder, code)
        assert found.pending() == set(codes)
    assert found.pending() == set()


def test_equal_rows_of_a_table_are_repeats(tmp_path: Path, small: Space) -> None:
    conf = table(tmp_path, "network,val_acc\n" + "d2-2-2_w16-32-64,91\n" * 3)
    found = evidence(tmp_path, small, conf)
    assert len(history.from_records(small, found.records)) == 3


def test_rows_of_other_epochs_are_not_mixed_in(
    tmp_path: Path, small: Space, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "d2-2-2_w16-32-64,91,8\nd1-1-1_w4-8-16,70,2\nd1-1-1_w4-8-64,80,200\n"
    conf = table(tmp_path, "network,val_acc,epochs\n" + rows)
    conf.trainer.max_epochs = 8
    found = evidence(tmp_path, small, conf)
    assert [r.epochs for r in found.records] == [8]
    assert "2 rows" in caplog.text
    assert found.elsewhere() == []
    conf.surrogate.fidelity = True
    assert [r.epochs for r in found.elsewhere()] == [2]
