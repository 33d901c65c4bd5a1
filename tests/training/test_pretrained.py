"""What a study takes from networks trained before is part of its name, and of its trainings."""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ssr_exp.config import Config
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, saved
from ssr_exp.runs import store, trained
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import LAST_CHECKPOINT, network_weights
from ssr_exp.tasks.classification import Classification
from ssr_exp.tasks.regression import Regression
from ssr_exp.training import checkpoints, fit, opened_study, pretrained, run
from ssr_exp.training.checkpoints import PretrainedNetwork
from ssr_exp.training.opened_study import OpenedStudy
from tests.datasets.pictures import noise

Compose = Callable[..., Config]
Save = Callable[..., Path]
Read = Callable[[Path], PretrainedNetwork]
pytestmark = pytest.mark.usefixtures("repeatable")

FULL, SMALL = "d1-1-1_w16-32-64", "d1-1-1_w4-16-16"
SMALLER = ("modifiers=explicit", f"modifiers.network={SMALL}")


@pytest.fixture
def opened(conf: Compose) -> Callable[..., OpenedStudy]:
    return lambda *words: opened_study.open(conf(*words))


@pytest.fixture
def seed(opened: Callable[..., OpenedStudy]) -> nn.Module:
    return opened().seed_network


@pytest.fixture
def read(seed: nn.Module) -> Read:
    return lambda path: checkpoints.read(str(path), "resnet8", seed)


@pytest.fixture
def save(opened: Callable[..., OpenedStudy], leave: Callable[..., Path], tmp_path: Path) -> Save:
    """Save a network with fresh weights as a folder: `save("model=resnet14", network=...)`."""

    def write(*words: str, network: str | None = None, **about: Any) -> Path:
        plan = opened(*words).plan
        run = trained.read(leave(*words, network=network or codes.write(plan, plan.baseline)), "")
        folder = tmp_path / f"{run.about.model.name}-{run.about.network}"
        saved.write(folder, run.about.model_copy(update=about), run.network.state_dict())
        return folder

    return write


def inherit(path: Path | str) -> tuple[str, str]:
    return "init=inherit", f"checkpoint={path}"


def state(folder: Path) -> dict[str, Tensor]:
    return saved.load(folder).state_dict()


def other(network: nn.Module) -> dict[str, Tensor]:
    """Give a network's state dict with other weights."""
    state = copy.deepcopy(network).state_dict()
    return {n: t + 1 if t.is_floating_point() else t for n, t in state.items()}


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


# Networks


@pytest.mark.parametrize("prefix", ["", "network."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_holds_the_seed_networks_state_dict(
    seed: nn.Module, read: Read, tmp_path: Path, prefix: str, wrapped: bool
) -> None:
    state = other(seed)
    held = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"state_dict": held, "epoch": 1} if wrapped else held, tmp_path / "mine.pt")
    found = read(tmp_path / "mine.pt")
    assert equal(found.network.state_dict(), state)
    assert (found.about, found.split) == (None, None)
    assert not any(module.training for module in found.network.modules())


def test_a_run_and_a_folder_that_stands_alone_are_read_with_what_is_known_of_them(
    read: Read, leave: Callable[..., Path], tmp_path: Path
) -> None:
    folder = leave(network=SMALL)
    run = read(folder)
    assert run.about is not None and run.split is not None and run.split.name == "digits"
    saved.write(tmp_path / "alone", run.about, run.network.state_dict())
    alone = read(tmp_path / "alone")
    assert (alone.digest, alone.about, alone.split) == (run.digest, run.about, None)
    assert equal(run.network.state_dict(), checkpoints.state_dict(folder / "last.ckpt"))


def test_the_digest_is_of_content_alone(seed: nn.Module, read: Read, tmp_path: Path) -> None:
    state = other(seed)
    torch.save(state, tmp_path / "one.pt")
    torch.save({"state_dict": dict(reversed(state.items()))}, tmp_path / "two.ckpt")
    torch.save(seed.state_dict(), tmp_path / "three.pt")
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
    assert len({checkpoints.digest(state) for state in unlike}) == len(unlike)
    strided = {"a": torch.arange(12.0)[::2] / 2, "n": base["n"]}
    assert checkpoints.digest(strided) == checkpoints.digest(base)


