"""A typo in a name of a user's own code is refused before anything is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ssr_exp.config import Config
from ssr_exp.datasets import in_memory
from ssr_exp.errors import SsrError
from ssr_exp.training import loop_study, opened_study, study_parts

OWN = "model.source=module model.name=Net model.target=torch.nn."
MODULE = "task=module task.score.key=x task.score.direction=max task.target="


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"{MODULE}not_there.Lit", "not_there"),
        (f"{MODULE}lightning.pytorch.LightningModul", "mend task.target="),
        (
            f"{MODULE}lightning.pytorch.LightningModule +task.arguments.x._target_=math.sqr",
            "mend task.arguments=math.sqr",
        ),
        (
            f"{MODULE}lightning.pytorch.LightningModule dataset=module dataset.target=math.sqr",
            "mend dataset.target=math.sqr",
        ),
        (f"{OWN}Lineer", "mend model.target=torch.nn.Lineer"),
    ],
)
def test_a_typo_in_a_name_is_refused_in_a_sentence_before_anything_is_read(
    conf: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("data were read")

    monkeypatch.setattr(in_memory, "load", read)
    study_parts._splits.cache_clear()
    with pytest.raises(SsrError) as refused:
        opened_study.open(conf(*words.split()))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_function_of_a_loop_is_looked_up_before_its_study_is_opened(
    conf: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = conf()
    asked.study, asked.task.target = "pets", "math.sqr"

    def reopened(_: object) -> None:
        raise LookupError("it was looked for")

    monkeypatch.setattr(loop_study, "reopen", reopened)
    with pytest.raises(SsrError, match=r"math has no 'sqr'.*sqrt.*: mend task.target=math.sqr"):
        opened_study.open(asked)
    asked.task.target = None
    with pytest.raises(LookupError):
        opened_study.open(asked)
