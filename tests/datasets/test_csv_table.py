"""Images that a table lists."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssr_exp.config import DatasetConf
from ssr_exp.datasets import csv_table, in_memory
from ssr_exp.datasets.images import Splits, Target
from ssr_exp.errors import SsrError
from tests.datasets.pictures import noise

ROWS = 40
Load = Callable[..., Splits]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write a table of images and load it: `load(Target.numbers, "age", columns={...})`."""
    noise(tmp_path / "images", all=ROWS)
    names = [f"images/all/{i}.png" for i in range(ROWS)]
    usual: dict[str, list[object]] = {
        "image": list(names),
        "age": [20.5 + i for i in range(ROWS)],
        "kind": ["cat" if i % 3 else "dog" for i in range(ROWS)],
        "red": [i % 2 for i in range(ROWS)],
        "round": ["yes" if i % 5 == 0 else "no" for i in range(ROWS)],
        "tags": ["|".join(t for t in ("a", "b c") if i % (2 + len(t)) == 0) for i in range(ROWS)],
        "patient": [f"p{i // 4}" for i in range(ROWS)],
        "part": [("Training", "valid", "test")[i % 3] for i in range(ROWS)],
    }

    def loaded(
        target: Target,
        *targets: str,
        columns: dict[str, list[object]] | None = None,
        **fields: object,
    ) -> Splits:
        table = usual | (columns or {})
        with (tmp_path / "table.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
        conf = DatasetConf(name="csv", file=f"{tmp_path}/table.csv", targets=list(targets))
        for name, value in fields.items():
            setattr(conf, name, value)
        return in_memory.load(conf, tmp_path / "data", target)

    return loaded


def test_numbers_labels_and_classes_are_read(load: Load) -> None:
    numbers = load(Target.numbers, "age", "red")
    assert (numbers.num_classes, numbers.train.classes) == (2, ("age", "red"))
    whole = np.concatenate([part.labels.numpy() for part in parts(numbers)])
    assert sorted(whole[:, 0]) == [20.5 + i for i in range(ROWS)]
    flags = load(Target.labels, "red", "round")
    assert flags.train.classes == ("red", "round")
    assert sum(float(part.labels[:, 1].sum()) for part in parts(flags)) == 8
    lists = load(Target.labels, "tags")
    assert lists.train.classes == ("a", "b c")
    classes = load(Target.one_class, "kind")
    assert classes.train.classes == ("cat", "dog")
    assert classes.train.labels.dtype.is_floating_point is False


def parts(splits: Splits) -> list[in_memory.Images]:
    assert splits.val is not None and splits.test is not None
    return [splits.train, splits.val, splits.test]


def test_what_is_said_of_an_image_stays_with_it(load: Load) -> None:
    for part in parts(load(Target.numbers, "age")):
        for file, label in zip(part.files, part.labels.tolist(), strict=True):
            assert label == [20.5 + int(file.stem)]


def test_it_says_what_was_read(load: Load) -> None:
    lines = load(Target.numbers, "age").reading.lines()
    assert lines[0] == "csv: 40 images with 1 number: age 20.5 to 59.5 (mean 40)"
    assert lines[1].startswith("train 32; val 4 (10 % of train, drawn with dataset.split_seed=0)")
    lines = load(Target.labels, "red", "round").reading.lines()
    assert lines[0] == "csv: 40 images with any of 2 labels: red 20, round 8"


def test_flags_may_be_written_as_numbers_with_a_point_and_empty_ones_are_named(load: Load) -> None:
    plain = load(Target.labels, "red")
    pointed = load(Target.labels, "red", columns={"red": [float(i % 2) for i in range(ROWS)]})
    assert pointed.train.classes == ("red",) and pointed.fingerprint == plain.fingerprint
    empty = load(Target.labels, "red", "round", columns={"red": ["", 1, "", *[0, 1] * 18, 0]})
    assert "empty cells count as 0 (red 2): fill them in" in empty.reading.warnings[0]
    for splits in (plain, pointed, load(Target.labels, "tags")):
        assert not any("empty" in warning for warning in splits.reading.warnings)


def test_groups_stay_together_and_the_draw_is_repeatable(load: Load) -> None:
    splits = load(Target.numbers, "age", group="patient")
    held = [{int(file.stem) // 4 for file in part.files} for part in parts(splits)]
    assert all(held) and sum(map(len, held)) == ROWS // 4
    assert load(Target.numbers, "age", group="patient").fingerprint == splits.fingerprint
    other = load(Target.numbers, "age", group="patient", split_seed=1)
    assert other.fingerprint != splits.fingerprint
    assert [f.name for f in parts(other)[2].files] == [f.name for f in parts(splits)[2].files]


def test_a_target_that_the_common_error_hardly_depends_on_is_named(load: Load) -> None:
    columns: dict[str, list[object]] = {
        "income": [1000 * row for row in range(ROWS)],
        "wealth": [3000 * row for row in range(ROWS)],
        "always": [1] * ROWS,
    }
    (said,) = load(
        Target.numbers, "age", "income", "wealth", "always", columns=columns
    ).reading.warnings
    assert said.startswith("an RMSE of all targets hardly depends on 'age', which varies less than")
    assert "as 'wealth': scale the columns alike, or learn one alone" in said
    for alike in (["income", "wealth"], ["age"], ["age", "always"]):
        assert not load(Target.numbers, *alike, columns=columns).reading.warnings


def test_it_says_how_much_was_held_out_where_groups_stay_whole(load: Load) -> None:
    few = {"patient": [row // 10 for row in range(ROWS)]}
    said = load(Target.numbers, "age", group="patient", columns=few).reading.lines()[1]
    assert said.startswith("train 20; val 10 (33.3 % of train, drawn with dataset.split_seed=0)")
    assert "test 10 (25 % of all)" in said


def test_groups_that_are_all_of_a_class_are_not_held_out(load: Load) -> None:
    """Else it could not be learnt, and would be measured."""
    kinds = {"kind": ["rare" if row // 4 == 3 else "usual" for row in range(ROWS)]}
    refused = 0
    for seed in range(20):
        try:
            splits = load(Target.one_class, "kind", group="patient", split_seed=seed, columns=kinds)
        except SsrError as error:
            assert "holds out for val all images of class 'rare'" in str(error)
            refused += 1
        else:
            assert splits.train.labels.unique().tolist() == [0, 1]
    assert 0 < refused < 20


def test_groups_that_are_all_of_a_class_and_drawn_as_test_name_the_way_out(load: Load) -> None:
    test = parts(load(Target.one_class, "kind", group="patient"))[2]
    drawn = {int(file.stem) for file in test.files}
    kinds = {"kind": ["rare" if row in drawn else "usual" for row in range(ROWS)]}
    said = r"^dataset\.group holds out for test .* 'rare', .* in a column what is test, and type"
    with pytest.raises(SsrError, match=said):
        load(Target.one_class, "kind", group="patient", columns=kinds)
    named = {"part": ["test" if row % 4 == 0 else "train" for row in range(ROWS)]}
    load(Target.one_class, "kind", split="part", columns=kinds | named)


def test_a_column_may_say_the_parts(load: Load) -> None:
    splits = load(Target.numbers, "age", split="part")
    assert [len(part) for part in parts(splits)] == [14, 13, 13]
    assert {int(file.stem) % 3 for file in splits.train.files} == {0}


def test_other_targets_make_another_fingerprint(load: Load) -> None:
    one = load(Target.numbers, "age")
    assert one.fingerprint == load(Target.numbers, "age").fingerprint
    moved = {"age": [20.5 + i + (i == 7) for i in range(ROWS)]}
    assert one.fingerprint != load(Target.numbers, "age", columns=moved).fingerprint


BAD: dict[str, tuple[Target, tuple[str, ...], dict[str, object], str]] = {
    "no columns": (Target.numbers, (), {}, r"type dataset\.targets=\[COLUMN\], of image, age"),
    "unknown": (
        Target.numbers,
        ("years",),
        {},
        r"dataset\.targets=\[years\]: .* one of image",
    ),
    "no group": (Target.numbers, ("age",), {"group": "house"}, r"dataset\.group=house: "),
    "text": (Target.numbers, ("kind",), {}, r"kind of 'images/all/0\.png' is 'dog'"),
    "no flag": (
        Target.labels,
        ("red", "age"),
        {},
        r"'images/all/0\.png' is '20\.5', and a label is 1 or 0",
    ),
    "two": (Target.one_class, ("kind", "red"), {}, r"type one of them, or task=multilabel"),
    "no file": (Target.numbers, ("age",), {"file": None}, r"type dataset\.file=TABLE\.csv"),
    "no table": (Target.numbers, ("age",), {"file": "nowhere.csv"}, r"nowhere\.csv cannot be read"),
    "no images": (Target.numbers, ("age",), {"root": "/"}, r"40 of 40 images .* and 37 more\)"),
    "no parts": (Target.numbers, ("age",), {"split": "kind"}, r"says 'dog' there"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_cannot_be_used_is_refused_in_one_sentence(name: str, load: Load) -> None:
    target, targets, fields, match = BAD[name]
    with pytest.raises(SsrError, match=match) as caught:
        load(target, *targets, **fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"age": ["", *range(1, ROWS)]}, "age of 'images/all/0.png' is ''"),
        ({"age": ["nan", *range(1, ROWS)]}, "age of 'images/all/0.png' is 'nan'"),
        ({"age": [-1e39, *range(1, ROWS)]},
         r"age of 'images/all/0.png' is '-1e\+39', .* number from -3.4e\+38 to 3.4e\+38: mend"),
        ({"image": ["images/all/1.png", *(f"images/all/{i}.png" for i in range(1, ROWS))]},
         "lists images/all/1.png twice"),
        ({"image": ["gone.png", *(f"images/all/{i}.png" for i in range(1, ROWS))]},
         r"1 of 40 images .* \(gone.png\)"),
    ],
)  # fmt: skip
def test_a_cell_that_says_nothing_is_named(
    columns: dict[str, list[object]], match: str, load: Load
) -> None:
    with pytest.raises(SsrError, match=match):
        load(Target.numbers, "age", columns=columns)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['"image", "age"', '"a.png", "3"', " "], None),
        (["image,age", '"a.png","3', '"', "b.png"], "line 4 has 1 cells for 2 columns"),
    ],
)
def test_blanks_and_line_breaks_of_quoted_cells_are_none_of_the_table(
    lines: list[str], said: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "quoted.csv"
    path.write_text("\n".join(lines))
    if said is None:
        assert csv_table._rows(path) == [{"image": "a.png", "age": "3"}]
    else:
        with pytest.raises(SsrError, match=said):
            csv_table._rows(path)


def test_one_odd_cell_makes_no_list_of_a_column_of_flags(load: Load) -> None:
    for odd in ("NA", "-1", "unknown"):
        cells: list[object] = [odd, *(i % 2 for i in range(1, ROWS))]
        said = f"is '{odd}', and a label is 1 or 0: names of labels are other words than yes"
        with pytest.raises(SsrError, match=said):
            load(Target.labels, "red", columns={"red": cells})
    named: list[object] = ["red" if i % 2 else "" for i in range(ROWS)]
    assert load(Target.labels, "red", columns={"red": named}).train.classes == ("red",)


def test_classes_that_a_reader_takes_for_one_are_named_and_so_is_what_is_not_known(
    load: Load,
) -> None:
    cells: list[object] = [("Cat", "cat", "dog")[i % 3] for i in range(ROWS)]
    for target in (Target.one_class, Target.labels):
        read = load(target, "kind", columns={"kind": cells})
        assert read.train.classes == ("Cat", "cat", "dog")
        said = "Cat and cat differ in capital letters or accents alone, and count as two"
        assert any(said in line for line in read.reading.lines())
    cells = [("NA", "cat", "dog")[i % 3] for i in range(ROWS)]
    lines = load(Target.one_class, "kind", columns={"kind": cells}).reading.lines()
    assert any("NA (14 rows) counts as a class" in line for line in lines)


def test_numbers_of_images_that_are_flipped_are_said_to_stay(load: Load) -> None:
    said = "dataset.flip turn images in training, and leave their numbers"
    for flip in (True, False):
        lines = load(Target.numbers, "age", flip=flip).reading.lines()
        assert any(said in line for line in lines) is flip


def test_data_sets_of_classes_have_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(SsrError, match=r"dataset=digits says one class .* type dataset=csv"):
        in_memory.load(DatasetConf(name="digits"), tmp_path, Target.numbers)
