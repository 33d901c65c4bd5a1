"""The page in a real browser, opened from the disk, with the network away."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import browser
from benchmarks import page as large
from ssr_exp.errors import without_paths
from ssr_exp.report import answer_block, page
from ssr_exp.runs import predictions
from ssr_exp.runs.predictions import (
    Batch,
    Expected,
    LeftOut,
    Look,
    Predictions,
    Promised,
    Sample,
)
from ssr_exp.runs.record import Fractions, Record, Status
from ssr_exp.runs.score import ACCURACY, VAL_LOSS, Direction, Score
from ssr_exp.runs.store import BEST_FOLDER, METRICS_FILE, PICTURE_FILE, RECORD_FILE, Store

MakeRecord = Callable[..., Record]
STUDY = "resnet20-digits-0a1b2c3d"
EVIL = "<img src=x onerror=window.evil=1></script><script>window.evil=1</script>${window.evil=1}"
INSIDE = ("file:", "blob:", "data:")
SETTING = "onnxruntime, one thread"

pytestmark = pytest.mark.slow

# blocks, widths, parameters, accuracy, why
ROWS = (
    ((3, 3, 3), (16, 32, 64), 269_434, 98.0, "baseline"),
    ((1, 3, 3), (16, 32, 64), 260_090, 97.0, "sentinel_all"),
    ((1, 1, 1), (16, 32, 64), 75_002, 97.8, "sentinel_all"),
    ((3, 1, 1), (4, 8, 16), 9_000, 96.9, "round1"),
    ((1, 1, 1), (4, 8, 16), 6_000, 93.0, "round2"),
    ((2, 1, 1), (8, 8, 16), 12_000, 95.0, "random"),
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if browser.executable() is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium: make browser")
    with browser.started() as started:
        yield started


def code(blocks: tuple[int, ...], widths: tuple[int, ...]) -> str:
    return f"d{'-'.join(map(str, blocks))}_w{'-'.join(map(str, widths))}"


@pytest.fixture
def records(make_record: MakeRecord) -> list[Record]:
    found = []
    for blocks, widths, params, accuracy, origin in ROWS:
        shares = {
            "depth": tuple(b / 3 for b in blocks),
            "width": tuple(w / f for w, f in zip(widths, (16, 32, 64), strict=True)),
        }
        known = {
            "blocks": blocks,
            "widths": widths,
            "params": params,
            "macs": params * 9,
            "val_acc": accuracy,
            "origin": origin,
            "network": code(blocks, widths),
            "modifiers": shares,
            "latencies": {SETTING: params / 1e6},
        }
        found.append(make_record(**known))
    second = found[2].model_copy(update={"seed": 1, "score": 97.6})
    failed = {"status": Status.failed, "error": EVIL, "score": None, "seed": 7, "latencies": None}
    return [*found, second, found[5].model_copy(update=failed)]


@pytest.fixture
def told() -> Predictions:
    size = 300
    steps = [i / size for i in range(size)]
    codes = tuple(f"d{1 + i % 3}-1-1_w4-{i + 1}-64" for i in range(size))
    mean = tuple(98.5 - 5 * (1 - s) ** 4 for s in steps)
    look = Look(
        round=2, runs=7, rmse=0.5, spread=1.0, spearman=0.9, coverage=(0.5, 0.8, 0.9), noise=0.2,
        hypervolume=1.0, warnings=("the surrogate is shy",),
    )  # fmt: skip
    return Predictions(
        study=STUDY,
        search="tradeoff-12345678",
        outcome=ACCURACY,
        score=ACCURACY,
        levels=(0.5, 0.8, 0.95),
        created_at="2026-01-01T00:00:00+00:00",
        looks=(look.model_copy(update={"round": 1, "warnings": ()}), look),
        rounds=(
            Batch(number=0, planned=(Expected(network=code(*ROWS[1][:2])),)),
            Batch(
                number=1,
                planned=(
                    Expected(network=code(*ROWS[3][:2]), low=96, mean=97, high=98, promise=2.0),
                ),
            ),
        ),
        left_out=tuple(
            LeftOut(
                network=code(*row[:2]),
                seed=0,
                measured=row[3],
                predicted=row[3] - 0.3,
                low=row[3] - 1,
                high=row[3] + 0.5,
                z=0.4,
            )
            for row in ROWS
        ),
        sensitivities=tuple(
            predictions.Sensitivity(segment=name, kind=kind, effect=0.5)
            for name in ("stage1", "stage2", "stage3")
            for kind in ("depth", "width")
        ),
        lattice=Sample(
            size=size,
            network=codes,
            params=tuple(int(2000 + 267_000 * s) for s in steps),
            macs=tuple(int(9 * (2000 + 267_000 * s)) for s in steps),
            gemms=(10,) * size,
            latency_ms=tuple(0.002 + 0.267 * s for s in steps),
            mean=mean,
            low=tuple(m - 0.5 for m in mean),
            high=tuple(m + 0.5 for m in mean),
        ),
        latency=SETTING,
        max_drop=1.0,
        seen=7,
    )


@pytest.fixture
def written(tmp_path: Path, records: list[Record], told: Predictions) -> Callable[..., Path]:
    """Write a page: `written()`; with `names={...}` of what a record says."""

    def write(rows: list[Record] = records, predicted: Predictions | None = told) -> Path:
        store = Store(tmp_path / "runs")
        for record in rows:
            store.write(store.folder(record.study, record.network, record.seed), record)
        if predicted is not None:
            folder = store.study_folder(predicted.study) / predictions.FOLDER
            predictions.write(store, folder, predicted)
        trainer = {"callbacks": [{"_target_": "my.Stop", "patience": 3}, "plain"]}
        fields = {"recipe": {"lr": 0.1}, "dataset": {"name": EVIL}, "trainer": trainer}
        text = json.dumps(fields)
        for name in {record.study for record in rows}:
            store.write_text(store.study_folder(name) / "study.json", text)
        return page.write(store)

    return write


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a page: `opened(path)`; anything that its console complains of fails the test."""
    complaints: list[str] = []
    contexts = []

    def open_(path: Path, *, width: int = 1400, hash_: str = "", **options: Any) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, offline=True, accept_downloads=True, **options
        )
        contexts.append(context)
        sheet = context.new_page()
        sheet.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        sheet.on("pageerror", lambda error: complaints.append(str(error)))
        sheet.on(
            "request",
            lambda r: None if r.url.startswith(INSIDE) else complaints.append(r.url),
        )
        sheet.goto(path.as_uri() + hash_)
        sheet.wait_for_selector("html[data-ready]")
        return sheet

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def networks(sheet: Any) -> list[str]:
    found = sheet.locator("#networks tbody td:nth-child(2)").all_inner_texts()
    return [text.split()[0] for text in found]


