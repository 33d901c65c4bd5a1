"""What a recipe makes: the optimizer, and the learning rate at each of its steps."""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ssr_exp import config
from ssr_exp.config import RecipeConf, Schedule


def lr_factor(step: int, *, total_steps: int, warmup_steps: int, recipe: RecipeConf) -> float:
    """Return what the learning rate is multiplied with at a step.

    It rises along a line to 1 at the last warm-up step, then follows `recipe.schedule`.

    Args:
        step: optimizer steps taken before, from 0.
        total_steps: of the whole training, warm-up included.
        warmup_steps: 0: none.
        recipe: `schedule`, and for `step` its `milestones` (shares of the whole training) and
            `gamma`.

    Example:
        >>> lr_factor(50, total_steps=100, warmup_steps=0, recipe=RecipeConf(schedule="cosine"))
        0.5
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    match recipe.schedule:
        case Schedule.constant:
            return 1.0
        case Schedule.step:
            passed = sum(step >= share * total_steps for share in recipe.milestones)
            return float(recipe.gamma**passed)
        case Schedule.cosine:
            return 0.5 * (1 + math.cos(math.pi * progress))
        case Schedule.linear:
            return 1 - progress


def optimizer(network: nn.Module, recipe: RecipeConf) -> Optimizer:
    """Build the optimizer; `decay_norm_and_bias=False` spares all one-dimensional parameters."""
    spared = [p for p in network.parameters() if p.ndim < 2 and not recipe.decay_norm_and_bias]
    ids = set(map(id, spared))
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if id(p) not in ids]},
        {"params": spared, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == config.Optimizer.adamw:
        return AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return SGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
    )
