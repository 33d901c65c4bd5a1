"""What a model card says of a network, its training and its files."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from ssr_exp.config import ExportConfig
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge import selection
from ssr_exp.edge.export import markdown, model_card, output_kinds, predictor
from ssr_exp.edge.export.exported import EAGER, Exported, ExportedFile, print_table, report
from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.export.verification import Agreement, DrawnSamples, Samples
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.report import answer_block
from ssr_exp.rescaling.inputs import one_tensor
from ssr_exp.runs.last_comparison import Comparison
from ssr_exp.runs.record import NOT_TOLD, Record
from ssr_exp.runs.store import RECORD_FILE, Store
from tests.edge.conftest import CODE, FIELDS, FULL, STUDY

PROMISE = {
    "drop": 0.5, "low": -0.7, "high": 1.7, "probability": 0.86, "allowed": 2.0, "confidence": 0.8
}  # fmt: skip


def exported(folder: Path) -> Exported:
    same = Agreement(1e-7, 100.0, {"val": 90.0}, {"val": 90.0})
    file = ExportedFile("model.onnx", "onnx", False, "ONNX Runtime 1", 2048, same, 8, ("9 Conv",))
    latencies = {EAGER: Latency((1.0,)), "model.onnx": Latency((0.5,))}
    return Exported(folder, (file,), (), latencies)


def write(runs: Path, run: str, files: Exported | None = None, **changes: object) -> str:
    parts = [Samples("val", torch.zeros(3, 1, 8, 8))]
    request = ExportConfig(format=["onnx"], **changes)  # type: ignore[arg-type]
    how = Preprocessing(1, (8, 8), fit="stretch", background=0, depth=12)
    return model_card.write(selection.find(runs, run), files or exported(runs), parts, request, how)


def test_a_card_says_what_speaks_against_the_answer(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Against it" not in write(runs, CODE)
    found = selection.find
    broken = "the promise is broken: it loses 5 points on test"
    told = Comparison(measured_on="test", drop=5.0, verdict=broken)
    monkeypatch.setattr(selection, "find", lambda *words: replace(found(*words), told=told))
    assert f"- Against it: {broken}." in write(runs, CODE)


def test_a_card_says_code_cost_accuracy_latency_recipe_and_how_to_load(runs: Path) -> None:
    text = write(runs, CODE, license="apache-2.0")
    for words in (
        f"# resnet20 rescaled: {CODE}",
        "| parameters |",
        "is as good in val acc: it is on the front",
        "| model.onnx | ONNX Runtime 1 | 2 | 0.5 (0.5 - 0.5) | 90.00 | 100.00 | 1.0e-07 |",
        "python predict.py photo.jpg",
        'run = predict.load(predict.Path("model.onnx"))',
        'network = saved.load(".")',
        "optimizer sgd, lr 0.1",
        "mean [0.5] and std [0.25]",
        "it is turned as its EXIF data say; what is transparent in it shows black",
        "taken for 12 bits",
        "it becomes grey; it is stretched to 8 x 8, by Pillow's bilinear filter",
        "apache-2.0.",
    ):
        assert words in text, words
    assert "floating-point" not in text  # the training had no such images
    assert str(runs) not in text


def test_a_card_tells_what_scored_a_file_from_what_its_outputs_were_compared_on(runs: Path) -> None:
    chosen, request = selection.find(runs, CODE), ExportConfig(format=["onnx"])
    part = Samples("val", torch.zeros(3, 1, 8, 8))
    ours, own = (
        model_card.write(chosen, exported(runs), [each], request, None)
        for each in (part, replace(part, own_validation=True))
    )
    assert "of seed 1: measured on 3 val images" in ours
    assert "of seed 1: measured by the validation of the training's own code. " in own
    assert "Outputs: compared on 3 val images" in own and "measured on 3" not in own


def test_the_seeds_of_the_last_comparison_are_told(runs: Path) -> None:
    text = write(runs, "best")
    assert f"answer, resnet8 {CODE}: 97.00 +- 0.50 % on test" in text
    assert "2 seeds (0, 1)" in text
    assert "its val acc flatters it" in text
    assert "Not stated" in text


def test_of_a_comparison_that_cannot_be_read_nothing_is_told_and_that_is_said(
    runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = runs / STUDY / "best" / "metrics.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"results": [*told["results"], {"role": "broken"}]}))
    assert "on test" not in write(runs, "best") and f"skipped {path}" in caplog.text


def test_a_card_reads_on_which_images_an_earlier_versions_answer_was_measured(
    runs: Path, make_record: Callable[..., Record]
) -> None:
    """Schema 1 said it by another key, and knew no verdict."""
    card = finalists(runs, make_record, measured_on="test", drop=3.0)
    path = runs / STUDY / "best" / "metrics.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({"accuracy": told.pop("measured_on"), **told}))
    assert write(runs, "best") == card and "- Against it: the promise is broken: it loses" in card
    path.write_text(json.dumps({"accuracy": "val", **told}))
    card = write(runs, "best")
    assert "- Promise: not tested;" in card and "Drop against the baseline on test" not in card


def test_the_head_is_yaml_whatever_the_names_are(runs: Path) -> None:
    from omegaconf import OmegaConf

    text = write(runs, CODE, license='mine: "free" #1')
    _, head, _ = text.split("---\n", 2)
    read = OmegaConf.to_container(OmegaConf.create(head))
    assert isinstance(read, dict)
    assert (read["license"], read["datasets"]) == ('mine: "free" #1', ["digits"])
    assert read["pipeline_tag"] == "image-classification"


def test_the_tags_are_of_the_formats_that_are_there(runs: Path) -> None:
    one = exported(runs).files[0]
    kept = replace(one, file="model.int8.pte", format="executorch", int8=True)
    latencies = {name: Latency((1.0,)) for name in (EAGER, "model.pte", kept.file)}
    both = (replace(one, file="model.pte", format="executorch"), kept)
    files = replace(exported(runs), files=both, latencies=latencies)
    (tags,) = re.findall(r"^tags: .*$", write(runs, CODE, files), re.MULTILINE)  # of format=onnx
    assert tags.count("executorch") == 1 and "onnx" not in tags


def test_several_seeds_are_told_with_a_mean(runs: Path, make_record: Callable[..., Record]) -> None:
    store = Store(runs)
    for seed, accuracy in ((2, 90.0), (3, 92.0)):
        one = make_record(study=STUDY, network=CODE, seed=seed, val_acc=accuracy)
        store.write(store.folder(STUDY, CODE, seed), one)
    first = store.read(store.folder(STUDY, CODE, 1))
    assert first is not None and first.val_acc is not None
    middle = (first.val_acc + 90 + 92) / 3
    assert f"- {middle:.2f} +- " in write(runs, CODE)
    assert "over 3 seeds (1, 2, 3)" in write(runs, CODE)


def test_the_seed_that_is_shipped_stands_beside_the_mean_and_the_baseline_beside_both(
    runs: Path, make_record: Callable[..., Record]
) -> None:
    store = Store(runs)
    for seed, accuracy in ((1, 95.0), (2, 94.0)):
        one = make_record(study=STUDY, network=CODE, seed=seed, val_acc=accuracy)
        store.write(store.folder(STUDY, CODE, seed), one)
    text = write(runs, CODE)
    assert "- 94.50 +- 0.71 % on val, mean and standard deviation over 2 seeds (1, 2)." in text
    assert "- The weights are those of seed 1: 95.00 % on val." in text
    assert "baseline" not in text  # which was not trained
    put_baseline(store, make_record, val_acc=97.0)
    text = write(runs, CODE)
    assert f"- baseline, resnet20 {FULL}: 97.00 % on val, of a single seed (0)." in text
    assert "- Drop against the baseline on val: 2.50 points." in text  # one seed has no error
    put_baseline(store, make_record, val_acc=94.0)
    assert "on val: none: 0.50 points better than the baseline" in write(runs, CODE)


def put_baseline(store: Store, make_record: Callable[..., Record], **fields: object) -> None:
    usual = make_record()
    cost = {"params": usual.baseline_params, "macs": usual.baseline_macs}
    full = make_record(study=STUDY, network=FULL, **cost, **fields)
    store.write(store.folder(STUDY, FULL, full.seed), full)


def test_a_loops_card_has_the_rows_of_a_searchs_and_none_of_what_was_not_told(
    runs: Path, make_record: Callable[..., Record]
) -> None:
    store, best = Store(runs), runs / STUDY / "best"
    put_baseline(store, make_record, seed=3, val_acc=96.0, test_acc=95.5)
    told = {"epochs": 0, "wall_s": 0.0, "device": NOT_TOLD, "precision": NOT_TOLD}
    mine = make_record(study=STUDY, network=CODE, seed=3, test_acc=94.0, **told)
    store.write(store.folder(STUDY, CODE, 3), mine)
    store.write_text(best / RECORD_FILE, mine.to_json())
    store.write_text(best / "study.json", json.dumps({"task": {"name": "loop"}}))
    pair = {
        "answer": {"mean": 94.0, "std": None, "seeds": 1},
        "baseline": {"mean": 95.5, "std": 0.25, "seeds": 2},
    }
    metrics = {"measured_on": "test", "drop": 1.5, "measured": pair, "promise": PROMISE}
    store.write_text(best / "metrics.json", json.dumps(metrics))
    text = write(runs, "best")
    for line in (
        f"- answer, resnet20 {CODE}: 94.00 % on test, of a single seed (3).",
        f"- baseline, resnet20 {FULL}: 95.50 +- 0.25 % on test, mean and standard deviation over "
        "2 seeds.",
        "- Drop against the baseline on test: 1.50 points, where 2 points may be lost.",
        "- Seed 3.\n",
    ):
        assert line in text, line
    for word in ("epochs", "not recorded", "not told", "datasets:", "Recipe:"):
        assert word not in text, word
    pair["answer"] = {"mean": 94.0, "std": 0.25, "seeds": 2}
    store.write_text(best / "metrics.json", json.dumps(metrics))
    assert "on test: 1.50 points (+- 0.25, the standard error over seeds)" in write(runs, "best")
    store.write_text(best / "metrics.json", json.dumps(metrics | {"measured_on": "val"}))
    text = write(runs, "best")
    assert "- Drop against the baseline on val: none: 1.50 points better" in text
    assert "- Promise: not tested; 86% likely to lose at most the 2 points that may be" in text
    eight = mine.model_copy(update={"epochs": 8, "wall_s": 0.3, "device": "a gpu"})
    store.write_text(best / RECORD_FILE, eight.to_json())
    assert "- Recipe: 8 epochs.\n- Seed 3; 0.3 s on a gpu.\n" in write(runs, "best")


def test_a_score_that_was_learned_from_is_marked_in_table_card_and_report(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flattered, request = replace(exported(runs), learnt=frozenset({"val"})), ExportConfig()
    score = selection.find(runs, CODE).record.scored_by
    assert flattered.headings(score) == ["val acc % (learned from)"]
    assert exported(runs).headings(score) == ["val acc %"]
    print_table(flattered, score, request)
    assert "val acc % (learned from)" in capsys.readouterr().out
    assert "| val acc % (learned from) |" in write(runs, CODE, flattered)
    assert report(flattered, score, request)["learned_from"] == ["val"]


def test_where_nothing_was_measured_on_val_no_place_on_the_front_is_claimed(runs: Path) -> None:
    store = Store(runs)
    known = store.read(store.folder(STUDY, CODE, 1))
    assert known is not None
    store.write(store.folder(STUDY, CODE, 1), known.model_copy(update={"score": None}))
    assert "It was not measured on val in its study" in write(runs, CODE)
    moved = runs.parent / "elsewhere" / "best"
    shutil.copytree(runs / STUDY / "best", moved)
    assert "is not at hand" in write(runs, str(moved))


def test_a_network_of_other_inputs_is_told_of_in_samples_and_no_image(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is scored on drawn inputs: then the row of the weights has no more cells either."""
    chosen, files, request = selection.find(runs, CODE), exported(runs), ExportConfig(repeats=3)
    signature = one_tensor((4, 64))
    drawn = DrawnSamples(FlatNetwork(nn.Identity(), signature))
    unscored = replace(files.files[0], agreement=Agreement(1e-7, None, {}, {}))
    files = replace(files, files=(unscored,))
    flat = chosen.about.model_copy(update={"inputs": signature, "input_shape": (4, 64)})
    for about in (flat, flat.model_copy(update={"inputs": None})):
        own = replace(chosen, about=about)
        card = model_card.write(own, files, [drawn], request, None)
        assert "| MACs for one sample |" in card and "Latency: one sample, median" in card
        of_files = card.partition("## Files")[2].partition("## Use")[0]
        assert "drawn inputs" in of_files and "image" not in of_files
        starts = ("| file |", "| weights", "| model.")
        table = [line for line in card.splitlines() if line.startswith(starts)]
        assert len(table) == 3 and len({line.count("|") for line in table}) == 1
        print_table(files, chosen.record.scored_by, request, sample=own.sample)
        assert "one sample on" in " ".join(capsys.readouterr().out.split())
    assert "| MACs for one image |" in write(runs, CODE)


