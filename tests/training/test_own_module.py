"""A LightningModule of the user's own trains the rescaled network, or is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ssr_exp.config import Config
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import LAST_CHECKPOINT, Store, module_weights
from ssr_exp.training import fit, own_module, run, study

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


def make():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
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
    network = fit._network(job)
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
    network = fit._network(job)
    module = fit._task(job, network)
    assert module.net is network and module.ema is not network
    copied, kept = dict(module.ema.named_parameters()), dict(module.teacher.named_parameters())
    for name, parameter in network.named_parameters():
        assert torch.equal(copied[name], parameter) and not copied[name].requires_grad
    assert sum(p.numel() for p in kept.values()) > sum(p.numel() for p in copied.values())


def trained_job(conf: Config) -> nn.Module:
    (job,) = run.plan(conf)
    return fit._task(job, fit._network(job))


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
    "a network of several inputs": (
        code(**{"return self.net(x)": "return self.net(input=x)"}),
        (),
        "Lit.net is called with input=..., and what is rescaled takes one tensor",
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
        code("self.last = self.net[9]"),
        SMALLER,
        "Lit holds a part of its network at last, 9, which a smaller network may lack",
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


def test_an_edit_of_the_code_is_another_study_and_a_version_stands_for_it(
    conf: Compose, own: Own
) -> None:
    name = own(code())
    words = (*WORDS, f"task.target={name}.Lit")
    fields = study.open(conf(*words)).fields
    assert [*fields["task"]["code"]] == [name]
    assert "code" not in study.open(conf(*words, "task.version=1")).fields["task"]
    assert fields["recipe"] == {"batch_size": 32, "grad_clip": None, "ema_decay": None}


@pytest.mark.filterwarnings("ignore:Attribute 'net' is an instance of")
def test_a_module_goes_on_after_its_last_epoch_as_if_it_was_never_killed(
    asked: Callable[..., Config], conf: Compose, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its optimizer, schedule and random numbers go on, whatever its hyperparameters are."""
    text = code(
        "self.save_hyperparameters({'net': self.net, 'act': nn.ReLU, 'f': functools.partial(int)})",
        "def on_train_batch_start(self, batch, index): self.drawn = float(torch.rand(()))",
    ).replace("F.cross_entropy(self(x), y)", "F.cross_entropy(self(x), y) * (1 + self.drawn)")
    name = own(text)
    words = (*WORDS, f"task.target={name}.Lit", "trainer.max_epochs=3")
    whole, state = trained(conf(*words))
    steps = []

    class Killed(Exception):
        pass

    def killing(*_: object) -> None:
        steps.append(1)
        if len(steps) == 60:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "_explain", lambda error: (_ for _ in ()).throw(Killed))
        patch.setattr(own_module.NetworkWatch, "on_train_batch_end", killing, raising=False)
        broken = conf(*words, f"paths.runs={conf().paths.runs}2")
        with pytest.raises(Killed):
            run.train(broken)
    record, again = trained(broken)
    assert len(steps) == 60 and record.scores == whole.scores
    assert all(torch.equal(state[n], again[n]) for n in state)


def test_a_run_gives_its_module_back(asked: Callable[..., Config]) -> None:
    conf = asked(code("self.scale = nn.Parameter(torch.ones(3))"), *SMALLER)
    record, state = trained(conf)
    (job,) = run.plan(conf)
    module = own_module.load(run.folder(Store(conf.paths.runs), job))
    assert not module.training and module.state_dict().keys() == state.keys()
    assert all(torch.equal(t, state[n]) for n, t in module.state_dict().items())
    assert sum(p.numel() for p in module.net.parameters()) == record.params


def test_what_no_checkpoint_keeps_is_said_and_then_nothing_goes_on(
    asked: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    more = "def on_save_checkpoint(self, checkpoint): checkpoint['mine'] = object()"
    conf = asked(code("", more), "trainer.max_epochs=2")
    caplog.set_level("INFO")
    trained(conf)
    assert "mine is an object, which no checkpoint keeps: if it is killed, this" in caplog.text
