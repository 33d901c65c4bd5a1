"""How long the configurations of a round's networks take to compose, beside Hydra's own loader."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

import ssr_exp
from benchmarks import measure
from benchmarks.measure import Figure
from ssr_exp.app import configuration
from ssr_exp.app.composing import CachingConfigLoader

PART = "composing"
MOST = 0.5  # of Hydra's time
PRESETS = Path(ssr_exp.__file__).parent / "conf"
WORDS = "model=resnet20 dataset=digits recipe=sgd_cosine trainer=cpu logger=disabled".split()


@dataclass(frozen=True)
class Size:
    """How much is measured: the networks of a sweep, each composed once."""

    networks: int = 30
    rounds: int = 9


SMOKE = Size(networks=2, rounds=1)


def measured(size: Size) -> list[Figure]:
    """Compose a sweep's configurations by both, from nothing."""
    configuration.register()
    jobs = [
        [*WORDS, "modifiers=explicit", f"modifiers.network=d3_w{number}"]
        for number in range(size.networks)
    ]
    with hydra.initialize_config_dir(str(PRESETS), version_base="1.3"):
        loader = GlobalHydra.instance().hydra.config_loader
        command = loader.load_configuration("train", [], run_mode=RunMode.MULTIRUN)
        both = _all(CachingConfigLoader(loader), command, jobs), _all(loader, command, jobs)
        assert both[0] == both[1]
        ways = {
            "now": lambda: _all(CachingConfigLoader(loader), command, jobs),
            "hydra": partial(_all, loader, command, jobs),
        }
        contestants = {who: measure.timed(work) for who, work in ways.items()}
        seconds = measure.interleaved(contestants, rounds=size.rounds)
    name = f"{size.networks} networks: over Hydra's loader"
    return [measure.ratio(PART, name, seconds["now"], seconds["hydra"], at_most=MOST)]


def _all(loader: ConfigLoader, command: DictConfig, jobs: list[list[str]]) -> list[DictConfig]:
    return [loader.load_sweep_config(command, job) for job in jobs]
