"""Every YAML file below conf/ composes; what it names exists."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssr_exp import config
from ssr_exp.app import configuration
from ssr_exp.app.command_line import overrides
from ssr_exp.config import Config, SearchConfig

Compose = Callable[..., Any]

CONF = Path(__file__).parents[2] / "ssr_exp" / "conf"
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
    ("task", "module"): [
        "task.target=mine.Lit",
        "task.score.key=val/x",
        "task.score.direction=max",
    ],
    ("dataset", "module"): ["dataset.target=mine.Data"],
}


def names(group: str) -> set[str]:
    return {name for g, name in PRESETS if g == group}


def parts(schema: type[Config]) -> set[str]:
    return {f.name for f in fields(schema) if f.type.endswith("Conf")}  # type: ignore[union-attr]


SEARCH = parts(SearchConfig) - parts(Config)  # groups of search.py alone
GROUPS = sorted({group for group, _ in PRESETS} - NOT_SCHEMA)
ROWS = range(4, max(len(names(group)) for group in GROUPS))  # beyond those of most groups


def words_of_row(row: int, groups: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Name one preset of each group, and after the last one the first again."""
    chosen = [(group, sorted(names(group))[row % len(names(group))]) for group in groups]
    return {one: [f"{one[0]}={one[1]}", *NAMELESS.get(one, ())] for one in chosen}


@pytest.fixture
def compose() -> Iterator[Compose]:
    """Compose a search's configuration, or a training's: `compose("model=resnet8")`."""
    configuration.register()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *words, command="search": configuration.read(
            hydra.compose(command, [*words]), config.SCHEMAS[command]
        )


def test_every_group_is_a_part_of_the_schema_and_every_part_has_presets() -> None:
    assert set(GROUPS) == parts(SearchConfig) - NO_PRESETS
    assert parts(Config) < parts(SearchConfig)
    assert {"surrogate", "acquisition", "objective", "runs", "latency"} | NO_PRESETS == SEARCH


@pytest.mark.parametrize(
    "row", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in ROWS)]
)
def test_every_preset_composes(compose: Compose, row: int) -> None:
    words = words_of_row(row, GROUPS)
    read = compose(*itertools.chain(*words.values()))
    for group, name in words:
        part = getattr(read, group)
        if group == "model" and ("task", "module") in words:
            assert part.name == "Lit"  # which brings its network
        elif group in ("model", "dataset"):
            typed = NAMELESS.get((group, name), [f"={name}"])[0].partition("=")[2]
            assert part.name == (typed.removeprefix("mine.") if group == "dataset" else typed)
        if group in ("modifiers", "segment", "acquisition", "objective", "runs"):
            assert part.kind == name
        if group == "latency":
            assert name in (part.runtime, part.source)


def test_a_search_takes_every_group_that_a_training_takes(compose: Compose) -> None:
    words = [*itertools.chain(*words_of_row(0, sorted(set(GROUPS) - SEARCH)).values())]
    searched, trained = compose(*words), compose(*words, command="train")
    assert {f.name: getattr(searched, f.name) for f in fields(Config)} == vars(trained)


def test_a_search_starts_with_the_sentinels_and_is_else_a_training_of_the_same_defaults(
    compose: Compose,
) -> None:
    searched, trained = compose(), compose(command="train")
    assert (trained.model.name, trained.modifiers.kind) == ("resnet56", "baseline")
    assert trained.logger.mode is config.WandbMode.offline
    assert not trained.trainer.test
    assert searched.modifiers == config.ModifiersConf("sentinel_all")
    trained.modifiers = searched.modifiers
    assert searched == SearchConfig(**vars(trained))


def test_every_kind_has_a_preset_and_every_preset_a_kind() -> None:
    from ssr_exp.datasets import sources
    from ssr_exp.edge.latency import runtimes
    from ssr_exp.errors import SsrError
    from ssr_exp.rescaling import seeds, segmentations, sets

    for group in ("acquisition", "objective", "runs"):
        assert names(group) == set(type(getattr(SearchConfig(), group).kind))
    assert names("latency") < {*runtimes.NAMES, *config.LatencySource}
    assert names("model") == set(seeds.names()) | {*config.Source} - {"builtin"}
    assert names("modifiers") == set(sets.names()) == {*sets.KINDS, sets.PROPOSED}
    assert names("segment") == set(segmentations.KINDS)
    with pytest.raises(SsrError, match="unknown data set") as caught:
        sources.pool(config.DatasetConf(name="nothing"), Path("unused"))
    assert names("dataset") == set(str(caught.value).partition("one of ")[2].split(", "))


