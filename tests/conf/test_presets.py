"""Every YAML file below conf/ composes; what it names exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hydra.errors import HydraException

from ssr_exp import config
from ssr_exp.app import configuration
from ssr_exp.config import Config, SearchConfig

Compose = Callable[..., Config]

CONF = Path(__file__).parents[2] / "conf"
PRESETS = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem) for path in CONF.glob("*/**/*.yaml")
)
EXPERIMENTS = [name for group, name in PRESETS if group == "experiment"]
NOT_SCHEMA = {"experiment", "hydra/launcher"}  # groups that are no part of the configuration
NO_PRESETS = {"cap", "budget", "finalists"}  # parts whose keys are typed one by one


NAMELESS = {  # presets that leave a name to the user
    ("model", "torchvision"): ["model.name=mine.Net"],
    ("model", "timm"): ["model.name=mine.Net"],
    ("model", "module"): ["model.target=mine.Net"],
}


def of(group: str) -> set[str]:
    return {name for g, name in PRESETS if g == group}


def parts(schema: type[Config]) -> set[str]:
    return {f.name for f in fields(schema) if f.type.endswith("Conf")}  # type: ignore[union-attr]


SEARCH = parts(SearchConfig) - parts(Config)  # groups of search.py alone
SEARCHES = ["surrogate.scale=log", "objective.kind=best", "runs.kind=url", "rounds=few"]


def entry(group: str) -> str:
    """Name the entry point whose configuration a group is of."""
    return "search" if group in SEARCH else "train"


@pytest.fixture
def compose(conf: Compose) -> Callable[..., Config]:
    """Compose a group's own entry point: `compose("objective", "objective=smallest")`."""
    import hydra

    def read(group: str, *words: str) -> Config:
        if group in SEARCH:
            return configuration.read(hydra.compose("search", [*words]), SearchConfig)
        return conf(*words)

    return read


def test_every_group_is_a_part_of_the_schema_and_every_part_has_presets() -> None:
    groups = {group for group, _ in PRESETS} - NOT_SCHEMA
    assert groups == parts(SearchConfig) - NO_PRESETS
    assert parts(Config) < parts(SearchConfig)
    assert {"surrogate", "acquisition", "objective", "runs", "latency"} | NO_PRESETS == SEARCH


@pytest.mark.parametrize(("group", "name"), PRESETS, ids=["/".join(p) for p in PRESETS])
def test_every_preset_composes(compose: Callable[..., Config], group: str, name: str) -> None:
    read = compose(group, f"{group}={name}", *NAMELESS.get((group, name), ()))
    assert type(read) is (SearchConfig if group in SEARCH else Config)
    if group in ("model", "dataset"):
        assert getattr(read, group).name == ("mine.Net" if (group, name) in NAMELESS else name)


@pytest.mark.parametrize("group", sorted({g for g, _ in PRESETS} - SEARCH))
def test_a_search_takes_every_group_that_a_training_takes(conf: Compose, group: str) -> None:
    import hydra

    words = [f"{group}={min(of(group))}", *NAMELESS.get((group, min(of(group))), ())]
    if group != "modifiers":  # their defaults differ
        words.append("modifiers=random")
    searched = configuration.read(hydra.compose("search", words), SearchConfig)
    trained = configuration.read(hydra.compose("train", words), Config)
    assert {f.name: getattr(searched, f.name) for f in fields(Config)} == vars(trained)


@pytest.mark.parametrize("group", ["acquisition", "objective", "runs"])
def test_every_kind_of_a_search_has_a_preset_and_every_preset_a_kind(
    compose: Callable[..., Config], group: str
) -> None:
    for name in of(group):
        assert getattr(compose(group, f"{group}={name}"), group).kind == name
    assert of(group) == set(type(getattr(SearchConfig(), group).kind))


def test_every_preset_of_a_latency_is_of_its_runtime_or_source(
    compose: Callable[..., Config],
) -> None:
    from ssr_exp.edge.latency import runtimes

    for name in of("latency"):
        read = compose("latency", f"latency={name}").latency  # type: ignore[attr-defined]
        assert name in (read.runtime, read.source)
        assert read.runtime in runtimes.NAMES


def test_a_search_starts_with_the_sentinels_and_is_else_a_training_of_the_same_defaults(
    conf: Compose,
) -> None:
    import hydra

    searched = configuration.read(hydra.compose("search"), SearchConfig)
    trained = configuration.read(hydra.compose("train"), Config)
    assert searched.modifiers == config.ModifiersConf("sentinel_all")
    trained.modifiers = searched.modifiers
    assert searched == SearchConfig(**vars(trained))


