"""A job's configuration is the one that Hydra composes, whatever was composed before."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
from hydra._internal.hydra import Hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from ssr_exp.app import configuration
from ssr_exp.app.composing import CachingConfigLoader
from tests.conftest import ROOT

PRESETS = "model=resnet20 dataset=digits recipe=sgd_cosine trainer=cpu logger=disabled".split()
LINES = [
    "modifiers=explicit modifiers.network=d1_w16",
    "modifiers=explicit modifiers.network=d2_w8",
    "modifiers=explicit modifiers.network=d2_w8 origin=round1 trainer.precision=32-true",
    "modifiers=explicit modifiers.network=1 seed=3",
    "seed=3 modifiers=explicit modifiers.network=a modifiers.network=b",
    "modifiers=explicit modifiers={network:c,depth:[1,0.5]}",
    "modifiers=sentinel_all recipe=adamw recipe.lr=0.1",
    "recipe.lr=0.1 recipe=adamw modifiers=sentinel_all",
    "++hydra.job_logging.handlers.console.level=25 modifiers=baseline wait=true",
    "+hydra.job.env_set.A=1 hydra.job.name=other modifiers=baseline",
    "hydra/launcher=joblib hydra.launcher.n_jobs=2 modifiers=baseline",
    "+model.arguments.a=1 +model.arguments.b=2 ~model.arguments.a modifiers=baseline",
    "task.name=regression +task.arguments={a:[1,2]} modifiers=baseline",
    "paths.runs=${oc.env:HOME}/${now:%S.%f} modifiers=baseline",
    "trainer.max_epochs=3 trainer={max_epochs:5,devices:1} modifiers=baseline",
    "trainer={max_epochs:5} trainer.max_epochs=3 modifiers=baseline",
    "hydra.job={env_copy:[HOME]} hydra.runtime.cwd=/x modifiers=baseline",
    "+dotted.group=one modifiers=baseline",
]


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    configuration.register()
    with hydra.initialize_config_dir(str(ROOT / "ssr_exp" / "conf"), version_base="1.3"):
        made: Hydra = GlobalHydra.instance().hydra
        yield made.config_loader


@pytest.fixture
def command(loader: ConfigLoader) -> DictConfig:
    words = [*PRESETS, "hydra.job.chdir=false"]
    return loader.load_configuration("train", words, run_mode=RunMode.MULTIRUN)


def held(composed: DictConfig) -> tuple[object, list[tuple[str, object, object]]]:
    """List what a configuration holds, and what of it may be changed."""

    def flags(node: object, path: str = "") -> Iterator[tuple[str, object, object]]:
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            yield path, node._get_flag("struct"), node._get_flag("readonly")
            for key in node:
                yield from flags(node._get_node(key), f"{path}.{key}")

    return OmegaConf.to_container(composed, resolve=False), [*flags(composed)]


def test_it_is_the_one_that_hydra_composes(loader: ConfigLoader, command: DictConfig) -> None:
    ours = CachingConfigLoader(loader)
    for line in [*LINES, *reversed(LINES)]:
        words = [*PRESETS, *line.split()]
        made = ours.load_sweep_config(command, words)
        assert held(made) == held(loader.load_sweep_config(command, words)), line
        with flag_override(made, ["struct", "readonly"], False):  # what a job does with its own
            made.modifiers.network, made.hydra.job.num = "changed", 7
    assert len(ours._cache) < len(LINES)


def test_presets_are_those_of_folders_that_a_word_names(
    loader: ConfigLoader, command: DictConfig, tmp_path: Path
) -> None:
    for group in ("my.group", "recipe"):
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    ours = CachingConfigLoader(loader)
    for choice in ("+my.group=mine", "recipe=mine", "seed=1 recipe=mine"):
        words = [*PRESETS, f"hydra.searchpath=[file://{tmp_path}]", *choice.split()]
        made = ours.load_sweep_config(command, words)
        assert held(made) == held(loader.load_sweep_config(command, words))
        assert made.seed == (1 if "seed=1" in words else 7)


def test_what_is_now_is_of_the_command(loader: ConfigLoader, command: DictConfig) -> None:
    ours, words = CachingConfigLoader(loader), [*PRESETS, "paths.runs=${now:%S.%f}"]
    OmegaConf.update(command, "paths.runs", "${now:%S.%f}")
    now = command.paths.runs
    assert ours.load_sweep_config(command, words).paths.runs == now
    assert ours.load_sweep_config(command, [*words, "seed=1"]).paths.runs == now


@pytest.mark.parametrize(
    "line", ["seed=1,2", "model.nme=resnet8", "modifiers=no_such", "seed=a=", "~recipe.lr"]
)
def test_what_hydra_refuses_is_refused_in_its_words(
    loader: ConfigLoader, command: DictConfig, line: str
) -> None:
    said = []
    for one in (loader, CachingConfigLoader(loader)):
        with pytest.raises(Exception) as caught:  # of Hydra, each of its own class
            one.load_sweep_config(command, [*PRESETS, line])
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]


def test_it_travels_to_a_launchers_process(loader: ConfigLoader, command: DictConfig) -> None:
    ours, words = CachingConfigLoader(loader), [*PRESETS, "seed=1"]
    made = ours.load_sweep_config(command, words)
    sent = pickle.dumps(ours)
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)._cache)"
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.split() == [b"{}"]  # where no plugin of Hydra's is loaded yet
    assert held(pickle.loads(sent).load_sweep_config(command, words)) == held(made)
