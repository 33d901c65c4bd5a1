"""A study of a part: what cannot be traced as a whole is trained as one, with its part rescaled."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from detecting import Detector, pictures, step
from telling import finish, refused
from torch import nn
from torchvision.models import detection

from ssr_exp import Score, Study
from ssr_exp.rescaling import cost, saved
from ssr_exp.rescaling.inputs import Inputs
from ssr_exp.training.candidate import Candidate

ROOT = Path(__file__).parents[1]
Begin = Callable[..., Study]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Begin a study of a detector's backbone, or go on with it."""
    usual: dict[str, Any] = {
        "name": "boxes",
        "network": "backbone",
        "score": Score("map", "max", bounds=(0, 1)),
        "runs": tmp_path,
        "max_drop": 0.1,
        "multiple": 4,
        "sentinels": "sentinel_width",
        "rounds": 1,
        "batch": 1,
    }

    def begin(make: Any = Detector, inputs: Any = None, **more: Any) -> Study:
        return Study(make, pictures() if inputs is None else inputs, **(usual | more))

    return begin


def ask(study: Study) -> Candidate:
    candidate = study.ask()
    assert isinstance(candidate, Candidate)
    return candidate


def same(one: nn.Module, other: nn.Module) -> bool:
    here, there = one.state_dict(), other.state_dict()
    return here.keys() == there.keys() and all(torch.equal(here[n], there[n]) for n in here)


def test_candidates_are_whole_networks_that_train(begin: Begin, tmp_path: Path) -> None:
    study = begin()
    candidates = finish(study, step)
    assert len(candidates) == 5 and {type(c.network) for c in candidates} == {Detector}
    heads = {c.network.head.in_channels for c in candidates}
    assert len(heads) > 1 and {c.network.rest.in_features for c in candidates} == {4}
    rest = sum(p.numel() for p in Detector().rest.parameters())
    for c in candidates:
        assert sum(p.numel() for p in c.network.parameters()) == c.cost.params + rest
        architecture = study._asking.search.space.parse(c.code)
        assert cost.count_one(study.plan, architecture) == c.cost
    answer = study.answer()
    assert answer.cost.params < answer.baseline_cost.params
    (told,) = [c for c in candidates if c.code == answer.code]
    loaded = study.trained(answer.code)
    assert same(loaded, told.network) and not loaded.training
    loaded(pictures())
    assert answer.folder is not None
    assert same(saved.load(answer.folder), told.network)
    about = saved.read(answer.folder)
    assert about.part is not None and about.part.path == "backbone"
    assert about.model.name == "detecting.Detector" and about.input_shape == (3, 16, 16)
    assert "print(network)" in (answer.folder / "load.py").read_text()
    assert study.page(tmp_path / "page.html").exists()


def test_what_is_beside_the_part_is_drawn_by_the_seed(begin: Begin) -> None:
    study = begin()
    candidate = ask(study)
    assert candidate.network.training and same(candidate.network, study.network(candidate.code))
    torch.manual_seed(7)
    assert same(candidate.network, study.network(candidate.code))
    other = study.network(candidate.code, seed=1)
    for name in ("backbone.0.0.weight", "head.weight", "rest.weight"):
        assert not torch.equal(other.state_dict()[name], candidate.network.state_dict()[name])
    torch.manual_seed(0)
    assert torch.equal(Detector().rest.weight, candidate.network.rest.weight)


def trained_before() -> nn.Module:
    """A backbone that was trained, with a head that was not, as torchvision gives it."""
    whole = Detector()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        whole.backbone.load_state_dict(Detector().backbone.state_dict())
    return whole


