from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ssr_exp.files import Unreadable
from ssr_exp.runs import record
from ssr_exp.runs.record import Fractions, Kind, Record, Status
from ssr_exp.runs.score import ACCURACY, Direction, Score

MakeRecord = Callable[..., Record]

CONTRACT = """study network modifiers blocks widths seed epochs val_acc test_acc params macs gemms
wall_s device status error""".split()
# The fewest keys that a record has; what is left out here has a default.
WHOLE = """{"study": "s", "network": "d1_w4", "model": "m", "dataset": "d", "blocks": [1],
"modifiers": {"depth": [1.0], "width": [1.0]}, "widths": [4], "seed": 0, "epochs": 1,
"status": "failed", "params": 1, "macs": 1, "gemms": 1, "baseline_params": 1, "baseline_macs": 1,
"baseline_gemms": 1, "wall_s": 1, "device": "d", "precision": "p", "versions": {},
"git_commit": null, "started_at": "now"}"""

shares = st.lists(st.floats(0, 1, exclude_min=True), max_size=5).map(tuple)
percent = st.none() | st.floats(0, 100)
count = st.integers(0, 2**63 - 1)
text = st.text(st.characters(codec="utf-8"), max_size=20)
few = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
any_record = st.builds(
    Record,
    study=text,
    modifiers=st.builds(Fractions, depth=shares, width=shares),
    blocks=st.lists(count, max_size=5).map(tuple),
    seed=count,
    status=st.sampled_from(Status),
    error=st.none() | text,
    score=percent,
    metrics=st.dictionaries(text, st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    baseline_params=st.integers(1, 2**63 - 1),
    latency_ms=st.none() | st.floats(0, 1e9, exclude_min=True),
    versions=st.dictionaries(text, text, max_size=3),
    origin=st.none() | st.text(st.characters(codec="utf-8"), max_size=100),
    **{name: st.just(value) for name, value in {
        "network": "n", "model": "m", "dataset": "d", "widths": (1,), "epochs": 1, "params": 1,
        "macs": 1, "gemms": 1, "baseline_macs": 1, "baseline_gemms": 1, "wall_s": 0.5,
        "device": "d", "precision": "p", "git_commit": None, "started_at": "now",
    }.items()},
)  # fmt: skip


@given(any_record)
@few
def test_a_record_survives_its_json(one: Record) -> None:
    assert record.parse(one.to_json()) == record.parse(one.to_json().encode()) == one


def test_the_contracts_keys_are_in_the_json_one_a_line(make_record: MakeRecord) -> None:
    fields = make_record(origin="round3").model_dump(mode="json")
    assert set(CONTRACT) <= set(fields)
    assert (fields["status"], fields["origin"], fields["schema_version"]) == (
        "finished",
        "round3",
        2,
    )
    assert fields["modifiers"] == {"depth": [1.0, 1 / 3, 1.0], "width": [1.0, 1.0, 1.0]}
    assert fields["test_acc"] is None
    assert not {"kind", "round"} & set(fields)
    lines = make_record().to_json().splitlines()
    assert all(any(line.startswith(f' "{key}": ') for line in lines) for key in CONTRACT)


def test_a_record_cannot_be_changed(make_record: MakeRecord) -> None:
    with pytest.raises(ValidationError):
        make_record().score = 100.0


def refusal(content: str | bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        record.parse(content)
    assert len(str(caught.value)) > 5
    return str(caught.value)


def test_a_record_cut_short_anywhere_is_unreadable(make_record: MakeRecord) -> None:
    whole = make_record(error="ünïcode").to_json().strip().encode()
    for length in range(len(whole)):
        refusal(whole[:length])


def test_a_version_that_is_no_whole_number_is_unreadable(make_record: MakeRecord) -> None:
    fields = make_record().model_dump(mode="json")
    for version in ("2", 2.0, 1.5, [], None, -math.inf, True):
        refusal(json.dumps(fields | {"schema_version": version}))


def test_a_key_that_a_later_writer_added_does_no_harm(make_record: MakeRecord) -> None:
    fields = make_record().model_dump(mode="json")
    assert record.parse(json.dumps(fields | {"energy_j": 12.0})) == make_record()


def test_the_fewest_keys_make_a_record() -> None:
    one = record.parse(WHOLE)
    assert (one.origin, one.latencies, one.kind) == (None, None, Kind.baseline)


# A key and values that it cannot have, as JSON.
WRONG = """
study 1
network null
modifiers [1, 1]   {"depth": [1.0], "width": "1"}   {"depth": [NaN], "width": [1.0]}
blocks "3-1-3"   [3, "1", 3]
widths [-1]
seed "0"   1000000000000000000000000000000
epochs -1   1.5
status "promoted"   3
score 100.5   -1   NaN   "97"
bounds [0]   [NaN, 1]   [0, 1, 2]
direction "up"
scores [Infinity]   ["1"]
metrics {"val/loss": Infinity}   [1]
wall_s -1   1e999
params 9223372036854775808   true
macs null
baseline_params 0
latency_ms 0   -1.5
latency_device 3
versions {"torch": 2}
started_at {}
origin 3   ["round1"]
"""


@pytest.mark.parametrize("line", WRONG.strip().splitlines(), ids=lambda line: line.split()[0])
def test_a_wrong_value_is_unreadable_and_its_key_named(line: str) -> None:
    key, _, values = line.partition(" ")
    for value in values.split("   "):
        assert key in refusal(json.dumps(json.loads(WHOLE) | {key: json.loads(value)})), value


def test_numbers_and_texts_beyond_all_bounds_are_unreadable() -> None:
    for fields in ({"wall_s": 10**400}, {"params": 10**400}, {"origin": "x" * 101}):
        (key,) = fields
        assert key in refusal(json.dumps(json.loads(WHOLE) | fields))
    assert refusal(WHOLE.replace("d1_w4", "\\ud800"))  # no terminal can show it


def test_a_missing_key_is_unreadable_and_named() -> None:
    for key in set(CONTRACT) - {"val_acc", "test_acc", "error"}:
        fields = json.loads(WHOLE)
        del fields[key]
        assert key in refusal(json.dumps(fields))


def test_schema_1_is_read_as_a_score_of_accuracy() -> None:
    earlier = {"schema_version": 1, "val_acc": 91.5, "best_val_acc": 92.0, "val_loss": 0.25}
    earlier |= {"status": "finished", "test_acc": None, "test_loss": None}
    one = record.parse(json.dumps(json.loads(WHOLE) | earlier))
    assert (one.score, one.best_score, one.test_score) == (91.5, 92.0, None)
    assert (one.val_acc, one.best_val_acc, one.test_acc) == (91.5, 92.0, None)
    assert (one.val_loss, one.test_loss, one.metrics) == (0.25, None, {"val/loss": 0.25})
    assert one.scored_by == ACCURACY and one.is_measured
    assert record.parse(one.to_json()) == one


def test_another_score_is_no_accuracy(make_record: MakeRecord) -> None:
    rmse = Score(key="val/rmse", direction=Direction.min, unit="m", bounds=(0.0, None))
    one = make_record(score=0.3, test_score=0.4, **rmse.fields())
    again = record.parse(one.to_json())
    assert again == one and again.scored_by.text(0.25) == "0.25 m"
    assert (again.val_acc, again.test_acc) == (None, None)
    assert make_record(score=120.0, best_score=None, bounds=(None, None)).score == 120.0


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=6)


@given(changes=st.dictionaries(st.sampled_from(sorted(Record.model_fields)), values))
@few
def test_random_values_are_a_record_or_unreadable(changes: dict[str, Any]) -> None:
    try:
        one = record.parse(json.dumps(json.loads(WHOLE) | changes))
    except Unreadable as reason:
        assert str(reason)
    else:
        assert record.parse(one.to_json()) == one


# Why it was trained

SMALLER = Fractions(depth=(1.0, 1.0, 1.0), width=(1.0, 0.5, 1.0))
FULL = Fractions(depth=(1.0, 1.0, 1.0), width=(1.0, 1.0, 1.0))
KINDS = {
    Kind.sentinel: ["sentinel_all", "sentinel_depth", "sentinel_width", "sentinel_joint"],
    Kind.uniform: ["uniform_depth", "uniform_width", "compound"],
    Kind.scbp: ["scbp"],
    Kind.random: ["random"],
    Kind.proposed: ["proposed", "round0", "round12"],
    Kind.finalist: ["finalist"],
    Kind.other: ["explicit", "my-own_sweep", "round", "round12b", "around1", "Sentinel_all", ""],
}


def test_the_origin_of_a_smaller_network_says_of_which_kind_it_is(make_record: MakeRecord) -> None:
    for kind, origins in KINDS.items():
        for origin in origins:
            assert make_record(origin=origin, modifiers=SMALLER).kind is kind, origin
            full = Kind.finalist if kind is Kind.finalist else Kind.baseline  # whoever asked for it
            assert make_record(origin=origin, modifiers=FULL).kind is full, origin
    assert make_record(origin=None, modifiers=SMALLER).kind is Kind.other
    for origin in ("baseline", "baseline_2", "finalist_2"):
        assert make_record(origin=origin, modifiers=SMALLER).kind is Kind.other


def test_every_kind_of_modifiers_is_told_apart_or_other_on_purpose() -> None:
    from ssr_exp.rescaling import sets

    told = {origin for origins in KINDS.values() for origin in origins}
    assert {*sets.KINDS, sets.PROPOSED} - told == {"baseline"}


def test_a_searchs_round_is_read_from_the_origin(make_record: MakeRecord) -> None:
    rounds = {"round0": 0, "round1": 1, "round12": 12, "round999999": 999_999}
    others = ["round1000000", "round", "round-1", "round1 ", "round1\n", "xround1", "finalist", ""]
    for origin, number in (rounds | dict.fromkeys(others)).items():
        assert make_record(origin=origin).round == number, origin
    assert make_record(origin=None).round is None
