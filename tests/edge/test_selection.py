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
from ssr_exp.edge.export.exported import EAGER, Exported, ExportedFile
from ssr_exp.edge.export.verification import Agreement, Samples
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import LAST_CHECKPOINT, RECORD_FILE, Store
from tests.support.descriptions import description

CODE = "d1-1-1_w16-32-64"
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


def write(runs: Path, run: str, **changes: object) -> str:
    parts = [Samples("val", torch.zeros(3, 1, 8, 8))]
    request = ExportConfig(format=["onnx"], **changes)  # type: ignore[arg-type]
    how = Preprocessing(1, (8, 8), fit="stretch", background=0, depth=12)
    return model_card.write(selection.find(runs, run), exported(runs), parts, request, how)


def test_a_card_says_what_speaks_against_the_answer(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Against it" not in write(runs, CODE)
    found = selection.find
    broken = "the promise is broken: it loses 5 points on test"
    monkeypatch.setattr(selection, "find", lambda *words: replace(found(*words), verdict=broken))
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
