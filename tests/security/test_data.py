"""What others wrote is data: nothing in it is called, imported or unpickled."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ssr_exp.config import DatasetConf, LoggerConf, RunsConf
from ssr_exp.datasets import sources
from ssr_exp.datasets.contents import Contents
from ssr_exp.datasets.image_folder import cache
from ssr_exp.datasets.image_folder.decoding import Decoded
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, planning, saved
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs import predictions, proposal, studies, tables
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import LAST_CHECKPOINT, RECORD_FILE, Store, network_weights
from ssr_exp.runs.wandb import training_run
from ssr_exp.training import checkpoints, resume

CANARY = "made-by-what-was-read"
TARGET = {"_target_": "os.mkdir", "_args_": [CANARY], "path": CANARY}
CODE = f"__import__('os').mkdir('{CANARY}')"
PYTHON = f"!!python/object/apply:os.mkdir ['{CANARY}']"


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (CANARY,)


@pytest.fixture(autouse=True)
def untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whatever a test reads, the canary is not made."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path(CANARY).exists()


def test_the_canary_would_be_made(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": Evil()}}, "evil.ckpt")
    torch.load("evil.ckpt", weights_only=False)
    assert Path(CANARY).is_dir()
    Path(CANARY).rmdir()


READERS: dict[str, Callable[[Path], object]] = {
    "checkpoint": network_weights,
    "state dict": checkpoints.state_dict,
    "weights.pt": saved._state,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_checkpoint_that_holds_code_is_refused(reader: str, form: str) -> None:
    content = {"state_dict": {"network.a": Evil()}, "epoch": 1}
    if form == "torch":
        torch.save(content, "evil.ckpt")
    else:
        Path("evil.ckpt").write_bytes(pickle.dumps(content))
    with pytest.raises(SsrError, match=r"evil\.ckpt") as caught:
        READERS[reader](Path("evil.ckpt"))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_with_code_is_not_gone_on_from(caplog: pytest.LogCaptureFixture) -> None:
    torch.save({"epoch": 1, resume.KEY: Evil()}, LAST_CHECKPOINT)
    assert resume.last_checkpoint(Path()) is None
    assert "cannot be used (" in caplog.text


@pytest.mark.parametrize(
    "held",
    [
        {"pixels": Evil(), "digest": ""},
        torch.zeros(3),
        {"pixels": torch.zeros(2, 3), "digest": "0"},
        [1],
    ],
    ids=["code", "a tensor", "no images", "a list"],
)
def test_a_cache_of_pixels_that_holds_something_else_is_made_anew(held: Any) -> None:
    torch.save(held, "cache.pt")
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    how, held = Preprocessing(channels=3, size=(4, 4)), Contents({}, (4, 4), (4, 4), 1)
    decoded = Decoded(pixels, how, torch.zeros(2, dtype=torch.int64), held)
    assert cache.cached(Path("cache.pt"), lambda: decoded)[0] is decoded


def test_a_downloaded_set_with_other_pickles_is_refused() -> None:
    folder = Path("cifar-10-batches-py")
    folder.mkdir()
    for name in ("data_batch_1", "data_batch_2", "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps({"data": Evil()}))
    conf = DatasetConf(name="cifar10", root=".", download=False)
    with pytest.raises(SsrError, match="no usable cifar10"):
        sources.pool(conf, Path("data"))


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x08\x03", b"\xff" * 64, b"\x80\x04K\x01."])
def test_a_damaged_set_of_torchvision_is_refused(content: bytes) -> None:
    folder = Path("FashionMNIST/raw")
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte").write_bytes(content)
    conf = DatasetConf(name="fashion_mnist", root=".", download=False)
    with pytest.raises(SsrError, match="no usable fashion_mnist"):
        sources.pool(conf, Path("data"))


@pytest.mark.parametrize("value", [TARGET, CODE, PYTHON, [TARGET]], ids=str)
def test_a_record_calls_nothing_it_names(
    value: Any, make_record: Callable[..., Record], caplog: pytest.LogCaptureFixture
) -> None:
    store, record = Store("runs"), make_record()
    folder = store.folder(record.study, record.network, 0)
    for key in ("modifiers", "latencies", "study", "status", "_target_"):
        fields = json.loads(record.to_json()) | {key: value}
        del fields["checksum"]  # which would keep all of it from being read
        store.write_text(folder / RECORD_FILE, json.dumps(fields))
        found = store.read(folder)  # which calls nothing, or the test's canary sings
        is_text = key == "study" and isinstance(value, str)
        assert (found is not None) == (is_text or key == "_target_")  # a key that nobody reads
    assert all("\n" not in r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING)


def test_a_table_calls_nothing_it_names() -> None:
    for row in ({"network": TARGET, "val_acc": 1}, {"network": CODE, "val_acc": 9}):
        Path("runs.jsonl").write_text(json.dumps(row))
        with pytest.raises(SsrError, match=r"runs\.jsonl line 1: network is"):
            tables.read(Path("runs.jsonl"))
    Path("runs.csv").write_text(f"network,val_acc\nd1_w1,{CODE}\n")
    with pytest.raises(SsrError, match=r"runs\.csv line 2: val_acc is"):
        tables.read(Path("runs.csv"))


def test_predictions_and_proposals_call_nothing_they_name() -> None:
    store, study = Store("runs"), "a-study"
    for name in (predictions.FILE, proposal.FILE):
        for value in (TARGET, {"schema_version": 1, "networks": TARGET, "study": CODE}):
            path = store.study_folder(study) / predictions.FOLDER / name
            store.write_text(path, json.dumps(value))
    assert predictions.latest(store, study) is None
    with pytest.raises(SsrError, match="no proposal that can be used"):
        proposal.read(proposal.path(store, study))


def test_a_row_of_wandb_calls_nothing_it_names(
    monkeypatch: pytest.MonkeyPatch, make_record: Callable[..., Record]
) -> None:
    class Run:
        id, state, job_type = "1", "finished", None
        summary_metrics: dict[str, Any] = {"status": TARGET, "_target_": "os.mkdir"}  # noqa: RUF012
        config = json.loads(make_record().to_json()) | {"modifiers": TARGET}

    monkeypatch.setattr(training_run, "_runs", lambda *_: [Run()])
    assert training_run.records(RunsConf(), LoggerConf(), study=make_record().study) == []


def described(name: str, arguments: Any = None) -> str:
    """Write a network.json whose seed network is what `name` says."""
    shares = {"depth": [1.0], "width": [1.0]}
    return json.dumps(
        {
            "model": {"name": name, "arguments": arguments or {}},
            "segment": {"multiple": 4},
            "network": "d1_w1",
            "num_classes": 2,
            "input_shape": [3, 8, 8],
            "classes": ["a", "b"],
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "modifiers": shares,
        }
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("os.mkdir", {"path": CANARY}),
        ("os.system", {"command": f"mkdir {CANARY}"}),
        ("builtins.eval", {"source": CODE}),
        ("subprocess.Popen", {"args": ["mkdir", CANARY]}),
        ("pathlib.Path", {}),
        (f"{CODE}.x", {}),
        (f"../../{CANARY}", {}),
        ("torchvision/../../x", {}),
        ("timm/hf-hub:somebody/something", {}),
        ("timm/local-dir:.", {}),
    ],
)
def test_a_folder_calls_nothing_it_names(name: str, arguments: dict[str, Any]) -> None:
    Path("network.json").write_text(described(name, arguments))
    with pytest.raises(SsrError, match=r"describes no network that can be built"):
        saved.load(".")


@pytest.mark.parametrize("package", [True, False])
def test_code_that_lies_in_a_folder_is_not_imported_because_the_folder_says_so(
    package: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"came_along_{package}"
    path = Path(name, "__init__.py") if package else Path(f"{name}.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"import os; os.mkdir('{CANARY}')\nfrom torch.nn import Identity as Net\n")
    Path("network.json").write_text(described(f"{name}.Net"))
    for where in (".", tmp_path):
        with pytest.raises(SsrError, match="trust where it comes from"):
            saved.load(where)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SsrError, match="trust where it comes from"):
        saved.load(".")


@pytest.mark.parametrize("depth", [60, 400, 900, 5000])
def test_endless_nesting_is_left_out(depth: int, caplog: pytest.LogCaptureFixture) -> None:
    Path("a").mkdir()
    Path("a", studies.FILE).write_text('{"a":' * depth + "1" + "}" * depth)
    assert studies.read_all(Path()) == {}
    assert "skipped" in caplog.text


def test_a_study_of_usual_depth_is_known() -> None:
    Path("a").mkdir()
    Path("a", studies.FILE).write_text('{"a":' * 20 + "[1]" + "}" * 20)
    assert list(studies.read_all(Path())) == ["a"]


@pytest.mark.parametrize("digits", ["9" * 10, "9" * 5_000, "\u0663"])
def test_a_code_of_numbers_that_no_network_has_is_refused_in_a_short_sentence(digits: str) -> None:
    plan = planning.trace(CifarResNet(8), (3, 32, 32), multiple=4)
    for code in (f"d{digits}-1-1_w16-32-64", f"d1-1-1_w16-32-{digits}"):
        with pytest.raises(SsrError, match="is not a network code") as caught:
            codes.parse(plan, code)
        assert len(str(caught.value)) < 200