def at(sheet: Any, network: str) -> tuple[float, float]:
    """Say where a measured network is drawn, in pixels of the window."""
    box = sheet.locator("#scatter").bounding_box()
    place = sheet.evaluate(
        "(code) => { const n = study().networks.find((one) => one.code === code);"
        " return scatter.convertToPixel({ xAxisIndex: 0, yAxisIndex: 0 },"
        " [place(axis().of(n)), scoreOf(n).mean]); }",
        network,
    )
    return box["x"] + place[0], box["y"] + place[1]


def until(sheet: Any, expression: str) -> None:
    """Wait for what scrolling takes; Playwright's own way needs what the page forbids."""
    for _ in range(100):
        if sheet.evaluate(expression):
            return
        sheet.wait_for_timeout(50)
    raise AssertionError(expression)


BASELINE, SHALLOW, NARROW = code(*ROWS[0][:2]), code(*ROWS[2][:2]), code(*ROWS[3][:2])


def test_all_views_open_without_a_complaint(written: Any, opened: Any) -> None:
    sheet = opened(written())
    assert sheet.locator("#trade canvas").count() == 1
    assert sheet.locator("#summary").inner_text().startswith("resnet20 on digits: 6 networks")
    sheet.click("#tab-surrogate")
    assert sheet.locator("#surrogate canvas").count() == 5
    sheet.click("#theme")
    assert sheet.evaluate("smallCharts.length") == sheet.locator("#surrogate canvas").count() == 5
    assert "The surrogate is shy." in sheet.locator("#surrogate .warning").inner_text()
    assert "96.90 inside" in sheet.locator("#surrogate").inner_text()
    sheet.click("#tab-about")
    shown = sheet.locator("#about").inner_text()
    assert "recipe.lr" in shown and "torch" in shown and "1 failed" in shown
    assert '{"_target_":"my.Stop","patience":3}, plain' in shown
    sheet.click("#tab-trade")


def test_partial_results_open(written: Any, opened: Any, records: list[Record]) -> None:
    sheet = opened(written(records[1:2], None))
    assert "No finished baseline" in sheet.locator("#take").inner_text()
    sheet.click("#tab-surrogate")
    assert "No predictions yet" in sheet.locator("#surrogate").inner_text()
    sheet.click("#tab-about")


def test_only_failed_runs_open(written: Any, opened: Any, records: list[Record]) -> None:
    sheet = opened(written(records[-1:], None))
    sheet.click("#tab-about")
    assert EVIL in sheet.locator("#about").inner_text()


def test_a_study_with_test_scores_alone_opens_on_them(
    written: Any, opened: Any, records: list[Record]
) -> None:
    """As `dataset.train_on_val=true trainer.test=true` leaves it."""
    none = {"score": None, "best_score": None, "val_loss": None}
    rows = [
        one.model_copy(update=none | {"test_score": score})
        for one, score in zip(records[:3], (98.0, 97.0, 97.5), strict=True)
    ]
    other = records[0].model_copy(update={"study": "other"})
    sheet = opened(written([*rows, other], None), hash_=f"#study={STUDY}")
    assert sheet.locator("#metric").input_value() == "test_score"
    assert sheet.locator("#trade canvas").count() == 1
    assert sheet.locator("#reading").inner_text() == ""
    assert SHALLOW in sheet.locator("#take").inner_text()
    sheet.select_option("#metric", "best_score")
    said = sheet.locator("#reading").inner_text()
    assert "has this cost and this score (val, best epoch): choose others" in said
    sheet.select_option("#study", label="other")
    assert sheet.locator("#metric").input_value() == "best_score"
    sheet.select_option("#metric", "test_score")
    sheet.select_option("#study", label=STUDY)
    sheet.select_option("#study", label="other")
    assert sheet.locator("#metric").input_value() == "auto"


def test_classes_and_a_picture_of_the_answer_are_shown(
    written: Any, opened: Any, records: list[Record], tmp_path: Path
) -> None:
    confusion = {"confusion": ((3.0, 1.0), (0.0, 0.0))}
    picture = Store(tmp_path / "runs").study_folder(STUDY) / BEST_FOLDER / PICTURE_FILE
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (7, 5)).save(picture)
    rows = [records[0].model_copy(update={"tables": confusion}), *records[1:]]
    sheet = opened(written(rows, None))
    sheet.click("#tab-about")
    cells = sheet.locator("[aria-label=Classes] td").all_inner_texts()
    assert cells == ["0", "4", "75.00", "100.00", "1", "0", "", "0.00"]
    assert sheet.evaluate("document.querySelector('.picture').naturalWidth") == 7