def test_a_network_is_read_once_and_again_when_it_was_written_anew(
    seed: nn.Module, read: Read, tmp_path: Path
) -> None:
    path = tmp_path / "mine.pt"
    torch.save(seed.state_dict(), path)
    first = read(path)
    assert read(path) is first
    torch.save(other(seed), path)
    os.utime(path, ns=(1, 1))
    assert read(path).digest != first.digest


# What cannot be read


def said(read: Read, path: Path) -> str:
    with pytest.raises(SsrError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text and ".:" not in text and ".;" not in text
    return text


def test_what_is_not_there_or_no_checkpoint_is_a_sentence(read: Read, tmp_path: Path) -> None:
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


def test_a_file_of_another_network_names_the_first_difference(
    read: Read, opened: Callable[..., OpenedStudy], tmp_path: Path
) -> None:
    larger = opened("model=resnet14").seed_network
    torch.save(larger.state_dict(), tmp_path / "larger.pt")
    text = said(read, tmp_path / "larger.pt")
    assert "stage1.1.conv1.weight is 16x16x3x3 there and missing here" in text
    assert text.endswith("; a file must hold the seed network's.")


# Studies


@pytest.mark.slow
def test_what_is_pretrained_makes_another_study(
    opened: Callable[..., OpenedStudy], save: Save, tmp_path: Path
) -> None:
    one = save()
    two = save().rename(tmp_path / "two")
    one = save()  # other weights
    words: list[tuple[str, ...]] = [
        (),
        inherit(one),
        inherit(two),
        (*inherit(one), "init.channels=first"),
        (f"recipe.distill={one}",),
        (f"recipe.distill={two}",),
        (f"recipe.distill={one}", "recipe.distill_weight=0.9"),
        (f"recipe.distill={one}", "recipe.distill_temperature=2"),
        (*inherit(one), "recipe.distill=checkpoint"),
        (*inherit(one), f"recipe.distill={two}"),
    ]
    names = [opened(*some).name for some in words]
    assert len(set(names)) == len(names)


def test_where_a_checkpoint_lies_makes_no_difference(
    opened: Callable[..., OpenedStudy], save: Save, tmp_path: Path
) -> None:
    one = save()
    torch.save(state(one), tmp_path / "same.pt")
    words = ("init=inherit", "recipe.distill=checkpoint")
    first = opened(*words, f"checkpoint={one}")
    second = opened(*words, f"checkpoint={tmp_path / 'same.pt'}")
    third = opened("init=inherit", f"checkpoint={one}", f"recipe.distill={tmp_path / 'same.pt'}")
    assert first.name == second.name == third.name
    assert str(tmp_path) not in str(first.fields)


def test_without_pretrained_networks_a_study_is_as_it_was(
    opened: Callable[..., OpenedStudy], save: Save, caplog: pytest.LogCaptureFixture
) -> None:
    plain = opened()
    assert "init" not in plain.fields and not set(pretrained.KEYS) & set(plain.fields["recipe"])
    assert plain.pretrained.state is None and plain.pretrained.teacher is None
    assert opened("recipe.distill_weight=0.9", "recipe.distill_temperature=2").name == plain.name
    path = save()
    with caplog.at_level(logging.WARNING):
        assert [opened(f"checkpoint={path}").name for _ in range(2)] == [plain.name] * 2
    assert len(caplog.messages) == 1
    assert "is not read: type init=inherit or recipe.distill=checkpoint with it" in caplog.text


def test_a_study_says_what_it_borrows(opened: Callable[..., OpenedStudy], save: Save) -> None:
    found = opened(*inherit(save()), "recipe.distill=checkpoint")
    digest = found.fields["init"]["checkpoint"]
    assert found.fields["init"] == {"kind": "inherit", "channels": "l1", "checkpoint": digest}
    taught = {"teacher": digest, "weight": 0.5, "temperature": 4.0}
    assert found.fields["recipe"]["distill"] == taught


# Refusals


def refused(opened: Callable[..., OpenedStudy], *words: str) -> str:
    with pytest.raises(SsrError) as caught:
        opened(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_needs_a_checkpoint_says_so(opened: Callable[..., OpenedStudy]) -> None:
    for word in ("init=inherit", "recipe.distill=checkpoint"):
        assert refused(opened, word).startswith(f"{word} needs checkpoint=PATH: name a folder")
    said = "there is no checkpoint at nowhere.pt: name a folder"
    assert said in refused(opened, "recipe.distill=nowhere.pt")


def test_a_rescaled_networks_weights_are_not_inherited(
    opened: Callable[..., OpenedStudy], save: Save
) -> None:
    text = refused(opened, *inherit(save(network=SMALL)))
    assert f"is network {SMALL}, not the baseline d1-1-1_w16-32-64" in text


def test_another_models_weights_are_not_inherited(
    opened: Callable[..., OpenedStudy], save: Save
) -> None:
    text = refused(opened, *inherit(save("model=resnet14")))
    assert "stage1.1.conv1.weight is 16x16x3x3 there and missing here; init=inherit takes" in text
    assert "resnet8, itself" in text
    assert "is missing there" in refused(opened, *inherit(save()), "model.shortcut=B")


def test_a_teacher_of_other_classes_is_refused(
    opened: Callable[..., OpenedStudy], save: Save
) -> None:
    names = tuple("zero one two three four five six seven eight nine".split())
    path = save(classes=names)
    said = refused(opened, f"recipe.distill={path}")
    assert "other classes than this data set: 'zero' where it has '0'" in said
    about = saved.read(path).model_copy(update={"classes": names[:3]})
    with pytest.raises(SsrError, match="tells apart 3 classes, and this data set has 10"):
        few = PretrainedNetwork(nn.Identity(), "", about)
        pretrained._check_classes("it", few, opened().splits)


def test_a_teacher_of_other_images_is_refused_and_initial_weights_are_not(
    opened: Callable[..., OpenedStudy], save: Save
) -> None:
    path = save(input_shape=(1, 9, 9))
    text = refused(opened, f"recipe.distill={path}")
    assert (
        "takes images of 1x9x9 (channels x height x width), and this data set's are 1x8x8" in text
    )
    assert opened(*inherit(path)).pretrained.state is not None


# Trainings


def weights(conf: Config) -> dict[str, Tensor]:
    (job,) = run.plan(conf)
    folder = run.folder(store.Store(conf.paths.runs), job)
    return network_weights(folder / LAST_CHECKPOINT)


@pytest.mark.parametrize("channels", ["l1", "first"])
def test_a_training_starts_from_slices_of_the_checkpoint(
    conf: Compose, save: Save, channels: str
) -> None:
    path = save()
    asked = conf(*SMALLER, *inherit(path), f"init.channels={channels}")
    (job,) = run.plan(asked)
    start, whole = fit.first_network(job).fc.weight, state(path)["fc.weight"]
    columns = [c for c in range(64) if any(torch.equal(whole[:, c], own) for own in start.T)]
    assert len(columns) == start.shape[1] == 16
    assert (columns == list(range(16))) is (channels == "first")


@pytest.mark.slow
def test_the_whole_seed_network_goes_on_where_its_training_ended(conf: Compose) -> None:
    first = conf("trainer.max_epochs=3")
    one = run.train(first)
    (job,) = run.plan(first)
    folder = run.folder(store.Store(first.paths.runs), job)
    second = conf(*inherit(folder), "recipe.lr=1e-4")
    two, plain = run.train(second), run.train(conf("recipe.lr=1e-4"))
    assert two.study not in (one.study, plain.study)
    assert one.val_loss is not None and two.val_loss is not None and plain.val_loss is not None
    assert two.val_loss < one.val_loss < plain.val_loss


TRAINED_ON_VAL = ("dataset.train_on_val=true", "trainer.test=true")


@pytest.mark.parametrize("words", [TRAINED_ON_VAL, ("dataset.split_seed=5",)])
def test_weights_that_know_the_val_images_are_refused(
    leave: Callable[..., Path],
    opened: Callable[..., OpenedStudy],
    words: tuple[str, ...],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder, alone = leave(*words, network=FULL), tmp_path / "alone"
    home = folder.parents[1]
    saved.write(alone, saved.read(home), checkpoints.state_dict(folder / "last.ckpt"))
    shutil.copy(home / "study.json", alone)
    for path in (folder, alone, folder / "last.ckpt", alone / saved.WEIGHTS):
        said = refused(opened, *inherit(path))
        assert "trained on images that are val here" in said and words[0] in said
        assert opened(*inherit(path), *TRAINED_ON_VAL).pretrained.state is not None
        assert opened(f"recipe.distill={path}").pretrained.teacher is not None
        assert f"the teacher in {path} was trained on images that are val here" in caplog.text
    shutil.copy(folder / "last.ckpt", tmp_path / "elsewhere.ckpt")  # which nobody knows
    assert opened(*inherit(tmp_path / "elsewhere.ckpt")).pretrained.state is not None


@pytest.mark.parametrize("is_other", [False, True])
def test_of_other_images_with_the_same_keys_it_is_said_that_val_may_flatter(
    leave: Callable[..., Path],
    opened: Callable[..., OpenedStudy],
    caplog: pytest.LogCaptureFixture,
    is_other: bool,
) -> None:
    folder = leave(network=FULL)
    path = folder.parents[1] / "study.json"
    told = json.loads(path.read_text())
    if is_other:
        told["dataset"]["content"] = "0" * 64
    path.write_text(json.dumps(told))
    assert opened(*inherit(folder)).pretrained.state is not None
    assert opened(f"recipe.distill={folder}").pretrained.teacher is not None
    said = "was trained on other images, or on another split of them"
    for whose in ("network", "teacher"):
        assert (f"the {whose} in {folder} {said}" in caplog.text) is is_other


def test_a_split_that_the_data_came_with_is_the_same_whatever_would_have_drawn_it(
    leave: Callable[..., Path],
    opened: Callable[..., OpenedStudy],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for part in ("train", "val"):
        noise(tmp_path / "own" / part, cat=6, dog=6)
    words = ("dataset=image_folder", f"dataset.root={tmp_path / 'own'}", "dataset.resize=8")
    folder = leave(*words, "dataset.split_seed=1", network=FULL)
    assert opened(*words, *inherit(folder)).pretrained.state is not None
    assert opened(*words, f"recipe.distill={folder}").pretrained.teacher is not None
    assert "was trained on" not in caplog.text


def test_a_run_is_built_for_its_own_images(
    leave: Callable[..., Path], opened: Callable[..., OpenedStudy]
) -> None:
    folder = leave("dataset.resize=16", network=FULL)
    assert "takes images of 1x16x16" in refused(opened, f"recipe.distill={folder}")


@pytest.mark.slow
def test_a_taught_training_differs_from_a_plain_one_and_leaves_an_ordinary_checkpoint(
    conf: Compose, save: Save
) -> None:
    path = save("model=resnet14")
    asked = conf(*SMALLER, f"recipe.distill={path}", "recipe.ema_decay=0.5")
    taught, plain = run.train(asked), run.train(conf(*SMALLER, "recipe.ema_decay=0.5"))
    assert taught.status is Status.finished
    assert taught.val_loss != plain.val_loss
    own = weights(conf(*SMALLER, "recipe.ema_decay=0.5"))
    assert weights(asked).keys() == own.keys()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_a_teacher_runs_in_the_precision_of_its_student_and_is_not_changed(
    conf: Compose, save: Save, precision: str
) -> None:
    words = (*SMALLER, f"recipe.distill={save()}", f"trainer.precision={precision}")
    asked = conf(*words, "trainer.channels_last=true")
    teacher = opened_study.open(asked).pretrained.teacher
    assert teacher is not None
    before = {n: t.clone() for n, t in teacher.state_dict().items()}
    assert run.train(asked).status is Status.finished
    assert opened_study.open(asked).pretrained.teacher is teacher
    assert all(torch.equal(t, before[n]) for n, t in teacher.state_dict().items())
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}


def test_a_teacher_of_numbers_says_them_in_its_own_unit(
    conf: Compose,
    leave: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was trained on another split, whose numbers have another mean."""
    rows = [f"{n}.png,{n**2}" for n in range(20)]
    (tmp_path / "table.csv").write_text("\n".join(["image,age", *rows]))
    for n in range(20):
        Image.new("L", (8, 8), 9 * n).save(tmp_path / f"{n}.png")
    words = ("task=regression", "dataset=csv", f"dataset.file={tmp_path / 'table.csv'}")
    words += ("dataset.targets=[age]", "dataset.val_fraction=0.3")
    folder = leave(*words, "dataset.split_seed=1", network=FULL)
    about = saved.read(folder.parents[1])
    assert about.target_mean is not None and about.target_std is not None
    (job,) = run.plan(conf(*words, f"recipe.distill={folder}"))
    task = fit._task(job, fit.first_network(job))
    assert isinstance(task, Regression)
    assert task.teacher_mean.tolist() == pytest.approx(about.target_mean)
    assert task.teacher_std.tolist() == pytest.approx(about.target_std)
    assert task.mean.tolist() != pytest.approx(about.target_mean)
    taught = job.study.fields["recipe"]["distill"]
    assert taught["target_mean"] == list(about.target_mean)
    assert taught["target_std"] == list(about.target_std)
    (same,) = run.plan(conf(*words, f"recipe.distill={folder / LAST_CHECKPOINT}"))
    assert same.study.pretrained.teacher_moments == (about.target_mean, about.target_std)
    assert same.study.name == job.study.name
    (of_own,) = run.plan(conf(*words, "dataset.split_seed=1", f"recipe.distill={folder}"))
    assert "target_mean" not in of_own.study.fields["recipe"]["distill"]
    assert "by which mean" not in caplog.text
    path = tmp_path / "weights.pt"
    torch.save(job.study.seed_network.state_dict(), path)
    (job,) = run.plan(conf(*words, f"recipe.distill={path}"))
    task = fit._task(job, fit.first_network(job))
    assert isinstance(task, Regression) and torch.equal(task.teacher_mean, task.mean)
    assert "target_mean" not in job.study.fields["recipe"]["distill"]
    assert f"{path} does not say by which mean and deviation" in caplog.text


@pytest.mark.slow
def test_a_run_that_is_tested_later_needs_its_own_checkpoint_alone(
    conf: Compose, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SMALLER, *inherit(save()), "recipe.distill=checkpoint")
    one = run.train(conf(*words))
    monkeypatch.setattr(Classification, "training_step", None)
    two = run.train(conf(*words, "trainer.test=true"))
    assert two.test_acc is not None
    assert two.val_loss == one.val_loss


def test_what_weights_and_biases_gets_names_no_folder(
    conf: Compose, save: Save, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(run.training_run, "start", lambda *_, config, **__: sent.append(config))
    monkeypatch.setattr(run.training_run, "finish", lambda *_: None)
    path = save()
    asked = conf(*SMALLER, *inherit(path), f"recipe.distill={path}")
    asked.dataset.arguments = {"cache": f"{tmp_path}/of mine"}
    run.train(asked)
    (config,) = sent
    assert str(tmp_path) not in str(config) and "of mine" not in str(config)
    digest = config["asked"]["checkpoint"]
    assert len(digest) == 64 and config["asked"]["recipe"]["distill"] == digest
    assert config["asked"]["init"]["kind"] == "inherit"
