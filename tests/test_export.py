"""The command line of an export: what is typed, which files come out, what is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssr_exp import config
from ssr_exp.edge.export import verification
from ssr_exp.edge.export.exported import REPORT
from ssr_exp.edge.export.formats import Order, onnx, torch_export
from ssr_exp.edge.export.predictor import Predictor
from ssr_exp.rescaling import saved
from ssr_exp.runs import store

Export = Callable[..., Any]

ROOT = Path(__file__).parents[1]
NETWORK = "d1-1-1_w4-8-16"
TRAIN = (
    "model=resnet8 dataset=digits recipe=sgd_cosine recipe.warmup_epochs=0 trainer=cpu "
    "trainer.max_epochs=1 trainer.progress=false logger=disabled trainer.threads=1 "
    f"modifiers=explicit modifiers.network={NETWORK}"
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`paths.runs` of a study in which a network learned digits for an epoch, and was exported."""
    import hydra

    from ssr_exp.app import configuration, exports
    from ssr_exp.training import run

    folder, threads = tmp_path_factory.mktemp("exported"), torch.get_num_threads()
    paths = [f"paths.runs={folder}/runs", f"paths.data={folder}/data"]
    words = [f"run={NETWORK}", "format=[onnx,torch_export]", "repeats=1"]
    configuration.register()
    with hydra.initialize_config_dir(str(ROOT / "ssr_exp" / "conf"), version_base="1.3"):
        train, export = (
            hydra.compose(name, overrides=[*more, *paths])
            for name, more in (("train", TRAIN.split()), ("export", words))
        )
    run.train(configuration.read(train, config.Config))
    exports.write(export)
    yield folder / "runs"
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture
def runs(exported: Path, tmp_path: Path) -> Path:
    """A copy of them, where a command looks for runs, without the export."""
    runs = shutil.copytree(exported, tmp_path / "runs")
    shutil.rmtree(folder(runs).parent)
    return runs


@pytest.fixture
def export_(command: Callable[..., Any], runs: Path) -> Export:
    """Run `export.py` on them, measuring next to nothing."""
    return lambda *words: command("repeats=1", *words, script="export.py")


