"""Configurations that someone mistyped, as a command line or as a composed container."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from random import Random
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from ssr_exp.app import configuration
from ssr_exp.config import SCHEMAS, Config
from tests.fuzz import mutate

WORDS = """seed=1; model.name=resnet20; modifiers.depth=[1,0.5,1]; model.arguments={width:32};
+model.arguments.kernels=[3,5]; ~recipe.grad_clip; recipe.lr=0.1; model=torchvision;
recipe.optimizer=adamw; dataset.root='a b'; trainer.max_epochs=1; paths.runs=${paths.data};
logger.tags=[a,b]; modifiers.c_ratios_of={1x1*:[0.75,1]}; cap.params=40%; format=onnx,executorch;
hydra.mode=MULTIRUN; ++hydra.sweeper.params={seed:0}"""
WORDS = tuple(word.strip() for word in WORDS.split(";"))


class NotComposedError(Exception):
    """Hydra or OmegaConf stopped before anything of ours was called."""


def refused() -> tuple[type[Exception], ...]:
    """List the errors of our own, of Hydra and of OmegaConf that say what is wrong."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from ssr_exp.errors import SsrError

    return SsrError, HydraException, OmegaConfBaseException, NotComposedError


def make(rng: Random) -> bytes:
    """Draw a schema with damaged values, and damaged overrides of it."""
    name = rng.choice(list(SCHEMAS))
    words = [_word(rng) for _ in range(rng.choice((0, 1, 1, 2)))]
    held = _plain(name)
    damaged = mutate.tree(held, rng) if not words or rng.random() < 0.5 else held
    return mutate.text({"schema": name, "container": damaged, "words": words})


def _word(rng: Random) -> str:
    word = rng.choice(WORDS)
    if rng.random() < 0.5:
        key = word.partition("=")[0]
        return f"{key}={rng.choice((*mutate.STRINGS, *map(str, mutate.NUMBERS)))}"
    damaged = mutate.content(word.encode(), rng, lambda: rng.choice(WORDS).encode())
    return damaged.decode("utf-8", "replace")


def read(data: bytes) -> None:
    """Parse the words, put them into the container, and read it against its schema."""
    from ssr_exp.rescaling import sets

    held = json.loads(data)
    try:
        composed = OmegaConf.create(held["container"])
        for override in OverridesParser.create().parse_overrides(held["words"]):
            if not override.is_sweep_override() and not override.is_delete():
                OmegaConf.update(composed, override.key_or_group, override.value())
    except (ValueError, OverflowError, RecursionError, AssertionError) as error:
        raise NotComposedError(repr(error)) from None
    conf = configuration.read(composed, SCHEMAS[held["schema"]])
    asdict(conf)
    if isinstance(conf, Config):
        sets.check(conf.modifiers)


@lru_cache
def _plain(name: str) -> Any:
    held = OmegaConf.structured(SCHEMAS[name])
    if name in ("train", "search"):
        held.model.name, held.dataset.name = "resnet20", "digits"
    return OmegaConf.to_container(held, enum_to_str=True)
