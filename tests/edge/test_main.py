"""`ssr latency STUDY`: a row for each network, against the seed network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ssr_exp import files
from ssr_exp.config import Config
from ssr_exp.edge import __main__, measured_networks
from ssr_exp.edge.__main__ import main
from ssr_exp.edge.latency import stopwatch, table_file
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, saved
from ssr_exp.runs import study_names
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import RECORD_FILE, Store
from ssr_exp.training.opened_study import open as open_study
from tests.support.descriptions import description

Capsys = pytest.CaptureFixture[str]
FEW = ("--repeats", "1")
FULL, SMALLER = "d1-1-1_w16-32-64", "d1-1-1_w4-8-16"
ABOUT = description(network=FULL)


@pytest.fixture
def study(tmp_path: Path, make_record: Callable[..., Record]) -> Path:
    """A study with two trainings of ResNet-8, both of 50 %, and one of a smaller network."""
    store = Store(tmp_path / "runs")
    folder = store.study_folder("resnet8-digits-0a1b2c3d")
    store.write_text(folder / saved.NETWORK, json.dumps(ABOUT.model_dump(mode="json")))
    store.write_text(folder / "study.json", "{}")
    for network, seed, accuracy in ((FULL, 0, 50.0), (FULL, 1, 50.0), (SMALLER, 0, 45.5)):
        one = make_record(study=folder.name, network=network, seed=seed, val_acc=accuracy)
        store.write(store.folder(folder.name, network, seed), one)
    return folder


def change(folder: Path, network: str, **fields: object) -> None:
    store = Store(folder.parent)
    where = store.folder(folder.name, network, 0)
    known = store.read(where)
    assert known is not None
    store.write(where, known.model_copy(update=fields))


def records(folder: Path) -> list[Record]:
    return Store(folder.parent).records(folder.name)


def rows(printed: str) -> list[list[str]]:
    lines = [line for line in printed.splitlines() if re.match(r"[│|] *d\d", line)]
    return [[cell.strip() for cell in re.split(r"[│|]", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("words", [(), ("--markdown",)], ids=["plain", "markdown"])
def test_a_row_compares_with_the_seed(study: Path, capsys: Capsys, words: tuple[str, ...]) -> None:
    if words:
        change(study, SMALLER, test_score=40.0)
    capsys.readouterr()
    assert main([str(study), *FEW, *words]) == 0
    printed = capsys.readouterr().out
    seed, smaller = rows(printed)
    assert (seed[0], smaller[0]) == ("d1-1-1_w16-32-64 (seed)", SMALLER)
    assert (seed[2], seed[4], seed[7]) == ("100.0%", "100.0%", "100.0%")
    test = ([""] * 2, ["40.00", ""]) if words else ([], [])  # where it is known
    assert seed[8:] == ["50.00", "", *test[0], "2"]
    assert smaller[8:] == ["45.50", "-4.50", *test[1], "1"]
    full, own = (int(row[1].replace(",", "")) for row in (seed, smaller))
    assert smaller[2] == f"{own / full:.1%}"
    assert float(smaller[7].rstrip("%")) == pytest.approx(
        100 * float(smaller[5]) / float(seed[5]), rel=0.1, abs=2
    )
    assert "latency: median of 1 turns, eager (PyTorch " in printed


def test_a_study_of_the_runs_here_is_measured_by_its_name(
    study: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.parents[1])
    study_names.rename(Store(study.parent), study.name, "pets")
    capsys.readouterr()
    assert main(["pets", *FEW, "--write"]) == 0
    assert all(record.latency_ms for record in records(study))
    assert main(["dogs", *FEW]) == 1  # which is no model either


def test_a_study_that_is_called_as_a_model_does_not_hide_it(
    study: Path, capsys: Capsys, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.parents[1])
    study_names.rename(Store(study.parent), study.name, "resnet8")
    assert main(["resnet8", *FEW]) == 0
    assert len(rows(capsys.readouterr().out)) == 1  # the model, of which nothing was trained
    assert f"resnet8 is the model; a study is called so, too: type runs/{study.name} for it" in (
        caplog.text
    )
    caplog.clear()
    assert main([f"runs/{study.name}", *FEW]) == 0
    assert len(rows(capsys.readouterr().out)) == 2 and not caplog.text
    assert main(["resnet8", *FEW, "--write"]) == 0
    assert all(record.latency_ms for record in records(study))


def test_latencies_are_written_only_where_they_are_asked_for(study: Path) -> None:
    before = records(study)
    main([str(study), *FEW])
    assert records(study) == before
    assert main([str(study), *FEW, "--write"]) == 0
    after = records(study)
    assert all(r.latency_ms and str(r.latency_device).startswith("eager (PyTorch") for r in after)
    assert all(r.latencies == {r.latency_device: r.latency_ms} for r in after)
    nothing = {"latency_ms": None, "latency_device": None, "latencies": None}
    assert [r.model_copy(update=nothing) for r in after] == before
    seeds = [r.latency_ms for r in after if r.network != SMALLER]
    assert len(seeds) == 2 and len(set(seeds)) == 1


def test_the_seed_network_is_measured_without_a_training_of_it(study: Path, capsys: Capsys) -> None:
    for record in records(study):
        if record.network != SMALLER:
            folder = Store(study.parent).folder(study.name, record.network, record.seed)
            (folder / RECORD_FILE).unlink()
    capsys.readouterr()
    assert main([str(study), *FEW]) == 0
    printed = capsys.readouterr().out
    seed, smaller = rows(printed)
    assert (seed[-3:], smaller[-3:]) == (["", "", "0"], ["45.50", "", "1"])
    assert "train it with modifiers=baseline" in printed


def test_failed_trainings_are_left_out(study: Path) -> None:
    change(study, SMALLER, status=Status.failed, score=None)
    assert [each.network for each in measured_networks.read(study).networks] == [FULL]


def test_a_study_of_superblocks_is_built_as_it_was_trained(
    conf: Callable[..., Config], leave: Callable[..., Path]
) -> None:
    plan = open_study(conf("segment=superblock")).plan
    folder = leave("segment=superblock", network=codes.write(plan, plan.smallest))
    study = measured_networks.read(folder.parents[1])
    smallest = study.build()[codes.write(plan, plan.smallest)]
    n_params = cost.count_one(plan, plan.smallest).params
    assert sum(p.numel() for p in smallest.parameters()) == n_params


def test_a_folder_that_is_no_study_is_refused(study: Path, tmp_path: Path, capsys: Capsys) -> None:
    assert main([str(study.parent)]) == 1
    assert f"for instance {study}" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "name the folder of a study" in capsys.readouterr().err


def test_a_study_without_a_finished_run_is_said_in_a_sentence(study: Path) -> None:
    for path in study.glob(f"*/*/{RECORD_FILE}"):
        path.unlink()
    with pytest.raises(SsrError, match="holds no finished run"):
        measured_networks.read(study)


def test_a_function_is_called_only_if_it_is_trusted(study: Path) -> None:
    path = study / saved.NETWORK
    about = files.parse_fields(path.read_bytes())
    about["model"]["name"] = "torchvision.models.resnet18"
    path.write_text(json.dumps(about))
    with pytest.raises(SsrError, match="type --trust if you trust"):
        measured_networks.read(study)


def test_the_latency_of_a_batch_is_not_written(capsys: Capsys) -> None:
    assert main(["anywhere", "--write", "--batch", "8"]) == 1
    assert "type --batch 1, or leave --write out" in capsys.readouterr().err


TINY = ("resnet8", "--size", "8", "--channels", "1", "--repeats", "1")


def test_any_code_of_a_model_is_measured_beside_its_seed(capsys: Capsys) -> None:
    assert main([*TINY, "--network", SMALLER, "--batch", "1", "2"]) == 0
    printed = capsys.readouterr().out
    assert [row[0] for row in rows(printed)] == [f"{FULL} (seed)", SMALLER]
    for heading in ("eager batch 1 ms", "eager batch 2 ms"):
        assert heading in printed
    assert "train it with" not in printed


def test_a_study_is_asked_for_some_networks_and_for_others(study: Path, capsys: Capsys) -> None:
    capsys.readouterr()
    assert main([str(study), *FEW, "--network", "d1-1-1_w4-4-4", SMALLER, "--write"]) == 0
    assert [row[0].split()[0] for row in rows(capsys.readouterr().out)] == [
        FULL,
        "d1-1-1_w4-4-4",
        SMALLER,
    ]
    assert all(record.latencies for record in records(study))


def test_several_settings_are_added_to_the_records(study: Path) -> None:
    main([str(study), *FEW, "--write"])
    main([str(study), *FEW, "--write", "--threads", "2"])
    assert all(len(record.latencies or {}) == 2 for record in records(study))


def test_a_noisy_machine_writes_nothing_and_says_so(
    study: Path, capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = Latency((1.0, 2.0, 3.0))
    monkeypatch.setattr(stopwatch, "interleaved", lambda of, **_: dict.fromkeys(of, noisy))
    capsys.readouterr()
    assert main([str(study), *FEW, "--write"]) == 1
    printed = capsys.readouterr()
    assert "this machine is noisy" in printed.err and "nothing was written" in printed.err
    assert rows(printed.out)
    assert all(record.latency_ms is None for record in records(study))
    assert main([str(study), *FEW]) == 0
    assert "measure again before you believe it" in capsys.readouterr().out


def test_a_latency_model_says_its_held_out_error_and_stays(tmp_path: Path, capsys: Capsys) -> None:
    out = tmp_path / "latency.json"
    words = ("--fit", "8", "--held-out", "2", "--out", str(out), "--spread", "1e9")
    assert main(["resnet14", *TINY[1:], *words]) == 0
    printed = capsys.readouterr().out
    assert "fitted to 8 networks; held-out error" in printed
    assert "of 2 networks" in printed
    assert len(table_file.read(out).rows) == 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("resnet8", "--runtime", "tflite"), "there is no runtime tflite: type one of eager"),
        (("resnet8", "--network", "d9-1-1_w4-4-4"), "cannot keep 9 blocks"),
        (("resnet57",), "resnet57"),
        (("resnet8", "--fit"), "type --fit --out FILE"),
        (("resnet8", "--fit", "--out", "f", "--batch", "1", "2"), "one runtime and batch"),
        (("resnet8", "--fit", "--out", "f", "--network", FULL), "leave --write and --network out"),
        (("resnet8", "--fit", "3", "--out", "f"), "takes 8 networks or more, not 3"),
        (("resnet8", "--size", "0"), "--size is 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_bad_command_gets_a_sentence(capsys: Capsys, words: tuple[str, ...], said: str) -> None:
    assert main(words) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


@pytest.mark.parametrize(
    "words",
    [
        ("sound", "--shape", "1x64"),
        ("Two", "--shape", "3x8x8", "--shape", "6"),
        ("Dictionary", "--example", "tests.rescaling.test_inputs.masked"),
    ],
)
def test_networks_of_other_inputs_are_measured(capsys: Capsys, words: tuple[str, ...]) -> None:
    name = f"tests.rescaling.test_inputs.{words[0]}"
    asked = ("--multiple", "4", "--runtime", "eager", "onnxruntime", *FEW)
    assert main([name, *words[1:], *asked]) == 0
    assert "(seed)" in capsys.readouterr().out


def test_too_little_memory_is_said_in_a_sentence(
    capsys: Capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr(__main__, "_print", full)
    assert main(["resnet8", "--batch", "1000000"]) == 1
    assert capsys.readouterr().err.count("type a smaller --batch") == 1
    monkeypatch.setattr(__main__, "_fit", full)
    fit = ("--fit", "9", "--out", "table.json")
    for words, said in (
        ((), "type some codes as --network or of a model a smaller --size"),
        (("--runtime", "eager", "compile"), "type fewer --runtime or some codes as --network"),
        (fit, "type a smaller --fit N or of a model a smaller --size"),
    ):
        assert main(["resnet8", *words]) == 1
        error = capsys.readouterr().err
        assert said in error and "--batch" not in error
