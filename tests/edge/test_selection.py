"""Which trained network a name stands for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from ssr_exp.edge import selection
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.rescaling.resnet import CifarResNet
from tests.edge.conftest import ABOUT, CODE, STUDY


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
    assert by_name.told is not None and by_name.told.results[0].test_score_mean == 97.0


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


def test_of_a_study_that_was_named_the_nearest_runs_and_best_are_offered(runs: Path) -> None:
    shutil.copytree(runs / STUDY, runs / "other")
    (runs / STUDY / "begun.json").write_text(json.dumps({"schema_version": 1, "name": "sorting"}))
    with pytest.raises(SsrError) as told:
        selection.find(runs, "bset", study="sorting")
    said = f"study sorting holds no run of bset: type run=best, run={CODE} or run=FOLDER."
    assert str(told.value) == said
    near = f"{CODE}0"
    with pytest.raises(SsrError, match=f"holds no run of {near}: type run={CODE}, run=best or"):
        selection.find(runs, near, study="sorting")
    shutil.rmtree(runs / STUDY / "best")
    with pytest.raises(SsrError) as told:
        selection.find(runs, "best", study="sorting")
    assert str(told.value) == (
        f"study sorting holds no best/: type run={CODE} or run=FOLDER; run=best is there after a "
        "search."
    )
    shutil.rmtree(runs / STUDY / CODE)
    with pytest.raises(SsrError, match="no network was trained there yet"):
        selection.find(runs, "best", study="sorting")


def test_best_is_that_of_the_study_whatever_lies_here(
    runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(runs / STUDY / CODE / "seed1", tmp_path / "here/best")
    monkeypatch.chdir(tmp_path / "here")
    assert selection.find(runs, "best", study=STUDY).folder == runs / STUDY
    with pytest.raises(SsrError, match="leave study= and seed= out"):
        selection.find(runs, "./best", study=STUDY)
    with pytest.raises(SsrError, match="has a seed of its own"):
        selection.find(runs, "best", seed=2)


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