def test_pointing_at_a_network_says_what_it_is(written: Any, opened: Any) -> None:
    sheet = opened(written())
    sheet.mouse.move(*at(sheet, SHALLOW))
    tip = sheet.locator("#scatter .tip")
    tip.wait_for()
    words = tip.inner_text()
    assert SHALLOW in words and "75,002 (27.8%)" in words and "97.70 ± 0.14 %" in words
    assert "blocks: 1-1-1" in words and "channels: 16-32-64" in words


def test_pointing_at_the_lattice_says_what_is_expected(written: Any, opened: Any) -> None:
    sheet = opened(written())
    box = sheet.locator("#scatter").bounding_box()
    place = sheet.evaluate(
        "scatter.convertToPixel({ xAxisIndex: 0, yAxisIndex: 0 },"
        " [place(study().points[150].params), study().points[150].expected[1]])"
    )
    sheet.mouse.move(box["x"] + place[0], box["y"] + place[1])
    tip = sheet.locator("#scatter .tip")
    tip.wait_for()
    assert "not trained" in tip.inner_text() and "80 % interval" in tip.inner_text()


def test_a_click_pins_a_network_and_draws_it_before_and_after(written: Any, opened: Any) -> None:
    sheet = opened(written())
    sheet.mouse.click(*at(sheet, NARROW))
    pins = sheet.locator("#pins")
    assert NARROW in pins.inner_text()
    boxes = pins.locator("svg rect")
    ghosts = pins.locator("svg rect[stroke-dasharray]")
    assert ghosts.count() == 9 and boxes.count() == 9 + 5
    kept = pins.locator("svg rect:not([stroke-dasharray])").first
    heights = [float(one.get_attribute("height")) + 2 for one in (ghosts.first, kept)]
    assert heights[1] / heights[0] == pytest.approx(4 / 16)
    assert sheet.locator(f"#networks input[aria-label='Pin {NARROW}']").is_checked()
    sheet.mouse.click(*at(sheet, NARROW))
    assert NARROW not in pins.inner_text()


def test_pins_are_compared_side_by_side_and_kept_in_the_address(written: Any, opened: Any) -> None:
    path = written()
    sheet = opened(path)
    for network in (BASELINE, SHALLOW):
        sheet.locator(f"#networks input[aria-label='Pin {network}']").check()
    row = sheet.locator("#pins tr", has_text="parameters")
    assert row.locator("td").all_inner_texts() == ["269,434 (100.0%)", "75,002 (27.8%)"]
    again = opened(path, hash_=sheet.evaluate("location.hash"))
    assert again.locator("#pins thead th .code").all_inner_texts() == [BASELINE, SHALLOW]


def test_the_sliders_name_the_cheapest_network_that_is_accurate_enough(
    written: Any, opened: Any
) -> None:
    sheet = opened(written())

    def named(drop: float, cap: int = 1000) -> str:
        for name, value in (("drop", drop), ("cap", cap)):
            sheet.locator(f"#{name}").fill(str(value))
        return str(sheet.locator("#take").inner_text())

    assert SHALLOW in named(1.0) and "drop 0.30" in named(1.0)
    assert NARROW in named(1.1)
    assert BASELINE in named(0.1)
    assert "No trained network keeps to both limits" in named(0.1, 300)
    assert "Predicted to be enough" in named(1.05)


def test_the_answer_stands_first_in_the_words_of_the_command(
    written: Any, opened: Any, tmp_path: Path, records: list[Record]
) -> None:
    promise = {"drop": -0.2, "low": -0.7, "high": 1.1, "probability": 0.999}
    promise |= {"allowed": 1.0, "confidence": 0.8}
    told: dict[str, Any] = {"measured_on": "test", "drop": 0.1, "promise": promise}
    told["untrained"] = {"network": EVIL, "params_share": 0.01, "score": 97.0}
    store = Store(tmp_path / "runs")
    best = store.study_folder(STUDY) / BEST_FOLDER
    best.mkdir(parents=True)
    (best / METRICS_FILE).write_text(json.dumps(told))
    (best / RECORD_FILE).write_text(records[2].to_json())
    sheet = opened(written())
    rows = answer_block.read(store, STUDY, place="FOLDER")
    assert sheet.locator("#answer dt").all_inner_texts() == [name for name, _ in rows]
    texts = sheet.locator("#answer dd").all_inner_texts()
    assert all(shown.startswith(text) for shown, (_, text) in zip(texts, rows, strict=True))
    assert SHALLOW in texts[0] and "over 99% likely" in sheet.locator("#answer").inner_text()
    assert sheet.evaluate("window.evil") is None
    assert "they do not count confidence" in sheet.locator("#take").inner_text()
    phone = opened(tmp_path / "runs/report.html", width=390)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.fixture
def sure(told: Predictions) -> Predictions:
    """Predict for a search that trades MACs under a cap, and asks for confidence."""
    narrow, shallow = code(*ROWS[3][:2]), code(*ROWS[2][:2])
    promises = (
        Promised(network=narrow, drop=0.9, sigma=0.5),
        Promised(network=shallow, drop=0.2, sigma=0.4),
    )
    more = {"cost": "macs", "caps": {"macs": 1_000_000.0}, "confidence": 0.8}
    return told.model_copy(update={"max_drop": 1.1, "promises": promises} | more)


