"""Networks of any signature go from a user's LightningModule to a verified file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ssr_exp.app import exports
from ssr_exp.config import Config, ExportConfig, PathsConf
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.runs.record import Status
from ssr_exp.runs.store import Store
from ssr_exp.training import opened_study, own_module, run

Compose = Callable[..., Config]
Own = Callable[[str], str]
pytestmark = pytest.mark.usefixtures("repeatable")

CODE = """
import lightning as L
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from ssr_exp.rescaling.inputs import Inputs
from tests.rescaling import test_inputs


class Rows(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index)
        drawn = [torch.rand(*shape, generator=draw) for shape in SHAPES]
        return drawn, index % 2


class Data(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(Rows(), 4)

    def val_dataloader(self):
        return DataLoader(Rows(), 3)


def example():
    return EXAMPLE


class Lit(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = test_inputs.NETWORK()

    def loss(self, batch):
        x, y = batch
        out = CALL
        out = out if torch.is_tensor(out) else out["map"]
        return F.cross_entropy(out.flatten(2).mean(2) if out.ndim > 2 else out, y)

    def training_step(self, batch, index):
        return self.loss(batch)

    def validation_step(self, batch, index):
        self.log("val/loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)
"""
WORDS = ("task=module", "task.score.key=val/loss", "task.score.direction=min", "dataset=module")
WORDS += ("task.score.bounds=[0,null]", "segment.multiple=4", "trainer.max_epochs=1")
CASES = {
    "1-D": ("sound", [(1, 64)], "self.net(x[0])"),
    "3-D": ("Volume", [(1, 4, 4, 4)], "self.net(x[0])"),
    "two": ("Two", [(3, 8, 8), (6,)], "self.net(*x)"),
    "dictionary": (
        "Dictionary",
        [(3, 8, 8), (1, 8, 8)],
        "self.net({'image': x[0], 'mask': x[1] > 0.3})",
    ),
    "keywords": ("Keywords", [(3, 8, 8), (6,)], "self.net(x[0], age=x[1], mode='mean')"),
}
FEW = ("3-D", "keywords")  # that CI has time for


def text(name: str, example: str = "None", **swapped: str) -> str:
    network, shapes, call = CASES[name]
    filled = CODE.replace("NETWORK", network).replace("SHAPES", repr(shapes)).replace("CALL", call)
    filled = filled.replace("EXAMPLE", example)
    for old, new in swapped.items():
        filled = filled.replace(old, new)
    return filled


@pytest.fixture
def asked(conf: Compose, own: Own) -> Callable[..., Config]:
    def configured(code: str, *words: str) -> Config:
        module = own(code)
        return conf(*WORDS, f"task.target={module}.Lit", f"dataset.target={module}.Data", *words)

    return configured


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n if n in FEW else pytest.param(n, marks=pytest.mark.more) for n in CASES]
)
def test_a_network_of_any_signature_is_trained_exported_and_loaded(
    name: str, asked: Callable[..., Config], tmp_path: Path
) -> None:
    count = len(opened_study.open(asked(text(name))).plan.segments)
    modifiers = f"modifiers.depth={[1] * count}", f"modifiers.width={[0.5] * count}"
    conf = asked(text(name), "modifiers=explicit", *modifiers)
    record = run.train(conf)
    assert record.status is Status.finished and record.score is not None
    (job,) = run.plan(conf)
    folder = run.folder(Store(conf.paths.runs), job)
    assert isinstance(own_module.load(folder), own_module.LightningModule)
    plan = job.study.plan
    assert job.study.splits.image_shape == plan.inputs.shape
    request: Any = ExportConfig(
        run=str(folder), format=["onnx"], repeats=1, paths=PathsConf(runs=conf.paths.runs),
        to=str(tmp_path / "to"),
    )  # fmt: skip
    to = Path(exports.write(OmegaConf.structured(request)))
    assert (to / "model.onnx").exists()
    about = saved.read(to)
    assert about.inputs == plan.inputs.stored
    args, kwargs = plan.inputs.make(2)
    saved.load(to)(*args, **kwargs)


def test_the_inputs_of_validation_are_captured(asked: Callable[..., Config]) -> None:
    opened = opened_study.open(asked(text("keywords")))
    assert opened.plan.inputs.text() == "x 3x8x8 and age 6"
    assert opened.plan.inputs.kwargs == {"age": {"tensor": 1}, "mode": "mean"}
    assert "inputs of x 3x8x8 and age 6" in str(opened.splits.reading)


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ("torch.zeros(2, 3, 8, 8), torch.rand(2, 6)", "image 3x8x8 and age 6"),
        ("Inputs((torch.rand(2, 3, 8, 8),), {'age': torch.rand(2, 6)})", "image 3x8x8 and age 6"),
    ],
)
def test_a_function_says_what_a_network_is_called_with(
    example: str, said: str, asked: Callable[..., Config], own: Own
) -> None:
    code = text("two", example)
    conf = asked(code)
    conf.task.example_inputs = str(conf.task.target).replace(".Lit", ".example")
    assert opened_study.open(conf).plan.inputs.text() == said


@pytest.mark.parametrize(
    "array",
    [
        "(torch.rand(2, 3, 8, 8), torch.rand(2, 6))",
        "{'image': torch.rand(2, 3, 8, 8), 'age': torch.rand(2, 6)}",
    ],
)
def test_lightnings_example_says_what_a_network_takes_that_is_not_called(
    array: str, asked: Callable[..., Config]
) -> None:
    made = f"self.net = test_inputs.Two()\n        self.example_input_array = {array}"
    hidden = "self.net.head(self.net.trunk(x[0]).mean((2, 3)) + self.net.embed(x[1]))"
    code = text("two", **{"self.net = test_inputs.Two()": made, "self.net(*x)": hidden})
    assert opened_study.open(asked(code)).plan.inputs.text() == "image 3x8x8 and age 6"


def test_another_call_in_training_is_named(
    asked: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    code = text(
        "1-D",
        **{"return self.loss(batch)": "return self.loss([[batch[0][0][..., :32]], batch[1]])"},
    )
    opened_study.open(asked(code))
    assert (
        "training_step calls Lit.net otherwise than validation_step (with 1x32, not with 1x64)"
        in (caplog.text)
    )


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_inputs_are_stored_as_networks_are_made(
    precision: str, asked: Callable[..., Config]
) -> None:
    opened = opened_study.open(asked(text("two"), f"trainer.precision={precision}"))
    assert opened.plan.inputs.text() == "image 3x8x8 and age 6"


def test_what_no_signature_holds_is_refused_in_a_sentence(asked: Callable[..., Config]) -> None:
    code = text("two", **{"self.net(*x)": "self.net(x[0], age=Odd(x[1]).value)"})
    code = code.replace(
        "class Lit(", "class Odd:\n    def __init__(self, x): self.value = x\n\n\nclass Lit("
    )
    code = code.replace("age=Odd(x[1]).value", "age=Odd(x[1])").replace(
        "self.net = test_inputs.Two()", "self.net = Wrapped()"
    )
    code = code.replace(
        "class Lit(",
        "class Wrapped(test_inputs.Two):\n    def forward(self, image, age):\n"
        "        return super().forward(image, age.value)\n\n\nclass Lit(",
    )
    with pytest.raises(SsrError, match=r"Lit.net cannot be called .* the input age is a Odd"):
        opened_study.open(asked(code))