def test_a_baseline_that_inherits_is_the_network_itself(
    begin: Begin, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    begin(trained_before, runs=tmp_path / "fresh")
    assert "make_network() gives trained weights of backbone, and every" in caplog.text
    study = begin(trained_before, init="inherit")
    baseline = ask(study)
    torch.manual_seed(0)
    whole = trained_before()
    assert same(baseline.network, whole)
    first, other = baseline.network.eval()(pictures()), whole.eval()(pictures())
    assert all(torch.equal(a[n], b[n]) for a, b in zip(first, other, strict=True) for n in a)
    study.tell(baseline, step(baseline) if baseline.network.train() else 0)
    small = study.network(ask(study).code)
    kept = small.state_dict()["backbone.0.0.weight"]
    own = whole.state_dict()["backbone.0.0.weight"]
    assert all(any(torch.equal(row, each) for each in own) for row in kept)
    assert "start from weights that were trained before" in refused(
        lambda: Study.open("boxes", runs=tmp_path, trust=True)
    )
    assert "are drawn anew" in refused(lambda: begin(init="inherit", name="other"))


def test_a_list_of_images_without_the_part_that_is_rescaled_says_what_to_pass(begin: Begin) -> None:
    said = refused(lambda: begin(network=None))
    assert "cannot be a list" in said
    assert "pass network=, with one of backbone, head, score, rest, or a path inside" in said
    assert "network=" not in refused(lambda: begin(inputs=["a"], network=None))


def trained_in_part() -> nn.Module:
    """A backbone of which the first layers were trained, and the last are new."""
    whole, new = trained_before(), Detector().backbone[3]
    whole.backbone[3] = new
    return whole


def test_what_is_new_in_a_trained_part_is_drawn_and_named(
    begin: Begin, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO")
    begin(trained_in_part, runs=tmp_path / "fresh")
    assert "make_network() gives trained weights of backbone, and every" in caplog.text
    study = begin(trained_in_part, init="inherit")
    assert "drawn anew: backbone.3.0.weight." in caplog.text
    baseline, own = ask(study), trained_before().state_dict()
    first, second = (study.network(baseline.code, seed=seed).state_dict() for seed in (0, 1))
    for name in ("backbone.0.0.weight", "backbone.2.0.weight"):
        assert torch.equal(first[name], own[name]) and torch.equal(second[name], own[name])
    drawn = "backbone.3.0.weight"
    assert not torch.equal(first[drawn], own[drawn])
    assert not torch.equal(first[drawn], second[drawn])
    begin(trained_in_part, init="inherit")  # its fingerprint is of what is the same each time


def test_weights_are_those_of_the_whole(begin: Begin) -> None:
    study = begin()
    baseline, other = ask(study), ask(study)
    part = baseline.network.backbone.state_dict()
    assert "do not fit this network" in refused(lambda: study.tell(baseline, 0.5, weights=part))
    assert "do not fit" in refused(lambda: study.tell(other, 0.5, weights=baseline.network))
    assert not study.records()
    study.tell(baseline, 0.5, weights=Detector())
    study.trained(baseline.code)(pictures())


def test_remarks_say_whose_costs_are_counted(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    study = begin()
    assert study.plan.remarks[0].startswith("costs are those of backbone and of the layers that")
    assert "does not train on its example inputs (ValueError: targets are needed" in caplog.text
    caplog.clear()
    begin(inputs=Inputs((pictures(),), {"targets": torch.zeros(2, 4)}), name="targets")
    assert "does not train" not in caplog.text


def test_the_study_says_its_part_and_another_one_is_refused(begin: Begin) -> None:
    study = begin()
    ask(study)
    fields = json.loads((study.folder / "study.json").read_text())["model"]
    assert (fields["part"], fields["readers"]) == ("backbone", ["score", "head"])
    begin()
    text = refused(lambda: begin(network="backbone.2"))
    assert "model.part is backbone there and backbone.2 here" in text


def test_a_study_is_opened_by_its_name(begin: Begin, tmp_path: Path) -> None:
    study = begin()
    first = ask(study)
    study.tell(first, step(first))
    opened = Study.open("boxes", runs=tmp_path)
    assert same(opened.trained(first.code), first.network)
    assert opened.plan.segments == study.plan.segments
    assert opened.plan.remarks == study.plan.remarks
    finish(opened, step)
    assert opened.answer().code == study.answer().code


@pytest.mark.slow
def test_commands_go_on_with_it(
    begin: Begin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(script: str, *words: str) -> str:
        where = [f"paths.runs={tmp_path}", f"hydra.run.dir={tmp_path / 'hydra'}"]
        monkeypatch.setattr(sys, "argv", [script, *words, *where])
        with pytest.raises(SystemExit) if script == "export.py" else nullcontext() as stop:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        said = "" if stop is None else str(stop.value)
        return said + "".join(capsys.readouterr())

    study = begin()
    baseline = ask(study)
    study.tell(baseline, step(baseline))
    less = "rounds=1 batch=1 finalists.seeds=0 modifiers=sentinel_width logger=disabled".split()
    run("search.py", "study=boxes", "task.target=detecting.step", *less)
    assert len(study.records()) == 5 and all(r.score for r in study.records())
    assert all(study.trained(r.network) for r in study.records())
    run("report.py")
    assert "of which backbone was rescaled" in run("export.py", "study=boxes", "trust=true")


class Traceless(Detector):
    """Whatever holds its backbone decides by values, as it does itself."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(self.backbone, Gate())


class Gate(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.mean() > 0 else -x


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"network": "backbones"}, "Detector has no part 'backbones': name one that it has, such"),
        ({"network": ""}, "Detector has no part ''"),
        ({"network": "backbone.0.1.x"}, "has no part"),
        ({"network": "rest"}, "cannot be rescaled|nothing|no segment"),
        ({"inputs": torch.zeros(3)}, "Detector does not run on its example inputs"),
        ({"inputs": 3}, "example inputs cannot be a int"),
        ({"make": Traceless}, "cannot be traced: it decides in its module backbone.1 by"),
        ({"network": None, "inputs": Inputs((pictures(),))}, "one of backbone, head, score, rest"),
        ({"frozen": ["stem"]}, "there is no segment 'stem' to freeze"),
        ({"network": "backbone.1.0", "multiple": 64}, "nothing of Detector.backbone.1.0 can be"),
        ({"options": {"objective.cost": "latency_ms"}}, "backbone alone is known"),
    ],
)
def test_what_cannot_be_begun_says_why(begin: Begin, more: dict[str, Any], said: str) -> None:
    text = refused(lambda: begin(**more))
    assert any(each in text for each in said.split("|")), text
    assert "NetworkPart" not in text


def test_a_whole_that_is_no_detector_is_given_a_shape(begin: Begin) -> None:
    def make() -> nn.Module:
        return nn.Sequential(Detector().backbone, nn.Conv2d(32, 4, 1), Gate())

    study = begin(make, (3, 16, 16), network="0")
    assert study.network(study._asking.search.space.code(study.plan.smallest))[1].in_channels == 4


def ssdlite() -> nn.Module:
    return detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    )


@pytest.mark.slow
@pytest.mark.more
def test_a_detector_of_torchvision_is_searched(begin: Begin, tmp_path: Path) -> None:
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]
    target = {"boxes": torch.tensor([[5.0, 5.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    study = begin(
        ssdlite,
        Inputs((images, [target, target])),
        together=1,
        multiple=8,
        options={"segment.width_steps": 4},
    )
    told: dict[str, Candidate] = {}
    while candidate := study.ask():
        if len(told) < 4 or candidate.origin != "sentinel_width":
            loss = sum(candidate.network(images, [target] * 2).values())
            loss.backward()
            torch.optim.SGD(candidate.network.parameters(), lr=0.001).step()
            assert loss.isfinite()
            told[candidate.code] = candidate
        study.tell(candidate, 0.3 + candidate.cost.params / 1e8, weights=candidate.code in told)
    answer = study.answer()
    assert answer.cost.params < answer.baseline_cost.params
    found = study.trained(answer.code) if answer.folder else study.network(answer.code).eval()
    assert all({*each} == {"boxes", "scores", "labels"} for each in found(images))
    assert study.page(tmp_path / "page.html").exists()
