"""A LightningModule of the user's own trains the rescaled network, or is refused."""

from __future__ import annotations

import dataclasses
import linecache
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from ssr_exp import user_code
from ssr_exp.app import exports
from ssr_exp.config import Config, DatasetConf, ExportConfig, TaskConf, TaskKind
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import rescale, saved
from ssr_exp.runs import trained as trained_networks
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import LAST_CHECKPOINT, Store, module_weights
from ssr_exp.training import fingerprint, fit, learning, opened_study, own_module, run
from ssr_exp.training.own_validation import OwnValidation

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
        ".Lit cannot be called: RuntimeError: no GPU.",
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
    fingerprint._say_once.cache_clear()
    path = Path(str(sys.modules[name].__file__))
    path.write_text(path.read_text().replace("momentum=0.9", "momentum=0.8"))
    linecache.checkcache()
    assert (
        opened_study.open(conf(*words)).name == record.study
    )  # this process runs the code as it was
    opened_study._tried.cache_clear()
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
@pytest.mark.parametrize("data", ["digits", "of its own"])
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
        words += ("dataset=module", f"dataset.target={own(DATA)}.Data")
        words += ("dataset.arguments={channels:1}",)
    whole, state = trained(conf(*words))
    steps, last = [], 60 if data == "digits" else 5

    def killing(*_: object) -> None:
        steps.append(1)
        if len(steps) == last:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "explain", lambda error: (_ for _ in ()).throw(Killed))
        patch.setattr(own_module.NetworkWatch, "on_train_batch_end", killing, raising=False)
        broken = conf(*words, f"paths.runs={conf().paths.runs}2")
        with pytest.raises(Killed):
            run.train(broken)
    record, again = trained(broken)
    assert len(steps) == last and record.scores == whole.scores
    assert all(torch.equal(state[n], again[n]) for n in state)


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
    with pytest.raises(run.RunFailed, match=r"test/share was not logged; these were: .*other"):
        run.train(asked(text, "trainer.test=true", *SMALLER))


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
    assert validation.lost() is None
    assert validation.measure(network) == pytest.approx(record.score)
    assert validation.measure(lambda x: network(x) * 0) < 0.3 < validation.measure(network)
    less = OwnValidation(place, data, network, job.study.score, 8, attributes=("net", "ema"))
    assert less.lost() == "head.weight"
    assert all(torch.equal(t, weights[n]) for n, t in network.state_dict().items())


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
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


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
        ("Failing", (), "Failing.num_classes fails: "),
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
        exports._own_inputs(ExportConfig(), chosen, task, DatasetConf(name="digits"))
    task = TaskConf(TaskKind.module, target="lit.Lit")
    asked = DatasetConf(target="subprocess.Popen", arguments={"args": "false"})
    with pytest.raises(SsrError, match=r"calls subprocess.Popen for its data: type trust=true"):
        exports._own_inputs(ExportConfig(), chosen, task, asked)