def test_who_beats_it_is_counted(runs: Path, make_record: Callable[..., Record]) -> None:
    store = Store(runs)
    better = make_record(study=STUDY, network="d1-1-1_w4-8-16", val_acc=99.9, params=10)
    store.write(store.folder(STUDY, better.network, 0), better)
    assert "1 of them has no more parameters and is no worse in val acc" in write(runs, CODE)
    second = better.model_copy(update={"network": "d1-1-1_w4-8-12"})
    store.write(store.folder(STUDY, second.network, 0), second)
    card = write(runs, CODE)
    assert "2 of them have no more parameters and are no worse in val acc: " in card
    assert markdown.inert(better.network) in card and markdown.inert(second.network) in card


def finalists(runs: Path, make_record: Callable[..., Record], **told: object) -> str:
    """Write a finalist that learned from val of a folder's images; returns its card."""
    parts = {"train": {"cat": 60, "dog": 60}, "test": {"cat": 60, "dog": 60}}
    dataset = {"name": "image_folder", "train_on_val": True, "crop_padding": 4, "flip": True}
    about = FIELDS | {"dataset": dataset | {"cutout": 0}, "reading": {"parts": parts, "sizes": {}}}
    store, best = Store(runs), runs / STUDY / "best"
    store.write_text(best / "study.json", json.dumps(about))
    before = {"train": {"cat": 48, "dog": 48}, "val": {"cat": 12, "dog": 12}}
    searched = {"dataset": {"name": "image_folder"}, "reading": {"parts": before}}
    store.write_text(runs / STUDY / "study.json", json.dumps(searched))
    fields = {"study": f"{STUDY}f", "network": CODE, "dataset": "image_folder", "test_acc": 51.67}
    more = {
        "origin": "finalist",
        "precision": "bf16-mixed",
        "git_commit": "0a1b2c",
        "val_acc": None,
    }
    store.write_text(best / RECORD_FILE, make_record(**fields, **more).to_json())
    rows = [
        {"role": role, "model": "m", "network": "n", "test_score_mean": mean, "seeds": [0, 1, 2]}
        | {"test_score_std": deviation, "params": 9, "params_share": 0.5}
        for role, mean, deviation in (("baseline", 52.78, 2.68), ("answer", 52.22, 1.73))
    ]
    metrics = {"measured_on": "test", "drop": 0.56, "results": rows, "promise": PROMISE} | told
    store.write_text(best / "metrics.json", json.dumps(metrics))
    return write(runs, "best")


