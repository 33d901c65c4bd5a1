"""The tables of results/cifar10.md are those of its records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import cifar10, figures
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store
from tests.conftest import MakeRecord

Write = Callable[[Path, str, str], None]
FULL, SMALL = "d3-3_w16-32", "d1-3_w16-32"


@pytest.fixture
def write(make_record: MakeRecord) -> Write:
    """Write a record of a study's network."""

    def written(runs: Path, study: str, network: str) -> None:
        record: Record = make_record(study=study, network=network, origin="sentinel_all")
        store = Store(runs)
        store.write(store.folder(study, network, 0), record)

    return written


def write_plan(runs: Path, study: str) -> None:
    """Write that two networks are a study's first ones."""
    path = runs / study / "search/one/round0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"planned": [{"network": FULL}, {"network": SMALL}]}))


def test_the_committed_tables_are_those_of_the_committed_records() -> None:
    store = Store(cifar10.RUNS)
    for page, made in ((cifar10.PAGE, cifar10.tables), (cifar10.README, cifar10.headline)):
        text = page.read_text()
        assert cifar10.replaced(text, made(store)) == text


def test_a_whole_study_has_all_tables_and_the_text_around_them_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, kept = tmp_path / "page.md", tmp_path / "kept"
    page.write_text(f"before\n\n{cifar10.BEGIN}\n\nold\n{cifar10.END}\n\nafter\n")
    for _ in range(2):
        cifar10.main(["--keep", str(figures.DEMO), "--runs", str(kept), "--page", str(page)])
    assert capsys.readouterr().out == f"{page}\n" * 2
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "\nold\n" not in text
    assert text.count("\n## ") == 1  # finalists stand in their study's section
    records = Store(kept).records()
    finals = [r for r in records if r.test_score is not None]
    assert f"\n{len(records)} trainings, 0 of them failed" in text and len(finals) == 6
    for said in ("| answer | resnet20 ", "| baseline | ", "| 2 | 30 | "):
        assert said in text
    for record in records:
        assert f"| {record.network} | " in text or record in finals


def test_of_a_study_that_is_begun_nothing_is_claimed_and_other_studies_stay(
    tmp_path: Path, write: Write
) -> None:
    runs = tmp_path / "runs"
    for name, network in (("one", FULL), ("two", FULL), ("two", SMALL)):
        write(runs, name, network)
    for name in ("one", "two"):
        write_plan(runs, name)
    kept = Store(tmp_path / "kept")
    figures.keep(runs, kept.root)
    shutil.rmtree(runs / "two")
    write(runs, "one", "d1-1_w4-8")
    figures.keep(runs, kept.root)
    _, begun, whole = cifar10.tables(kept).split("## ")
    assert "| claimed | held | found |" in whole and "are not trained yet" not in whole
    assert "Of the networks that it planned, 1 are not trained yet" in begun
    assert "claimed" not in begun
    assert "| d1-1_w4-8 | " in begun and not cifar10.headline(kept)


def test_each_study_that_is_complete_has_a_table_in_the_readme(
    tmp_path: Path, write: Write
) -> None:
    rows = [
        {"role": role, "model": model, "network": FULL, "params": params, "seeds": [0, 1]}
        | {"test_score_mean": score, "test_score_std": 0.5}
        for role, model, params, score in (
            ("baseline", "resnet20", 100, 90.0),
            ("family", "resnet14", 50, 89.0),
        )
    ]
    for name in ("one", "two"):
        write(tmp_path, name, FULL)
        (tmp_path / name / "best").mkdir()
        (tmp_path / name / "best/metrics.json").write_text(json.dumps({"results": rows}))
    text = cifar10.headline(Store(tmp_path))
    assert text.count("| test acc % (2 seeds) | drop |") == 2
    assert f"| family | resnet14 {FULL} | 50 | 50.0% | 89.00 +- 0.50 | 1.00 |" in text


def test_a_plain_net_of_the_family_is_named_and_so_is_what_became_of_a_promise(
    tmp_path: Path, write: Write
) -> None:
    shared = {"macs": 1, "gemms": 1, "params_share": 1.0, "test_score_std": None, "seeds": [0]}
    rows = [
        shared
        | dict(zip(("role", "model", "network", "params", "test_score_mean"), row, strict=True))
        for row in (
            ("baseline", "resnet56", "d9-9-9_w16-32-64", 100, 90.0),
            ("uniform depth", "resnet56", "d7-7-7_w16-32-64", 70, 88.0),
            ("random", "resnet56", "d7-7-5_w16-32-64", 60, 87.0),
        )
    ]
    stated = {"drop": 0.5, "low": 0.1, "high": 0.9, "probability": 0.9}
    told = {"measured_on": "test", "drop": 2.0, "results": rows, "verdict": "it is broken"}
    told["promise"] = stated | {"allowed": 1.0, "confidence": 0.8}
    write(tmp_path, "one", FULL)
    (tmp_path / "one/best").mkdir()
    (tmp_path / "one/best/metrics.json").write_text(json.dumps(told))
    text = cifar10.tables(Store(tmp_path))
    assert "| baseline | resnet56" in text and "| random | resnet56" in text
    assert "| uniform depth (plain ResNet-44) | resnet56 d7-7-7_w16-32-64 |" in text
    assert "The answer's promise: broken on test; by val alone: 90% likely" in text
    assert text.count(" it is broken.") == 1
