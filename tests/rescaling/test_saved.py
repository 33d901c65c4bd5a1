"""A folder gives the very network back that was written to it, or says what is wrong with it."""

from __future__ import annotations

import errno
import io
import json
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

from ssr_exp import files
from ssr_exp.config import ModelConf, Shortcut, Source, Stem
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, planning, rescale, saved, seeds, segmentations, user_modules
from ssr_exp.rescaling.saved import NETWORK, WEIGHTS, Description, Model, Segmentation, Shares
from tests.rescaling import test_inputs

SHAPE = (3, 16, 16)
STAGES = Segmentation(multiple=4)
MODELS = {
    "cifar": ModelConf("resnet8"),
    "projection": ModelConf("resnet8", shortcut=Shortcut.B),
    "small stem": ModelConf("resnet18"),
    "large stem": ModelConf("resnet18", stem=Stem.imagenet),
    "arguments": ModelConf("resnet18", arguments={"zero_init_residual": True, "groups": 1}),
    "timm": ModelConf("resnet10t", source=Source.timm, arguments={"act_layer": "silu"}),
}

QUICK = ("cifar", "projection", "timm")


@cache
def made(
    conf_name: str = "cifar", multiple: int = 4, frozen: tuple[str, ...] = ()
) -> tuple[nn.Module, Description]:
    """Build the smallest rescaled network, as if it had been trained, and describe it."""
    return smallest(MODELS[conf_name], Segmentation(multiple=multiple, frozen=frozen))


def smallest(conf: ModelConf, split: Segmentation = STAGES) -> tuple[nn.Module, Description]:
    seed, plan = planning.seed_and_plan(conf, split.conf(), num_classes=3, input_shape=SHAPE)
    small = plan.smallest
    network = rescale.build(seed, plan, small)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)  # running statistics, too
    modifiers = plan.modifiers(small)
    return network.eval(), Description(
        model=Model(
            name=seeds.spell(conf), stem=conf.stem, shortcut=conf.shortcut, arguments=conf.arguments
        ),
        segment=split,
        network=codes.write(plan, small),
        num_classes=3,
        input_shape=SHAPE,
        classes=("cat", "dog", "owl"),
        mean=(0.5, 0.25, 0.125),
        std=(0.25, 0.5, 1.0),
        modifiers=Shares(depth=modifiers.depth, width=modifiers.width),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network, description = made()
    saved.write(tmp_path / "best", description, network.state_dict())
    return tmp_path / "best"


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "multiple", "frozen"),
    [
        *(
            pytest.param(name, 8, (), marks=[] if name in QUICK else pytest.mark.slow)
            for name in MODELS
        ),
        ("cifar", 4, ("stage2",)),
    ],
)
def test_a_folder_gives_the_same_network_back(
    tmp_path: Path, name: str, multiple: int, frozen: tuple[str, ...]
) -> None:
    network, description = made(name, multiple, frozen)
    saved.write(tmp_path, description, network.state_dict())
    loaded = saved.load(tmp_path)
    assert repr(loaded) == repr(network)
    x = torch.randn(2, *SHAPE)
    assert torch.equal(loaded(x), network(x))
    assert not torch.equal(loaded(x), loaded(x + 1))
    assert saved.read(tmp_path) == description


