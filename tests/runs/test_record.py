from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ssr_exp.files import Unreadable
from ssr_exp.runs import record
from ssr_exp.runs.record import Fractions, Kind, Record, Status

MakeRecord = Callable[..., Record]

CONTRACT = """study network modifiers blocks widths seed epochs val_acc test_acc params macs gemms
wall_s device status error""".split()

share = st.floats(0, 1, exclude_min=True)
percent = st.none() | st.floats(0, 100)
count = st.integers(0, 2**63 - 1)
text = st.text(st.characters(codec="utf-8"))
any_record = st.builds(
    Record,
    study=text,
    network=text,
    model=text,
    dataset=text,
    modifiers=st.builds(
        Fractions, depth=st.lists(share).map(tuple), width=st.lists(share).map(tuple)
    ),
    blocks=st.lists(count).map(tuple),
    widths=st.lists(count).map(tuple),
    seed=count,
    epochs=count,
    status=st.sampled_from(Status),
    error=st.none() | text,
    val_acc=percent,
    val_loss=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    params=count,
    macs=count,
    gemms=count,
    baseline_params=st.integers(1, 2**63 - 1),
    baseline_macs=st.integers(1, 2**63 - 1),
    baseline_gemms=st.integers(1, 2**63 - 1),
    latency_ms=st.none() | st.floats(0, 1e9, exclude_min=True),
    latency_device=st.none() | text,
    wall_s=st.floats(0, 1e9),
    device=text,
    precision=text,
    versions=st.dictionaries(text, text),
    git_commit=st.none() | text,
    started_at=text,
    origin=st.none() | st.text(st.characters(codec="utf-8"), max_size=100),
)


@given(any_record)
def test_a_record_survives_its_json(one: Record) -> None:
    assert record.parse(one.to_json()) == one
    assert record.parse(one.to_json().encode()) == one


def test_the_contracts_keys_are_in_the_json(make_record: MakeRecord) -> None:
    fields = make_record().model_dump(mode="json")
    assert set(CONTRACT) <= set(fields)
    assert fields["status"] == "finished"
    assert fields["modifiers"] == {"depth": [1.0, 1 / 3, 1.0], "width": [1.0, 1.0, 1.0]}
    assert fields["test_acc"] is None


def test_json_has_one_key_a_line(make_record: MakeRecord) -> None:
    lines = make_record().to_json().splitlines()
    assert all(any(line.startswith(f' "{key}": ') for line in lines) for key in CONTRACT)


def test_a_record_cannot_be_changed(make_record: MakeRecord) -> None:
    with pytest.raises(ValidationError):
        make_record().val_acc = 100.0


