"""A table of latencies is read as it was written, or refused in a sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssr_exp import files
from ssr_exp.config import ModelConf, SegmentConf
from ssr_exp.edge.latency import table_file
from ssr_exp.edge.latency.table_file import LatencyRow, SeedNetwork, Setting, Timings
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import planning, saved

SETTING = Setting(runtime="eager", version="PyTorch 2.11", device="A CPU @ 2 GHz", threads=2)
SEED = SeedNetwork(
    model=saved.Model(name="resnet8"),
    segment=saved.Segmentation(multiple=4),
    input_shape=(3, 8, 8),
    num_classes=10,
)
ROW = LatencyRow(network="d1-1-1_w16-32-64", ms=2.0, low=1.5, high=2.5)
TABLE = Timings(
    seed=SEED,
    setting=SETTING,
    repeats=3,
    rows=(ROW, LatencyRow(network="d1-1-1_w4-8-8", ms=0.1 + 0.2, low=1e-9, high=1e9, fits=False)),
)

WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
COUNTS = st.integers(1, 2**31)
TIMES = st.floats(0, exclude_min=True, allow_infinity=False)
ROWS = st.builds(LatencyRow, network=WORDS, ms=TIMES, low=TIMES, high=TIMES, fits=st.booleans())
SETTINGS = st.builds(Setting, runtime=WORDS, version=WORDS, device=WORDS, threads=COUNTS)


def edited(path: Path, *place: str | int, value: object) -> Path:
    table_file.write(path, TABLE)
    fields = inner = files.parse_fields(path.read_bytes())
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(fields))
    return path


@settings(deadline=None, max_examples=10)  # disks may be slow
@given(rows=st.lists(ROWS, max_size=4), setting=SETTINGS, repeats=COUNTS)
def test_what_was_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[LatencyRow], setting: Setting, repeats: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "table.json"
    table = Timings(seed=SEED, setting=setting, repeats=repeats, rows=tuple(rows))
    table_file.write(path, table)
    assert table_file.read(path) == table


def test_a_table_is_written_whole_into_a_folder_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.json"
    table_file.write(path, TABLE)
    assert table_file.read(path) == TABLE
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("key", "ms"),
    [("ms", 0), ("low", -1), ("high", float("nan")), ("ms", float("inf")), ("ms", "2")],
)
def test_a_latency_that_is_none_is_refused(tmp_path: Path, key: str, ms: object) -> None:
    path = edited(tmp_path / "table.json", "rows", 0, key, value=ms)
    with pytest.raises(
        SsrError, match=rf"table.json cannot be used: .*rows.0.{key}.*measure again"
    ):
        table_file.read(path)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("schema_version", table_file.SCHEMA + 1, "it is of version"),
        ("repeats", 0, "repeats"),
        ("setting", {}, "setting.runtime"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, key: str, value: object, why: str) -> None:
    path = edited(tmp_path / "table.json", key, value=value)
    with pytest.raises(SsrError, match=rf"table.json cannot be used: {why}.*; measure again\.$"):
        table_file.read(path)


def test_a_missing_table_is_answered_with_what_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    command = re.escape(f"ssr latency STUDY --fit --out {path}")
    with pytest.raises(SsrError, match=command):
        table_file.read(path)
    with pytest.raises(SsrError, match="cannot be used"):
        table_file.read(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"model": saved.Model(name="resnet14")},
        {"segment": saved.Segmentation(multiple=8)},
        {"input_shape": (3, 16, 16)},
        {"num_classes": 11},
    ],
)
def test_another_seed_is_told_by_the_field_that_differs(other: dict[str, object]) -> None:
    (field,) = other
    assert SEED.differs(SEED.model_copy()) is None
    assert (told := SEED.differs(SEED.model_copy(update=other))) is not None
    assert told.startswith(f"its {field} is ") and ", and here it is " in told


def test_what_is_frozen_is_no_part_of_the_seed() -> None:
    def seed(split: SegmentConf, name: str = "resnet8") -> SeedNetwork:
        model = ModelConf(name)
        _, plan = planning.seed_and_plan(model, split, num_classes=10, input_shape=(3, 8, 8))
        return SeedNetwork.from_plan(model, split, plan, 10)

    assert seed(SegmentConf()) == seed(SegmentConf(frozen=["stage1"])) == SEED
    assert seed(SegmentConf(multiple=8)) != SEED != seed(SegmentConf(), "resnet14")


def test_a_slug_is_fit_for_a_file_and_differs_where_anything_does() -> None:
    changes = {"runtime": "compile", "version": "2", "device": "GPU", "threads": 1, "batch": 8}
    others = {SETTING.model_copy(update={key: value}).slug for key, value in changes.items()}
    assert len(others | {SETTING.slug}) == 6
    assert all(re.fullmatch(r"[\w-]+", slug) for slug in others)


def test_a_setting_says_what_ran_where() -> None:
    assert str(SETTING) == "eager (PyTorch 2.11), batch 1, A CPU @ 2 GHz, 2 threads"
    assert str(SETTING.model_copy(update={"threads": 1})).endswith("1 thread")