@pytest.mark.parametrize("mode", [False, True])
def test_a_network_is_loaded_in_eval_mode_and_can_be_trained_on(folder: Path, mode: bool) -> None:
    state = torch.get_rng_state()
    with torch.inference_mode(mode):
        network = saved.load(str(folder))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in network.modules())
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cpu"}
    network.train()(torch.randn(2, *SHAPE)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_a_folder_holds_two_files_and_the_description_reads_well(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {NETWORK, WEIGHTS}
    state = torch.load(folder / WEIGHTS, weights_only=True)
    assert type(state) is dict and set(state) == set(made()[0].state_dict())
    about = files.parse_fields((folder / NETWORK).read_bytes())
    assert about["schema_version"] == 1
    own = {"name": "resnet8", "stem": "auto", "shortcut": "A", "arguments": {}}
    assert about["model"] == own
    assert about["segment"] == {"kind": "stage", "multiple": 4, "frozen": [], "patterns": []}
    assert about["classes"] == ["cat", "dog", "owl"]


def test_a_folder_of_before_there_were_sources_is_read(folder: Path) -> None:
    about = files.parse_fields((folder / NETWORK).read_bytes())
    del about["model"]["arguments"], about["segment"]["patterns"]
    (folder / NETWORK).write_text(json.dumps(about))
    assert saved.read(folder) == made()[1]
    saved.load(folder)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["whole", "manual"])
def test_a_network_that_was_split_in_any_way_is_given_back(tmp_path: Path, kind: str) -> None:
    split = Segmentation(kind=kind, multiple=4, patterns=["stage1.*"] if kind == "manual" else [])
    network, description = smallest(MODELS["cifar"], split)
    saved.write(tmp_path, description, network.state_dict())
    assert saved.read(tmp_path).segment == split
    x = torch.randn(2, *SHAPE)
    assert torch.equal(saved.load(tmp_path)(x), network(x))


def test_every_way_to_split_a_network_can_be_written() -> None:
    for kind in segmentations.KINDS:
        assert Segmentation(kind=kind, multiple=4).conf().kind == kind


@pytest.mark.parametrize("name", ["arguments", "timm"])
def test_a_reader_that_knows_no_sources_takes_a_network_for_no_other(name: str) -> None:
    assert seeds.spell(MODELS[name]) not in seeds.names()


OWN = """
from torch import nn

class Block(nn.Module):
    def __init__(self, inp, out):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inp, out, 3, padding=1), nn.BatchNorm2d(out)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()

class Net(nn.Sequential):
    def __init__(self, num_classes, width=4):
        stages = [Block(3, width), Block(width, width), Block(width, width)]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)]
        super().__init__(nn.Sequential(*stages), *head)

def make(num_classes, width=4):
    return Net(num_classes, width)
"""


def saved_own(own: Callable[[str], str], name: str, folder: Path) -> nn.Module:
    conf = seeds.parse(f"{own(OWN)}.{name}", arguments={"width": 8})
    network, description = smallest(conf)
    saved.write(folder, description, network.state_dict())
    return network


@torch.no_grad()
def test_only_a_trusted_function_is_called(own: Callable[[str], str], tmp_path: Path) -> None:
    network, x = saved_own(own, "make", tmp_path), torch.randn(2, *SHAPE)
    with pytest.raises(SsrError, match=r"calls the function own_\d+\.make .* trust=True"):
        saved.load(tmp_path)
    assert torch.equal(saved.load(tmp_path, trust=True)(x), network(x))


def test_a_class_that_was_changed_since_its_training_is_loaded_with_a_warning(
    own: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = saved_own(own, "Net", tmp_path)
    description = saved.read(tmp_path)
    name = description.model.name
    x = torch.randn(2, *SHAPE)
    assert torch.equal(saved.load(tmp_path)(x), network(x))
    model = Model.from_conf(description.model.conf(), description.input_shape, network)
    assert model.code is not None
    about = description.model_copy(update={"model": model})
    (tmp_path / NETWORK).write_text(about.model_dump_json())
    saved.load(tmp_path)
    assert caplog.text == ""
    monkeypatch.setattr(user_modules, "digest", lambda *_: "changed")
    saved.load(tmp_path)
    assert f"the code of {name} is not what" in caplog.text


def test_a_folder_cannot_make_others_run_what_it_names(folder: Path) -> None:
    about = files.parse_fields((folder / NETWORK).read_bytes())
    about["model"] = {"name": "os.mkdir", "arguments": {"path": str(EVIL)}}
    (folder / NETWORK).write_text(json.dumps(about))
    with pytest.raises(SsrError, match="if you trust where it comes from"):
        saved.load(folder)
    assert not EVIL.exists()


@pytest.mark.parametrize("name", [NETWORK, WEIGHTS])
def test_a_missing_file_is_named_and_what_to_name_instead(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(SsrError, match=r"name a folder that holds network\.json") as caught:
        saved.load(folder)
    assert str(folder / name) in str(caught.value)


DAMAGED = {
    "cut short": (b'{"schema_version": 1, "mod', "no whole JSON"),
    "of something else": (b'{"study": "s"}', "model: field required"),
    "of a future version": ({"schema_version": 2}, "of version 2"),
    "without classes": ({"classes": []}, "0 classes for 3 logits"),
    "without channels": ({"mean": [0.5]}, "not those of 3 channels"),
    "of an infinite mean": ({"mean": [0.5, 0.5, float("inf")]}, "mean.2: "),
    "of no spread": ({"std": [1, 1, 0]}, "std.2: "),
    "of text for a number": ({"num_classes": "3"}, "num_classes: "),
    "of no image": ({"input_shape": [3, 0, 16]}, "input_shape.1: "),
    "of a huge image": ({"input_shape": [3, 10**9, 16]}, "input_shape.1: "),
    "of another segmentation": ({"segment": {"kind": "x", "multiple": 4}}, "segment.kind: "),
    "of an unknown stem": ({"model": {"name": "resnet8", "stem": "x"}}, "model.stem: "),
    "of an unknown model": ({"model": {"name": "resnet9"}}, "'resnet9' is unknown"),
    "of an unknown source": ({"model": {"name": "keras/vgg"}}, "'keras/vgg' names no seed"),
    "of a class that is not here": ({"model": {"name": "not_here.Net"}}, "no 'not_here'"),
    "of odd arguments": ({"model": {"name": "resnet8", "arguments": [1]}}, "model.arguments: "),
    "of an unknown segment": ({"segment": {"multiple": 4, "frozen": ["x"]}}, "no segment 'x'"),
    "of no code": ({"network": "small"}, "'small' is not a network code"),
    "of another network's code": ({"network": "d9-1-1_w4-8-16"}, "cannot keep 9 blocks"),
    "of an endless code": ({"network": "d" + "9" * codes.LONGEST}, "network: "),
}


@pytest.mark.parametrize(("content", "why"), DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_file_is_refused(folder: Path, content: bytes | dict[str, Any], why: str) -> None:
    if isinstance(content, dict):
        content = json.dumps(files.parse_fields((folder / NETWORK).read_bytes()) | content).encode()
    (folder / NETWORK).write_bytes(content)
    with pytest.raises(SsrError) as caught:
        saved.load(folder)
    assert str(folder / NETWORK) in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


EVIL = Path(tempfile.gettempdir()) / "made-by-a-pickle"


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(EVIL),)


def pickled(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def larger() -> bytes:
    return pickled(seeds.build(ModelConf("resnet8"), num_classes=3, input_shape=SHAPE).state_dict())


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut short": (lambda: pickled(made()[0].state_dict())[:-500], "damaged"),
    "code": (lambda: pickled(Evil()), "damaged"),
    "a list": (lambda: pickled([1, 2]), "no state dict"),
    "numbers": (lambda: pickled({"conv1.weight": 3}), "no state dict"),
    "nothing": (lambda: pickled({}), "does not fit this network"),
    "of a larger network": (larger, "does not fit this network"),
}


@pytest.mark.parametrize(("content", "why"), WRONG.values(), ids=list(WRONG))
def test_damaged_weights_are_refused(folder: Path, content: Callable[[], bytes], why: str) -> None:
    (folder / WEIGHTS).write_bytes(content())
    with pytest.raises(SsrError, match=why) as caught:
        saved.load(folder)
    assert str(folder / WEIGHTS) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not EVIL.exists()


@pytest.mark.parametrize(("call", "fails_at"), [("fsync", 1), ("replace", 2)])
def test_a_write_that_fails_leaves_whole_files_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, fails_at: int
) -> None:
    real, calls = getattr(os, call), []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    network, description = made()
    other: dict[str, Tensor] = {k: v + 1 for k, v in network.state_dict().items()}
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(OSError, match="No space left"):
            saved.write(folder, description, other)
    assert {path.name for path in folder.iterdir()} == {NETWORK, WEIGHTS}
    expected = network.state_dict() if fails_at == 1 else other
    loaded = saved.load(folder).state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_no_network_without_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    network, description = made()
    monkeypatch.setattr(files, "to_json", killed)
    with pytest.raises(KeyboardInterrupt):
        saved.write(tmp_path, description, network.state_dict())
    with pytest.raises(SsrError, match=r"there is no .*network\.json"):
        saved.load(tmp_path)


def test_a_network_of_several_inputs_comes_back(tmp_path: Path) -> None:
    network = test_inputs.Dictionary()
    plan = planning.trace(network, test_inputs.masked(), multiple=4)
    built = rescale.build(network, plan, plan.smallest).eval()
    about = Description(
        model=Model(name="tests.rescaling.test_inputs.Dictionary"),
        segment=Segmentation(multiple=4),
        network=codes.write(plan, plan.smallest),
        num_classes=None,
        input_shape=plan.input_shape,
        classes=(),
        mean=(),
        std=(),
        modifiers=Shares(depth=(1,), width=(1,)),
        inputs=plan.inputs,
    )
    saved.write(tmp_path, about, built.state_dict())
    assert saved.read(tmp_path) == about
    args, kwargs = plan.inputs.make(2)
    one, other = built(*args, **kwargs), saved.load(tmp_path)(*args, **kwargs)
    assert all(torch.equal(one[name], other[name]) for name in ("map", "count"))