def test_the_defaults_compose(conf: Compose) -> None:
    import hydra

    read = configuration.read(hydra.compose("train"), Config)
    assert (read.model.name, read.modifiers.kind) == ("resnet56", "baseline")
    assert read.logger.mode is config.WandbMode.offline
    assert not read.trainer.test


def test_every_seed_network_has_a_preset_and_every_preset_a_network() -> None:
    from ssr_exp.rescaling import seeds

    assert of("model") == set(seeds.names()) | {*config.Source} - {"builtin"}


def test_every_set_of_modifiers_has_a_preset_and_every_preset_a_set(conf: Compose) -> None:
    from ssr_exp.rescaling import sets

    assert of("modifiers") == set(sets.names()) == {*sets.KINDS, sets.PROPOSED}
    for name in of("modifiers"):
        assert conf(f"modifiers={name}").modifiers.kind == name


def test_every_way_to_split_has_a_preset_and_every_preset_a_way(conf: Compose) -> None:
    from ssr_exp.rescaling import segmentations

    assert of("segment") == set(segmentations.KINDS)
    for name in of("segment"):
        assert conf(f"segment={name}").segment.kind == name


def test_names_of_segments_and_patterns_can_be_typed(conf: Compose) -> None:
    read = conf("segment=superblock", "segment.frozen=[3x3:3-16,1x1:64-64g8]").segment
    assert read.frozen == ["3x3:3-16", "1x1:64-64g8"]
    read = conf("segment=manual", "segment.patterns=[layer1.*,layer2.?.conv1,features.0]").segment
    assert read.patterns == ["layer1.*", "layer2.?.conv1", "features.0"]


def test_superblocks_may_have_c_ratios_of_their_own(conf: Compose) -> None:
    word = r"modifiers.c_ratios_of={1x1*:[0.5,1],3x3\:16-16:[0.75]}"
    read = conf("segment=superblock", "modifiers=scbp", word)
    assert read.modifiers.c_ratios_of == {"1x1*": [0.5, 1], "3x3:16-16": [0.75]}


def test_every_data_set_is_known(conf: Compose) -> None:
    from ssr_exp.datasets import sources
    from ssr_exp.errors import SsrError

    with pytest.raises(SsrError, match="unknown data set") as caught:
        sources.pool(config.DatasetConf(name="nothing"), Path("unused"))
    assert of("dataset") == set(str(caught.value).partition("one of ")[2].split(", "))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_a_study_that_can_be_expanded(conf: Compose, name: str) -> None:
    from ssr_exp.rescaling import planning, seeds, sets

    read = conf(f"experiment={name}")
    network = seeds.build(read.model, num_classes=10, input_shape=(3, 32, 32))
    plan = planning.trace(network, (3, 32, 32), multiple=seeds.multiple(read.model))
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


@pytest.mark.parametrize("group", [*GROUPS, *sorted(NO_PRESETS)])
def test_a_typo_in_a_key_is_rejected(compose: Callable[..., Config], group: str) -> None:
    with pytest.raises(HydraException, match="nmae"):
        compose(group, f"{group}.nmae=1")


@pytest.mark.parametrize("group", GROUPS)
def test_a_typo_in_a_preset_is_rejected(tmp_path: Path, group: str) -> None:
    import shutil

    import hydra

    shutil.copytree(CONF, tmp_path / "conf")
    name = min(of(group))
    (tmp_path / "conf" / group / f"{name}.yaml").write_text("nmae: 1\n")
    configuration.register()
    with (
        hydra.initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"),
        pytest.raises(HydraException, match="nmae"),
    ):
        hydra.compose(entry(group), [f"{group}={name}"])


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


@pytest.mark.parametrize("word", SEARCHES)
def test_a_value_of_a_wrong_type_is_rejected_by_a_search(conf: Compose, word: str) -> None:
    import hydra

    with pytest.raises(HydraException, match=word.rpartition("=")[2]):
        hydra.compose("search", [word])


@pytest.mark.parametrize("group", GROUPS)
def test_an_unknown_preset_is_rejected_and_the_known_ones_listed(
    compose: Callable[..., Config], group: str
) -> None:
    with pytest.raises(HydraException) as caught:
        compose(group, f"{group}=nothing")
    assert all(name in str(caught.value) for name in of(group))