def refusal(content: str | bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        record.parse(content)
    assert len(str(caught.value)) > 5
    return str(caught.value)


def test_a_record_cut_short_anywhere_is_unreadable(make_record: MakeRecord) -> None:
    whole = make_record(error="ünïcode").to_json().strip().encode()
    for length in range(len(whole)):
        refusal(whole[:length])


def test_a_record_of_a_future_version_is_named_as_such(make_record: MakeRecord) -> None:
    fields = make_record().model_dump(mode="json")
    later = json.dumps(fields | {"schema_version": record.SCHEMA + 1, "status": "promoted"})
    assert "version 2" in refusal(later)


@pytest.mark.parametrize("version", ["2", 2.0, 1.5, [], None, -math.inf, True], ids=repr)
def test_a_version_that_is_no_whole_number_is_unreadable(
    make_record: MakeRecord, version: object
) -> None:
    fields = make_record().model_dump(mode="json")
    refusal(json.dumps(fields | {"schema_version": version}))


def test_a_record_from_before_latencies_were_measured_is_read(make_record: MakeRecord) -> None:
    fields = make_record().model_dump(mode="json")
    del fields["latency_ms"], fields["latency_device"]
    assert record.parse(json.dumps(fields)) == make_record()


def test_a_key_that_a_later_writer_added_does_no_harm(make_record: MakeRecord) -> None:
    fields = make_record().model_dump(mode="json")
    assert record.parse(json.dumps(fields | {"energy_j": 12.0})) == make_record()


WRONG: list[tuple[str, Any]] = [
    ("study", 1),
    ("network", None),
    ("modifiers", [1, 1]),
    ("modifiers", {"depth": [1.0], "width": "1"}),
    ("modifiers", {"depth": [math.nan], "width": [1.0]}),
    ("blocks", "3-1-3"),
    ("blocks", [3, "1", 3]),
    ("widths", [-1]),
    ("seed", "0"),
    ("seed", 10**30),
    ("epochs", -1),
    ("epochs", 1.5),
    ("status", "promoted"),
    ("status", 3),
    ("val_acc", 100.5),
    ("val_acc", -1),
    ("val_acc", math.nan),
    ("val_acc", "97"),
    ("val_loss", math.inf),
    ("wall_s", -1),
    ("wall_s", 10**400),
    ("params", 10**400),
    ("params", 2**63),
    ("params", True),
    ("macs", None),
    ("baseline_params", 0),
    ("latency_ms", 0),
    ("latency_ms", -1.5),
    ("latency_device", 3),
    ("versions", {"torch": 2}),
    ("started_at", {}),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{k}-{str(v)[:20]}" for k, v in WRONG])
def test_a_wrong_value_is_unreadable_and_its_key_named(
    make_record: MakeRecord, key: str, value: object
) -> None:
    fields = make_record().model_dump(mode="json")
    assert key in refusal(json.dumps(fields | {key: value}))


@pytest.mark.parametrize("key", [k for k in CONTRACT if k not in ("val_acc", "test_acc", "error")])
def test_a_missing_key_is_unreadable_and_named(make_record: MakeRecord, key: str) -> None:
    fields = make_record().model_dump(mode="json")
    del fields[key]
    assert key in refusal(json.dumps(fields))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 512,
        b"null",
        b"[]",
        b'"record"',
        b"3",
        b"\xff\xfe\x00",
        b'{"schema_version": ' + b"9" * 5000 + b"}",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"1e999",
    ],
    ids=["empty", "zeros", "null", "list", "text", "number", "binary", "huge", "deep", "nest", "e"],
)
def test_what_is_no_record_is_unreadable(content: bytes) -> None:
    refusal(content)


def test_text_that_no_terminal_can_show_is_unreadable(make_record: MakeRecord) -> None:
    refusal(make_record(network="here").to_json().replace("here", "\\ud800"))


@given(st.binary())
def test_random_bytes_are_unreadable(content: bytes) -> None:
    refusal(content)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=6)


@given(changes=st.dictionaries(st.sampled_from(sorted(Record.model_fields)), values))
def test_random_values_are_a_record_or_unreadable(changes: dict[str, Any]) -> None:
    try:
        one = record.parse(json.dumps(json.loads(WHOLE) | changes))
    except Unreadable as reason:
        assert str(reason)
    else:
        assert record.parse(one.to_json()) == one


WHOLE = """{"study": "s", "network": "d1_w4", "model": "m", "dataset": "d", "blocks": [1],
"modifiers": {"depth": [1.0], "width": [1.0]}, "widths": [4], "seed": 0, "epochs": 1,
"status": "failed", "params": 1, "macs": 1, "gemms": 1, "baseline_params": 1, "baseline_macs": 1,
"baseline_gemms": 1, "wall_s": 1, "device": "d", "precision": "p", "versions": {},
"git_commit": null, "started_at": "now"}"""


# Why it was trained

SMALLER = Fractions(depth=(1.0, 1.0, 1.0), width=(1.0, 0.5, 1.0))
FULL = Fractions(depth=(1.0, 1.0, 1.0), width=(1.0, 1.0, 1.0))
KINDS = {
    "sentinel_all": Kind.sentinel,
    "sentinel_depth": Kind.sentinel,
    "sentinel_width": Kind.sentinel,
    "sentinel_joint": Kind.sentinel,
    "uniform_depth": Kind.uniform,
    "uniform_width": Kind.uniform,
    "compound": Kind.uniform,
    "scbp": Kind.scbp,
    "random": Kind.random,
    "proposed": Kind.proposed,
    "round0": Kind.proposed,
    "round12": Kind.proposed,
    "finalist": Kind.finalist,
    "explicit": Kind.other,
    "my-own_sweep": Kind.other,
    "round": Kind.other,
    "round12b": Kind.other,
    "around1": Kind.other,
    "Sentinel_all": Kind.other,
    "": Kind.other,
    None: Kind.other,
}