@pytest.fixture
def written(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing a file takes no time: it is the one that was written before."""
    for kind in (onnx, torch_export):

        def write(_: Order, path: Path) -> tuple[str, ...]:
            shutil.copy(folder(exported) / path.name, path)
            return ()

        monkeypatch.setattr(kind, "write", write)


@pytest.fixture
def broken(written: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.export's runtime gives other logits than PyTorch."""
    real = Predictor.model

    def model(self: Predictor, path: Path, *, threads: int) -> Callable[[Tensor], Tensor]:
        run = real(self, path, threads=threads)
        more = 1.0 if path.suffix == ".pt2" else 0.0
        return lambda images: run(images) + more

    monkeypatch.setattr(Predictor, "model", model)


def folder(runs: Path) -> Path:
    """Where the network's export lies."""
    (record,) = runs.glob(f"*/{NETWORK}/seed0/{store.RECORD_FILE}")
    return record.parents[2] / "export" / f"{NETWORK}-seed0"


def left(runs: Path) -> list[Path]:
    """What looks like an export."""
    return [p for p in runs.rglob("*") if p.suffix in (".onnx", ".pte", ".pt2")]


def val_images(runs: Path) -> tuple[Tensor, Tensor]:
    """The real images that the study held out, normalised, with their labels."""
    from ssr_exp.datasets import in_memory

    fields = json.loads(next(runs.glob("*/study.json")).read_text())["dataset"]
    del fields["content"]
    splits = in_memory.load(config.DatasetConf(**fields), Path("unused"))
    assert splits.val is not None
    mean, std = (torch.tensor(v)[None, :, None, None] for v in (splits.mean, splits.std))
    return (splits.val.pixels.float() / 255 - mean) / std, splits.val.labels


@pytest.mark.slow
def test_files_are_verified_and_their_folder_stands_alone(exported: Path) -> None:
    to = folder(exported)
    papers = {"network.json", "record.json", "study.json", "export.json", "README.md", "predict.py"}
    assert {p.name for p in to.iterdir()} == papers | {"model.onnx", "model.pt2", "weights.pt"}
    images, labels = val_images(exported)
    with torch.inference_mode():
        eager = saved.load(to)(images)
    accuracy = 100 * float((eager.argmax(1) == labels).double().mean())
    record = json.loads((to / store.RECORD_FILE).read_text())
    assert accuracy == pytest.approx(record["val_acc"], abs=1e-3)
    report = json.loads((to / REPORT).read_text())
    for row in report["files"]:
        assert row["scores"]["val"] == pytest.approx(record["val_acc"], abs=0.4)
        assert (row["agreement"], row["difference"] < 1e-4) == (100, True)
        assert row["bytes"] == (to / row["file"]).stat().st_size
        assert row["latency_ms"] > 0


@pytest.mark.slow
def test_onnx_and_executorch_files_predict_real_images_as_the_network_does(
    export_: Export, runs: Path
) -> None:
    import onnxruntime

    ended = export_(f"run={NETWORK}", "format=onnx,executorch", "int8=true", "int8_drop=20")
    assert ended.code == 0, ended.text
    to, (images, _) = folder(runs), val_images(runs)
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


@pytest.mark.slow
@pytest.mark.usefixtures("written")
def test_a_network_is_named_by_its_folder_too_exported_again_and_pushed_where_there_is_a_network(
    export_: Export, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = (f"run={folder(exported)}", "format=torch_export", f"to={tmp_path}/again")
    for more in ((), ("push=me/net",)):
        ended = export_(*words, *more)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.endswith(f"export: {tmp_path}/again\n")
    assert ended.lines("model.pt2", "torch.export", "100.00")
    assert ended.lines("not pushed", "hf upload --private me/net")
    record = (tmp_path / "again" / store.RECORD_FILE).read_bytes()
    assert record == (folder(exported) / store.RECORD_FILE).read_bytes()
    assert not [p for p in tmp_path.rglob("*") if p.name in ("new", "old")]


@pytest.mark.slow
@pytest.mark.usefixtures("written")
def test_an_interruption_says_so_and_leaves_nothing(
    export_: Export, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verification, "compare", interrupted)
    ended = export_(f"run={NETWORK}", "format=torch_export")
    assert (ended.code, "interrupted: nothing was changed" in ended.err) == (1, True)
    assert left(runs) == []


@pytest.mark.slow
@pytest.mark.usefixtures("broken")
def test_a_file_that_fails_is_gone_and_others_are_kept_as_is_the_export_before(
    export_: Export, runs: Path
) -> None:
    ended = export_(f"run={NETWORK}", "format=torch_export,onnx")
    assert ended.code == 1
    assert "1 files failed: torch_export: its outputs differ from PyTorch's by" in ended.err
    assert [p.name for p in left(runs)] == ["model.onnx"]
    before = {p.name: p.read_bytes() for p in folder(runs).iterdir()}
    assert b"model.pt2" not in before["README.md"]
    assert export_(f"run={NETWORK}", "format=torch_export").code == 1
    assert {p.name: p.read_bytes() for p in folder(runs).iterdir()} == before


@pytest.mark.slow
@pytest.mark.usefixtures("broken")
def test_where_nothing_is_verified_no_folder_is_left(export_: Export, runs: Path) -> None:
    ended = export_(f"run={NETWORK}", "format=torch_export")
    assert ended.code == 1
    assert "nothing was exported: torch_export: its outputs differ" in ended.err
    assert left(runs) == [] and not list(runs.glob("*/export/[!.]*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run=best", "holds a best/"),
        (f"run={NETWORK} tolerance=-1", "tolerance is -1"),
        (f"run={NETWORK} push=me", "type push=USER/NAME"),
        (f"run={NETWORK} formt=onnx", "formt"),
        (f"run={NETWORK} to=README.md/here", "cannot write to"),
    ],
)
def test_bad_input_ends_in_a_sentence(
    command: Export, leave: Callable[..., Path], tmp_path: Path, words: str, said: str
) -> None:
    leave(network=NETWORK)
    words = words.replace("README.md", str(ROOT / "README.md"))
    ended = command(*words.split(), script="export.py")
    assert ended.code == 1
    assert said in ended.err and "Traceback" not in ended.text
    assert left(tmp_path) == []


def test_a_study_that_was_begun_with_a_key_that_nothing_read_is_exported() -> None:
    from ssr_exp.app import verification_inputs

    dataset = {"name": "digits", "group": "patient", "split_seed": 3, "targets": ["a"]}
    chosen: Any = SimpleNamespace(study={"dataset": dataset}, asked={})
    asked = verification_inputs.dataset_of(config.ExportConfig(), chosen)
    assert asked == config.DatasetConf(name="digits", split_seed=3)
    dataset["name"] = "csv"
    assert verification_inputs.dataset_of(config.ExportConfig(), chosen).group == "patient"


def test_files_that_were_left_out_as_damaged_are_left_out_of_what_verifies(tmp_path: Path) -> None:
    from ssr_exp.app import verification_inputs
    from ssr_exp.datasets import in_memory
    from ssr_exp.training import fingerprint

    root = tmp_path / "images"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for at in range(20):
            Image.new("RGB", (8, 8), (12 * at, 0, 0)).save(root / name / f"{at}.png")
    (root / "cat/3.png").write_bytes(b"broken")
    conf = config.DatasetConf(name="image_folder", root=str(root), skip_corrupt=1)
    splits = in_memory.load(conf, tmp_path / "data")
    kept = {k: v for k, v in asdict(conf).items() if k not in fingerprint.NOT_COMPARED}
    study = {"dataset": kept, "reading": splits.reading.fields()}
    own = {"dataset": asdict(replace(conf, stream=False))}  # of the machine that trained
    for asked in (own, {"dataset": {"root": str(root)}}):
        chosen: Any = SimpleNamespace(study=study, asked=asked)
        again = verification_inputs.dataset_of(config.ExportConfig(), chosen)
        assert in_memory.load(again, tmp_path / "data").fingerprint == splits.fingerprint
        assert again.stream == "auto"
    chosen = SimpleNamespace(study={"dataset": kept, "reading": 3}, asked={})
    assert verification_inputs.dataset_of(config.ExportConfig(), chosen).skip_corrupt == 0


def test_our_tasks_score_the_first_output_and_a_users_module_what_it_reads() -> None:
    from ssr_exp.app import verification_inputs

    validation: Any = SimpleNamespace(puts_out="out", logs_score=True, lost=lambda: None)
    chosen: Any = SimpleNamespace(
        task=config.TaskKind.segmentation, about=SimpleNamespace(weights_of="net")
    )
    assert verification_inputs._why_unscored(validation, chosen) is None
    chosen.task = config.TaskKind.module
    said = "a file puts out one tensor, and validation reads more of net"
    assert verification_inputs._why_unscored(validation, chosen) == said


def test_a_network_of_a_loop_is_run_in_its_own_precision() -> None:
    from ssr_exp.app import verification_inputs

    network = torch.nn.Conv2d(1, 2, 3).double()
    about = SimpleNamespace(inputs=None, input_shape=(1, 8, 8))
    chosen: Any = SimpleNamespace(about=about, task=config.TaskKind.loop, network=network)
    (part,), _ = verification_inputs.find(config.ExportConfig(), chosen)
    assert isinstance(part, verification.DrawnSamples)
    ((first,), *_) = verification.outputs(part.run, part, batch=8)
    assert first.dtype == torch.float64


@pytest.mark.slow
def test_other_images_than_those_of_the_training_are_refused(export_: Export, runs: Path) -> None:
    path = next(runs.glob("*/study.json"))
    fields = json.loads(path.read_text())
    fields["dataset"]["split_seed"] = 5
    path.write_text(json.dumps(fields))
    ended = export_(f"run={NETWORK}", "format=torch_export")
    assert ended.code == 1
    assert "are not those that" in ended.err
