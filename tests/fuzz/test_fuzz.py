"""A small part of `python -m tests.fuzz`, and the laws of what it is made of."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssr_exp import files
from ssr_exp.runs import record
from tests.fuzz import driver, mutate, targets

FEW = {"record": 2_000, "code": 1_000, "config": 40, "images": 40}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FUZZED = Path(__file__).parents[2] / "results" / "fuzz.json"


@pytest.mark.parametrize("name", targets.names())
def test_no_reader_breaks_at_a_damaged_input(name: str, tmp_path: Path) -> None:
    tally = driver.run(name, inputs=FEW[name], seed=1, failures=tmp_path)
    assert tally.failures == {}
    assert sum(tally.ended.values()) == tally.inputs == FEW[name]
    assert 0 < tally.ended[driver.ACCEPTED] < tally.inputs, "the inputs reach too little"


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(key=st.sampled_from(sorted(targets.RECORD)), value=JSON)
def test_a_record_is_read_again_as_it_was_written_or_refused(key: str, value: object) -> None:
    try:
        found = record.parse(json.dumps(targets.RECORD | {key: value}))
    except files.Unreadable as error:
        assert str(error)
    else:
        assert record.parse(found.to_json()) == found


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=200))
def test_bytes_are_a_record_or_refused(data: bytes) -> None:
    with pytest.raises(files.Unreadable):
        record.parse(data)


@pytest.mark.parametrize("name", targets.names())
def test_the_same_seed_draws_the_same_inputs(name: str) -> None:
    make = targets.find(name).make
    assert [make(Random(3)) for _ in range(2)] == [make(Random(3)) for _ in range(2)]


def test_the_shares_are_of_a_whole() -> None:
    assert sum(targets.find(name).share for name in targets.names()) == pytest.approx(1)


def test_what_breaks_a_reader_is_counted_and_kept(tmp_path: Path) -> None:
    def read(data: bytes) -> None:
        raise KeyError(data) if data == b"a" else ValueError("" if data == b"b" else "it is odd")

    target, tally = targets.Target(lambda _: b"", read, (ValueError,), 1.0), driver.Tally()
    for data in (b"a", b"b", b"c"):
        driver.one(target, data, tally, tmp_path)
    assert dict(tally.ended) == {"ValueError": 2}
    assert tally.failures.total() == 2
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"a", b"b"]


@pytest.mark.parametrize("of_work", [False, True])
def test_a_reader_that_hangs_is_stopped(of_work: bool) -> None:
    with pytest.raises(driver.TooLongError), driver.within(0.05, of_work=of_work) as restart:
        restart()
        while True:
            pass


def test_damage_leaves_the_original_as_it_is() -> None:
    before = json.dumps(targets.RECORD)
    for seed in range(200):
        mutate.tree(targets.RECORD, Random(seed))
    assert json.dumps(targets.RECORD) == before


def test_the_committed_run_broke_nothing() -> None:
    told = json.loads(FUZZED.read_text())
    assert told["failures"] == 0
    assert sum(one["inputs"] for one in told["targets"].values()) == told["inputs"] >= 10**6
    assert set(told["targets"]) == set(targets.names())
