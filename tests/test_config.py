from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from ssr_exp import config
from ssr_exp.config import Config, DatasetConf, ModelConf, SearchConfig
from ssr_exp.errors import SsrError

Compose = Callable[..., Config]


def whole() -> Config:
    return Config(model=ModelConf("resnet8"), dataset=DatasetConf("digits"))


def test_what_is_read_is_what_was_composed() -> None:
    assert config.read(OmegaConf.structured(whole()), Config) == whole()


def test_what_is_read_holds_plain_dataclasses(conf: Compose) -> None:
    read = conf("model=resnet20", "segment.frozen=[stage1]", "modifiers.depth=[1,0.5,1]")
    assert all(is_dataclass(getattr(read, f.name)) for f in fields(Config)[:8])
    assert type(read.segment.frozen) is list
    assert read.modifiers.depth == [1.0, 0.5, 1.0]
    assert read.model == ModelConf("resnet20")
    assert read.model.stem is config.Stem.auto


def test_hydras_own_keys_are_left_out() -> None:
    composed = OmegaConf.merge(OmegaConf.structured(whole()))
    OmegaConf.set_struct(composed, False)
    composed.hydra = {"mode": "RUN"}
    assert config.read(composed, Config) == whole()


@pytest.mark.parametrize("key", ["model.name", "dataset.name"])
def test_a_value_that_nobody_gave_is_asked_for(key: str) -> None:
    one = whole()
    getattr(one, key.partition(".")[0]).name = MISSING
    with pytest.raises(SsrError, match=f"{key} has no value: type {key}=VALUE"):
        config.read(OmegaConf.structured(one), Config)


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


def test_a_label_of_ones_own_can_be_given(conf: Compose) -> None:
    model = conf("model=module", "model.target=my.Net", "model.name=mine").model
    assert (model.name, model.target) == ("mine", "my.Net")


def test_filters_of_any_name_are_taken(conf: Compose) -> None:
    import hydra

    words = ["runs=wandb", "runs.filters={state: finished}"]
    assert config.read(hydra.compose("search", words), SearchConfig).runs.filters == {
        "state": "finished"
    }


def test_the_schema_is_known_to_hydra() -> None:
    config.register()
    assert "schema.yaml" in ConfigStore.instance().list("")


def test_defaults_are_not_shared_between_configurations() -> None:
    one, other = whole(), whole()
    one.logger.tags.append("mine")
    one.modifiers.fractions.clear()
    assert other == whole()


def test_a_configuration_is_plain_data() -> None:
    import json

    assert json.loads(json.dumps(asdict(whole())))["recipe"]["schedule"] == "cosine"


def test_the_schema_imports_neither_torch_nor_lightning() -> None:
    code = "import sys, ssr_exp.config, ssr_exp.errors; print(*sys.modules)"
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert not {"torch", "lightning", "wandb", "numpy", "botorch"} & set(done.stdout.split())