def test_a_card_of_a_study_of_finalists_alone_counts_what_it_says(
    runs: Path, make_record: Callable[..., Record]
) -> None:
    finalists(runs, make_record)
    shutil.copy(runs / STUDY / "best/study.json", runs / STUDY / "study.json")
    assert "; images: 120 train, 120 test" in write(runs, "best")


def test_a_card_says_drop_and_promise_in_the_words_of_the_answers_block(
    runs: Path, make_record: Callable[..., Record]
) -> None:
    told: dict[str, object]
    for told in ({}, {"drop": 2.5}, {"drop": -0.5, "kept": True}, {"kept": False, "drop": 3.0}):
        card = finalists(runs, make_record, **told)
        block = dict(answer_block.read(Store(runs), STUDY))
        assert f"- Drop against the baseline on test: {block['drop']}.\n" in card
        assert f"- Promise: {block['promise']}.\n" in card
        assert f"- Noise: {block['noise']}.\n" in card
        assert ("broken on test" in card) is (told.get("drop", 0) in (2.5, 3.0))
        assert "(+- 1.84, the standard error over seeds)" in card


def test_a_card_of_the_seed_network_says_why_it_is_that(
    runs: Path, make_record: Callable[..., Record]
) -> None:
    assert "No smaller network" not in finalists(runs, make_record)
    path = runs / STUDY / "best" / RECORD_FILE
    record = Store(runs).read(path.parent)
    assert record is not None
    whole = {"params": record.baseline_params, "macs": record.baseline_macs}
    path.write_text(record.model_copy(update=whole).to_json())
    card = write(runs, "best")
    assert "No smaller network was good enough in its search, so this is the seed network." in card
    assert " at its full size: " in card and " rescaled: " not in card