def test_what_to_take_begins_with_the_answer_and_asks_for_the_searchs_confidence(
    written: Any, opened: Any, tmp_path: Path, records: list[Record], sure: Predictions
) -> None:
    bare = opened(written(predicted=sure))
    words = bare.locator("#take").inner_text()  # the narrow one lies within the drop, by luck
    assert NARROW not in words and SHALLOW in words and "98% likely" in words
    assert "Caps of the search: MACs at most 1,000,000 (40.0% of the baseline's)" in words
    assert bare.locator("#axis").input_value() == "macs"
    store = Store(tmp_path / "runs")
    best = store.study_folder(STUDY) / BEST_FOLDER
    best.mkdir(parents=True)
    against = "the promise is broken: it loses 3 points on test"
    answer = {"measured_on": "test", "drop": 3.0, "kept": False, "verdict": against}
    (best / METRICS_FILE).write_text(json.dumps(answer))
    (best / RECORD_FILE).write_text(records[3].to_json())
    sheet = opened(written(predicted=sure))
    words = sheet.locator("#take").inner_text()
    assert words.startswith("The study's answer: tested, and it lost too much\n" + NARROW)
    assert "The promise is broken" in words and SHALLOW not in words
    assert NARROW in sheet.locator("#networks tr.taken").inner_text()
    sheet.locator("#drop").fill("1.3")
    moved = sheet.locator("#take").inner_text()
    assert "Measured on val, by the sliders" in moved and "confidence of 80%" in moved
    sheet.locator("#tab-about").click()
    assert "The search's answer" not in sheet.locator("#about").inner_text()  # no table is told


@pytest.mark.parametrize(("second", "is_chosen"), [("random", False), ("finalist 2", True)])
def test_that_test_chose_the_answer_is_said_where_it_had_a_choice(
    written: Any,
    opened: Any,
    tmp_path: Path,
    records: list[Record],
    sure: Predictions,
    second: str,
    is_chosen: bool,
) -> None:
    row = {"model": records[0].model, "params_share": 0.5, "test_score_mean": 96.0}
    row |= {"test_score_std": None, "seeds": [0]}
    rows = [
        row | {"role": role, "network": record.network, "params": record.params}
        for role, record in zip(("baseline", "answer", second), records[:3], strict=True)
    ]
    store = Store(tmp_path / "runs")
    best = store.study_folder(STUDY) / BEST_FOLDER
    best.mkdir(parents=True)
    told = {"measured_on": "test", "drop": 0.5, "results": rows}
    (best / METRICS_FILE).write_text(json.dumps(told))
    (best / RECORD_FILE).write_text(records[1].to_json())
    words = opened(written(predicted=sure)).locator("#take").inner_text()
    assert "for a confidence of 80%, as the search did" in words
    assert ("one of 2 that were tested, so test chose it, too" in words) is is_chosen


def test_what_is_not_trained_is_as_likely_as_its_own_promise_says(
    written: Any, opened: Any, sure: Predictions
) -> None:
    """And is not named where an earlier version left out what its drop on test is open by."""
    sample = sure.lattice
    drops = {"drop": tuple(98.0 - mean for mean in sample.mean), "drop_sigma": (0.1,) * 300}
    more = {"lattice": sample.model_copy(update=drops), "caps": {}}
    words = opened(written(predicted=sure.model_copy(update=more))).locator("#take").inner_text()
    expected = words.partition("Predicted to be enough")[2]
    assert re.search(r" 8[0-9]% likely to lose no more on test", expected)
    more["lattice"] = sample
    words = opened(written(predicted=sure.model_copy(update=more))).locator("#take").inner_text()
    assert "Predicted to be enough" not in words


def test_a_search_by_latency_is_shown_by_what_it_measured_though_no_record_says_it(
    written: Any, opened: Any, records: list[Record], sure: Predictions
) -> None:
    untimed = [one.model_copy(update={"latencies": None}) for one in records]
    times = {code(*row[:2]): row[2] / 1e6 for row in ROWS}
    more = {"cost": "latency_ms", "caps": {"latency_ms": 0.07}, "latencies": times}
    sheet = opened(written(untimed, sure.model_copy(update=more)))
    words = sheet.locator("#take").inner_text()
    assert sheet.locator("#axis").input_value() == "latency0"
    assert "Caps of the search: ms, onnxruntime at most 0.07 ms" in words
    assert SHALLOW not in words  # it takes 0.075 ms
    row, point = f"#networks tr:has-text('{SHALLOW}')", "study().points[0].latency_predicted[0]"
    assert "\t0.075\t" in sheet.locator(row).inner_text()
    assert not sheet.evaluate(point)
    sheet = opened(written(untimed, sure.model_copy(update=more | {"timed": (NARROW,)})))
    assert "\t~0.075\t" in sheet.locator(row).inner_text()  # it was not measured
    assert sheet.evaluate(point)
    earlier = sure.model_copy(update=more | {"caps": {}, "latencies": {}})  # nobody knows
    sheet = opened(written(untimed, earlier))
    assert sheet.locator("#axis").input_value() == "params"
    assert SHALLOW in sheet.locator("#take").inner_text()
    sheet.select_option("#axis", "latency0")
    assert "No trained network" in sheet.locator("#take").inner_text()


def test_the_link_past_the_head_keeps_what_was_chosen(written: Any, opened: Any) -> None:
    sheet = opened(written())
    sheet.select_option("#scale", "value")
    sheet.keyboard.press("Tab")
    sheet.locator(".skip").focus()
    sheet.keyboard.press("Enter")
    assert sheet.evaluate("document.activeElement.id") == "content"
    assert sheet.locator("#scale").input_value() == "value" and "#content" not in sheet.url


def test_without_an_answer_none_is_shown(written: Any, opened: Any) -> None:
    assert opened(written()).locator("#answer").is_hidden()


