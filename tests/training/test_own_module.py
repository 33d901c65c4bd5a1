"""A LightningModule of the user's own trains the rescaled network, or is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import linecache
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from ssr_exp import messages, user_code
from ssr_exp.app import verification_inputs
from ssr_exp.config import (
    Config,
    DatasetConf,
    ExportConfig,
    FinalistsConf,
    SearchConfig,
    TaskConf,
    TaskKind,
)
from ssr_exp.edge import selection
from ssr_exp.edge.export.verification import DrawnSamples, Part, Samples
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import rescale, saved
from ssr_exp.runs import studies
from ssr_exp.runs import trained as trained_networks
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import LAST_CHECKPOINT, RECORD_FILE, Store, module_weights
from ssr_exp.training import (
    answer_folder,
    finalists,
    fit,
    learning,
    opened_study,
    own_module,
    own_validation,
    resume,
    run,
    study_parts,
)
from ssr_exp.training.own_validation import OwnValidation, StandIn
from tests.datasets import test_masks as masks

Compose = Callable[..., Config]
Own = Callable[[str], str]
pytestmark = pytest.mark.usefixtures("repeatable")

CODE = """
import copy
import functools
import lightning as L
import torch
from torch import nn
from torch.nn import functional as F


def block():
    return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())


def make():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        *(block() for _ in "ab"),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )


class Lit(L.LightningModule):
    def __init__(self, lr=0.05):
        super().__init__()
        self.save_hyperparameters()
        self.net = make()
        INIT

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        VALIDATE
        share = (self(x).argmax(1) == y).float().mean()
        self.log("val/share", share)

    def test_step(self, batch, index):
        x, y = batch
        self.log("test/share", (self(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)

    MORE
"""
WORDS = ("task=module", "task.score.key=val/share", "task.score.direction=max")
WORDS += ("task.score.bounds=[0,1]", "recipe.batch_size=32")


def code(init: str = "", more: str = "", validate: str = "", **swapped: str) -> str:
    """Fill in what is special of a module."""
    text = CODE.replace("INIT", init).replace("MORE", more).replace("VALIDATE", validate)
    for old, new in swapped.items():
        text = text.replace(old, new)
    return text


@pytest.fixture
def asked(conf: Compose, own: Own) -> Callable[..., Config]:
    """Configure a training of a module: `asked(code(), "seed=1")`."""

    def configured(text: str, *words: str) -> Config:
        return conf(*WORDS, f"task.target={own(text)}.Lit", *words)

    return configured


SMALLER = ("modifiers=explicit", "modifiers.depth=[1]", "modifiers.width=[0.5]")


def trained(conf: Config) -> tuple[Record, dict[str, torch.Tensor]]:
    record = run.train(conf)
    (job,) = run.plan(conf)
    return record, module_weights(run.folder(Store(conf.paths.runs), job) / LAST_CHECKPOINT)


def test_the_rescaled_network_is_trained_by_the_modules_own_code(
    asked: Callable[..., Config],
) -> None:
    conf = asked(code(), *SMALLER, "trainer.max_epochs=2", "trainer.test=true")
    record, state = trained(conf)
    assert (record.model, record.score_key, record.direction.value) == ("Lit", "val/share", "max")
    assert len(record.scores) == 2 and record.scores[-1] == record.score
    assert record.test_score is not None and 0 < record.test_score <= 1
    assert "train/loss" in record.metrics and record.val_acc is None
    assert {name.partition(".")[0] for name in state} == {"net"}
    assert sum(t.numel() for n, t in state.items() if "num_b" not in n and "running" not in n) == (
        record.params
    )
    assert record.params < record.baseline_params
    again = run.train(conf)
    assert again.started_at == record.started_at  # nothing is trained twice


def test_a_module_that_learns_as_our_task_does_comes_to_the_same(
    asked: Callable[..., Config],
) -> None:
    """The seed network in its own place is no other than before."""
    text = code()
    one, _ = trained(asked(text))
    other, _ = trained(asked(text, "task.arguments.lr=0.05"))
    assert one.network == other.network and one.study != other.study  # it is said, so it counts
    assert one.score == other.score and one.metrics == other.metrics


@pytest.mark.parametrize(
    "init",
    [
        "self.model = self.net",
        "self.parts = {'all': [self.net]}",
        "self.call = self.net.forward",
        "self.held = nn.ModuleDict({'again': self.net})",
    ],
)
def test_wherever_a_module_holds_its_network_it_holds_the_new_one(
    asked: Callable[..., Config], init: str
) -> None:
    conf = asked(code(init), *SMALLER)
    (job,) = run.plan(conf)
    network = fit.first_network(job)
    module = fit._task(job, network)
    held: list[object] = [module.net]
    held += [module.model] if "model" in init else []
    held += module.parts["all"] if "parts" in init else []
    held += [module.call.__self__] if "call" in init else []
    held += [module.held["again"]] if "held" in init else []
    assert len(held) == 2 and all(one is network for one in held)
    assert trained(conf)[0].score is not None


def test_a_copy_that_is_named_is_made_anew_and_another_is_kept(
    asked: Callable[..., Config],
) -> None:
    text = code(
        "self.ema = copy.deepcopy(self.net).requires_grad_(False); "
        "self.teacher = copy.deepcopy(self.net).requires_grad_(False)"
    )
    with pytest.raises(SsrError, match=r"a copy of net at ema: type task.copies=\[ema\]"):
        trained_job(asked(text))
    (job,) = run.plan(asked(text, "task.copies=[ema]", "task.keep=[teacher]", *SMALLER))
    network = fit.first_network(job)
    module = fit._task(job, network)
    assert module.net is network and module.ema is not network
    copied, kept = dict(module.ema.named_parameters()), dict(module.teacher.named_parameters())
    for name, parameter in network.named_parameters():
        assert torch.equal(copied[name], parameter) and not copied[name].requires_grad
    assert sum(p.numel() for p in kept.values()) > sum(p.numel() for p in copied.values())


def trained_job(conf: Config) -> nn.Module:
    (job,) = run.plan(conf)
    return fit._task(job, fit.first_network(job))


BAD = {
    "a target that is not there": ("", ("task.target=nowhere.Lit",), "there is no 'nowhere'"),
    "a class that is not there": (
        code().replace("class Lit(", "class Lid("),
        (),
        "has no 'Lit'; the nearest names are Lid: mend task.target=",
    ),
    "no LightningModule": (
        code()
        .replace("class Lit(L.LightningModule)", "class Lit(nn.Module)")
        .replace("self.save_hyperparameters()", "pass"),
        (),
        "returns a Lit, not a LightningModule: task.target must name its class",
    ),
    "a module of the other Lightning": (
        "class Lit:\n    pass\nLit.__module__ = 'pytorch_lightning.core'\n",
        (),
        "a Lit of pytorch_lightning (import it from lightning.pytorch instead",
    ),
    "a constructor that fails": (
        code("raise RuntimeError('no GPU')"),
        (),
        ", RuntimeError: no GPU.",
    ),
    "an attribute that is not there": (
        code(),
        ("task.network=model",),
        "Lit has no model once it is made; it has net: type task.network=NAME",
    ),
    "an attribute that is no network": (
        code("self.net2 = 3"),
        ("task.network=net2",),
        "net2 of Lit is an int, not a torch.nn.Module",
    ),
    "a network that is not learnt": (
        code("self.teacher = make().requires_grad_(False)", validate="self.teacher(x)"),
        ("task.network=teacher",),
        "no optimizer of Lit trains teacher: does task.network name what is trained?",
    ),
    "an attribute without parameters": (
        code("self.act = nn.ReLU()"),
        ("task.network=act",),
        "act of Lit has no parameters: there is nothing to rescale.",
    ),
    "a network that is made late": (
        code("self.net = None", "def configure_model(self): self.net = make()"),
        (),
        "net of Lit is a NoneType, not a torch.nn.Module: type task.network=NAME with the "
        "attribute that is the network (made in __init__).",
    ),
    "a network that is made again": (
        code("", "def setup(self, stage): self.net = make()"),
        (),
        "Lit makes net anew in setup or configure_model",
    ),
    "a network that is not called": (
        code("self.net2 = make()"),
        ("task.network=net2",),
        "Lit.net2 is not called in validation_step",
    ),
    "a key that is not logged": (
        code(),
        ("task.score.key=val/shares",),
        "val/shares was not logged; these were: val/share",
    ),
    "a score out of bounds": (
        code(**{"share = (": "share = 100 * ("}),
        (),
        "out of its bounds 0 to 1: is it a share, or percent from 0 to 100?",
    ),
    "a validation that fails": (
        code(validate="raise ValueError('of size 3')"),
        (),
        "Lit does not train: in own_",
    ),
    "a validation that ends the process": (
        code(validate="raise SystemExit('no labels')"),
        (),
        "SystemExit: no labels.",
    ),
    "no validation": (
        code().replace("validation_step", "validate_step"),
        (),
        "has no validation_step: networks are trained by training_step and compared by what",
    ),
    "bounds the wrong way round": (
        code(),
        ("task.score.bounds=[1,0]",),
        "task.score.bounds are 1 and 0: type the least first, as [0,1].",
    ),
    "an argument that is no plain data": (
        code(),
        ("task.arguments={lr:{_target_: math.sqrt}}",),
        "math.sqrt cannot be called: TypeError",
    ),
    "an argument of the trainer that is ours": (
        code(),
        ("+task.trainer.max_epochs=3",),
        "task.trainer.max_epochs is decided elsewhere",
    ),
    "a copy that is none": (
        code("self.other = nn.Linear(3, 3)"),
        ("task.copies=[other]",),
        "task.copies names other, which is not like net: leave it out.",
    ),
    "a part of the network": (
        code("self.last = self.net[6]"),
        ("modifiers=explicit", "modifiers.depth=[0.5]", "modifiers.width=[1]"),
        "Lit holds a part of its network at last, 6, which a smaller network may lack",
    ),
    "weights of the network": (
        code("self.learnt = list(self.net.parameters())"),
        (),
        "Lit holds weights of its network at learnt[0]: they would stay those of the whole one.",
    ),
    "an optimizer that is made early": (
        code("self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)"),
        (),
        "Lit holds weights of its network at optimizer.param_groups[0].params[0]",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_would_train_the_wrong_thing_is_refused_in_a_sentence(
    asked: Callable[..., Config], kind: str
) -> None:
    text, words, sentence = BAD[kind]
    with pytest.raises(SsrError) as refused:
        trained_job(asked(text, *words))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("task.target=null", "type task.target=my_package.LitNet."),
        ("task.score.key=null", "type task.score.key=KEY"),
        ("task.score.direction=null", "task.score.direction=max or min."),
        ("task.score.bounds=[0]", "type task.score.bounds=[0,1]"),
    ],
)
def test_what_nobody_can_guess_is_asked_for(conf: Compose, missing: str, sentence: str) -> None:
    with pytest.raises(SsrError) as refused:
        conf(*WORDS, "task.target=a.B", missing)
    assert sentence in str(refused.value)


def test_arguments_are_made_as_hydra_makes_them(asked: Callable[..., Config], own: Own) -> None:
    text = (
        code()
        .replace("lr=0.05):", "lr=0.05, net=None, optimizer=None):")
        .replace("self.net = make()", "self.net, self.make_optimizer = net, optimizer")
    )
    text = text.replace(
        "torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)",
        "self.make_optimizer(self.parameters())",
    ).replace("self.save_hyperparameters()", "self.save_hyperparameters(ignore=['net'])")
    made = f"net:{{_target_: {own(code())}.make}}"
    partly = "optimizer:{_target_: torch.optim.Adam, _partial_: true, lr: 0.01, betas: [0.8, 0.9]}"
    record, _ = trained(asked(text, f"task.arguments={{{made},{partly}}}", *SMALLER))
    assert record.status is Status.finished


def test_an_edit_of_the_code_names_the_study_that_it_left_and_may_go_on_with_it(
    conf: Compose, own: Own, caplog: pytest.LogCaptureFixture
) -> None:
    words = (*WORDS, f"task.target={(name := own(code()))}.Lit")
    record, _ = trained(conf(*words))
    messages.say_once.cache_clear()
    path = Path(str(sys.modules[name].__file__))
    path.write_text(path.read_text().replace("momentum=0.9", "momentum=0.8"))
    linecache.checkcache()
    assert (
        opened_study.open(conf(*words)).name == record.study
    )  # this process runs the code as it was
    study_parts._tried.cache_clear()
    user_code.digests.cache_clear()
    assert opened_study.open(conf(*words)).name != record.study
    assert f"the code of {name} is not that of study {record.study} (1 run)" in caplog.text
    words = (*words, f"task.study={record.study}")
    goes_on = opened_study.open(conf(*words))
    assert goes_on.name == record.study and name in goes_on.about["changed_code"]
    assert run.train(conf(*words)).started_at == record.started_at
    with pytest.raises(
        SsrError, match=r"more than the code is not as in study .*: training.epochs"
    ):
        opened_study.open(conf(*words, "trainer.max_epochs=2"))
    with pytest.raises(SsrError, match=r"there is no study x in .*; it holds Lit-digits-"):
        opened_study.open(conf(*words[:-1], "task.study=x"))


def test_an_edit_that_is_taken_back_goes_on_with_its_study_by_name(
    conf: Compose, own: Own, caplog: pytest.LogCaptureFixture
) -> None:
    words = (*WORDS, f"task.target={own(code())}.Lit", "dataset.normalize=imagenet")
    record, _ = trained(conf(*words))
    caplog.clear()
    assert opened_study.open(conf(*words, f"task.study={record.study}")).name == record.study
    assert opened_study.open(conf(*words)).name == record.study and not caplog.text


def test_an_edit_of_the_code_is_another_study_and_a_version_stands_for_it(
    conf: Compose, own: Own
) -> None:
    name = own(code())
    words = (*WORDS, f"task.target={name}.Lit")
    fields = opened_study.open(conf(*words)).fields
    assert [*fields["task"]["code"]] == [name]
    assert "code" not in opened_study.open(conf(*words, "task.version=1")).fields["task"]
    assert fields["recipe"] == {"batch_size": 32, "grad_clip": None, "ema_decay": None}


class Killed(Exception):
    """What a training ends with here."""


@pytest.mark.filterwarnings("ignore:Attribute 'net' is an instance of")
@pytest.mark.parametrize("data", ["digits", "Data", "Drawn", "Weighted", "Nested"])
def test_a_module_goes_on_after_its_last_epoch_as_if_it_was_never_killed(
    conf: Compose, own: Own, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    """Its optimizer, schedule and random numbers go on, whatever its hyperparameters are."""
    text = code(
        "self.save_hyperparameters({'net': self.net, 'act': nn.ReLU, 'f': functools.partial(int)})",
        "def on_train_epoch_start(self): self.drawn = float(torch.rand(()))",
    ).replace("F.cross_entropy(self(x), y)", "F.cross_entropy(self(x), y) * (1 + self.drawn)")
    words = (*WORDS, f"task.target={own(text)}.Lit", "trainer.max_epochs=3")
    if data != "digits":  # in the order that torch's own loader draws
        words += ("dataset=module", f"dataset.target={own(DATA)}.{data}")
        words += ("dataset.arguments={channels:1}",)
    whole, state = trained(conf(*words))
    last = 60 if data == "digits" else 5
    broken = conf(*words, f"paths.runs={conf().paths.runs}2")
    steps = killed_at(last, broken, monkeypatch)
    record, again = trained(broken)
    assert len(steps) == last and record.scores == whole.scores
    assert all(torch.equal(state[n], again[n]) for n in state)


def killed_at(step: int, conf: Config, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kill a training after so many steps; returns the steps, and counts no others."""
    steps: list[int] = []

    def killing(*_: object) -> None:
        steps.append(1)
        if len(steps) == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "explain", lambda error: (_ for _ in ()).throw(Killed))
        patch.setattr(own_module.NetworkWatch, "on_train_batch_end", killing, raising=False)
        with pytest.raises(Killed):
            run.train(conf)
    return steps


def test_a_schedule_that_waits_for_val_goes_on_with_the_step_that_it_would_have_taken(
    asked: Callable[..., Config], conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning takes that after the checkpoint of the epoch, and not at all when it goes on."""
    text, _ = waiting("ReduceLROnPlateau", "val/share")
    text = text.replace("patience=0", "patience=0, threshold=10")  # each epoch's step lowers it
    first = asked(text, "trainer.max_epochs=3")
    _, state = trained(first)
    broken = dataclasses.replace(first, paths=conf(f"paths.runs={first.paths.runs}2").paths)
    killed_at(60, broken, monkeypatch)
    _, again = trained(broken)
    assert all(torch.equal(state[n], again[n]) for n in state)


def test_a_training_that_a_callback_ends_says_its_epochs_and_does_not_go_on(
    asked: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, (word,) = waiting("EarlyStopping", "val/share")
    conf = asked(text, word.replace("}]", ", min_delta: 9, patience: 1}]"), "trainer.max_epochs=5")
    whole = run.train(conf)
    assert whole.epochs == len(whole.scores) == 2
    (path,) = Path(conf.paths.runs).glob(f"*/*/seed0/{RECORD_FILE}")
    path.unlink()  # killed before it was written
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("it trains on"))
        again = run.train(conf)
    assert (again.epochs, again.scores) == (2, whole.scores)


def test_the_weights_that_validation_scored_are_those_that_are_handed_on(
    asked: Callable[..., Config],
) -> None:
    text = code(
        "self.ema = copy.deepcopy(self.net).requires_grad_(False)",
        "def on_train_batch_end(self, *_):\n"
        "        pairs = zip(self.ema.parameters(), self.net.parameters())\n"
        "        for a, b in pairs: a.data.lerp_(b.data, 0.1)",
    ).replace("share = (self(x)", "share = (self.ema(x)")
    conf = asked(text, "task.copies=[ema]", *SMALLER)
    _, state = trained(conf)
    (job,) = run.plan(conf)
    found = trained_networks.read(run.folder(Store(conf.paths.runs), job), "", trust=True)
    assert found.about.weights_of == "ema"
    for name, tensor in found.network.state_dict().items():
        assert torch.equal(tensor, state[f"ema.{name}"])
        if "weight" in name and tensor.ndim > 1:
            assert not torch.equal(tensor, state[f"net.{name}"])


def test_what_is_killed_before_its_last_validation_is_validated(
    asked: Callable[..., Config], conf: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("trainer.max_epochs=3", "+task.trainer.check_val_every_n_epoch=2")
    text = code()
    whole, _ = trained(first := asked(text, *words))
    broken = dataclasses.replace(
        first, paths=dataclasses.replace(first.paths, runs=f"{first.paths.runs}2")
    )

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "explain", lambda error: (_ for _ in ()).throw(Killed))
        patch.setattr(Trainer, "validate", killed)
        with pytest.raises(Killed):
            run.train(broken)
    again = run.train(broken)
    assert (again.score, again.scores) == (whole.score, whole.scores)


NOTE = """
import lightning as L

seen = []


class Note(L.Callback):
    def on_fit_start(self, trainer, module):
        seen.append(trainer.limit_val_batches)
"""


def test_arguments_of_the_trainer_are_lightnings(asked: Callable[..., Config], own: Own) -> None:
    words = f"limit_val_batches:1,callbacks:[{{_target_: {(name := own(NOTE))}.Note}}]"
    record, _ = trained(asked(code(), f"+task.trainer={{{words}}}"))
    assert sys.modules[name].seen[-1] == 1 and record.score is not None


def test_what_a_module_configures_itself_stays_and_its_score_on_test_has_a_name(
    asked: Callable[..., Config], own: Own
) -> None:
    name = own(NOTE)
    more = f"def configure_callbacks(self):\n        import {name}\n        return [{name}.Note()]"
    text = code(more=more).replace('self.log("test/share"', 'self.log("other"')
    words = ("trainer.test=true", "task.score.test_key=other", *SMALLER)
    record, _ = trained(asked(text, *words))
    assert sys.modules[name].seen and record.test_score is not None


UNTESTED = {
    "no test_step": ({"def test_step": "def testing"}, r"has no test_step, .* logs test/share, or"),
    "another key": (
        {'self.log("test/share"': 'self.log("other"'},
        r"test/share was not logged; these were: other: type task\.score\.test_key=NAME",
    ),
    "no key": ({'self.log("test/share", ': "float("}, "nothing else was: log it in test_step"),
    "a failure": ({'self.log("test/share"': 'self.lod("x"'}, "Lit does not test: in own_"),
}


def searched(conf: Config, seeds: int = 0) -> SearchConfig:
    """Make the configuration of a search that trains so many finalists."""
    fields = {field.name: getattr(conf, field.name) for field in dataclasses.fields(conf)}
    return SearchConfig(**fields, finalists=FinalistsConf(seeds=seeds))


PLATEAU = """
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "KEY"}}
"""
STOPS = (
    "task.trainer.callbacks=[{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: KEY}]"
)


def waiting(kind: str, key: str) -> tuple[str, tuple[str, ...]]:
    """Write a module that steps its schedule by a key, or words of a training that stops by it."""
    plain = code(**{'self.log("train/loss", loss)': 'self.log("train/loss", loss, on_epoch=True)'})
    if kind == "EarlyStopping":
        return plain, (f"+{STOPS}".replace("KEY", key),)
    sgd = "return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)"
    return plain.replace(sgd, PLATEAU.strip().replace("KEY", key)), ()


@pytest.mark.parametrize("kind", ["ReduceLROnPlateau", "EarlyStopping"])
def test_what_waits_for_val_is_refused_where_finalists_learn_from_val(
    asked: Callable[..., Config], own: Own, kind: str
) -> None:
    text, words = waiting(kind, "val/share")
    whole = searched(asked(text, *words), seeds=1)
    with pytest.raises(
        SsrError, match=f"^{kind} of own_.*monitors val/share, .* finalists.seeds=0"
    ):
        finalists.check(whole, opened_study.open(whole))
    data = ("dataset=module", f"dataset.target={own(DATA)}.Data", "dataset.arguments={channels:1}")
    whole = searched(asked(text, *words, *data), seeds=1)  # whose finalists keep val
    finalists.check(whole, opened_study.open(whole))
    text, words = waiting(kind, "train/loss")
    conf = asked(text, *words, "trainer.max_epochs=2")
    whole = searched(conf, seeds=1)
    finalists.check(whole, opened_study.open(whole))
    assert trained(asked(text, *words, *FINAL))[0].test_score is not None


@pytest.mark.parametrize("kind", UNTESTED)
@pytest.mark.parametrize("data", ["digits", "of its own"])
def test_what_cannot_be_tested_is_refused_before_the_rounds_of_a_search(
    asked: Callable[..., Config], own: Own, kind: str, data: str
) -> None:
    swapped, sentence = UNTESTED[kind]
    words = [f"dataset.target={own(DATA)}.Data", "dataset.arguments={channels:1}"]
    conf = asked(code(**swapped), *(["dataset=module", *words] if data != "digits" else []))
    whole = searched(conf)
    opened = opened_study.open(whole)
    finalists.check(whole, opened)
    whole.finalists.seeds = 1
    is_known = data != "digits" and kind == "no test_step"  # of a DataModule, without a trial
    said = "nothing to test finalists with: .* test_dataloader and test_step"
    with pytest.raises(SsrError, match=said if is_known else sentence):
        finalists.check(whole, opened)
    conf.trainer.test = True
    with pytest.raises(SsrError, match="trainer.test=true, but" if is_known else sentence):
        opened_study.open(conf)


def test_the_name_of_a_score_on_test_renames_no_study(asked: Callable[..., Config]) -> None:
    """Nor does it find another one than before, where it was once a part of the name."""
    conf = asked(code())
    usual = opened_study.open(conf)
    conf.task.score.test_key = "other"
    assert opened_study.open(conf).name == usual.name
    older, store = copy.deepcopy(usual.fields), Store(conf.paths.runs)
    older["task"]["score"]["test_key"] = "other"

    def begun() -> str:
        name = opened_study._name(conf, older)
        store.write_text(store.study_folder(name) / studies.FILE, json.dumps(older))
        return name

    assert opened_study.open(conf).name == usual.name
    assert begun() == opened_study.open(conf).name != usual.name
    older["task"]["code"] = dict.fromkeys(older["task"]["code"], "edited")
    conf.task.study = begun()
    assert opened_study.open(conf).name == conf.task.study


def test_averaged_weights_are_ours_where_they_are_asked_for(asked: Callable[..., Config]) -> None:
    text = code()
    plain, averaged = (
        trained(asked(text, *SMALLER, *more)) for more in ((), ("recipe.ema_decay=0.9",))
    )
    assert plain[0].study != averaged[0].study
    assert not torch.equal(plain[1]["net.0.weight"], averaged[1]["net.0.weight"])


def test_example_inputs_stand_for_a_val_batch(asked: Callable[..., Config], own: Own) -> None:
    shape = own("import torch\n\ndef batch():\n    return torch.zeros(2, 1, 8, 8)\n")
    text = code().replace("return self.net(x)", "return self.net(input=x)")
    opened = opened_study.open(asked(text, f"task.example_inputs={shape}.batch"))
    assert opened.plan.input_shape == (1, 8, 8)


HELD = {
    "a partial": "self.infer = functools.partial(run, network=self.net)",
    "a closure": "net = self.net; self.infer = lambda x: net(x)",
    "a method of another object": "self.infer = Held(self.net).run",
    "a default": "self.infer = lambda x, net=self.net: net(x)",
    "a default of a name": "self.infer = lambda x, *, net=self.net: net(x)",
}


@pytest.mark.parametrize("init", HELD.values(), ids=HELD)
def test_validation_is_of_the_rescaled_network_whatever_function_holds_it(
    asked: Callable[..., Config], init: str
) -> None:
    more = "\n\n".join(
        (
            "def run(x, network): return network(x)",
            "class Held:\n    def __init__(self, network): self.network = network\n"
            "    def run(self, x): return self.network(x)",
        )
    )
    text = code(init, "\n\n" + more, "assert self.infer(x).equal(self.net(x))")
    record, _ = trained(asked(text, *SMALLER))
    assert record.score is not None


def test_a_validation_that_calls_another_network_is_refused_with_example_inputs_too(
    asked: Callable[..., Config], own: Own
) -> None:
    shape = own("import torch\n\ndef batch():\n    return torch.zeros(2, 1, 8, 8)\n")
    text = code(
        "HIDDEN.append(self.net)", "\n\nHIDDEN = []", **{"(self(x).argmax": "(HIDDEN[-1](x).argmax"}
    )
    for words in ((), (f"task.example_inputs={shape}.batch",)):
        with pytest.raises(SsrError, match=r"Lit\.net is called as it was made, where a smaller"):
            opened_study.open(asked(text, *words))


def test_what_holds_the_whole_network_is_refused_though_another_line_calls_the_rescaled_one(
    asked: Callable[..., Config],
) -> None:
    text = code("HIDDEN.append(self.net[0])", "\n\nHIDDEN = []", "self(x); HIDDEN[-1](x)")
    with pytest.raises(SsrError, match=r"Lit\.net\.0 is called as it was made"):
        opened_study.open(asked(text))


LATE = """def on_fit_start(self):
        import copy
        self.late = copy.deepcopy(self.net)