def test_a_loops_card_says_how_far_seeds_leave_the_drop_open(
    runs: Path, make_record: Callable[..., Record]
) -> None:
    """Its study has no table of a search, but the two means."""
    measured = {
        role: {"mean": mean, "std": deviation, "seeds": 3}
        for role, mean, deviation in (("baseline", 52.78, 2.68), ("answer", 52.22, 1.73))
    }
    card = finalists(runs, make_record, results=[], measured=measured)
    assert "(+- 1.84, the standard error over seeds)" in card


def test_a_card_says_both_costs_and_counts_images_and_names_augmentation_and_precision(
    runs: Path, make_record: Callable[..., Record]
) -> None:
    card = finalists(runs, make_record)
    for line in (
        "| parameters | 232,410 | 269,434 | 86.3% |\n",
        "larger is better; one of the 120 test images is 0.83 points.\n",
        "- Data set: image_folder; images: 120 train (24 of them val in the search), 120 test.\n",
        "- Augmentation: crop_padding 4, flip.\n",
        "- Recipe: 8 epochs, precision bf16-mixed, optimizer sgd, lr 0.1.\n",
        "; commit 0a1b2c of ssr_exp.\n",
    ):
        assert line in card, line
    assert "- Augmentation: none.\n" in write(runs, CODE)


