from __future__ import annotations

import json
import logging
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssr_exp.runs import studies

OURS: dict[str, Any] = {
    "model": {"name": "resnet20", "widths": [16, 32, 64]},
    "segment": {"kind": "stage", "multiple": 4},
    "recipe": {"lr": 0.05, "optimizer": "sgd", "ema_decay": None, "nesterov": True},
    "training": {"epochs": 200, "precision": "32-true"},
}

values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)
any_fields = st.dictionaries(st.text("abc", min_size=1), values, max_size=4)


def changed(**leaves: Any) -> dict[str, Any]:
    """Change ours: `changed(recipe__lr=0.1)`."""
    theirs = deepcopy(OURS)
    for key, value in leaves.items():
        part, _, name = key.partition("__")
        theirs[part][name] = value
    return theirs


def write(root: Path, name: str, fields: Any) -> None:
    (root / name).mkdir(parents=True)
    (root / name / studies.FILE).write_text(json.dumps(fields, indent=1))


# Which there are


def test_every_study_of_a_store_is_known_by_its_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path, name, OURS | {"name": name})
    (tmp_path / "no-study").mkdir()
    (tmp_path / studies.FILE).write_text("{}")
    assert studies.read_all(tmp_path) == {name: OURS | {"name": name} for name in ("a", "b")}
    assert list(studies.read_all(tmp_path)) == ["a", "b"]


def test_a_store_that_is_not_there_has_no_studies(tmp_path: Path) -> None:
    assert studies.read_all(tmp_path / "nowhere") == {}
    assert studies.siblings(tmp_path / "nowhere", OURS) == {}


def test_a_study_that_cannot_be_read_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "good", OURS)
    write(tmp_path, "broken", {})
    (tmp_path / "broken" / studies.FILE).write_bytes(b'{"model": ')
    assert studies.read_all(tmp_path) == {"good": OURS}
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert line.getMessage().startswith(f"skipped {tmp_path}/broken/{studies.FILE}: ")


# In what they differ


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ({"recipe__lr": 0.1}, ["recipe.lr is 0.1 there and 0.05 here"]),
        ({"recipe__optimizer": "adamw"}, ["recipe.optimizer is adamw there and sgd here"]),
        ({"recipe__ema_decay": 0.9}, ["recipe.ema_decay is 0.9 there and null here"]),
        ({"recipe__nesterov": False}, ["recipe.nesterov is false there and true here"]),
        ({"segment__multiple": 4.0}, ["segment.multiple is 4.0 there and 4 here"]),
        ({"model__widths": [16]}, ["model.widths is [16] there and [16, 32, 64] here"]),
        ({"recipe__new": 1}, ["recipe.new is 1 there and not known here"]),
        (
            {"training__epochs": 10, "model__name": "resnet56"},
            [
                "model.name is resnet56 there and resnet20 here",
                "training.epochs is 10 there and 200 here",
            ],
        ),
    ],
)
def test_each_value_that_differs_is_a_sentence(leaves: dict[str, Any], said: list[str]) -> None:
    assert studies.differences(changed(**leaves), OURS) == said


def test_what_only_one_of_them_has_is_said_as_such() -> None:
    theirs = changed()
    del theirs["recipe"]["lr"], theirs["segment"]
    assert studies.differences(theirs, OURS) == [
        "segment.kind is not known there and stage here",
        "segment.multiple is not known there and 4 here",
        "recipe.lr is not known there and 0.05 here",
    ]


def test_a_value_and_its_json_do_not_differ() -> None:
    ours = changed(model__widths=(16, 32, 64))
    assert studies.differences(json.loads(json.dumps(ours)), ours) == []