"""


def test_a_copy_that_is_made_when_training_begins_may_be_what_is_scored(
    asked: Callable[..., Config], own: Own
) -> None:
    shape = own("import torch\n\ndef batch():\n    return torch.zeros(2, 1, 8, 8)\n")
    text = code(more=LATE, **{"(self(x).argmax": "(self.late(x).argmax"})
    assert opened_study.open(asked(text, f"task.example_inputs={shape}.batch")).scored == "net"


def test_a_network_with_a_scripted_layer_is_tried(asked: Callable[..., Config]) -> None:
    """Such a layer takes no hooks of its own."""
    text = code().replace("nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),", "SCRIPTED", 1)
    layers = "nn.Conv2d(1, 16, 3, padding=1), torch.jit.script(nn.Hardswish()),"
    assert opened_study.open(asked(text.replace("SCRIPTED", layers))).scored == "net"


def test_validation_may_call_layers_of_the_network_alone(
    asked: Callable[..., Config], own: Own
) -> None:
    shape = own("import torch\n\ndef batch():\n    return torch.zeros(2, 1, 8, 8)\n")
    text = code().replace("return self.net(x)", "return self.net.forward(x)")
    assert opened_study.open(asked(text, f"task.example_inputs={shape}.batch")).scored == "net"


def test_an_edit_of_the_data_is_another_study_too(conf: Compose, own: Own) -> None:
    lit, data = own(code()), own(DATA)
    words = ("dataset=module", f"dataset.target={data}.Data")
    more = (*WORDS[:-1], f"task.target={lit}.Lit", "dataset.arguments={channels:1}")
    assert [*opened_study.open(conf(*words, *more)).fields["task"]["code"]] == sorted([lit, data])
    assert [*opened_study.open(conf(*words)).fields["dataset"]["code"]] == [data]


def test_a_copy_by_torch_is_named_where_it_is(asked: Callable[..., Config]) -> None:
    text = code("self.ema = torch.optim.swa_utils.AveragedModel(self.net)")
    with pytest.raises(SsrError, match=r"type task.copies=\[ema.module\]"):
        trained_job(asked(text))
    trained_job(asked(text, "task.copies=[ema.module]"))


@pytest.mark.parametrize("held", ["net", "ema"])
def test_a_file_is_scored_in_the_networks_place_wherever_that_is_held(
    asked: Callable[..., Config], held: str
) -> None:
    """With what the module has learnt beside it: by another name, a copy, and before a head."""
    text = code(
        "self.model = self.net; self.head = nn.Linear(10, 10); "
        "self.ema = copy.deepcopy(self.net).requires_grad_(False)",
        "def on_train_batch_end(self, *_):\n"
        "        pairs = zip(self.ema.state_dict().values(), self.net.state_dict().values())\n"
        "        for a, b in pairs: a.copy_(b * 0.95)",
    )
    text = text.replace("return self.net(x)", "return self.head(self.model(x))")
    text = text.replace("share = (", "x = x.to(next(self.net.parameters()).device); share = (", 1)
    if held == "ema":
        text = text.replace("share = (self(x)", "share = (self.head(self.ema(x))")
    conf = asked(text, "trainer.max_epochs=3", "task.copies=[ema]")
    record, state = trained(conf)
    (job,) = run.plan(conf)
    network = rescale.build(job.study.seed_network, job.study.plan, job.architecture)
    weights = {n[4:]: t for n, t in state.items() if n.startswith(f"{held}.")}
    network.load_state_dict(weights)
    assert job.study.scored == held
    splits = job.study.splits

    def place(whole: nn.Module, value: nn.Module) -> LightningModule:
        return learning.task(conf, splits, whole, stands_in=(held, value))

    data = partial(learning.data, conf, splits)
    validation = OwnValidation(place, data, network.eval(), job.study.score, 8, {}, state)
    assert validation.inputs(40).shape == (40, *splits.image_shape)
    other = {n: t + 1 if t.is_floating_point() else t for n, t in state.items()}
    OwnValidation(place, data, network, job.study.score, 8, {}, other).inputs(2)
    assert all(torch.equal(t, weights[n]) for n, t in network.state_dict().items())
    assert validation.lost() is None
    assert validation.measure(network) == pytest.approx(record.score)
    assert validation.measure(lambda x: network(x) * 0) < 0.3 < validation.measure(network)

    def ends(_: Tensor) -> NoReturn:
        raise SystemExit(0)

    with pytest.raises(
        SsrError, match=r"Lit does not validate: in .*\.py, line \d+, SystemExit: 0"
    ):
        validation.measure(ends)
    less = OwnValidation(place, data, network, job.study.score, 8, attributes=("net", "ema"))
    assert less.lost() == "head.weight"


def test_what_stands_in_for_a_network_says_what_that_says_and_has_no_parts() -> None:
    network = nn.Sequential(OrderedDict(stem=nn.Conv2d(1, 2, 3)))
    network.num_classes, network.head_of = 7, network.stem.forward  # type: ignore[assignment]
    network.register_buffer("scale", torch.ones(2))
    one = StandIn(network, 2, network)
    network.auxiliary = None  # type: ignore[assignment]
    assert one.auxiliary is None and one.num_classes == 7 and torch.equal(one.scale, torch.ones(2))
    assert next(one.parameters()) is next(network.parameters()) and not one.state_dict()
    for name in ("stem", "head_of", "missing"):
        with pytest.raises(AttributeError, match=name):
            getattr(one, name)
    assert copy.deepcopy(one).num_classes == 7


def test_a_score_that_is_no_number_on_test_alone_is_no_diverged_training(
    asked: Callable[..., Config], own: Own
) -> None:
    text = code().replace('self.log("test/share", ', 'self.log("test/share", 0 * float("nan") + ')
    conf = asked(text, "trainer.test=true", "trainer.max_epochs=2")
    said = "test/share on test is no number, though the training is in order"
    with pytest.raises(run.RunFailed, match=said):
        run.train(conf)
    (job,) = run.plan(conf)
    folder, store = run.folder(Store(conf.paths.runs), job), Store(conf.paths.runs)
    record = store.read(folder)
    assert record is not None and record.status is Status.failed
    assert (folder / LAST_CHECKPOINT).exists()


@pytest.mark.slow
def test_a_training_in_double_precision_has_an_average_and_keeps_all_digits(
    asked: Callable[..., Config],
) -> None:
    words = ("trainer.precision=64-true", "recipe.ema_decay=0.9", "trainer.max_epochs=2")
    record, state = trained(asked(code(), *words))
    assert record.status is Status.finished
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {torch.float64}
    with pytest.raises(SsrError, match="rounds away what a step changes of an average"):
        opened_study.open(asked(code(), "trainer.precision=bf16-true", "recipe.ema_decay=0.9"))


FINAL = ("dataset.train_on_val=true", "trainer.test=true", "origin=finalist")


def exported(conf: Config) -> tuple[Record, Part]:
    """Train a network, and read what its files would be compared by."""
    record, _ = trained(conf)
    (job,) = run.plan(conf)
    chosen = selection.find(
        Path(conf.paths.runs), str(run.folder(Store(conf.paths.runs), job)), trust=True
    )
    request = ExportConfig(paths=conf.paths, calibration=8)
    task, dataset = (
        verification_inputs.task_of(chosen),
        verification_inputs.dataset_of(request, chosen),
    )
    (part,) = verification_inputs.own_inputs(request, chosen, task, dataset)
    return record, part


def test_finalists_learn_from_val_too_and_their_files_are_scored_on_it(
    asked: Callable[..., Config],
) -> None:
    text = code()
    text = text.replace("share = (", "assert len(x) <= 5; share = (", 1)
    record, part = exported(asked(text, *SMALLER, *FINAL, "recipe.batch_size=5"))
    assert record.score is None and record.test_score is not None
    assert (part.name, part.learnt, len(part)) == ("val", True, 8)
    assert isinstance(part, Samples) and part.measure is not None and part.own_validation


TWO = """
def example():
    return torch.rand(2, 1, 8, 8)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.box = make(), nn.Linear(64, 4)

    def forward(self, x):
        return {"scores": self.body(x), "boxes": self.box(x.flatten(1))}