def test_a_card_says_why_there_are_two_studies(
    runs: Path, make_record: Callable[..., Record]
) -> None:
    said = (
        f"- Two studies: the search is `{STUDY}`, and its finalists, which learned from train and "
        f"val, are `{STUDY}f`.\n"
    )
    assert said in finalists(runs, make_record)
    assert f"- Study `{STUDY}`.\n" in write(runs, CODE)


def test_a_card_says_beside_the_table_why_a_score_is_not_the_trainings(
    runs: Path, make_record: Callable[..., Record]
) -> None:
    finalists(runs, make_record)
    one = exported(runs).files[0]
    scores = {"val": 90.0, "test": 52.5}
    both = replace(one.agreement, eager=scores, scores=scores)
    card = write(runs, "best", replace(exported(runs), files=(replace(one, agreement=both),)))
    _, said = card.split("- `weights.pt`: ")
    assert said.startswith(
        "PyTorch measures test acc 52.50 % here, and the record says 51.67 %: the training "
        "measured in bf16-mixed, and the files are float32"
    )


@pytest.mark.parametrize("name", ["image_folder", "csv", "masks", "MyData"])
def test_the_head_names_no_data_set_that_is_the_users_own(
    runs: Path, make_record: Callable[..., Record], name: str
) -> None:
    one = make_record(study=STUDY, network=CODE, seed=1, dataset=name)
    Store(runs).write(Store(runs).folder(STUDY, CODE, 1), one)
    own = {"name": name} | ({"target": "my.MyData"} if name == "MyData" else {})
    (runs / STUDY / "study.json").write_text(json.dumps({"dataset": own}))
    assert "datasets:" not in write(runs, CODE)
    assert f"- Data set: {name}" in write(runs, CODE)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression", "segmentation"])
def test_the_lines_of_a_card_print_what_is_predicted_by_label(
    runs: Path, task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / STUDY / "study.json").write_text(json.dumps(FIELDS | {"task": {"name": task}}))
    (lines,) = re.findall(r"```python\n(import predict\n.*?)\n```", write(runs, CODE), re.DOTALL)
    facts = {"labels": ["a", "b"], "target_mean": [2.0, 3.0], "target_std": [1.0, 2.0], "unit": ""}
    text = predictor.text(task, facts, Preprocessing(1, (8, 8)), {}, takes_bytes=False)
    predict = ModuleType("predict")
    monkeypatch.setitem(sys.modules, "predict", predict)  # where dataclasses look
    exec(text, predict.__dict__)
    outputs = np.zeros((1, 2, 4, 4) if task == "segmentation" else (1, 2), np.float32)
    monkeypatch.setattr(predict, "tensor", lambda files, about: files)
    monkeypatch.setattr(predict, "load", lambda path: lambda images: outputs)
    exec(lines, {})
    expected = {"regression": (2.0, 3.0), "segmentation": (1.0, 0.0)}.get(task, (0.5, 0.5))
    assert ast.literal_eval(capsys.readouterr().out) == dict(zip("ab", expected, strict=True))
    made = output_kinds.of(task).made
    assert f"`predict.predicted` does that, and returns {made}." in write(runs, CODE)
