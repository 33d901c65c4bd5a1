"""Published weights are found in their libraries' caches; else a sentence says where to put one."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from ssr_exp.config import ModelConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import seeds
from ssr_exp.training import published_weights

CANARY = "ran"  # a folder that nothing makes
RESNET18 = "resnet18-f37072fd.pth"  # as torchvision names it


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give both libraries an empty cache, and no network."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def no_network(*_: Any, **__: Any) -> None:
    raise OSError("Name or service not known")


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (CANARY,)


def model(word: str = "resnet18") -> ModelConf:
    return seeds.parse(word)


def weights(**options: Any) -> dict[str, Tensor]:
    return torchvision.models.resnet18(**options).state_dict()


def refused(checkpoint: str, word: str = "resnet18") -> str:
    with pytest.raises(SsrError) as caught:
        published_weights.read(checkpoint, model(word))
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".") and ".:" not in text
    return text


def put(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return state


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


# torchvision


@pytest.mark.parametrize(
    "name", ["", ":DEFAULT", ":IMAGENET1K_V1", ":ResNet18_Weights.IMAGENET1K_V1"]
)
def test_a_file_in_torchs_cache_is_read(tmp_path: Path, name: str) -> None:
    held = put(tmp_path / "hub/checkpoints" / RESNET18, weights())
    before = torch.random.get_rng_state()
    assert same(published_weights.read(f"torchvision{name}", model()), held)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_file_of_another_content_than_its_name_says_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "hub/checkpoints" / RESNET18, weights())
    published_weights.read("torchvision", model())
    assert "is not the file that its name says" in caplog.text


def test_old_names_are_torchvisions_to_read(tmp_path: Path) -> None:
    state = torchvision.models.densenet121().state_dict()
    kept = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    old = {n.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): t for n, t in kept.items()}
    put(tmp_path / "hub/checkpoints/densenet121-a639ec97.pth", old)
    assert same(published_weights.read("torchvision", model("torchvision/densenet121")), state)
    assert published_weights.named_as_today(old).keys() == kept.keys()


def test_what_is_not_there_is_said_with_its_place_and_its_source(tmp_path: Path) -> None:
    said = refused("torchvision")
    assert f"are not at {tmp_path / 'hub/checkpoints' / RESNET18} and cannot be downloaded" in said
    assert "(OSError: Name or service not known)" in said
    assert f"https://download.pytorch.org/models/{RESNET18} elsewhere and put it there" in said
    assert "or type checkpoint=PATH" in said


def test_what_is_not_there_is_downloaded_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held, asked = weights(), []

    def download(url: str, path: str, digest: str, progress: bool) -> None:
        asked.append((url, digest))
        put(Path(path), held)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with caplog.at_level(logging.INFO):
        assert same(published_weights.read("torchvision", model()), held)
    assert asked == [(f"https://download.pytorch.org/models/{RESNET18}", "f37072fd")]
    assert f"downloading the weights of resnet18: {asked[0][0]}" in caplog.text


def test_a_damaged_file_and_one_of_another_network_are_sentences(tmp_path: Path) -> None:
    path = tmp_path / "hub/checkpoints" / RESNET18
    put(path, torchvision.models.resnet34().state_dict())
    assert f"{path} holds other weights than ResNet18_Weights.IMAGENET1K_V1: remove it" in refused(
        "torchvision"
    )
    path.write_bytes(path.read_bytes()[:1000])
    assert f"the weights in {path} cannot be read" in refused("torchvision")
    torch.save({"epoch": 3}, path)
    assert "it holds no state dict" in refused("torchvision")


def test_a_file_that_holds_code_is_refused_before_torchvision_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "hub/checkpoints" / RESNET18
    path.parent.mkdir(parents=True)
    torch.save({"weight": Code()}, path)
    said = refused("torchvision")
    assert f"the weights in {path} cannot be read (it holds objects or code, not tensors" in said
    assert not Path(CANARY).exists()


@pytest.mark.parametrize(
    ("checkpoint", "word", "said"),
    [
        ("torchvision:IMAGENET1K_V3", "resnet50", "nearest names are IMAGENET1K_V2, IMAGENET1K_V1"),
        ("torchvision:imagenet1k_v2", "resnet50", "with one of IMAGENET1K_V1, IMAGENET1K_V2."),
        (
            "torchvision",
            "resnet20",
            "resnet20, which is no network of torchvision: type checkpoint=PA",
        ),
        ("torchvision", "timm/resnet18", "is no network of torchvision: type checkpoint=timm or"),
        ("timm", "resnet18", "is no network of timm: type checkpoint=torchvision or another"),
        ("timm", "my.Net", "my.Net, which is no network of timm: type checkpoint=PATH"),
        ("timm:a1_in2k", "timm/resnet18", "'a1_in2k' of resnet18; the nearest names are a1_in1k"),
    ],
)
def test_weights_that_do_not_exist_are_refused_with_those_that_do(
    checkpoint: str, word: str, said: str
) -> None:
    assert said in refused(checkpoint, word)


def test_how_images_were_prepared_is_said_without_a_file() -> None:
    found = published_weights.describe("torchvision", model())
    assert found.name == "ResNet18_Weights.IMAGENET1K_V1"
    assert (found.mean[0], found.std[0], found.size) == (0.485, 0.229, (224, 224))
    inception = published_weights.describe("torchvision", model("torchvision/inception_v3"))
    assert (inception.mean, inception.std, inception.size[0]) == ((0.5,) * 3, (0.5,) * 3, 299)
    found = published_weights.describe("timm:a2_in1k", model("timm/resnet18"))
    assert (found.name, found.interpolation) == ("timm/resnet18.a2_in1k", "bicubic")


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_all_networks_of_torchvision_say_how_their_images_were_prepared(name: str) -> None:
    for weights in torchvision.models.get_model_weights(name):
        found = published_weights.describe(
            f"torchvision:{weights.name}", model(f"torchvision/{name}")
        )
        assert len(found.mean) == len(found.std) == 3 and len(found.size) == 2


def test_inputs_are_normalised_as_inceptions_weights_ask() -> None:
    image = torch.rand(1, 3, 4, 4)
    network = torchvision.models.googlenet(transform_input=True, init_weights=False)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    torch.testing.assert_close(network._transform_input((image - mean) / std), (image - 0.5) / 0.5)


# timm


def hub_file(tmp_path: Path, repo: str, name: str) -> Path:
    """Say where the cache of the Hugging Face Hub holds a file of its main branch."""
    home = tmp_path / "hf" / f"models--{repo.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text("0123")
    return home / "snapshots/0123" / name


def test_a_file_in_the_hubs_cache_is_read(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    state = timm.create_model("resnet18").state_dict()
    put(hub_file(tmp_path, "timm/resnet18.a1_in1k", "pytorch_model.bin"), state)
    assert same(published_weights.read("timm", model("timm/resnet18")), state)
    assert same(published_weights.read("timm:a1_in1k", model("timm/resnet18")), state)
    assert "timm/resnet18.a2_in1k are not in" in refused("timm:a2_in1k", "timm/resnet18")


def test_what_is_not_in_the_hubs_cache_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm, hub = pytest.importorskip("timm"), pytest.importorskip("huggingface_hub")
    errors, asked = pytest.importorskip("huggingface_hub.errors"), []
    state = timm.create_model("resnet18").state_dict()

    def download(repo: str, name: str, revision: str | None) -> str:
        asked.append((repo, name))
        if name == "model.safetensors":
            raise errors.EntryNotFoundError("no such file")
        put(tmp_path / "there" / name, state)
        return str(tmp_path / "there" / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert same(published_weights.read("timm:a3_in1k", model("timm/resnet18")), state)
    names = ("model.safetensors", "pytorch_model.bin")
    assert asked == [("timm/resnet18.a3_in1k", name) for name in names]


def test_safetensors_come_first(tmp_path: Path) -> None:
    timm, save = pytest.importorskip("timm"), pytest.importorskip("safetensors.torch").save_file
    state = timm.create_model("resnet18").state_dict()
    path = hub_file(tmp_path, "timm/resnet18.a2_in1k", "model.safetensors")
    path.parent.mkdir(parents=True)
    save(state, path)
    assert same(published_weights.read("timm", model("timm/resnet18.a2_in1k")), state)
    path.write_bytes(b"cut")
    assert f"{path} cannot be read" in refused("timm:a2_in1k", "timm/resnet18")
    put(path.with_name("pytorch_model.bin"), timm.create_model("resnet34").state_dict())
    path.unlink()
    said = refused("timm:a2_in1k", "timm/resnet18")
    assert "pytorch_model.bin holds other weights than timm/resnet18.a2_in1k: remove it" in said


def test_what_is_not_in_the_hubs_cache_is_said_with_its_place(tmp_path: Path) -> None:
    said = refused("timm", "timm/resnet18")
    assert f"are not in {tmp_path / 'hf/models--timm--resnet18.a1_in1k'} and cannot be" in said
    assert "type hf download timm/resnet18.a1_in1k where there is a network" in said
    assert "checkpoint=PATH with model.safetensors of https://huggingface.co/timm/resnet18" in said
