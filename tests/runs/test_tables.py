from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ssr_exp.errors import SsrError
from ssr_exp.runs import tables
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.tables import TableRow

MakeRecord = Callable[..., Record]
Write = Callable[..., Path]

ONE = "d3-1-3_w16-32-64"
TWO = "d1-1-1_w16-8b-64"
HEADER = "network,val_acc"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a table: `write("network,val_acc", "d1_w4,90")`."""

    def to_file(*lines: str | bytes, name: str = "table.csv", end: bytes = b"\n") -> Path:
        path = tmp_path / name
        content = [line.encode() if isinstance(line, str) else line for line in lines]
        path.write_bytes(b"".join(line + end for line in content))
        return path

    return to_file


def refusal(path: Path) -> str:
    with pytest.raises(SsrError) as caught:
        tables.read(path)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    assert said.endswith(".")
    return said


def as_json(**fields: Any) -> str:
    return json.dumps({"network": ONE, "val_acc": 90.5} | fields)


# What is read


def test_two_columns_are_enough(write: Write) -> None:
    assert tables.read(write(HEADER, f"{ONE},90.5", f"{TWO},91")) == [
        TableRow(network=ONE, val_acc=90.5),
        TableRow(network=TWO, val_acc=91.0),
    ]
    path = write(as_json(), as_json(network=TWO, val_acc=91), name="table.jsonl")
    assert tables.read(path) == [
        TableRow(network=ONE, val_acc=90.5),
        TableRow(network=TWO, val_acc=91.0),
    ]


WHOLE: dict[str, Any] = {"network": TWO, "val_acc": 91.25, "study": "a study, of ours", "seed": 3}
WHOLE |= {
    "epochs": 200,
    "status": "finished",
    "val_loss": 0.5,
    "test_acc": 90.0,
    "score": 91.25,
    "test_score": 90.0,
    "score_key": "val/acc",
}
WHOLE |= {"latency_ms": 1.5, "latency_device": "a phone", "wall_s": 12.0}


def test_every_column_is_read_in_any_order(write: Write) -> None:
    made = [TableRow(**WHOLE | {"status": Status.finished})]
    names = sorted(WHOLE)
    cells = (f'"{WHOLE[name]}"' for name in names)
    assert tables.read(write(",".join(names), ",".join(cells))) == made
    assert tables.read(write(json.dumps(WHOLE), name="table.jsonl")) == made
    assert set(WHOLE) == set(TableRow.model_fields)


def test_what_is_not_known_may_be_empty(write: Write) -> None:
    rest = [name for name in TableRow.model_fields if name not in tables.REQUIRED]
    empty = write(",".join([*tables.REQUIRED, *rest]), ",".join([ONE, "90", *[" "] * len(rest)]))
    null = write(as_json(val_acc=90, **dict.fromkeys(rest)), name="table.jsonl")
    for path in (empty, null):
        (row,) = tables.read(path)
        assert row == TableRow(network=ONE, val_acc=90.0)
        assert (row.seed, row.status, row.epochs, row.study) == (0, Status.finished, None, None)


def test_columns_that_are_not_ours_are_ignored(write: Write) -> None:
    made = [TableRow(network=ONE, val_acc=90.5)]
    assert tables.read(write(f",who,,{HEADER},_target_", f"0,me,,{ONE},90.5,os.system")) == made
    path = write(as_json(who={"a": [1]}, _target_="os.system", x=math.nan), name="table.jsonl")
    assert tables.read(path) == made


def test_whole_records_on_a_line_each_are_rows(write: Write, make_record: MakeRecord) -> None:
    made = [
        make_record(latency_ms=2.0, latency_device="a phone"),
        make_record(status=Status.failed, error="x", val_acc=None, val_loss=None),
    ]
    lines = [json.dumps(json.loads(record.to_json())) for record in made]
    rows = tables.read(write(*lines, name="table.jsonl"))
    for row, record in zip(rows, made, strict=True):
        assert row.model_dump() == {k: getattr(record, k) for k in TableRow.model_fields}


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_run_that_did_not_finish_needs_no_accuracy(write: Write, status: str) -> None:
    lines = [f"{HEADER},status", f"{ONE},,{status}", f"{TWO},10,{status}"]
    read = tables.read(write(*lines))
    assert [(row.val_acc, row.status.value) for row in read] == [(None, status), (10.0, status)]
    (one,) = tables.read(write(as_json(val_acc=None, status=status), name="table.jsonl"))
    assert (one.val_acc, one.status) == (None, Status(status))


def test_whole_numbers_may_be_written_with_a_point(write: Write) -> None:
    csv = write(f"{HEADER},seed,epochs", f"{ONE},90,3.0,200.0")
    lines = write(as_json(val_acc=90, seed=3.0, epochs=200.0), name="table.jsonl")
    for path in (csv, lines):
        assert tables.read(path) == [TableRow(network=ONE, val_acc=90.0, seed=3, epochs=200)]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "bom"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["unix", "windows"])
def test_byte_order_marks_line_ends_and_empty_lines_make_no_difference(
    write: Write, mark: bytes, end: bytes
) -> None:
    made = [TableRow(network=ONE, val_acc=90.5, study="ünï")]
    csv = [mark + f"{HEADER} , study".encode(), "", f" {ONE} , 90.5 , ünï", ",,", ""]
    assert tables.read(write(*csv, end=end)) == made
    lines = [mark + as_json(study="ünï").encode(), "  ", ""]
    assert tables.read(write(*lines, name="table.JSONL", end=end)) == made


def test_a_row_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        TableRow(network=ONE, val_acc=90.0).val_acc = 100.0


rows = st.builds(
    TableRow,
    network=st.sampled_from([ONE, TWO, f"resnet20_{ONE}"]),
    val_acc=st.floats(1.5, 100),
    study=st.none()
    | st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"]), min_size=1),
    seed=st.integers(0, 2**63 - 1),
    epochs=st.none() | st.integers(0, 10**6),
    status=st.sampled_from(Status),
    val_loss=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    latency_ms=st.none() | st.floats(1e-6, 1e6),
    wall_s=st.none() | st.floats(0, 1e9),
)


@given(made=st.lists(rows, min_size=1, max_size=4))
@settings(max_examples=40)
def test_what_is_written_is_read(
    made: list[TableRow], tmp_path_factory: pytest.TempPathFactory
) -> None:
    import csv

    folder = tmp_path_factory.mktemp("tables")
    dumped = [row.model_dump(mode="json") for row in made]
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(TableRow.model_fields))
        writer.writeheader()
        writer.writerows(dumped)
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dumped))
    assert tables.read(folder / "table.csv") == made
    assert tables.read(folder / "table.jsonl") == made


# What is refused


# A column, its cell, and what is allowed.
BROKEN = """
network|resnet20|a code such as d9-1-9_w16-8-32
network||a code such as
val_acc||percent, from 0 to 100
val_acc|many|percent, from 0 to 100
val_acc|nan|percent, from 0 to 100
val_acc|inf|percent, from 0 to 100
val_acc|-1|percent, from 0 to 100
val_acc|100.5|percent, from 0 to 100
val_acc|90 %|percent, from 0 to 100
test_acc|101|percent, from 0 to 100, or empty
seed|-1|a whole number, 0 or more, or empty
seed|1.5|a whole number
seed|999999999999999999999999999999|a whole number
epochs|ten|a whole number
status|promoted|finished, failed, diverged, or empty
val_loss|-inf|a number, or empty
latency_ms|0|a number above 0
wall_s|-1|a number, 0 or more
"""


def test_a_broken_cell_is_named_by_file_line_and_column(write: Write) -> None:
    for line in BROKEN.strip().splitlines():
        name, cell, allowed = line.split("|")
        rest = [] if name in tables.REQUIRED else [name]
        cells = ({"network": ONE, "val_acc": "90"} | {name: cell}).values()
        said = refusal(
            write(",".join([HEADER, *rest]), f"{ONE},90{',' * len(rest)}", ",".join(cells))
        )
        shown = f"is {cell!r}" if cell else "is missing"
        assert f"table.csv line 3: {name} {shown}; it must be {allowed}" in said


WRONG: list[tuple[str, Any]] = [
    ("network", 3),
    ("network", "\ud800" + ONE),
    ("val_acc", "90"),
    ("val_acc", True),
    ("val_acc", math.nan),
    ("val_acc", math.inf),
    ("val_acc", [90]),
    ("val_acc", 10**400),
    ("seed", "0"),
    ("seed", 0.5),
    ("epochs", True),
    ("status", 3),
    ("study", {"name": "x"}),
    ("wall_s", {}),
]


def test_a_broken_value_is_named_by_file_line_and_key(write: Write) -> None:
    for name, value in WRONG:
        said = refusal(write("", as_json(), as_json(**{name: value}), name="table.jsonl"))
        assert f"table.jsonl line 3: {name} is " in said
        assert f"it must be {TableRow.model_fields[name].description}" in said
        assert len(said) < 400


@pytest.mark.parametrize("missing", tables.REQUIRED)
def test_a_column_that_is_missing_is_named(write: Write, missing: str) -> None:
    (other,) = set(tables.REQUIRED) - {missing}
    assert f"line 1: no column is named {missing}" in refusal(write(f"{other},who", "x,y"))
    lines = write(json.dumps({other: ONE if other == "network" else 90}), name="table.jsonl")
    assert f"line 1: {missing} is missing" in refusal(lines)


def test_another_separator_is_seen_in_what_is_there(write: Write) -> None:
    said = refusal(write("network;val_acc", f"{ONE};90"))
    assert "separated by commas, and these are there: network;val_acc" in said


def test_a_row_with_too_few_or_too_many_cells_is_named(write: Write) -> None:
    for row, cells in ((ONE, 1), (f"{ONE},90,3", 3), (f"{ONE},9,5", 3)):
        said = refusal(write(HEADER, f"{TWO},80", row))
        assert f"line 3: {cells} cells for 2 columns" in said
    assert len(tables.read(write(HEADER, f"{TWO},80", ","))) == 1


def test_lines_are_counted_across_texts_of_several_lines(write: Write) -> None:
    lines = [f"{HEADER},note", f'{ONE},90,"a', "b", 'c"', "", f"{ONE},many,", f"{ONE},90,"]
    assert "table.csv line 6: val_acc is 'many'" in refusal(write(*lines))


def test_a_column_that_is_there_twice_is_named(write: Write) -> None:
    assert "line 1: 2 columns are named val_acc" in refusal(write(f"{HEADER},val_acc", "a,1,2"))
    assert len(tables.read(write(f"x,{HEADER},x", f"1,{ONE},90,2"))) == 1


def test_shares_are_not_taken_for_percent(write: Write) -> None:
    said = refusal(write(HEADER, f"{ONE},0.9", f"{TWO},1"))
    assert "no val_acc is above 1, but accuracies are percent, from 0 to 100: multiply" in said
    path = write(as_json(test_acc=0.9), as_json(test_acc=0.8), name="table.jsonl")
    assert "no test_acc is above 1" in refusal(path)
    for rows in ([f"{ONE},0.9"], [f"{ONE},0.9", f"{TWO},1.1"], [f"{ONE},0", f"{TWO},0"]):
        assert len(tables.read(write(HEADER, *rows))) == len(rows)


def test_a_file_without_rows_is_a_sentence(write: Write) -> None:
    for name in ("table.csv", "table.jsonl"):
        for lines in ([], ["", "  "], [b"\xef\xbb\xbf"]):
            assert "holds no rows" in refusal(write(*lines, name=name))
    assert "holds no rows" in refusal(write(HEADER, ",", name="table.csv"))


@pytest.mark.parametrize("name", ["table.csv", "table.jsonl"])
def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert "No such file" in refusal(path)
    path.mkdir()
    assert re.search(r"Is a directory; type runs\.file=FILE", refusal(path))
    assert "null byte" in refusal(tmp_path / f"a\0{name}")


def test_what_is_not_text_is_a_sentence(write: Write) -> None:
    utf16 = f"{HEADER}\n".encode("utf-16")
    for content in (bytes(range(256)), b"network,val_acc\n\xff\xfe", utf16, b"a\0b"):
        for name in ("table.csv", "table.jsonl"):
            assert "is not text in UTF-8" in refusal(write(content, name=name))


def test_another_kind_of_file_is_a_sentence(write: Write) -> None:
    for name in ("table.txt", "table", "table.xlsx", "record.json", "csv"):
        said = refusal(write(HEADER, f"{ONE},90", name=name))
        assert "is no table: type runs.file=FILE, with a .csv or a .jsonl file" in said


def test_what_is_no_csv_is_named_by_its_line(write: Write) -> None:
    for text in ('"', f'"{ONE}"x,90', "x" * 200_000 + ",90"):
        assert "table.csv line 3 is not CSV (" in refusal(write(HEADER, f"{ONE},90", text))


def test_what_is_no_json_object_is_named_by_its_line(write: Write) -> None:
    digits = '{"seed": ' + "9" * 5000 + "}"
    for text in ('{"network": ', "[1]", "90", "{" + '"a":{' * 9000, "{} {}", digits):
        said = refusal(write(as_json(), text, name="table.jsonl"))
        assert "table.jsonl line 2 is no JSON object: it must be like {" in said


def test_a_record_of_many_lines_is_named_as_such(write: Write, make_record: MakeRecord) -> None:
    path = write(make_record().to_json(), name="record.jsonl")
    assert "line 1 is no JSON object" in refusal(path)