class Share(L.Callback):
    def on_validation_epoch_end(self, trainer, module):
        module.log("val/share", 0.5)


class Lit("""


@pytest.mark.parametrize(
    ("swapped", "said", "names"),
    [
        (
            {"self.net = make()": "self.net = Two()", "self.net(x)": "self.net(x)['scores']"},
            "on drawn inputs, not scored: net puts out scores, boxes",
            ("scores", "boxes"),
        ),
        (
            {"self.net(x)": "self.net[1:](self.net[0](x))"},
            "on drawn inputs, not scored: validation calls parts of net alone",
            ("output",),
        ),
        (
            {'self.log("val/share", share)': "pass"},
            "not scored: validation logs no val/share without task.trainer.callbacks",
            None,
        ),
        (
            {"share = (": "self.net[0]; share = ("},
            "not scored: with a file in the network's place, Lit does not validate: in ",
            None,
        ),
    ],
)
def test_files_of_what_validation_alone_cannot_score_hold_all_outputs(
    conf: Compose,
    own: Own,
    caplog: pytest.LogCaptureFixture,
    swapped: dict[str, str],
    said: str,
    names: tuple[str, ...] | None,
) -> None:
    file = own(code(**{"class Lit(": TWO.lstrip()}, **swapped))
    words = () if names else (f"+task.trainer.callbacks=[{{_target_: {file}.Share}}]",)
    asked = conf(*WORDS, f"task.target={file}.Lit", f"task.example_inputs={file}.example", *words)
    with caplog.at_level("INFO"):
        _, part = exported(asked)
    assert said in caplog.text and part.measure is None
    assert (part.network.names if isinstance(part, DrawnSamples) else None) == names


PAIR = """
from torch import nn


class Pair(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.ReLU())
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        return {"out": self.head(self.body(x).mean((2, 3))), "level": x.mean((2, 3))}
"""


def test_of_a_network_that_our_task_judges_by_one_output_that_one_is_exported(
    conf: Compose, own: Own, caplog: pytest.LogCaptureFixture
) -> None:
    data, net = own(DATA), own(PAIR)
    words = ("dataset=module", f"dataset.target={data}.Data", "model=module", "segment.multiple=4")
    with caplog.at_level("INFO"):
        _, part = exported(conf(*words, f"model.target={net}.Pair"))
    assert not isinstance(part, DrawnSamples) and len(part) == 8
    assert "not scored" not in caplog.text and part.measure is not None
    one_class = part.measure(lambda x: torch.eye(3)[[1] * len(x)], iter(()))  # one tensor
    assert 0 < one_class < 100
    pair = part.measure(lambda x: {"level": x, "out": torch.eye(3)[[1] * len(x)]}, iter(()))
    assert pair == one_class  # as PyTorch's own outputs are


def test_inputs_of_validation_are_few_and_from_all_over_it() -> None:
    spread = own_validation._Spread(4)
    assert spread.taken() is None
    for first in range(0, 100, 10):
        spread.add(torch.arange(first, first + 10)[:, None])
        spread.add(torch.zeros(3, 2))
        assert len(spread._kept) <= 8
    taken = spread.taken()
    assert taken is not None and taken.shape == (4, 1)
    assert taken.min() == 0 and taken.diff(dim=0).min() >= 20 and taken.max() >= 80


def test_inputs_of_validation_are_fewer_where_they_are_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_validation, "MOST_BYTES", 5 * 4 * 100)
    spread = own_validation._Spread(256)
    for number in range(40):
        spread.add(torch.full((2, 100), float(number)))
        assert len(spread._kept) <= 5
    taken = spread.taken()
    assert taken is not None and len(taken) >= 2 and taken[:, 0].diff().min() > 0
    one = own_validation._Spread(3)
    one.add(torch.zeros(1, 10**4))
    assert one.taken() is not None  # however large


@pytest.mark.parametrize(("int8", "count"), [(False, 32), (True, 256)])
def test_inputs_of_validation_are_many_where_int8_is_calibrated_alone(
    asked: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, int8: bool, count: int
) -> None:
    conf, counts = asked(code()), list[int]()
    run.train(conf)
    (job,) = run.plan(conf)
    folder = str(run.folder(Store(conf.paths.runs), job))
    chosen = selection.find(Path(conf.paths.runs), folder, trust=True)
    request = ExportConfig(paths=conf.paths, int8=int8, max_batch=8)
    task, dataset = (
        verification_inputs.task_of(chosen),
        verification_inputs.dataset_of(request, chosen),
    )
    monkeypatch.setattr(OwnValidation, "inputs", lambda self, n: counts.append(n))
    verification_inputs.own_inputs(request, chosen, task, dataset)
    assert counts == [count]


def test_a_module_learns_masks_of_black_and_white_and_its_study_says_how_they_were_read(
    asked: Callable[..., Config], tmp_path: Path
) -> None:
    root = masks.write(tmp_path / "masks", save=masks.black_and_white)
    head = "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)"
    text = code(**{head: "nn.Conv2d(16, 2, 1)", "nn.Conv2d(1, 16": "nn.Conv2d(3, 16"})
    words = ("dataset=masks", f"dataset.root={root}", "dataset.crop_padding=0")
    with pytest.raises(SsrError, match=r"type task\.ignore_index=null, and it is a class"):
        run.plan(asked(text, *words))
    conf = asked(text, *words, "task.ignore_index=null")
    record, part = exported(conf)
    (job,) = run.plan(conf)
    assert part.measure is not None and record.score is not None
    assert job.study.fields["task"]["ignore_index"] is None
    assert "ignore_index" not in opened_study.open(asked(code())).fields["task"]


def test_files_are_scored_on_images_that_are_normalised_as_the_network_learned_them(
    asked: Callable[..., Config],
) -> None:
    conf = asked(code(), "dataset.normalize=imagenet")
    record, part = exported(conf)
    (job,) = run.plan(conf)
    network = trained_networks.read(run.folder(Store(conf.paths.runs), job), "", trust=True).network
    assert part.measure is not None and not part.learnt
    assert part.measure(network, iter(())) == pytest.approx(record.score)


def test_the_score_is_what_validation_measured_last(asked: Callable[..., Config]) -> None:
    """Neither a step of the training that bears its name, nor an earlier epoch's."""
    text = code(**{'self.log("train/loss", loss)': 'self.log("val/share", 0.123)'})
    words = ("trainer.max_epochs=3", "+task.trainer.check_val_every_n_epoch=2")
    record, _ = trained(asked(text, *words))
    usual, _ = trained(asked(code(), "trainer.max_epochs=3"))
    assert record.score == usual.score != 0.123
    assert record.scores == (usual.scores[1], usual.scores[2])


def test_a_score_that_is_no_number_is_a_training_that_diverged(
    asked: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    record = run.train(
        asked(code(**{'self.log("val/share", share)': 'self.log("val/share", share * torch.nan)'}))
    )
    assert record.status is Status.diverged and "val/share is nan" in (record.error or "")
    assert "val/share is not finite after 2 batches" in caplog.text


def test_a_mean_one_rounding_beyond_its_bound_is_read_again(asked: Callable[..., Config]) -> None:
    """In the record of a training, and in that of one that was killed before it was written."""
    conf = asked(code(**{'"val/share", share': '"val/share", share * 0 + 1.0000001'}))
    record, _ = trained(conf)
    (folder,) = Path(conf.paths.runs).glob("*/*/seed0")
    assert Store(conf.paths.runs).read(folder) == record and record.best_score == 1.0
    (folder / RECORD_FILE).unlink()
    kept = torch.load(folder / LAST_CHECKPOINT, weights_only=True)
    kept[resume.KEY]["fields"]["best_score"] = 1.0000001
    torch.save(kept, folder / LAST_CHECKPOINT)
    assert run.train(conf).best_score == 1.0
    assert Store(conf.paths.runs).read(folder) is not None


def test_of_what_cannot_be_traced_a_part_is_advised(asked: Callable[..., Config]) -> None:
    text = code(
        "self.net.register_forward_hook(lambda m, i, o: o if o.sum() > 0 else -o)",
    )
    with pytest.raises(SsrError, match=r"type task.network=net.PART, such as net.backbone\.$"):
        opened_study.open(asked(text))


def test_a_run_gives_its_module_back(asked: Callable[..., Config]) -> None:
    conf = asked(code("self.scale = nn.Parameter(torch.ones(3))"), *SMALLER)
    record, state = trained(conf)
    (job,) = run.plan(conf)
    module = own_module.load(run.folder(Store(conf.paths.runs), job))
    assert not module.training and module.state_dict().keys() == state.keys()
    assert all(torch.equal(t, state[n]) for n, t in module.state_dict().items())
    assert sum(p.numel() for p in module.net.parameters()) == record.params


MANUAL = """
    automatic_optimization = False

    def training_step(self, batch, index):
        x, y = batch
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self(x), y))
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters(), lr=rate) for rate in (0.01, 0.001)]
"""


def test_a_module_that_steps_several_optimizers_in_a_batch_is_tried_and_trained(
    asked: Callable[..., Config],
) -> None:
    record, _ = trained(asked(code("", MANUAL.strip())))
    assert record.status is Status.finished and record.score is not None


def test_what_no_checkpoint_keeps_is_said_and_then_nothing_goes_on(
    asked: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    more = "def on_save_checkpoint(self, checkpoint): checkpoint['mine'] = object()"
    conf = asked(code("", more), "trainer.max_epochs=2")
    caplog.set_level("INFO")
    trained(conf)
    assert "mine is an object, which no checkpoint keeps: if it is killed, this" in caplog.text


DATA = """
import lightning as L
import torch
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset
from torch.utils.data import BatchSampler, RandomSampler, WeightedRandomSampler


class Data(L.LightningDataModule):
    num_classes = 3

    def __init__(self, pixels=6, pair=True, channels=2):
        super().__init__()
        self.pixels, self.pair, self.channels = pixels, pair, channels

    def setup(self, stage):
        draw = torch.Generator().manual_seed(0)
        y = torch.arange(48) % 3
        x = torch.rand(48, self.channels, self.pixels, self.pixels, generator=draw)
        x = x + y[:, None, None, None]
        self.all = TensorDataset(x, y) if self.pair else [{"x": a, "y": b} for a, b in zip(x, y)]

    def train_dataloader(self):
        return DataLoader(self.all, 16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.all, 16)

    test_dataloader = val_dataloader


class Drawn(Data):
    def train_dataloader(self):
        return DataLoader(self.all, 16, shuffle=True, generator=torch.Generator().manual_seed(3))


class Nested(Data):
    def train_dataloader(self):
        sampler = RandomSampler(self.all, generator=torch.Generator().manual_seed(3))
        return DataLoader(self.all, batch_sampler=BatchSampler(sampler, 16, False))


class Weighted(Data):
    def train_dataloader(self):
        draw = torch.Generator().manual_seed(3)
        sampler = WeightedRandomSampler([1.0, 2.0] * 24, 48, generator=draw)
        return DataLoader(self.all, 16, sampler=sampler)


class Unsaid(Data):
    num_classes = None


class Stream(IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)


class Counted(Stream):
    def __len__(self):
        return len(self.samples)


class Endless(Data):
    def train_dataloader(self):
        return DataLoader(Stream(list(self.all)), 16)


class Late(Data):
    num_classes = None  # until it is set up

    def setup(self, stage):
        super().setup(stage)
        self.num_classes = self.all.tensors[1].unique().numpy().max() + 1

    def train_dataloader(self):
        return DataLoader(Counted(list(self.all)), 16)

    def val_dataloader(self):
        return DataLoader(Counted(list(self.all)), 16)


class Picking(Data):
    def val_dataloader(self):
        return DataLoader(self.all, 16, sampler=SubsetRandomSampler(range(8)))


def make():
    return Data()


class Slipping(Data):
    def train_dataloader(self):
        return DataLoader(self.all, "16" + 1)


class Failing(Data):
    @property
    def num_classes(self):
        return len(None)
"""


def test_our_tasks_learn_from_a_data_module(conf: Compose, own: Own) -> None:
    name = own(DATA)
    words = ("dataset=module", f"dataset.target={name}.Data", "trainer.test=true")
    record, state = trained(conf(*words, "trainer.max_epochs=8"))
    assert record.dataset == "Data" and record.score_key == "val/acc"
    assert record.score == record.test_score and (record.score or 0) > 60
    assert state["network.fc.weight"].shape[0] == 3
    other = opened_study.open(conf(*words, "dataset.arguments={pixels:8}"))
    assert other.name != record.study and other.plan.input_shape == (2, 8, 8)


def test_what_is_exported_takes_trust_where_a_function_makes_its_data(
    conf: Compose, own: Own, tmp_path: Path
) -> None:
    name = own(DATA)
    for target, words in ((f"{name}.Data", []), (f"{name}.make", ["trust=true"])):
        asked = conf("dataset=module", f"dataset.target={target}")
        study = opened_study.open(asked)
        assert answer_folder.export_words(study, asked, tmp_path / "best") == words


def test_a_study_that_was_begun_before_samplers_were_looked_at_keeps_its_name(
    conf: Compose, own: Own
) -> None:
    asked = conf("dataset=module", f"dataset.target={own(DATA)}.Picking")
    usual = opened_study.open(asked)
    assert usual.splits.reading.sizes == {"train": 48, "val": 8}
    older, store = copy.deepcopy(usual.fields), Store(asked.paths.runs)
    older["dataset"]["content"] = usual.splits.before
    name = opened_study._name(asked, older)
    store.write_text(store.study_folder(name) / studies.FILE, json.dumps(older))
    assert opened_study.open(asked).name == name != usual.name


@pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__`")
def test_a_data_module_may_say_its_classes_when_it_is_set_up_and_stream_what_it_counts(
    conf: Compose, own: Own
) -> None:
    words = ("dataset=module", f"dataset.target={own(DATA)}.Late", "trainer.max_epochs=2")
    record, state = trained(conf(*words))
    assert record.score is not None and state["network.fc.weight"].shape[0] == 3


@pytest.mark.parametrize(
    ("target", "words", "sentence"),
    [
        ("Endless", (), "Endless.train_dataloader does not say how long it is, and the learning"),
        ("Slipping", (), "Slipping gives no training data: in own_"),
        ("Failing", (), "Failing.num_classes fails: in own_"),
        ("Unsaid", (), "Unsaid does not say how many classes there are: give it an attribute"),
        ("Data", ("dataset.arguments={pair:false}",), "is a dict, and our tasks read a pair"),
        ("Data", ("dataset.arguments={size:1}",), "cannot be called: TypeError"),
        ("Data", ("task=regression",), "task=regression has to know all targets"),
        ("Data", ("task.balance=weights",), "task.balance has to know all targets"),
        ("Data", ("dataset.train_on_val=true", "trainer.test=true"), "decides itself what is"),
        ("Data", ("checkpoint=target", "init=inherit"), "type task=module, or checkpoint=PATH."),
    ],
)
def test_data_that_our_tasks_cannot_read_is_refused(
    conf: Compose, own: Own, target: str, words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(SsrError) as refused:
        opened_study.open(conf("dataset=module", f"dataset.target={own(DATA)}.{target}", *words))
    assert sentence in str(refused.value)


def test_weights_that_a_constructor_loads_are_inherited_or_said_to_be_dropped(
    asked: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    text = code(
        "draw = torch.Generator().manual_seed(3)\n"
        "        for p in self.net.parameters(): torch.nn.init.uniform_(p, generator=draw)"
    )
    conf = asked(text)
    opened_study.open(conf)
    assert "loads trained weights when it is made" in caplog.text
    assert "type init=inherit checkpoint=target" in caplog.text
    inherits = asked(text, "init=inherit", "checkpoint=target")
    (job,) = run.plan(inherits)
    network, whole = fit.first_network(job), job.study.seed_network
    assert torch.equal(network[0].weight, whole[0].weight)
    assert job.study.name != opened_study.open(conf).name


def test_a_new_head_on_loaded_weights_is_drawn_and_named(
    asked: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    text = code(
        "draw = torch.Generator().manual_seed(3)\n"
        "        for layer in (self.net[0], self.net[2][0]):\n"
        "            torch.nn.init.uniform_(layer.weight, generator=draw)"
    )
    opened_study.open(asked(text))
    assert "loads trained weights when it is made" in caplog.text
    conf = asked(text, "init=inherit", "checkpoint=target")
    (one,), (other,) = run.plan(conf), run.plan(dataclasses.replace(conf, seed=7))
    assert "drawn anew: " in caplog.text and "0.weight" in one.study.pretrained.state
    networks = [fit.first_network(job).state_dict() for job in (one, other)]
    drawn = one.study.pretrained.about["drawn"]
    assert drawn and "0.weight" not in drawn
    for name in networks[0]:
        assert torch.equal(*(state[name] for state in networks)) is (name not in drawn)


def test_a_constructor_that_draws_all_has_nothing_to_inherit(asked: Callable[..., Config]) -> None:
    with pytest.raises(SsrError, match="draws all weights anew each time"):
        opened_study.open(asked(code(), "init=inherit", "checkpoint=target"))


# --- what ordinary projects do


def test_a_score_that_is_logged_every_few_epochs_is_that_of_the_last_weights(
    asked: Callable[..., Config],
) -> None:
    said = 'self.log("val/share", share)'
    every = f"if self.current_epoch % 3 == 0: {said}"
    epochs = "trainer.max_epochs=3"
    usual, _ = trained(asked(code(), epochs))
    record, _ = trained(asked(code(**{said: every}), epochs))
    first, second, third, last = record.scores
    assert first == usual.scores[0] and second is None and third is None
    assert record.score == last == usual.score  # validated once more, at its end
    longer, _ = trained(asked(code(**{said: every}), "trainer.max_epochs=5"))
    assert [value is None for value in longer.scores] == [False, True, True, False, True, False]
    assert longer.score == trained(asked(code(), "trainer.max_epochs=5"))[0].score


KILLED = """

from pathlib import Path


class Kill(L.Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == WHEN and not FLAG.exists():
            FLAG.touch()
            raise BaseException("killed here")
"""


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_killed_training_goes_on_whatever_epoch_logs_a_score(
    asked: Callable[..., Config], tmp_path: Path, at: int
) -> None:
    said = 'self.log("val/share", share)'
    every = f"if self.current_epoch % 3 == 0: {said}"
    kill = KILLED.replace("WHEN", str(at)).replace("FLAG", f"(Path({str(tmp_path)!r}) / 'k')")
    more = "def configure_callbacks(self): return [Kill()]" + kill
    conf = asked(code(more=more, **{said: every}), "trainer.max_epochs=5")
    with pytest.raises(BaseException, match="killed here"):
        trained(conf)
    assert (tmp_path / "k").exists()
    record, _ = trained(conf)
    whole, _ = trained(asked(code(**{said: every}), "trainer.max_epochs=5"))
    assert (record.scores, record.score, record.epochs) == (whole.scores, whole.score, 5)


@pytest.mark.parametrize("more", [(), ("dataset.version=v1",)])
def test_a_val_set_that_is_drawn_anew_is_refused_whatever_its_version(
    conf: Compose, own: Own, more: tuple[str, ...]
) -> None:
    text = (
        DATA
        + """

class Split(Data):
    def setup(self, stage):
        super().setup(stage)
        self.part, self.rest = torch.utils.data.random_split(self.all, [0.8, 0.2])

    def val_dataloader(self):
        return DataLoader(self.rest, 16)
"""
    )
    with pytest.raises(SsrError, match="serves another val set each time it is made"):
        opened_study.open(conf("dataset=module", f"dataset.target={own(text)}.Split", *more))


def test_data_may_ask_its_trainer_for_the_epoch(conf: Compose, own: Own) -> None:
    text = (
        DATA
        + """

class Curriculum(Data):
    def train_dataloader(self):
        assert self.trainer.world_size == 1
        return DataLoader(self.all, 8 + self.trainer.current_epoch)
"""
    )
    words = ("dataset=module", f"dataset.target={own(text)}.Curriculum", "trainer.max_epochs=2")
    record, _ = trained(conf(*words))
    assert record.score is not None


def test_a_schedule_may_be_made_of_the_epochs_that_there_are(asked: Callable[..., Config]) -> None:
    usual = "return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)"
    stepped = (
        "made = torch.optim.SGD(self.parameters(), lr=0.05)\n"
        "        share = self.trainer.max_epochs // 3\n"
        "        return [made], [torch.optim.lr_scheduler.StepLR(made, share)]"
    )
    text = code(**{usual: stepped.replace("share)", "1 // bool(share))")})
    record, _ = trained(asked(text, "trainer.max_epochs=3"))
    assert record.epochs == 3


@pytest.mark.parametrize("hook", ["setup", "configure_model"])
def test_a_module_that_compiles_its_network_is_told_which_key_does(
    asked: Callable[..., Config], hook: str
) -> None:
    stage = ", stage" if hook == "setup" else ""
    more = f"def {hook}(self{stage}): self.net = torch.compile(self.net)"
    with pytest.raises(SsrError, match=r"compiles net in setup.*type trainer\.compile=true"):
        opened_study.open(asked(code(more=more)))


def test_what_a_module_keeps_by_hooks_is_there_when_it_is_tested_or_loaded(
    asked: Callable[..., Config], own: Own, tmp_path: Path
) -> None:
    text = code(
        "self.best = None",
        "def on_save_checkpoint(self, kept): kept['best'] = 7\n"
        "    def on_load_checkpoint(self, kept): self.best = kept['best']\n"
        "    def on_test_start(self): assert self.best == 7 or self.trainer.fit_loop.epoch_progress"
        ".current.completed",
    )
    conf = asked(text)
    trained(conf)
    tested, _ = trained(asked(text, f"task.target={conf.task.target}", "trainer.test=true"))
    assert tested.test_score is not None
    (job,) = run.plan(conf)
    folder = run.folder(Store(conf.paths.runs), job)
    assert own_module.load(folder, trust=True).best == 7


def test_weights_that_change_at_the_end_are_scored_kept_and_tested(
    asked: Callable[..., Config],
) -> None:
    text = code(more="def on_train_end(self): self.net[-1].bias.data[3] = 1e6")
    record, state = trained(asked(text, "trainer.test=true"))
    assert float(state["net.6.bias"][3]) == 1e6
    assert record.score == pytest.approx(0.1, abs=0.03)  # one class of ten is always named
    assert record.test_score == pytest.approx(0.1, abs=0.03)


def test_what_was_killed_while_it_was_tested_has_the_epochs_that_it_was_trained(
    asked: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = asked(code(), "trainer.max_epochs=2", "trainer.test=true")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit, "_tested", interrupted)
        run.train(conf)
    record, _ = trained(conf)
    assert record.epochs == 2 and record.test_score is not None


def interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


SWAPPING = """

class Average(L.Callback):
    def on_validation_start(self, trainer, module):
        self.kept = [p.detach().clone() for p in module.net.parameters()]
        for p in module.net.parameters(): p.data.mul_(0.5)

    def on_validation_end(self, trainer, module):
        for p, old in zip(module.net.parameters(), self.kept): p.data.copy_(old)
"""


def test_an_average_that_validation_alone_sees_is_refused_and_lightnings_own_is_taken(
    asked: Callable[..., Config],
) -> None:
    more = "def configure_callbacks(self): return [{}]"
    text = code(more=more.format("Average()") + SWAPPING)
    with pytest.raises(SsrError, match=r"scores other weights of net than training leaves.*copies"):
        opened_study.open(asked(text))
    own = "L.pytorch.callbacks.EMAWeightAveraging(decay=0.9)"
    assert opened_study.open(asked(code(more=more.format(own)))).scored == "net"


def test_validation_may_log_what_an_average_scores_beside_the_network(
    asked: Callable[..., Config],
) -> None:
    text = code(
        validate='self.log("val/raw", (self(x).argmax(1) == y).float().mean())\n'
        "        kept = [p.detach().clone() for p in self.net.parameters()]\n"
        "        for p in self.net.parameters(): p.data.mul_(0.5)\n"
        "        self(x)\n"
        "        for p, old in zip(self.net.parameters(), kept): p.data.copy_(old)"
    )
    assert opened_study.open(asked(text)).scored == "net"


COUNTS = """def on_validation_epoch_end(self): self.threshold.add_(1)"""


@pytest.mark.parametrize("words", [(), ("recipe.ema_decay=0.9",)])
@pytest.mark.parametrize("counts", [False, True])
def test_a_network_is_validated_once_an_epoch(
    asked: Callable[..., Config], words: tuple[str, ...], counts: bool
) -> None:
    """Though its own hook changes what it keeps after that."""
    buffer = 'self.register_buffer("threshold", torch.zeros(1))'
    text = code(buffer, COUNTS) if counts else code()
    record, _ = trained(asked(text, "trainer.max_epochs=3", *words))
    assert len(record.scores) == 3


@pytest.mark.parametrize(
    ("keeps", "table"),
    [
        ("kept['table'] = object()", 5),
        ("kept['table'], kept['lr_schedulers'] = 7, [{'values': object()}]", 7),
    ],
)
def test_a_hook_is_given_what_it_kept_or_is_not_called(
    asked: Callable[..., Config], caplog: pytest.LogCaptureFixture, keeps: str, table: int
) -> None:
    """What a schedule lost is none of the module's."""
    text = code(
        "self.table = 5",
        f"def on_save_checkpoint(self, kept): {keeps}\n"
        "    def on_load_checkpoint(self, kept): self.table = kept['table']",
    )
    conf = asked(text)
    trained(conf)
    (job,) = run.plan(conf)
    loaded = own_module.load(run.folder(Store(conf.paths.runs), job), trust=True)
    assert loaded.table == table
    said = "keeps no table, so Lit.on_load_checkpoint is not called"
    assert (said in caplog.text) == (table == 5)
    assert ("on_load_checkpoint is not called" in caplog.text) == (table == 5)


def test_weights_that_setup_loads_are_warned_of(
    asked: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    more = "def setup(self, stage): nn.init.ones_(self.net[0].weight)"
    opened_study.open(asked(code(more=more)))
    assert "changes the weights of net in setup" in caplog.text
    assert "checkpoint=target" in caplog.text


@pytest.mark.parametrize(
    ("init", "more"),
    [
        (
            "self.aux = nn.Conv2d(16, 10, 1)",
            "def on_train_batch_start(self, batch, index): self.aux(self.net[:3](batch[0]))",
        ),
        (
            "self.shadow = {n: p.detach().clone() for n, p in self.net.named_parameters()}",
            "def on_train_batch_end(self, *_):\n"
            "        for n, p in self.net.named_parameters(): self.shadow[n].lerp_(p, 0.1)",
        ),
    ],
)
def test_what_only_the_whole_network_can_do_is_found_before_it_is_trained(
    asked: Callable[..., Config], init: str, more: str
) -> None:
    with pytest.raises(SsrError, match=r"with a smaller network \(d.*\), where the whole one does"):
        opened_study.open(asked(code(init, more), "modifiers=sentinel_all"))
    assert opened_study.open(asked(code(init, more), "modifiers=baseline")).scored == "net"


def test_what_network_json_does_not_say_is_not_called(tmp_path: Path) -> None:
    """Its trust was checked; anyone may have written the study's file."""
    about = saved.Description(
        model=saved.Model(name="lit.Lit:net"),
        segment=saved.Segmentation(multiple=8),
        network="d1_w8",
        num_classes=None,
        input_shape=(1, 8, 8),
        classes=(),
        mean=(),
        std=(),
        modifiers=saved.Shares(depth=(1.0,), width=(1.0,)),
    )
    chosen = SimpleNamespace(about=about, folder=tmp_path)
    task = TaskConf(TaskKind.module, target="subprocess.Popen", arguments={"args": "false"})
    with pytest.raises(SsrError, match=r"says another module than its network.json, lit.Lit:net"):
        verification_inputs.own_inputs(ExportConfig(), chosen, task, DatasetConf(name="digits"))
    task = TaskConf(TaskKind.module, target="lit.Lit")
    asked = DatasetConf(target="subprocess.Popen", arguments={"args": "false"})
    with pytest.raises(SsrError, match=r"calls subprocess.Popen for its data: type trust=true"):
        verification_inputs.own_inputs(ExportConfig(), chosen, task, asked)
