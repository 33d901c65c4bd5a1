"""Trained networks are read from folders, runs and files, and what is none is refused."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssr_exp.config import Config
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import rescale, saved
from ssr_exp.runs import provenance
from ssr_exp.runs import record as records
from ssr_exp.runs.record import Record, Status
from ssr_exp.training import answer_folder, pretrained, study
from ssr_exp.training.pretrained import Own, Pretrained
from ssr_exp.training.study import Study

Compose = Callable[..., Config]
MakeRecord = Callable[..., Record]
SMALL = "d1-1-1_w4-16-16"


@pytest.fixture
def opened(conf: Compose) -> Study:
    return study.open(conf())


@pytest.fixture
def read(opened: Study) -> Callable[[Path], Pretrained]:
    own = Own("resnet8", opened.seed_network, opened.splits.num_classes, opened.splits.image_shape)
    return lambda path: pretrained.read(str(path), own)


def other(network: nn.Module) -> dict[str, Tensor]:
    """Give a network's state dict with other weights."""
    state = copy.deepcopy(network).state_dict()
    return {n: t + 1 if t.is_floating_point() else t for n, t in state.items()}


@pytest.fixture
def leave(conf: Compose, make_record: MakeRecord, tmp_path: Path) -> Callable[..., Path]:
    """Leave what a run leaves: `leave("model=resnet14", network="d1-1-1_w4-16-16")`."""

    def write(*words: str, network: str, status: Status = Status.finished) -> Path:
        asked = conf(*words)
        of = study.open(asked)
        built = rescale.build(of.seed_network, of.plan, study.codes.parse(of.plan, network))
        folder = tmp_path / "left" / f"{asked.model.name}-{network}"
        folder.mkdir(parents=True)
        record = make_record(study=of.name, network=network, status=status)
        (folder / "record.json").write_text(record.to_json())
        (folder / "config.json").write_text(provenance.to_json(asdict(asked)))
        state = {f"network.{name}": tensor for name, tensor in built.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 3}, folder / "last.ckpt")
        return folder

    return write


def last(folder: Path) -> dict[str, Tensor]:
    return pretrained.state_dict(folder / "last.ckpt")


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


# Kinds


@pytest.mark.parametrize("prefix", ["", "network."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_holds_the_seed_networks_state_dict(
    opened: Study, read: Callable[[Path], Pretrained], tmp_path: Path, prefix: str, wrapped: bool
) -> None:
    state = other(opened.seed_network)
    held = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"state_dict": held, "epoch": 1} if wrapped else held, tmp_path / "mine.pt")
    found = read(tmp_path / "mine.pt")
    assert equal(found.network.state_dict(), state)
    assert (found.model, found.code, found.classes, found.image_shape) == (None, None, None, None)
    assert not any(module.training for module in found.network.modules())


def test_a_run_is_read_with_its_own_model_and_modifiers(
    read: Callable[[Path], Pretrained], leave: Callable[..., Path]
) -> None:
    words = ("model=resnet14", "model.shortcut=B", "segment.multiple=2")
    folder = leave(*words, network="d2-1-1_w6-16-32")
    found = read(folder)
    assert equal(found.network.state_dict(), last(folder))
    assert (found.model, found.code) == ("resnet14", "d2-1-1_w6-16-32")
    assert found.network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_run_is_split_as_it_was(
    read: Callable[[Path], Pretrained], leave: Callable[..., Path]
) -> None:
    words = ("segment=manual", "segment.patterns=[stage1.*,stage3]")
    folder = leave(*words, network="d1-1_w8-32")
    assert equal(read(folder).network.state_dict(), last(folder))


def test_a_folder_that_was_handed_over_is_read_whole(
    opened: Study,
    conf: Compose,
    read: Callable[[Path], Pretrained],
    leave: Callable[..., Path],
    make_record: MakeRecord,
    tmp_path: Path,
) -> None:
    folder, best = leave(network=SMALL), tmp_path / "best"
    answer_folder.write(
        opened, conf(), make_record(study=opened.name, network=SMALL), folder, best, {}
    )
    found = read(best)
    assert equal(found.network.state_dict(), last(folder))
    assert (found.model, found.code) == ("resnet8", SMALL)
    assert found.classes == opened.splits.train.classes
    assert found.image_shape == opened.splits.image_shape


# The digest


def test_the_digest_is_of_content_alone(
    opened: Study, read: Callable[[Path], Pretrained], tmp_path: Path
) -> None:
    state = other(opened.seed_network)
    torch.save(state, tmp_path / "one.pt")
    torch.save({"state_dict": dict(reversed(state.items()))}, tmp_path / "two.ckpt")
    torch.save(opened.seed_network.state_dict(), tmp_path / "three.pt")
    one, two, three = (read(tmp_path / n).digest for n in ("one.pt", "two.ckpt", "three.pt"))
    assert one == two != three


def test_the_digest_sees_names_shapes_types_and_values() -> None:
    base = {"a": torch.arange(6.0), "n": torch.tensor(3)}
    unlike = [
        base,
        {"b": base["a"], "n": base["n"]},
        {"a": base["a"].reshape(2, 3), "n": base["n"]},
        {"a": base["a"].double(), "n": base["n"]},
        {"a": base["a"] + 1, "n": base["n"]},
        {"a": base["a"], "n": base["n"] + 1},
        {"a": base["a"]},
        {"a": base["a"].bfloat16(), "n": base["n"]},
    ]
    assert len({pretrained.digest(state) for state in unlike}) == len(unlike)
    strided = {"a": torch.arange(12.0)[::2] / 2, "n": base["n"]}
    assert pretrained.digest(strided) == pretrained.digest(base)


