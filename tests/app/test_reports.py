"""What a report is asked for, where records lie, and which lattice is predicted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ssr_exp.app import reports
from ssr_exp.config import PathsConf, ReportConfig, ReportTo, SegmentConf
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import CONFIG_FILE, Store

STUDY = "resnet20-digits-0a1b2c3d"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def record(store: Store, make_record: Callable[..., Record]) -> Record:
    one = make_record()
    store.write(store.folder(one.study, one.network, one.seed), one)
    return one


def refusal(store: Store, **fields: str) -> str:
    with pytest.raises(SsrError) as caught:
        reports._studies(store, ReportConfig(**fields, paths=PathsConf(runs=str(store.root))))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_records_a_sentence_says_what_to_type(store: Store, tmp_path: Path) -> None:
    for folder in (store.root, tmp_path / "nowhere" / "at" / "all"):
        assert f"there are no records of runs in {folder}: type" in refusal(Store(folder))
    assert not store.root.exists()


def test_records_that_are_nearby_are_named(store: Store, record: Record) -> None:
    assert f"type paths.runs={store.root}." in refusal(Store(store.root.parent))
    inside = refusal(Store(store.root / STUDY))
    assert f"it is a study, type paths.runs={store.root} study={STUDY}" in inside


def test_a_study_whose_folder_was_renamed_is_told_with_the_name_to_give_it_again(
    store: Store, record: Record, make_record: Callable[..., Record]
) -> None:
    store.study_folder(STUDY).rename(store.root / "pets")
    said = f"{store.root / 'pets'} holds 1 record of {STUDY} and is left out: call the folder"
    assert said in refusal(store) and "type paths.runs" not in refusal(store)
    other = make_record(study="other")
    store.write(store.folder("other", other.network, 0), other)
    assert refusal(store, study="pets").startswith(said)


def test_an_unknown_study_is_told_with_those_that_there_are(store: Store, record: Record) -> None:
    assert "there is no study resnet9" in refusal(store, study="resnet9")
    assert STUDY in refusal(store, study="resnet9")
    assert reports._studies(store, ReportConfig(study=STUDY)) == {STUDY: [record]}


def test_a_file_is_written_where_it_is_asked_for(
    store: Store, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for typed, path in (
        (f"{tmp_path}/a/b/page.html", tmp_path / "a" / "b" / "page.html"),
        ("~/page.html", tmp_path / "home" / "page.html"),
    ):
        assert reports._page(store, ReportConfig(file=typed), {}) == str(path)
        assert path.read_text().startswith("<!doctype html>")
    assert not (store.root / "report.html").exists()


def test_a_page_that_cannot_be_written_is_a_sentence_with_the_word_that_chooses_its_place(
    store: Store, record: Record, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(SsrError, match=rf"^cannot write to {tmp_path}/file: .*; .*file=") as caught:
        reports._page(store, ReportConfig(file=f"{tmp_path}/file/page.html"), {})
    assert "\n" not in str(caught.value)
    for name in ("", "/"):
        with pytest.raises(SsrError, match=r"is no name of a file: type file=page\.html"):
            reports._page(store, ReportConfig(file=name), {})


def test_a_file_is_of_a_page_alone(store: Store, record: Record) -> None:
    asked = OmegaConf.structured(
        ReportConfig(to=ReportTo.wandb, file="page.html", paths=PathsConf(runs=str(store.root)))
    )
    with pytest.raises(
        SsrError, match=r"^file=page\.html is where a page is written, and to=wandb"
    ):
        reports.write(asked)


def test_the_lattice_is_the_one_that_runs_were_made_with_or_else_the_usual_one(
    store: Store, record: Record
) -> None:
    path = store.folder(record.study, record.network, record.seed) / CONFIG_FILE
    assert reports._segment(store, [record]) == SegmentConf()
    path.write_text(json.dumps({"segment": {"width_steps": 2, "frozen": ["stage1"]}}))
    assert reports._segment(store, [record]) == SegmentConf(width_steps=2, frozen=["stage1"])
    for text in ("", "[]", "{}", '{"segment": {"width_steps": "many"}}', '{"segment": 3}'):
        path.write_text(text)
        assert reports._segment(store, [record]) == SegmentConf(), text
