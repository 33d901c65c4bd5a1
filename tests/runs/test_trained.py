"""A trained network is read as its training left it, or refused in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.runs import trained
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import network_weights

Leave = Callable[..., Path]
SMALL = "d1-1-1_w4-16-16"


def refused(folder: Path) -> str:
    with pytest.raises(SsrError) as caught:
        trained.read(folder, "leave it")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "network"),
    [
        (("model=resnet14", "model.shortcut=B", "segment.multiple=2"), "d2-1-1_w6-16-32"),
        (("segment=manual", "segment.patterns=[stage1.*,stage3]"), "d1-1_w8-32"),
    ],
)
def test_a_run_is_read_with_its_studys_model_and_segments(
    leave: Leave, words: tuple[str, ...], network: str
) -> None:
    folder = leave(*words, network=network)
    source = trained.read(folder, "leave it")
    expected, state = network_weights(folder / "last.ckpt"), source.network.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert source.about.network == network and source.about.classes == tuple("0123456789")
    assert source.study["dataset"]["name"] == "digits"
    assert source.study_folder == folder.parents[1]
    assert source.network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert not any(module.training for module in source.network.modules())


@pytest.mark.parametrize("status", [Status.failed, Status.diverged])
def test_a_run_that_did_not_finish_is_refused(leave: Leave, status: Status) -> None:
    folder = leave(network=SMALL, status=status, error="loss is nan")
    assert f"{folder} {status.value} (loss is nan), so it left no trained" in refused(folder)


def test_a_run_that_is_damaged_is_refused(leave: Leave) -> None:
    folder = leave(network=SMALL)
    for name, said in (
        ("last.ckpt", "last.ckpt is not a readable checkpoint"),
        ("record.json", "record.json in .* cannot be read"),
        ("../../network.json", "no .*network.json|network.json cannot be used"),
    ):
        for content in (b"", None):
            broken = shutil.copytree(folder.parents[1], folder.parents[2] / "broken")
            path = broken / folder.relative_to(folder.parents[1]) / name
            path.unlink() if content is None else path.write_bytes(content)
            with pytest.raises(SsrError, match=said):
                trained.read(broken / folder.relative_to(folder.parents[1]), "leave it")
            shutil.rmtree(broken)


def test_a_run_that_cannot_be_built_is_named(leave: Leave) -> None:
    folder = leave(network=SMALL)
    record = folder / "record.json"
    fields = files.parse_fields(record.read_bytes())
    record.write_text(json.dumps(fields | {"network": "d9-9-9_w4-4-4"}))
    assert f"the network of the run in {folder} cannot be built: " in refused(folder)


def test_reading_draws_nothing_of_the_callers_random_numbers(leave: Leave) -> None:
    folder, before = leave(network=SMALL), torch.get_rng_state()
    trained.read(folder, "leave it")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("stands_alone", [False, True])
def test_a_function_is_called_only_if_it_is_trusted(leave: Leave, stands_alone: bool) -> None:
    folder = leave(network=SMALL)
    home = folder.parents[1]
    about = saved.read(home).model_copy(update={"model": saved.Model(name="os.getcwd")})
    saved.write(folder if stands_alone else home, about, {})
    assert "calls the function os.getcwd" in refused(folder)
    assert refused(folder).endswith(": leave it.")
    for trust in ({"trust": True}, {"trusted_model": "os.getcwd"}):
        with pytest.raises(SsrError, match=r"(?<!function )os\.getcwd"):  # it makes no network
            trained.read(folder, "leave it", **trust)  # type: ignore[arg-type]