def test_a_network_is_read_once_and_again_when_it_was_written_anew(
    opened: Study, read: Callable[[Path], Pretrained], tmp_path: Path
) -> None:
    path = tmp_path / "mine.pt"
    torch.save(opened.seed_network.state_dict(), path)
    first = read(path)
    assert read(path) is first
    torch.save(other(opened.seed_network), path)
    os.utime(path, ns=(1, 1))
    assert read(path).digest != first.digest


# What cannot be read


def said(read: Callable[[Path], Pretrained], path: Path) -> str:
    with pytest.raises(SsrError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text and ".:" not in text and ".;" not in text
    return text


def test_what_is_not_there_or_no_checkpoint_is_a_sentence(
    read: Callable[[Path], Pretrained], tmp_path: Path
) -> None:
    kinds = "name a folder with network.json (such as the best/ of a search)"
    assert f"there is no checkpoint at {tmp_path / 'a'}: {kinds}" in said(read, tmp_path / "a")
    (tmp_path / "empty").mkdir()
    assert f"neither network.json nor record.json: {kinds}" in said(read, tmp_path / "empty")
    for name, content in (("cut.pt", b"PK\x03\x04"), ("none.pt", b""), ("text.ckpt", b"weights")):
        (tmp_path / name).write_bytes(content)
        assert "cannot be read as a checkpoint" in said(read, tmp_path / name)
    for held in ([1, 2], {"a": 3}, {"state_dict": {"a": "b"}}, torch.zeros(3)):
        torch.save(held, tmp_path / "other.pt")
        assert "holds no state dict" in said(read, tmp_path / "other.pt")


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("made-by-a-pickle",)


def test_a_checkpoint_never_runs_code(
    read: Callable[[Path], Pretrained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    said(read, tmp_path / "evil.pt")
    assert not (tmp_path / "made-by-a-pickle").exists()


def test_a_file_of_another_network_names_the_first_difference(
    read: Callable[[Path], Pretrained], conf: Compose, tmp_path: Path
) -> None:
    larger = study.open(conf("model=resnet14")).seed_network
    torch.save(larger.state_dict(), tmp_path / "larger.pt")
    text = said(read, tmp_path / "larger.pt")
    assert "stage1.1.conv1.weight is 16x16x3x3 there and missing here" in text
    assert text.endswith("; a file must hold the seed network's.")


@pytest.mark.parametrize("status", [Status.failed, Status.diverged])
def test_a_run_that_did_not_finish_is_refused(
    read: Callable[[Path], Pretrained], leave: Callable[..., Path], status: Status
) -> None:
    text = said(read, leave(network=SMALL, status=status))
    assert f"{status.value}: name the folder of one that finished" in text


def test_a_run_that_is_damaged_is_refused(
    read: Callable[[Path], Pretrained], leave: Callable[..., Path], tmp_path: Path
) -> None:
    folder = leave(network=SMALL)
    for name, why in (
        ("record.json", "cannot be read"),
        ("config.json", "config.json cannot be used"),
        ("last.ckpt", "cannot be read as a checkpoint"),
    ):
        for content in (b"", None):
            broken = shutil.copytree(folder, tmp_path / f"{name}-{content}")
            (broken / name).write_bytes(b"")
            if content is None:
                (broken / name).unlink()
            expected = "neither" if (name, content) == ("record.json", None) else why
            assert expected in said(read, broken)


def test_a_run_of_other_classes_is_refused(opened: Study, leave: Callable[..., Path]) -> None:
    own = Own("resnet8", opened.seed_network, 7, (1, 8, 8))
    with pytest.raises(SsrError, match=r"fc\.weight is 10x16 there and 7x16 here; name a run with"):
        pretrained.read(str(leave(network=SMALL)), own)


def test_a_run_that_cannot_be_built_is_named(
    read: Callable[[Path], Pretrained], leave: Callable[..., Path]
) -> None:
    folder = leave(network=SMALL)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("resnet8", "resnet9"))
    assert "cannot be built: " in said(read, folder)


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_function_that_a_checkpoint_names_is_not_called(
    opened: Study, conf: Compose, leave: Callable[..., Path], handed_over: bool
) -> None:
    folder = leave(network=SMALL)
    (folder / "config.json").write_text(
        '{"model": {"name": "x", "source": "module", "target": "os.getcwd"}, "segment": {}}'
    )
    if handed_over:
        record = records.parse((folder / "record.json").read_bytes())
        about = answer_folder.describe(opened, conf(), record)
        model = saved.Model(name="os.getcwd")
        saved.write(folder, about.model_copy(update={"model": model}), {})
    own = Own("resnet8", opened.seed_network, 10, (1, 8, 8))
    with pytest.raises(SsrError, match=r"made by the function os\.getcwd, which is not called"):
        pretrained.read(str(folder), own)
    with pytest.raises(SsrError, match=r"os\.getcwd"):
        pretrained.read(str(folder), replace(own, model="os.getcwd"))