def test_predicted_and_measured_are_told_apart_and_nothing_is_named_that_is_dearer(
    written: Any, opened: Any
) -> None:
    sheet = opened(written())
    sheet.locator("#drop").fill("3")
    words = sheet.locator("#take").inner_text()
    own, expected = (block.split("\n") for block in (words.split("Predicted")[0], words))
    assert own[0] == "Measured" and own[1] == NARROW
    shown = re.findall(r"parameters: ([\d,]+)", words)
    values = [int(text.replace(",", "")) for text in shown]
    assert len(values) == 1 or values[1] < values[0], expected


def test_latency_is_an_axis_of_its_own(written: Any, opened: Any) -> None:
    sheet = opened(written())
    sheet.select_option("#axis", "latency0")
    assert (
        "ms (27.8%)" in sheet.locator("#take").inner_text()
        or "0.075 ms" in sheet.locator("#take").inner_text()
    )
    assert "0.075" in sheet.locator(f"#networks tr:has-text('{SHALLOW}')").inner_text()
    sheet.select_option("#scale", "value")
    sheet.select_option("#colour", "round")
    assert "round 1 (1)" in sheet.locator("#legend").inner_text()


def test_a_kind_can_be_hidden(written: Any, opened: Any) -> None:
    sheet = opened(written())
    before = sheet.evaluate("visible().length")
    sheet.click("#legend button:has-text('sentinel')")
    assert sheet.evaluate("visible().length") == before - 2
    assert sheet.locator("#legend button:has-text('sentinel')").get_attribute("aria-pressed") == (
        "false"
    )


def test_the_table_sorts_both_ways_and_what_is_missing_comes_last(
    written: Any, opened: Any
) -> None:
    sheet = opened(written())
    by_params = [code(*row[:2]) for row in sorted(ROWS, key=lambda row: row[2])]
    sheet.click("th[data-column=params] button")
    assert networks(sheet) == by_params[::-1]
    assert sheet.get_attribute("th[data-column=params]", "aria-sort") == "descending"
    sheet.keyboard.press("Enter")  # the heading keeps the focus
    assert networks(sheet) == by_params
    sheet.click("th[data-column=std] button")
    assert networks(sheet)[0] == SHALLOW
    sheet.click("th[data-column=std] button")
    assert networks(sheet)[0] == SHALLOW


def test_the_filter_keeps_what_matches_all_words(written: Any, opened: Any) -> None:
    sheet = opened(written())
    sheet.fill("#filter", "round w4")
    assert sorted(networks(sheet)) == sorted(code(*row[:2]) for row in ROWS[3:5])
    sheet.fill("#filter", "no such thing")
    assert networks(sheet) == []


def test_the_csv_holds_all_runs_and_no_formula(
    written: Any, opened: Any, records: list[Record]
) -> None:
    evil = records[-1].model_copy(update={"error": '=HYPERLINK("http://example.org")\n"x",y'})
    sheet = opened(written([*records[:-1], evil]))
    with sheet.expect_download() as waiting:
        sheet.click("#csv")
    assert waiting.value.suggested_filename == f"{STUDY}.csv"
    text = Path(waiting.value.path()).read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(records)
    own = next(r for r in rows if r["network"] == SHALLOW and r["seed"] == "1")
    assert (own["score"], own["params"], own["kind"]) == ("97.6", "75002", "sentinel")
    failed = next(r for r in rows if r["status"] == "failed")
    assert failed["error"] == "'" + without_paths(str(evil.error))


def test_a_code_is_copied(written: Any, opened: Any) -> None:
    sheet = opened(written(), permissions=["clipboard-read", "clipboard-write"])
    sheet.locator(f"#networks tr:has-text('{NARROW}') button").click()
    assert sheet.evaluate("navigator.clipboard.readText()") == NARROW


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_system_and_the_button(written: Any, opened: Any, scheme: str) -> None:
    sheet = opened(written(), color_scheme=scheme)
    background = "getComputedStyle(document.body).backgroundColor"
    first = sheet.evaluate(background)
    assert sheet.get_attribute("html", "data-theme") == scheme
    sheet.click("#theme")
    assert sheet.get_attribute("html", "data-theme") != scheme
    assert sheet.evaluate(background) != first


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_have_the_contrast_that_wcag_asks_for(
    written: Any, opened: Any, scheme: str
) -> None:
    sheet = opened(written(), color_scheme=scheme)
    inks = sheet.evaluate(
        "Object.fromEntries(['page', 'card', 'text', 'muted', 'accent', 'good', 'bad', 'control',"
        " 'lattice', 'ghost', ...Object.keys(KINDS)].map((name) => [name, ink(name)]))"
    )

    def contrast(one: str, two: str) -> float:
        low, high = sorted((luminance(inks[one]), luminance(inks[two])))
        return (high + 0.05) / (low + 0.05)

    for ground in ("page", "card"):
        for text in ("text", "muted", "accent"):
            assert contrast(text, ground) >= 4.5, (text, ground)
        for mark in set(inks) - {"page", "card", "lattice", "ghost"}:
            assert contrast(mark, ground) >= 3, (mark, ground)