def test_lists_patterns_and_keys_of_any_name_can_be_typed(compose: Compose) -> None:
    frozen = "segment.frozen=[3x3:3-16,1x1:64-64g8]"
    ratios = r"modifiers.c_ratios_of={1x1*:[0.5,1],3x3\:16-16:[0.75]}"
    read = compose(
        *("segment=superblock", frozen, "modifiers=scbp", ratios),
        *("runs=wandb", "runs.filters={state: finished}"),
        "segment.patterns=[layer1.*,layer2.?.conv1,features.0]",
    )
    assert read.segment.frozen == ["3x3:3-16", "1x1:64-64g8"]
    assert read.segment.patterns == ["layer1.*", "layer2.?.conv1", "features.0"]
    assert read.modifiers.c_ratios_of == {"1x1*": [0.5, 1], "3x3:16-16": [0.75]}
    assert read.runs.filters == {"state": "finished"}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_a_study_that_can_be_expanded(compose: Compose, name: str) -> None:
    from ssr_exp.rescaling import planning, seeds, sets

    read = compose(f"experiment={name}")
    network = seeds.build(read.model, num_classes=10, input_shape=(3, 32, 32))
    plan = planning.trace(network, (3, 32, 32), multiple=seeds.multiple(read.model))
    assert sets.expand(plan, read.modifiers)


def test_an_experiment_gives_way_to_the_command_line(compose: Compose) -> None:
    read = compose("experiment=demo", "trainer.max_epochs=3", "model=resnet8", "recipe.lr=0.5")
    assert (read.trainer.max_epochs, read.model.name, read.recipe.lr) == (3, "resnet8", 0.5)
    assert read.recipe.batch_size == 64


def test_the_gpu_preset_is_not_repeatable_and_says_so(compose: Compose) -> None:
    trainer = compose("trainer=gpu").trainer
    assert trainer.precision == "bf16-mixed"
    assert trainer.compile and not trainer.deterministic


@pytest.mark.parametrize("group", sorted(parts(SearchConfig)))
def test_a_typo_in_a_key_or_a_preset_is_rejected(group: str) -> None:
    part = OmegaConf.structured(SearchConfig)[group]
    with pytest.raises(OmegaConfBaseException, match="nmae"):
        OmegaConf.update(part, "nmae", 1)
    with pytest.raises(OmegaConfBaseException, match="nmae"):
        OmegaConf.merge(part, {"nmae": 1})


def test_what_the_schema_rejects_hydra_rejects(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(HydraException, match="nmae"):
        compose("model.nmae=1")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("nmae: 1\n")
    with pytest.raises(HydraException, match="nmae"):
        compose(f"hydra.searchpath=[file://{tmp_path}]", "model=mine")


WRONG = """trainer.max_epochs=many recipe.optimizer=adam recipe.schedule=exponential model.stem=tiny
model.shortcut=C logger.mode=on dataset.flip=sometimes modifiers.width=[a] recipe.lr=fast
surrogate.scale=cubic objective.kind=best runs.kind=url rounds=few"""


@pytest.mark.parametrize("word", WRONG.split())
def test_a_value_of_a_wrong_type_is_rejected(word: str) -> None:
    (override,) = overrides.parse([word])
    with pytest.raises(OmegaConfBaseException, match=override.get_value_string().strip("[]")):
        OmegaConf.update(
            OmegaConf.structured(SearchConfig), override.key_or_group, override.value()
        )


@pytest.mark.parametrize("group", ["model", "runs"])
def test_an_unknown_preset_is_rejected_and_the_known_ones_listed(
    compose: Compose, group: str
) -> None:
    with pytest.raises(HydraException) as caught:
        compose(f"{group}=nothing")
    assert all(name in str(caught.value) for name in names(group))
