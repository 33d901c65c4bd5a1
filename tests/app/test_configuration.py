from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass

import pytest
from omegaconf import OmegaConf

from ssr_exp import config
from ssr_exp.app import configuration
from ssr_exp.config import MISSING, Config, DatasetConf, ModelConf
from ssr_exp.errors import SsrError

Compose = Callable[..., Config]


def whole() -> Config:
    return Config(model=ModelConf("resnet8"), dataset=DatasetConf("digits"))


def test_what_is_read_holds_plain_dataclasses(conf: Compose) -> None:
    read = conf("model=resnet20", "segment.frozen=[stage1]", "modifiers.depth=[1,0.5,1]")
    assert all(is_dataclass(getattr(read, f.name)) for f in fields(Config)[:8])
    assert type(read.segment.frozen) is list
    assert read.modifiers.depth == [1.0, 0.5, 1.0]
    assert read.model == ModelConf("resnet20")
    assert read.model.stem is config.Stem.auto


def test_what_is_read_is_what_was_composed_but_for_hydras_keys() -> None:
    composed = OmegaConf.structured(whole())
    OmegaConf.set_struct(composed, False)
    composed.hydra = {"mode": "RUN"}
    assert configuration.read(composed, Config) == whole()


@pytest.mark.parametrize("key", ["model.name", "dataset.name"])
def test_a_value_that_nobody_gave_is_asked_for(key: str) -> None:
    one = whole()
    getattr(one, key.partition(".")[0]).name = MISSING
    with pytest.raises(SsrError, match=f"{key} has no value: type {key}=VALUE"):
        configuration.read(OmegaConf.structured(one), Config)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("model=torchvision", "model.name"),
        ("model=timm", "model.name"),
        ("model=module", "model.target"),
    ],
)
def test_a_source_asks_for_what_names_its_network(conf: Compose, word: str, key: str) -> None:
    with pytest.raises(SsrError, match=f"^{key} has no value: type {key}=VALUE"):
        conf(word)


@pytest.mark.parametrize(
    "words",
    [
        ["model.arguments={width: 32, kernels: [3, 5]}"],
        ["model.arguments.width=32", "model.arguments.kernels=[3,5]"],
        ["+model.arguments.width=32", "+model.arguments.kernels=[3,5]"],
    ],
)
def test_arguments_of_any_name_are_taken(conf: Compose, words: list[str]) -> None:
    model = conf("model=module", "model.target=my.Net", *words).model
    assert model.arguments == {"width": 32, "kernels": [3, 5]}
    assert (model.name, model.target, model.source) == ("my.Net", "my.Net", "module")
    assert type(model.arguments["kernels"]) is list
    labelled = conf("model=module", "model.target=my.Net", "model.name=mine").model
    assert (labelled.name, labelled.target) == ("mine", "my.Net")


@pytest.mark.parametrize("name", ["runs", "data"])
def test_a_home_that_nobody_reads_is_no_folder(name: str) -> None:
    one = whole()
    setattr(one.paths, name, f"~/{name}")
    with pytest.raises(SsrError, match=rf"paths\.{name}=~/{name}: ~ is not read here"):
        configuration.read(OmegaConf.structured(one), Config)


@pytest.mark.parametrize("word", ["recipe.lr=-1", "trainer.max_epochs=0"])
def test_what_a_key_does_not_take_is_refused_where_it_is_read(conf: Compose, word: str) -> None:
    with pytest.raises(SsrError, match="it must be"):
        conf(word)