def luminance(colour: str) -> float:
    """WCAG 2.2: relative luminance of `#rrggbb`."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [390, 768, 1400])
def test_nothing_sticks_out_of_the_window(written: Any, opened: Any, width: int) -> None:
    sheet = opened(written(), width=width)
    sheet.locator("#networks input").first.check()
    for view in ("trade", "surrogate", "about"):
        sheet.click(f"#tab-{view}")
        assert sheet.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_reaches_and_does_everything(written: Any, opened: Any) -> None:
    sheet = opened(written())
    reached = set()
    for _ in range(60):
        sheet.keyboard.press("Tab")
        reached.add(sheet.evaluate("document.activeElement.id || document.activeElement.type"))
    wanted = {"study", "theme", "tab-trade", "axis", "scale", "scatter", "drop", "cap", "filter"}
    assert wanted | {"csv", "checkbox"} <= reached
    sheet.locator("#scatter").focus()
    sheet.keyboard.press("Home")
    cheapest = code(*ROWS[4][:2])
    assert cheapest in sheet.locator("#reading").inner_text()
    sheet.keyboard.press("ArrowRight")
    assert NARROW in sheet.locator("#reading").inner_text()
    sheet.keyboard.press("Enter")
    assert NARROW in sheet.locator("#pins").inner_text()
    sheet.locator("#tab-trade").focus()
    sheet.keyboard.press("ArrowRight")
    assert sheet.get_attribute("#tab-surrogate", "aria-selected") == "true"


def test_evil_names_and_errors_stay_text(
    written: Any, opened: Any, records: list[Record], told: Predictions
) -> None:
    named = [r.model_copy(update={"study": EVIL, "model": EVIL, "origin": EVIL[:100],
                                  "network": f"{r.network}{EVIL}" if i else r.network,
                                  "device": EVIL, "versions": {EVIL: EVIL},
                                  "latencies": {EVIL: 1.5}})
             for i, r in enumerate(records)]  # fmt: skip
    sheet_of = told.lattice.model_copy(update={"network": (EVIL,) * told.lattice.size})
    evil = told.model_copy(
        update={
            "study": EVIL,
            "search": EVIL,
            "latency": EVIL,
            "lattice": sheet_of,
            "looks": (told.looks[-1].model_copy(update={"warnings": (EVIL,)}),),
            "sensitivities": tuple(
                s.model_copy(update={"segment": f"{s.segment}{EVIL}"}) for s in told.sensitivities
            ),
        }
    )
    sheet = opened(written(named, evil), hash_=f"#study={EVIL}&pins={EVIL}&view={EVIL}&axis={EVIL}")
    for box in sheet.locator("#networks input").all():
        box.check()
    sheet.mouse.move(*at(sheet, named[0].network))
    for view in ("surrogate", "about", "trade"):
        sheet.click(f"#tab-{view}")
    sheet.wait_for_timeout(100)
    assert sheet.evaluate("window.evil") is None
    assert sheet.locator("img").count() == 0
    assert EVIL in sheet.locator("#study option").first.inner_text()


def test_several_studies_are_chosen_from_and_the_address_names_one(
    written: Any, opened: Any, records: list[Record]
) -> None:
    other = [r.model_copy(update={"study": "other", "model": "resnet8"}) for r in records]
    path = written([*records, *other])
    sheet = opened(path, hash_="#study=other")
    assert sheet.title().startswith("resnet8")
    sheet.select_option("#study", label=STUDY)
    assert sheet.title().startswith("resnet20")


def test_finalists_stand_beside_what_they_come_from(
    written: Any, opened: Any, records: list[Record], tmp_path: Path
) -> None:
    store = Store(tmp_path / "runs")
    final = {"study": "finals", "origin": "finalist", "score": None}
    finalists = [
        record.model_copy(update=final | {"seed": seed, "test_score": accuracy + seed})
        for record, accuracy in ((records[0], 97.0), (records[3], 96.0))
        for seed in (0, 1)
    ]
    store.write(store.study_folder(STUDY) / BEST_FOLDER, finalists[-1])
    sheet = opened(written([*records, *finalists]))
    assert sheet.locator("#study option").count() == 1
    sheet.locator("#drop").fill("1.2")
    assert "As a finalist, on test: 96.50 ± 0.71 %, drop 1.00 (2 seeds)" in (
        sheet.locator("#take").inner_text()
    )
    assert "on val: " in sheet.locator("#take").inner_text()
    sheet.select_option("#metric", "test_score")
    assert "96.50" in sheet.locator("#take").inner_text()


def test_the_answer_says_how_many_networks_were_tested_and_its_promise_in_the_blocks_words(
    written: Any, opened: Any, records: list[Record], tmp_path: Path
) -> None:
    """Retries and earlier commands test further networks, which the last comparison leaves out."""
    final = {"study": "finals", "origin": "finalist", "score": None, "test_score": 96.0}
    finalists = [records[at].model_copy(update=final) for at in (0, 2, 3)]
    best = Store(tmp_path / "runs").study_folder(STUDY) / BEST_FOLDER
    Store(tmp_path / "runs").write(best, finalists[-1])
    keys = "role model network params params_share test_score_mean test_score_std".split()
    rows = [
        dict(zip(keys, (role, r.model, r.network, r.params, 0.5, 96.0, None), strict=True))
        | {"seeds": [0]}
        for role, r in (("baseline", finalists[0]), ("answer", finalists[-1]))
    ]
    promise = {"drop": 0.4, "low": 0.1, "high": 0.7, "probability": 0.9}
    promise |= {"allowed": 1.0, "confidence": 0.8}
    told = {"measured_on": "test", "drop": 0.5, "results": rows, "promise": promise, "kept": True}
    (best / METRICS_FILE).write_text(json.dumps(told | {"learnt": "train and val"}))
    sheet = opened(written([*records, *finalists]))
    sheet.click("#tab-about")
    card = sheet.locator("#about").inner_text()
    assert "The search's answer: trained on train and val; 3 networks were tested" in card
    said = dict(answer_block.read(Store(tmp_path / "runs"), STUDY))["promise"]
    assert f"Promise: {said[0].upper()}{said[1:]}." in card


def test_a_network_is_counted_once_however_often_it_was_trained(
    written: Any, opened: Any, records: list[Record], tmp_path: Path
) -> None:
    final = {"study": "finals", "origin": "finalist", "score": None, "test_score": 96.0}
    finalists = [records[3].model_copy(update=final | {"seed": seed}) for seed in (0, 1)]
    store = Store(tmp_path / "runs")
    store.write(store.study_folder(STUDY) / BEST_FOLDER, finalists[-1])
    again = records[0].model_copy(update={"origin": "finalist", "seed": 5})  # kept val apart
    sheet = opened(written([*records, *finalists, again]))
    amount = len({record.network for record in records})
    runs = len(records) + 3
    assert f": {amount} networks, {runs} trainings" in sheet.locator("#summary").inner_text()
    below = sheet.locator("#count").inner_text()
    assert f"{amount} networks of {amount}, finalists once more in rows of their own" in below
    sheet.fill("#filter", "round")
    assert f"2 networks of {amount};" in sheet.locator("#count").inner_text()


def test_what_speaks_against_the_answer_stands_beside_it(
    written: Any, opened: Any, told: Predictions
) -> None:
    few = "9 val images tell nothing"
    sheet = opened(written(predicted=told.model_copy(update={"val_warnings": (few,)})))
    assert "9 val images tell nothing." in sheet.locator("#answer .warning").inner_text()


def test_a_large_study_stays_small_and_shows_its_first_rows(tmp_path: Path, opened: Any) -> None:
    store = Store(tmp_path)
    large.filled(store, large.Size(learned_from=30))
    path = page.write(store)
    assert path.stat().st_size < 8e6
    sheet = opened(path)
    assert sheet.evaluate("study().runs.length") == 1000
    assert sheet.evaluate("study().points.length") == 10_000
    assert len(networks(sheet)) == 150
    sheet.click("#more")
    assert len(networks(sheet)) == sheet.evaluate("study().networks.length")


def test_a_limit_that_was_searched_with_is_shown_and_used(
    written: Any, opened: Any, told: Predictions
) -> None:
    sheet = opened(written(predicted=told.model_copy(update={"max_drop": 30.33})))
    assert sheet.locator("#drop-value").inner_text() == "30.33 points"
    assert sheet.locator("#drop").input_value() == "30.33"
    assert sheet.get_attribute("#drop", "aria-valuetext") == "30.33 points"


def test_rounds_are_those_of_the_search_and_the_rest_is_told_apart(
    written: Any, opened: Any
) -> None:
    sheet = opened(written())
    sheet.select_option("#colour", "round")
    legend = sheet.locator("#legend").inner_text()
    assert "first networks (1)" in legend and "round 1 (1)" in legend and "others (4)" in legend


def test_the_focus_stays_where_a_button_was_pressed(written: Any, opened: Any) -> None:
    sheet = opened(written())
    button = sheet.locator("#take button[data-pin]").first
    button.focus()
    sheet.keyboard.press("Enter")
    assert sheet.evaluate("document.activeElement.textContent") == "Unpin"
    sheet.keyboard.press("Enter")
    assert sheet.locator("#pins table").count() == 0
    for network in (BASELINE, SHALLOW):
        sheet.locator(f"#networks input[aria-label='Pin {network}']").check()
    sheet.locator(f"#pins [aria-label='Unpin {BASELINE}']").press("Enter")
    assert sheet.evaluate("document.activeElement.ariaLabel") == f"Unpin {SHALLOW}"


def test_many_segments_are_drawn_side_by_side(
    written: Any, opened: Any, records: list[Record]
) -> None:
    many = 40
    wide = records[0].model_copy(
        update={
            "network": f"d{'-'.join(['2'] * many)}_w{'-'.join(['16'] * many)}",
            "blocks": (2,) * many,
            "widths": (16,) * many,
            "modifiers": Fractions(depth=(1.0,) * many, width=(1.0,) * many),
        }
    )
    sheet = opened(written([wide], None))
    sheet.locator("#networks input").first.check()
    boxes = sheet.locator("#pins svg rect[stroke-dasharray]").all()
    places = [float(box.get_attribute("x")) for box in boxes]
    assert len(places) == 2 * many and places == sorted(places)
    assert places[0] >= 0 and places[-1] < 300


def test_a_loss_is_compared_with_losses(written: Any, opened: Any, told: Predictions) -> None:
    sheet = opened(written(predicted=told.model_copy(update={"outcome": VAL_LOSS})))
    sheet.click("#tab-surrogate")
    assert "97\t96 to 98\t0.125 outside" in sheet.locator("#surrogate").inner_text()


def test_the_wheel_scrolls_the_page_and_zooms_with_ctrl(written: Any, opened: Any) -> None:
    sheet = opened(written())
    box = sheet.locator("#scatter").bounding_box()
    sheet.mouse.move(box["x"] + 200, box["y"] + 200)
    sheet.mouse.wheel(0, 240)
    until(sheet, "window.scrollY > 0")
    sheet.evaluate("window.scrollTo(0, 0)")
    spread = "scatter.getModel().getComponent('dataZoom', 0).getPercentRange()"
    assert sheet.evaluate(spread) == [0, 100]
    sheet.keyboard.down("Control")
    sheet.mouse.wheel(0, -240)
    sheet.keyboard.up("Control")
    until(sheet, f"{spread}[1] - {spread}[0] < 100")
    sheet.click("#reset")
    assert sheet.evaluate(spread) == [0, 100]


def test_predictions_stand_beside_what_they_predict_alone(written: Any, opened: Any) -> None:
    sheet = opened(written())
    assert "300 of 300 points" in sheet.locator("#legend").inner_text()
    sheet.select_option("#metric", "best_score")
    assert "no predictions of this cost and score" in sheet.locator("#legend").inner_text()
    assert sheet.evaluate("predictions().length") == 0


def test_a_filter_of_several_words_is_a_phrase_first(written: Any, opened: Any) -> None:
    sheet = opened(written())
    sheet.fill("#filter", "round 2")
    assert networks(sheet) == [code(*ROWS[4][:2])]


def test_the_address_keeps_what_was_chosen(written: Any, opened: Any) -> None:
    path = written()
    sheet = opened(path)
    sheet.select_option("#scale", "value")
    sheet.select_option("#colour", "round")
    for name, value in (("drop", "1.4"), ("cap", "600")):
        sheet.locator(f"#{name}").fill(value)
        sheet.locator(f"#{name}").dispatch_event("change")
    again = opened(path, hash_=sheet.evaluate("location.hash"))
    shown = [again.locator(f"#{n}").input_value() for n in ("scale", "colour", "drop", "cap")]
    assert shown == ["value", "round", "1.4", "600"]
    assert again.locator("#take").inner_text() == sheet.locator("#take").inner_text()


def test_an_address_holds_no_drop_that_nobody_chose(
    written: Any, opened: Any, records: list[Record], told: Predictions
) -> None:
    kept = opened(written(records, told)).evaluate("location.hash")
    path = written(records, told.model_copy(update={"max_drop": 2.0}))  # searched again since
    assert opened(path, hash_=kept).locator("#drop").input_value() == "2"


def test_equals_in_cost_and_score_are_on_the_front_both(
    written: Any, opened: Any, records: list[Record]
) -> None:
    as_good = {"score": records[0].score, "params": records[0].params}
    rows = [records[0], *(one.model_copy(update=as_good) for one in records[1:3])]
    shown = opened(written(rows, None)).locator("#networks tbody tr .code").all_inner_texts()
    assert len(shown) == 3 and all("*" in text for text in shown)


def test_an_empty_chart_has_no_legend_of_another_score(written: Any, opened: Any) -> None:
    sheet = opened(written())
    assert "measured front" in sheet.locator("#legend").inner_text()
    sheet.select_option("#metric", "test_score")
    legend = sheet.locator("#legend").inner_text()
    assert "measured front" not in legend and "predicted front" not in legend


def test_finalists_that_lose_more_than_is_allowed_are_marked(
    written: Any, opened: Any, records: list[Record], tmp_path: Path
) -> None:
    store = Store(tmp_path / "runs")
    final = {"study": "finals", "origin": "finalist", "score": None}
    finalists = [
        record.model_copy(update=final | {"test_score": accuracy})
        for record, accuracy in ((records[0], 97.0), (records[2], 90.0))
    ]
    store.write(store.study_folder(STUDY) / BEST_FOLDER, finalists[-1])
    sheet = opened(written([*records, *finalists]))
    assert "drop 7.00 (1 seed): more than you allow" in (
        sheet.locator("#take .warning").inner_text()
    )


def test_a_finalist_is_compared_with_the_baselines_finalist_whatever_else_was_tested(
    written: Any, opened: Any, records: list[Record], tmp_path: Path
) -> None:
    """A sweep may have tested the baseline, too; what commands say goes by finalists alone."""
    final = {"origin": "finalist", "seed": 5}
    finalists = [
        record.model_copy(update=final | {"test_score": accuracy})
        for record, accuracy in ((records[0], 97.0), (records[3], 96.5))
    ]
    tested = [records[0].model_copy(update={"test_score": 99.0})]
    tested.append(records[2].model_copy(update={"test_score": 98.6}))
    store = Store(tmp_path / "runs")
    store.write(store.study_folder(STUDY) / BEST_FOLDER, finalists[-1])
    sheet = opened(written([*tested, *records[1:2], *records[3:], *finalists]))
    assert "on test: 96.50 %, drop 0.50 (1 seed)." in sheet.locator("#take").inner_text()
    scored = "(code, kind) => scored(study().networks.find((n) => n.code === code && "
    said = sheet.evaluate(f"{scored}!isFinalist(n)), 'test_score')", SHALLOW)
    assert said.startswith("98.60") and said.endswith("drop 0.40")  # as the sweep tested both
    sheet.select_option("#metric", "test_score")
    sheet.locator("#drop").fill("0.45")
    assert SHALLOW in sheet.locator("#take").inner_text()
    sheet.locator("#drop").fill("0.5")
    assert sheet.evaluate("taken().own.code") == NARROW


def test_numbers_are_written_as_commands_write_them(written: Any, opened: Any) -> None:
    sheet = opened(written(predicted=None))
    how = Score(key="val/rmse", direction="min", unit="", bounds=(0.0, None))
    sizes = (0.0, 1.5e-9, 12.3456e-6, 99.996e-6, 0.1, 2.0, 999.96, 9999.4, 9999.6, 23_456.7)
    values = [*sizes, 123_456.7, 999_999.6, 1e6, 1_234_567.0, 1e13]
    signed = [*values, *(-value for value in values)]
    shown = sheet.evaluate(
        "(values) => values.map((value) => numbered(value, { unit: '', bounds: [0, null] }))",
        signed,
    )
    assert shown == [how.number(value) for value in signed]


def test_a_limit_is_as_close_for_errors_far_below_one(
    written: Any, opened: Any, records: list[Record]
) -> None:
    rmse = {"score_key": "val/rmse", "direction": Direction.min, "unit": "", "bounds": (0.0, None)}
    rows = [
        one.model_copy(update=rmse | {"score": score, "best_score": score})
        for one, score in zip(records[:3], (1e-8, 1.03e-8, 1.01e-8), strict=True)
    ]
    sheet = opened(written(rows, None))  # 2 % of the baseline are allowed
    assert sheet.evaluate("taken().own.code") == SHALLOW
    sheet.locator("#drop").evaluate("(one) => { state.drop = 0; changed('take'); }")
    assert not sheet.evaluate("isUnmoved()") and sheet.evaluate("taken().own.code") == BASELINE
