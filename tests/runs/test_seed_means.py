"""A network scores one number on val: the mean over its seeds, the same wherever it is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from ssr_exp.edge.export import card_scores
from ssr_exp.edge.selection import Selection
from ssr_exp.report import page_data, study_overview, study_tables, trade_offs
from ssr_exp.runs import seed_means
from ssr_exp.runs.record import FINALIST, Record, Status
from ssr_exp.runs.store import Store
from tests.support.descriptions import description

CODE, STUDY = "d3-1-3_w16-32-64", "resnet20-digits-0a1b2c3d"


def test_a_mean_is_over_the_trainings_that_val_measured(
    make_record: Callable[..., Record],
) -> None:
    records = [
        make_record(seed=1, val_acc=92.0, origin=FINALIST),
        make_record(seed=0, val_acc=90.0),
        make_record(seed=2, val_acc=None, test_acc=99.0, origin=FINALIST),  # learned from val
        make_record(seed=3, val_acc=10.0, status=Status.diverged, error="nan"),
        make_record(network="other", val_acc=70.0),
    ]
    means = seed_means.on_val(records)
    assert list(means) == [CODE, "other"]
    assert (means[CODE].mean, means[CODE].seeds) == (91.0, [0, 1])
    assert means[CODE].deviation == pytest.approx(2**0.5)
    assert (means["other"].mean, means["other"].deviation) == (70.0, None)


def test_page_card_and_tables_say_one_number_for_a_network(
    tmp_path: Path, make_record: Callable[..., Record], capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "runs")
    scores = {0: 97.0, 1: 94.0, 2: 95.5}
    for seed, score in scores.items():
        origin = FINALIST if seed else "round1"
        fields = {"seed": seed, "val_acc": score, "test_acc": 93.0 if seed else None}
        record = make_record(study=STUDY, network=CODE, origin=origin, **fields)
        store.write(store.folder(STUDY, CODE, seed), record)
    records = store.records(STUDY)
    (study,) = page_data.collect(store)["studies"]
    shown = {network["kind"]: network for network in study["networks"]}
    assert shown["proposed"]["score"] == shown["finalist"]["score"] == [95.5, 1.5]
    assert shown["proposed"]["val_seeds"] == [0, 1, 2]
    assert (shown["proposed"]["seeds"], shown["finalist"]["seeds"]) == ([0], [1, 2])
    (summary,) = study_overview.read(store)
    assert study_tables.levels(summary, summary) == [(records[0].params, (95.5, 95.5))]
    trade_offs.print_front(records, answer="")
    assert re.search(r"95\.50 \+- 1\.50", capsys.readouterr().out)
    folder = store.study_folder(STUDY)
    chosen = Selection(nn.Identity(), description(), records[1], {}, folder, "any", {})
    card = list(card_scores.section(chosen, records))
    assert "- 95.50 +- 1.50 % on val, mean and standard deviation over 3 seeds (0, 1, 2)." in card
    assert "- The weights are those of seed 1: 94.00 % on val, 93.00 % on test." in card
