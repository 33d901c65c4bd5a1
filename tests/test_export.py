"""The command line of an export: what is typed, which files come out, what is said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssr_exp.edge.export import exporter, formats
from ssr_exp.rescaling import saved
from ssr_exp.runs import checkpoints, store
from ssr_exp.runs.record import Status

Command = Callable[..., Any]  # conftest's
Compose = Callable[..., Any]
Export = Callable[..., Any]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`paths.runs` of a study in which two networks learned digits for an epoch."""
    folder = tmp_path_factory.mktemp("trained")
    words = "model=resnet8 dataset=digits recipe=sgd_cosine recipe.warmup_epochs=0 trainer=cpu "
    words += "trainer.max_epochs=1 trainer.progress=false logger=disabled trainer.threads=1 "
    words += f"paths.runs={folder}/runs paths.data={folder}/data modifiers=sentinel_width "
    words += "modifiers.low_width=0.5 modifiers.together=1"
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return folder / "runs"


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of them, where a command looks for runs."""
    return shutil.copytree(trained, tmp_path / "runs")


@pytest.fixture
def export_(command: Command, runs: Path) -> Export:
    """Run `export.py` on them, measuring next to nothing."""
    return lambda *words: command("repeats=1", *words, script="export.py")


def network(runs: Path) -> str:
    """The code of the smallest network that was trained."""
    records = store.Store(runs).records()
    return min(records, key=lambda r: r.params).network


def a_record(runs: Path) -> Path:
    return next(runs.glob(f"*/{network(runs)}/seed0/{store.FILE}"))


def change(runs: Path, **fields: object) -> None:
    path = a_record(runs)
    held = {k: v for k, v in json.loads(path.read_text()).items() if k != "checksum"}
    path.write_text(json.dumps(held | fields))


def folder(ended: Any) -> Path:
    return Path(ended.out.strip().splitlines()[-1].removeprefix("export: "))


def left(runs: Path) -> list[Path]:
    """What looks like an export."""
    return [p for p in runs.rglob("*") if p.suffix in (".onnx", ".pte", ".pt2")]


def val_images(runs: Path) -> tuple[Tensor, Tensor]:
    """The real images that the study held out, normalised, with their labels."""
    from ssr_exp.config import DatasetConf
    from ssr_exp.datasets import in_memory

    fields = json.loads(next(runs.glob("*/study.json")).read_text())["dataset"]
    del fields["content"]
    splits = in_memory.load(DatasetConf(**fields), Path("unused"))
    assert splits.val is not None
    mean, std = (torch.tensor(v)[None, :, None, None] for v in (splits.mean, splits.std))
    return (splits.val.pixels.float() / 255 - mean) / std, splits.val.labels


def test_files_are_verified_and_their_folder_stands_alone(export_: Export, runs: Path) -> None:
    ended = export_(f"run={network(runs)}", "format=onnx,torch_export")
    assert (ended.code, ended.err) == (0, "")
    to = folder(ended)
    assert {p.name for p in to.iterdir()} == {
        "model.onnx",
        "model.pt2",
        "weights.pt",
        "network.json",
        "record.json",
        "study.json",
        "export.json",
        "README.md",
        "predict.py",
    }
    images, labels = val_images(runs)
    with torch.inference_mode():
        eager = saved.load(to)(images)
    accuracy = 100 * float((eager.argmax(1) == labels).double().mean())
    record = json.loads(a_record(runs).read_text())
    assert accuracy == pytest.approx(record["val_acc"], abs=1e-3)
    report = json.loads((to / exporter.REPORT).read_text())
    for row in report["files"]:
        assert row["accuracy"]["val"] == pytest.approx(record["val_acc"], abs=0.4)
        assert (row["agreement"], row["difference"] < 1e-4) == (100, True)
        assert row["bytes"] == (to / row["file"]).stat().st_size
        assert row["latency_ms"] > 0
    assert ended.lines("model.onnx", "ONNX Runtime", "100.00")


@pytest.mark.slow
def test_onnx_and_executorch_files_predict_real_images_as_the_network_does(
    export_: Export, runs: Path
) -> None:
    import onnxruntime

    ended = export_(f"run={network(runs)}", "format=onnx,executorch", "int8=true", "int8_drop=20")
    assert ended.code == 0, ended.text
    to, (images, _) = folder(ended), val_images(runs)
    with torch.inference_mode():
        expected = saved.load(to)(images)
    session = onnxruntime.InferenceSession(str(to / "model.onnx"))
    (onnx,) = session.run(["logits"], {"image": images.numpy()})
    np.testing.assert_allclose(onnx, expected.numpy(), atol=1e-4)
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(to / "model.pte").load_method("forward")
    executorch = torch.cat([method.execute([part])[0].clone() for part in images.split(8)])
    torch.testing.assert_close(executorch, expected, atol=1e-4, rtol=1e-4)
    for one in (torch.from_numpy(onnx), executorch):
        assert torch.equal(one.argmax(1), expected.argmax(1))
    for name in ("model.int8.onnx", "model.int8.pte"):
        assert (to / name).exists()
    assert ended.lines("XNNPACK runs", "left outside")


def test_a_network_is_named_by_its_folder_too_and_exported_again(
    export_: Export, runs: Path, tmp_path: Path
) -> None:
    words = (f"run={network(runs)}", "format=torch_export")
    first = folder(export_(*words, f"to={tmp_path}/first"))
    again = export_(f"run={first}", "format=torch_export", f"to={tmp_path}/second")
    assert again.code == 0, again.text
    assert (folder(again) / "record.json").read_bytes() == (first / "record.json").read_bytes()
    repeated = export_(*words, f"to={tmp_path}/first")
    assert repeated.code == 0
    assert not [p for p in tmp_path.rglob("*") if p.name in ("new", "old")]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.export's runtime gives other logits than PyTorch."""
    from ssr_exp.edge.export.predictor import Predictor

    real = Predictor.model

    def model(self: Predictor, path: Path, *, threads: int) -> Callable[[Tensor], Tensor]:
        run = real(self, path, threads=threads)
        more = 1.0 if path.suffix == ".pt2" else 0.0
        return lambda images: run(images) + more

    monkeypatch.setattr(Predictor, "model", model)


