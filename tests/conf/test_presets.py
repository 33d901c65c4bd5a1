"""Every YAML file below conf/ composes; what it names exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hydra.errors import HydraException

from ssr_exp import config
from ssr_exp.config import Config

Compose = Callable[..., Config]

CONF = Path(__file__).parents[2] / "conf"
PRESETS = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem) for path in CONF.glob("*/**/*.yaml")
)
EXPERIMENTS = [name for group, name in PRESETS if group == "experiment"]
NOT_SCHEMA = {"experiment"}  # groups that are no part of the configuration


def of(group: str) -> set[str]:
    return {name for g, name in PRESETS if g == group}


def test_every_group_is_a_part_of_the_schema_and_every_part_has_presets() -> None:
    groups = {group for group, _ in PRESETS} - NOT_SCHEMA
    parts = {f.name for f in fields(Config) if f.type.endswith("Conf")}  # type: ignore[union-attr]
    assert groups == parts


@pytest.mark.parametrize(("group", "name"), PRESETS, ids=["/".join(p) for p in PRESETS])
def test_every_preset_composes(conf: Compose, group: str, name: str) -> None:
    read = conf(f"{group}={name}")
    assert isinstance(read, Config)
    assert group not in ("model", "dataset") or getattr(read, group).name == name


def test_the_defaults_compose(conf: Compose) -> None:
    import hydra

    read = config.read(hydra.compose("train"))
    assert (read.model.name, read.modifiers.kind) == ("resnet56", "baseline")
    assert read.logger.mode is config.WandbMode.offline
    assert not read.trainer.test


def test_every_seed_network_has_a_preset_and_every_preset_a_network() -> None:
    from ssr_exp.rescaling import seeds

    assert of("model") == set(seeds.names())


def test_every_set_of_modifiers_has_a_preset_and_every_preset_a_set(conf: Compose) -> None:
    from ssr_exp.rescaling import sets

    assert of("modifiers") == set(sets.KINDS)
    for name in of("modifiers"):
        assert conf(f"modifiers={name}").modifiers.kind == name


def test_every_data_set_is_known(conf: Compose) -> None:
    from ssr_exp.errors import SsrError
    from ssr_exp.training import sources

    with pytest.raises(SsrError, match="unknown data set") as caught:
        sources.pool(config.DatasetConf(name="nothing"), Path("unused"))
    assert of("dataset") == set(str(caught.value).partition("one of ")[2].split(", "))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_a_study_that_can_be_expanded(conf: Compose, name: str) -> None:
    from ssr_exp.rescaling import seeds, segments, sets

    read = conf(f"experiment={name}")
    network = seeds.build(read.model, num_classes=10, input_shape=(3, 32, 32))
    plan = segments.find(network, (3, 32, 32), multiple=seeds.multiple(read.model.name))
    assert sets.expand(plan, read.modifiers)


def test_an_experiment_gives_way_to_the_command_line(conf: Compose) -> None:
    read = conf("experiment=demo", "trainer.max_epochs=3", "model=resnet8", "recipe.lr=0.5")
    assert (read.trainer.max_epochs, read.model.name, read.recipe.lr) == (3, "resnet8", 0.5)
    assert read.recipe.batch_size == 64


def test_the_gpu_preset_is_not_repeatable_and_says_so(conf: Compose) -> None:
    trainer = conf("trainer=gpu").trainer
    assert trainer.precision == "bf16-mixed"
    assert trainer.compile and not trainer.deterministic


GROUPS = sorted({group for group, _ in PRESETS} - NOT_SCHEMA)


@pytest.mark.parametrize("group", GROUPS)
def test_a_typo_in_a_key_is_rejected(conf: Compose, group: str) -> None:
    with pytest.raises(HydraException, match="nmae"):
        conf(f"{group}.nmae=1")


@pytest.mark.parametrize("group", GROUPS)
def test_a_typo_in_a_preset_is_rejected(tmp_path: Path, group: str) -> None:
    import shutil

    import hydra

    shutil.copytree(CONF, tmp_path / "conf")
    name = min(of(group))
    (tmp_path / "conf" / group / f"{name}.yaml").write_text("nmae: 1\n")
    config.register()
    with (
        hydra.initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"),
        pytest.raises(HydraException, match="nmae"),
    ):
        hydra.compose("train", [f"{group}={name}"])


@pytest.mark.parametrize(
    "word",
    [
        "trainer.max_epochs=many",
        "recipe.optimizer=adam",
        "recipe.schedule=exponential",
        "model.stem=tiny",
        "model.shortcut=C",
        "logger.mode=on",
        "dataset.flip=sometimes",
        "modifiers.width=[a]",
        "recipe.lr=fast",
    ],
)
def test_a_value_of_a_wrong_type_is_rejected(conf: Compose, word: str) -> None:
    with pytest.raises(HydraException, match=word.rpartition("=")[2].strip("[]")):
        conf(word)


@pytest.mark.parametrize("group", GROUPS)
def test_an_unknown_preset_is_rejected_and_the_known_ones_listed(conf: Compose, group: str) -> None:
    with pytest.raises(HydraException) as caught:
        conf(f"{group}=nothing")
    assert all(name in str(caught.value) for name in of(group))
