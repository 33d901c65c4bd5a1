"""Trainings start from the weights of a checkpoint, and all draw alike what these do not give."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from ssr_exp import messages
from ssr_exp.config import Config
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, saved
from ssr_exp.runs import trained
from ssr_exp.training import (
    answer_folder,
    checkpoints,
    first_weights,
    fit,
    learning,
    opened_study,
    run,
)
from ssr_exp.training.first_weights import IMAGENET
from ssr_exp.training.opened_study import OpenedStudy

Compose = Callable[..., Config]
pytestmark = pytest.mark.usefixtures("repeatable")

BASELINE = "modifiers=baseline"
SHALLOW = ("modifiers=explicit", "modifiers.network=d1-1-1_w16-32-64")  # of a ResNet-14
NARROW = ("modifiers=explicit", "modifiers.network=d2-2-2_w8-16-32")
RESNET14, RESNET18 = "model=resnet14", "model=resnet18"
PUBLISHED = ("init=inherit", "checkpoint=torchvision")


@pytest.fixture(autouse=True)
def read_anew() -> None:
    """Forget what another test has read and said."""
    first_weights._read.cache_clear()
    messages.say_once.cache_clear()


@pytest.fixture
def opened(conf: Compose) -> Callable[..., OpenedStudy]:
    return lambda *words: opened_study.open(conf(*words))


@pytest.fixture
def few(opened: Callable[..., OpenedStudy], leave: Callable[..., Path], tmp_path: Path) -> Path:
    """Save a ResNet-14 that tells apart three classes."""
    plan = opened(RESNET14).plan
    home = leave(RESNET14, network=codes.write(plan, plan.baseline))
    found = trained.read(home, "")
    state = {
        n: torch.rand_like(t, dtype=torch.float32) for n, t in found.network.state_dict().items()
    }
    state |= {"fc.weight": torch.rand(3, 64), "fc.bias": torch.rand(3)}
    about = found.about.model_copy(update={"num_classes": 3, "classes": ("a", "b", "c")})
    saved.write(tmp_path / "few", about, state)
    return tmp_path / "few"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give torchvision's cache a file of a ResNet-18 of 1000 classes."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    path = tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), path)
    return path


def start(conf: Config) -> nn.Module:
    """Return a job's network as its training starts."""
    (job,) = run.plan(conf)
    torch.manual_seed(conf.seed)
    return fit.first_network(job)


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def refused(opened: Callable[..., OpenedStudy], *words: str) -> str:
    with pytest.raises(SsrError) as caught:
        opened(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Heads


def test_a_network_of_other_classes_gives_all_but_its_head(
    conf: Compose, few: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    own = start(conf(RESNET14, BASELINE, "init=inherit", f"checkpoint={few}")).state_dict()
    theirs = saved.load(few).state_dict()
    head = {"fc.weight", "fc.bias"}
    assert all(torch.equal(own[n], theirs[n]) for n in own.keys() - head)
    assert own["fc.weight"].shape == (10, 64)
    assert f"resnet14 starts from {few}; drawn anew: fc.weight, fc.bias" in caplog.text


def test_baseline_and_candidates_start_alike(conf: Compose, few: Path) -> None:
    words = (RESNET14, "init=inherit", f"checkpoint={few}")
    baseline, shallow, narrow = (start(conf(*words, *m)) for m in ((BASELINE,), SHALLOW, NARROW))
    assert torch.equal(baseline.fc.weight, shallow.fc.weight)
    assert torch.equal(baseline.fc.bias, shallow.fc.bias)
    assert narrow.fc.weight.shape == (10, 32)
    heads = [network.fc for network in (baseline, narrow)]
    fans = [float(head.weight.detach().std()) * head.in_features**0.5 for head in heads]
    assert fans[0] == pytest.approx(fans[1], rel=0.15)  # drawn by one rule, each for its own fan


def test_a_training_that_is_repeated_starts_from_the_same_bits(conf: Compose, few: Path) -> None:
    words = (RESNET14, *NARROW, "init=inherit", f"checkpoint={few}")
    one, two, other = (start(conf(*words, f"seed={seed}")).state_dict() for seed in (3, 3, 4))
    assert same(one, two) and not torch.equal(one["fc.weight"], other["fc.weight"])
    assert all(torch.equal(one[n], other[n]) for n in one if not n.startswith("fc."))


def test_what_is_drawn_again_leaves_the_generator_as_it_was(conf: Compose, few: Path) -> None:
    words = (RESNET14, *NARROW, "init=inherit", f"checkpoint={few}")
    start(conf(*words))
    after = torch.random.get_rng_state()
    start(conf(RESNET14, *NARROW))
    assert torch.equal(after, torch.random.get_rng_state())


def test_a_network_of_other_images_may_give_first_weights(conf: Compose, few: Path) -> None:
    """A split of other classes says nothing of val."""
    files = few.parent / "study.json"
    files.write_text('{"dataset": {"name": "digits", "val_fraction": 0.5, "split_seed": 1}}')
    (few / "study.json").write_text(files.read_text())
    assert opened_study.open(conf(RESNET14, "init=inherit", f"checkpoint={few}")).pretrained.state


# Published weights


def test_published_weights_are_a_studys_by_content_and_not_by_place(
    opened: Callable[..., OpenedStudy], cache: Path, tmp_path: Path
) -> None:
    one = opened(RESNET18, *PUBLISHED)
    copied = tmp_path / "mine.pth"
    copied.write_bytes(cache.read_bytes())
    assert opened(RESNET18, "init=inherit", f"checkpoint={copied}").name == one.name
    assert one.name != opened(RESNET18).name
    told = one.about["first_weights"]
    assert told["from"] == "ResNet18_Weights.IMAGENET1K_V1"
    assert told["drawn"] == ["conv1.weight", "fc.weight", "fc.bias"]
    assert str(tmp_path) not in str(one.about["first_weights"])
    assert "first_weights" not in one.fields


def test_weights_that_are_whole_are_a_study_as_before(
    opened: Callable[..., OpenedStudy], tmp_path: Path
) -> None:
    seed = opened().seed_network
    torch.save(seed.state_dict(), tmp_path / "mine.pt")
    found = opened("init=inherit", f"checkpoint={tmp_path / 'mine.pt'}")
    assert found.fields["init"]["checkpoint"] == checkpoints.digest(seed.state_dict())
    assert found.about["first_weights"]["drawn"] == []


def test_grey_images_sum_the_stem_and_a_large_stem_is_kept(conf: Compose, cache: Path) -> None:
    words = (RESNET18, "model.stem=imagenet", "dataset.resize=64", *PUBLISHED)
    network = start(conf(*words, BASELINE))
    weights = torch.load(cache)
    assert torch.equal(network.conv1.weight, weights["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(network.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])


def test_a_stem_that_is_drawn_for_small_images_says_how_to_keep_it(
    opened: Callable[..., OpenedStudy], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    opened(RESNET18, *PUBLISHED)
    assert "kept with model.stem=imagenet: conv1.weight" in caplog.text


def test_weights_of_another_network_and_no_teacher_are_refused(
    opened: Callable[..., OpenedStudy], cache: Path
) -> None:
    path = cache.with_name("other.pth")
    torch.save(torchvision.models.resnet34().state_dict(), path)
    text = refused(opened, RESNET18, "init=inherit", f"checkpoint={path}")
    assert "layer1.2.conv1.weight is 64x64x3x3 there and missing here; init=inherit takes" in text
    text = refused(opened, RESNET18, *PUBLISHED, "recipe.distill=checkpoint")
    assert "a teacher must tell apart this data set's" in text
    torch.save(torchvision.models.resnet18().state_dict(), path)
    assert "a file must hold the seed network's" in refused(
        opened, RESNET18, f"recipe.distill={path}"
    )


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_every_task_starts_from_them(conf: Compose, cache: Path, tmp_path: Path, task: str) -> None:
    rows = [f"{n}.png,{n % 2},{n % 3 // 2}" for n in range(20)]
    (tmp_path / "table.csv").write_text("\n".join(["image,one,two", *rows]))
    for n in range(20):
        Image.new("RGB", (8, 8), (n, 2 * n, 3 * n)).save(tmp_path / f"{n}.png")
    words = (f"task={task}", "dataset=csv", f"dataset.file={tmp_path / 'table.csv'}")
    words += ("dataset.targets=[one,two]", "dataset.val_fraction=0.3")
    network = start(conf(RESNET18, "model.stem=imagenet", BASELINE, *words, *PUBLISHED))
    assert torch.equal(network.conv1.weight, torch.load(cache)["conv1.weight"])
    assert network.fc.weight.shape == (2, 512)


# Normalisation


def test_images_are_normalised_as_the_weights_were(
    conf: Compose, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plain = opened_study.open(conf(RESNET18, *PUBLISHED))
    assert "learned from images of 224x224 pixels (scaled by bilinear inter" in caplog.text
    assert "type dataset.normalize=checkpoint to do as they did" in caplog.text
    asked = conf(RESNET18, *PUBLISHED, "dataset.normalize=checkpoint")
    own = opened_study.open(asked)
    grey = tuple([sum(values) / 3] for values in IMAGENET)
    assert own.name != plain.name and "normalize" not in own.fields["dataset"]
    assert own.fields["normalization"] == {"mean": [*grey[0]], "std": [*grey[1]]}
    assert (
        own.name == opened_study.open(conf(RESNET18, *PUBLISHED, "dataset.normalize=imagenet")).name
    )
    about = answer_folder.describe(own, asked)
    assert (
        (list(about.mean), list(about.std))
        == grey
        == tuple(map(list, (own.splits.preprocessing.mean, own.splits.preprocessing.std)))
    )
    assert plain.splits.mean != own.splits.mean
    (job,) = run.plan(asked)
    data = learning.data(job.conf, job.study.splits)
    image, _ = next(iter(data.val_dataloader()))
    pixels = own.splits.val.pixels[: len(image)] / 255
    torch.testing.assert_close(image, (pixels - grey[0][0]) / grey[1][0])


def test_normalisation_needs_no_file_of_weights(
    opened: Callable[..., OpenedStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    assert opened(RESNET18, "checkpoint=torchvision", "dataset.normalize=checkpoint")


def test_a_folder_says_how_its_images_were_normalised_and_a_file_does_not(
    opened: Callable[..., OpenedStudy], few: Path, cache: Path
) -> None:
    about = saved.read(few)
    found = opened(RESNET14, f"checkpoint={few}", "dataset.normalize=checkpoint")
    assert (found.splits.mean, found.splits.std) == (about.mean, about.std)
    text = refused(opened, RESNET18, f"checkpoint={cache}", "dataset.normalize=checkpoint")
    assert "does not say how its images were normalised: type dataset.normalize=imagenet" in text
    text = refused(opened, "dataset.normalize=checkpoint")
    assert text.startswith("dataset.normalize=checkpoint needs checkpoint=PATH")


def test_a_datamodule_of_ones_own_normalises_by_itself(
    conf: Compose, opened: Callable[..., OpenedStudy]
) -> None:
    asked, own = conf("dataset.normalize=imagenet"), opened()
    data = UserData("Mine", "", (1, 8, 8), 10, True, own.splits.reading)
    with pytest.raises(SsrError, match=r"dataset\.normalize=imagenet is not for dataset=module"):
        first_weights.moments(asked, data, own.seed_network)


def test_a_teacher_of_images_that_were_normalised_otherwise_is_warned_of(
    opened: Callable[..., OpenedStudy], leave: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = leave(network="d1-1-1_w16-32-64")
    opened(f"recipe.distill={folder}")
    assert "what it says of them may be worth little" not in caplog.text
    opened(f"recipe.distill={folder}", "dataset.normalize=imagenet")
    assert "what it says of them may be worth little" in caplog.text
