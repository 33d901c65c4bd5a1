"""Names of a user's own code in a configuration: looked up before anything is read or trained."""

from __future__ import annotations

from collections.abc import Iterator

from ssr_exp import user_code
from ssr_exp.config import Config, Source, TaskKind
from ssr_exp.rescaling.user_modules import PART


def check(conf: Config) -> None:
    """Import what a configuration names, so that a typo costs a second and no data are read.

    Raises:
        SsrError: if a name leads nowhere, its import fails, or it cannot be called.
    """
    for key, target in _names(conf):
        user_code.find(target, key)


def _names(conf: Config) -> Iterator[tuple[str, str]]:
    """List what is called, with the keys that name it."""
    if conf.task.target is not None:
        yield "task.target", conf.task.target
    if conf.task.example_inputs is not None:
        yield "task.example_inputs", conf.task.example_inputs
    yield from (("task.arguments", name) for name in user_code.targets(conf.task.arguments))
    if conf.task.name is TaskKind.loop:  # all else its study says, which may not be trusted yet
        return
    yield from (("task.trainer", name) for name in user_code.targets(conf.task.trainer))
    if conf.dataset.target is not None:
        yield "dataset.target", conf.dataset.target
        yield from (("dataset.arguments", one) for one in user_code.targets(conf.dataset.arguments))
    if conf.model.source is Source.module and conf.model.target is not None:
        yield "model.target", conf.model.target.partition(PART)[0]
        yield from (("model.arguments", one) for one in user_code.targets(conf.model.arguments))
