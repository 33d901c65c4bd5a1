"""The answer in one block: each item once, in the same words on a terminal and on the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssr_exp.report import answer_block, page, page_data
from ssr_exp.runs import verdict
from ssr_exp.runs.record import Fractions, Status
from ssr_exp.runs.store import Store
from tests.report.conftest import FULL, STUDY, Put

Answer = Callable[..., None]
PROMISE = {
    "drop": 0.21, "low": -0.7, "high": 1.12, "probability": 0.86, "allowed": 1.0, "confidence": 0.8
}  # fmt: skip
TOLD: dict[str, Any] = {
    "measured_on": "test",
    "drop": 0.56,
    "learnt": "train and val",
    "measured": {
        "answer": {"mean": 97.96, "std": 1.05, "seeds": 3},
        "baseline": {"mean": 98.52, "std": 0.43, "seeds": 3},
    },
    "promise": PROMISE,
    "full": {"blocks": [3, 3, 3], "widths": [16, 32, 64]},
}
SMALL: dict[str, Any] = FULL | {
    "network": "d1-2-3_w16-8-16",
    "modifiers": Fractions(depth=(1 / 3, 2 / 3, 1.0), width=(1.0, 0.25, 0.25)),
    "blocks": (1, 2, 3),
    "widths": (16, 8, 16),
    "params": 19_642,
    "baseline_params": 269_434,
    "macs": 940_000,
    "baseline_macs": 2_520_000,
    "val_acc": 97.31,
    "test_acc": 98.12,
}


@pytest.fixture
def block(store: Store, put: Put, answer: Answer) -> Callable[..., dict[str, str]]:
    """Write an answer, and read its block; `block(drop=2.0)` changes what is told of it."""

    def read(record: dict[str, Any] = SMALL, **told: Any) -> dict[str, str]:
        answer(put(**record), **(TOLD | told))
        return dict(answer_block.read(store, STUDY))

    return read


Block = Callable[..., dict[str, str]]


def test_it_says_what_the_answer_is_costs_scores_and_promises_and_what_to_type(
    block: Block, store: Store
) -> None:
    best = store.study_folder(STUDY) / "best"
    assert block() == {
        "answer": "resnet20 d1-2-3_w16-8-16",
        "network": "1-2-3 of 3-3-3 blocks, 16-8-16 of 16-32-64 channels",
        "parameters": "19,642, 7.3% of the baseline's 269,434",
        "MACs": "0.94M, 37.3% of the baseline's 2.52M",
        "test acc": "97.96 +- 1.05 % and the baseline's 98.52 +- 0.43 % (3 seeds each, trained on "
        "train and val)",
        "drop": "0.56 points (+- 0.66, the standard error over seeds), where 1 point may be lost",
        "promise": "kept on test; by val alone: 86% likely to be kept, expected to lose "
        "0.21 points (80 % interval -0.70 to 1.12)",
        "weights": "those of seed 0: 97.31 % on val, 98.12 % on test",
        "best": str(best),
        "export": f"ssr export run={best} format=onnx",
    }


def test_no_figure_and_no_name_stands_in_it_twice(block: Block) -> None:
    latency = {"ms": 0.125, "setting": "onnxruntime, one thread", "measured": True, "cap": 0.5}
    front = {"networks": 7, "trained": 26}
    rows = block(latency=latency, front=front)
    figures = re.findall(
        r"(?<![\w.-])\d[\d.,]*\d%?",
        " ".join(text for name, text in rows.items() if name not in ("network", "best", "export")),
    )
    assert sorted(figures) == sorted({*figures})
    assert rows["latency"] == "0.125 ms measured; 0.5 ms are allowed; onnxruntime, one thread"
    assert rows["trade-off"].startswith("7 of 26 networks are on the front of accuracy")
    assert sum("d1-2-3_w16-8-16" in text for text in rows.values()) == 1


def test_a_drop_that_is_too_large_and_a_promise_that_is_too_weak_are_said(block: Block) -> None:
    over = block(drop=1.5)
    assert over["answer"].endswith(", which lost too much on test")
    assert over["drop"].startswith("1.50 points (+- 0.66")
    assert over["drop"].endswith(", more than the 1 point that may be lost")
    assert over["warning"].startswith("the promise is broken: it loses 1.50 points on test")
    assert block(drop=1.5, verdict="so it is", kept=False)["warning"] == "so it is"
    assert block(drop=-0.5)["drop"].startswith("none: 0.50 points better than the baseline")
    weak = PROMISE | {"probability": 0.4}
    untested = block(promise=weak, measured_on="val")
    assert untested["answer"].endswith(", not promised")
    assert untested["warning"].startswith("no network is promised: this is the likeliest one, 40%")
    assert block(promise=weak)["promise"].endswith("; objective.confidence=0.8 asks for more")
    before = block(measured_on="val", kept=False, verdict="so it is")  # by a command before
    assert before["answer"].endswith(", which lost too much on test")
    assert before["promise"].startswith("broken on test; ")


def test_an_answer_that_is_not_good_enough_is_not_called_the_cheapest_that_is(block: Block) -> None:
    front, cheapest = {"networks": 7, "trained": 26}, "is the cheapest network that is good enough"
    assert block(front=front)["trade-off"].endswith(cheapest)
    weak = {"promise": PROMISE | {"probability": 0.4}, "measured_on": "val"}
    for told in ({"drop": 1.5}, weak):
        said = block(front=front, **told)["trade-off"]
        assert said == "7 of 26 networks are on the front of accuracy and parameters"


def test_a_baseline_that_breaks_a_cap_is_handed_over_with_a_word(block: Block) -> None:
    full = {"baseline_params": FULL["params"], "baseline_macs": FULL["macs"]}
    whole = FULL | full | {"widths": (16, 32, 64)}
    against = verdict.breaks_caps_text(["params"])
    assert against.startswith("the baseline does not keep to cap.params, and no network that does")
    rows = block(whole, measured_on="val", drop=0.0, verdict=against)
    assert rows["warning"] == against
    assert rows["answer"].endswith(": no network that keeps to the caps is good enough yet")
    rows = block(whole, measured_on="val", drop=0.0)
    assert "warning" not in rows and rows["answer"].endswith(
        "no smaller network is good enough yet"
    )


def test_what_became_of_a_promise_is_the_first_thing_said_of_it(block: Block) -> None:
    for told, first in (
        ({"drop": 0.56}, "kept on test"),
        ({"drop": 1.5}, "broken on test"),
        ({"drop": 0.56, "kept": True}, "kept on test"),
        ({"drop": 0.56, "measured_on": "val"}, "not tested"),
    ):
        rows = block(**told)
        assert rows["promise"].startswith(f"{first}; ")
        assert ("86% likely to lose at most" in rows["promise"]) is (first == "not tested")
        assert ("where 1 point may be lost" in rows["drop"]) is (first == "kept on test")


def test_seeds_that_leave_a_drop_open_say_how_far(block: Block) -> None:
    one = {name: {"mean": 98.0, "std": None, "seeds": 1} for name in ("answer", "baseline")}
    assert "+-" in block()["drop"] and "+-" not in block(measured=one)["drop"]


def test_a_network_that_was_only_predicted_is_good_enough_too_only_if_the_answer_is(
    block: Block,
) -> None:
    untrained = {"network": "d1-1-1_w4-4-8", "params_share": 0.02, "score": 97.0}
    weak = {"promise": PROMISE | {"probability": 0.4}, "measured_on": "val"}
    full = {"baseline_params": FULL["params"], "baseline_macs": FULL["macs"]}
    whole = FULL | full | {"widths": (16, 32, 64)}
    assert "is expected to be good enough, too," in block(untrained=untrained)["untrained"]
    for record, told in ((SMALL, {"drop": 1.5}), (SMALL, weak), (whole, {"drop": 0.0})):
        said = block(record, untrained=untrained, **told)["untrained"]
        assert "is expected to be good enough" in said and "too" not in said
    assert "as the answer was before its test" in block(drop=1.5, untrained=untrained)["untrained"]


def test_what_another_network_costs_is_said_by_the_cost_that_the_search_is_about(
    block: Block,
) -> None:
    named = {"network": "d1-1-1_w4-4-8", "params_share": 0.02, "score": 97.0}
    assert "2.0% of the parameters" in block(untrained=named)["untrained"]
    named |= {"cost": "macs", "share": 0.31}
    assert "31.0% of the MACs" in block(untrained=named)["untrained"]


def test_a_baseline_whose_seeds_differ_by_more_than_may_be_lost_is_said(block: Block) -> None:
    figures = TOLD["measured"] | {"baseline": {"mean": 66.9, "std": 16.3, "seeds": 3}}
    assert "noise" not in block()
    said = "differ by 16.30 points (a standard deviation), more than may be lost"
    assert said in block(drop=-20.3, measured=figures)["noise"]


def test_a_cheaper_network_that_was_passed_over_is_named_with_the_reason(block: Block) -> None:
    one = {"network": "d1-1-1_w4-4-8", "params_share": 0.02, "cost": "macs", "share": 0.03}
    sure = {"probability": 0.62, "confidence": 0.8}
    said = "d1-1-1_w4-4-8, 3.0% of the MACs, is good enough on val, but "
    unsure = "is 62% likely to be so on test; objective.confidence=0.8 asks for more"
    assert block(cheaper=one | sure)["cheaper"] == said + unsure
    lost = block(cheaper=one | sure | {"drop": 6.94})["cheaper"]
    assert lost == f"{said}lost 6.94 points on test"


def test_it_says_how_many_images_the_test_had_and_that_a_surrogate_predicts_poorly(
    block: Block,
) -> None:
    assert "trained on train and val, tested on 120 images)" in block(test_images=120)["test acc"]
    untrained = {"network": "d1-1-1_w4-4-8", "params_share": 0.02, "score": 97.0, "is_poor": True}
    assert "; the surrogate that expects it predicts" in block(untrained=untrained)["untrained"]


def test_what_was_trained_since_is_called_untrained_no_more(block: Block, put: Put) -> None:
    smaller = SMALL | {"network": "d1-1-1_w4-4-8", "test_acc": None}
    untrained = {"network": "d1-1-1_w4-4-8", "params_share": 0.02, "score": 97.0}
    assert "to train it" in block(untrained=untrained)
    put(**smaller, status=Status.failed)
    assert "to train it" in block(untrained=untrained)  # it may be tried again
    put(**smaller)
    assert not {"untrained", "to train it"} & block(untrained=untrained).keys()


def test_looks_at_test_beyond_the_answers_and_the_baselines_are_counted(block: Block) -> None:
    assert block(networks_tested=4)["tested"].startswith("4 networks; each look at test")
    for count in (None, 2):
        assert "tested" not in block(networks_tested=count)
    assert "tested" not in block(networks_tested=4, measured_on="val")


def test_more_is_asked_for_only_where_a_network_is_not_likely_enough(block: Block) -> None:
    for key, rest in (("likeliest", {}), ("cheaper", {"drop": None})):
        one = {"network": "d1-1-1_w4-8-16", "params_share": 0.05, "confidence": 0.8} | rest
        asked = block(**{key: one | {"probability": 0.7}})[key]
        assert asked.endswith("objective.confidence=0.8 asks for more")
        assert "asks for more" not in block(**{key: one | {"probability": 0.9}})[key]


def test_where_the_baseline_is_the_answer_the_likeliest_network_is_named(block: Block) -> None:
    likeliest = {"network": "d1-1-1_w16-32-64", "params_share": 0.27}
    likeliest |= {"probability": 0.7, "confidence": 0.8}
    full = {
        "baseline_params": FULL["params"],
        "baseline_macs": FULL["macs"],
        "widths": (16, 32, 64),
    }
    rows = block(FULL | full, likeliest=likeliest, drop=0.0)
    assert rows["answer"].endswith(", the baseline: no smaller network is good enough yet")
    assert "promise" not in rows
    assert rows["likeliest"].startswith("d1-1-1_w16-32-64, 27.0% of the parameters, is 70% likely")


def test_what_cannot_be_exported_names_no_command_and_code_is_trusted_where_it_is_called(
    block: Block,
) -> None:
    assert "export" not in block(export=None)
    assert block(export=["trust=true"])["export"].endswith(" format=onnx trust=true")


def test_an_answer_of_an_earlier_version_is_read(store: Store, put: Put, answer: Answer) -> None:
    row = {"model": "resnet20", "params": 1, "params_share": 1.0, "seeds": [0, 1]}
    results = [
        row | {"role": "baseline", "network": "b", "test_acc_mean": 91.0, "test_acc_std": 0.5},
        row | {"role": "answer", "network": "a", "test_acc_mean": 90.0, "test_acc_std": 0.25},
    ]
    answer(put(**SMALL), accuracy="test", drop=1.0, results=results)
    rows = dict(answer_block.read(store, STUDY))
    assert rows["test acc"] == "90.00 +- 0.25 % and the baseline's 91.00 +- 0.50 % (2 seeds each)"
    assert answer_block.read(store, "another") == []


def test_the_page_has_the_same_rows_and_no_folder_of_this_machine(
    block: Block, store: Store
) -> None:
    rows = block()
    (study,) = page_data.collect(store)["studies"]
    told = dict(study["block"])
    places = ("best", "export")
    assert [*told] == [*rows]
    assert {k: v for k, v in told.items() if k not in places} == {
        k: v for k, v in rows.items() if k not in places
    }
    assert all(str(store.root) not in told[name] and "FOLDER/" in told[name] for name in places)


def test_a_page_says_which_folder_it_means_wherever_it_lies(
    block: Block, store: Store, tmp_path: Path
) -> None:
    block()
    here, there = "where FOLDER is this page's", "where FOLDER is the folder of the runs"
    for to, said, other in (
        (None, here, there),
        (store.root / ".." / store.root.name / "page.html", here, there),
        (tmp_path / "page.html", there, here),
    ):
        text = page.write(store, to=to).read_text()
        assert said in text and other not in text


def test_segments_beyond_a_few_are_counted(block: Block) -> None:
    many = {"blocks": (3, 1) * 6, "widths": (16, 8) * 6}
    shares = Fractions(depth=(1.0, 1 / 3) * 6, width=(1.0, 0.5) * 6)
    full = {"blocks": [3, 3] * 6, "widths": [16, 16] * 6}
    rows = block(SMALL | many | {"modifiers": shares, "network": "long"}, full=full)
    assert rows["network"] == "24 of 36 blocks, 144 of 192 channels in 12 segments"


def test_a_letter_of_a_code_is_explained_where_its_numbers_stand(block: Block) -> None:
    sizes = "1-2-3 of 3-3-3 blocks, 16-8-16 of 16-32-64 channels"
    once = block(SMALL | {"network": "d1-2-3_w16-8b-16"})["network"]
    assert once == f"{sizes} (8b: wider inside its blocks than 8)"
    twice = block(SMALL | {"network": "d1-2-3_w16b-8c-16b"})["network"]
    assert twice.endswith(
        "(16b: wider inside its blocks than 16, 8c: wider inside its blocks than 8)"
    )


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_a_terminal_gets_texts_below_each_other_and_what_is_copied_whole(
    block: Block,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    rows = block()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    answer_block.print_block([*rows.items()])
    lines = capsys.readouterr().out.splitlines()
    copied = [line for line in lines if line.startswith(("best:", "export:"))]
    assert [line.partition(":")[2].strip() for line in copied] == [rows["best"], rows["export"]]
    assert all(len(line) <= columns for line in lines if line not in copied)


def test_a_pipe_gets_a_line_for_each_row(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    rows = block()
    answer_block.print_block([*rows.items()])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [*rows]
    assert Path(lines[-2].split()[-1]).name == "best"


def test_an_answer_of_an_earlier_version_claims_no_size_of_its_baseline(block: Block) -> None:
    assert block(full=None)["network"] == "1-2-3 blocks, 16-8-16 channels"