def test_an_interruption_says_so_and_leaves_nothing(
    export_: Export, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssr_exp.edge.export import verification

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verification, "compare", interrupted)
    ended = export_(f"run={network(runs)}", "format=torch_export")
    assert (ended.code, "interrupted: nothing was changed" in ended.err) == (1, True)
    assert left(runs) == []


@pytest.mark.usefixtures("broken")
def test_a_file_that_fails_is_gone_and_others_are_kept(export_: Export, runs: Path) -> None:
    ended = export_(f"run={network(runs)}", "format=torch_export,onnx")
    assert ended.code == 1
    assert "1 files failed: torch_export: its outputs differ from PyTorch's by" in ended.err
    assert [p.name for p in left(runs)] == ["model.onnx"]
    assert "model.pt2" not in (left(runs)[0].parent / "README.md").read_text()


@pytest.mark.usefixtures("broken")
def test_where_nothing_is_verified_no_folder_is_left(export_: Export, runs: Path) -> None:
    ended = export_(f"run={network(runs)}", "format=torch_export")
    assert ended.code == 1
    assert "nothing was exported: torch_export: its outputs differ" in ended.err
    assert left(runs) == [] and not list(runs.glob("*/export/[!.]*"))


@pytest.mark.usefixtures("broken")
def test_a_failure_leaves_the_export_before(
    export_: Export, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as inside:
        from ssr_exp.edge.export import verification

        inside.setattr(verification, "check", lambda *_, **__: None)
        before = folder(export_(f"run={network(runs)}", "format=torch_export"))
    content = {p.name: p.read_bytes() for p in before.iterdir()}
    assert export_(f"run={network(runs)}", "format=torch_export").code == 1
    assert {p.name: p.read_bytes() for p in before.iterdir()} == content


def test_an_operator_that_a_runtime_lacks_is_named(
    export_: Export, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lacking(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            square = images[:, 0] + images[:, 0].transpose(1, 2)
            return self.network(images) + 0 * torch.linalg.eigvalsh(square).sum()

    real = saved.rescale.build  # type: ignore[attr-defined]
    monkeypatch.setattr(
        "ssr_exp.runs.trained.rescale.load", lambda network, state, source: None, raising=True
    )
    monkeypatch.setattr(
        "ssr_exp.runs.trained.rescale.build",
        lambda *words, **named: Lacking(real(*words, **named)),
    )
    ended = export_(f"run={network(runs)}", "format=onnx")
    assert ended.code == 1
    assert "cannot be written as ONNX" in ended.err and "eigh" in ended.err
    assert "Traceback" not in ended.text
    assert left(runs) == []


BAD = {
    "run=CODE format=tflite": "format=tflite is none; it can be onnx, executorch, torch_export",
    "run=CODE format=[]": "format is empty",
    "run=CODE format=torch_export int8=true": "takes a format that can be quantised",
    "run=best": "holds a best/",
    "run=d9-9-9_w1-1-1": "holds a run of d9-9-9_w1-1-1",
    "run=CODE seed=7": "type seed=N, of 0",
    "run=CODE study=other": "holds no study other",
    "run=CODE max_batch=0": "max_batch is 0",
    "run=CODE tolerance=-1": "tolerance is -1",
    "run=CODE push=me": "type push=USER/NAME",
    "run=CODE formt=onnx": "formt",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_ends_in_a_sentence(export_: Export, runs: Path, words: str) -> None:
    ended = export_(*words.replace("CODE", network(runs)).split())
    assert ended.code == 1
    assert BAD[words] in ended.err
    assert "Traceback" not in ended.text
    assert left(runs) == []


@pytest.mark.parametrize("status", [Status.failed, Status.diverged])
def test_a_run_that_did_not_finish_is_not_exported(
    export_: Export, runs: Path, status: Status
) -> None:
    change(runs, status=status.value, error="loss is nan")
    ended = export_(f"run={network(runs)}")
    assert ended.code == 1
    assert f"seed0 {status.value} (loss is nan), so it left no trained network" in ended.err


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_weights_that_are_missing_or_damaged_are_named(
    export_: Export, runs: Path, content: bytes | None
) -> None:
    path = a_record(runs).with_name(checkpoints.LAST)
    path.unlink() if content is None else path.write_bytes(content)
    ended = export_(f"run={network(runs)}")
    assert ended.code == 1
    assert checkpoints.LAST in ended.err and "Traceback" not in ended.text


def test_a_package_that_is_not_installed_is_named_with_its_extra(
    export_: Export, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    ended = export_(f"run={network(runs)}", "format=executorch")
    assert ended.code == 1
    assert "pip install 'ssr_exp[executorch]'" in ended.err


def test_a_folder_that_cannot_be_written_is_named(
    export_: Export, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = export_(f"run={network(runs)}", "format=torch_export", f"to={tmp_path}/file/here")
    assert ended.code == 1
    assert f"cannot write to {tmp_path}/file" in ended.err


def test_a_folder_that_is_no_export_is_not_replaced(
    export_: Export, runs: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "models" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    for to in (mine.parent, runs, runs.parent, mine):
        ended = export_(f"run={network(runs)}", "format=torch_export", f"to={to}")
        assert ended.code == 1
        assert "is there already and is no export" in ended.err
    assert mine.read_text() == "mine" and a_record(runs).exists()


def test_other_images_than_those_of_the_training_are_refused(export_: Export, runs: Path) -> None:
    path = next(runs.glob("*/study.json"))
    fields = json.loads(path.read_text())
    fields["dataset"]["split_seed"] = 5
    path.write_text(json.dumps(fields))
    ended = export_(f"run={network(runs)}", "format=torch_export")
    assert ended.code == 1
    assert "are not those that" in ended.err


def test_an_export_is_pushed_only_where_there_is_a_network(
    export_: Export, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ended = export_(f"run={network(runs)}", "format=torch_export", "push=me/net")
    assert ended.code == 0, ended.text
    assert ended.lines("not pushed", "hf upload me/net")


def test_help_is_instant_because_it_imports_nothing_heavy() -> None:
    code = (
        "import runpy, sys; sys.argv = ['export.py', '--help']\n"
        "try: runpy.run_path('export.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'executorch', 'wandb', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "export.py paths.runs=runs run=best" in done.stdout
