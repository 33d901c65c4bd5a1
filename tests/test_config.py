from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from ssr_exp import config
from ssr_exp.config import Config, DatasetConf, ModelConf
from ssr_exp.errors import SsrError


def whole() -> Config:
    return Config(model=ModelConf("resnet8"), dataset=DatasetConf("digits"))


def test_defaults_are_not_shared_between_configurations() -> None:
    one, other = whole(), whole()
    one.logger.tags.append("mine")
    one.modifiers.fractions.clear()
    assert other == whole()


def test_a_configuration_is_plain_data() -> None:
    assert json.loads(json.dumps(asdict(whole())))["recipe"]["schedule"] == "cosine"


def test_the_schema_imports_no_framework() -> None:
    code = "import sys, ssr_exp.config, ssr_exp.errors; print(*sys.modules)"
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    heavy = {"torch", "lightning", "wandb", "numpy", "botorch", "hydra", "omegaconf"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("schema", config.SCHEMAS.values())
def test_every_default_is_allowed(schema: type[Any]) -> None:
    config.check(schema())


BAD = {  # by what is allowed
    "1 or more": dict.fromkeys(
        "recipe.batch_size trainer.max_epochs batch acquisition.prefilter acquisition.samples "
        "latency.repeats latency.batch latency.threads finalists.count dataset.num_ops "
        "trainer.devices".split(),
        0,
    ),
    "1 or more, or null": dict.fromkeys(
        ["trainer.threads", "budget.runs", "budget.epochs", "finalists.epochs"], 0
    ),
    "0 or more": dict.fromkeys(
        [
            "dataset.crop_padding",
            "dataset.cutout",
            "dataset.skip_corrupt",
            "finalists.seeds",
            "finalists.retries",
            "rounds",
        ],
        -1,
    ),
    "0 or more, and finite": {
        "recipe.weight_decay": math.inf,
        "recipe.warmup_epochs": math.inf,
        "min_gain": math.nan,
        "dataset.mixup": -0.2,
        "dataset.cutmix": math.inf,
    },
    "0 or more, or null": {"trainer.workers": -1},
    "from 0 to 180": {"dataset.rotation": 181.0},
    "from 0 to 30": {"dataset.magnitude": 31},
    "0 or more, and finite, or null": {"budget.hours": -1.0},
    "above 0, and finite": {
        "recipe.lr": 0.0,
        "recipe.gamma": -0.1,
        "recipe.distill_temperature": math.inf,
        "runs.timeout_s": math.nan,
        "logger.timeout_s": 0.0,
    },
    "above 0, and finite, or null": {"recipe.grad_clip": 0.0},
    "above 0 and below 1, such as 0.8 for 80 %": {"objective.confidence": 1.0},
    "from 0 to 1": {
        "recipe.distill_weight": 1.5,
        "task.dice": -0.1,
        "dataset.erasing": 1.1,
        "dataset.memory": -0.5,
    },
    "above 0, and at most 1": {"dataset.crop_share": 0.0},
    "shares of the training, from 0 to 1, such as [0.5,0.75]": {"recipe.milestones": [100, 150]},
    "auto, true or false": {"dataset.stream": "maybe"},
    "ddp or ddp_find_unused_parameters_true": {"trainer.strategy": "fsdp"},
    "from 0 to 255, or null": {"task.ignore_index": 256},
    "from 0 to below 1": {"recipe.momentum": 1.0, "recipe.label_smoothing": -0.1},
    "from 0 to below 1, or null": {"recipe.ema_decay": 1.0},
    "between 0 and 4294967295": {
        "seed": 2**32,
        "dataset.split_seed": -1,
        "modifiers.draw_seed": -1,
    },
    "max or min, or null": {"task.score.direction": "up"},
    "auto or cpu or gpu or cuda or mps": {"trainer.accelerator": "abacus"},
    "auto or 32-true or bf16-mixed or 16-mixed or bf16-true or 16-true or 64-true": {
        "trainer.precision": "17"
    },
}


@pytest.mark.parametrize("allowed", BAD)
def test_a_value_that_a_key_does_not_take_is_a_sentence(allowed: str) -> None:
    for key, value in BAD[allowed].items():
        conf = config.SearchConfig()
        part, _, name = key.rpartition(".")
        setattr(attrgetter(part)(conf) if part else conf, name, value)
        with pytest.raises(SsrError) as refused:
            config.check(conf)
        assert str(refused.value) == f"{key} is {value}; it must be {allowed}."


def test_every_range_is_tried_by_a_bad_value() -> None:
    def ranged(schema: type[Any], above: str = "") -> set[str]:
        made, found = schema(), set()
        for name, allowed, _ in config._limits(schema):
            part = getattr(made, name)
            found |= {above + name} if allowed else set()
            found |= ranged(type(part), f"{above}{name}.") if is_dataclass(part) else set()
        return found

    tried = {key for keys in BAD.values() for key in keys}
    assert ranged(config.SearchConfig) == tried
    assert ranged(Config) < tried
    assert {f.name for f in fields(config.ExportConfig)} > ranged(config.ExportConfig)