@given(any_fields, any_fields)
@settings(max_examples=40)
def test_two_studies_differ_if_and_only_if_their_fingerprints_would(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    texts = {json.dumps(fields, sort_keys=True) for fields in (one, other)}
    said = studies.differences(one, other)
    assert bool(said) == (len(texts) == 2)
    assert len(said) == len(studies.differences(other, one))


# Which differ in epochs alone


def test_a_sibling_differs_in_its_epochs_alone(tmp_path: Path) -> None:
    write(tmp_path, "ours", OURS)
    write(tmp_path, "short", changed(training__epochs=10))
    write(tmp_path, "long", changed(training__epochs=300))
    write(tmp_path, "other", changed(training__epochs=10, recipe__lr=0.1))
    write(tmp_path, "precise", changed(training__precision="64-true"))
    write(tmp_path, "more", changed(training__epochs=10, training__steps=1))
    assert studies.siblings(tmp_path, OURS) == {"long": 300, "short": 10}
    assert studies.siblings(tmp_path, changed(training__epochs=10)) == {"long": 300, "ours": 200}


def test_what_has_no_number_of_epochs_is_no_sibling(tmp_path: Path) -> None:
    for number, epochs in enumerate((None, True, 10.0, "10", -3, [10], {}, {"a": 1})):
        write(tmp_path, f"odd{number}", changed(training__epochs=epochs))
    assert studies.siblings(tmp_path, OURS) == {}


def test_what_a_training_writes_is_known_and_is_a_sibling_of_a_shorter_one(
    tmp_path: Path, conf: Any, instant: Any
) -> None:
    from ssr_exp.training import opened_study, run

    made = run.train(conf("trainer.max_epochs=3"))
    fields = opened_study.open(conf("trainer.max_epochs=1")).fields
    root = Path(conf().paths.runs)
    assert studies.siblings(root, fields) == {made.study: 3}
    assert studies.differences(studies.read_all(root)[made.study], fields) == [
        "training.epochs is 3 there and 1 here"
    ]


# What tells several apart


def test_studies_are_told_apart_by_what_is_not_the_same_in_all_of_them() -> None:
    told = studies.told_apart(
        {"a": OURS, "b": changed(recipe__lr=0.1), "c": changed(training__epochs=10)}
    )
    assert told == {
        "a": {"recipe.lr": "0.05", "trainer.max_epochs": "200"},
        "b": {"recipe.lr": "0.1", "trainer.max_epochs": "200"},
        "c": {"recipe.lr": "0.05", "trainer.max_epochs": "10"},
    }
    assert studies.told_apart({"a": OURS}) == {"a": {}}
    assert studies.told_apart({"a": OURS, "b": OURS}) == {"a": {}, "b": {}}
    assert studies.told_apart({}) == {}


def test_what_a_fingerprint_is_of_is_called_the_same_whatever_it_is_told_apart_from() -> None:
    hashes = [f"{number:08x}" + 56 * "0" for number in (7, 9, 7, 8)]
    fields = {
        name: {"dataset": {"content": value}, "task": {"code": {"my.net": value}}}
        for name, value in zip("abcd", hashes, strict=True)
    }
    for listed in ("abc", "abcd", "bd", "db"):
        told = studies.told_apart({name: fields[name] for name in listed})
        for name in listed:
            digits = fields[name]["dataset"]["content"][:8]
            assert told[name] == {"images and split": digits, "code of my.net": digits}


def test_a_fingerprint_that_differs_is_said_in_words_and_short_and_after_what_was_typed() -> None:
    def of(content: str, fraction: float) -> dict[str, Any]:
        return {"dataset": {"content": content * 64, "val_fraction": fraction}}

    (images,) = studies.differences(of("6", 0.1), of("a", 0.1))
    assert images == "not the same images: 66666666 there and aaaaaaaa here"
    assert studies.differences(of("6", 0.1), of("a", 0.2)) == [
        "dataset.val_fraction is 0.1 there and 0.2 here",
        "not the same images and split: 66666666 there and aaaaaaaa here",
    ]


@given(any_fields, any_fields)
@settings(max_examples=40)
def test_two_studies_are_told_apart_exactly_where_they_differ(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    told = studies.told_apart({"one": one, "other": other})
    keys = {*told["one"], *told["other"]}
    assert len(keys) == len(studies.differences(one, other))


def test_what_differs_in_content_alone_is_named_weights_and_code() -> None:
    ours = {"init": {"kind": "inherit", "checkpoint": "0123abcd"}, "recipe": {"lr": 0.1}}
    other = ours | {"init": {"kind": "inherit", "checkpoint": "ffff0000"}}
    assert studies.other_content(other, ours) == ["the weights that networks start from"]
    taught = {"lr": 0.1, "distill": {"teacher": "aa"}}
    moments = {"lr": 0.1, "distill": {"teacher": "aa", "target_mean": [1.0], "target_std": [2.0]}}
    said = studies.other_content(ours | {"recipe": taught}, ours | {"recipe": moments})
    assert said == ["the moments of the teacher's numbers"]
    for theirs in (ours, other | {"recipe": {"lr": 0.2}}, ours | {"init": {"kind": "fresh"}}):
        assert studies.other_content(theirs, ours) == []
    edited = ours | {"model": {"code": "11"}, "dataset": {"code": {"my.data": "1"}}}
    before = ours | {"model": {"code": "22"}, "dataset": {"code": {"my.data": "2"}}}
    assert studies.other_content(before, edited) == [
        "the code of your network",
        "the code of my.data",
    ]
