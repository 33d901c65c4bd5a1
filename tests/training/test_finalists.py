"""Finalists borrow what the search borrows; a sibling only what fits any network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from ssr_exp.config import Arm, Config, CostAxis, FinalistsConf, ModelConf, SearchConfig
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.cost import Cost
from ssr_exp.training import finalists, opened_study, run

Compose = Callable[..., Config]


def searched(conf: Config, *arms: Arm) -> SearchConfig:
    return SearchConfig(**vars(conf), finalists=FinalistsConf(arms=list(arms)))


def test_a_sibling_starts_from_fresh_weights_and_a_finalist_as_the_search_does() -> None:
    family = finalists.overrides(SearchConfig(), network=None, model="resnet14", seed=1)
    assert {"init=fresh", "init.kind=fresh", "model=resnet14"} <= set(family)
    finalist = finalists.overrides(SearchConfig(), network="d1-1-1_w4-4-4", model=None, seed=1)
    assert not any(word.startswith("init") for word in finalist)


def test_a_teacher_that_a_sibling_cannot_read_is_refused_before_the_search(
    conf: Compose, tmp_path: Path
) -> None:
    path = tmp_path / "teacher.pt"
    torch.save(opened_study.open(conf()).seed_network.state_dict(), path)
    taught = conf(f"checkpoint={path}", "recipe.distill=checkpoint")
    opened = opened_study.open(taught)
    finalists.check(searched(taught, Arm.random), opened)
    with pytest.raises(SsrError, match=r"finalists\.arms holds family.*only resnet8 can read"):
        finalists.check(searched(taught, Arm.family), opened)
    finalists.check(searched(conf(), Arm.family), opened)


def test_a_sibling_cannot_take_the_normalisation_of_another_networks_weights(conf: Compose) -> None:
    asked = conf("model=resnet18", "checkpoint=torchvision", "dataset.normalize=checkpoint")
    opened = opened_study.open(asked)
    finalists.check(searched(asked, Arm.random), opened)
    with pytest.raises(SsrError, match=r"type dataset\.normalize=imagenet, or leave family out"):
        finalists.check(searched(asked, Arm.family), opened)


def test_early_stopping_by_val_is_refused_before_the_search(conf: Compose) -> None:
    """Finalists learn from val: all rounds would be trained, and then each finalist failed."""

    def stopping(monitor: str, *words: str) -> Config:
        made = f"_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: {monitor}"
        return conf(f"+task.trainer.callbacks=[{{{made}}}]", "trainer.max_epochs=1", *words)

    asked = stopping("val/loss")
    opened = opened_study.open(asked)
    said = r"EarlyStopping of .* monitors val/loss, .* train/loss, .* finalists\.seeds=0"
    with pytest.raises(SsrError, match=said):
        finalists.check(searched(asked), opened)
    last = ("dataset.train_on_val=true", "trainer.test=true")
    with pytest.raises(SsrError, match=said):
        run.train(stopping("val/loss", *last))
    finalists.check(SearchConfig(**vars(asked), finalists=FinalistsConf(seeds=0)), opened)
    finalists.check(searched(stopping("train/loss")), opened)
    after_val = stopping("val/loss", "+task.trainer.check_val_every_n_epoch=2")
    finalists.check(searched(after_val), opened)  # nothing looks where nothing validates
    assert run.train(stopping("train/loss", *last)).test_score is not None


OWN = ("model=", "model.name=", "modifiers.kind=")  # the others are the sweeper's


@pytest.mark.parametrize(
    ("name", "sibling"),
    [("resnet34", "resnet18"), ("alexnet", None)],
)
def test_a_sibling_of_a_torchvision_network_is_built_as_the_command_line_says(
    conf: Compose, name: str, sibling: str | None
) -> None:
    composed: list[ModelConf] = []

    def compose(words: Sequence[str]) -> Config:
        one = conf(*(word for word in words if word.startswith(OWN)))
        composed.append(one.model)
        return one

    asked = conf("model=torchvision", f"model.name={name}").model
    found = finalists.sibling(asked, CostAxis.macs, Cost(1, 1, 1), compose)
    assert (found and found.model) == sibling
    assert [model.name for model in composed] == ([] if sibling is None else [sibling])
