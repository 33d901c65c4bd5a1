"""Which trained network a name stands for, and what its card says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssr_exp.config import ExportConfig
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge import selection
from ssr_exp.edge.export import model_card
from ssr_exp.edge.export.exported import EAGER, Exported, ExportedFile, print_table, report
from ssr_exp.edge.export.verification import Agreement, Samples
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.record import NOT_TOLD, Record, Status
from ssr_exp.runs.store import LAST_CHECKPOINT, RECORD_FILE, Store
from tests.support.descriptions import description

CODE = "d1-1-1_w16-32-64"
FULL = "d3-3-3_w16-32-64"
STUDY = "resnet8-digits-0a1b2c3d"
ABOUT = description(classes=("a", "<b>|`c`"), std=(0.25,))
FIELDS = {"recipe": {"optimizer": "sgd", "lr": 0.1}, "dataset": {"name": "digits"}}


@pytest.fixture
def network() -> CifarResNet:
    torch.manual_seed(0)
    return CifarResNet(8, num_classes=2, in_channels=1)


@pytest.fixture
def runs(tmp_path: Path, make_record: Callable[..., Record], network: CifarResNet) -> Path:
    """A study with two seeds of a network, of which the first failed, and an answer."""
    store = Store(tmp_path / "runs")
    folder = store.study_folder(STUDY)
    store.write_text(folder / saved.NETWORK, ABOUT.model_dump_json())
    store.write_text(folder / "study.json", json.dumps(FIELDS))
    for seed, status in enumerate((Status.failed, Status.finished)):
        where = store.folder(STUDY, CODE, seed)
        fields = {"study": STUDY, "network": CODE, "seed": seed, "status": status}
        store.write(where, make_record(**fields, test_acc=None))
        state = {f"network.{name}": value for name, value in network.state_dict().items()}
        torch.save({"state_dict": state}, where / LAST_CHECKPOINT)
    saved.write(folder / "best", ABOUT, network.state_dict())
    store.write_text(
        folder / "best" / RECORD_FILE, make_record(study=f"{STUDY}f", network=CODE).to_json()
    )
    store.write_text(
        folder / "best" / "study.json", json.dumps({"dataset": {"train_on_val": True}})
    )
    row = {"role": "answer", "model": "resnet8", "network": CODE, "test_score_mean": 97.0}
    results = [row | {"test_score_std": 0.5, "seeds": [0, 1]}, {"role": "broken"}]
    store.write_text(folder / "best" / "metrics.json", json.dumps({"results": results}))
    return tmp_path / "runs"


def test_a_code_is_its_first_finished_seed_and_weights(runs: Path, network: CifarResNet) -> None:
    found = selection.find(runs, CODE)
    assert (found.record.seed, found.about.network) == (1, CODE)
    assert not found.network.training and not found.has_seen_val
    for name, value in network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value)


def test_best_is_the_answer_and_so_is_its_folder(runs: Path) -> None:
    by_name = selection.find(runs, "best")
    by_folder = selection.find(Path("nowhere"), str(runs / STUDY / "best"))
    assert by_name.record == by_folder.record
    assert by_name.has_seen_val
    assert by_name.comparison[0]["test_score_mean"] == 97.0


def test_a_seed_that_failed_or_is_not_there_is_refused(runs: Path) -> None:
    with pytest.raises(SsrError, match=r"seed0 failed, so it left no trained network"):
        selection.find(runs, CODE, seed=0)
    with pytest.raises(SsrError, match=r"no such run of .*type seed=N, of 0, 1"):
        selection.find(runs, CODE, seed=2)


def test_a_runs_own_folder_is_that_run(runs: Path) -> None:
    found = selection.find(Path("nowhere"), str(runs / STUDY / CODE / "seed1"))
    assert found.record == selection.find(runs, CODE).record
    with pytest.raises(SsrError, match="seed0 failed"):
        selection.find(Path("nowhere"), str(runs / STUDY / CODE / "seed0"))
    with pytest.raises(SsrError, match="is no folder of a trained network"):
        selection.find(runs, str(runs / "nowhere"))


def test_one_of_several_studies_must_be_named(runs: Path) -> None:
    shutil.copytree(runs / STUDY, runs / "other")
    with pytest.raises(SsrError, match=f"type study=NAME, of other, {STUDY}"):
        selection.find(runs, "best")
    assert selection.find(runs, "best", study=STUDY).folder == runs / STUDY
    with pytest.raises(SsrError, match="there is no study another"):
        selection.find(runs, "best", study="another")


def test_a_folder_without_runs_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(SsrError, match=r"holds no study: type paths.runs=DIR"):
        selection.find(tmp_path, "best")


def test_a_code_longer_than_any_file_name_is_no_folder(runs: Path) -> None:
    code = f"w{'-'.join(['128'] * 120)}"
    with pytest.raises(SsrError, match=f"no study in .* holds a run of {code}"):
        selection.find(runs, code)


def test_a_function_is_called_only_if_it_is_trusted(runs: Path) -> None:
    about = ABOUT.model_copy(update={"model": saved.Model(name="torchvision.models.resnet18")})
    for folder in (runs / STUDY, runs / STUDY / "best"):
        (folder / saved.NETWORK).write_text(about.model_dump_json())
    for run in (CODE, "best"):
        with pytest.raises(SsrError, match="type trust=true if you trust"):
            selection.find(runs, run)


def exported(folder: Path) -> Exported:
    same = Agreement(1e-7, 100.0, {"val": 90.0}, {"val": 90.0})
    file = ExportedFile("model.onnx", "onnx", False, "ONNX Runtime 1", 2048, same, ("9 Conv",))
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
    told = {"verdict": broken}
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


def test_the_seeds_of_the_last_comparison_are_told(runs: Path) -> None:
    text = write(runs, "best")
    assert f"answer, resnet8 {CODE}: 97.00 +- 0.50 % on test" in text
    assert "2 seeds (0, 1)" in text
    assert "its val acc flatters it" in text
    assert "Not stated" in text


def test_the_head_is_yaml_whatever_the_names_are(runs: Path) -> None:
    from omegaconf import OmegaConf

    text = write(runs, CODE, license='mine: "free" #1')
    _, head, _ = text.split("---\n", 2)
    read = OmegaConf.to_container(OmegaConf.create(head))
    assert isinstance(read, dict)
    assert (read["license"], read["datasets"]) == ('mine: "free" #1', ["digits"])
    assert read["pipeline_tag"] == "image-classification"


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
    assert "- Drop against the baseline on val: 2.50 points." in text
    put_baseline(store, make_record, val_acc=94.0)
    assert "on val: none, it is 0.50 points better." in write(runs, CODE)


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
    metrics = {"measured_on": "test", "drop": 1.5, "measured": pair, "promise": {"allowed": 2.0}}
    store.write_text(best / "metrics.json", json.dumps(metrics))
    text = write(runs, "best")
    for line in (
        f"- answer, resnet20 {CODE}: 94.00 % on test, of a single seed (3).",
        f"- baseline, resnet20 {FULL}: 95.50 +- 0.25 % on test, mean and standard deviation over "
        "2 seeds.",
        "- Drop against the baseline on test: 1.50 points; 2 points may be lost.",
        "- Seed 3.\n",
    ):
        assert line in text, line
    for word in ("epochs", "not recorded", "not told", "datasets:", "Recipe:"):
        assert word not in text, word
    store.write_text(best / "metrics.json", json.dumps(metrics | {"measured_on": "val"}))
    said = "- Drop against the baseline on val: "
    (line,) = [line for line in write(runs, "best").splitlines() if line.startswith(said)]
    assert line.endswith("; 2 points may be lost.")
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


def test_who_beats_it_is_counted(runs: Path, make_record: Callable[..., Record]) -> None:
    store = Store(runs)
    better = make_record(study=STUDY, network="d1-1-1_w4-8-16", val_acc=99.9, params=10)
    store.write(store.folder(STUDY, better.network, 0), better)
    assert "1 of them have no more parameters and are no worse in val acc" in write(runs, CODE)
