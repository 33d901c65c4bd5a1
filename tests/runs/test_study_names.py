"""What a study is called: by its own name, by one of one's own, by a beginning of either."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ssr_exp.errors import SsrError
from ssr_exp.runs import studies, study_names
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store
from ssr_exp.runs.study_names import Asked, Begun
from tests.conftest import MakeRecord

FIRST, SECOND = "resnet20-digits-0a1b2c3d", "resnet20-digits-0aff00ff"
FAST, SLOW = {"recipe": {"lr": 0.1, "momentum": 0.9}}, {"recipe": {"lr": 0.05, "momentum": 0.9}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with two studies, which differ in their learning rate."""
    store = Store(tmp_path)
    for name, fields in ((FIRST, FAST), (SECOND, SLOW)):
        store.write_text(store.study_folder(name) / studies.FILE, json.dumps(fields))
    return store


def refusal(store: Store, typed: str) -> str:
    with pytest.raises(SsrError) as caught:
        study_names.find(store.root, typed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is meant


def test_a_study_is_found_by_each_of_its_names_and_a_unique_beginning(store: Store) -> None:
    study_names.rename(store, FIRST, "pets")
    for typed in (FIRST, "pets", "pe", FIRST[:-3], "0a1b2c3d", "0a1b"):
        assert study_names.find(store.root, typed) == FIRST
    assert study_names.find(store.root, "0aff") == SECOND
    assert study_names.title(store.root, FIRST) == "pets"
    assert study_names.title(store.root, SECOND) == SECOND


def test_what_may_be_several_or_is_none_is_told_with_the_names_that_there_are(store: Store) -> None:
    study_names.rename(store, FIRST, "pets")
    both = f"pets ({FIRST}), {SECOND}"
    assert f"resnet20 may be several studies in {store.root}" in refusal(store, "resnet20")
    assert both in refusal(store, "resnet20")
    for typed in ("pest", "../pets"):
        near = f"there is no study {typed} in {store.root}, the nearest is pets; it holds {both}."
        assert refusal(store, typed) == near
    for typed in ("", "dogs", "0a1", "a1b2c3d", str(store.root / FIRST)):
        assert (
            refusal(store, typed) == f"there is no study {typed} in {store.root}; it holds {both}."
        )
    assert "it holds none" in refusal(Store(store.root / "nowhere"), "pets")


def test_a_name_that_a_copy_has_too_is_told_with_the_folders(store: Store) -> None:
    study_names.rename(store, FIRST, "pets")
    shutil.copytree(store.root / FIRST, store.root / "a-copy")
    for whole in (False, True):
        with pytest.raises(SsrError, match=f"are called pets.*of a-copy, {FIRST}"):
            study_names.find(store.root, "pets", whole=whole)
    assert study_names.find(store.root, "a-copy", whole=True) == "a-copy"


def test_a_whole_name_is_meant_though_another_one_begins_with_it(store: Store) -> None:
    study_names.rename(store, FIRST, "pets")
    study_names.rename(store, SECOND, "pets-long")
    assert study_names.find(store.root, "pets") == FIRST
    assert study_names.find(store.root, "pets-") == SECOND


def test_records_alone_are_a_study_and_what_is_hidden_or_empty_is_none(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store, record = Store(tmp_path), make_record()
    store.write(store.folder(record.study, record.network, 0), record)
    (tmp_path / ".removed" / "x").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    assert study_names.every(tmp_path) == {record.study: None}


# What may be given


@pytest.mark.parametrize("name", ["", "-x", "a/b", "..", "a.", "a b", "x" * 101, "é", "a\n"])
def test_what_is_no_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(SsrError, match=r"cannot be a study's name: give up to 100 letters"):
        study_names.rename(store, FIRST, name)
    assert study_names.title(store.root, FIRST) == FIRST


def test_a_new_folder_that_is_another_ones_but_for_capitals_is_refused(store: Store) -> None:
    """Some disks have one folder for both; where there are two, each goes on."""
    alike = FIRST.upper()
    with pytest.raises(SsrError, match=f"or study={FIRST} to go on with that one"):
        study_names.refuse_taken(store.root, alike, alike, {})
    store.write_text(store.study_folder(alike) / studies.FILE, json.dumps(FAST))
    if alike in study_names.every(store.root):  # the disk tells them apart
        study_names.refuse_taken(store.root, alike, alike, {})


def test_a_name_of_another_study_is_refused_with_what_differs_and_what_to_type(
    store: Store,
) -> None:
    study_names.note(store, FIRST, FAST, None, "pets")
    with pytest.raises(SsrError) as caught:
        study_names.note(store, SECOND, SLOW, None, "pets")
    assert str(caught.value) == (
        f"name=pets is what another study in {store.root} is called, {FIRST} (recipe.lr is 0.1 "
        "there and 0.05 here): type another name, or study=pets to go on with that one."
    )
    with pytest.raises(SsrError, match="is what another study"):
        study_names.rename(store, SECOND, FIRST)  # which is that one's own name
    assert study_names.title(store.root, SECOND) == SECOND


def test_a_name_is_given_once_confirmed_and_changed_only_by_renaming(store: Store) -> None:
    study_names.note(store, FIRST, FAST, None, "pets")
    study_names.note(store, FIRST, FAST, None, "pets")
    with pytest.raises(SsrError, match=r"called pets already.*ssr studies name pets dogs"):
        study_names.note(store, FIRST, FAST, None, "dogs")
    study_names.rename(store, FIRST, "dogs")
    study_names.note(store, SECOND, SLOW, None, "pets")  # which is free again
    assert study_names.every(store.root) == {FIRST: "dogs", SECOND: "pets"}


def test_of_many_that_want_a_name_at_once_one_has_it(tmp_path: Path) -> None:
    store, names = Store(tmp_path), [f"study-{number}" for number in range(8)]
    for name in names:
        store.write_text(store.study_folder(name) / studies.FILE, json.dumps({"is": name}))

    def want(name: str) -> bool:
        try:
            study_names.rename(store, name, "pets")
        except SsrError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(want, names)) == 1
    assert list(study_names.every(tmp_path).values()).count("pets") == 1


# What is kept


def test_words_and_name_are_kept_apart_and_of_each_command_the_last_ones(store: Store) -> None:
    train, search = (Asked(command=one, words=("a=1", "b=x y")) for one in ("train", "search"))
    again = Asked(command="train", words=("a=2",), launcher=("hydra/launcher=joblib",))
    study_names.note(store, FIRST, FAST, train, "pets")
    study_names.note(store, FIRST, FAST, search, None)
    study_names.rename(store, FIRST, "dogs")
    study_names.note(store, FIRST, FAST, again, None)
    begun = study_names.read(store.study_folder(FIRST))
    assert begun == Begun(name="dogs", asked=(search, again))
    assert begun.by("train") == again and begun.by("search") == search


@pytest.mark.parametrize("text", ["", "{", '{"name": "../x"}', '{"schema_version": 9}', "[]"])
def test_a_damaged_file_is_named_and_is_as_none(
    store: Store, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (store.study_folder(FIRST) / study_names.FILE).write_text(text)
    assert study_names.read(store.study_folder(FIRST)) == Begun()
    assert study_names.find(store.root, FIRST) == FIRST
    path = store.study_folder(FIRST) / study_names.FILE
    assert f"skipped {path}" in caplog.text
    study_names.rename(store, FIRST, "anew")
    assert study_names.find(store.root, "anew") == FIRST
    assert path.with_name(f"{path.name}.unreadable").read_text() == text


def test_a_name_is_in_no_record_and_in_no_fingerprint(
    store: Store, make_record: MakeRecord
) -> None:
    record: Record = make_record(study=FIRST)
    store.write(store.folder(FIRST, record.network, 0), record)
    before = studies.read_all(store.root)
    study_names.rename(store, FIRST, "pets")
    assert studies.read_all(store.root) == before
    assert store.records(FIRST) == [record]


def test_a_copy_under_a_name_that_no_study_has_stands_for_no_other_one(tmp_path: Path) -> None:
    for name in ("a-b", "a b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / studies.FILE).write_text("{}")
    assert list(study_names.every(tmp_path)) == ["a-b"]
    with pytest.raises(SsrError, match="there is no study a b"):
        study_names.find(tmp_path, "a b")


@pytest.mark.parametrize(
    ("word", "needs"),
    [
        ("dataset.root=/data/my images", False),
        ("finalists.arms=[family,random]", False),
        ('dataset.root="/mnt/a (b), c: d@e"', False),
        ('dataset.root="/mnt/${oc.env:HOME}"', True),
        ("objective.max_drop=2%", False),
        ("modifiers.width=[1,0.5]", False),
        ("model=resnet20,resnet32", False),
        ("checkpoint=../runs/a/last.ckpt", False),
        ("model.arguments={width:32}", True),
        ("model={target: os.system}", True),
        ("model=../../x", True),
        ("~dataset", True),
        ("+x=1", True),
        ("task.trainer.plugins=x", True),
        ("hydra/launcher=x", True),
        ("dataset.root=${oc.env:HOME}", True),
        ("model.name=hf-hub:someone/net", True),
    ],
)
def test_what_a_file_may_say_without_trust_is_a_plain_value(word: str, needs: bool) -> None:
    assert study_names.needs_trust(word) is needs