@pytest.mark.parametrize("origin", KINDS, ids=repr)
def test_the_origin_of_a_smaller_network_says_of_which_kind_it_is(
    make_record: MakeRecord, origin: str | None
) -> None:
    assert make_record(origin=origin, modifiers=SMALLER).kind is KINDS[origin]


@pytest.mark.parametrize("origin", [origin for origin in KINDS if origin != "finalist"], ids=repr)
def test_a_full_network_is_the_baseline_whoever_asked_for_it(
    make_record: MakeRecord, origin: str | None
) -> None:
    assert make_record(origin=origin, modifiers=FULL).kind is Kind.baseline


def test_a_full_network_among_the_finalists_is_a_finalist(make_record: MakeRecord) -> None:
    assert make_record(origin=record.FINALIST, modifiers=FULL).kind is Kind.finalist


@pytest.mark.parametrize("origin", ["baseline", "baseline_2", "finalist_2"])
def test_a_smaller_network_is_no_baseline_whatever_is_typed(
    make_record: MakeRecord, origin: str
) -> None:
    kind = make_record(origin=origin, modifiers=SMALLER).kind
    assert kind not in (Kind.baseline, Kind.finalist)


def test_every_kind_of_modifiers_is_told_apart_or_other_on_purpose() -> None:
    from ssr_exp.rescaling import sets

    known = {*sets.KINDS, sets.PROPOSED}
    assert known - set(KINDS) == {"baseline"}


@pytest.mark.parametrize(
    ("origin", "number"),
    [
        ("round0", 0),
        ("round1", 1),
        ("round12", 12),
        ("round999999", 999_999),
        ("round1000000", None),
        ("round", None),
        ("round-1", None),
        ("round1 ", None),
        ("round1\n", None),
        ("xround1", None),
        ("finalist", None),
        ("sentinel_all", None),
        ("", None),
        (None, None),
    ],
    ids=repr,
)
def test_a_searchs_round_is_read_from_the_origin(
    make_record: MakeRecord, origin: str | None, number: int | None
) -> None:
    assert make_record(origin=origin).round == number


@given(origin=st.none() | st.text(max_size=100), full=st.booleans())
def test_every_origin_has_a_kind(origin: str | None, full: bool) -> None:
    one = record.parse(WHOLE).model_copy(
        update={"origin": origin, "modifiers": FULL if full else SMALLER}
    )
    assert one.kind in Kind
    assert one.round is None or one.round >= 0


def test_a_record_from_before_origins_were_kept_is_read(make_record: MakeRecord) -> None:
    fields = make_record().model_dump(mode="json")
    del fields["origin"]
    one = record.parse(json.dumps(fields))
    assert one == make_record()
    assert (one.origin, one.kind, one.round) == (None, Kind.other, None)
    assert record.parse(WHOLE).kind is Kind.baseline


def test_a_record_of_today_is_read_by_a_reader_that_knows_no_origin(
    make_record: MakeRecord,
) -> None:
    """An earlier ssr_exp ignores a key that it does not know, if the version is its own."""
    fields = make_record(origin="round3").model_dump(mode="json")
    assert fields["origin"] == "round3" and fields["schema_version"] == 1
    assert set(fields) - {"origin"} == set(Record.model_fields) - {"origin"}
    assert not {"kind", "round"} & set(fields)


@pytest.mark.parametrize("origin", [3, ["round1"], "x" * 101], ids=["number", "list", "long"])
def test_an_origin_that_is_no_short_text_is_unreadable(
    make_record: MakeRecord, origin: object
) -> None:
    fields = make_record().model_dump(mode="json")
    assert "origin" in refusal(json.dumps(fields | {"origin": origin}))
